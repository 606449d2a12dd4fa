//! A contribution's way, as a value that only events change.

use crate::api::{Metrics, Record, Task};
use crate::format::count;
use crate::ledger::Final;
use crate::light::{Delivered, Event, Failure, Kept, Outcome, StepDone, Verdict, Via};
use crate::proof::Proof;

/// The reason of reports that were not checked before their round was over.
const ROUND_CLOSED: &str = "round-closed";

/// The stations of a contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Read,
    Trained,
    Split,
    Sealed,
    Sent,
    Counted,
}

impl Step {
    /// In order.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Trained,
        Self::Split,
        Self::Sealed,
        Self::Sent,
        Self::Counted,
    ];
}

/// Where a station stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    Waiting,
    Running,
    Done,
    Failed,
}

impl Mark {
    /// The word in the page's attributes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// What a person reads or hears.
    pub fn told(self) -> &'static str {
        match self {
            Self::Waiting => "not yet",
            Self::Running => "now",
            Self::Done => "done",
            Self::Failed => "stopped here",
        }
    }
}

/// A station with what is known of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Station {
    pub mark: Mark,
    pub bytes: Option<u64>,
    pub ms: Option<f64>,
    /// `75 rows`, `epoch 2 of 5, loss 0.41`.
    pub note: Option<String>,
}

/// How the whole stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing was started.
    #[default]
    Idle,
    /// The light node works or sends.
    Working,
    /// The leader has it; the round goes on.
    Delivered,
    /// Counted, as the mesh says; what shows it is in [`Run::proof`].
    Counted,
    /// Ended without being counted.
    Stopped,
}

/// An upload's progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upload {
    pub sent: u64,
    pub total: u64,
    pub resumed_from: u64,
}

/// What a counted round did to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub round: u64,
    /// Contributions that it counted, as the mesh says.
    pub reports: u64,
    pub before: Option<Metrics>,
    pub after: Option<Metrics>,
}

/// A contribution from the first row to the new model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    pub status: Status,
    pub task: String,
    pub stations: [Station; 6],
    pub round: Option<u64>,
    pub report: Option<String>,
    pub path: Option<(Via, Option<String>)>,
    pub upload: Option<Upload>,
    /// Why the report is kept in this browser for now.
    pub kept: Option<String>,
    /// Whether this goes on with what an earlier page left.
    pub resumed: bool,
    pub problem: Option<Failure>,
    pub effect: Option<Effect>,
    /// Whether it is proven to be counted, once the mesh says that it is.
    pub proof: Proof,
    /// The block under which the round's opening was found to be final, before training.
    pub opening: Option<Final>,
    /// Whether the report of a stopped run is still with the light node.
    pub left: bool,
    /// Whether the person has dropped it.
    pub discarded: bool,
    verdict: Option<Verdict>,
    /// What to say if the round went on without this report.
    closed: Option<Failure>,
    /// What is known of the round once it is over.
    over: Option<(Record, Option<Metrics>)>,
}

/// What can happen to a run.
#[derive(Debug, Clone)]
pub enum Input {
    Start {
        task: String,
    },
    Resume(Kept),
    /// A report that was stopped, and waits for the person.
    Kept(Kept),
    /// The person wants it sent; it is being looked for.
    GoOn,
    /// The person has stopped it.
    Stopped {
        /// Whether a sealed report is kept.
        left: bool,
    },
    /// The person has dropped it.
    Discarded,
    /// A page that was loaded again after the delivery.
    Again(Delivered),
    Event(Event),
    Delivered(Delivered),
    Refused(Failure),
    Outcome(Outcome),
    /// What was found of the ledger's receipt.
    Proof(Proof),
    /// The light node still holds the report.
    StillKept,
    /// The task, with its history.
    Task(Box<Task>),
}

impl Run {
    /// Whether the light node is at work.
    pub fn busy(&self) -> bool {
        self.status == Status::Working
    }

    /// The round of this task that holds this contribution and is still open.
    pub fn waits_for(&self, task: &Task) -> Option<u64> {
        let open = task.round.as_ref().map(|round| round.round);
        let waits = self.status == Status::Delivered && self.task == task.id && self.round == open;
        self.round.filter(|_| waits)
    }

    /// The station at `step`.
    pub fn at(&self, step: Step) -> &Station {
        let [read, trained, split, sealed, sent, counted] = &self.stations;
        match step {
            Step::Read => read,
            Step::Trained => trained,
            Step::Split => split,
            Step::Sealed => sealed,
            Step::Sent => sent,
            Step::Counted => counted,
        }
    }

    fn at_mut(&mut self, step: Step) -> &mut Station {
        let [read, trained, split, sealed, sent, counted] = &mut self.stations;
        match step {
            Step::Read => read,
            Step::Trained => trained,
            Step::Split => split,
            Step::Sealed => sealed,
            Step::Sent => sent,
            Step::Counted => counted,
        }
    }

