//! The machine that runs a task's rounds: open, wait for the committee, open the total, step, publish.
//!
//! Feed it one [`Input`], then drain [`Coordinator::poll`]. Outputs are carried out in order, each to
//! its end. After a crash a new machine starts from what the store holds ([`Restored`]).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use defim_learn::{
    Features, LearningSpec, MeanUpdate, Metrics, Model, OptimiserState, evaluate, model_digest,
};
use defim_protocol::{
    Digest, Millis, NodeId, NodeKey, RoundNumber, RoundOpened, RoundPhase, SignedText,
    VerifiedManifest, VerifiedRound,
    batch::AgreedBatch,
    wire::{Progress, Response, Submission},
};
use serde::{Deserialize, Serialize};

use crate::OpenedTotal;

/// How long after the deadline, and after the last step forward, a round is waited for before it is given
/// up, in milliseconds.
pub const SILENCE_MS: Millis = 3 * 60 * 1000;

/// A finished round.
#[derive(Debug, Clone)]
pub struct Completed {
    /// The round.
    pub round: RoundNumber,
    /// Digest of the new model.
    pub digest: Digest,
    /// The new model, safetensors.
    pub model: Vec<u8>,
    /// The optimiser's state.
    pub optimiser: Vec<u8>,
    /// The new model on the task's hold-out rows.
    pub metrics: Metrics,
    /// Reports in the batch.
    pub reports: u64,
    /// Refused reports, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// When.
    pub finished_ms: Millis,
}

/// What the store holds of a task.
#[derive(Debug, Default)]
pub struct Restored {
    /// The last round that was opened, with whether it is over.
    pub round: Option<(SignedText, bool)>,
    /// Rounds that ended with a model.
    pub rounds_done: u64,
    /// The current model and optimiser state, if any round finished.
    pub model: Option<(Vec<u8>, Vec<u8>)>,
    /// Aggregate shares of the open round.
    pub submissions: Vec<(NodeId, Submission)>,
    /// Whether an admin has paused the task.
    pub paused: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A member's aggregate share; the node is the authenticated sender.
    Submitted(NodeId, Submission),
    /// A leader's word on the round; the node is the authenticated sender.
    Progress(NodeId, Progress),
    /// An admin pauses the task or lets it go on.
    Pause(bool),
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Store and announce this round.
    Open {
        /// The signed opening.
        signed: SignedText,
        /// The same, read.
        opened: RoundOpened,
    },
    /// Store this share, then answer its sender.
    StoreShare(NodeId, Submission),
    /// Answer the sender of the input.
    Answer(Response),
    /// Store the new model and end the round, in one step.
    Complete(Box<Completed>),
    /// End the round without a result.
    Void {
        /// The round.
        round: RoundNumber,
        /// Why.
        reason: String,
    },
    /// Tell whoever watches.
    Changed,
}

/// Why a task cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// This node does not run the task.
    #[error("task {0} is run by another aggregation node")]
    NotOurs(defim_protocol::TaskId),
    /// The learning specification is unusable.
    #[error("the task's learning specification is unusable: {0}")]
    Spec(String),
    /// What the store holds cannot be used.
    #[error("the stored state of task {task} cannot be used: {what}")]
    Damaged {
        /// The task.
        task: defim_protocol::TaskId,
        /// What is wrong.
        what: String,
    },
}

/// Progress of the open round as its leader last told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenRoundView {
    /// The round.
    pub opened: RoundOpened,
    /// Where it stands.
    pub phase: RoundPhase,
    /// Stored, not yet prepared.
    pub pending: u64,
    /// Verified.
    pub verified: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// One task at its aggregation node.
pub struct Coordinator {
    task: VerifiedManifest,
    spec: LearningSpec,
    key: Arc<NodeKey>,
    holdout: Option<Features>,
    model: Model,
    model_bytes: Vec<u8>,
    digest: Digest,
    optimiser: OptimiserState,
    initial: Option<Metrics>,
    rounds_done: u64,
    last_round: RoundNumber,
    open: Option<VerifiedRound>,
    view: Option<OpenRoundView>,
    heard_at: Millis,
    /// The most verified reports that the leader has told of in this round.
    furthest: u64,
    submissions: BTreeMap<NodeId, Submission>,
    paused: bool,
    out: VecDeque<Output>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Coordinator({}, round {})",
            self.task.task(),
            self.last_round
        )
    }
}

