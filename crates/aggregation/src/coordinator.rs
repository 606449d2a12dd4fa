//! The machine that runs a task's rounds: open, wait for the committee, open the total, step, publish.
//!
//! Feed it one [`Input`], then drain [`Coordinator::poll`]. Outputs are carried out in order, each to
//! its end. After a crash a new machine starts from what the store holds ([`Restored`]).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub use crate::{
    message::{Completed, CoordinatorError, Input, OpenRoundView, Output, Restored},
    round::{GRACE_MS, PATIENCE_MS, RestoredRound},
};
use crate::{
    repeat::step,
    round::{End, OpenRound, Opened},
};
use defim_he::Threshold;
use defim_learn::{Features, LearningSpec, Metrics, Model, OptimiserState, evaluate, model_digest};
use defim_protocol::{
    Digest, Millis, NodeId, NodeKey, RoundNumber, RoundOpened, VerifiedManifest, VerifiedRound,
    record::{ModelState, RoundRecord},
    wire::{Progress, Request, Response},
};

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
    spent: u64,
    last_round: RoundNumber,
    open: Option<OpenRound>,
    /// Rows of the full nodes' silos, as they last said.
    silo_rows: BTreeMap<NodeId, u64>,
    /// Full nodes that take no part on the ledger.
    absent: BTreeSet<NodeId>,
    threshold: Threshold,
    paused: bool,
    held: bool,
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
        let threshold = u8::try_from(task.members.len())
            .ok()
            .zip(u8::try_from(task.opening_nodes()).ok())
            .and_then(|(members, needed)| Threshold::new(needed, members).ok())
            .ok_or_else(|| damaged("it has more full nodes than there can be".into()))?;
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
            spent: restored.spent,
            last_round: 0,
            open: None,
            silo_rows: BTreeMap::new(),
            absent: BTreeSet::new(),
            threshold,
            paused: restored.paused,
            held: restored.held,
            out: VecDeque::new(),
            task,
        };
        if let Some((signed, over)) = restored.round {
            let round =
                VerifiedRound::verify(signed, &this.task).map_err(|e| damaged(e.to_string()))?;
            this.last_round = round.round;
            if !over {
                let base = round.base_model;
                let open = OpenRound::new(round, this.task.clone(), threshold, this.left());
                this.open = Some(open.restore(restored.open));
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
        self.open.as_ref().map(OpenRound::opened)
    }

    /// Where the open round stands.
    pub fn view(&self) -> Option<OpenRoundView> {
        self.open.as_ref().map(OpenRound::view)
    }

    /// What a full node is to be asked now. Its answer is [`Input::Answered`]; without one it is asked again.
    pub fn question(&self, node: &NodeId) -> Option<Request> {
        self.open.as_ref()?.question(node)
    }

    /// Rounds that ended with a model.
    pub fn rounds_done(&self) -> u64 {
        self.rounds_done
    }

    /// Whether an admin has paused the task.
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Whether the next round waits for a ledger.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Selections that full nodes were asked to encrypt, in all rounds: each has cost privacy, opened or not.
    pub fn spent(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, OpenRound::spent);
        self.spent.saturating_add(open)
    }

    /// Full nodes whose committees are left out.
    pub fn absent(&self) -> &BTreeSet<NodeId> {
        &self.absent
    }

    /// How many selections the privacy budget still allows to be encrypted, before the open round.
    fn left(&self) -> u64 {
        match self.task.privacy {
            None => u64::MAX,
            Some(_) => self.task.schedule.rounds.saturating_sub(self.spent),
        }
    }

    /// Whether all rounds are done, or the privacy budget, which is for so many sums, is spent.
    pub fn is_complete(&self) -> bool {
        let done = match self.task.privacy {
            None => self.rounds_done,
            Some(_) => self.spent,
        };
        done >= self.task.schedule.rounds
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Take in one event at time `now`.
    pub fn handle(&mut self, now: Millis, input: Input) {
        let before = self.view();
        match input {
            Input::Tick => self.tick(now),
            Input::Answered(node, response) => {
                self.answered(node, response);
                self.advance(now);
            }
            Input::Progress(node, progress) => self.progress(node, progress),
            Input::SiloRows(node, rows) => {
                self.silo_rows.insert(node, rows);
            }
            Input::Pause(paused) => {
                self.paused = paused;
                self.out.push_back(Output::Changed);
            }
            Input::Hold(held) => {
                self.held = held;
                self.out.push_back(Output::Changed);
            }
            Input::Absent(nodes) => {
                if let Some(open) = &mut self.open {
                    open.leave_out(nodes.clone());
                }
                self.absent = nodes;
            }
            Input::Void { round, reason } => {
                if self.open_round().is_some_and(|open| open.round == round) {
                    self.void(reason);
                }
            }
        }
        // A leader says the same again and again; nobody need be told each time.
        if self.view() != before {
            self.out.push_back(Output::Changed);
        }
    }

    fn tick(&mut self, now: Millis) {
        self.advance(now);
        if self.open.is_none() && !self.is_complete() && !self.paused && !self.held {
            self.open_next(now);
        }
    }

    /// Let the open round go on with what has come in.
    fn advance(&mut self, now: Millis) {
        let Some(open) = &mut self.open else { return };
        let number = open.opened().round;
        let out = &mut self.out;
        let end = open.advance(now, &self.key, &mut |output| out.push_back(output));
        match end {
            End::Open => {}
            End::Void(reason) => self.void(reason),
            End::Opened(opened) => self.complete(now, number, *opened),
        }
    }

    fn open_next(&mut self, now: Millis) {
        let opened = RoundOpened {
            task: self.task.task(),
            round: self.last_round + 1,
            base_model: self.digest,
            opened_ms: now,
            deadline_ms: now.saturating_add(self.task.schedule.round_ms),
            weights: self.weights(),
        };
        let Ok(signed) = opened.sign(&self.key) else {
            return;
        };
        let Ok(round) = VerifiedRound::verify(signed.clone(), &self.task) else {
            return;
        };
        self.last_round = opened.round;
        let (task, left) = (self.task.clone(), self.left());
        let mut open = OpenRound::new(round, task, self.threshold, left);
        open.leave_out(self.absent.clone());
        self.open = Some(open);
        self.out.push_back(Output::Open { signed, opened });
        self.out.push_back(Output::Changed);
    }

    /// How often the silos' reports count: as often as they have rows, as far as they have said and the task allows.
    fn weights(&self) -> BTreeMap<NodeId, u8> {
        let most = u64::from(self.task.max_weight);
        let known = self.silo_rows.iter();
        known
            .map(|(node, rows)| (*node, u8::try_from((*rows).min(most)).unwrap_or(u8::MAX)))
            .filter(|(node, weight)| *weight > 1 && self.task.place(node).is_some())
            .collect()
    }

    fn void(&mut self, reason: String) {
        if let Some(open) = self.open.take() {
            let spent = open.spent();
            self.spent = self.spent.saturating_add(spent);
            self.out.push_back(Output::Void {
                round: open.opened().round,
                reason,
                spent,
            });
            self.out.push_back(Output::Changed);
        }
    }

    fn progress(&mut self, node: NodeId, progress: Progress) {
        let leads = match &mut self.open {
            Some(open) => open.progress(&node, progress),
            None => true,
        };
        self.out.push_back(Output::Answer(match leads {
            true => Response::Done,
            false => Response::Refused("only a committee's leader reports its progress".into()),
        }));
    }

    fn answered(&mut self, node: NodeId, response: Response) {
        if let Some(open) = &mut self.open {
            let out = &mut self.out;
            open.answered(node, response, &mut |output| out.push_back(output));
        }
    }

    fn complete(&mut self, now: Millis, round: RoundNumber, opened: Opened) {
        let Some(opening) = self.open_round().map(|open| open.signed().clone()) else {
            return;
        };
        let total = &opened.total;
        let before = self.state();
        let optimiser_before = self.optimiser.to_bytes();
        let (model, optimiser) = match step(&self.spec, &self.model, &self.optimiser, total) {
            Ok(stepped) => stepped,
            Err(error) => return self.void(error.to_string()),
        };
        let model_bytes = model.to_safetensors();
        let after = ModelState {
            model: Digest(model_digest(&model_bytes)),
            optimiser: Digest::of(&optimiser.to_bytes()),
        };
        let record = RoundRecord {
            task: self.task.task(),
            round,
            opened: opening,
            selection: opened.selection.signed().clone(),
            batches: opened.selection.signatures(),
            sums: opened.sums.statements(),
            opening: opened.opening,
            sum: total.root(),
            key: Digest::of(total.key()),
            before,
            after,
            votes: total.tally().map_or_else(Vec::new, |t| t.bins().to_vec()),
        };
        let record = match record.sign(&self.key) {
            Ok(record) => record,
            Err(error) => return self.void(error.to_string()),
        };
        self.optimiser = optimiser;
        self.model = model;
        self.model_bytes = model_bytes;
        self.digest = after.model;
        self.rounds_done += 1;
        let spent = self.open.take().map_or(0, |open| open.spent());
        self.spent = self.spent.saturating_add(spent);
        let metrics = match &self.holdout {
            Some(rows) => evaluate(&self.model, rows),
            None => Metrics::unknown(),
        };
        let ciphertexts = opened.sums.ciphertexts();
        self.out.push_back(Output::Complete(Box::new(Completed {
            round,
            digest: self.digest,
            model: self.model_bytes.clone(),
            optimiser: self.optimiser.to_bytes(),
            metrics,
            reports: total.reports(),
            tally: total.tally().cloned(),
            rejected: opened.rejected,
            finished_ms: now,
            spent,
            record,
            key: total.key().to_vec(),
            ciphertexts: ciphertexts.map(|(node, c)| (node, c.to_vec())).collect(),
            optimiser_before,
            ids: opened.ids,
        })));
        self.out.push_back(Output::Changed);
    }

    fn state(&self) -> ModelState {
        ModelState {
            model: self.digest,
            optimiser: Digest::of(&self.optimiser.to_bytes()),
        }
    }
}
