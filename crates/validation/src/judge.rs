//! What a validation node checks of a proposed round before it votes: every public step again, bit for bit, and the model on
//! rows that nobody trained on.
//!
//! The model step is a fixed-order reduction of single floating-point operations: all validators get the same bytes.

use std::collections::BTreeSet;

use defim_aggregation::repeat::{Fault as RoundFault, RepeatError, Repeated, check_enrolled};
use defim_learn::{Features, LearningSpec, Metrics, Model, evaluate};
use defim_ledger::{
    Digest, Fault, ModelUpdated, NodeId, Opened, Round, Stage, Task, Verdict, signed_digest,
};
use defim_protocol::{
    VerifiedManifest,
    record::{RecordError, VerifiedRecord},
    vote::Tally,
};

use crate::evidence::Evidence;

/// What was found, and what shows it.
#[derive(Debug)]
pub struct Judged {
    /// The vote.
    pub verdict: Verdict,
    /// In words, for the log.
    pub why: Option<String>,
    /// What shows a fault of the aggregation node.
    pub evidence: Option<Evidence>,
}

impl Judged {
    /// The same, accusing this node.
    fn accusing(self, node: Option<&NodeId>) -> Self {
        match self.verdict {
            Verdict::Complain {
                fault, evidence, ..
            } => Self {
                verdict: Verdict::Complain {
                    fault,
                    accused: node.copied(),
                    evidence,
                },
                ..self
            },
            Verdict::Accept { .. } => self,
        }
    }
}

/// The bytes are not those that the ledger and the record name: they are to be fetched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// What a validator knows by itself of a round that it judges.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The task, as the ledger has it.
    pub task: &'a Task,
    /// The round, as the ledger has it.
    pub round: &'a Round,
    /// All keys of light nodes that were ever enrolled for the task.
    pub enrolled: &'a BTreeSet<NodeId>,
    /// Its own rows, which nobody trained on; without any, every model is good enough.
    pub holdout: Option<&'a Features>,
}

/// Judge a proposed round.
///
/// # Errors
///
/// [`Unusable`] if no model is proposed, or the bytes are not those of the round, which says nothing of it.
pub fn judge(known: Known<'_>, fetched: &Evidence) -> Result<Judged, Unusable> {
    let Known { task, round, .. } = known;
    let unusable = |why: &dyn std::fmt::Display| Unusable(why.to_string());
    let Stage::Proposed(opened, proposed) = &round.stage else {
        return Err(unusable(&"no model of this round is proposed"));
    };
    if signed_digest(&fetched.manifest) != task.manifest {
        return Err(unusable(
            &"the manifest is not the one that the ledger names",
        ));
    }
    let manifest = VerifiedManifest::verify(fetched.manifest.clone(), Some(opened.task))
        .map_err(|e| unusable(&e))?;
    if Digest::of(fetched.record.payload.as_bytes()) != proposed.record {
        return Err(unusable(&"the record is not the one that the ledger names"));
    }
    let record = match VerifiedRecord::verify(fetched.record.clone(), &manifest, opened.round) {
        Ok(record) => record,
        // The ledger names the text only: somebody on the way may have changed the signature beside it.
        Err(why @ RecordError::Signature(_)) => return Err(unusable(&why)),
        Err(why) => {
            return Ok(complain(
                Fault::OtherModel,
                task,
                proposed.record,
                why.to_string(),
            ));
        }
    };
    // What the ledger was told before must be what the record says. Only then do the batches accuse those who signed them.
    if let Some(why) = starts_elsewhere(&record, opened, task, round) {
        return Ok(complain(Fault::ChangedTotal, task, proposed.record, why));
    }
    if let Some(judged) = other_batch(&record, round, proposed) {
        return Ok(judged);
    }
    let repeated = match repeat(known, &manifest, &record, fetched) {
        Ok(repeated) => repeated,
        Err(RepeatError::Unusable(why)) => return Err(unusable(&why)),
        Err(RepeatError::Fault(fault)) => {
            let judged = complain(kind(&fault), task, fetched.digest(), fault.to_string());
            let judged = match &fault {
                // All members signed what anybody can see to be no batch; its leader proposed it.
                RoundFault::Batch { signers, .. } => judged.accusing(signers.first()),
                _ => judged,
            };
            return Ok(Judged {
                evidence: Some(fetched.clone()),
                ..judged
            });
        }
    };
    if let Some(why) = ends_elsewhere(&record, &repeated, opened, proposed) {
        return Ok(complain(Fault::ChangedTotal, task, proposed.record, why));
    }
    let judged = quality(
        &manifest,
        &fetched.model,
        &repeated,
        task,
        proposed,
        known.holdout,
    );
    Ok(match (&judged.verdict, repeated.total.tally()) {
        // A model that no round has made yet may happen to be right for some: it says one thing of all rows.
        (Verdict::Accept { .. }, Some(tally)) if task.finished > 0 => {
            fair(tally, task, proposed).unwrap_or(judged)
        }
        _ => judged,
    })
}

/// Whether the private votes show a group for which the model that the round starts from is worse than for the others, by more than
/// the task allows. That is no one's lie, and slashes nobody.
fn fair(tally: &Tally, task: &Task, proposed: &ModelUpdated) -> Option<Judged> {
    let most = task.terms.fairness_gap_ppm;
    tally.leaves_behind(most).then(|| {
        let most = f64::from(most) / 1e4;
        let why = format!("{tally}; the task allows {most:.0} points between them");
        complain(Fault::Fairness, task, proposed.record, why)
    })
}

