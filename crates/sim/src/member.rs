//! A full node: its machines, and a store in memory with the rules of the one on disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use defim_full::{
    AggregateBuilder, LastEncrypted, ReleaseError, Secrets, accept_upload,
    helper::{self, Agreement, Collected, Difference, NotBegun, Prepared, Proposed},
    holder,
    leader::{self, Counts, Leader, PREPARE_BYTES, PREPARE_REPORTS, Proposal},
    sum::{Before, EncryptedOnce, StoredSum, encrypt},
};
use defim_protocol::{
    Committee, CommitteeIndex, Context, Digest, Millis, NodeId, Reason, ReportId, RoundNumber,
    SignedText, VerifiedManifest, VerifiedRound,
    batch::{BatchSummary, SignedBatch},
    sum::VerifiedSelection,
    wire::{
        ClosedBatch, CollectAnswer, FinishRequest, PrepareAnswer, PrepareInit, PrepareRequest,
        Progress, Request, Response, SelectedBatches, Submission,
    },
};

use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::SimError;

/// What a node holds of one committee's open round.
#[derive(Debug, Default)]
struct Shelf {
    /// Stored, not yet prepared.
    pending: BTreeMap<ReportId, Vec<u8>>,
    /// Begun and not finished reports of three shares: what is kept of each, and what was answered.
    begun: BTreeMap<ReportId, (Vec<u8>, Vec<u8>)>,
    /// Shares that all members verified, as far as this one knows.
    verified: BTreeMap<ReportId, Vec<u8>>,
    /// Refused, by reason.
    rejected: BTreeMap<u16, u64>,
    /// What the leader has proposed.
    proposal: Option<Proposal>,
    /// What was said as a helper at the end of each report, which must not change.
    answers: BTreeMap<ReportId, PrepareAnswer>,
    /// How the round ended: the members' signatures, or none.
    closed: Option<Vec<SignedText>>,
    /// This node's share of the sum of the batch.
    sum: Option<StoredSum>,
}

impl Shelf {
    fn reject(&mut self, reason: Reason) {
        *self.rejected.entry(reason.code()).or_default() += 1;
    }

    fn disown(&mut self, ids: &[ReportId]) {
        for id in ids {
            if self.verified.remove(id).is_some() {
                self.reject(Reason::MemberDisagrees);
            }
        }
    }

    fn state(&self) -> leader::Input {
        leader::Input::State {
            counts: Counts {
                pending: self.pending.len() as u64,
                verified: self.verified.len() as u64,
                rejected: self.rejected.clone(),
            },
            proposal: self.proposal.clone(),
        }
    }

    /// Add the shares of an agreed batch and keep the sum.
    fn release(
        &mut self,
        task: &VerifiedManifest,
        round: &VerifiedRound,
        batch: impl Into<SignedBatch>,
        ids: &[ReportId],
    ) -> Result<(), ReleaseError> {
        let mut builder = AggregateBuilder::new(task, round)?;
        for id in ids {
            builder.add(
                *id,
                self.verified.get(id).map(Vec::as_slice).unwrap_or_default(),
            )?;
        }
        let released = builder.release(batch)?;
        self.sum = Some(StoredSum {
            batch: released.batch().digest(),
            share: released.to_bytes()?,
        });
        self.closed = Some(released.batch().signatures().to_vec());
        Ok(())
    }
}

/// A full node.
pub struct Node {
    /// Its keys.
    pub secrets: Arc<Secrets>,
    /// Whether it answers.
    pub up: bool,
    /// Light nodes that are enrolled for the task, as far as it knows the ledger.
    pub enrolled: BTreeSet<NodeId>,
    task: VerifiedManifest,
    /// Digest of every report ever taken.
    seen: BTreeMap<ReportId, Digest>,
    verify_keys: BTreeMap<CommitteeIndex, [u8; defim_protocol::vdaf::VERIFY_KEY_BYTES]>,
    shelves: BTreeMap<CommitteeIndex, Shelf>,
    machines: BTreeMap<CommitteeIndex, Leader>,
    closing: bool,
    /// What it has opened, by round.
    answered: BTreeMap<RoundNumber, Vec<u8>>,
    /// What it encrypted last in the open round, and its record.
    encrypted: Option<(Vec<u8>, Submission)>,
    /// How many selections it has encrypted, in all rounds.
    spent: u64,
    /// What it encrypts with.
    pub random: ChaCha20Rng,
}

