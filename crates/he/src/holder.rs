//! What a holder of key shares answers, and what it never answers: a machine without clock, disk or socket.
//!
//! Each step gives a record that must be on disk before its result leaves the node. A holder that forgot what it
//! answered could be asked for a second set of the same round, and the difference of two totals is a subtotal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use crate::codec::{CodecError, Reader};
use crate::mask::Round;
use crate::opening::{NodeId, OpeningDigest, VerifiedOpening};
use crate::sharing::{HolderIndex, KeyShare, SumShare};

/// What a task demands of the sets that are opened.
#[derive(Debug, Clone)]
pub struct Rules {
    /// This holder's place.
    pub holder: HolderIndex,
    /// The task's committees with all of their members.
    pub committees: BTreeMap<u32, BTreeSet<NodeId>>,
    /// Fewest committees in a set.
    pub min_committees: usize,
    /// Fewest reports in a set, each committee's counted once.
    pub min_reports: u64,
}

/// Why a holder refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is in no committee of the task.
    #[error("node {0} is in no committee of the task")]
    Stranger(NodeId),
    /// The share is somebody else's.
    #[error("the key share is for holder {found}, not for holder {expected}")]
    OtherHolder {
        /// This holder.
        expected: HolderIndex,
        /// The share's.
        found: HolderIndex,
    },
    /// The node sent another share before.
    #[error("node {0} has sent another key share for this round before")]
    ShareChanged(NodeId),
    /// The set names a node under a committee that it is not in.
    #[error("node {node} is not in committee {committee}")]
    WrongCommittee {
        /// The node.
        node: NodeId,
        /// The committee that the set names.
        committee: u32,
    },
    /// A committee is there in part. One of its members could take its own share off the total.
    #[error("committee {committee} is incomplete: node {missing} is not in the set")]
    IncompleteCommittee {
        /// The committee.
        committee: u32,
        /// A member that is not there.
        missing: NodeId,
    },
    /// The set hides nobody among enough others.
    #[error("the set covers {have} committees; below {need} it is never opened")]
    TooFewCommittees {
        /// In the set.
        have: usize,
        /// The task's least.
        need: usize,
    },
    /// The set covers too few reports.
    #[error("the set covers {have} reports; below {need} it is never opened")]
    TooFewReports {
        /// In the set.
        have: u128,
        /// The task's least.
        need: u64,
    },
    /// A node of the set never sent its share.
    #[error("the key share of node {0} is missing")]
    MissingShare(NodeId),
    /// Another set of the round was answered.
    #[error(
        "set {answered} of this round was opened; set {asked} is another one and never will be"
    )]
    OtherSet {
        /// The set that was answered.
        answered: OpeningDigest,
        /// The set that is refused.
        asked: OpeningDigest,
    },
    /// The round is over.
    #[error("the round is closed: its key shares are deleted")]
    Closed,
}

/// What a holder knows of a round.
enum State {
    /// Shares by the node whose key it is.
    Collecting(BTreeMap<NodeId, KeyShare>),
    /// The shares are deleted; the same set gets the same answer.
    Answered(SumShare),
    /// Over: nothing is kept but that.
    Closed,
}

/// A holder's memory over all rounds.
#[derive(Default)]
pub struct Holder {
    rounds: BTreeMap<Round, State>,
}

/// Where a record belongs on disk: one for each share that is collected, and one for the round once it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The round.
    pub round: Round,
    /// Of a share: the node whose key it is. Of the decision: nothing.
    pub dealer: Option<NodeId>,
}

/// A decision. Put [`Step::record`] into its [`Step::slot`] on disk; if it is [`Step::last`], delete all other
/// slots of the round, in the same transaction or after it. Then take the result.
///
/// Dropping it instead, as after a failed write, loses the result only: the holder keeps to its decision.
#[must_use = "the record must be on disk before the result leaves the node"]
pub struct Step<T> {
    slot: Slot,
    record: Zeroizing<Vec<u8>>,
    result: T,
}