/// Repeat the round, and check that its reports are those of enrolled light nodes and of silos.
fn repeat(
    known: Known<'_>,
    manifest: &VerifiedManifest,
    record: &VerifiedRecord,
    fetched: &Evidence,
) -> Result<Repeated, RepeatError> {
    let repeated = fetched.repeat(manifest, record)?;
    for (summary, ids) in fetched.batches(record)? {
        check_enrolled(manifest, record.opened(), summary, &ids, known.enrolled)?;
    }
    Ok(repeated)
}

fn kind(fault: &RoundFault) -> Fault {
    match fault {
        RoundFault::Set | RoundFault::Sum => Fault::DroppedCiphertext,
        RoundFault::Batch { .. } => Fault::Batch,
        RoundFault::Opening(_) => Fault::ChangedTotal,
        _ => Fault::OtherModel,
    }
}

fn complain(fault: Fault, task: &Task, evidence: Digest, why: String) -> Judged {
    Judged {
        verdict: Verdict::Complain {
            fault,
            accused: fault.is_aggregations().then_some(task.terms.aggregation),
            evidence,
        },
        why: Some(why),
        evidence: None,
    }
}

/// Where the ledger's word on what a round starts from, and its record's, part.
fn starts_elsewhere(
    record: &VerifiedRecord,
    opened: &Opened,
    task: &Task,
    round: &Round,
) -> Option<String> {
    let batches: Vec<_> = record.selection().batches().keys().copied().collect();
    first_other([
        ("opening", record.opened().randomness() == round.randomness),
        ("selection", opened.selection == record.selection().digest()),
        ("batches", opened.batches == batches),
        ("ciphertexts", opened.ciphertexts == record.ciphertexts()),
        ("base model", record.before.model == task.model),
        (
            "optimiser's state before it",
            record.before.optimiser == task.optimiser,
        ),
    ])
}

/// Where the ledger's word on what a round comes to, and its record's, part.
fn ends_elsewhere(
    record: &VerifiedRecord,
    repeated: &Repeated,
    opened: &Opened,
    proposed: &ModelUpdated,
) -> Option<String> {
    first_other([
        ("sum", opened.sum == record.sum),
        ("key", opened.key == record.key),
        ("total", opened.total == repeated.total.digest()),
        (
            "votes",
            record.votes == repeated.total.tally().map_or(&[][..], Tally::bins),
        ),
        ("model", proposed.model == record.after.model),
        ("optimiser", proposed.optimiser == record.after.optimiser),
    ])
}

fn first_other<const N: usize>(parts: [(&str, bool); N]) -> Option<String> {
    let mut parts = parts.into_iter();
    let (what, _) = parts.find(|(_, same)| !same)?;
    Some(format!(
        "the {what} on the ledger is not that of the round's record"
    ))
}

/// A batch of the record that is not the one by which the ledger would pay.
///
/// Both are of the same opening, and all members have signed both. A leader may propose twice, and the aggregation node cannot know
/// which one comes to the ledger; a helper signs one a round.
fn other_batch(record: &VerifiedRecord, round: &Round, proposed: &ModelUpdated) -> Option<Judged> {
    let batches = record.selection().batches();
    let (committee, batch) = batches.iter().find(|(committee, batch)| {
        let there = round.batches.get(committee);
        there.map(|there| there.summary) != Some(batch.digest())
    })?;
    let same_opening = batch.summary().opening == round.randomness;
    let signers = batch.signatures();
    // After the leader. If it is of another opening, whoever selected it is at fault.
    let helper = signers.get(1).map(|signed| signed.signer);
    let accused = match same_opening {
        true => helper,
        false => Some(record.signed().signer),
    };
    let fault = match same_opening {
        true => Fault::Batch,
        false => Fault::ChangedTotal,
    };
    Some(Judged {
        verdict: Verdict::Complain {
            fault,
            accused,
            evidence: proposed.record,
        },
        why: Some(format!(
            "the batch of committee {committee} on the ledger is not that of the round's record"
        )),
        evidence: None,
    })
}

fn micro(value: f64) -> u64 {
    // Safe: a cast from f64 saturates, and NaN gives 0.
    (value * 1e6).round() as u64
}

/// Whether the model is good enough on rows that nobody trained on. Without such rows it is.
fn quality(
    manifest: &VerifiedManifest,
    model: &[u8],
    repeated: &Repeated,
    task: &Task,
    proposed: &ModelUpdated,
    holdout: Option<&Features>,
) -> Judged {
    let accept = |metrics: &Metrics| Judged {
        verdict: Verdict::Accept {
            loss_micro: micro(metrics.loss),
            accuracy_ppm: u32::try_from(micro(metrics.accuracy.or(metrics.r2).unwrap_or(0.0)))
                .unwrap_or(u32::MAX),
        },
        why: None,
        evidence: None,
    };
    let spec: Option<LearningSpec> = serde_json::from_str(manifest.learning.get()).ok();
    let before = spec.and_then(|spec| Model::from_safetensors(model, &spec).ok());
    let (Some(rows), Some(before)) = (holdout, before) else {
        return accept(&Metrics::unknown());
    };
    let (old, new) = (evaluate(&before, rows), evaluate(&repeated.model, rows));
    let most = old.loss * (1.0 + f64::from(task.terms.tolerance_ppm) / 1e6);
    // A loss that is no number is none that is good enough.
    if new.loss <= most {
        return accept(&new);
    }
    complain(
        Fault::Quality,
        task,
        proposed.record,
        format!(
            "the loss on hold-out rows rises from {:.4} to {:.4}, more than the task allows",
            old.loss, new.loss
        ),
    )
}
