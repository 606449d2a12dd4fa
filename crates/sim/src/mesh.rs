//! The servers of a mesh: coordinator, leader and helper, joined by function calls.

use std::{collections::VecDeque, sync::Arc};

use defim_aggregation::coordinator::{self, Completed, Coordinator, Restored};
use defim_full::{
    Secrets, accept_upload,
    leader::{self, Leader, PREPARE_BYTES, PREPARE_REPORTS},
};
use defim_learn::{Features, LearningSpec};
use defim_protocol::{
    Manifest, Member, Millis, NodeId, NodeKey, Reason, Schedule, SignedText, VerifiedManifest,
    VerifiedRound,
    vdaf::{Scheme, VdafSpec},
    wire::{Progress, Request, Response, Submission},
};
use serde_json::value::RawValue;

use crate::{
    Clock, SimError, Steps,
    member::{Helper, Shelf},
    steps::timed,
};

/// A day of virtual time: no round takes longer.
const LONGEST_MS: Millis = 24 * 60 * 60 * 1000;

/// How a round ended.
#[derive(Debug, Clone)]
pub enum RoundResult {
    /// With a model.
    Completed(Box<Completed>),
    /// Without.
    Voided(String),
}

/// Two full nodes and an aggregation node.
pub struct Mesh {
    manifest: VerifiedManifest,
    coordinator: Coordinator,
    leader: Arc<Secrets>,
    helper: Secrets,
    leader_shelf: Shelf,
    helper_shelf: Shelf,
    machine: Option<Leader>,
    helper_up: bool,
    now: Millis,
    result: Option<RoundResult>,
}

fn member(secrets: &Secrets, name: &str) -> Member {
    Member {
        node: secrets.node.id(),
        name: name.to_owned(),
        hpke: secrets.sealing.config(),
    }
}

impl Mesh {
    /// Set up a mesh for one task.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if the task is refused.
    pub fn new(
        spec: &LearningSpec,
        holdout: Option<Features>,
        schedule: Schedule,
        scheme: Scheme,
    ) -> Result<Self, SimError> {
        let setup = |e: &dyn std::fmt::Display| SimError::Setup(e.to_string());
        let key = Arc::new(NodeKey::from_seed([1; 32]));
        let leader = Arc::new(Secrets::from_seed([2; 32]));
        let helper = Secrets::from_seed([3; 32]);
        let learning = serde_json::to_string(spec)
            .and_then(RawValue::from_string)
            .map_err(|e| setup(&e))?;
        let manifest = Manifest {
            name: "simulated".into(),
            title: "A simulated task".into(),
            summary: String::new(),
            aggregation: key.id(),
            members: vec![member(&leader, "full-1"), member(&helper, "full-2")],
            vdaf: VdafSpec {
                scheme,
                dimension: spec.dimension(),
                frac_bits: spec.frac_bits,
            },
            schedule,
            created_ms: 0,
            learning,
        };
        let signed = manifest.sign(&key).map_err(|e| setup(&e))?;
        let manifest = VerifiedManifest::verify(signed, None).map_err(|e| setup(&e))?;
        let coordinator = Coordinator::new(manifest.clone(), key, holdout, Restored::default())
            .map_err(|e| setup(&e))?;
        Ok(Self {
            manifest,
            coordinator,
            leader,
            helper,
            leader_shelf: Shelf::default(),
            helper_shelf: Shelf::default(),
            machine: None,
            helper_up: true,
            now: 1_000_000,
            result: None,
        })
    }

    /// The task.
    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Virtual time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Let time pass.
    pub fn wait(&mut self, ms: Millis) {
        self.now = self.now.saturating_add(ms);
    }

    /// Cut the helper off, or bring it back.
    pub fn set_helper_up(&mut self, up: bool) {
        self.helper_up = up;
    }

    /// Open the next round.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if none opens.
    pub fn open_round(&mut self) -> Result<VerifiedRound, SimError> {
        self.coordinate(coordinator::Input::Tick);
        let round = self.coordinator.open_round().cloned().ok_or_else(|| {
            SimError::Setup("no round opens: all rounds of the task are done".into())
        })?;
        self.leader_shelf.next_round();
        self.helper_shelf.next_round();
        self.result = None;
        self.machine = Some(Leader::new(
            self.manifest.clone(),
            round.clone(),
            self.leader.clone(),
        )?);
        Ok(round)
    }

    /// Upload a report to the leader, as over any path.
    ///
    /// # Errors
    ///
    /// The public reason; nothing is stored then.
    pub fn upload(&mut self, bytes: Vec<u8>) -> Result<(), Reason> {
        let round = self.coordinator.open_round().ok_or(Reason::RoundClosed)?;
        let report = accept_upload(&self.manifest, round, &self.leader.sealing, self.now, bytes)?;
        if let Some(first) = self.leader_shelf.seen.get(&report.id) {
            return if *first == report.digest {
                Ok(())
            } else {
                Err(Reason::Replayed)
            };
        }
        self.leader_shelf.seen.insert(report.id, report.digest);
        self.leader_shelf.pending.insert(report.id, report.bytes);
        Ok(())
    }

