//! What a validation node checks of a proposed round before it votes: every public step again, bit for bit, and the model on
//! rows that nobody trained on.
//!
//! The model step is a fixed-order reduction of single floating-point operations: all validators get the same bytes.

use defim_aggregation::repeat::{Artefacts, Fault as RoundFault, RepeatError, Repeated, repeat};
use defim_learn::{Features, LearningSpec, Metrics, Model, evaluate};
use defim_ledger::{Digest, Fault, ModelUpdated, Opened, Task, Verdict, signed_digest};
use defim_protocol::{SignedText, VerifiedManifest, record::VerifiedRecord};
use serde_bytes::ByteBuf;

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

/// The bytes of a round, as they were fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The signed manifest of the task.
    pub manifest: SignedText,
    /// The signed record of the round.
    pub record: SignedText,
    /// The ciphertexts, in the order of the record.
    pub ciphertexts: Vec<Vec<u8>>,
    /// The opened sum of keys.
    pub key: Vec<u8>,
    /// The model before the round.
    pub model: Vec<u8>,
    /// The optimiser's state before the round.
    pub optimiser: Vec<u8>,
}

/// The bytes are not those that the ledger and the record name: they are to be fetched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Judge a proposed round. `holdout` are the validator's own rows; without any, every model is good enough.
///
/// # Errors
///
/// [`Unusable`] if the bytes are not those of the round, which says nothing of it.
pub fn judge(
    task: &Task,
    opened: &Opened,
    proposed: &ModelUpdated,
    fetched: &Fetched,
    holdout: Option<&Features>,
) -> Result<Judged, Unusable> {
    let unusable = |why: &dyn std::fmt::Display| Unusable(why.to_string());
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
        // The ledger names it, so the aggregation node has signed it.
        Err(why) => {
            return Ok(complain(
                Fault::OtherModel,
                task,
                proposed.record,
                why.to_string(),
            ));
        }
    };
    let artefacts = Artefacts {
        ciphertexts: &fetched.ciphertexts,
        key: &fetched.key,
        model: &fetched.model,
        optimiser: &fetched.optimiser,
    };
    let repeated = match repeat(&manifest, &record, artefacts) {
        Ok(repeated) => repeated,
        Err(RepeatError::Unusable(why)) => return Err(unusable(&why)),
        Err(RepeatError::Fault(fault)) => {
            let shown = Evidence {
                manifest: fetched.manifest.clone(),
                record: fetched.record.clone(),
                ciphertexts: fetched
                    .ciphertexts
                    .iter()
                    .cloned()
                    .map(ByteBuf::from)
                    .collect(),
                key: ByteBuf::from(fetched.key.clone()),
                model: ByteBuf::from(fetched.model.clone()),
                optimiser: ByteBuf::from(fetched.optimiser.clone()),
            };
            let judged = complain(kind(&fault), task, shown.digest(), fault.to_string());
            return Ok(Judged {
                evidence: Some(shown),
                ..judged
            });
        }
    };
    // What the ledger was told must be what the record says.
    if let Some(why) = differs(&record, &repeated, opened, proposed, task) {
        return Ok(complain(Fault::ChangedTotal, task, proposed.record, why));
    }
    Ok(quality(
        &manifest,
        &fetched.model,
        &repeated,
        task,
        proposed,
        holdout,
    ))
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

/// Where the ledger's word on a round and its record part.
fn differs(
    record: &VerifiedRecord,
    repeated: &Repeated,
    opened: &Opened,
    proposed: &ModelUpdated,
    task: &Task,
) -> Option<String> {
    let batches: Vec<_> = record.selection().batches().keys().copied().collect();
    [
        ("selection", opened.selection == record.selection().digest()),
        ("batches", opened.batches == batches),
        ("ciphertexts", opened.ciphertexts == record.ciphertexts()),
        ("sum", opened.sum == record.sum),
        ("key", opened.key == record.key),
        ("total", opened.total == repeated.total.digest()),
        ("model", proposed.model == record.after.model),
        ("optimiser", proposed.optimiser == record.after.optimiser),
        ("base model", record.before.model == task.model),
    ]
    .into_iter()
    .find(|(_, same)| !same)
    .map(|(what, _)| format!("the {what} on the ledger is not that of the round's record"))
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