/// What a leader's machine wants of others.
pub enum Errand {
    /// Ask each helper its question; the answers go back into the machine.
    Ask(Committee, Vec<Request>),
    /// Tell the coordinator.
    Tell(Progress),
}

impl Node {
    pub fn new(task: VerifiedManifest, secrets: Arc<Secrets>) -> Self {
        Self {
            random: ChaCha20Rng::from_rng(&mut rand::rng()),
            secrets,
            up: true,
            enrolled: BTreeSet::new(),
            task,
            seen: BTreeMap::new(),
            verify_keys: BTreeMap::new(),
            shelves: BTreeMap::new(),
            machines: BTreeMap::new(),
            closing: false,
            answered: BTreeMap::new(),
            encrypted: None,
            spent: 0,
        }
    }

    /// A new round: nothing of the last one stays but the replay cache and what was opened.
    pub fn open(&mut self, round: &VerifiedRound) -> Result<(), SimError> {
        self.shelves.clear();
        self.machines.clear();
        self.closing = false;
        self.encrypted = None;
        for committee in self.task.committees() {
            if committee.leader().node == self.secrets.node.id() {
                let (index, secrets) = (committee.index(), self.secrets.clone());
                let machine = Leader::new(committee, round.clone(), secrets)?;
                self.machines.insert(index, machine);
            }
        }
        Ok(())
    }

    /// Take an upload, as over any path.
    pub fn upload(
        &mut self,
        round: &VerifiedRound,
        now: Millis,
        bytes: Vec<u8>,
    ) -> Result<(), Reason> {
        let report = accept_upload(&self.task, round, &self.secrets, &self.enrolled, now, bytes)?;
        if let Some(first) = self.seen.get(&report.id) {
            return match *first == report.digest {
                true => Ok(()),
                false => Err(Reason::Replayed),
            };
        }
        self.seen.insert(report.id, report.digest);
        let shelf = self.shelves.entry(report.committee).or_default();
        shelf.pending.insert(report.id, report.bytes);
        Ok(())
    }

    /// Whether reports wait to be prepared.
    pub fn busy(&self) -> bool {
        self.shelves.values().any(|shelf| !shelf.pending.is_empty())
    }

    /// The committees that this node still leads.
    pub fn leading(&self) -> Vec<CommitteeIndex> {
        self.machines.keys().copied().collect()
    }

    /// Begin to run a machine: its inputs.
    pub fn begin(&mut self, index: CommitteeIndex) -> VecDeque<leader::Input> {
        let shelf = self.shelves.entry(index).or_default();
        let mut inputs = VecDeque::from([shelf.state(), leader::Input::Tick]);
        if self.closing {
            inputs.push_front(leader::Input::Close);
        }
        inputs
    }

    /// Feed a machine.
    pub fn handle(&mut self, index: CommitteeIndex, now: Millis, input: leader::Input) {
        if let Some(machine) = self.machines.get_mut(&index) {
            machine.handle(now, input);
        }
    }

    /// The machine's next output.
    pub fn poll(&mut self, index: CommitteeIndex) -> Option<leader::Output> {
        self.machines.get_mut(&index)?.poll()
    }

    /// Forget a machine that is done.
    pub fn end(&mut self, index: CommitteeIndex) {
        if self.machines.get(&index).is_some_and(Leader::is_done) {
            self.machines.remove(&index);
        }
    }

