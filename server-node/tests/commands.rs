//! Commands that need no mesh: bad input is refused with its reason and the contract's exit code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::fs::File;

use common::{defim_with, text};
use serde_json::Value;

fn refused(csv: &[u8], wanted: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    std::fs::write(&path, csv).unwrap();
    let done = defim_with(&[
        "simulate",
        "--task",
        "diabetes",
        "--data",
        path.to_str().unwrap(),
        "--rounds",
        "1",
    ]);
    let message = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{message}");
    for word in wanted {
        assert!(message.contains(word), "\"{word}\" is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn with_cell(row: usize, column: usize, cell: &str) -> Vec<u8> {
    let csv = text(defim_learn::builtin_csv("diabetes").unwrap());
    let mut lines: Vec<Vec<String>> = csv
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect();
    lines[row][column] = cell.to_owned();
    lines
        .iter()
        .map(|line| line.join(",") + "\n")
        .collect::<String>()
        .into_bytes()
}

#[test]
fn bad_rows_are_named_by_row_and_column() {
    refused(&with_cell(0, 2, "weight"), &["bmi", "missing"]);
    refused(
        &with_cell(3, 2, "heavy"),
        &["row 3", "bmi", "heavy", "not a number"],
    );
    refused(&with_cell(4, 2, "NaN"), &["row 4", "bmi", "NaN"]);
    refused(&with_cell(5, 2, "1e9"), &["row 5", "bmi", "out of range"]);
    refused(&with_cell(6, 2, ""), &["row 6", "bmi", "empty"]);
    refused(b"", &["empty"]);
    refused(
        b"age,sex,bmi,bp,s1,s2,s3,s4,s5,s6,progression\n",
        &["no row"],
    );
    refused(&[0xff, 0xfe, 0x00], &["rows.csv"]);
}

#[test]
fn a_file_of_a_gigabyte_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.csv");
    File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let done = defim_with(&[
        "simulate",
        "--task",
        "digits",
        "--data",
        path.to_str().unwrap(),
    ]);
    assert_eq!(done.status.code(), Some(3));
    assert!(
        text(&done.stderr).contains("1073741824 bytes"),
        "{}",
        text(&done.stderr)
    );
}

#[test]
fn a_file_without_an_end_is_refused() {
    let done = defim_with(&["simulate", "--task", "digits", "--data", "/dev/zero"]);
    let message = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{message}");
    assert!(
        message.contains("/dev/zero has over 67108864 bytes"),
        "{message}"
    );
}

#[test]
fn a_model_too_large_for_the_committee_is_too_large_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (task, rows) = (dir.path().join("task.json"), dir.path().join("rows.csv"));
    let mut spec = defim_learn::builtin("breast-cancer", Some("mlp"))
        .unwrap()
        .spec;
    spec.model = defim_learn::ModelSpec::Mlp { hidden: 65_536 };
    std::fs::write(&task, serde_json::to_string(&spec).unwrap()).unwrap();
    std::fs::write(&rows, defim_learn::builtin_csv("breast-cancer").unwrap()).unwrap();
    let (task, rows) = (task.to_str().unwrap(), rows.to_str().unwrap());
    let simulate = ["simulate", "--task", task, "--data", rows, "--rounds", "1"];
    for more in [&[][..], &["--baseline", "plain"]] {
        let done = defim_with(&[&simulate, more].concat());
        let message = text(&done.stderr);
        assert_eq!(done.status.code(), Some(3), "{message}");
        assert!(
            message.contains("the update's dimension is 2162690"),
            "{message}"
        );
    }
}

#[test]
fn what_cannot_be_read_from_the_command_line_is_told_in_json_too() {
    let usage = |args: &[&str]| {
        let done = defim_with(args);
        assert_eq!(done.status.code(), Some(2), "{args:?}");
        assert!(text(&done.stderr).starts_with("error: "));
        let line: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
        assert_eq!(line["error"], "usage");
        line["message"].as_str().unwrap().to_owned()
    };
    assert!(usage(&["bogus", "--json"]).contains("'bogus'"));
    assert!(usage(&["--json", "simulate"]).contains("--task"));
    let rounds = [
        "contribute",
        "--task",
        "digits",
        "--data",
        "/dev/null",
        "--rounds",
        "0",
        "--json",
    ];
    assert!(usage(&rounds).contains("--rounds"));
    let plain = defim_with(&["bogus"]);
    assert_eq!(text(&plain.stdout), "");
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let code = |args: &[&str]| {
        let done = defim_with(args);
        assert!(
            !text(&done.stderr).contains("panicked"),
            "{}",
            text(&done.stderr)
        );
        done.status.code().unwrap()
    };
    assert_eq!(code(&["--help"]), 0);
    assert_eq!(code(&["no-such-command"]), 2);
    assert_eq!(code(&["simulate", "--task", "no-such-task"]), 3);
    assert_eq!(
        code(&["simulate", "--task", "digits", "--model", "linear"]),
        3
    );
    assert_eq!(code(&["simulate", "--task", "digits", "--light", "1"]), 3);
    assert_eq!(code(&["simulate", "--task", "digits", "--rounds", "0"]), 3);
    assert_eq!(
        code(&[
            "simulate",
            "--task",
            "digits",
            "--data",
            "/no/such/file.csv"
        ]),
        3
    );
    assert_eq!(code(&["node", "run", "--config", "/no/such/file.toml"]), 3);
    assert_eq!(code(&["task", "list", "--mesh", "http://127.0.0.1:9"]), 4);
    assert_eq!(code(&["task", "list", "--mesh", "nonsense"]), 2);
}