impl<T> Step<T> {
    /// Where the record belongs. What was there before is overwritten.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The record. That of a share is secret.
    pub fn record(&self) -> &[u8] {
        &self.record
    }

    /// Whether the round is decided: its shares are used up and must be deleted from disk.
    pub fn last(&self) -> bool {
        self.slot.dealer.is_none()
    }

    /// The result, once the record is on disk.
    pub fn written(self) -> T {
        self.result
    }
}

impl Holder {
    /// A holder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the records on disk make of a holder, in any order. Shares beside the decision of their round,
    /// which a crash between writing and deleting leaves there, are ignored: the decision counts.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if a record is none, or two belong into one slot. Never go on without it: the holder
    /// would answer twice.
    pub fn restore<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CodecError> {
        let mut rounds = BTreeMap::new();
        let mut collected: BTreeMap<Round, BTreeMap<NodeId, KeyShare>> = BTreeMap::new();
        for bytes in records {
            let (round, record) = read(bytes)?;
            let twice = match record {
                Record::Share(dealer, share) => {
                    let shares = collected.entry(round).or_default();
                    shares.insert(dealer, share).is_some()
                }
                Record::Answer(answer) => rounds.insert(round, State::Answered(answer)).is_some(),
                Record::Closed => rounds.insert(round, State::Closed).is_some(),
            };
            if twice {
                return Err(CodecError::Form { what: RECORD });
            }
        }
        for (round, shares) in collected {
            rounds.entry(round).or_insert(State::Collecting(shares));
        }
        Ok(Self { rounds })
    }

    /// Keep a share of `dealer`'s key. The result is to be acknowledged to the dealer; the same share again is fine.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the dealer is in no committee, the share is another holder's or another than before, or
    /// the round was answered or closed.
    pub fn keep(
        &mut self,
        rules: &Rules,
        round: Round,
        dealer: NodeId,
        share: KeyShare,
    ) -> Result<Step<()>, Refusal> {
        if !rules.committees.values().any(|c| c.contains(&dealer)) {
            return Err(Refusal::Stranger(dealer));
        }
        if share.holder != rules.holder {
            return Err(Refusal::OtherHolder {
                expected: rules.holder,
                found: share.holder,
            });
        }
        let collecting = || State::Collecting(BTreeMap::new());
        let state = self.rounds.entry(round).or_insert_with(collecting);
        let State::Collecting(shares) = state else {
            return Err(Refusal::Closed);
        };
        if shares.get(&dealer).is_some_and(|before| *before != share) {
            return Err(Refusal::ShareChanged(dealer));
        }
        let step = Step {
            slot: Slot {
                round,
                dealer: Some(dealer),
            },
            record: share_record(round, dealer, &share),
            result: (),
        };
        shares.insert(dealer, share);
        Ok(step)
    }

    /// Answer an opening with the sum of the shares of its nodes' keys, and delete all shares of the round. The same
    /// set again gets the same answer.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the set is another than the one that was answered, breaks a rule of the task, or has a
    /// node whose share is missing. The shares stay for a set that keeps the rules.
    pub fn answer(
        &mut self,
        rules: &Rules,
        opening: &VerifiedOpening,
    ) -> Result<Step<SumShare>, Refusal> {
        let (round, asked) = (opening.round(), opening.digest());
        let answer = match self.rounds.get(&round) {
            Some(State::Closed) => return Err(Refusal::Closed),
            Some(State::Answered(before)) if before.opening == asked => before.clone(),
            Some(State::Answered(before)) => {
                return Err(Refusal::OtherSet {
                    answered: before.opening,
                    asked,
                });
            }
            Some(State::Collecting(shares)) => {
                permitted(rules, opening)?;
                sum(rules, opening, shares)?
            }
            None => {
                permitted(rules, opening)?;
                sum(rules, opening, &BTreeMap::new())?
            }
        };
        self.rounds.insert(round, State::Answered(answer.clone()));
        Ok(Step {
            slot: Slot {
                round,
                dealer: None,
            },
            record: decision_record(round, 1, &answer.to_bytes()),
            result: answer,
        })
    }

