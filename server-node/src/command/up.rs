//! `defim up`: a whole mesh in one process.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::Arc,
};

use defim_learn::LearningSpec;
use defim_ledger::{FirstValidator, Genesis, NodeKey};
use defim_protocol::Manifest;
use serde::{Deserialize, Serialize};

use super::{
    init::task_request,
    out,
    run::{create_tasks, stopped},
};
use crate::{
    cli::Up,
    config::{
        Directory, NodeConfig, Peer, Role, load_or_make_seed, load_or_make_token, write_secret,
    },
    failure::{Failure, Outcome},
    http,
    ledger::{clerk::Clerk, client::LedgerClient, setup, validator::Validator},
    node::{
        aggregation::{AggregationNode, NewTask},
        start::{Listening, directory, make_folder},
        task::{TaskRequest, try_out},
    },
};

const FULL_NODES: [&str; 3] = ["full-1", "full-2", "full-3"];
const VALIDATORS: [&str; 4] = ["validator-1", "validator-2", "validator-3", "validator-4"];
const ADMIN_KEY: &str = "admin.key";
/// Written last at the first start that succeeds.
const TOKEN: &str = "admin.token";

/// A node's ports. Kept: addresses are in people's pages and in peers' memories.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Ports {
    quic: u16,
    tcp: u16,
    webrtc: u16,
}

fn free_ports(ip: IpAddr) -> std::io::Result<Ports> {
    let any = SocketAddr::new(ip, 0);
    let (quic, webrtc, tcp) = (
        UdpSocket::bind(any)?,
        UdpSocket::bind(any)?,
        TcpListener::bind(any)?,
    );
    Ok(Ports {
        quic: quic.local_addr()?.port(),
        tcp: tcp.local_addr()?.port(),
        webrtc: webrtc.local_addr()?.port(),
    })
}

fn ports(folder: &Path, ip: IpAddr) -> Outcome<Ports> {
    let path = folder.join("ports.json");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return serde_json::from_str(&text).map_err(|e| {
            Failure::Input(format!(
                "{} is damaged: {e}; delete it, and the node gets new ports",
                path.display()
            ))
        });
    }
    let ports =
        free_ports(ip).map_err(|e| Failure::Other(format!("no port is free on {ip}: {e}")))?;
    write_secret(&path, &serde_json::to_string(&ports).unwrap_or_default())?;
    Ok(ports)
}

async fn listen(args: &Up, name: &str, role: Role, ip: IpAddr) -> Outcome<Listening> {
    let data = args.data.join(name);
    make_folder(&data)?;
    let ports = ports(&data, ip)?;
    let at = |port| SocketAddr::new(ip, port);
    Listening::start(NodeConfig {
        name: name.to_owned(),
        role,
        data,
        // All of them are served by the one listener.
        http: args.listen,
        quic: Some(at(ports.quic)),
        tcp: Some(at(ports.tcp)),
        webrtc: (role == Role::Full).then(|| at(ports.webrtc)),
        validators: None,
        genesis: None,
        admin_key: None,
        silo: None,
        web: None,
        tasks: Vec::new(),
        peers: Vec::new(),
    })
    .await
}

/// Where what listens there is reached from this machine.
fn reached_at(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, bound.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, bound.port()).into(),
        _ => bound,
    }
}

/// The ledger of this mesh, at work.
struct Begun {
    genesis: Genesis,
    admin: NodeKey,
    validators: Vec<Validator>,
    peers: Directory,
}

