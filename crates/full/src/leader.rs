//! The leader's machine for one round of one committee: what to load, ask, store and sign next.
//!
//! With one helper a batch of reports takes one question ([`Request::Prepare`]), and so does the round's batch
//! ([`Request::Close`]). With two helpers each takes two, which go to both side by side: [`Request::Collect`] and
//! [`Request::Finish`], [`Request::Check`] and [`Request::Close`]. An answer that is missing or not as it should be is asked
//! for again, from the first question on: helpers answer as they did before.
//!
//! Feed it one [`Input`], then drain [`Leader::poll`] until it gives nothing. Outputs are carried out
//! in order, each to its end, before the next input; what an output must outlive is stored first.
//! After a crash a new machine starts from [`Output::LoadState`].

mod agreeing;
mod preparing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use defim_protocol::{
    Committee, Millis, Reason, ReportId, RoundPhase, SignedText, VerifiedRound,
    batch::AgreedBatch,
    wire::{self, Request, Response, WireError},
};

use self::preparing::Begun;
use crate::{LeaderPending, Secrets, VerifiedShare};

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
    /// Verified by all members.
    pub verified: u64,
    /// Refused, by reason code.
    pub rejected: BTreeMap<u16, u64>,
}

/// A batch that was proposed to the helpers and stored before it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// This node's signed summary.
    pub summary: SignedText,
    /// The reports, ascending.
    pub ids: Vec<ReportId>,
    /// For each helper, the reports that it verified and this node refused, ascending.
    pub refused: Vec<Vec<ReportId>>,
}

impl Proposal {
    /// For this node's own store.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        match self.refused.as_slice() {
            // As it was stored before there could be two.
            [only] => wire::encode(&(&self.summary, &self.ids, only)),
            all => wire::encode(&(&self.summary, &self.ids, all)),
        }
    }

    /// From this node's own store; of a committee with so many helpers.
    ///
    /// # Errors
    ///
    /// [`WireError::Malformed`].
    pub fn from_bytes(bytes: &[u8], helpers: usize) -> Result<Self, WireError> {
        let (summary, ids, refused) = match helpers {
            1 => {
                let (summary, ids, only) = wire::decode(bytes)?;
                (summary, ids, vec![only])
            }
            _ => wire::decode(bytes)?,
        };
        Ok(Self {
            summary,
            ids,
            refused,
        })
    }
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
    /// The helpers' answers to the last [`Output::Ask`], in their order; `None` of one that cannot be reached.
    Answers(Vec<Option<Response>>),
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
    /// Ask each helper its question, side by side; they are in the order of the helpers.
    Ask(Vec<Request>),
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
    Collecting(Vec<Begun>),
    Finishing(Vec<(ReportId, Result<VerifiedShare, Reason>)>),
    Recording,
    Selecting,
    Checking(Proposal),
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
    /// Why a helper does not work, as it is shown.
    trouble: Option<RoundPhase>,
    /// A helper has refused the stored proposal and named what differs.
    reselect: bool,
    /// What each helper has verified and the refused proposal did not have.
    missing: Vec<BTreeSet<ReportId>>,
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
            missing: vec![BTreeSet::new(); task.helpers().len()],
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
            (Input::Answers(answers), Step::Preparing(pending)) => {
                self.prepared(now, pending, answers);
            }
            (Input::Answers(answers), Step::Collecting(begun)) => {
                self.collected(now, begun, answers);
            }
            (Input::Answers(answers), Step::Finishing(ends)) => self.finished(now, ends, answers),
            (Input::Verified(ids), Step::Selecting) => self.propose(now, ids),
            (Input::Answers(answers), Step::Checking(proposal)) => {
                self.checked(now, proposal, answers);
            }
            (Input::Answers(answers), Step::Agreeing(proposal)) => {
                self.agreed(now, proposal, answers);
            }
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
            self.ask_about(proposal);
            return;
        }
        let have = self.counts.verified;
        let late = now > self.round.deadline_ms;
        self.draining = late || self.closed || have >= self.max_batch();
        let full = have >= self.max_batch();
        if self.counts.pending > 0 && !full {
            self.show_waiting();
            self.step = Step::Loading;
            // Never more than still fit: the batch is all that the members have verified.
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

    fn record(&mut self, outcomes: Vec<(ReportId, Outcome)>) {
        self.step = Step::Recording;
        self.out.push_back(Output::Record(outcomes));
    }

    /// Ask each helper what `question` says for it, by its place among the helpers.
    fn ask(&mut self, step: Step, question: impl Fn(usize) -> Request) {
        self.step = step;
        let helpers = self.task.helpers().len();
        let questions = (0..helpers).map(question).collect();
        self.out.push_back(Output::Ask(questions));
    }

    /// Each helper's answer, read by `read`, which hands back what is none. Where one is missing, its helper is said to be
    /// away, and all is asked again later.
    fn answers<T>(
        &mut self,
        now: Millis,
        answers: Vec<Option<Response>>,
        read: impl Fn(Response) -> Result<T, Response>,
    ) -> Option<Vec<T>> {
        let mut good = Vec::with_capacity(answers.len());
        for (helper, answer) in answers.into_iter().enumerate() {
            match answer.map(&read) {
                Some(Ok(answer)) => good.push(answer),
                Some(Err(Response::Refused(why))) => {
                    self.helper_refused(now, helper, &why);
                    return None;
                }
                Some(Err(_)) | None => {
                    self.helper_failed(now, helper);
                    return None;
                }
            }
        }
        if good.len() < self.task.helpers().len() {
            self.helper_failed(now, good.len());
            return None;
        }
        Some(good)
    }

    fn helper_name(&self, helper: usize) -> String {
        let helpers = self.task.helpers();
        helpers
            .get(helper)
            .map(|m| m.name.clone())
            .unwrap_or_default()
    }

    fn helper_failed(&mut self, now: Millis, helper: usize) {
        let member = self.helper_name(helper);
        self.stand_by(now, RoundPhase::WaitingForMember { member });
    }

    fn helper_refused(&mut self, now: Millis, helper: usize, why: &str) {
        let member = self.helper_name(helper);
        let reason = why.chars().take(REASON_CHARS).collect();
        self.stand_by(now, RoundPhase::MemberRefuses { member, reason });
    }

    fn stand_by(&mut self, now: Millis, trouble: RoundPhase) {
        self.trouble = Some(trouble.clone());
        self.retry_at = now + RETRY_MS;
        self.step = Step::Idle;
        self.show(trouble);
    }
}