impl Coordinator {
    /// Run a task from what the store holds. `holdout` are the rows the model is evaluated on.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError`] if the task is another node's or the stored state cannot be used.
    pub fn new(
        task: VerifiedManifest,
        key: Arc<NodeKey>,
        holdout: Option<Features>,
        restored: Restored,
    ) -> Result<Self, CoordinatorError> {
        if task.aggregation != key.id() {
            return Err(CoordinatorError::NotOurs(task.task()));
        }
        let id = task.task();
        let damaged = |what: String| CoordinatorError::Damaged { task: id, what };
        let spec: LearningSpec = serde_json::from_str(task.learning.get())
            .map_err(|e| CoordinatorError::Spec(e.to_string()))?;
        spec.validate()
            .map_err(|e| CoordinatorError::Spec(e.to_string()))?;
        let first = Model::init(
            &spec.model,
            spec.schema.inputs(),
            spec.schema.outputs(),
            spec.init_seed,
        );
        let initial = holdout.as_ref().map(|rows| evaluate(&first, rows));
        let (model, optimiser) = match restored.model {
            None => (first, OptimiserState::new()),
            Some((model, state)) => (
                Model::from_safetensors(&model, &spec).map_err(|e| damaged(e.to_string()))?,
                OptimiserState::from_bytes(&state).map_err(|e| damaged(e.to_string()))?,
            ),
        };
        let model_bytes = model.to_safetensors();
        let digest = Digest(model_digest(&model_bytes));
        let mut this = Self {
            spec,
            key,
            holdout,
            model,
            model_bytes,
            digest,
            optimiser,
            initial,
            rounds_done: restored.rounds_done,
            last_round: 0,
            open: None,
            view: None,
            heard_at: 0,
            furthest: 0,
            submissions: restored.submissions.into_iter().collect(),
            paused: restored.paused,
            out: VecDeque::new(),
            task,
        };
        if let Some((signed, over)) = restored.round {
            let round =
                VerifiedRound::verify(signed, &this.task).map_err(|e| damaged(e.to_string()))?;
            this.last_round = round.round;
            if !over {
                let base = round.base_model;
                this.view = Some(this.fresh_view(&round));
                this.heard_at = round.deadline_ms;
                this.open = Some(round);
                // Its updates were made for another model than the one they would be added to.
                if base != this.digest {
                    this.void("the model it starts from is not the current one".to_owned());
                }
            }
        }
        Ok(this)
    }

    /// The task.
    pub fn task(&self) -> &VerifiedManifest {
        &self.task
    }

    /// The learning specification.
    pub fn spec(&self) -> &LearningSpec {
        &self.spec
    }

    /// The current model's digest and bytes.
    pub fn model(&self) -> (Digest, &[u8]) {
        (self.digest, &self.model_bytes)
    }

    /// The first model on the hold-out rows.
    pub fn initial_metrics(&self) -> Option<&Metrics> {
        self.initial.as_ref()
    }

    /// The signed opening of the open round.
    pub fn open_round(&self) -> Option<&VerifiedRound> {
        self.open.as_ref()
    }

    /// Where the open round stands.
    pub fn view(&self) -> Option<&OpenRoundView> {
        self.view.as_ref()
    }

    /// Rounds that ended with a model.
    pub fn rounds_done(&self) -> u64 {
        self.rounds_done
    }

