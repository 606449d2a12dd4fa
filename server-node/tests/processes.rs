//! A mesh of separate processes: whole rounds, crashes, absent nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{thread::sleep, time::Duration};

use common::{Mesh, text};
use serde_json::Value;

fn finished(task: &Value) -> Vec<(u64, u64)> {
    task["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["outcome"] == "finished")
        .map(|record| {
            (
                record["round"].as_u64().unwrap(),
                record["reports"].as_u64().unwrap(),
            )
        })
        .collect()
}

#[test]
fn two_rounds_over_the_network_make_a_better_model() {
    let budget = ["--round-budget", "600"];
    let mesh = Mesh::start(&[&["--min-batch", "3", "--max-batch", "3"], &budget[..]].concat());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let done = mesh.contribute(&["--rounds", "2", "--wait"]);
                assert!(done.status.success(), "{}", text(&done.stderr));
                for line in text(&done.stdout).lines() {
                    let line: Value = serde_json::from_str(line).unwrap();
                    assert_eq!(line["path"], "peer-to-peer");
                    assert_eq!(line["counted"]["reports"], 3);
                    // A third of the half that light nodes get.
                    assert_eq!(line["receipt"]["reward"], 100);
                }
            });
        }
    });
    let task = mesh.task();
    assert_eq!(finished(&task), [(1, 3), (2, 3)]);
    let accuracy = |metrics: &Value| metrics["accuracy"].as_f64().unwrap();
    let last = accuracy(&task["history"][1]["metrics"]);
    assert!(last > 0.8 && last > accuracy(&task["initial"]), "{last}");

    let model = mesh.dir.path().join("model.safetensors");
    let exported = mesh
        .json(&[
            "model",
            "export",
            "--task",
            "digits",
            "--out",
            model.to_str().unwrap(),
        ])
        .unwrap();
    assert_eq!(exported["digest"], task["currentModel"]);
    assert!(std::fs::read(model).unwrap().len() > 650 * 4);
}

#[test]
fn a_round_that_is_short_at_its_deadline_says_so_and_the_next_one_opens() {
    let mesh = Mesh::start(&["--min-batch", "3", "--deadline", "6"]);
    mesh.wait("a contribution is verified", |mesh| {
        mesh.contribute(&["--timeout", "2"]).status.success()
    });
    mesh.wait("its round is voided", |mesh| {
        let task = mesh.task();
        let history = task["history"].as_array().unwrap();
        history
            .iter()
            .any(|record| record["reason"] == "1 contributions by the deadline, 3 are needed")
    });
    mesh.wait("another one is open", |mesh| {
        mesh.task()["round"]["acceptsReports"] == true
    });
}

#[test]
fn companies_with_silos_train_by_themselves_round_after_round() {
    silos_train("2");
}

#[test]
fn companies_with_silos_train_by_themselves_with_three_shares() {
    silos_train("3");
}

fn give_silo(mesh: &Mesh, node: &str) {
    let path = mesh.folder().join(format!("{node}.toml"));
    let config = std::fs::read_to_string(&path).unwrap();
    let silo = format!("silo = {:?}\n", mesh.sample());
    std::fs::write(&path, silo + &config).unwrap();
}

