//! `defim node init`: keys and configurations for a mesh of separate processes.

use std::net::{IpAddr, SocketAddr};

use defim_net::native::address_of;

use super::{out, tasks::request};
use crate::{
    cli::{Init, ScheduleArgs},
    config::{NodeConfig, Peer, Role, load_or_make_seed, write_secret},
    failure::{Failure, Outcome},
    node::{
        start::{make_folder, peer_of},
        task::TaskRequest,
    },
};

const STEP: u16 = 10;

/// `digits` or `digits:mlp` as a request.
///
/// # Errors
///
/// [`Failure::Input`] if there is no such task or model.
pub fn task_request(text: &str, schedule: &ScheduleArgs) -> Outcome<TaskRequest> {
    let (task, model) = match text.split_once(':') {
        None => (text, None),
        Some((task, model)) => (task, Some(model)),
    };
    request(task, None, model, schedule)
}

fn config(args: &Init, name: &str, role: Role, first: u16) -> NodeConfig {
    let at = |port| SocketAddr::new(args.host, port);
    NodeConfig {
        name: name.to_owned(),
        role,
        data: name.into(),
        http: at(first),
        quic: at(first + 1),
        tcp: at(first + 1),
        webrtc: (role == Role::Full).then(|| at(first + 2)),
        silo: None,
        web: None,
        tasks: Vec::new(),
        peers: Vec::new(),
    }
}

fn peer(args: &Init, config: &NodeConfig) -> Outcome<Peer> {
    let folder = args.dir.join(&config.data);
    make_folder(&folder)?;
    let seed = load_or_make_seed(&folder)?;
    let addresses = address_of(&seed, config.quic, config.tcp)
        .map_err(|e| Failure::Other(format!("the key of {} cannot be used: {e}", config.name)))?;
    Ok(peer_of(
        config,
        &seed,
        format!("http://{}", config.http),
        addresses,
    ))
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub fn run(args: &Init, json: bool) -> Outcome {
    if matches!(args.host, IpAddr::V4(ip) if ip.is_unspecified()) || args.host.is_unspecified() {
        return Err(Failure::Usage(
            "--host is the address the nodes are reached at; it cannot be 0.0.0.0 or ::".into(),
        ));
    }
    let full = u16::from(args.full);
    if args.base_port.checked_add(STEP * full + 2).is_none() || args.base_port == 0 {
        return Err(Failure::Usage(format!(
            "--base-port leaves no room: the nodes take ports up to {} above it",
            STEP * full + 2
        )));
    }
    let mut aggregation = config(args, "aggregation", Role::Aggregation, args.base_port);
    aggregation.web = match &args.web {
        None => None,
        Some(web) => Some(
            std::path::absolute(web)
                .map_err(|e| Failure::Input(format!("{} cannot be used: {e}", web.display())))?,
        ),
    };
    aggregation.tasks = args
        .tasks
        .iter()
        .map(|task| task_request(task, &args.schedule))
        .collect::<Outcome<_>>()?;
    let mut nodes = vec![aggregation];
    for number in 1..=full {
        nodes.push(config(
            args,
            &format!("full-{number}"),
            Role::Full,
            args.base_port + STEP * number,
        ));
    }
    let peers = nodes
        .iter()
        .map(|node| peer(args, node))
        .collect::<Outcome<Vec<_>>>()?;
    let mut files = Vec::new();
    for node in &mut nodes {
        node.peers = peers
            .iter()
            .filter(|peer| peer.name != node.name)
            .cloned()
            .collect();
        let text = toml::to_string(node).map_err(|e| {
            Failure::Other(format!(
                "the configuration of {} cannot be written: {e}",
                node.name
            ))
        })?;
        let path = args.dir.join(format!("{}.toml", node.name));
        if path.exists() {
            return Err(Failure::Input(format!(
                "{} is there already and is not overwritten; choose another --dir",
                path.display()
            )));
        }
        write_secret(&path, &text)?;
        files.push(path);
    }
    if json {
        out::json(
            &serde_json::json!({ "configurations": files, "mesh": format!("http://{}", SocketAddr::new(args.host, args.base_port)) }),
        );
    } else {
        println!("Start each node in a terminal of its own:");
        for file in files {
            println!("  defim node run --config {}", file.display());
        }
        println!(
            "The page is then at http://{}",
            SocketAddr::new(args.host, args.base_port)
        );
    }
    Ok(())
}
