//! The machine that runs a task's rounds: open, wait for the committee, open the total, step, publish.
//!
//! Feed it one [`Input`], then drain [`Coordinator::poll`]. Outputs are carried out in order, each to
//! its end. After a crash a new machine starts from what the store holds ([`Restored`]).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::OpenedTotal;
pub use crate::message::{Completed, CoordinatorError, Input, OpenRoundView, Output, Restored};
use defim_learn::{
    Features, LearningSpec, MeanUpdate, Metrics, Model, OptimiserState, evaluate, model_digest,
};
use defim_protocol::{
    Digest, Millis, NodeId, NodeKey, RoundNumber, RoundOpened, RoundPhase, VerifiedManifest,
    VerifiedRound,
    batch::AgreedBatch,
    wire::{Progress, Response, Submission},
};

/// How long after its deadline a round may wait for the committee, in milliseconds. Then it is given
/// up, whatever has arrived: nothing that a member or a stranger sends puts the end off.
pub const GRACE_MS: Millis = 5 * 60 * 1000;

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
                this.open = Some(round);
                // Its contributions start from another model: added to this one they would be noise.
                if base != this.digest {
                    this.void(format!(
                        "it was opened for model {base}, but {} is the task's model",
                        this.digest
                    ));
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
            Input::Progress(node, progress) => self.progress(node, progress),
            Input::Pause(paused) => {
                self.paused = paused;
                self.out.push_back(Output::Changed);
            }
            Input::Void { round, reason } => {
                if self.open.as_ref().is_some_and(|open| open.round == round) {
                    self.void(reason);
                }
            }
        }
    }

    /// Names of the members whose share of the open round is not here.
    fn missing(&self) -> Vec<String> {
        let members = self.task.members.iter();
        members
            .filter(|member| !self.submissions.contains_key(&member.node))
            .map(|member| member.name.clone())
            .collect()
    }

    fn aggregating(&self) -> RoundPhase {
        RoundPhase::Aggregating {
            have: self.submissions.len() as u64,
            need: self.task.members.len() as u64,
            missing: self.missing(),
        }
    }

    fn tick(&mut self, now: Millis) {
        self.finish(now);
        if let Some(round) = &self.open
            && now > round.deadline_ms.saturating_add(GRACE_MS)
        {
            let reason = if self.submissions.is_empty() {
                let leader = &self.task.leader().name;
                format!("its leader {leader} has not closed it since the deadline")
            } else {
                let missing = self.missing().join(" and ");
                format!("{missing} has not sent its share of the sum since the deadline")
            };
            self.void(reason);
        }
        if self.open.is_none() && !self.is_complete() && !self.paused {
            self.open_next(now);
        }
    }

    fn fresh_view(&self, round: &RoundOpened) -> OpenRoundView {
        let need = u64::from(self.task.schedule.min_batch);
        OpenRoundView {
            opened: *round,
            phase: match self.submissions.is_empty() {
                true => RoundPhase::WaitingForReports { have: 0, need },
                false => self.aggregating(),
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
        self.submissions.clear();
        self.view = Some(self.fresh_view(&opened));
        self.open = Some(round);
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

    fn progress(&mut self, node: NodeId, progress: Progress) {
        if node != self.task.leader().node {
            self.out.push_back(Output::Answer(Response::Refused(
                "only the task's leader reports progress".into(),
            )));
            return;
        }
        self.out.push_back(Output::Answer(Response::Done));
        let aggregating = self.aggregating();
        let Some(view) = &mut self.view else { return };
        if view.opened.round != progress.round {
            return;
        }
        let before = view.clone();
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
            RoundPhase::Aggregating { .. } => aggregating,
            _ if !self.submissions.is_empty() => aggregating,
            other => other,
        };
        // A leader says the same again and again; nobody need be told each time.
        if *view != before {
            self.out.push_back(Output::Changed);
        }
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
                self.out.push_back(Output::StoreShare(node, submission));
            }
        }
        self.out.push_back(Output::Answer(Response::Done));
        let aggregating = self.aggregating();
        if let Some(view) = &mut self.view {
            view.phase = aggregating;
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