    /// Whether an admin has paused the task.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether all rounds are done.
    pub fn is_complete(&self) -> bool {
        self.rounds_done >= self.task.schedule.rounds
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Take in one event at time `now`.
    pub fn handle(&mut self, now: Millis, input: Input) {
        match input {
            Input::Tick => self.tick(now),
            Input::Submitted(node, submission) => self.submitted(now, node, submission),
            Input::Progress(node, progress) => self.progress(now, node, progress),
            Input::Pause(paused) => {
                self.paused = paused;
                self.out.push_back(Output::Changed);
            }
        }
    }

    fn tick(&mut self, now: Millis) {
        self.finish(now);
        if let Some(round) = &self.open {
            let silent_since = self.heard_at.max(round.deadline_ms);
            if now > silent_since.saturating_add(SILENCE_MS) {
                let reason = match self.submissions.is_empty() {
                    true => format!(
                        "its leader {} has not closed the batch",
                        self.task.leader().name
                    ),
                    false => format!(
                        "no aggregate share came from {}",
                        self.missing().join(" and ")
                    ),
                };
                self.void(reason);
            }
        }
        if self.open.is_none() && !self.is_complete() && !self.paused {
            self.open_next(now);
        }
    }

    /// Names of the members whose aggregate share is not here.
    pub fn missing(&self) -> Vec<&str> {
        self.task
            .members
            .iter()
            .filter(|member| !self.submissions.contains_key(&member.node))
            .map(|member| member.name.as_str())
            .collect()
    }

    fn fresh_view(&self, round: &RoundOpened) -> OpenRoundView {
        OpenRoundView {
            opened: *round,
            phase: RoundPhase::WaitingForReports {
                have: 0,
                need: u64::from(self.task.schedule.min_batch),
            },
            pending: 0,
            verified: 0,
            rejected: BTreeMap::new(),
        }
    }

    fn open_next(&mut self, now: Millis) {
        let opened = RoundOpened {
            task: self.task.task(),
            round: self.last_round + 1,
            base_model: self.digest,
            opened_ms: now,
            deadline_ms: now.saturating_add(self.task.schedule.round_ms),
        };
        let Ok(signed) = opened.sign(&self.key) else {
            return;
        };
        let Ok(round) = VerifiedRound::verify(signed.clone(), &self.task) else {
            return;
        };
        self.last_round = opened.round;
        self.view = Some(self.fresh_view(&opened));
        self.heard_at = now;
        self.furthest = 0;
        self.open = Some(round);
        self.submissions.clear();
        self.out.push_back(Output::Open { signed, opened });
        self.out.push_back(Output::Changed);
    }

    fn void(&mut self, reason: String) {
        if let Some(round) = self.open.take() {
            self.view = None;
            self.submissions.clear();
            self.out.push_back(Output::Void {
                round: round.round,
                reason,
            });
            self.out.push_back(Output::Changed);
        }
    }

    fn progress(&mut self, now: Millis, node: NodeId, progress: Progress) {
        if node != self.task.leader().node {
            self.out.push_back(Output::Answer(Response::Refused(
                "only the task's leader reports progress".into(),
            )));
            return;
        }
        self.out.push_back(Output::Answer(Response::Done));
        let Some(view) = &mut self.view else { return };
        if view.opened.round != progress.round {
            return;
        }
        // Only a step forward counts: strangers can make a leader talk for ever.
        if progress.verified > self.furthest {
            self.furthest = progress.verified;
            self.heard_at = now;
        }
        if let RoundPhase::Voided { reason } = &progress.phase {
            // A batch that a member has already released is agreed on; it cannot be voided any more.
            if self.submissions.is_empty() {
                self.void(reason.clone());
            }
            return;
        }
        view.pending = progress.pending;
        view.verified = progress.verified;
        view.rejected = progress
            .rejected
            .iter()
            .map(|(code, count)| {
                let slug = defim_protocol::Reason::from_code(*code)
                    .map_or_else(|| code.to_string(), |reason| reason.slug().to_owned());
                (slug, *count)
            })
            .collect();
        view.phase = match progress.phase {
            RoundPhase::Aggregating { .. } => RoundPhase::Aggregating {
                have: self.submissions.len() as u64,
                need: self.task.members.len() as u64,
            },
            other => other,
        };
        self.out.push_back(Output::Changed);
    }

    fn submitted(&mut self, now: Millis, node: NodeId, submission: Submission) {
        let refuse = |this: &mut Self, why: String| {
            this.out.push_back(Output::Answer(Response::Refused(why)));
        };
        if !self.task.members.iter().any(|member| member.node == node) {
            return refuse(self, format!("node {node} is not on the task's committee"));
        }
        let Some(open) = &self.open else {
            // The answer to an earlier submission was lost; its round is over.
            return match submission.round <= self.last_round {
                true => self.out.push_back(Output::Answer(Response::Done)),
                false => refuse(self, format!("round {} is not open", submission.round)),
            };
        };
        if submission.round < open.round {
            self.out.push_back(Output::Answer(Response::Done));
            return;
        }
        if let Err(error) =
            AgreedBatch::verify(&self.task, open.round, submission.signatures.clone())
        {
            return refuse(self, error.to_string());
        }
        match self.submissions.get(&node) {
            Some(held) if *held != submission => {
                return refuse(
                    self,
                    "another aggregate share of this round is already held".into(),
                );
            }
            Some(_) => {}
            None => {
                self.submissions.insert(node, submission.clone());
                self.heard_at = now;
                self.out.push_back(Output::StoreShare(node, submission));
            }
        }
        self.out.push_back(Output::Answer(Response::Done));
        if let Some(view) = &mut self.view {
            view.phase = RoundPhase::Aggregating {
                have: self.submissions.len() as u64,
                need: self.task.members.len() as u64,
            };
        }
        self.out.push_back(Output::Changed);
        self.finish(now);
    }

    fn finish(&mut self, now: Millis) {
        let Some(open) = &self.open else { return };
        if self.submissions.len() < self.task.members.len() {
            return;
        }
        let round = open.round;
        let submissions: Vec<_> = self
            .submissions
            .iter()
            .map(|(n, s)| (*n, s.clone()))
            .collect();
        let stepped = OpenedTotal::open(&self.task, round, &submissions)
            .map_err(|e| e.to_string())
            .and_then(|total| {
                let mean = MeanUpdate::from_sum(
                    total.sum(),
                    self.spec.clip_norm,
                    total.summary().accepted,
                )
                .map_err(|e| e.to_string())?;
                let mut optimiser = self.optimiser.clone();
                let model = self
                    .spec
                    .server
                    .step(&mut optimiser, &self.model, &mean)
                    .map_err(|e| e.to_string())?;
                Ok((total, optimiser, model))
            });
        let (total, optimiser, model) = match stepped {
            Ok(stepped) => stepped,
            Err(reason) => return self.void(reason),
        };
        self.optimiser = optimiser;
        self.model = model;
        self.model_bytes = self.model.to_safetensors();
        self.digest = Digest(model_digest(&self.model_bytes));
        self.rounds_done += 1;
        self.open = None;
        self.view = None;
        self.submissions.clear();
        let metrics = match &self.holdout {
            Some(rows) => evaluate(&self.model, rows),
            None => Metrics::unknown(),
        };
        self.out.push_back(Output::Complete(Box::new(Completed {
            round,
            digest: self.digest,
            model: self.model_bytes.clone(),
            optimiser: self.optimiser.to_bytes(),
            metrics,
            reports: total.summary().accepted,
            rejected: total.summary().rejected.clone(),
            finished_ms: now,
        })));
        self.out.push_back(Output::Changed);
    }
}
