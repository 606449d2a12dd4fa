//! One round of the mesh: the light nodes' reports, and what the aggregation node makes of its end, honestly or not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use defim_aggregation::{
    coordinator::Completed,
    repeat::{Artefacts, Repeated, repeat},
};
use defim_learn::quantise_vector;
use defim_ledger::{
    BatchSummary, Body, CommitteeIndex, Digest, Fault, ModelUpdated, NodeId, NodeKey, Opened,
    ReportId, RoundNumber,
};
use defim_light::{JoinedTask, Training};
use defim_protocol::{
    SignedText, VerifiedRound,
    record::{RoundRecord, VerifiedRecord},
    sum::{EncryptedSum, Selection, SumOpening},
};
use defim_validation::evidence::Evidence;
use rand_chacha::ChaCha20Rng;

use super::Lie;
use crate::{Mesh, RoundResult, Steps};

/// How far a coordinate may be from 0 or 1: rounding, and a light node stays a little below the norm bound.
const ROUNDING: f64 = 0.01;

/// A round that is played.
pub struct Played {
    pub number: RoundNumber,
    /// Its signed opening.
    pub opening: VerifiedRound,
    /// The model before it.
    pub model: Vec<u8>,
    /// The reports' ids, by light node.
    pub reports: Vec<ReportId>,
    /// The first light node's report, as it was sent.
    pub sent: Vec<u8>,
    /// How it ended in the mesh.
    pub end: Option<Proposed>,
    /// Whether the ledger has settled it.
    pub settled: bool,
}

