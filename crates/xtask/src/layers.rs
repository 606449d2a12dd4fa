//! `layers`: dependencies point down, and the browser links no server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::json;
use crate::places::{Places, WASM_TARGET};
use crate::process;

/// A crate's place: its folder, its layer (0 is the bottom), and, where the layer alone would allow
/// too much, the only crates it may use.
struct Place {
    folder: &'static str,
    layer: u8,
    may_use: Option<&'static [&'static str]>,
}

const MACHINE: Option<&[&str]> = Some(&[
    "crates/protocol",
    "crates/privacy",
    "crates/pine",
    "crates/he",
    "crates/learn",
    "crates/ledger",
]);

const PLACES: [Place; 21] = [
    place("crates/xtask", 0, Some(&[])),
    place("crates/pine", 0, Some(&[])),
    place("crates/he", 0, Some(&[])),
    place("crates/learn", 0, Some(&[])),
    place("crates/privacy", 0, Some(&[])),
    place("crates/ledger", 0, Some(&[])),
    place("crates/webrtc-direct", 0, Some(&[])),
    // Tests with the models of crates/learn.
    place("crates/score", 1, Some(&[])),
    place("crates/bench", 1, Some(&["crates/pine"])),
    place(
        "crates/protocol",
        1,
        Some(&["crates/ledger", "crates/pine", "crates/privacy"]),
    ),
    place(
        "crates/net",
        2,
        Some(&["crates/protocol", "crates/webrtc-direct"]),
    ),
    place("crates/store", 2, Some(&["crates/protocol"])),
    place(
        "crates/light",
        3,
        Some(&[
            "crates/ledger",
            "crates/protocol",
            "crates/learn",
            "crates/ledger",
            "crates/pine",
            "crates/he",
            "crates/net",
            "crates/score",
        ]),
    ),
    place("crates/full", 4, MACHINE),
    place("crates/aggregation", 4, MACHINE),
    // Repeats the aggregation node's public steps.
    place(
        "crates/validation",
        5,
        Some(&[
            "crates/aggregation",
            "crates/protocol",
            "crates/learn",
            "crates/ledger",
        ]),
    ),
    place("crates/sim", 6, None),
    place("server-node", 7, None),
    place("web", 7, Some(&["crates/protocol", "crates/ledger"])),
    place(
        "crates/light/bindings",
        7,
        Some(&[
            "crates/light",
            "crates/protocol",
            "crates/learn",
            "crates/ledger",
            "crates/pine",
            "crates/he",
            "crates/net",
            "crates/score",
        ]),
    ),
    place(
        "edge-worker",
        7,
        Some(&[
            "crates/light",
            "crates/protocol",
            "crates/learn",
            "crates/ledger",
            "crates/pine",
            "crates/he",
            "crates/net",
        ]),
    ),
];

const fn place(folder: &'static str, layer: u8, may_use: Option<&'static [&'static str]>) -> Place {
    Place {
        folder,
        layer,
        may_use,
    }
}

/// Crates whose builds end in a browser or a worker.
const BROWSER: [&str; 4] = [
    "crates/light/bindings",
    "crates/bench",
    "web",
    "edge-worker",
];

/// What no browser build may link: server roles by folder, and the crates only servers need.
const SERVER_FOLDERS: [&str; 6] = [
    "crates/full",
    "crates/aggregation",
    "crates/validation",
    "crates/store",
    "crates/sim",
    "server-node",
];
const SERVER_CRATES: [&str; 9] = [
    "axum",
    "hyper",
    "mio",
    "quinn",
    "reqwest",
    "rustls",
    "sqlx",
    "sqlx-core",
    "tokio",
];

/// One dependency inside the workspace, by folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    /// Only tests use it.
    dev: bool,
}

