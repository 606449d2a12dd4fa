//! `defim node run`: one role as its own process.

use std::{path::Path, sync::Arc};

use defim_ledger::Genesis;

use super::out;
use crate::{
    config::{Directory, NodeConfig, Role, load_or_make_token},
    failure::{Failure, Outcome},
    http,
    ledger::{clerk::Clerk, client::LedgerClient, setup, validator::Validator},
    node::{
        aggregation::{AggregationNode, NewTask},
        start::{Listening, directory, make_folder},
        task::TaskRequest,
    },
};

/// Ends when the process is told to stop.
pub async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

/// Create the tasks that are not there yet.
///
/// # Errors
///
/// [`Failure`] naming the task that is refused.
pub async fn create_tasks(node: &AggregationNode, tasks: Vec<TaskRequest>) -> Outcome {
    for request in tasks {
        let new = NewTask::try_from(request)?;
        if node.find(&new.name).await.is_none() {
            node.create(new).await?;
        }
    }
    Ok(())
}

/// A client of the ledger that a configuration names.
fn client(genesis: Option<Genesis>, peers: &Directory) -> Outcome<Option<LedgerClient>> {
    let Some(genesis) = genesis else {
        return Ok(None);
    };
    let validators = peers.values().filter(|peer| peer.role == Role::Validation);
    let bases = validators.map(|peer| peer.http.clone()).collect();
    LedgerClient::new(genesis, bases).map(Some)
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(path: &Path, json: bool) -> Outcome {
    let config = NodeConfig::read(path)?;
    make_folder(&config.data)?;
    let (name, role, address) = (config.name.clone(), config.role, config.http);
    let full_nodes = config
        .peers
        .iter()
        .filter(|peer| peer.role == Role::Full)
        .count();
    if role == Role::Aggregation && full_nodes < 2 {
        return Err(Failure::Input(format!(
            "the configuration {} names {full_nodes} full nodes; a committee needs two",
            path.display()
        )));
    }
    let peers = directory(config.peers.clone());
    let (data, web, tasks) = (
        config.data.clone(),
        config.web.clone(),
        config.tasks.clone(),
    );
    let (genesis, admin_key, validators) = (
        config.genesis.clone(),
        config.admin_key.clone(),
        config.validators,
    );
    for peer in peers.values() {
        let port = peer
            .http
            .rsplit(':')
            .next()
            .and_then(|port| port.trim_end_matches('/').parse().ok());
        if let Some(port) = port.filter(|port| http::is_blocked(*port)) {
            tracing::warn!(
                node = peer.name,
                "no page reaches this node: browsers refuse to ask port {port}"
            );
        }
    }
    let (listener, bound) = http::bind(address).await?;
    let genesis = genesis.as_deref().map(setup::read_genesis).transpose()?;
    let router = match role {
        Role::Full => {
            let ledger = client(genesis, &peers)?;
            let (node, _endpoint) = Listening::start(config).await?.full(peers).await?;
            node.follow(ledger);
            http::full_router(node)
        }
        Role::Aggregation => {
            let ledger = client(genesis, &peers)?;
            let listening = Listening::start(config).await?;
            let node = listening.aggregation(peers, ledger.is_some()).await?;
            create_tasks(&node, tasks).await?;
            if let Some(client) = &ledger {
                let admin = admin_key.as_deref().map(setup::read_key).transpose()?;
                let clerk = Clerk::new(node.clone(), client.clone(), node.key(), admin);
                tokio::spawn(clerk.run());
            }
            let admin_token = load_or_make_token(&data)?;
            http::mesh_router(http::Mesh {
                node,
                embedded: Arc::default(),
                admin_token: admin_token.into(),
                web,
                ledger,
                validators: Arc::default(),
            })?
        }
        Role::Validation => {
            let (Some(genesis), Some(listen)) = (genesis, validators) else {
                return Err(Failure::Input(
                    "a validation node needs a genesis and an address".into(),
                ));
            };
            let validator = Validator::start(name.clone(), &data, genesis, listen, &peers).await?;
            http::validator_router(validator)
        }
    };
    if json {
        out::json(
            &serde_json::json!({ "node": name, "role": role, "http": format!("http://{bound}") }),
        );
    } else {
        println!("{name} serves http://{bound}");
    }
    http::serve(listener, router, stopped()).await
}
