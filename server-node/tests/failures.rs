//! A store that fails at any write costs neither a round nor a share, and no model is made on a wrong base.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{Mesh, text};
use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

/// The store of a node, from outside, as a broken disk would get at it.
struct Disk(SqliteConnectOptions, tokio::runtime::Runtime);

impl Disk {
    fn of(mesh: &Mesh, node: &str) -> Self {
        let file = mesh.folder().join(node).join("work.db");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self(
            SqliteConnectOptions::new()
                .filename(file)
                .busy_timeout(std::time::Duration::from_secs(20)),
            runtime,
        )
    }

    fn run(&self, statement: String) {
        self.1.block_on(async {
            let mut store = SqliteConnection::connect_with(&self.0).await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                .execute(&mut store)
                .await
                .unwrap();
            store.close().await.unwrap();
        });
    }

    fn count(&self, query: &'static str) -> i64 {
        self.1.block_on(async {
            let mut store = SqliteConnection::connect_with(&self.0).await.unwrap();
            let row = sqlx::query(query).fetch_one(&mut store).await.unwrap();
            store.close().await.unwrap();
            row.try_get(0).unwrap()
        })
    }

    /// Every write of this kind fails from now on.
    fn fail(&self, write: &str, table: &str) {
        self.run(format!(
            "CREATE TRIGGER fail_{table} BEFORE {write} ON {table} BEGIN SELECT RAISE(ABORT, 'the disk fails at {table}'); END"
        ));
    }

    fn mend(&self, table: &str) {
        self.run(format!("DROP TRIGGER fail_{table}"));
    }
}

fn seen(mesh: &Mesh, node: &str, words: &str) -> bool {
    std::fs::read_to_string(mesh.log(node))
        .unwrap_or_default()
        .contains(words)
}

fn finished(task: &Value) -> Vec<u64> {
    let history = task["history"].as_array().unwrap();
    history
        .iter()
        .filter(|record| record["outcome"] == "finished")
        .map(|record| record["round"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_round_survives_a_failure_of_each_write_of_the_aggregation_node() {
    let mut mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    let disk = Disk::of(&mesh, "aggregation");
    let first = mesh.task()["currentModel"].clone();
    for (write, table) in [
        ("INSERT", "encrypted_sum"),
        ("INSERT", "result"),
        ("INSERT", "round"),
    ] {
        disk.fail(write, table);
    }
    for _ in 0..2 {
        let done = mesh.contribute(&[]);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    let failed = |table: &str| format!("the disk fails at {table}");
    mesh.wait("the encrypted sums cannot be stored", |mesh| {
        seen(mesh, "aggregation", &failed("encrypted_sum"))
    });
    // The members keep their shares until the round is over: they can encrypt them again.
    let held: i64 = ["full-1", "full-2", "full-3"]
        .map(|node| {
            Disk::of(&mesh, node)
                .count("SELECT count(*) FROM batch WHERE aggregate_share IS NOT NULL")
        })
        .iter()
        .sum();
    assert!(
        held == 2 || held == 4,
        "both members of each committee: {held}"
    );
    disk.mend("encrypted_sum");
    mesh.wait("the model cannot be stored", |mesh| {
        seen(mesh, "aggregation", &failed("result"))
    });
    // What is shown is what is stored, before and after a crash.
    assert_eq!(mesh.task()["currentModel"], first);
    mesh.kill("aggregation");
    mesh.run("aggregation");
    mesh.wait("the node is back", |mesh| {
        mesh.json(&["task", "show", "digits"]).is_some()
    });
    assert_eq!(mesh.task()["currentModel"], first);
    disk.mend("result");
    mesh.wait("the round is finished", |mesh| {
        finished(&mesh.task()) == [1]
    });
    mesh.wait("the next round cannot be stored", |mesh| {
        seen(mesh, "aggregation", &failed("round"))
    });
    assert!(
        mesh.task()["round"].is_null(),
        "a round that is not stored is not shown"
    );
    disk.mend("round");
    mesh.wait("the next round is open", |mesh| {
        mesh.task()["round"]["round"] == 2
    });
    let task = mesh.task();
    assert_ne!(task["currentModel"], first);
    assert_eq!(task["round"]["baseModel"], task["currentModel"]);
    mesh.kill("aggregation");
    mesh.run("aggregation");
    mesh.wait("the node is back", |mesh| {
        mesh.json(&["task", "show", "digits"]).is_some()
    });
    let again = mesh.task();
    assert_eq!(again["currentModel"], task["currentModel"]);
    assert_eq!(again["round"]["baseModel"], again["currentModel"]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let done = mesh.contribute(&["--wait"]);
                assert!(done.status.success(), "{}", text(&done.stderr));
            });
        }
    });
    assert_eq!(finished(&mesh.task()), [1, 2]);
}

#[test]
fn an_admin_ends_a_round_that_waits_for_a_member_that_is_gone() {
    let mut mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2", "--full", "2"]);
    // Ending a round is a write like others.
    let disk = Disk::of(&mesh, "aggregation");
    mesh.contribute(&[]);
    mesh.wait("the first is verified", |mesh| {
        mesh.task()["round"]["verified"] == 1
    });
    mesh.kill("full-2");
    mesh.wait("the second is taken", |mesh| {
        mesh.contribute(&["--timeout", "1"]).status.success()
    });
    mesh.wait("the round waits for the member", |mesh| {
        let text = mesh.task()["round"]["text"].clone();
        text.as_str()
            .is_some_and(|text| text.contains("full-2 does not answer"))
    });
    let token = mesh.folder().join("aggregation/admin.token");
    let token = token.to_str().unwrap();
    let void = |more: &[&str]| {
        let fixed = ["task", "void-round", "digits", "--admin-token", token];
        mesh.call(&[&fixed, more].concat())
    };
    let other = void(&["--round", "7"]);
    assert_eq!(other.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&other.stderr).contains("round 1 is"));
    disk.fail("INSERT", "result");
    assert!(!void(&[]).status.success(), "it is not stored");
    assert_eq!(mesh.task()["round"]["round"], 1);
    disk.mend("result");
    assert!(
        void(&["--round", "1", "--reason", "it burnt"])
            .status
            .success()
    );
    let history = mesh.task()["history"].clone();
    assert_eq!(history[0]["outcome"], "voided");
    assert!(history[0]["reason"].as_str().unwrap().contains("it burnt"));
    mesh.wait("the task goes on", |mesh| {
        mesh.task()["round"]["round"] == 2
    });
}

#[test]
fn a_peer_to_peer_path_that_is_full_is_left_for_https() {
    let mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    for node in ["full-1", "full-2", "full-3"] {
        Disk::of(&mesh, node).fail("INSERT", "partial");
    }
    let done = mesh.contribute(&["--timeout", "20"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let line: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
    assert_eq!(line["path"], "https");
}