fn silos_train(shares: &str) {
    let init = [
        "--min-batch",
        "3",
        "--max-batch",
        "3",
        "--tasks",
        "digits,diabetes",
        "--max-weight",
        "200",
        "--shares",
        shares,
    ];
    let mesh = Mesh::start_changed(&init, |mesh| {
        for node in ["full-1", "full-2", "full-3"] {
            give_silo(mesh, node);
        }
    });
    mesh.wait("two rounds are finished", |mesh| {
        finished(&mesh.task()).len() >= 2
    });
    let task = mesh.task();
    assert!(finished(&task).iter().all(|(_, reports)| *reports == 3));
    let accuracy = |metrics: &Value| metrics["accuracy"].as_f64().unwrap();
    assert!(accuracy(&task["history"][1]["metrics"]) > 0.8);
    // Each has 600 rows and says so: from then on it counts as often as the task allows, and rounds go on.
    mesh.wait("the silos have weights", |mesh| {
        let weights = &mesh.task()["round"]["weights"];
        ["full-1", "full-2", "full-3"]
            .iter()
            .all(|node| weights[node] == 200)
    });
    let weighed = mesh.task()["round"]["round"].as_u64().unwrap();
    mesh.wait("a round with weights is finished", |mesh| {
        mesh.task()["roundsDone"].as_u64().unwrap() >= weighed
    });
    let task = mesh.task();
    assert!(finished(&task).iter().all(|(_, reports)| *reports == 3));
    // Anybody adds the encrypted sum of a round up again, and each round of the last eight.
    for round in ["1", "2"] {
        let audit = mesh
            .json(&["audit", "--task", "digits", "--round", round])
            .unwrap();
        assert_eq!(audit["verdict"], "right");
        // Chance may give all three reports to committees of the same two.
        let fewest = shares.parse().unwrap();
        let parties = audit["parties"].as_u64().unwrap();
        assert!((fewest..=3).contains(&parties), "{audit}");
        // Of the very record that the ledger has.
        assert!(audit["chain"].is_string() && audit["height"].as_u64() > Some(0));
    }
    let none = mesh.call(&["audit", "--task", "digits", "--round", "900"]);
    assert_eq!(none.status.code(), Some(3), "{}", text(&none.stderr));
    // Rows of digits do not fit the other task: it is said, and nothing is sent.
    mesh.wait("the node says that the rows do not fit", |mesh| {
        let log = std::fs::read_to_string(mesh.log("full-1")).unwrap();
        log.lines()
            .any(|line| line.contains("the silo does not contribute") && line.contains("diabetes"))
    });
    let other = mesh.json(&["task", "show", "diabetes"]).unwrap();
    assert_eq!(other["round"]["pending"], 0);
    assert_eq!(other["roundsDone"], 0);
}

#[test]
fn the_https_path_is_as_good() {
    let mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    std::thread::scope(|scope| {
        for via in ["auto", "https"] {
            let mesh = &mesh;
            scope.spawn(move || {
                let done = mesh.contribute(&["--wait", "--via", via]);
                assert!(done.status.success(), "{}", text(&done.stderr));
                let line: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
                assert_eq!(
                    line["path"],
                    if via == "auto" {
                        "peer-to-peer"
                    } else {
                        "https"
                    }
                );
            });
        }
    });
}

#[test]
fn a_crash_at_any_moment_loses_no_stored_report_and_counts_none_twice() {
    crash_in_turn(&["--min-batch", "6", "--max-batch", "6"]);
}

#[test]
fn a_crash_at_any_moment_loses_no_report_of_three_shares_and_counts_none_twice() {
    crash_in_turn(&["--min-batch", "6", "--max-batch", "6", "--shares", "3"]);
}