    /// Carry out what a machine says: its next input, or what others must do for it.
    pub fn perform(
        &mut self,
        index: CommitteeIndex,
        round: &VerifiedRound,
        now: Millis,
        output: leader::Output,
    ) -> Result<(Option<leader::Input>, Option<Errand>), SimError> {
        use leader::{Input as I, Output as O};
        let shelf = self.shelves.entry(index).or_default();
        let next = match output {
            O::LoadState => Some(shelf.state()),
            O::LoadPending { reports, bytes } => {
                debug_assert!(reports <= PREPARE_REPORTS && bytes <= PREPARE_BYTES);
                let some = shelf.pending.iter().take(reports);
                Some(I::Pending(
                    some.map(|(id, bytes)| (*id, bytes.clone())).collect(),
                ))
            }
            O::Ask(questions) => {
                let committee = self.task.committee(index);
                let errand = committee.map(|c| Errand::Ask(c, questions));
                return Ok((None, errand));
            }
            O::Record(outcomes) => {
                for (id, outcome) in outcomes {
                    shelf.pending.remove(&id);
                    match outcome {
                        leader::Outcome::Verified(share) => {
                            shelf.verified.insert(id, share);
                        }
                        leader::Outcome::Rejected(reason) => shelf.reject(reason),
                    }
                }
                Some(shelf.state())
            }
            O::Disown(ids) => {
                shelf.disown(&ids);
                Some(shelf.state())
            }
            O::LoadVerified => Some(I::Verified(shelf.verified.keys().copied().collect())),
            O::Propose(proposal) => {
                shelf.proposal = Some(proposal);
                None
            }
            O::Release { batch, ids } => {
                shelf.release(&self.task, round, batch, &ids)?;
                Some(I::Released)
            }
            O::Without(_) => {
                shelf.closed = Some(Vec::new());
                None
            }
            O::Phase(phase, counts) => {
                let progress = Progress {
                    task: self.task.task(),
                    round: round.round,
                    committee: index,
                    phase,
                    pending: counts.pending,
                    verified: counts.verified,
                    rejected: counts.rejected.into_iter().collect(),
                    at_ms: now,
                };
                return Ok((None, Some(Errand::Tell(progress))));
            }
        };
        Ok((next, None))
    }

    /// Answer another server.
    pub fn answer(
        &mut self,
        round: &VerifiedRound,
        request: Request,
    ) -> Result<Response, SimError> {
        Ok(match request {
            Request::Prepare(request) => self.prepare(round, &request),
            Request::Collect(request) => self.collect(round, &request),
            Request::Finish(request) => self.finish(&request),
            Request::Check {
                summary,
                ids,
                refused,
            } => self.close(round, summary, &ids, &refused, false)?,
            Request::Close {
                summary,
                ids,
                refused,
            } => self.close(round, summary, &ids, &refused, true)?,
            Request::CloseRound { .. } => {
                self.closing = true;
                let own = self.secrets.node.id();
                let led = self.task.committees().filter(|c| c.leader().node == own);
                let closed = led.filter_map(|committee| {
                    let shelf = self.shelves.get(&committee.index())?;
                    let signatures = shelf.closed.clone()?;
                    // With a batch, what is verified here is what was agreed on.
                    let ids = match signatures.is_empty() {
                        true => Vec::new(),
                        false => shelf.verified.keys().copied().collect(),
                    };
                    Some(ClosedBatch {
                        committee: committee.index(),
                        signatures,
                        rejected: shelf.rejected.clone().into_iter().collect(),
                        ids,
                    })
                });
                Response::Closed(closed.collect())
            }
            Request::Encrypt(selected) => self.encrypt(round, selected),
            Request::OpenSum(question) => {
                let before = self.before(round);
                let answer =
                    holder::answer(&self.task, round.round, &self.secrets, before, &question);
                match answer {
                    Ok(answer) => {
                        self.answered.insert(round.round, answer.record);
                        Response::SumShare(answer.share)
                    }
                    Err(error) => Response::Refused(error.to_string()),
                }
            }
            _ => Response::Refused("a full node does not answer that".into()),
        })
    }