/// Start the validation nodes. Genesis and admin key are made at the first start, and kept.
async fn ledger(args: &Up, peers: &Directory) -> Outcome<Begun> {
    let (admin, _) = setup::load_or_make_admin(&args.data.join(ADMIN_KEY))?;
    let mut first = Vec::new();
    for name in VALIDATORS {
        let data = args.data.join(name);
        make_folder(&data)?;
        // Validators of one machine talk over its loopback.
        let ports = ports(&data, IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let seed = load_or_make_seed(&data)?;
        first.push(FirstValidator {
            node: NodeKey::from_seed(seed).id(),
            name: name.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.tcp)).to_string(),
        });
    }
    let path = args.data.join("genesis.json");
    let genesis = match path.exists() {
        true => setup::read_genesis(&path)?,
        false => {
            let genesis = setup::genesis("a mesh on one machine", first.clone(), admin.id())?;
            setup::write_genesis(&path, &genesis)?;
            genesis
        }
    };
    let (mut validators, mut others) = (Vec::new(), Directory::new());
    for FirstValidator {
        node,
        name,
        address,
    } in first
    {
        let listen = address
            .parse()
            .map_err(|e| Failure::Other(format!("{address} is no address: {e}")))?;
        let data = args.data.join(&name);
        let started = Validator::start(name.clone(), &data, genesis.clone(), listen, peers).await?;
        validators.push(started);
        let http = format!("/nodes/{name}");
        others.insert(
            node,
            Peer {
                name,
                role: Role::Validation,
                node,
                hpke: None,
                http,
                addresses: Vec::new(),
            },
        );
    }
    Ok(Begun {
        genesis,
        admin,
        validators,
        peers: others,
    })
}

/// How a task of the folder differs from what was typed. What a task was made with, is its for good.
fn differences(
    request: &TaskRequest,
    new: &NewTask,
    made: &Manifest,
    given: &BTreeSet<String>,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut compare = |flag: &str, asked: String, made: String| {
        if given.contains(flag) && asked != made {
            let flag = flag.replace('_', "-");
            all.push(format!("--{flag} {asked} is asked for, and it has {made}"));
        }
    };
    let seconds = |ms: u64| (ms as f64 / 1000.0).to_string();
    let (asked, has) = (&new.schedule, &made.schedule);
    for (flag, asked, made) in [
        ("min_batch", asked.min_batch.into(), has.min_batch.into()),
        ("max_batch", asked.max_batch.into(), has.max_batch.into()),
        ("rounds", asked.rounds, has.rounds),
        ("max_weight", new.max_weight.into(), made.max_weight.into()),
        ("shares", new.shares.into(), made.vdaf.shares.into()),
        ("quality_votes", new.votes.into(), made.vdaf.votes.into()),
    ] {
        compare(flag, asked.to_string(), made.to_string());
    }
    compare("settle", seconds(asked.settle_ms), seconds(has.settle_ms));
    compare("deadline", seconds(asked.round_ms), seconds(has.round_ms));
    let (asked, has) = (new.ledger, made.ledger);
    let told = |it: Option<u64>| it.map_or("the usual".into(), |it| it.to_string());
    let share =
        |ppm: Option<u32>| ppm.map_or("the usual".into(), |ppm| (f64::from(ppm) / 1e6).to_string());
    let budgets = (told(asked.budget_per_round), told(has.budget_per_round));
    compare("round_budget", budgets.0, budgets.1);
    compare(
        "loss_tolerance",
        share(asked.tolerance_ppm),
        share(has.tolerance_ppm),
    );
    compare(
        "fairness_gap",
        share(asked.fairness_gap_ppm),
        share(has.fairness_gap_ppm),
    );
    let rule = |rule| {
        let word = serde_json::to_value(rule).ok();
        let word = word.and_then(|word| Some(word.as_str()?.to_owned()));
        word.unwrap_or_else(|| "none: anybody contributes".into())
    };
    compare("admission", rule(new.admission), rule(made.admission));
    // Epsilon says nothing without its delta, which may be the default.
    let promise = |epsilon: f64, delta: f64| format!("{epsilon} with --delta {delta}");
    let asked = new.privacy.map(|p| promise(p.epsilon, p.delta));
    let has = made.privacy.map(|p| promise(p.epsilon, p.delta));
    let has = has.unwrap_or_else(|| "none: it adds no noise".into());
    compare("epsilon", asked.unwrap_or_default(), has);
    let spec = serde_json::from_str::<LearningSpec>(made.learning.get());
    let other = spec.is_ok_and(|spec| match (&request.model, &request.learning) {
        (Some(_), _) => spec.model != new.spec.model,
        (None, Some(asked)) => spec != *asked,
        (None, None) => false,
    });
    if other {
        all.push("another model or specification is asked for with --tasks".into());
    }
    all
}