fn crash_in_turn(init: &[&str]) {
    let mut mesh = Mesh::start(init);
    for (sent, node) in ["full-1", "full-2", "aggregation", "full-3", "full-1"]
        .into_iter()
        .enumerate()
    {
        let done = mesh.contribute(&[]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        mesh.kill(node);
        mesh.run(node);
        let stored = sent as u64 + 1;
        mesh.wait(
            &format!("{stored} reports are there after {node} was killed"),
            |mesh| {
                mesh.json(&["task", "show", "digits"]).is_some_and(|task| {
                    let round = &task["round"];
                    round["acceptsReports"] == true
                        && round["round"] == 1
                        && round["pending"].as_u64().unwrap() + round["verified"].as_u64().unwrap()
                            == stored
                })
            },
        );
    }
    let last = mesh.contribute(&[]);
    assert!(last.status.success(), "{}", text(&last.stderr));
    // In the middle of closing and adding.
    for node in ["full-1", "aggregation", "full-2", "full-3"] {
        mesh.kill(node);
        mesh.run(node);
    }
    mesh.wait("the round is finished", |mesh| {
        mesh.json(&["task", "show", "digits"])
            .is_some_and(|task| !finished(&task).is_empty())
    });
    assert_eq!(finished(&mesh.task()), [(1, 6)]);
}

#[test]
fn three_shares_over_the_network_make_the_same_kind_of_model() {
    let mesh = Mesh::start(&["--min-batch", "3", "--max-batch", "3", "--shares", "3"]);
    let task = mesh.task();
    let signed: Value = task["signed"].clone();
    let manifest: Value = serde_json::from_str(signed["payload"].as_str().unwrap()).unwrap();
    assert_eq!(manifest["vdaf"]["shares"], 3);
    std::thread::scope(|scope| {
        for via in ["auto", "auto", "https"] {
            let mesh = &mesh;
            scope.spawn(move || {
                let done = mesh.contribute(&["--rounds", "2", "--wait", "--via", via]);
                assert!(done.status.success(), "{}", text(&done.stderr));
                for line in text(&done.stdout).lines() {
                    let line: Value = serde_json::from_str(line).unwrap();
                    assert_eq!(line["counted"]["reports"], 3);
                }
            });
        }
    });
    let task = mesh.task();
    assert_eq!(finished(&task), [(1, 3), (2, 3)]);
    let last = task["history"][1]["metrics"]["accuracy"].as_f64().unwrap();
    assert!(last > 0.8, "{last}");
    // A client that knows of two shares only is told so, before it sends anything.
    let url = format!("http://127.0.0.1:{}", mesh.port + 10);
    let said = put(&url, task["id"].as_str().unwrap());
    assert!(said.starts_with("HTTP/1.1 415"), "{said}");
    assert!(said.contains("application/vnd.defim-report"), "{said}");
    // More shares than full nodes, and fewer than hide anything, are no task.
    let token = mesh.folder().join("aggregation/admin.token");
    let create = |name: &str, shares: &str| {
        let token = token.to_str().unwrap();
        let args = ["task", "create", "--task", "diabetes", "--name", name];
        mesh.call(&[&args[..], &["--shares", shares, "--admin-token", token]].concat())
    };
    assert!(create("three", "3").status.success());
    assert_eq!(create("four", "4").status.code(), Some(2));
    assert_eq!(create("one", "1").status.code(), Some(2));
}

#[test]
fn a_helper_of_three_that_dies_between_its_two_answers_finishes_what_it_has_begun() {
    let mut mesh = Mesh::start(&["--min-batch", "3", "--max-batch", "3", "--shares", "3"]);
    // It has answered for its share, and cannot store that the proof holds.
    let disk = FullDisk::before(&mesh, "full-2", "UPDATE ON report WHEN NEW.state = 1");
    for _ in 0..3 {
        assert!(mesh.contribute(&[]).status.success());
    }
    mesh.wait("it was asked to finish", |mesh| {
        let log = std::fs::read_to_string(mesh.log("full-2")).unwrap();
        log.contains("the disk is full")
    });
    mesh.kill("full-2");
    mesh.wait("it is waited for", |mesh| {
        let text = mesh.task()["round"]["text"].clone();
        text.as_str().unwrap().contains("full-2 does not answer")
    });
    drop(disk);
    mesh.run("full-2");
    mesh.wait("the round is finished", |mesh| {
        finished(&mesh.task()) == [(1, 3)]
    });
}

#[test]
fn a_node_that_is_down_is_named_and_nothing_is_lost() {
    let mut mesh = Mesh::start(&["--min-batch", "4", "--max-batch", "50"]);
    let mut stored = 0;
    // One of three: the others do without it.
    mesh.kill("full-2");
    mesh.wait("the others are known to be there", |mesh| {
        let nodes = mesh.json(&["node", "list"]).unwrap();
        nodes["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|n| n["name"] == "full-2" && n["reachable"] == false)
    });
    // Some meet it as a helper, and wait for it; who leads is tried by the light node.
    mesh.wait("a report is verified", |mesh| {
        let done = mesh.contribute(&["--timeout", "5"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        stored += 1;
        sleep(Duration::from_millis(500));
        mesh.task()["round"]["verified"].as_u64() >= Some(1)
    });
    // Two of three: contributions are stored, and wait for a helper.
    mesh.kill("full-3");
    mesh.wait("enough contributions are stored", |mesh| {
        stored += u64::from(mesh.contribute(&["--timeout", "5"]).status.success());
        stored >= 4
    });
    mesh.wait("the task says who is missing", |mesh| {
        let text = mesh.task()["round"]["text"].clone();
        let text = text.as_str().unwrap();
        text.contains("full-2 does not answer") || text.contains("full-3 does not answer")
    });
    // All of them: a contribution is refused here and now, and says who is down.
    mesh.kill("full-1");
    let done = mesh.contribute(&["--timeout", "3"]);
    assert_eq!(done.status.code(), Some(4), "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("full-"),
        "{}",
        text(&done.stderr)
    );
    for node in ["full-1", "full-2", "full-3"] {
        mesh.run(node);
    }
    mesh.wait("the round is finished", |mesh| {
        finished(&mesh.task()) == [(1, stored)]
    });
}

#[test]
fn a_full_node_that_is_killed_once_sums_are_encrypted_is_not_missed() {
    let mut mesh = Mesh::start(&["--min-batch", "3", "--max-batch", "3"]);
    // Stopped where all sums are stored, and nobody has been asked to open them.
    let disk = FullDisk::at_when(&mesh, "aggregation", "statement", "NEW.name = 'opening'");
    for _ in 0..3 {
        assert!(mesh.contribute(&[]).status.success());
    }
    mesh.wait("all sums are encrypted", |mesh| {
        let log = std::fs::read_to_string(mesh.log("aggregation")).unwrap();
        log.contains("the disk is full")
    });
    mesh.kill("full-3");
    drop(disk);
    mesh.wait("the round is finished without it", |mesh| {
        finished(&mesh.task()) == [(1, 3)]
    });
    // And the next one, by those that are left.
    // Light nodes draw who checks a report: one that has drawn the missing node as helper is not counted.
    mesh.wait("the next round is finished", |mesh| {
        mesh.contribute(&["--timeout", "1"]);
        // One more may come before the round is seen to be full.
        matches!(finished(&mesh.task())[..], [(1, 3), (2, 3..), ..])
    });
}

#[test]
fn a_paused_task_takes_nothing_and_goes_on_later() {
    let mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    let token = mesh.folder().join("aggregation/admin.token");
    let token = token.to_str().unwrap();
    assert!(
        mesh.json(&["task", "pause", "digits", "--admin-token", token])
            .is_some()
    );
    let done = mesh.contribute(&["--timeout", "1"]);
    assert_eq!(done.status.code(), Some(4));
    assert!(
        text(&done.stderr).contains("Paused"),
        "{}",
        text(&done.stderr)
    );
    let wrong = mesh.sample();
    let refused = mesh.call(&[
        "task",
        "pause",
        "digits",
        "--resume",
        "--admin-token",
        wrong.to_str().unwrap(),
    ]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(
        mesh.json(&[
            "task",
            "pause",
            "digits",
            "--resume",
            "--admin-token",
            token
        ])
        .is_some()
    );
    mesh.wait("the task goes on", |mesh| {
        mesh.contribute(&["--timeout", "1"]).status.success()
    });
}

#[test]
fn a_task_that_goes_on_goes_on_at_a_member_that_was_away_and_after_a_restart() {
    let mut mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    let token = mesh.folder().join("aggregation/admin.token");
    let token = token.to_str().unwrap().to_owned();
    let pause = |mesh: &Mesh, more: &[&str]| {
        let fixed = ["task", "pause", "digits", "--admin-token", &token];
        assert!(mesh.json(&[&fixed, more].concat()).is_some());
    };
    pause(&mesh, &[]);
    let state = |mesh: &Mesh| {
        let url = format!("http://127.0.0.1:{}", mesh.port + 10);
        let task = mesh.task()["id"].as_str().unwrap().to_owned();
        put(&url, &task)
    };
    mesh.wait("the leader has heard of the pause", |mesh| {
        state(mesh).contains("paused")
    });
    mesh.kill("full-1");
    pause(&mesh, &["--resume"]);
    // The one that could know that the member has not heard of it is gone as well.
    mesh.kill("aggregation");
    mesh.run("aggregation");
    mesh.run("full-1");
    mesh.wait("the task goes on at the leader", |mesh| {
        mesh.json(&["task", "show", "digits"]).is_some() && state(mesh).contains("malformed")
    });
}

/// What a full node says to four bytes that are no report.
fn put(url: &str, task: &str) -> String {
    use std::io::{Read as _, Write as _};
    let address = url.trim_start_matches("http://");
    let Ok(mut stream) = std::net::TcpStream::connect(address) else {
        return String::new();
    };
    let head = format!(
        "PUT /tasks/{task}/reports HTTP/1.1\r\nHost: defim\r\nConnection: close\r\nContent-Length: 4\r\n\r\njunk"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    text(&said)
}

/// A store that refuses to write to a table, as one on a full disk does, until it is dropped.
struct FullDisk(std::path::PathBuf);

impl FullDisk {
    fn at(mesh: &Mesh, node: &str, table: &str) -> Self {
        Self::at_when(mesh, node, table, "1")
    }

    fn at_when(mesh: &Mesh, node: &str, table: &str, when: &str) -> Self {
        Self::before(mesh, node, &format!("INSERT ON {table} WHEN {when}"))
    }

    fn before(mesh: &Mesh, node: &str, event: &str) -> Self {
        let disk = Self(mesh.folder().join(node).join("work.db"));
        disk.run(&format!(
            "CREATE TRIGGER full_disk BEFORE {event} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        ));
        disk
    }

    fn run(&self, sql: &str) {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(&self.0)
            .busy_timeout(std::time::Duration::from_secs(30));
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async {
                let mut store = sqlx::SqliteConnection::connect_with(&options)
                    .await
                    .unwrap();
                sqlx::raw_sql(sql).execute(&mut store).await.unwrap();
                store.close().await.unwrap();
            });
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        self.run("DROP TRIGGER full_disk");
    }
}

#[test]
fn a_store_that_fails_at_any_step_of_a_round_costs_time_and_nothing_else() {
    let mut mesh = Mesh::start(&["--min-batch", "2", "--max-batch", "2"]);
    let mut rounds = 0;
    for table in ["statement", "encrypted_sum", "result", "round", "model"] {
        for restart in [false, true] {
            let disk = FullDisk::at(&mesh, "aggregation", table);
            let before = std::fs::read_to_string(mesh.log("aggregation"))
                .unwrap()
                .len();
            for _ in 0..2 {
                assert!(mesh.contribute(&[]).status.success());
            }
            mesh.wait(&format!("the store has refused: {table}"), |mesh| {
                let log = std::fs::read_to_string(mesh.log("aggregation")).unwrap();
                log[before..].contains("the disk is full")
            });
            if restart {
                mesh.kill("aggregation");
            }
            drop(disk);
            if restart {
                mesh.run("aggregation");
            }
            rounds += 1;
            mesh.wait(
                &format!("round {rounds} is finished after {table}"),
                |mesh| {
                    mesh.json(&["task", "show", "digits"]).is_some_and(|task| {
                        task["round"]["round"] == rounds + 1
                            && task["round"]["acceptsReports"] == true
                    })
                },
            );
            let task = mesh.task();
            let expected: Vec<_> = (1..=rounds).map(|round| (round, 2)).collect();
            assert_eq!(finished(&task), expected, "after {table}");
            assert_eq!(task["round"]["baseModel"], task["currentModel"]);
        }
    }
}
