//! `defim ledger`: shows blocks, and verifies the whole chain by itself.

use std::{path::Path, sync::Arc};

use defim_aggregation::repeat::Fault;
use defim_ledger::{
    Block, Canonical as _, Digest, Genesis, NodeId, State, apply,
    light::{Certificate, LightChain},
};
use defim_validation::evidence::Evidence;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{mesh::MeshClient, out};
use crate::{
    cli::{LedgerShow, LedgerVerify},
    clock,
    failure::{Failure, Outcome},
    http::{GenesisView, StoredBlocks},
    ledger::{codec::unb64, view::BlockView},
};

/// `defim ledger show`.
///
/// # Errors
///
/// [`Failure`].
pub async fn show(args: LedgerShow, json: bool) -> Outcome {
    let client = MeshClient::new(&args.mesh)?;
    let before = args
        .before
        .map_or_else(String::new, |height| format!("&before={height}"));
    let path = format!("/ledger/blocks?limit={}{before}", args.limit);
    let blocks: Vec<BlockView> = client.get(&path).await?;
    for block in blocks.iter().rev() {
        if json {
            out::json(block);
            continue;
        }
        let signers = match block.signers.is_empty() {
            true => "final by a block above".to_owned(),
            false => format!("signed by {}", block.signers.join(", ")),
        };
        println!("block {}  {}  {signers}", block.height, block.digest);
        for tx in &block.txs {
            println!("  {:<14} {}", tx.from, tx.text);
        }
    }
    Ok(())
}

/// What was verified, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Verified {
    chain: Digest,
    /// The newest final block.
    pub height: u64,
    digest: Digest,
    state: Digest,
    transactions: u64,
    certificates: u64,
    /// Finished rounds.
    pub rounds: u64,
    /// Everything that was issued, wherever it is now.
    supply: u128,
    /// Bytes of the blocks and certificates.
    pub bytes: u64,
    wall_s: f64,
}

/// `defim ledger verify`.
///
/// # Errors
///
/// [`Failure::Integrity`] with the first thing that is wrong.
pub async fn verify(args: LedgerVerify, json: bool) -> Outcome {
    if let Some(path) = &args.evidence {
        return evidence(path, json);
    }
    let verified = check(&args.mesh, args.chain.as_deref()).await?;
    if json {
        out::json(&verified);
        return Ok(());
    }
    println!(
        "chain {}: {} blocks verified from the genesis on, with {} transactions, {} certificates and {} finished rounds, in {:.1} s",
        verified.chain,
        verified.height,
        verified.transactions,
        verified.certificates,
        verified.rounds,
        verified.wall_s
    );
    println!(
        "  state {}, all {} points accounted for",
        verified.state, verified.supply
    );
    if args.chain.is_none() {
        println!(
            "  the genesis is this mesh's own word; compare the chain's id with one you were given, or pin it with --chain"
        );
    }
    Ok(())
}

/// Verify a whole ledger, pinned to a chain's id if there is one.
///
/// # Errors
///
/// [`Failure::Integrity`] with the first thing that is wrong.
pub async fn check(mesh: &str, pinned: Option<&str>) -> Outcome<Verified> {
    let started = clock::start();
    let client = MeshClient::new(mesh)?;
    let view: GenesisView = client.get("/ledger/genesis").await?;
    let genesis = Genesis::from_bytes(&unb64(&view.genesis)?).map_err(|e| refused(&e))?;
    let pinned = match pinned {
        Some(text) => text.parse().map_err(|_| {
            Failure::Usage(format!(
                "\"{text}\" is no chain id: it is a digest in base64url"
            ))
        })?,
        None => genesis.chain(),
    };
    let light = LightChain::begin(&genesis, &pinned).map_err(|e| refused(&e))?;
    let state = State::genesis(&genesis).map_err(|e| refused(&e))?;
    let mut last = Block::genesis(&genesis).map_err(|e| refused(&e))?;
    // Reading, certificates and transactions cost about as much each, and none waits for another.
    let (to_certificates, pages) = mpsc::channel(PAGES);
    let certified = tokio::task::spawn_blocking(move || certify(light, pages));
    let (to_state, pages) = mpsc::channel(PAGES);
    let carried_out = tokio::task::spawn_blocking(move || carry_out(state, pages));
    let mut size = 0;
    loop {
        let next = last.header().height + 1;
        let bytes = client.bytes(&format!("/ledger/chain?from={next}")).await?;
        size += bytes.len() as u64;
        let page = read(&bytes, &mut last)?;
        if page.is_empty() {
            break;
        }
        let page = Arc::new(page);
        let one = to_certificates.send(page.clone()).await.is_ok();
        // Who takes no more has found what is wrong, and says it below.
        if !one || to_state.send(page).await.is_err() {
            break;
        }
    }
    drop((to_certificates, to_state));
    let broke = |e: tokio::task::JoinError| Failure::Other(e.to_string());
    let (certificates, open) = certified.await.map_err(broke)??;
    let (state, transactions) = carried_out.await.map_err(broke)??;
    let supply = state.supply().total();
    if supply != u128::from(genesis.supply) {
        return Err(refused(&format!(
            "{supply} points are there, but {} were issued",
            genesis.supply
        )));
    }
    Ok(Verified {
        chain: genesis.chain(),
        height: last.header().height - open,
        digest: last.digest(),
        state: state.root(),
        transactions,
        certificates,
        rounds: state.tasks().values().map(|task| task.finished).sum(),
        supply,
        bytes: size,
        wall_s: started.elapsed().as_secs_f64(),
    })
}