    /// Takes one input in.
    pub fn take(&mut self, input: Input) {
        match input {
            Input::Start { task } => {
                *self = Self {
                    status: Status::Working,
                    task,
                    ..Self::default()
                };
                self.at_mut(Step::Read).mark = Mark::Running;
            }
            Input::Resume(kept) => self.resume(kept),
            Input::Kept(kept) => {
                self.resume(kept);
                self.stopped(true);
            }
            Input::GoOn => {
                (self.status, self.left, self.problem) = (Status::Working, false, None);
                self.at_mut(Step::Sent).mark = Mark::Running;
            }
            Input::Stopped { left } => self.stopped(left),
            Input::Discarded => {
                self.stopped(false);
                self.discarded = true;
            }
            Input::Again(delivered) => {
                *self = Self {
                    task: delivered.task.clone(),
                    resumed: true,
                    ..Self::default()
                };
                self.delivered(delivered);
            }
            Input::Event(event) => {
                if self.status == Status::Working {
                    self.hear(event);
                }
            }
            Input::Delivered(delivered) => self.delivered(delivered),
            Input::Refused(failure) => self.stop(failure),
            Input::Outcome(outcome) => self.judge(outcome),
            Input::Proof(proof) => self.prove(proof),
            Input::StillKept => self.left = true,
            Input::Task(task) => self.follow(&task),
        }
    }

    fn resume(&mut self, kept: Kept) {
        // Another try of the same report on the same page: what its steps took is still known.
        if self.report.as_ref() != Some(&kept.report) {
            *self = Self {
                task: kept.task,
                resumed: true,
                ..Self::default()
            };
        }
        self.done_until(Step::Sealed);
        self.at_mut(Step::Sealed).bytes = Some(kept.bytes);
        self.at_mut(Step::Sent).mark = Mark::Running;
        (self.status, self.left) = (Status::Working, false);
        (self.round, self.report) = (Some(kept.round), Some(kept.report));
        (self.kept, self.problem, self.upload) = (None, None, None);
    }

    fn stopped(&mut self, left: bool) {
        self.mark_stopped();
        // It is on no path now.
        (self.path, self.upload) = (None, None);
        (self.kept, self.problem, self.left) = (None, None, left);
    }

    fn mark_stopped(&mut self) {
        let at = Step::ALL
            .into_iter()
            .find(|step| matches!(self.at(*step).mark, Mark::Running | Mark::Failed));
        self.at_mut(at.unwrap_or(Step::Read)).mark = Mark::Failed;
        // "The round goes on" is true no longer.
        self.at_mut(Step::Counted).note = None;
        self.status = Status::Stopped;
    }

    fn done_until(&mut self, last: Step) {
        for step in Step::ALL {
            self.at_mut(step).mark = Mark::Done;
            if step == last {
                break;
            }
        }
    }