/// Checks this clone.
pub fn run(places: &Places) -> Result<()> {
    let metadata =
        process::capture(
            places
                .cargo()
                .args(["metadata", "--format-version", "1", "--no-deps"]),
        )?;
    let metadata: Value = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    let members = members(&metadata, &places.root);
    let mut faults = misplaced(&members);
    for edge in edges(&metadata, &places.root, &members) {
        faults.extend(fault(&edge));
    }
    for folder in BROWSER {
        let Some(name) = members.get(folder) else {
            continue;
        };
        let tree = process::capture(places.cargo().args([
            "tree",
            "--package",
            name,
            "--target",
            WASM_TARGET,
            "--edges",
            "normal",
            "--prefix",
            "none",
        ]))?;
        for server in servers_in(&tree, &members) {
            faults.push(format!(
                "{folder} links {server}, which browsers must not get; \
                 `cargo tree -p {name} --target {WASM_TARGET} -e normal -i {server}` says why"
            ));
        }
    }
    for fault in &faults {
        println!("layers: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} dependencies break the layers", faults.len());
    }
    println!(
        "layers: {} crates, all dependencies point down",
        members.len()
    );
    Ok(())
}

/// Folder to package name of every workspace member.
fn members(metadata: &Value, root: &Path) -> BTreeMap<String, String> {
    json::list(metadata, "packages")
        .iter()
        .filter_map(|package| {
            let folder = folder(
                Path::new(json::text(package, "manifest_path")?).parent()?,
                root,
            )?;
            Some((folder, json::text(package, "name")?.to_owned()))
        })
        .collect()
}

fn folder(path: &Path, root: &Path) -> Option<String> {
    Some(path.strip_prefix(root).ok()?.to_str()?.replace('\\', "/"))
}

fn edges(metadata: &Value, root: &Path, members: &BTreeMap<String, String>) -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    for package in json::list(metadata, "packages") {
        let from = json::text(package, "manifest_path")
            .and_then(|path| folder(Path::new(path).parent()?, root));
        for dependency in json::list(package, "dependencies") {
            let to = json::text(dependency, "path").and_then(|path| folder(Path::new(path), root));
            if let (Some(from), Some(to)) = (&from, to)
                && members.contains_key(&to)
            {
                edges.insert(Edge {
                    from: from.clone(),
                    to,
                    dev: json::text(dependency, "kind") == Some("dev"),
                });
            }
        }
    }
    edges
}

fn place_of(folder: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.folder == folder)
}

fn misplaced(members: &BTreeMap<String, String>) -> Vec<String> {
    members
        .keys()
        .filter(|folder| place_of(folder).is_none())
        .map(|folder| format!("{folder} has no layer; give it one in crates/xtask/src/layers.rs"))
        .collect()
}

/// What is wrong with a dependency, if anything.
fn fault(edge: &Edge) -> Option<String> {
    let (from, to) = (place_of(&edge.from)?, place_of(&edge.to)?);
    let shown = format!(
        "{} {} {}",
        edge.from,
        if edge.dev { "tests with" } else { "depends on" },
        edge.to
    );
    if to.layer > from.layer {
        return Some(format!(
            "{shown}, upward from layer {} to layer {}",
            from.layer, to.layer
        ));
    }
    if to.layer == from.layer {
        return Some(format!("{shown}, sideways within layer {}", from.layer));
    }
    // A test may use any lower crate; it links nothing into what is shipped.
    let allowed = edge.dev || from.may_use.is_none_or(|may| may.contains(&to.folder));
    (!allowed)
        .then(|| format!("{shown}, which its row in crates/xtask/src/layers.rs does not list"))
}

