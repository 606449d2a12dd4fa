//! What a validation node checks of a proposed round before it votes: every public step again, and the model on rows that
//! nobody trained on.

use defim_aggregation::repeat::{Artefacts, Fault as RoundFault, RepeatError, Repeated, repeat};
use defim_learn::{LearningSpec, Metrics, Model, evaluate};
use defim_ledger::{Digest, Fault, ModelUpdated, Opened, Task, TaskId, Verdict, signed_digest};
use defim_net::http::HttpClient;
use defim_protocol::{SignedText, VerifiedManifest, limits, record::VerifiedRecord};
use serde_bytes::ByteBuf;

use super::evidence::Evidence;
use crate::{
    failure::{Failure, Outcome},
    http::TaskView,
    node::{aggregation::builtin_rows, artefact},
};

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

/// Where the bytes of a round are fetched.
pub struct Source<'a> {
    /// The client.
    pub http: &'a HttpClient,
    /// Base address of the aggregation node's HTTP side.
    pub base: &'a str,
}

impl Source<'_> {
    async fn bytes(&self, path: &str) -> Outcome<Vec<u8>> {
        let url = format!("{}/api/v1{path}", self.base);
        let most = limits::MODEL_BYTES;
        self.http
            .get_bytes(&url, most)
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let url = format!("{}/api/v1{path}", self.base);
        self.http
            .get_json(&url)
            .await
            .map_err(|e| Failure::Unreachable(e.to_string()))
    }

    /// The manifest of a task that the ledger has.
    async fn manifest(&self, id: TaskId, task: &Task) -> Outcome<VerifiedManifest> {
        let view: TaskView = self.json(&format!("/tasks/{id}")).await?;
        if signed_digest(&view.signed) != task.manifest {
            return Err(Failure::Unreachable(format!(
                "the manifest of task {id} is not the one on the ledger"
            )));
        }
        VerifiedManifest::verify(view.signed, Some(id))
            .map_err(|e| Failure::Unreachable(e.to_string()))
    }
}

/// Judge a proposed round.
///
/// # Errors
///
/// [`Failure::Unreachable`] if its bytes cannot be had now; they are asked for again.
pub async fn judge(
    source: &Source<'_>,
    id: TaskId,
    task: &Task,
    opened: &Opened,
    proposed: &ModelUpdated,
) -> Outcome<Judged> {
    let manifest = source.manifest(id, task).await?;
    let base = format!("/tasks/{id}/rounds/{}", opened.round);
    let signed: SignedText = source.json(&format!("{base}/record")).await?;
    if Digest::of(signed.payload.as_bytes()) != proposed.record {
        return Err(Failure::Unreachable(
            "the record is not the one that the ledger names".into(),
        ));
    }
    let record = match VerifiedRecord::verify(signed.clone(), &manifest, opened.round) {
        Ok(record) => record,
        Err(why) => {
            return Ok(complain(
                Fault::OtherModel,
                task,
                proposed.record,
                why.to_string(),
            ));
        }
    };
    let mut ciphertexts = Vec::new();
    for (node, _) in record.ciphertexts() {
        let name = artefact::ciphertext(node);
        ciphertexts.push(source.bytes(&format!("{base}/artefacts/{name}")).await?);
    }
    let key = source
        .bytes(&format!("{base}/artefacts/{}", artefact::KEY))
        .await?;
    let optimiser = source
        .bytes(&format!("{base}/artefacts/{}", artefact::OPTIMISER))
        .await?;
    let model = source
        .bytes(&format!("/models/{}", record.before.model))
        .await?;
    let repeated = tokio::task::block_in_place(|| {
        let artefacts = Artefacts {
            ciphertexts: &ciphertexts,
            key: &key,
            model: &model,
            optimiser: &optimiser,
        };
        repeat(&manifest, &record, artefacts)
    });
    let evidence = || Evidence {
        manifest: manifest.signed().clone(),
        record: signed.clone(),
        ciphertexts: ciphertexts.iter().cloned().map(ByteBuf::from).collect(),
        key: ByteBuf::from(key.clone()),
        model: ByteBuf::from(model.clone()),
        optimiser: ByteBuf::from(optimiser.clone()),
    };
    let repeated = match repeated {
        Ok(repeated) => repeated,
        Err(RepeatError::Unusable(why)) => return Err(Failure::Unreachable(why.to_string())),
        Err(RepeatError::Fault(fault)) => {
            let shown = evidence();
            let judged = complain(kind(&fault), task, shown.digest()?, fault.to_string());
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
    Ok(tokio::task::block_in_place(|| {
        quality(&manifest, &model, &repeated, task, proposed)
    }))
}

fn kind(fault: &RoundFault) -> Fault {
    match fault {
        RoundFault::Set | RoundFault::Sum => Fault::DroppedCiphertext,
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
    let holdout = spec.as_ref().and_then(|spec| {
        let (_, rows) = builtin_rows(spec)?;
        Some(rows.features(&spec.schema))
    });
    let before = spec.and_then(|spec| Model::from_safetensors(model, &spec).ok());
    let (Some(rows), Some(before)) = (holdout, before) else {
        return accept(&Metrics::unknown());
    };
    let (old, new) = (evaluate(&before, &rows), evaluate(&repeated.model, &rows));
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
