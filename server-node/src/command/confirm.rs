//! Transactions of a key that others may use at the same time: sent again with the next number where another one came
//! first, and looked for in the final blocks by their id.

use std::time::Duration;

use defim_ledger::{AccountSlot, Block, Body, Canonical as _, Digest, Header, NodeKey, Reject, Tx};
use defim_validation::Refused;

use super::mesh::MeshClient;
use crate::{
    failure::{Failure, Outcome},
    http::StoredBlocks,
    ledger::{
        client::{LedgerClient, Submitted},
        codec::Place,
    },
};

const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked, for a transaction that takes a few blocks.
const LOOKS: usize = 150;

/// Whether a refusal says that another transaction of the account came first.
pub fn came_second(why: &str, nonce: u64) -> bool {
    why == Refused::<Reject>::Taken(nonce).to_string() || why == Reject::NonceUsed.text()
}

/// That what was sent is in no final block.
pub fn late() -> Failure {
    Failure::Unreachable(
        "the transaction waits for a block; the ledger needs three of four validation nodes to go on".into(),
    )
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// What names it.
    pub id: Digest,
    /// The final block that it is in.
    pub height: u64,
}

/// Send a transaction, and wait until it is in a final block.
///
/// # Errors
///
/// [`Failure::Input`] with the ledger's reason, [`Failure::Unreachable`] if it takes longer than blocks take.
pub async fn carried_out(
    client: &MeshClient,
    ledger: &LedgerClient,
    key: &NodeKey,
    body: Body,
) -> Outcome<Carried> {
    let (place, slot) = (Place::Account(key.id()), AccountSlot(key.id()));
    // Number and id of what was sent, and a height below its block.
    let mut sent: Option<(u64, Digest, u64)> = None;
    for _ in 0..LOOKS {
        let (header, account) = ledger.at(place, &slot).await?;
        let (head, nonce) = (header.header(), account.unwrap_or_default().nonce);
        if let Some((number, id, below)) = sent
            && number < nonce
        {
            if let Some(height) = find(client, id, below, head).await? {
                return Ok(Carried { id, height });
            }
            // Another one has its number: it can be in no block any more.
            sent = None;
        }
        if sent.is_none() {
            let tx = Tx {
                from: key.id(),
                nonce,
                chain: ledger.genesis().chain(),
                body: body.clone(),
            };
            let id = tx.id();
            match ledger.send(tx.sign(key).to_bytes()).await? {
                Submitted::Waiting(_) => sent = Some((nonce, id, head.height)),
                Submitted::Refused(why) if came_second(&why, nonce) => {}
                Submitted::Refused(why) => return Err(Failure::Input(why)),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(match sent {
        Some(_) => late(),
        None => Failure::Unreachable(
            "other transactions of this account came first again and again; nothing was sent, try again later".into(),
        ),
    })
}

/// The height of the transaction's block, among those above `below` up to a head that is proven. A mesh that leaves a block
/// out would have the same sent twice: the blocks have to lead to the head.
async fn find(client: &MeshClient, id: Digest, below: u64, head: &Header) -> Outcome<Option<u64>> {
    let wrong = || {
        Failure::Integrity(
            "the mesh gives other blocks than those that its validators signed; look at the account's balance before sending again".into(),
        )
    };
    let (mut height, mut last, mut found) = (below, None, None);
    while height < head.height {
        let path = format!("/ledger/chain?from={}", height + 1);
        let bytes = client.bytes(&path).await?;
        let stored: StoredBlocks = postcard::from_bytes(&bytes).map_err(|_| wrong())?;
        if stored.0.is_empty() {
            return Err(wrong());
        }
        for (block, _) in stored.0 {
            if height == head.height {
                break;
            }
            height += 1;
            let block = Block::from_bytes(&block).map_err(|_| wrong())?;
            let follows = last.is_none_or(|last| block.header().parent == last);
            if block.header().height != height || !follows {
                return Err(wrong());
            }
            if block.txs().iter().any(|tx| tx.id() == id) {
                found = Some(height);
            }
            last = Some(block.digest());
        }
    }
    match last == Some(head.digest()) {
        true => Ok(found),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_that_is_taken_is_worth_another_try() {
        assert!(came_second(
            "another transaction of the account has number 26; use the next number",
            26
        ));
        assert!(came_second(Reject::NonceUsed.text(), 26));
        assert!(!came_second(Reject::InsufficientBalance.text(), 26));
    }
}
