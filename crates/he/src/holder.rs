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

/// A decision. Put [`Step::record`] on disk in the place of the round's record before, then take the result.
///
/// Dropping it instead, as after a failed write, loses the result only: the holder keeps to its decision.
#[must_use = "the record must be on disk before the result leaves the node"]
pub struct Step<T> {
    round: Round,
    record: Zeroizing<Vec<u8>>,
    result: T,
}

impl<T> Step<T> {
    /// The round whose record this is: the key on disk.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The round's record. It replaces the one before, and with it shares that are used up. Secret while shares are
    /// collected.
    pub fn record(&self) -> &[u8] {
        &self.record
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

    /// What the records on disk, one a round, make of a holder.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if a record is none, or two are of one round. Never go on without it: the holder would answer twice.
    pub fn restore<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CodecError> {
        let mut rounds = BTreeMap::new();
        for bytes in records {
            let (round, state) = read(bytes)?;
            if rounds.insert(round, state).is_some() {
                return Err(CodecError::Form { what: RECORD });
            }
        }
        Ok(Self { rounds })
    }

    /// Keep a share of `dealer`'s key. The result is to be acknowledged to the dealer; the same share again is fine.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the dealer is in no committee, the share is another holder's or another than before, or the round
    /// was answered or closed.
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
        let state = self
            .rounds
            .entry(round)
            .or_insert_with(|| State::Collecting(BTreeMap::new()));
        let State::Collecting(shares) = state else {
            return Err(Refusal::Closed);
        };
        match shares.get(&dealer) {
            Some(before) if *before != share => return Err(Refusal::ShareChanged(dealer)),
            Some(_) => {}
            None => {
                shares.insert(dealer, share);
            }
        }
        Ok(Step {
            round,
            record: write(round, state),
            result: (),
        })
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
        let state = State::Answered(answer.clone());
        let record = write(round, &state);
        self.rounds.insert(round, state);
        Ok(Step {
            round,
            record,
            result: answer,
        })
    }

    /// End a round: opened and over, or void. Its shares and its answer are deleted and it is never answered again.
    pub fn close(&mut self, round: Round) -> Step<()> {
        self.rounds.insert(round, State::Closed);
        Step {
            round,
            record: write(round, &State::Closed),
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

/// Label, round, kind (0 collecting, 1 answered, 2 closed), and what there is of it.
fn write(round: Round, state: &State) -> Zeroizing<Vec<u8>> {
    let room = match state {
        State::Collecting(shares) => 1 + shares.len() * (32 + KeyShare::BYTES),
        State::Answered(_) => SumShare::BYTES,
        State::Closed => 0,
    };
    // All of it at once: growing would leave copies of shares behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LABEL.len() + 41 + room));
    bytes.extend_from_slice(LABEL);
    bytes.extend_from_slice(&round.to_bytes());
    match state {
        State::Collecting(shares) => {
            bytes.push(0);
            for (dealer, share) in shares {
                bytes.extend_from_slice(&dealer.0);
                bytes.extend_from_slice(&share.to_bytes());
            }
        }
        State::Answered(answer) => {
            bytes.push(1);
            bytes.extend_from_slice(&answer.to_bytes());
        }
        State::Closed => bytes.push(2),
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<(Round, State), CodecError> {
    let mut reader = Reader::new(RECORD, bytes);
    reader.label(LABEL)?;
    let round = Round::read(&mut reader)?;
    let state = match reader.u8()? {
        0 => {
            let mut shares = BTreeMap::new();
            while !reader.is_empty() {
                let dealer = NodeId(reader.array()?);
                let share = KeyShare::from_bytes(reader.bytes(KeyShare::BYTES)?)?;
                if shares
                    .last_key_value()
                    .is_some_and(|(last, _)| *last >= dealer)
                {
                    return Err(reader.form());
                }
                shares.insert(dealer, share);
            }
            State::Collecting(shares)
        }
        1 => State::Answered(SumShare::from_bytes(reader.bytes(SumShare::BYTES)?)?),
        2 => State::Closed,
        _ => return Err(reader.form()),
    };
    reader.end()?;
    Ok((round, state))
}
