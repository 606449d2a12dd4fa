//! What admins do on the ledger: `defim task invite`, `approve`, `revoke` and `enrolled`, `defim node enrol` and `remove`.

use defim_ledger::{
    Admission, Body, InviteCode, LightSlot, NodeEntry, NodeId, NodeKey, NodeStatus, TaskId,
};
use defim_protocol::AdmissionRule;
use rand::RngCore as _;

use super::{account, confirm::carried_out, mesh::MeshClient, out};
use crate::{
    cli::{AdminArgs, NodeEnrol, NodeRemove, TaskEnrolled, TaskInvite, TaskKey},
    clock,
    failure::{Failure, Outcome},
    ledger::{client::LedgerClient, codec::Place, setup},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A task whose manifest was verified, and how light nodes come to it.
struct Task {
    id: TaskId,
    name: String,
    rule: Option<AdmissionRule>,
}

async fn task(mesh: &str, name: &str) -> Outcome<Task> {
    let view = MeshClient::new(mesh)?.task(name).await?;
    let joined = view.join()?;
    Ok(Task {
        id: joined.task(),
        name: view.name,
        rule: joined.admission(),
    })
}

impl AdminArgs {
    /// The key that signs. Read first: nothing is asked of a mesh without it.
    fn key(&self) -> Outcome<NodeKey> {
        setup::read_key(&self.admin_key)
    }

    async fn ledger(&self) -> Outcome<LedgerClient> {
        account::ledger(&self.mesh, self.chain.as_deref()).await
    }
}

fn key_of(text: &str, whose: &str) -> Outcome<NodeId> {
    text.parse().map_err(|_| {
        Failure::Usage(format!(
            "\"{text}\" is no key of a {whose}: it has 43 letters, digits, - and _"
        ))
    })
}

/// `defim task invite`.
///
/// # Errors
///
/// [`Failure::Input`] if the task takes no invites, or the ledger refuses it.
pub async fn invite(args: TaskInvite, json: bool) -> Outcome {
    let TaskInvite {
        task: name,
        uses,
        days,
        admin,
    } = args;
    let key = admin.key()?;
    let Task { id, name, rule } = task(&admin.mesh, &name).await?;
    let instead = match rule {
        Some(AdmissionRule::Invite) => None,
        Some(AdmissionRule::Open) => Some("anybody enrols for it by themselves"),
        Some(AdmissionRule::Approved) => Some("admins let keys in: `defim task approve TASK KEY`"),
        None => Some("anybody contributes to it"),
    };
    if let Some(instead) = instead {
        return Err(Failure::Input(format!(
            "task {name} takes no invites: {instead}; one made with `--admission invite` does"
        )));
    }
    let ledger = admin.ledger().await?;
    let mut random = [0; 16];
    rand::rng().fill_bytes(&mut random);
    let code = InviteCode::new(random);
    let invite = code.key().id();
    let until_ms = clock::now().saturating_add(u64::from(days) * DAY_MS);
    let body = Body::CreateInvite {
        task: id,
        invite,
        uses,
        until_ms,
    };
    let block = carried_out(&MeshClient::new(&admin.mesh)?, &ledger, &key, body)
        .await?
        .height;
    if json {
        out::json(&serde_json::json!({
            "task": name, "code": code.to_string(), "uses": uses, "untilMs": until_ms, "block": block,
        }));
    } else {
        let whom = match uses {
            1 => "one light node".to_owned(),
            many => format!("{many} light nodes"),
        };
        let days = match days {
            1 => "a day".to_owned(),
            many => format!("{many} days"),
        };
        println!("{code}");
        println!(
            "  lets {whom} into task {name} for {days} (block {block}). It is shown this once: whoever has it can enrol."
        );
    }
    Ok(())
}

/// Whether a key takes part in a task, as it is proven now, with the block's height.
async fn takes_part(ledger: &LedgerClient, task: TaskId, key: NodeId) -> Outcome<(u64, bool)> {
    let (header, light) = ledger
        .at(Place::Light(task, key), &LightSlot(task, key))
        .await?;
    Ok((
        header.header().height,
        light.is_some_and(|light| light.active),
    ))
}

/// `defim task approve`.
///
/// # Errors
///
/// [`Failure::Input`] if anybody contributes to the task, or the ledger refuses it.
pub async fn approve(args: TaskKey, json: bool) -> Outcome {
    let key = args.admin.key()?;
    let light = key_of(&args.key, "light node")?;
    let Task { id, name, rule } = task(&args.admin.mesh, &args.task).await?;
    if rule.is_none() {
        return Err(Failure::Input(format!(
            "task {name} lets nobody in, because anybody contributes to it; one made with `--admission approved` does"
        )));
    }
    let ledger = args.admin.ledger().await?;
    let body = Body::EnrolLight {
        task: id,
        key: light,
        by: Admission::Approved,
    };
    let block = carried_out(&MeshClient::new(&args.admin.mesh)?, &ledger, &key, body)
        .await?
        .height;
    if json {
        out::json(&serde_json::json!({ "task": name, "key": light, "block": block }));
    } else {
        println!("{light} takes part in task {name} (proven under block {block})");
    }
    Ok(())
}

/// `defim task revoke`.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger refuses it.
pub async fn revoke(args: TaskKey, json: bool) -> Outcome {
    let key = args.admin.key()?;
    let light = key_of(&args.key, "light node")?;
    let Task { id, name, .. } = task(&args.admin.mesh, &args.task).await?;
    let ledger = args.admin.ledger().await?;
    let body = Body::RemoveLight {
        task: id,
        key: light,
    };
    let block = carried_out(&MeshClient::new(&args.admin.mesh)?, &ledger, &key, body)
        .await?
        .height;
    if json {
        out::json(&serde_json::json!({ "task": name, "key": light, "block": block }));
    } else {
        println!(
            "{light} takes part in task {name} no longer (proven under block {block}); it cannot enrol itself again"
        );
    }
    Ok(())
}

/// `defim task enrolled`. Each key that is listed is proven; that none is missing is a validator's word.
///
/// # Errors
///
/// [`Failure::Integrity`] if a key that is listed is not enrolled.
pub async fn enrolled(args: TaskEnrolled, json: bool) -> Outcome {
    let Task { id, name, .. } = task(&args.mesh, &args.task).await?;
    let ledger = account::ledger(&args.mesh, args.chain.as_deref()).await?;
    let mut keys = Vec::new();
    for key in ledger.lights(id).await? {
        // One that was removed since the list was made is none.
        if takes_part(&ledger, id, key).await?.1 {
            keys.push(key);
        }
    }
    if json {
        out::json(&serde_json::json!({ "task": name, "keys": keys, "block": ledger.height() }));
        return Ok(());
    }
    for key in &keys {
        println!("{key}");
    }
    println!(
        "{} enrolled for task {name}, each proven up to block {}",
        keys.len(),
        ledger.height()
    );
    Ok(())
}

/// `defim node enrol`.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger refuses it.
pub async fn enrol_node(args: NodeEnrol, json: bool) -> Outcome {
    let key = args.admin.key()?;
    let node = key_of(&args.node, "node")?;
    let wanted = NodeEntry {
        role: args.role.role(),
        name: args.name,
        address: args.address,
        status: NodeStatus::Active,
    };
    let ledger = args.admin.ledger().await?;
    let body = Body::EnrolNode {
        node,
        role: wanted.role,
        name: wanted.name.clone(),
        address: wanted.address.clone(),
    };
    let block = carried_out(&MeshClient::new(&args.admin.mesh)?, &ledger, &key, body)
        .await?
        .height;
    if json {
        out::json(&serde_json::json!({ "node": node, "entry": wanted, "block": block }));
    } else {
        println!(
            "{} ({node}) takes part in the mesh (proven under block {block})",
            wanted.name
        );
    }
    Ok(())
}

/// `defim node remove`.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger refuses it.
pub async fn remove_node(args: NodeRemove, json: bool) -> Outcome {
    let key = args.admin.key()?;
    let node = key_of(&args.node, "node")?;
    let ledger = args.admin.ledger().await?;
    let block = carried_out(
        &MeshClient::new(&args.admin.mesh)?,
        &ledger,
        &key,
        Body::RemoveNode { node },
    )
    .await?
    .height;
    if json {
        out::json(&serde_json::json!({ "node": node, "block": block }));
    } else {
        println!("{node} takes part in the mesh no longer (proven under block {block})");
    }
    Ok(())
}