/// Refuse what was typed if a task of the folder was made with something else: it would have no effect, and who asks for
/// noise must not believe that there is some.
async fn as_made(
    node: &AggregationNode,
    tasks: &[TaskRequest],
    given: &BTreeSet<String>,
) -> Outcome {
    for request in tasks {
        let new = NewTask::try_from(request.clone())?;
        let Some((_, run)) = node.find(&new.name).await else {
            continue;
        };
        let differ = differences(request, &new, run.manifest(), given);
        if !differ.is_empty() {
            return Err(Failure::Usage(format!(
                "task {} of this folder was made before, and stays as it is: {}. Leave that out, make another task with `defim task create --name`, or another mesh with another --data",
                new.name,
                differ.join("; ")
            )));
        }
    }
    Ok(())
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(args: Up, json: bool) -> Outcome {
    let tasks = args
        .tasks
        .iter()
        .map(|task| task_request(task, &args.schedule))
        .collect::<Outcome<Vec<_>>>()?;
    try_out(&tasks, FULL_NODES.len() as u8)?;
    if let Some(web) = &args.web
        && !web.join("index.html").is_file()
    {
        return Err(Failure::Input(format!(
            "{} has no pages; `cargo xtask web` builds them",
            web.display()
        )));
    }
    let port = args.listen.port();
    if http::is_blocked(port) {
        return Err(Failure::Usage(format!(
            "--listen {}: browsers refuse to ask port {port}; choose another",
            args.listen
        )));
    }
    let (listener, bound) = http::bind(args.listen).await?;
    make_folder(&args.data)?;
    // A start that failed half-way has told nobody the admin's key.
    let first_start = !args.data.join(TOKEN).exists();
    let ip = if args.listen.ip().is_unspecified() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        args.listen.ip()
    };
    let mut listening = Vec::new();
    for name in FULL_NODES {
        listening.push((name, listen(&args, name, Role::Full, ip).await?));
    }
    let aggregation = listen(&args, "aggregation", Role::Aggregation, ip).await?;
    let base = format!("http://{}", reached_at(bound));
    let peers = directory(
        listening
            .iter()
            .map(|(name, node)| node.peer(format!("/nodes/{name}")))
            .chain([aggregation.peer(base.clone())]),
    );
    let mut full = Vec::new();
    for (_, node) in listening {
        full.push(node.full(peers.clone()).await?.0);
    }
    let begun = ledger(&args, &peers).await?;
    let mut others = peers;
    others.retain(|_, peer| peer.role == Role::Full);
    others.extend(begun.peers);
    let node = aggregation.aggregation(others, true).await?;
    as_made(&node, &tasks, &args.given).await?;
    create_tasks(&node, tasks).await?;
    let bases = VALIDATORS.map(|name| format!("{base}/nodes/{name}"));
    let client = LedgerClient::new(begun.genesis, bases.to_vec())?;
    let clerk = Clerk::new(node.clone(), client.clone(), node.key(), Some(begun.admin));
    tokio::spawn(clerk.run());
    for node in &full {
        node.follow(Some(client.clone()));
    }
    let admin_token = load_or_make_token(&args.data)?;
    let token_path = args.data.join(TOKEN);
    let router = http::mesh_router(http::Mesh {
        node,
        embedded: Arc::new(full),
        admin_token: admin_token.into(),
        web: args.web.clone(),
        ledger: Some(client),
        validators: Arc::new(begun.validators),
    })?;
    let pages = args.web.is_some();
    if json {
        out::json(
            &serde_json::json!({ "mesh": format!("http://{bound}"), "pages": pages, "admin_token": token_path }),
        );
    } else {
        println!(
            "The mesh is up: {} full nodes, 1 aggregation node and {} validation nodes.",
            FULL_NODES.len(),
            VALIDATORS.len()
        );
        match pages {
            true => println!("  page         http://{bound}/"),
            false => println!(
                "  no pages: they are not part of this program; `cargo xtask web` builds them, then --web FOLDER serves them"
            ),
        }
        println!("  API          http://{bound}/api/v1/openapi.json");
        println!("  admin token  {}", token_path.display());
        println!("  admin key    {}", args.data.join(ADMIN_KEY).display());
        if first_start && let Ok(seed) = std::fs::read_to_string(args.data.join(ADMIN_KEY)) {
            println!("               {}", seed.trim());
            println!(
                "               It signs for the ledger's admin. It is shown this once; keep a copy where nobody finds it."
            );
        }
        println!(
            "Press Ctrl+C to stop; everything is kept in {}.",
            args.data.display()
        );
    }
    http::serve(listener, router, stopped()).await
}
