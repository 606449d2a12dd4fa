//! The leader's machine for one round of one committee: what to load, ask, store and sign next.
//!
//! Feed it one [`Input`], then drain [`Leader::poll`] until it gives nothing. Outputs are carried out
//! in order, each to its end, before the next input; what an output must outlive is stored first.
//! After a crash a new machine starts from [`Output::LoadState`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use defim_protocol::{
    Committee, Millis, Reason, ReportId, RoundPhase, SignedText, VerifiedRound,
    batch::{AgreedBatch, BatchSummary},
    report::Report,
    seal::Seat,
    wire::{PrepareAnswer, PrepareInit, PrepareRequest, Request, Response},
};
use prio::codec::{Decode as _, Encode as _};

use crate::{LeaderPending, OpenedShare, Secrets, helper::is_ours};

/// Most reports in one message to the helper.
pub const PREPARE_REPORTS: usize = 64;
/// Most report bytes in one message to the helper.
pub const PREPARE_BYTES: usize = 32 * 1024 * 1024;
const RETRY_MS: Millis = 1_000;
/// How often a batch is put together anew after the helper named what differs.
const AGREE_ATTEMPTS: u32 = 3;
/// Longest reason of another node that is shown, in characters.
const REASON_CHARS: usize = 200;

/// What the store holds of the round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored, not yet prepared.
    pub pending: u64,
    /// Verified by both members.
    pub verified: u64,
    /// Refused, by reason code.
    pub rejected: BTreeMap<u16, u64>,
}

/// A batch that was proposed to the helper and stored before it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// This node's signed summary.
    pub summary: SignedText,
    /// The reports, ascending.
    pub ids: Vec<ReportId>,
    /// Reports that the helper verified and this node refused, ascending.
    pub refused: Vec<ReportId>,
}

/// One report's outcome at this node.
#[derive(Debug)]
pub enum Outcome {
    /// Verified; the share is this node's own.
    Verified(Vec<u8>),
    /// Refused.
    Rejected(Reason),
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed, or a report was stored.
    Tick,
    /// What the store holds, after [`Output::LoadState`] and [`Output::Record`].
    State {
        /// The counts.
        counts: Counts,
        /// A stored proposal.
        proposal: Option<Proposal>,
    },
    /// Reports to prepare, after [`Output::LoadPending`].
    Pending(Vec<(ReportId, Vec<u8>)>),
    /// The helper's answer to the last [`Output::Ask`]; `None` if it cannot be reached.
    Answer(Option<Response>),
    /// The verified reports, ascending, after [`Output::LoadVerified`].
    Verified(Vec<ReportId>),
    /// The batch is stored, after [`Output::Release`].
    Released,
    /// The aggregation node closes the round: what is here is prepared, and no more is taken.
    Close,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Read the counts and any proposal.
    LoadState,
    /// Read up to this many pending reports.
    LoadPending {
        /// Most reports.
        reports: usize,
        /// Most bytes, but at least one report.
        bytes: usize,
    },
    /// Ask the helper.
    Ask(Request),
    /// Store outcomes, then answer with [`Input::State`].
    Record(Vec<(ReportId, Outcome)>),
    /// Refuse these verified reports with [`Reason::MemberDisagrees`], then answer with
    /// [`Input::State`]; there may be none.
    Disown(Vec<ReportId>),
    /// Read the ids of all verified reports.
    LoadVerified,
    /// Store the proposal durably.
    Propose(Proposal),
    /// Add the shares of these reports, store the batch, deliver it.
    Release {
        /// What was agreed.
        batch: AgreedBatch,
        /// The reports, ascending.
        ids: Vec<ReportId>,
    },
    /// The committee has no batch in this round: store that, drop its reports.
    Without(String),
    /// Tell the aggregation node and whoever asks.
    Phase(RoundPhase, Counts),
}

#[derive(Debug)]
enum Step {
    Idle,
    Loading,
    Preparing(Vec<LeaderPending>),
    Recording,
    Selecting,
    Agreeing(Proposal),
    Releasing,
    Done,
}