    /// End a round: opened and over, or void. Its shares and its answer are deleted and it is never answered again.
    pub fn close(&mut self, round: Round) -> Step<()> {
        self.rounds.insert(round, State::Closed);
        Step {
            slot: Slot {
                round,
                dealer: None,
            },
            record: decision_record(round, 2, &[]),
            result: (),
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Holder({} rounds, shares redacted)", self.rounds.len())
    }
}

/// The sum of the shares of the set's keys.
fn sum(
    rules: &Rules,
    opening: &VerifiedOpening,
    shares: &BTreeMap<NodeId, KeyShare>,
) -> Result<SumShare, Refusal> {
    let of_set = opening
        .members()
        .iter()
        .map(|m| shares.get(&m.node).ok_or(Refusal::MissingShare(m.node)))
        .collect::<Result<Vec<_>, _>>()?;
    let shares = of_set.into_iter();
    Ok(SumShare::of(opening.digest(), rules.holder, shares))
}

/// Whether the set keeps the task's rules.
fn permitted(rules: &Rules, opening: &VerifiedOpening) -> Result<(), Refusal> {
    let mut reports = BTreeMap::new();
    for member in opening.members() {
        let node = member.node;
        match rules.committees.get(&member.committee) {
            Some(nodes) if nodes.contains(&node) => {
                reports.insert(member.committee, member.reports);
            }
            _ if rules.committees.values().any(|c| c.contains(&node)) => {
                let committee = member.committee;
                return Err(Refusal::WrongCommittee { node, committee });
            }
            _ => return Err(Refusal::Stranger(node)),
        }
    }
    for committee in reports.keys() {
        let all = rules.committees.get(committee).into_iter().flatten();
        let there = |node: &NodeId| opening.members().iter().any(|m| m.node == *node);
        for node in all {
            if !there(node) {
                return Err(Refusal::IncompleteCommittee {
                    committee: *committee,
                    missing: *node,
                });
            }
        }
    }
    if reports.len() < rules.min_committees {
        return Err(Refusal::TooFewCommittees {
            have: reports.len(),
            need: rules.min_committees,
        });
    }
    let have: u128 = reports.values().copied().map(u128::from).sum();
    if have < u128::from(rules.min_reports) {
        return Err(Refusal::TooFewReports {
            have,
            need: rules.min_reports,
        });
    }
    Ok(())
}

const RECORD: &str = "a holder's record";
const LABEL: &[u8] = b"defim he v1 holder\0";

/// What a record holds.
enum Record {
    Share(NodeId, KeyShare),
    Answer(SumShare),
    Closed,
}

/// Label, round, 0, dealer, share.
fn share_record(round: Round, dealer: NodeId, share: &KeyShare) -> Zeroizing<Vec<u8>> {
    // All of it at once: growing would leave copies of the share behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LABEL.len() + 73 + KeyShare::BYTES));
    bytes.extend_from_slice(LABEL);
    bytes.extend_from_slice(&round.to_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&dealer.0);
    bytes.extend_from_slice(&share.to_bytes());
    bytes
}

/// Label, round, 1 and the answer or 2 and nothing.
fn decision_record(round: Round, kind: u8, answer: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([LABEL, &round.to_bytes(), &[kind], answer].concat())
}

fn read(bytes: &[u8]) -> Result<(Round, Record), CodecError> {
    let mut reader = Reader::new(RECORD, bytes);
    reader.label(LABEL)?;
    let round = Round::read(&mut reader)?;
    let record = match reader.u8()? {
        0 => {
            let dealer = NodeId(reader.array()?);
            let share = KeyShare::from_bytes(reader.bytes(KeyShare::BYTES)?)?;
            Record::Share(dealer, share)
        }
        1 => Record::Answer(SumShare::from_bytes(reader.bytes(SumShare::BYTES)?)?),
        2 => Record::Closed,
        _ => return Err(reader.form()),
    };
    reader.end()?;
    Ok((round, record))
}
