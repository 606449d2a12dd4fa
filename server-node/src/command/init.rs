//! `defim node init`: keys and configurations for a mesh of separate processes.

use std::net::{IpAddr, SocketAddr};

use defim_ledger::FirstValidator;
use defim_net::native::address_of;

use super::{out, tasks::request};
use crate::{
    cli::{Init, ScheduleArgs},
    config::{NodeConfig, Peer, Role, load_or_make_seed, write_secret},
    failure::{Failure, Outcome},
    http::is_blocked,
    ledger::setup,
    node::{
        start::{make_folder, peer_of},
        task::{TaskRequest, try_out},
    },
};

const STEP: u16 = 10;
/// Names of files in the folder of a mesh.
const GENESIS: &str = "genesis.json";
const ADMIN_KEY: &str = "admin.key";

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
        quic: (role != Role::Validation).then(|| at(first + 1)),
        tcp: (role != Role::Validation).then(|| at(first + 1)),
        webrtc: (role == Role::Full).then(|| at(first + 2)),
        validators: (role == Role::Validation).then(|| at(first + 1)),
        genesis: (args.validators > 0).then(|| GENESIS.into()),
        admin_key: (role == Role::Aggregation && args.validators > 0).then(|| ADMIN_KEY.into()),
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
    let addresses = match (config.quic, config.tcp) {
        (Some(quic), Some(tcp)) => address_of(&seed, quic, tcp).map_err(|e| {
            Failure::Other(format!("the key of {} cannot be used: {e}", config.name))
        })?,
        _ => Vec::new(),
    };
    Ok(peer_of(
        config,
        &seed,
        format!("http://{}", config.http),
        addresses,
    ))
}

/// Write the genesis and the first admin's key.
fn begin_ledger(args: &Init, nodes: &[NodeConfig], peers: &[Peer]) -> Outcome {
    let path = args.dir.join(GENESIS);
    if path.exists() {
        return Err(Failure::Input(format!(
            "{} is there already and is not overwritten; choose another --dir",
            path.display()
        )));
    }
    let first = nodes.iter().zip(peers).filter_map(|(node, peer)| {
        Some(FirstValidator {
            node: peer.node,
            name: node.name.clone(),
            address: node.validators?.to_string(),
        })
    });
    let (admin, _) = setup::load_or_make_admin(&args.dir.join(ADMIN_KEY))?;
    let genesis = setup::genesis("a mesh of separate processes", first.collect(), admin.id())?;
    setup::write_genesis(&path, &genesis)
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
    if (1..4).contains(&args.validators) {
        return Err(Failure::Usage(format!(
            "--validators {}: a ledger has at least 4 validation nodes, of which one may fail; or none, with 0",
            args.validators
        )));
    }
    if args.schedule.shares > args.full {
        return Err(Failure::Usage(format!(
            "--shares {shares} takes at least {shares} full nodes, each for another share; --full makes {}",
            args.full,
            shares = args.schedule.shares
        )));
    }
    let (full, validators) = (u16::from(args.full), u16::from(args.validators));
    let highest = STEP * (full + validators) + 2;
    if args.base_port.checked_add(highest).is_none() || args.base_port == 0 {
        return Err(Failure::Usage(format!(
            "--base-port leaves no room: the nodes take ports up to {highest} above it"
        )));
    }
    let ports = (0..=full + validators).map(|node| args.base_port + STEP * node);
    if let Some(port) = ports.into_iter().find(|port| is_blocked(*port)) {
        return Err(Failure::Usage(format!(
            "--base-port {}: a node would serve pages at port {port}, which browsers refuse to ask; take another",
            args.base_port
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
    try_out(&aggregation.tasks, args.full)?;
    let mut nodes = vec![aggregation];
    for number in 1..=full {
        nodes.push(config(
            args,
            &format!("full-{number}"),
            Role::Full,
            args.base_port + STEP * number,
        ));
    }
    for number in 1..=validators {
        nodes.push(config(
            args,
            &format!("validator-{number}"),
            Role::Validation,
            args.base_port + STEP * (full + number),
        ));
    }
    let peers = nodes
        .iter()
        .map(|node| peer(args, node))
        .collect::<Outcome<Vec<_>>>()?;
    if validators > 0 {
        begin_ledger(args, &nodes, &peers)?;
    }
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