/// One round at its leader.
#[derive(Debug)]
pub struct Leader {
    task: Committee,
    round: VerifiedRound,
    secrets: Arc<Secrets>,
    counts: Counts,
    loaded: bool,
    proposal: Option<Proposal>,
    /// The aggregation node has closed the round.
    closed: bool,
    /// The round takes no more reports and prepares what it has.
    draining: bool,
    /// Why the helper does not work, as it is shown.
    trouble: Option<RoundPhase>,
    /// The helper has refused the stored proposal and named what differs.
    reselect: bool,
    /// What the helper has verified and the refused proposal did not have.
    missing: BTreeSet<ReportId>,
    attempts: u32,
    retry_at: Millis,
    step: Step,
    phase: Option<RoundPhase>,
    out: VecDeque<Output>,
}

impl Leader {
    /// Lead this round.
    ///
    /// # Errors
    ///
    /// The [`Reason`] if this node does not lead the task or the round is another task's.
    pub fn new(
        task: Committee,
        round: VerifiedRound,
        secrets: Arc<Secrets>,
    ) -> Result<Self, Reason> {
        if task.leader().node != secrets.node.id() || round.task != task.task() {
            return Err(Reason::UnknownTask);
        }
        Ok(Self {
            task,
            round,
            secrets,
            counts: Counts::default(),
            loaded: false,
            proposal: None,
            closed: false,
            draining: false,
            trouble: None,
            reselect: false,
            missing: BTreeSet::new(),
            attempts: 0,
            retry_at: 0,
            step: Step::Idle,
            phase: None,
            out: VecDeque::new(),
        })
    }

    /// The round.
    pub fn round(&self) -> &VerifiedRound {
        &self.round
    }

    /// Whether a report that comes now can still be counted.
    pub fn accepts_reports(&self, now: Millis) -> Result<(), Reason> {
        if now > self.round.deadline_ms {
            Err(Reason::TooLate)
        } else if self.draining || self.proposal.is_some() || matches!(self.step, Step::Done) {
            Err(Reason::RoundClosed)
        } else if self.counts.verified + self.counts.pending >= self.max_batch() {
            Err(Reason::BatchFull)
        } else {
            Ok(())
        }
    }

    /// Whether the round is over at this node.
    pub fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Take in one event at time `now`.
    pub fn handle(&mut self, now: Millis, input: Input) {
        match (input, std::mem::replace(&mut self.step, Step::Idle)) {
            (_, Step::Done) => self.step = Step::Done,
            (
                Input::State { counts, proposal },
                step @ (Step::Loading | Step::Recording | Step::Idle),
            ) => {
                self.counts = counts;
                self.proposal = proposal.filter(|_| !self.reselect);
                self.loaded = true;
                // What was verified beside a report that waits is not to wait too.
                if matches!(step, Step::Recording) && now < self.retry_at {
                    self.show_waiting();
                }
                self.decide(now);
            }
            (Input::Pending(reports), Step::Loading) => self.prepare(reports),
            (Input::Answer(answer), Step::Preparing(pending)) => self.finish(now, pending, answer),
            (Input::Verified(ids), Step::Selecting) => self.propose(now, ids),
            (Input::Answer(answer), Step::Agreeing(proposal)) => self.agreed(now, proposal, answer),
            (Input::Released, Step::Releasing) => {
                self.step = Step::Done;
                self.show(RoundPhase::Closing);
            }
            (Input::Close, step) => {
                self.closed = true;
                self.step = step;
                if matches!(self.step, Step::Idle) {
                    self.decide(now);
                }
            }
            (Input::Tick, Step::Idle) => self.decide(now),
            // An answer to a question that was given up changes nothing.
            (_, step) => self.step = step,
        }
    }

    fn max_batch(&self) -> u64 {
        u64::from(self.task.schedule.max_batch)
    }

    fn decide(&mut self, now: Millis) {
        if !self.loaded {
            self.step = Step::Loading;
            self.out.push_back(Output::LoadState);
            return;
        }
        if now < self.retry_at {
            return;
        }
        if let Some(proposal) = self.proposal.clone() {
            self.ask_agreement(proposal);
            return;
        }
        let have = self.counts.verified;
        let late = now > self.round.deadline_ms;
        self.draining = late || self.closed || have >= self.max_batch();
        let full = have >= self.max_batch();
        if self.counts.pending > 0 && !full {
            self.show_waiting();
            self.step = Step::Loading;
            // Never more than still fit: the batch is all that both members have verified.
            let room = usize::try_from(self.max_batch() - have).unwrap_or(usize::MAX);
            self.out.push_back(Output::LoadPending {
                reports: PREPARE_REPORTS.min(room),
                bytes: PREPARE_BYTES,
            });
        } else if self.draining && have > 0 {
            self.show(RoundPhase::Closing);
            self.step = Step::Selecting;
            self.out.push_back(Output::LoadVerified);
        } else if self.draining {
            self.without("no contribution came to it".into());
        } else {
            self.trouble = None;
            self.show_waiting();
        }
    }

