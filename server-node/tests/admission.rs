//! What admins do from a terminal: they invite and approve light nodes, remove them, and enrol server nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::process::Output;

use common::{Mesh, text};
use defim_ledger::NodeKey;
use serde_json::Value;

impl Mesh {
    fn admin_key(&self) -> String {
        let path = self.folder().join("admin.key");
        path.to_str().unwrap().to_owned()
    }

    fn as_admin(&self, args: &[&str]) -> Output {
        let key = self.admin_key();
        self.call(&[args, &["--admin-key", &key]].concat())
    }

    fn done(&self, args: &[&str]) -> Value {
        let done = self.as_admin(args);
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    fn enrolled(&self) -> Vec<String> {
        let listed = self.json(&["task", "enrolled", "digits"]).unwrap();
        let keys = listed["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key.as_str().unwrap().to_owned())
            .collect()
    }

    /// A light node with a key file of its own.
    fn light(&self, name: &str, more: &[&str]) -> Output {
        let key = self.folder().join(name);
        self.contribute(&[&["--key", key.to_str().unwrap()], more].concat())
    }
}

fn refused(done: &Output, code: i32, why: &str) {
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "{why}: {said}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(told["error"].is_string(), "{told}");
}

/// A public key that looks like an option.
fn hyphened() -> String {
    (0..=u8::MAX)
        .map(|seed| NodeKey::from_seed([seed; 32]).id().to_string())
        .find(|key| key.starts_with('-'))
        .unwrap()
}

#[test]
fn with_an_invite_light_nodes_enrol_themselves_until_it_is_used_up() {
    let mesh = Mesh::start(&["--min-batch", "2", "--admission", "invite"]);
    // What is no code, and a code that nobody has made.
    let none = mesh.light("one.key", &["--invite", "never"]);
    refused(&none, 3, "26 letters and digits");
    let other = mesh.light("one.key", &["--invite", "00000-00000-00000-00000-000000"]);
    refused(&other, 3, "code does not fit");

    let made = mesh.done(&["task", "invite", "digits", "--uses", "2", "--days", "1"]);
    assert_eq!(made["uses"], 2);
    assert!(made["block"].as_u64().unwrap() > 0);
    let code = made["code"].as_str().unwrap();
    let typed = code.to_lowercase().replace('-', " ");
    let counted: Vec<_> = std::thread::scope(|scope| {
        let calls = ["one.key", "two.key"].map(|key| {
            let (mesh, typed) = (&mesh, &typed);
            scope.spawn(move || mesh.light(key, &["--invite", typed, "--wait"]))
        });
        calls.map(|call| call.join().unwrap()).into()
    });
    let mut keys = Vec::new();
    for done in &counted {
        assert!(done.status.success(), "{}", text(&done.stderr));
        let line: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(line["receipt"]["claimed"], true, "{line}");
        keys.push(line["key"].as_str().unwrap().to_owned());
    }
    let mut listed = mesh.enrolled();
    listed.sort();
    keys.sort();
    assert_eq!(listed, keys);
    refused(&mesh.light("three.key", &["--invite", code]), 3, "used up");
    // The blocks say who was let in how, and nothing of the code.
    let shown = text(&mesh.call(&["ledger", "show", "--limit", "100"]).stdout);
    assert!(shown.contains("makes an invite for 2 participants"));
    assert!(shown.contains("enrols to contribute, with an invite"));
    assert!(!shown.contains(code));

    // One is removed, cannot come back with a new invite, and comes back when an admin lets it.
    let again = mesh.done(&["task", "invite", "digits"]);
    let again = again["code"].as_str().unwrap();
    mesh.done(&["task", "revoke", "digits", &keys[0]]);
    assert_eq!(mesh.enrolled(), keys[1..]);
    let file = counted
        .iter()
        .position(|done| text(&done.stdout).contains(&keys[0]));
    let file = ["one.key", "two.key"][file.unwrap()];
    refused(
        &mesh.light(file, &["--invite", again]),
        3,
        "removed from it",
    );
    mesh.done(&["task", "approve", "digits", &keys[0]]);
    assert_eq!(mesh.enrolled().len(), 2);
    let back = mesh.light(file, &[]);
    assert!(back.status.success(), "{}", text(&back.stderr));
}

#[test]
fn what_an_admin_cannot_mean_is_refused_with_a_reason() {
    let mesh = Mesh::start(&["--min-batch", "2", "--admission", "approved"]);
    let token = mesh.folder().join("aggregation/admin.token");
    for (task, more) in [
        ("diabetes", &["--admission", "open"][..]),
        ("breast-cancer", &[]),
    ] {
        let fixed = ["task", "create", "--task", task, "--admin-token"];
        let made = mesh.call(&[&fixed[..], &[token.to_str().unwrap()], more].concat());
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    let key = hyphened();
    let invite = |task| mesh.as_admin(&["task", "invite", task]);
    refused(&invite("nothing"), 3, "no task");
    refused(&invite("digits"), 3, "task approve");
    refused(&invite("diabetes"), 3, "anybody enrols");
    refused(&invite("breast-cancer"), 3, "anybody contributes");
    let approve = |task, key: &str| mesh.as_admin(&["task", "approve", task, key]);
    refused(&approve("breast-cancer", &key), 3, "anybody contributes");
    refused(&approve("digits", "my.key"), 2, "no key of a light node");
    let revoke = |key: &str| mesh.as_admin(&["task", "revoke", "digits", key]);
    refused(&revoke(&key), 3, "not enrolled");
    for wrong in [
        ["--uses", "0"],
        ["--uses", "many"],
        ["--days", "0"],
        ["--days", "4000"],
    ] {
        let done = mesh.as_admin(&[&["task", "invite", "digits"], &wrong[..]].concat());
        refused(&done, 2, wrong[1]);
    }
    // Whose key is no admin's, and what is no key.
    let full = mesh.folder().join("full-1/node.key");
    let by = |path: &str| mesh.call(&["task", "approve", "digits", &key, "--admin-key", path]);
    refused(&by(full.to_str().unwrap()), 3, "Only an admin");
    refused(&by(mesh.sample().to_str().unwrap()), 3, "64 hex digits");
    refused(&by("nowhere.key"), 3, "cannot be read");
    let none = mesh.call(&["task", "approve", "digits", &key]);
    refused(&none, 2, "--admin-key");

    assert_eq!(
        mesh.done(&["task", "approve", "digits", &key])["key"],
        key.as_str()
    );
    assert_eq!(mesh.enrolled(), [key.as_str()]);
    refused(
        &approve("digits", &key),
        3,
        "enrolled for this task already",
    );
    mesh.done(&["task", "remove-light", "digits", &key]);
    assert!(mesh.enrolled().is_empty());
}

#[test]
fn an_admin_enrols_server_nodes_and_removes_them() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    let node = hyphened();
    let enrol = |role: &str, name: &str| {
        mesh.as_admin(&["node", "enrol", &node, "--role", role, "--name", name])
    };
    let done = enrol("full", "full-4");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let entry: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(entry["entry"]["status"], "active");
    assert!(enrol("full", "full-four").status.success());
    refused(&enrol("validation", "full-4"), 3, "something else");
    refused(&enrol("full", &"x".repeat(400)), 3, "longer");
    mesh.done(&["node", "remove", &node]);
    refused(&mesh.as_admin(&["node", "remove", &node]), 3, "removed");
    refused(
        &mesh.as_admin(&["node", "remove", "full-4"]),
        2,
        "no key of a node",
    );
    let genesis = std::fs::read_to_string(mesh.folder().join("genesis.json")).unwrap();
    let genesis: Value = serde_json::from_str(&genesis).unwrap();
    let validator = genesis["validators"][0]["node"].as_str().unwrap();
    refused(
        &mesh.as_admin(&["node", "remove", validator]),
        3,
        "a validator of this",
    );
    let shown = text(&mesh.call(&["ledger", "show", "--limit", "100"]).stdout);
    assert!(shown.contains("full-four"), "{shown}");
}
