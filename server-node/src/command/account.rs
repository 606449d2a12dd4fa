//! `defim account`: balances, and giving from one's own.

use defim_ledger::{Body, Canonical as _, Genesis, NodeId, NodeKey};

use super::{mesh::MeshClient, out};
use crate::{
    cli::{AccountShow, AccountTransfer},
    failure::{Failure, Outcome},
    http::GenesisView,
    ledger::{
        client::{LedgerClient, Submitted},
        codec::unb64,
        setup,
    },
};

/// A client of the ledger behind a mesh. The genesis is the mesh's own word, unless `chain` pins it.
///
/// # Errors
///
/// [`Failure::Integrity`] if the chain is another one than is pinned.
pub async fn ledger(mesh: &str, chain: Option<&str>) -> Outcome<LedgerClient> {
    let client = MeshClient::new(mesh)?;
    let view: GenesisView = client.get("/ledger/genesis").await?;
    let genesis = Genesis::from_bytes(&unb64(&view.genesis)?)
        .map_err(|e| Failure::Integrity(format!("the genesis is refused: {e}")))?;
    if let Some(chain) = chain.filter(|chain| *chain != genesis.chain().to_string()) {
        return Err(Failure::Integrity(format!(
            "the mesh's chain is {}, not {chain}; it is another ledger",
            genesis.chain()
        )));
    }
    LedgerClient::new(
        genesis,
        vec![format!("{}/api/v1", mesh.trim_end_matches('/'))],
    )
}

/// Whose account is meant.
fn owner(key: Option<&std::path::Path>, id: Option<&str>) -> Outcome<NodeId> {
    match (key, id) {
        (Some(path), _) => Ok(setup::read_key(path)?.id()),
        (None, Some(text)) => text.parse().map_err(|_| {
            Failure::Usage(format!(
                "\"{text}\" is no account: it is a key in base64url"
            ))
        }),
        (None, None) => Err(Failure::Usage(
            "name an account, or its key with --key FILE".into(),
        )),
    }
}

/// `defim account show`.
///
/// # Errors
///
/// [`Failure`].
pub async fn show(args: AccountShow, json: bool) -> Outcome {
    let owner = owner(args.key.as_deref(), args.account.as_deref())?;
    let ledger = ledger(&args.mesh, args.chain.as_deref()).await?;
    let account = ledger.account(owner).await?;
    if json {
        out::json(&serde_json::json!({
            "account": owner, "balance": account.balance, "nonce": account.nonce, "height": ledger.height(),
        }));
    } else {
        println!(
            "{owner}: {} points (proven under block {})",
            account.balance,
            ledger.height()
        );
    }
    Ok(())
}

/// `defim account transfer`.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger refuses it.
pub async fn transfer(args: AccountTransfer, json: bool) -> Outcome {
    let key = setup::read_key(&args.key)?;
    let to = owner(None, Some(&args.to))?;
    let ledger = ledger(&args.mesh, args.chain.as_deref()).await?;
    let body = Body::Transfer {
        to,
        amount: args.amount,
    };
    let before = ledger.account(key.id()).await?.nonce;
    carry_out(&ledger, &key, body, async || {
        let nonce = ledger.account(key.id()).await?.nonce;
        Ok((nonce > before).then_some(()))
    })
    .await?;
    let left = ledger.account(key.id()).await?.balance;
    if json {
        out::json(&serde_json::json!({ "to": to, "amount": args.amount, "left": left }));
    } else {
        println!("{} points given to {to}; {left} are left", args.amount);
    }
    Ok(())
}

/// How often a transaction is sent, if another one of the same account comes first.
const SENDS: usize = 3;
/// How often its block is looked for, and how long between.
const LOOKS: usize = 100;
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);
/// How long another transaction of the account may take into its block.
const OTHERS: std::time::Duration = std::time::Duration::from_secs(1);

/// Send a transaction with the account's next number, and wait until `effect` shows in a final block what it has done. The
/// aggregation node may sign with the same admin's key at the same time: then it is sent again with a later number.
///
/// # Errors
///
/// [`Failure::Input`] with the ledger's reason; [`Failure::Unreachable`] if it takes longer than blocks take.
pub async fn carry_out<T>(
    ledger: &LedgerClient,
    key: &NodeKey,
    body: Body,
    effect: impl AsyncFn() -> Outcome<Option<T>>,
) -> Outcome<T> {
    for send in 1..=SENDS {
        let before = ledger.account(key.id()).await?.nonce;
        let passed =
            async || -> Outcome<bool> { Ok(ledger.account(key.id()).await?.nonce > before) };
        let answers = ledger.submit(key, vec![body.clone()]).await?;
        if let Some(Submitted::Refused(why)) = answers.into_iter().next() {
            tokio::time::sleep(OTHERS).await;
            if send < SENDS && passed().await? {
                continue;
            }
            return Err(Failure::Input(why));
        }
        for _ in 0..LOOKS {
            // In this order: what was carried out before the number had passed shows in the next look.
            let over = passed().await?;
            if let Some(found) = effect().await? {
                return Ok(found);
            }
            if over {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        if !passed().await? {
            return Err(late());
        }
    }
    Err(Failure::Other(
        "other transactions of the same account came first; try again".into(),
    ))
}

/// Wait until an account's transaction is in a final block.
///
/// # Errors
///
/// [`Failure::Unreachable`] if that takes longer than blocks take.
pub async fn settled(ledger: &LedgerClient, owner: NodeId, nonce: u64) -> Outcome {
    for _ in 0..LOOKS {
        if ledger.account(owner).await?.nonce > nonce {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(late())
}

fn late() -> Failure {
    Failure::Unreachable(
        "the transaction waits for a block; the ledger needs three of four validation nodes to go on".into(),
    )
}
