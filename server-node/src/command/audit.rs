//! `defim audit`: checks a finished round by random blocks of its encrypted sum.

use defim_ledger::{Round, Stage};
use defim_light::{Audit as LightAudit, JoinedTask, Verdict};
use defim_protocol::{Digest, RoundNumber, SignedText};
use rand::Rng as _;
use serde::Serialize;

use super::{account, mesh::MeshClient, out};
use crate::{
    cli::Audit,
    failure::{Failure, Outcome},
    http::GenesisView,
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
    /// The chain whose round has this record; none: it is the record that this server shows.
    chain: Option<Digest>,
    /// The block under which that was proven.
    height: Option<u64>,
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
    let named = named(&client, &args, &task, round, audit.record()).await?;
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
        chain: named.map(|named| named.chain),
        height: named.map(|named| named.height),
        verdict: "right",
    };
    if json {
        out::json(&audited);
        return Ok(());
    }
    let whose = match named {
        Some(Named { chain, height }) => {
            format!("of the record that the ledger {chain} has (proven under block {height})")
        }
        None => "of the record that this server shows; it has no ledger that names one".into(),
    };
    println!(
        "round {round} of {}: {} of {} blocks added up again here from the ciphertexts of {} full nodes: right ({} bytes fetched), {whose}",
        audited.task,
        audited.blocks.len(),
        audited.of_blocks,
        audited.parties,
        audited.bytes
    );
    Ok(())
}

/// Where the ledger names the record.
#[derive(Debug, Clone, Copy)]
struct Named {
    chain: Digest,
    height: u64,
}

/// That the ledger names this record, if the mesh has one.
async fn named(
    client: &MeshClient,
    args: &Audit,
    task: &JoinedTask,
    round: RoundNumber,
    record: Digest,
) -> Outcome<Option<Named>> {
    match client.get::<GenesisView>("/ledger/genesis").await {
        Ok(_) => {}
        // Who pins a chain wants its word.
        Err(Failure::Input(_)) if args.chain.is_none() => return Ok(None),
        Err(failure) => return Err(failure),
    }
    let ledger = account::ledger(&args.mesh, args.chain.as_deref()).await?;
    let there = ledger.round(task.task(), round).await?;
    is_named(there.as_ref(), round, record)?;
    Ok(Some(Named {
        chain: ledger.genesis().chain(),
        height: ledger.height(),
    }))
}

/// Whether the ledger's round has this record.
fn is_named(there: Option<&Round>, round: RoundNumber, record: Digest) -> Outcome {
    let named = match there.map(|there| &there.stage) {
        Some(Stage::Finished { record, .. }) => *record,
        Some(Stage::Proposed(_, proposed)) => proposed.record,
        Some(Stage::Voided { .. }) => {
            return Err(Failure::Input(format!(
                "the ledger has voided round {round}: it made no model"
            )));
        }
        Some(Stage::Open | Stage::Opened(_)) => {
            return Err(Failure::Input(format!(
                "round {round} is not finished on the ledger yet; try again in a moment"
            )));
        }
        None => {
            return Err(Failure::Input(format!(
                "the ledger has no round {round}, or has it no longer: it keeps a task's newest ones"
            )));
        }
    };
    match named == record {
        true => Ok(()),
        false => Err(Failure::Integrity(format!(
            "the record that this server shows of round {round} is {record}, but the ledger has {named}: it is another round than the one that counts"
        ))),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_the_record_that_the_ledger_names_is_right() {
        let (record, other) = (Digest([1; 32]), Digest([2; 32]));
        let at = |stage| Round {
            randomness: other,
            base_model: other,
            deadline_ms: 0,
            most_extra_weight: 0,
            batches: BTreeMap::new(),
            stage,
            votes: BTreeMap::new(),
            reserved: 0,
        };
        let finished = at(Stage::Finished {
            model: other,
            record,
            per_report: 0,
            unclaimed: 0,
        });
        assert!(is_named(Some(&finished), 1, record).is_ok());
        let lie = is_named(Some(&finished), 1, other);
        assert!(matches!(lie, Err(Failure::Integrity(_))));
        for unknown in [None, Some(&at(Stage::Open))] {
            let refused = is_named(unknown, 1, record);
            assert!(matches!(refused, Err(Failure::Input(_))));
        }
    }
}