    /// What one committee knows; how many reports the round needs is for the aggregation node to say.
    fn show_waiting(&mut self) {
        let phase = if let Some(trouble) = &self.trouble {
            trouble.clone()
        } else if self.draining {
            RoundPhase::Closing
        } else {
            let have = self.counts.verified;
            RoundPhase::WaitingForReports { have, need: 0 }
        };
        self.show(phase);
    }

    fn without(&mut self, reason: String) {
        self.out.push_back(Output::Without(reason));
        self.step = Step::Done;
        self.show(RoundPhase::Closing);
    }

    fn show(&mut self, phase: RoundPhase) {
        self.phase = Some(phase.clone());
        self.out
            .push_back(Output::Phase(phase, self.counts.clone()));
    }

    /// Where the round stands, once it is known.
    pub fn phase(&self) -> Option<&RoundPhase> {
        self.phase.as_ref()
    }

    /// The counts the machine last saw.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn prepare(&mut self, reports: Vec<(ReportId, Vec<u8>)>) {
        let verify_key = self.secrets.verify_key(&self.task);
        let (mut pending, mut inits, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (id, bytes) in reports {
            match self.begin(&verify_key, &bytes) {
                Ok((state, init)) => {
                    pending.push(state);
                    inits.push(init);
                }
                Err(reason) => refused.push((id, Outcome::Rejected(reason))),
            }
        }
        if inits.is_empty() {
            self.record(refused);
            return;
        }
        // What is refused here stays pending in the store until the next load; one step at a time.
        self.step = Step::Preparing(pending);
        self.out
            .push_back(Output::Ask(Request::Prepare(PrepareRequest {
                task: self.task.task(),
                round: self.round.round,
                committee: self.task.index(),
                verify_key,
                reports: inits,
            })));
    }

    fn begin(
        &self,
        verify_key: &[u8; defim_protocol::vdaf::VERIFY_KEY_BYTES],
        bytes: &[u8],
    ) -> Result<(LeaderPending, PrepareInit), Reason> {
        let report = Report::get_decoded(bytes).map_err(|_| Reason::Malformed)?;
        if !is_ours(&self.task, &self.round, &report.metadata.id) {
            return Err(Reason::WrongCommittee);
        }
        let share = OpenedShare::open(
            &self.task,
            self.round.round,
            Seat::Leader,
            &self.secrets.sealing,
            &report.metadata,
            &report.public_share,
            &report.leader,
        )?
        .authentic(&self.round, &report.public_share)?;
        let (pending, message) = share.begin(verify_key)?;
        let init = PrepareInit {
            id: report.metadata.id,
            time_s: report.metadata.time_s,
            sealed: report.helper.get_encoded().map_err(|_| Reason::Malformed)?,
            public_share: report.public_share,
            message,
        };
        Ok((pending, init))
    }

    fn record(&mut self, outcomes: Vec<(ReportId, Outcome)>) {
        self.step = Step::Recording;
        self.out.push_back(Output::Record(outcomes));
    }

    fn finish(&mut self, now: Millis, pending: Vec<LeaderPending>, answer: Option<Response>) {
        let answers = match answer {
            Some(Response::Prepared(answers)) if answers.len() == pending.len() => answers,
            Some(Response::Refused(why)) => return self.helper_refused(now, &why),
            _ => return self.helper_failed(now),
        };
        self.trouble = None;
        // The helper may hear later that a light node is enrolled; until the round closes the report waits for that.
        let waits = |answer: &PrepareAnswer| {
            !self.draining && *answer == PrepareAnswer::Rejected(Reason::NotEnrolled)
        };
        if answers.iter().any(waits) {
            self.retry_at = now + RETRY_MS;
        }
        let outcomes = pending
            .into_iter()
            .zip(answers)
            .filter(|(_, answer)| !waits(answer))
            .map(|(state, answer)| {
                let id = state.id();
                let share = match answer {
                    PrepareAnswer::Verified(message) => state.finish(&message),
                    PrepareAnswer::Rejected(reason) => Err(reason),
                };
                let outcome = match share.and_then(|share| share.to_bytes()) {
                    Ok(bytes) => Outcome::Verified(bytes),
                    Err(reason) => Outcome::Rejected(reason),
                };
                (id, outcome)
            })
            .collect();
        self.record(outcomes);
    }