/// Server crates in the output of `cargo tree --prefix none`.
fn servers_in(tree: &str, members: &BTreeMap<String, String>) -> BTreeSet<String> {
    let own: BTreeSet<_> = SERVER_FOLDERS
        .iter()
        .filter_map(|folder| members.get(*folder))
        .map(String::as_str)
        .collect();
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| own.contains(name) || SERVER_CRATES.contains(name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        Edge {
            from: from.into(),
            to: to.into(),
            dev: false,
        }
    }

    fn test_edge(from: &str, to: &str) -> Edge {
        Edge {
            dev: true,
            ..edge(from, to)
        }
    }

    #[test]
    fn downward_edges_of_the_table_are_fine() {
        for (from, to) in [
            ("crates/protocol", "crates/ledger"),
            ("crates/net", "crates/protocol"),
            ("crates/light", "crates/net"),
            ("crates/full", "crates/pine"),
            ("crates/sim", "crates/full"),
            ("crates/sim", "crates/light"),
            ("server-node", "crates/sim"),
            ("server-node", "crates/store"),
            ("web", "crates/ledger"),
            ("crates/light/bindings", "crates/light"),
        ] {
            assert_eq!(fault(&edge(from, to)), None, "{from} -> {to}");
        }
    }

    #[test]
    fn an_upward_edge_is_named() {
        let fault = fault(&edge("crates/protocol", "crates/net")).expect("upward");
        assert!(
            fault.contains("crates/protocol depends on crates/net, upward"),
            "{fault}"
        );
    }

    #[test]
    fn sideways_and_unlisted_edges_are_refused() {
        for (from, to) in [
            ("crates/full", "crates/aggregation"),
            ("crates/he", "crates/learn"),
            ("crates/full", "crates/net"),
            ("crates/aggregation", "crates/store"),
            ("crates/store", "crates/learn"),
            ("web", "crates/light"),
            ("web", "server-node"),
        ] {
            assert!(fault(&edge(from, to)).is_some(), "{from} -> {to}");
        }
    }

    #[test]
    fn tests_may_use_any_lower_crate_but_no_higher_one() {
        assert_eq!(fault(&test_edge("crates/full", "crates/light")), None);
        assert!(fault(&test_edge("crates/light", "crates/full")).is_some());
        assert!(fault(&test_edge("crates/full", "crates/aggregation")).is_some());
    }

    #[test]
    fn edges_and_members_come_from_the_metadata() {
        let metadata = serde_json::json!({"packages": [
            {"name": "defim-net", "manifest_path": "/r/crates/net/Cargo.toml", "dependencies": [
                {"name": "defim-protocol", "path": "/r/crates/protocol", "kind": null},
                {"name": "defim-protocol", "path": "/r/crates/protocol", "kind": "dev"},
                {"name": "serde", "kind": null},
            ]},
            {"name": "defim-protocol", "manifest_path": "/r/crates/protocol/Cargo.toml",
             "dependencies": []},
            {"name": "stray", "manifest_path": "/r/crates/stray/Cargo.toml", "dependencies": []},
        ]});
        let root = Path::new("/r");
        let members = members(&metadata, root);
        assert_eq!(
            members.get("crates/net").map(String::as_str),
            Some("defim-net")
        );
        let edges: Vec<_> = edges(&metadata, root, &members).into_iter().collect();
        assert_eq!(
            edges,
            [
                edge("crates/net", "crates/protocol"),
                test_edge("crates/net", "crates/protocol")
            ]
        );
        let faults = misplaced(&members);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("crates/stray has no layer"));
    }

    #[test]
    fn servers_in_a_browser_tree_are_found() {
        let members = BTreeMap::from([
            ("crates/full".to_owned(), "defim-full".to_owned()),
            ("crates/light".to_owned(), "defim-light".to_owned()),
        ]);
        let tree = "defim-light-bindings v0.1.0\ndefim-light v0.1.0\ntokio-stream v0.1.1\n\
                    defim-full v0.1.0\ntokio v1.52.0\nserde v1.0.0 (*)\ntokio v1.52.0 (*)\n";
        let found: Vec<_> = servers_in(tree, &members).into_iter().collect();
        assert_eq!(found, ["defim-full", "tokio"]);
        assert!(servers_in("defim-light v0.1.0\n", &members).is_empty());
    }
}
