//! A node that is killed at any moment loses no acknowledged report and counts none twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use defim_store::{BatchKey, ClosedBatch, NewReport, Outcome, PutReport, WorkStore};

const TASK: [u8; 32] = [7; 32];
const KEY: BatchKey = BatchKey {
    task: TASK,
    round: 1,
    committee: 0,
};
const CHILD: &str = "DEFIM_STORE_CRASH_CHILD";

fn report(n: u64) -> NewReport {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    NewReport {
        task: TASK,
        round: 1,
        committee: 0,
        id,
        digest: [1; 32],
        bytes: vec![9; 20_000],
        time: n,
        received: n,
    }
}

/// Stores reports and outcomes into `path,first` until it is killed, saying what was acknowledged.
async fn child(args: &str) {
    let (path, first) = args.split_once(',').unwrap();
    let store = WorkStore::open(path).await.unwrap();
    for n in first.parse::<u64>().unwrap().. {
        let report = report(n);
        let id = report.id;
        assert_eq!(store.put_report(report).await.unwrap(), PutReport::Stored);
        println!("stored {n}");
        if n % 2 == 0 {
            let outcome = Outcome::Verified {
                out_share: vec![1; 100],
                response: vec![2],
            };
            store.record_outcomes(KEY, &[(id, outcome)]).await.unwrap();
            println!("verified {n}");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_and_counts_once() {
    // This very test is the process that it kills.
    if let Ok(args) = std::env::var(CHILD) {
        return child(&args).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("work.db");
    {
        let store = WorkStore::open(&path).await.unwrap();
        store.put_task(TASK, b"m", 0).await.unwrap();
        store.put_round(TASK, 1, b"r", 0).await.unwrap();
    }
    let (mut stored, mut verified) = (BTreeSet::new(), BTreeSet::new());
    for turn in 0..10u64 {
        let first = turn * 100_000;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "what_was_acknowledged_survives_kill_and_counts_once",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, format!("{},{first}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let until = 3 + turn as usize * 2;
        let mut seen = 0;
        let mut note = |line: &str| {
            if let Some(n) = line.split("stored ").nth(1) {
                stored.insert(n.trim().parse::<u64>().unwrap());
                return 1;
            }
            if let Some(n) = line.split("verified ").nth(1) {
                verified.insert(n.trim().parse::<u64>().unwrap());
            }
            0
        };
        while seen < until {
            seen += note(&lines.next().expect("the child goes on until it is killed"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as said.
        lines.for_each(|line| {
            note(&line);
        });

        let store = WorkStore::open(&path).await.unwrap();
        let counts = store.report_counts(KEY).await.unwrap();
        // The last step of each turn may have reached the disk without being said.
        let turns = turn + 1;
        let total = counts.pending + counts.verified;
        assert!(total >= stored.len() as u64 && total <= stored.len() as u64 + turns);
        assert!(
            counts.verified >= verified.len() as u64
                && counts.verified <= verified.len() as u64 + turns
        );
        for n in &stored {
            assert_eq!(
                store.put_report(report(*n)).await.unwrap(),
                PutReport::Same,
                "report {n} was lost"
            );
        }
    }
    let store = WorkStore::open(&path).await.unwrap();
    let ids = store.verified_ids(KEY).await.unwrap();
    let mut distinct = ids.clone();
    distinct.dedup();
    assert_eq!(ids.len(), distinct.len());
    let mut folded = 0;
    store
        .fold_out_shares(KEY, &ids, |_, share| {
            folded += share.len();
            Ok::<_, String>(())
        })
        .await
        .unwrap();
    assert_eq!(folded, ids.len() * 100);
    let batch = ClosedBatch {
        summary: b"s".to_vec(),
        signatures: b"g".to_vec(),
        aggregate_share: b"a".to_vec(),
        report_ids: ids.clone(),
    };
    store.close_batch(KEY, batch.clone()).await.unwrap();
    assert!(
        store.close_batch(KEY, batch).await.is_err(),
        "a round closes once"
    );
    for n in &stored {
        assert_eq!(
            store.put_report(report(*n)).await.unwrap(),
            PutReport::Conflict,
            "report {n} was replayed"
        );
    }
}
