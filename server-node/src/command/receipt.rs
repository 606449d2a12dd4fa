//! What a native light node does on the ledger: it enrols its key, checks that a round's opening is final, gets its receipt, and
//! claims its reward.

use std::time::Duration;

use defim_ledger::{
    Account, Canonical as _, Digest, LightSlot, NodeKey, RoundSlot, Stage, TaskId, light::Receipt,
};
use defim_light::{JoinedTask, enrolment::Sender};
use defim_protocol::{AdmissionRule, ReportId, RoundNumber};
use serde::Serialize;

use super::{account, mesh::MeshClient};
use crate::{
    failure::{Failure, Outcome},
    http::ReceiptView,
    ledger::{
        client::{LedgerClient, Submitted},
        codec::{Place, read},
    },
};

const POLL: Duration = Duration::from_millis(300);
/// How often something is looked for that the ledger has within a few blocks.
const TRIES: usize = 100;

/// A receipt that was verified here.
#[derive(Debug, Clone, Serialize)]
pub struct Receipted {
    /// The block under which it was checked.
    pub height: u64,
    /// Validators whose signatures make that block final.
    pub signers: usize,
    /// What the report earns.
    pub reward: u64,
    /// Whether the reward was claimed.
    pub claimed: bool,
}

async fn send(ledger: &LedgerClient, tx: Vec<u8>) -> Outcome {
    match ledger.send(tx).await? {
        Submitted::Waiting(_) => Ok(()),
        Submitted::Refused(why) => Err(Failure::Input(why)),
    }
}

/// Enrol a key for a task, if it is not.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger does not admit it.
pub async fn enrol(
    ledger: &LedgerClient,
    task: &JoinedTask,
    rule: AdmissionRule,
    key: &NodeKey,
    invite: Option<&str>,
) -> Outcome {
    let (id, owner) = (task.task(), key.id());
    let place = Place::Light(id, owner);
    let active = async || -> Outcome<bool> {
        let light = ledger.at(place, &LightSlot(id, owner)).await?.1;
        Ok(light.is_some_and(|light| light.active))
    };
    if active().await? {
        return Ok(());
    }
    let Account { nonce, .. } = ledger.account(owner).await?;
    let sender = Sender {
        key,
        chain: ledger.genesis().chain(),
        nonce,
    };
    send(ledger, sender.enrol(&id, rule, invite)?).await?;
    for _ in 0..TRIES {
        if active().await? {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Unreachable(
        "the enrolment waits for a block; the ledger needs three of four validation nodes to go on"
            .into(),
    ))
}

/// Wait until exactly this opening of a round is on the ledger and takes reports: nobody is given a round of their own.
///
/// # Errors
///
/// [`Failure::Integrity`] if the ledger has another opening of the round.
pub async fn is_final(
    ledger: &LedgerClient,
    task: TaskId,
    round: RoundNumber,
    randomness: Digest,
) -> Outcome<u64> {
    for _ in 0..TRIES {
        let place = Place::Round(task, round);
        let (header, entry) = ledger.at(place, &RoundSlot(task, round)).await?;
        match entry {
            Some(entry) if entry.randomness != randomness => {
                return Err(Failure::Integrity(format!(
                    "the ledger has another opening of round {round} than this mesh gives; nothing was sent"
                )));
            }
            Some(_) => return Ok(header.header().height),
            None => tokio::time::sleep(POLL).await,
        }
    }
    Err(Failure::Unreachable(format!(
        "the opening of round {round} is not final on the ledger; nothing was sent. Try again in a moment"
    )))
}

/// Get and verify the receipt of a counted report, and claim its reward with the key that it is counted under.
///
/// # Errors
///
/// [`Failure`] if there is none in time, or it proves nothing.
pub async fn receipt(
    client: &MeshClient,
    ledger: &LedgerClient,
    task: TaskId,
    round: RoundNumber,
    report: ReportId,
    key: Option<&NodeKey>,
) -> Outcome<Receipted> {
    // The round is finished on the ledger a few blocks after it is here.
    for _ in 0..TRIES {
        let entry = ledger.round(task, round).await?;
        match entry.map(|entry| entry.stage) {
            Some(Stage::Finished { .. }) => break,
            Some(Stage::Voided { .. }) => {
                return Err(Failure::Other(format!(
                    "the ledger has voided round {round}: nobody's contribution was used"
                )));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
    let path = format!("/ledger/receipt/{task}/{round}/{report}");
    let view: ReceiptView = client.get(&path).await?;
    let receipt: Receipt = read(&view.receipt)?;
    let header = ledger.follow(&view.sealed).await?;
    let refused = |why: String| Failure::Integrity(format!("the receipt is refused: {why}"));
    if (receipt.task, receipt.round) != (task, round) {
        return Err(refused("it is of another round".into()));
    }
    let counted = receipt
        .verify(&header, &report)
        .map_err(|e| refused(e.to_string()))?;
    if let Some(key) = key {
        let sender = Sender {
            key,
            chain: ledger.genesis().chain(),
            nonce: ledger.account(key.id()).await?.nonce,
        };
        let before = sender.nonce;
        send(ledger, sender.claim(&receipt.to_bytes(), report)?).await?;
        account::settled(ledger, key.id(), before).await?;
    }
    Ok(Receipted {
        height: counted.height,
        signers: header.signers().len(),
        reward: counted.reward,
        claimed: key.is_some(),
    })
}