    fn helper_failed(&mut self, now: Millis) {
        let member = self.task.helper().name.clone();
        self.stand_by(now, RoundPhase::WaitingForMember { member });
    }

    fn helper_refused(&mut self, now: Millis, why: &str) {
        let member = self.task.helper().name.clone();
        let reason = why.chars().take(REASON_CHARS).collect();
        self.stand_by(now, RoundPhase::MemberRefuses { member, reason });
    }

    fn stand_by(&mut self, now: Millis, trouble: RoundPhase) {
        self.trouble = Some(trouble.clone());
        self.retry_at = now + RETRY_MS;
        self.step = Step::Idle;
        self.show(trouble);
    }

    fn propose(&mut self, now: Millis, ids: Vec<ReportId>) {
        let own: BTreeSet<_> = ids.iter().copied().collect();
        let refused: Vec<_> = self.missing.difference(&own).copied().collect();
        let mut rejected = BTreeMap::new();
        for (code, count) in &self.counts.rejected {
            rejected.insert(Reason::word(*code), *count);
        }
        let (task, round, committee) = (self.task.task(), self.round.round, self.task.index());
        let signed = BatchSummary::new(task, round, committee, &ids, rejected)
            .map(|summary| summary.weighed(self.round.extra_weight(&ids)))
            .and_then(|summary| summary.sign(&self.secrets.node));
        match signed {
            Ok(summary) => {
                let proposal = Proposal {
                    summary,
                    ids,
                    refused,
                };
                self.reselect = false;
                // Stored first: after a crash the helper must be asked about the very same batch.
                self.out.push_back(Output::Propose(proposal.clone()));
                self.proposal = Some(proposal.clone());
                self.ask_agreement(proposal);
            }
            Err(_) => {
                self.retry_at = now + RETRY_MS;
                self.step = Step::Idle;
            }
        }
    }

    fn ask_agreement(&mut self, proposal: Proposal) {
        self.out.push_back(Output::Ask(Request::Close {
            summary: proposal.summary.clone(),
            ids: proposal.ids.clone(),
            refused: proposal.refused.clone(),
        }));
        self.step = Step::Agreeing(proposal);
    }

    fn agreed(&mut self, now: Millis, proposal: Proposal, answer: Option<Response>) {
        match answer {
            Some(Response::Agreed(signature)) => {
                let signatures = vec![proposal.summary, signature];
                match AgreedBatch::verify(&self.task, self.round.round, signatures) {
                    Ok(batch) => {
                        self.trouble = None;
                        self.step = Step::Releasing;
                        self.out.push_back(Output::Release {
                            batch,
                            ids: proposal.ids,
                        });
                    }
                    Err(_) => self.helper_failed(now),
                }
            }
            Some(Response::Differs { missing, unknown }) => {
                self.differs(&proposal, missing, &unknown);
            }
            Some(Response::Refused(why)) => {
                let helper = self.task.helper().name.clone();
                self.without(format!("{helper} does not agree on the batch: {why}"));
            }
            _ => self.helper_failed(now),
        }
    }

    /// The helper has signed nothing, so another batch may be proposed: without what it lacks, and
    /// with what it has or, where this node refused a report, with that said.
    fn differs(&mut self, proposal: &Proposal, missing: Vec<ReportId>, unknown: &[ReportId]) {
        self.attempts += 1;
        if self.attempts > AGREE_ATTEMPTS {
            let helper = self.task.helper().name.clone();
            return self.without(format!(
                "{helper} has verified other reports than its leader, again and again"
            ));
        }
        self.missing = missing
            .into_iter()
            .chain(proposal.refused.iter().copied())
            .filter(|id| !unknown.contains(id))
            .collect();
        let lacking = proposal
            .ids
            .iter()
            .filter(|id| unknown.contains(id))
            .copied()
            .collect();
        self.reselect = true;
        self.step = Step::Recording;
        self.out.push_back(Output::Disown(lacking));
    }
}