    fn finish(&mut self, step: Step, next: Step, ms: f64, size: u64, note: Option<String>) {
        self.done_until(step);
        let station = self.at_mut(step);
        (station.ms, station.bytes, station.note) = (Some(ms), Some(size), note);
        self.at_mut(next).mark = Mark::Running;
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Step(StepDone::Final {
                ms,
                round,
                height,
                signers,
                validators,
            }) => {
                self.round = Some(round);
                self.opening = Some(Final {
                    height,
                    signers,
                    validators,
                    ms,
                });
            }
            Event::Step(StepDone::Read { ms, rows, bytes }) => {
                self.finish(
                    Step::Read,
                    Step::Trained,
                    ms,
                    bytes,
                    Some(count(rows, "row")),
                );
            }
            Event::Training {
                epoch,
                epochs,
                loss,
            } => {
                let note = format!("pass {epoch} of {epochs}, loss {loss:.3}");
                let station = self.at_mut(Step::Trained);
                (station.mark, station.note) = (Mark::Running, Some(note));
            }
            Event::Step(StepDone::Trained {
                ms,
                bytes,
                loss_before,
                loss_after,
                clipped,
            }) => {
                let cut = if clipped {
                    ", shortened to the task's bound"
                } else {
                    ""
                };
                let note = format!("loss {loss_before:.3} to {loss_after:.3}{cut}");
                self.finish(Step::Trained, Step::Split, ms, bytes, Some(note));
            }
            Event::Step(StepDone::Split { ms, bytes }) => {
                self.finish(Step::Split, Step::Sealed, ms, bytes, None)
            }
            Event::Step(StepDone::Sealed {
                ms,
                bytes,
                report,
                round,
            }) => {
                self.finish(Step::Sealed, Step::Sent, ms, bytes, None);
                (self.report, self.round) = (Some(report), Some(round));
            }
            Event::Path {
                path,
                because,
                node,
            } => {
                self.path = Some((path, because));
                self.at_mut(Step::Sent).note = Some(format!("to {node}"));
            }
            Event::Connected { .. } => self.kept = None,
            Event::Upload {
                sent,
                total,
                resumed_from,
            } => {
                self.kept = None;
                self.upload = Some(Upload {
                    sent,
                    total,
                    resumed_from,
                });
            }
            Event::Kept { because, .. } => self.kept = Some(because),
            Event::Step(StepDone::Sent {
                ms,
                bytes,
                path,
                because,
            }) => {
                let note = self.at(Step::Sent).note.clone();
                self.finish(Step::Sent, Step::Counted, ms, bytes, note);
                self.path = Some((path, because));
            }
        }
    }

    fn delivered(&mut self, delivered: Delivered) {
        self.done_until(Step::Sent);
        self.status = Status::Delivered;
        (self.kept, self.problem) = (None, None);
        self.path = Some((delivered.path, delivered.because));
        (self.round, self.report) = (Some(delivered.round), Some(delivered.report));
        let sent = self.at_mut(Step::Sent);
        sent.bytes = Some(delivered.bytes);
        sent.note = Some(format!("to {}", delivered.node));
        self.at_mut(Step::Counted).mark = Mark::Running;
    }

    fn stop(&mut self, failure: Failure) {
        self.mark_stopped();
        self.kept = None;
        self.problem = Some(failure);
    }

    fn judge(&mut self, outcome: Outcome) {
        if self.status != Status::Delivered {
            return;
        }
        if outcome.state == Verdict::Rejected {
            let text = outcome
                .text
                .unwrap_or_else(|| "The committee gave no reason.".into());
            let failure = plain(
                "rejected",
                format!("The committee did not count this contribution. {text}"),
            );
            // Of a round that was ended, the record says why; this only says that it was.
            if outcome.reason.as_deref() != Some(ROUND_CLOSED) {
                return self.stop(failure);
            }
            self.closed = Some(failure);
            return self.settle();
        }
        self.verdict = Some(outcome.state);
        self.at_mut(Step::Counted).note = match outcome.state {
            Verdict::Verified => Some("checked by the committee; the round goes on".into()),
            _ => Some("waiting for the committee's check".into()),
        };
        self.settle();
    }

    fn follow(&mut self, task: &Task) {
        if self.status != Status::Delivered || task.id != self.task {
            return;
        }
        let record = task
            .history
            .iter()
            .flatten()
            .find(|record| Some(record.round) == self.round);
        self.over = record.map(|record| (record.clone(), task.before(record.round)));
        self.settle();
    }

    fn settle(&mut self) {
        let Some((record, before)) = self.over.clone() else {
            return;
        };
        let round = record.round;
        if !record.finished() {
            let reason = record.reason.as_deref().unwrap_or("no reason was given");
            let text = format!(
                "Round {round} ended without a result: {} Nobody's contribution was used. Take part in the next one.",
                sentence(reason),
            );
            return self.stop(plain("voided", text));
        }
        if let Some(failure) = self.closed.take() {
            return self.stop(failure);
        }
        match self.verdict {
            Some(Verdict::Verified) => {
                self.status = Status::Counted;
                self.effect = Some(Effect {
                    round,
                    reports: record.reports,
                    before,
                    after: record.metrics,
                });
                self.prove(Proof::Asked);
            }
            Some(Verdict::Unknown) => {
                let text = format!(
                    "Round {round} is over, and its leader does not know this contribution. It was not counted; take part in the next round."
                );
                self.stop(plain("unknown", text));
            }
            _ => {}
        }
    }
}

impl Run {
    /// The station is done only when that is shown: history is the mesh's word, and anybody can write one.
    fn prove(&mut self, proof: Proof) {
        let Some(effect) = self
            .effect
            .as_ref()
            .filter(|_| self.status == Status::Counted)
        else {
            return;
        };
        let (round, reports) = (effect.round, effect.reports);
        let (mark, note) = match &proof {
            Proof::Asked | Proof::Early { .. } => (
                Mark::Running,
                "the mesh says it is counted; its proof is on its way".to_owned(),
            ),
            Proof::NoLedger => (
                Mark::Done,
                format!(
                    "one of {}, as the mesh says",
                    count(reports, "contribution")
                ),
            ),
            Proof::Right(_) => (Mark::Done, "proven by the ledger".to_owned()),
            Proof::Refused(_) => (
                Mark::Failed,
                "the mesh says it is counted, and does not prove it".to_owned(),
            ),
            Proof::Voided => {
                self.effect = None;
                let text = format!(
                    "The mesh says that round {round} counted your contribution, but its ledger has voided the round: the validators \
                     did not accept it, and nobody's contribution counts. Take part in the next one."
                );
                return self.stop(plain("voided", text));
            }
        };
        let station = self.at_mut(Step::Counted);
        (station.mark, station.note) = (mark, Some(note));
        self.proof = proof;
    }
}

fn plain(code: &str, message: String) -> Failure {
    Failure {
        code: code.into(),
        message,
        problems: None,
    }
}

mod told;
pub use told::sentence;

#[cfg(test)]
mod tests;