/// Blocks with their certificates, ascending.
type Page = Arc<Vec<(Block, Option<Certificate>)>>;

/// Pages that wait to be checked.
const PAGES: usize = 2;

fn refused(why: &dyn std::fmt::Display) -> Failure {
    Failure::Integrity(format!("the ledger is refused: {why}"))
}

/// Blocks that follow each other from `last` on, which is then the last of them.
fn read(bytes: &[u8], last: &mut Block) -> Outcome<Vec<(Block, Option<Certificate>)>> {
    let stored: StoredBlocks = postcard::from_bytes(bytes)
        .map_err(|e| Failure::Integrity(format!("the blocks cannot be read: {e}")))?;
    let mut page = Vec::with_capacity(stored.0.len());
    for (block, certificate) in stored.0 {
        let block = Block::from_bytes(&block).map_err(|e| refused(&e))?;
        if block.header().parent != last.digest() {
            let height = block.header().height;
            return Err(refused(&format!(
                "block {height} does not follow the one below it"
            )));
        }
        let certificate = certificate.map(|bytes| Certificate::from_bytes(&bytes));
        let certificate = certificate.transpose().map_err(|e| refused(&e))?;
        *last = block.clone();
        page.push((block, certificate));
    }
    Ok(page)
}

/// Check all certificates: how many there are, and how many blocks at the end wait for one above them.
fn certify(mut light: LightChain, mut pages: mpsc::Receiver<Page>) -> Outcome<(u64, u64)> {
    let (mut certificates, mut open) = (0, 0);
    while let Some(page) = pages.blocking_recv() {
        for (block, certificate) in page.iter() {
            let Some(certificate) = certificate else {
                open += 1;
                continue;
            };
            let height = block.header().height;
            light
                .advance(block.header().clone(), certificate)
                .map_err(|e| refused(&format!("block {height}: {e}")))?;
            certificates += 1;
            open = 0;
        }
    }
    Ok((certificates, open))
}

/// Carry out all blocks: the state after them, and how many transactions they have.
fn carry_out(mut state: State, mut pages: mpsc::Receiver<Page>) -> Outcome<(State, u64)> {
    let mut transactions = 0;
    while let Some(page) = pages.blocking_recv() {
        for (block, _) in page.iter() {
            let height = block.header().height;
            apply(&mut state, block).map_err(|e| refused(&format!("block {height}: {e}")))?;
            transactions += block.txs().len() as u64;
        }
    }
    Ok((state, transactions))
}

/// Check evidence against an aggregation node.
fn evidence(path: &Path, json: bool) -> Outcome {
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|e| Failure::Input(format!("{place}: {e}")))?;
    let nothing =
        |e: defim_validation::evidence::NoEvidence| Failure::Input(format!("{place}: {e}"));
    // What the decoder says of other bytes helps nobody.
    let evidence = Evidence::from_bytes(&bytes).map_err(|_| {
        Failure::Input(format!(
            "{place} is no evidence of a fault; a validation node that complains has it, under /api/v1/ledger/evidence and the digest in its vote"
        ))
    })?;
    let digest = Digest::of(&bytes);
    match evidence.check().map_err(nothing)? {
        None => Err(Failure::Input(format!(
            "{place} shows no fault: the round comes out as its record says"
        ))),
        Some(fault) => {
            let accused = accused(&fault, evidence.record.signer);
            let what = match &fault {
                Fault::Batch { .. } => "signed a batch that is none, as leader of its committee",
                _ => "signed a record that is not so",
            };
            if json {
                out::json(&serde_json::json!({
                    "evidence": digest, "accused": accused, "fault": fault.to_string(),
                }));
            } else {
                println!("the evidence holds ({digest})");
                println!("  node {accused} {what}: {fault}");
            }
            Ok(())
        }
    }
}

/// Who answers for a fault: for a batch the leader of the committee that signed it, for all else who signed the record.
fn accused(fault: &Fault, signer: NodeId) -> NodeId {
    match fault {
        Fault::Batch { signers, .. } => signers.first().copied().unwrap_or(signer),
        _ => signer,
    }
}

#[cfg(test)]
mod tests {
    use defim_aggregation::repeat::BatchFault;

    use super::*;

    #[test]
    fn a_batch_is_its_leaders_fault_and_a_record_its_signers() {
        let [aggregation, leader, helper] = [1, 2, 3].map(|n| NodeId([n; 32]));
        let batch = Fault::Batch {
            committee: 0,
            signers: vec![leader, helper],
            why: BatchFault::Count { said: 2, have: 3 },
        };
        assert_eq!(accused(&batch, aggregation), leader);
        assert_eq!(accused(&Fault::Sum, aggregation), aggregation);
    }
}