    fn before(&self, round: &VerifiedRound) -> Before<'_> {
        Before {
            encrypted: self.encrypted.as_ref().map(|(record, _)| record.as_slice()),
            opened: self.answered.get(&round.round).map(Vec::as_slice),
            spent: self.spent,
        }
    }

    fn encrypt(&mut self, round: &VerifiedRound, selected: SelectedBatches) -> Response {
        let SelectedBatches {
            selection,
            signatures,
            ..
        } = selected;
        let selection = VerifiedSelection::verify(&self.task, round.round, selection, signatures);
        let sums = self.shelves.iter();
        let sums = sums
            .filter_map(|(index, shelf)| Some((*index, shelf.sum.clone()?)))
            .collect();
        let selection = match selection {
            Ok(selection) => selection,
            Err(error) => return Response::Refused(error.to_string()),
        };
        if let Some((record, again)) = &self.encrypted
            && LastEncrypted::is_of(record, &selection)
        {
            return Response::Encrypted(Box::new(again.clone()));
        }
        let mut random = self.random.clone();
        let (secrets, before) = (&self.secrets, self.before(round));
        let encrypted = encrypt(&self.task, &selection, secrets, &sums, before, &mut random);
        // No key is ever drawn twice.
        self.random = random;
        match encrypted {
            Ok(EncryptedOnce { record, submission }) => {
                self.encrypted = Some((record, submission.clone()));
                self.spent += 1;
                Response::Encrypted(Box::new(submission))
            }
            Err(error) => Response::Refused(error.to_string()),
        }
    }

    fn preparing(
        &mut self,
        round: &VerifiedRound,
        request: &PrepareRequest,
    ) -> Result<Committee, Response> {
        if request.round != round.round {
            let why = format!("round {} is not open here", request.round);
            return Err(Response::Later(why));
        }
        let pinned = self.verify_keys.entry(request.committee);
        if *pinned.or_insert(request.verify_key) != request.verify_key {
            let why = "the committee's verification key was changed";
            return Err(Response::Refused(why.into()));
        }
        let committee = self.task.committee(request.committee);
        committee.ok_or_else(|| Response::Refused("there is no such committee".into()))
    }

    fn prepare(&mut self, round: &VerifiedRound, request: &PrepareRequest) -> Response {
        let committee = match self.preparing(round, request) {
            Ok(committee) => committee,
            Err(response) => return response,
        };
        let answers = request.reports.iter();
        Response::Prepared(
            answers
                .map(|init| self.prepare_one(round, &committee, request, init))
                .collect(),
        )
    }

    fn collect(&mut self, round: &VerifiedRound, request: &PrepareRequest) -> Response {
        let committee = match self.preparing(round, request) {
            Ok(committee) => committee,
            Err(response) => return response,
        };
        let mut answers = Vec::new();
        for init in &request.reports {
            let shelf = self.shelves.entry(committee.index()).or_default();
            let digest = Digest::of(&[init.public_share.as_slice(), &init.sealed].concat());
            let first = self.seen.get(&init.id).copied().unwrap_or(digest);
            let before = shelf.answers.get(&init.id);
            let answer = match (before, shelf.begun.get(&init.id)) {
                _ if first != digest => CollectAnswer::Rejected(Reason::Replayed),
                (Some(PrepareAnswer::Rejected(reason)), _) => CollectAnswer::Rejected(*reason),
                (_, Some((_, share))) => CollectAnswer::Share(share.clone()),
                (Some(PrepareAnswer::Verified(_)), None) => {
                    CollectAnswer::Rejected(Reason::Replayed)
                }
                (None, None) => {
                    let (secrets, known) = (&self.secrets, &self.enrolled);
                    let key = &request.verify_key;
                    match helper::collect(&committee, round, secrets, known, key, init) {
                        Ok(Collected { state, share }) => {
                            self.seen.insert(init.id, digest);
                            shelf.begun.insert(init.id, (state, share.clone()));
                            CollectAnswer::Share(share)
                        }
                        Err(NotBegun { reason, is_outcome }) => {
                            if is_outcome {
                                self.seen.insert(init.id, digest);
                                let end = PrepareAnswer::Rejected(reason);
                                shelf.answers.insert(init.id, end);
                            }
                            CollectAnswer::Rejected(reason)
                        }
                    }
                }
            };
            answers.push(answer);
        }
        Response::Collected(answers)
    }

    fn finish(&mut self, request: &FinishRequest) -> Response {
        let Some(committee) = self.task.committee(request.committee) else {
            return Response::Refused("there is no such committee".into());
        };
        let shelf = self.shelves.entry(committee.index()).or_default();
        let mut answers = Vec::new();
        for (id, with) in &request.reports {
            if let Some(before) = shelf.answers.get(id) {
                answers.push(before.clone());
                continue;
            }
            let Some((state, _)) = shelf.begun.get(id) else {
                answers.push(PrepareAnswer::Rejected(Reason::MemberDisagrees));
                continue;
            };
            let share = helper::finish(&committee, *id, state, with);
            let answer = match share.and_then(|share| share.to_bytes()) {
                Ok(share) => {
                    shelf.verified.insert(*id, share);
                    PrepareAnswer::Verified(Vec::new())
                }
                Err(reason) => PrepareAnswer::Rejected(reason),
            };
            shelf.answers.insert(*id, answer.clone());
            answers.push(answer);
        }
        Response::Prepared(answers)
    }

    fn prepare_one(
        &mut self,
        round: &VerifiedRound,
        committee: &Committee,
        request: &PrepareRequest,
        init: &PrepareInit,
    ) -> PrepareAnswer {
        let digest = Digest::of(&[init.public_share.as_slice(), &init.sealed].concat());
        let shelf = self.shelves.entry(committee.index()).or_default();
        match self.seen.get(&init.id) {
            Some(first) if *first != digest => return PrepareAnswer::Rejected(Reason::Replayed),
            Some(_) => {
                let before = shelf.answers.get(&init.id).cloned();
                return before.unwrap_or(PrepareAnswer::Rejected(Reason::Replayed));
            }
            None => {}
        }
        let (secrets, known) = (&self.secrets, &self.enrolled);
        let prepared = helper::prepare(committee, round, secrets, known, &request.verify_key, init);
        let Prepared {
            answer,
            share,
            is_outcome,
        } = prepared;
        if !is_outcome {
            return answer;
        }
        self.seen.insert(init.id, digest);
        if let Some(bytes) = share.and_then(|share| share.to_bytes().ok()) {
            shelf.verified.insert(init.id, bytes);
        }
        shelf.answers.insert(init.id, answer.clone());
        answer
    }

    /// Sign the batch and keep this member's sum, or only say whether it would.
    fn close(
        &mut self,
        round: &VerifiedRound,
        summary: SignedText,
        ids: &[ReportId],
        refused: &[ReportId],
        sign: bool,
    ) -> Result<Response, SimError> {
        let index = BatchSummary::read(&summary.payload).map(|s| s.committee);
        let Some(committee) = index.ok().and_then(|index| self.task.committee(index)) else {
            return Ok(Response::Refused("there is no such committee".into()));
        };
        let shelf = self.shelves.entry(committee.index()).or_default();
        if let Some(sum) = &shelf.sum {
            let text = summary.payload;
            return Ok(match (sum.batch == Digest::of(text.as_bytes()), sign) {
                (true, true) => {
                    let key = &self.secrets.node;
                    Response::Agreed(SignedText::sign(Context::Batch, text, key))
                }
                (true, false) => Response::WouldAgree,
                (false, _) => Response::Refused("another batch is already signed".into()),
            });
        }
        let verified: Vec<_> = shelf.verified.keys().copied().collect();
        let proposed = Proposed {
            summary,
            ids,
            refused,
        };
        if !sign {
            return Ok(
                match helper::compare(&committee, round, &proposed, &verified) {
                    Ok(None) => Response::WouldAgree,
                    Ok(Some(Difference { missing, unknown })) => {
                        Response::Differs { missing, unknown }
                    }
                    Err(error) => Response::Refused(error.to_string()),
                },
            );
        }
        Ok(
            match helper::agree(&committee, round, &self.secrets, proposed, &verified) {
                Ok(Agreement::Agreed(batch, signature)) => {
                    shelf.disown(refused);
                    shelf.release(&self.task, round, *batch, ids)?;
                    Response::Agreed(signature)
                }
                Ok(Agreement::Differs(Difference { missing, unknown })) => {
                    Response::Differs { missing, unknown }
                }
                Err(error) => Response::Refused(error.to_string()),
            },
        )
    }
}