#[test]
fn flags_that_contradict_each_other_or_their_range_are_wrong_usage() {
    let usage = |args: &[&str], word: &str| {
        let done = defim_with(args);
        let message = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(word), "\"{word}\" is not in: {message}");
    };
    usage(
        &["account", "show", "--key", "FILE", "NODE"],
        "cannot be used with",
    );
    for more in [["--epsilon", "8"], ["--dropouts", "1"], ["--shares", "3"]] {
        let plain = ["simulate", "--task", "digits", "--baseline", "plain"];
        usage(&[&plain[..], &more].concat(), "cannot be used with");
    }
    // Its second full node would be there.
    usage(
        &["node", "init", "--dir", "/nowhere", "--base-port", "10060"],
        "port 10080",
    );
    let init =
        |more: [&'static str; 2]| [&["node", "init", "--dir", "/nowhere"], &more[..]].concat();
    usage(&init(["--fairness-gap", "0.2"]), "--quality-votes");
    usage(&init(["--loss-tolerance", "1001"]), "--loss-tolerance");
    usage(&init(["--loss-tolerance", "nan"]), "--loss-tolerance");
    usage(&["up", "--listen", "127.0.0.1:6667"], "port 6667");
    usage(&["ledger", "show", "--limit", "0"], "1..=100");
    usage(&["ledger", "show", "--limit", "100000"], "1..=100");
    usage(&["audit", "--task", "digits", "--round", "0"], "--round");
    usage(
        &["simulate", "--task", "digits", "--epsilon", "nan"],
        "up to 100",
    );
}

#[test]
fn bytes_that_are_no_evidence_are_told_apart_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("digits.csv");
    std::fs::write(&path, "1,2,3\n").unwrap();
    let done = defim_with(&["ledger", "verify", "--evidence", path.to_str().unwrap()]);
    let message = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{message}");
    assert!(message.contains("digits.csv is no evidence of a fault"));
    assert!(!message.contains("Serde"), "{message}");
}

#[test]
fn json_says_what_failed() {
    let done = defim_with(&["simulate", "--task", "no-such-task", "--json"]);
    let line: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
    assert_eq!(line["error"], "input");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("digits, breast-cancer, diabetes")
    );
}

#[test]
fn every_command_shows_an_example() {
    for command in [
        "up",
        "simulate",
        "contribute",
        "node run",
        "node init",
        "node list",
        "task create",
        "task list",
        "task show",
        "task pause",
        "task void-round",
        "model export",
        "account claim",
    ] {
        let args: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = text(&defim_with(&args).stdout);
        assert!(
            help.contains(&format!("defim {command}")) && help.contains("Example"),
            "{command}: {help}"
        );
    }
}

#[test]
fn a_simulation_prints_its_rounds_and_a_summary() {
    let done = defim_with(&[
        "simulate",
        "--task",
        "breast-cancer",
        "--light",
        "4",
        "--silos",
        "1",
        "--max-weight",
        "20",
        "--rounds",
        "2",
        "--json",
    ]);
    let lines: Vec<Value> = text(&done.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["round"], 2);
    assert_eq!(lines[1]["reports"], 5);
    assert!(lines[1]["steps"]["silo_train_ms"].as_f64().unwrap() > 0.0);
    assert!(lines[1]["steps"]["split_ms"].as_f64().unwrap() > 0.0);
    let last = &lines[2];
    assert_eq!(last["summary"], true);
    assert!(last["accuracy"].as_f64().unwrap() > 0.5);
    assert!(last["upload_bytes_per_report"].as_u64().unwrap() > 1000);
    assert_eq!(last["rejected"], 0);
    assert!(last["wall_s"].as_f64().unwrap() > 0.0);
}
