//! `defim account`: balances, and giving from one's own.

use defim_ledger::{Body, Canonical as _, Genesis, NodeId};

use super::{confirm::carried_out, mesh::MeshClient, out};
use crate::{
    cli::{AccountShow, AccountTransfer},
    failure::{Failure, Outcome},
    http::GenesisView,
    ledger::{client::LedgerClient, codec::unb64, setup},
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
    let done = carried_out(&MeshClient::new(&args.mesh)?, &ledger, &key, body).await?;
    let left = ledger.account(key.id()).await?.balance;
    if json {
        out::json(&serde_json::json!({
            "to": to, "amount": args.amount, "left": left, "transaction": done.id, "height": done.height,
        }));
    } else {
        println!("{} points given to {to}; {left} are left", args.amount);
    }
    Ok(())
}
