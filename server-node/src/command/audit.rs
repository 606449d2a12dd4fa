//! `defim audit`: checks a finished round by random blocks of its encrypted sum.

use defim_light::{Audit as LightAudit, Verdict};
use defim_protocol::{Digest, SignedText};
use rand::Rng as _;
use serde::Serialize;

use super::{mesh::MeshClient, out};
use crate::{
    cli::Audit,
    failure::{Failure, Outcome},
};

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Audited {
    task: String,
    round: u64,
    /// Digest of the round's signed record.
    record: Digest,
    /// The blocks that were added up again.
    blocks: Vec<u32>,
    of_blocks: u32,
    /// Full nodes whose ciphertexts were added.
    parties: usize,
    /// Bytes that were fetched for it.
    bytes: usize,
    verdict: &'static str,
}

/// Run it.
///
/// # Errors
///
/// [`Failure::Integrity`] if the round's sum is wrong, [`Failure`] if it cannot be checked.
pub async fn run(args: Audit, json: bool) -> Outcome {
    let client = MeshClient::new(&args.mesh)?;
    let view = client.task(&args.task).await?;
    let task = view.join()?;
    let finished = view.history.iter().flatten().filter(|r| r.model.is_some());
    let last = finished.map(|record| record.round).max();
    let round = args
        .round
        .or(last)
        .ok_or_else(|| Failure::Input(format!("task {} has no finished round yet", view.name)))?;
    let base = format!("/tasks/{}/rounds/{round}", view.id);
    let record: SignedText = client.get(&format!("{base}/record")).await?;
    let seed: [u8; 32] = rand::rng().random();
    let audit = LightAudit::begin(&task, round, record, &seed, args.blocks.max(1))?;
    if let Some(path) = &args.proof {
        return check(&audit, path, round);
    }
    let mut bytes = 0;
    for block in audit.blocks() {
        let served = client.bytes(&format!("{base}/blocks/{block}")).await?;
        bytes += served.len();
        match audit.judge(*block, &served)? {
            Verdict::Right => {}
            Verdict::Wrong { fraud, proof } => {
                let place = args.out.display();
                std::fs::write(&args.out, proof.to_bytes())
                    .map_err(|e| Failure::Other(format!("{place}: {e}")))?;
                return Err(Failure::Integrity(format!(
                    "block {block} of round {round} is not the sum of the ciphertexts ({fraud:?}); the proof is in {place}: show it to the other participants"
                )));
            }
        }
    }
    let audited = Audited {
        task: view.name,
        round,
        record: audit.record(),
        blocks: audit.blocks().to_vec(),
        of_blocks: audit.of_blocks(),
        parties: audit.parties(),
        bytes,
        verdict: "right",
    };
    if json {
        out::json(&audited);
        return Ok(());
    }
    println!(
        "round {round} of {}: {} of {} blocks added up again here from the ciphertexts of {} full nodes: right ({} bytes fetched)",
        audited.task,
        audited.blocks.len(),
        audited.of_blocks,
        audited.parties,
        audited.bytes
    );
    Ok(())
}

/// Check somebody else's proof.
fn check(audit: &LightAudit, path: &std::path::Path, round: u64) -> Outcome {
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|e| Failure::Input(format!("{place}: {e}")))?;
    let proof = defim_he::audit::FraudProof::from_bytes(&bytes)
        .map_err(|e| Failure::Input(format!("{place}: {e}")))?;
    match audit.check(&proof) {
        Ok(fraud) => Err(Failure::Integrity(format!(
            "the proof holds: the sum of round {round} is wrong ({fraud:?}), and the aggregation node signed it"
        ))),
        Err(why) => Err(Failure::Input(format!(
            "{place} proves nothing against round {round}: {why}"
        ))),
    }
}