/// What the aggregation node puts on the ledger and serves of a round that is over for it.
pub struct Proposed {
    pub done: Box<Completed>,
    pub batches: Vec<(CommitteeIndex, Body)>,
    pub opened: Opened,
    pub updated: ModelUpdated,
    /// What it serves.
    pub served: Evidence,
    /// What validators must find, and of whom.
    pub fault: Option<(Fault, NodeId)>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Played {
    /// Open the next round.
    pub fn open(mesh: &mut Mesh) -> Result<Self, String> {
        let model = mesh.coordinator().model().1.to_vec();
        let opening = mesh.open_round().map_err(text)?;
        Ok(Self {
            number: opening.round,
            opening,
            model,
            reports: Vec::new(),
            sent: Vec::new(),
            end: None,
            settled: false,
        })
    }

    /// Every light node's report.
    pub fn contribute(
        &mut self,
        mesh: &mut Mesh,
        lights: &[Arc<NodeKey>],
        random: &mut ChaCha20Rng,
    ) -> Result<(), String> {
        let task = JoinedTask::join(mesh.signed().clone(), None).map_err(text)?;
        for (place, key) in lights.iter().enumerate() {
            let (id, bytes) = self.report(mesh, &task, (place, key), random)?;
            mesh.upload(bytes.clone()).map_err(text)?;
            if place == 0 {
                self.sent = bytes;
            }
            self.reports.push(id);
        }
        Ok(())
    }

    /// A light node moves the coordinate of its place, as far as it may.
    fn report(
        &self,
        mesh: &Mesh,
        task: &JoinedTask,
        (place, key): (usize, &Arc<NodeKey>),
        random: &mut ChaCha20Rng,
    ) -> Result<(ReportId, Vec<u8>), String> {
        let now = mesh.now();
        let open = task.open_round(self.opening.signed().clone(), now);
        let open = open.map_err(text)?.without_ledger();
        let training = Training::start(task, &open, &self.model).map_err(text)?;
        let training = training.with_key(key.clone());
        let spec = task.spec();
        let mut values = vec![0.0; spec.dimension()];
        *values.get_mut(place).ok_or("too few coordinates")? = spec.clip_norm.0 * 0.999;
        let update = quantise_vector(&values, spec.clip_norm, spec.frac_bits).map_err(text)?;
        let draw = || [0; 16];
        let id = training.report_id(draw).map_err(text)?;
        let split = training.split_with(&update, id, now / 1000, random);
        let sealed = split.and_then(|split| split.seal(random)).map_err(text)?;
        Ok((id, sealed.bytes))
    }

    /// The first light node sends its report again, another one in its place, and the one of the round before.
    pub fn replay(
        &self,
        mesh: &mut Mesh,
        before: &[u8],
        lights: &[Arc<NodeKey>],
        random: &mut ChaCha20Rng,
    ) -> Result<(), String> {
        // The same bytes may have been lost on the way: they are taken, and counted once.
        mesh.upload(self.sent.clone()).map_err(text)?;
        let task = JoinedTask::join(mesh.signed().clone(), None).map_err(text)?;
        let key = lights.first().ok_or("nobody is there")?;
        let (_, other) = self.report(mesh, &task, (0, key), random)?;
        for (what, bytes) in [
            ("another report", other),
            ("an old report", before.to_vec()),
        ] {
            if mesh.upload(bytes).is_ok() {
                return Err(format!("{what} of the same light node was taken"));
            }
        }
        Ok(())
    }

    /// Let the mesh go on by what is due now.
    pub fn go_on(
        &mut self,
        mesh: &mut Mesh,
        lie: Lie,
        last: Option<&Played>,
    ) -> Result<(), String> {
        let still = || Duration::ZERO;
        match mesh.settle(&still, &mut Steps::default()).map_err(text)? {
            None => Ok(()),
            Some(RoundResult::Voided(why)) => {
                Err(format!("round {} was given up: {why}", self.number))
            }
            Some(RoundResult::Completed(done)) => {
                let repeated = self.repeated(mesh, &done)?;
                self.one_hot(&done, &repeated)?;
                self.end = Some(self.propose(mesh, done, &repeated, lie, last)?);
                Ok(())
            }
        }
    }

    fn repeated(&self, mesh: &Mesh, done: &Completed) -> Result<Repeated, String> {
        let record = VerifiedRecord::verify(done.record.clone(), mesh.manifest(), self.number);
        let ciphertexts: Vec<_> = done.ciphertexts.iter().map(|(_, c)| c.clone()).collect();
        let artefacts = Artefacts {
            ciphertexts: &ciphertexts,
            key: &done.key,
            model: &self.model,
            optimiser: &done.optimiser_before,
        };
        repeat(mesh.manifest(), &record.map_err(text)?, artefacts).map_err(text)
    }

    /// Whether the total holds 1 where a report was counted, and 0 elsewhere.
    fn one_hot(&self, done: &Completed, repeated: &Repeated) -> Result<(), String> {
        let counted: Vec<_> = done.ids.iter().flat_map(|(_, ids)| ids).collect();
        if counted.len() != self.reports.len() {
            return Err(format!(
                "{} of {} honest reports are counted in round {}",
                counted.len(),
                self.reports.len(),
                self.number
            ));
        }
        for (place, sum) in repeated.total.sum().iter().enumerate() {
            let id = self.reports.get(place);
            let expected = f64::from(u8::from(id.is_some_and(|id| counted.contains(&id))));
            if (sum - expected).abs() > ROUNDING {
                return Err(format!(
                    "coordinate {place} of the total of round {} is {sum} and not {expected}",
                    self.number
                ));
            }
        }
        Ok(())
    }

    /// What the aggregation node says of the round.
    fn propose(
        &self,
        mesh: &Mesh,
        done: Box<Completed>,
        repeated: &Repeated,
        lie: Lie,
        last: Option<&Played>,
    ) -> Result<Proposed, String> {
        const WRONG: Digest = Digest([7; 32]);
        let liar = mesh.aggregation_key().id();
        let mut record: RoundRecord = serde_json::from_str(&done.record.payload).map_err(text)?;
        let mut ids: Vec<_> = done.ids.iter().map(|(_, ids)| ids.clone()).collect();
        let mut fault = None;
        let mut signed = done.record.clone();
        match lie {
            Lie::Nobody | Lie::Replay | Lie::Total | Lie::OldRecord => {}
            Lie::Model | Lie::Unseen => {
                record.after.model = WRONG;
                signed = record.sign(mesh.aggregation_key()).map_err(text)?;
                fault = Some((Fault::OtherModel, liar));
            }
            Lie::Ciphertext => {
                record.sum = WRONG;
                signed = record.sign(mesh.aggregation_key()).map_err(text)?;
                fault = Some((Fault::DroppedCiphertext, liar));
            }
            Lie::Batch => {
                let (committee, honest) = done.ids.first().ok_or("no batch")?;
                let listed = self.foreign(mesh, *committee, honest)?;
                signed = with_batch(mesh, record, &self.opening, *committee, &listed)?;
                *ids.first_mut().ok_or("no batch")? = listed;
                let committee = mesh
                    .manifest()
                    .committee(*committee)
                    .ok_or("no committee")?;
                fault = Some((Fault::Batch, committee.leader().node));
            }
        }
        let said: RoundRecord = serde_json::from_str(&signed.payload).map_err(text)?;
        let verified = VerifiedRecord::verify(signed.clone(), mesh.manifest(), self.number);
        let verified = verified.map_err(text)?;
        let mut opened = Opened {
            task: mesh.manifest().task(),
            round: self.number,
            selection: verified.selection().digest(),
            batches: verified.selection().batches().keys().copied().collect(),
            ciphertexts: verified.ciphertexts().to_vec(),
            sum: said.sum,
            key: said.key,
            total: repeated.total.digest(),
        };
        if lie == Lie::Total {
            opened.total = WRONG;
            fault = Some((Fault::ChangedTotal, liar));
        }
        if lie == Lie::OldRecord {
            let last = last.and_then(|last| last.end.as_ref());
            signed = last.ok_or("there is no round before")?.done.record.clone();
            fault = Some((Fault::OtherModel, liar));
        }
        let batches = verified.selection().batches().keys().copied();
        let statements = verified.selection().signatures().into_iter();
        let listed = |ids: &Vec<ReportId>| ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>();
        Ok(Proposed {
            batches: batches
                .zip(statements.map(|statements| Body::BatchClosed { statements }))
                .collect(),
            opened,
            updated: ModelUpdated {
                task: mesh.manifest().task(),
                round: self.number,
                model: said.after.model,
                optimiser: said.after.optimiser,
                record: Digest::of(signed.payload.as_bytes()),
            },
            served: Evidence {
                manifest: mesh.signed().clone(),
                record: signed,
                ids: ids.iter().map(|ids| listed(ids).into()).collect(),
                ciphertexts: done
                    .ciphertexts
                    .iter()
                    .map(|(_, c)| c.clone().into())
                    .collect(),
                key: done.key.clone().into(),
                model: self.model.clone().into(),
                optimiser: done.optimiser_before.clone().into(),
            },
            fault,
            done,
        })
    }

    /// The ids of a batch, one of them replaced by a report that another committee checks.
    fn foreign(
        &self,
        mesh: &Mesh,
        committee: CommitteeIndex,
        honest: &[ReportId],
    ) -> Result<Vec<ReportId>, String> {
        let of = |id: &ReportId| mesh.manifest().committee_of(&self.opening, id).index();
        let mut all = (0..=255).map(|n| ReportId([n; 16]));
        let other = all.find(|id| of(id) != committee);
        let mut ids = honest.to_vec();
        *ids.first_mut().ok_or("an empty batch")? = other.ok_or("one committee only")?;
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The record of the same round, but the members of one committee have signed these reports as their batch.
fn with_batch(
    mesh: &Mesh,
    mut record: RoundRecord,
    opening: &VerifiedRound,
    committee: CommitteeIndex,
    ids: &[ReportId],
) -> Result<SignedText, String> {
    let manifest = mesh.manifest();
    let keys: BTreeMap<NodeId, &NodeKey> = (0..manifest.members.len())
        .filter_map(|place| mesh.node_key(place))
        .map(|key| (key.id(), key))
        .collect();
    let key = |node: &NodeId| keys.get(node).copied().ok_or("no such node");
    let members = manifest.committee(committee).ok_or("no such committee")?;
    let mut selection: Selection = serde_json::from_str(&record.selection.payload).map_err(text)?;
    let mut indices = selection.batches.keys();
    let place = indices.position(|index| *index == committee);
    let batch = BatchSummary::new(
        manifest.task(),
        opening.round,
        opening.randomness(),
        committee,
        ids,
        BTreeMap::new(),
    );
    let batch = batch.map_err(text)?;
    let signatures = members
        .members()
        .into_iter()
        .map(|member| batch.sign(key(&member.node)?).map_err(text))
        .collect::<Result<Vec<_>, String>>()?;
    let summary = signatures.first().ok_or("nobody has signed")?;
    selection
        .batches
        .insert(committee, Digest::of(summary.payload.as_bytes()));
    let slot = place.and_then(|place| record.batches.get_mut(place));
    *slot.ok_or("no such batch")? = signatures;
    record.selection = selection.sign(mesh.aggregation_key()).map_err(text)?;
    let selection = Digest::of(record.selection.payload.as_bytes());
    for signed in &mut record.sums {
        let mut sum: EncryptedSum = serde_json::from_str(&signed.payload).map_err(text)?;
        sum.selection = selection;
        *signed = sum.sign(key(&signed.signer)?).map_err(text)?;
    }
    let mut opening: SumOpening = serde_json::from_str(&record.opening.payload).map_err(text)?;
    opening.selection = selection;
    record.opening = opening.sign(mesh.aggregation_key()).map_err(text)?;
    record.sign(mesh.aggregation_key()).map_err(text)
}