    /// Run the round to its end; time passes as it must.
    ///
    /// # Errors
    ///
    /// [`SimError`] if it does not end.
    pub fn finish_round(
        &mut self,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<RoundResult, SimError> {
        let started = self.now;
        while self.now - started < LONGEST_MS {
            self.lead(clock, steps)?;
            self.coordinate(coordinator::Input::Tick);
            if let Some(result) = self.result.take() {
                return Ok(result);
            }
            self.wait(if self.leader_shelf.pending.is_empty() {
                500
            } else {
                1
            });
        }
        Err(SimError::Stuck(
            self.coordinator.open_round().map_or(0, |round| round.round),
        ))
    }

    /// Run everything that is due now.
    ///
    /// # Errors
    ///
    /// [`SimError`] if a member cannot add.
    pub fn settle(
        &mut self,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<RoundResult>, SimError> {
        self.lead(clock, steps)?;
        self.coordinate(coordinator::Input::Tick);
        Ok(self.result.take())
    }

    fn coordinate(&mut self, input: coordinator::Input) -> Option<Response> {
        use coordinator::Output as O;
        self.coordinator.handle(self.now, input);
        let mut answer = None;
        while let Some(output) = self.coordinator.poll() {
            match output {
                O::Answer(response) => answer = Some(response),
                O::Complete(done) => self.result = Some(RoundResult::Completed(done)),
                O::Void { reason, .. } => self.result = Some(RoundResult::Voided(reason)),
                O::Open { .. } | O::StoreShare(..) | O::Changed => {}
            }
        }
        answer
    }

    fn submit(&mut self, from: NodeId, submission: Submission) {
        self.coordinate(coordinator::Input::Submitted(from, submission));
    }

    fn lead(&mut self, clock: Clock<'_>, steps: &mut Steps) -> Result<(), SimError> {
        let Some(mut machine) = self.machine.take() else {
            return Ok(());
        };
        let mut inputs = VecDeque::from([self.state(), leader::Input::Tick]);
        while let Some(input) = inputs.pop_front() {
            timed(clock, &mut steps.verify_ms, || {
                machine.handle(self.now, input)
            });
            while let Some(output) = machine.poll() {
                if let Some(next) = self.perform(output, clock, steps)? {
                    timed(clock, &mut steps.verify_ms, || {
                        machine.handle(self.now, next)
                    });
                }
            }
        }
        if !machine.is_done() {
            self.machine = Some(machine);
        }
        Ok(())
    }

    fn state(&self) -> leader::Input {
        leader::Input::State {
            counts: self.leader_shelf.counts(),
            proposal: self.leader_shelf.proposal.clone(),
        }
    }

    fn perform(
        &mut self,
        output: leader::Output,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<leader::Input>, SimError> {
        use leader::{Input as I, Output as O};
        Ok(match output {
            O::LoadState => Some(self.state()),
            O::LoadPending { reports, bytes } => {
                debug_assert!(reports <= PREPARE_REPORTS && bytes <= PREPARE_BYTES);
                let some = self.leader_shelf.pending.iter().take(reports);
                Some(I::Pending(
                    some.map(|(id, bytes)| (*id, bytes.clone())).collect(),
                ))
            }
            O::Ask(request) => Some(I::Answer(self.ask(request, clock, steps)?)),
            O::Record(outcomes) => {
                for (id, outcome) in outcomes {
                    self.leader_shelf.pending.remove(&id);
                    match outcome {
                        leader::Outcome::Verified(share) => {
                            self.leader_shelf.verified.insert(id, share);
                        }
                        leader::Outcome::Rejected(reason) => self.leader_shelf.reject(reason),
                    }
                }
                Some(self.state())
            }
            O::Disown(ids) => {
                self.leader_shelf.disown(&ids);
                Some(self.state())
            }
            O::LoadVerified => Some(I::Verified(
                self.leader_shelf.verified.keys().copied().collect(),
            )),
            O::Propose(proposal) => {
                self.leader_shelf.proposal = Some(proposal);
                None
            }
            O::Release { batch, ids } => {
                let submission = timed(clock, &mut steps.add_ms, || {
                    self.leader_shelf.release(&self.manifest, batch, &ids)
                })?;
                let from = self.leader.node.id();
                let start = clock();
                self.submit(from, submission);
                steps.add_ms += crate::steps::ms(clock().saturating_sub(start));
                Some(I::Released)
            }
            O::Void(_) => None,
            O::Phase(phase, counts) => {
                let progress = Progress {
                    task: self.manifest.task(),
                    round: self.coordinator.open_round().map_or(0, |round| round.round),
                    phase,
                    pending: counts.pending,
                    verified: counts.verified,
                    rejected: counts.rejected.into_iter().collect(),
                    at_ms: self.now,
                };
                let from = self.leader.node.id();
                self.coordinate(coordinator::Input::Progress(from, progress));
                None
            }
        })
    }

    fn ask(
        &mut self,
        request: Request,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<Response>, SimError> {
        if !self.helper_up {
            return Ok(None);
        }
        let Some(round) = self.coordinator.open_round() else {
            return Ok(None);
        };
        let mut helper = Helper {
            task: &self.manifest,
            round,
            secrets: &self.helper,
            shelf: &mut self.helper_shelf,
        };
        Ok(match request {
            Request::Prepare(request) => Some(timed(clock, &mut steps.verify_ms, || {
                helper.prepare(&request)
            })),
            Request::Close {
                summary,
                ids,
                refused,
            } => {
                let (response, submission) = timed(clock, &mut steps.add_ms, || {
                    helper.close(summary, &ids, &refused)
                })?;
                if let Some(submission) = submission {
                    let from = self.helper.node.id();
                    let start = clock();
                    self.submit(from, submission);
                    steps.add_ms += crate::steps::ms(clock().saturating_sub(start));
                }
                Some(response)
            }
            _ => Some(Response::Refused("a full node does not answer that".into())),
        })
    }

    /// The signed task.
    pub fn signed(&self) -> &SignedText {
        self.manifest.signed()
    }

    /// The leader's keys, for tests that play a cheat.
    pub fn leader_secrets(&self) -> &Secrets {
        &self.leader
    }
}
