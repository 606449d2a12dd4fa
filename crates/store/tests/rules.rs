//! The rules a node relies on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_store::{
    Artefact, BatchKey, BegunReport, ClaimReport, ClosedBatch, CompletedRound, EncryptedLast,
    NewReport, Outcome, PartialKey, PutReport, ReportStatus, RoundState, StoreError, WorkStore,
};

const TASK: [u8; 32] = [1; 32];
const KEY: BatchKey = BatchKey {
    task: TASK,
    round: 1,
    committee: 0,
};

async fn store() -> WorkStore {
    let store = WorkStore::open_in_memory().await.unwrap();
    store.put_task(TASK, b"manifest", 5).await.unwrap();
    store.put_round(TASK, 1, b"round 1", 6).await.unwrap();
    store
}

fn report(id: u8, digest: u8) -> NewReport {
    NewReport {
        task: TASK,
        round: 1,
        committee: 0,
        id: [id; 16],
        digest: [digest; 32],
        bytes: vec![id; 8],
        time: 0,
        received: 0,
    }
}

fn verified(share: u8) -> Outcome {
    Outcome::Verified {
        out_share: vec![share; 4],
        response: vec![share],
    }
}

#[tokio::test]
async fn an_id_is_used_once_for_ever() {
    let store = store().await;
    assert_eq!(
        store.put_report(report(1, 1)).await.unwrap(),
        PutReport::Stored
    );
    assert_eq!(
        store.put_report(report(1, 1)).await.unwrap(),
        PutReport::Same
    );
    assert_eq!(
        store.put_report(report(1, 2)).await.unwrap(),
        PutReport::Conflict
    );
    store.end_round(TASK, 1).await.unwrap();
    assert_eq!(
        store.put_report(report(1, 1)).await.unwrap(),
        PutReport::Conflict
    );
    assert_eq!(
        store.report_status(TASK, [1; 16]).await.unwrap(),
        Some(ReportStatus::Dropped)
    );
    let later = NewReport {
        round: 2,
        ..report(1, 1)
    };
    assert_eq!(store.put_report(later).await.unwrap(), PutReport::Conflict);
}

#[tokio::test]
async fn a_helper_answers_the_same_report_the_same_way_and_another_never() {
    let store = store().await;
    let claim = |id: u8, digest: u8| store.claim_helper_report(KEY, [id; 16], [digest; 32]);
    let asked = store.helper_report(KEY, [1; 16], [9; 32]);
    assert_eq!(
        asked.await.unwrap(),
        ClaimReport::New,
        "asking claims nothing"
    );
    assert_eq!(claim(1, 1).await.unwrap(), ClaimReport::New);
    assert_eq!(claim(2, 2).await.unwrap(), ClaimReport::New);
    store
        .record_outcomes(
            KEY,
            &[
                ([1; 16], verified(1)),
                ([2; 16], Outcome::Rejected { reason: 10 }),
            ],
        )
        .await
        .unwrap();
    assert_eq!(claim(1, 1).await.unwrap(), ClaimReport::Same);
    assert_eq!(claim(2, 2).await.unwrap(), ClaimReport::Same);
    assert_eq!(claim(2, 3).await.unwrap(), ClaimReport::Conflict);
    assert_eq!(claim(1, 3).await.unwrap(), ClaimReport::Conflict);
    assert_eq!(
        store.outcome(TASK, [1; 16]).await.unwrap(),
        Some(verified(1))
    );
    // A second outcome changes nothing: a report cannot be verified after it was refused.
    store
        .record_outcomes(KEY, &[([2; 16], verified(2))])
        .await
        .unwrap();
    assert_eq!(
        store.outcome(TASK, [2; 16]).await.unwrap(),
        Some(Outcome::Rejected { reason: 10 })
    );
    assert_eq!(store.verified_ids(KEY).await.unwrap(), vec![[1; 16]]);
}

#[tokio::test]
async fn what_a_helper_has_begun_stays_until_its_end_and_goes_with_the_round() {
    let store = store().await;
    let begun = |n: u8| BegunReport {
        state: vec![n; 9],
        response: vec![n; 5],
    };
    for id in 1..=3 {
        let claim = store.claim_helper_report(KEY, [id; 16], [id; 32]);
        assert_eq!(claim.await.unwrap(), ClaimReport::New);
    }
    assert_eq!(store.begun(KEY, [1; 16]).await.unwrap(), None);
    let all = [
        ([1; 16], begun(1)),
        ([2; 16], begun(2)),
        ([3; 16], begun(3)),
    ];
    store.record_begun(KEY, &all).await.unwrap();
    // Begun anew it is what it was: what the leader was told stays true.
    store
        .record_begun(KEY, &[([1; 16], begun(9))])
        .await
        .unwrap();
    assert_eq!(store.begun(KEY, [1; 16]).await.unwrap(), Some(begun(1)));
    let claim = store.claim_helper_report(KEY, [1; 16], [1; 32]);
    assert_eq!(claim.await.unwrap(), ClaimReport::Same);
    // It is neither verified nor an outcome, nor another committee's, nor for this node to lead.
    assert_eq!(store.outcome(TASK, [1; 16]).await.unwrap(), None);
    assert_eq!(
        store.verified_ids(KEY).await.unwrap(),
        Vec::<[u8; 16]>::new()
    );
    let other = BatchKey {
        committee: 1,
        ..KEY
    };
    assert_eq!(store.begun(other, [1; 16]).await.unwrap(), None);
    store
        .record_outcomes(KEY, &[([1; 16], verified(7))])
        .await
        .unwrap();
    let refused = Outcome::Rejected { reason: 10 };
    store
        .record_outcomes(KEY, &[([2; 16], refused.clone())])
        .await
        .unwrap();
    for id in [1, 2] {
        assert_eq!(store.begun(KEY, [id; 16]).await.unwrap(), None);
        store
            .record_begun(KEY, &[([id; 16], begun(8))])
            .await
            .unwrap();
        assert_eq!(store.begun(KEY, [id; 16]).await.unwrap(), None);
    }
    assert_eq!(
        store.outcome(TASK, [1; 16]).await.unwrap(),
        Some(verified(7))
    );
    assert_eq!(store.outcome(TASK, [2; 16]).await.unwrap(), Some(refused));
    store.end_round(TASK, 1).await.unwrap();
    assert_eq!(store.begun(KEY, [3; 16]).await.unwrap(), None);
}

#[tokio::test]
async fn closing_keeps_the_sum_and_drops_what_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("work.db");
    let store = WorkStore::open(&path).await.unwrap();
    store.put_task(TASK, b"manifest", 5).await.unwrap();
    store.put_round(TASK, 1, b"round", 6).await.unwrap();
    let planted = b"planted body of a report";
    store
        .put_report(NewReport {
            bytes: planted.to_vec(),
            ..report(1, 1)
        })
        .await
        .unwrap();
    store.put_report(report(2, 2)).await.unwrap();
    store
        .record_outcomes(KEY, &[([1; 16], verified(1))])
        .await
        .unwrap();
    store.put_report(report(3, 3)).await.unwrap();
    store
        .record_outcomes(KEY, &[([3; 16], Outcome::Rejected { reason: 6 })])
        .await
        .unwrap();
    let batch = |ids: Vec<[u8; 16]>| ClosedBatch {
        summary: b"summary".to_vec(),
        signatures: b"signatures".to_vec(),
        aggregate_share: b"share".to_vec(),
        report_ids: ids,
    };
    let missing = store.close_batch(KEY, batch(vec![[1; 16], [2; 16]])).await;
    assert!(matches!(missing, Err(StoreError::MissingShare)));
    assert!(
        store.batch(KEY).await.unwrap().is_none(),
        "nothing half closed"
    );
    store.close_batch(KEY, batch(vec![[1; 16]])).await.unwrap();
    assert_eq!(store.outcome(TASK, [1; 16]).await.unwrap(), None);
    assert_eq!(
        store.report_status(TASK, [2; 16]).await.unwrap(),
        Some(ReportStatus::Dropped)
    );
    let counts = store.report_counts(KEY).await.unwrap();
    assert_eq!(
        (counts.verified, counts.rejected_by_reason),
        (1, vec![(6, 1)])
    );
    let held = store.batch(KEY).await.unwrap().unwrap();
    assert_eq!(held.aggregate_share, b"share");
    assert_eq!(store.counted_ids(KEY).await.unwrap(), [[1; 16]]);
    // Another committee's reports go on.
    let other = BatchKey {
        committee: 1,
        ..KEY
    };
    let theirs = NewReport {
        committee: 1,
        ..report(4, 4)
    };
    store.put_report(theirs).await.unwrap();
    assert_eq!(store.pending_reports(other, 9, 99).await.unwrap().len(), 1);
    assert!(store.batch(other).await.unwrap().is_none());
    store.end_round(TASK, 1).await.unwrap();
    assert_eq!(
        store.current_round(TASK).await.unwrap().unwrap().state,
        RoundState::Closed
    );
    let held = store.batch(KEY).await.unwrap().unwrap();
    assert_eq!(
        (held.summary.as_slice(), held.aggregate_share.as_slice()),
        (b"summary".as_slice(), b"".as_slice())
    );
    assert!(
        store
            .pending_reports(other, 9, 99)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn settings_are_dropped_by_how_their_names_begin() {
    let store = store().await;
    for name in [
        "proposal/a/1/0",
        "proposal/a/1/5",
        "proposal/a/12/0",
        "verify-key/a",
    ] {
        store.put_setting(name, b"value").await.unwrap();
    }
    store.drop_settings("proposal/a/1/").await.unwrap();
    let held = async |name| store.setting(name).await.unwrap().is_some();
    assert!(!held("proposal/a/1/0").await && !held("proposal/a/1/5").await);
    assert!(held("proposal/a/12/0").await && held("verify-key/a").await);
}

#[tokio::test]
async fn what_was_opened_in_a_round_is_never_replaced() {
    let store = store().await;
    assert_eq!(store.answered(TASK, 1).await.unwrap(), None);
    store.put_answered(TASK, 1, b"this set").await.unwrap();
    store.put_answered(TASK, 1, b"this set").await.unwrap();
    assert!(matches!(
        store.put_answered(TASK, 1, b"another").await,
        Err(StoreError::AnsweredOtherwise)
    ));
    let last = |record: &[u8], submission: Option<&[u8]>| EncryptedLast {
        record: record.to_vec(),
        submission: submission.map(<[u8]>::to_vec),
    };
    let encrypted = async |round| store.encrypted(TASK, round).await.unwrap();
    store.put_encrypted(TASK, 1, b"A", b"sum A").await.unwrap();
    store.put_encrypted(TASK, 1, b"B", b"sum B").await.unwrap();
    assert_eq!(encrypted(1).await, Some(last(b"B", Some(b"sum B"))));
    store.end_round(TASK, 1).await.unwrap();
    assert_eq!(store.answered(TASK, 1).await.unwrap().unwrap(), b"this set");
    assert_eq!(encrypted(1).await, Some(last(b"B", None)));
    assert_eq!(encrypted(2).await, None);
    // Two were encrypted, and opening one costs nothing more. What others encrypted costs when it is opened.
    assert_eq!(store.selections_spent(TASK).await.unwrap(), 2);
    store.put_answered(TASK, 2, b"that set").await.unwrap();
    assert_eq!(store.selections_spent(TASK).await.unwrap(), 3);
}

fn upload(id: u8, digest: u8) -> PartialKey {
    PartialKey {
        task: TASK,
        id: [id; 16],
        digest: [digest; 32],
    }
}

#[tokio::test]
async fn whoever_knows_an_id_does_not_stop_its_upload_and_begins_few_of_their_own() {
    let store = store().await;
    let begin = |digest, now| store.partial_begin(upload(1, digest), 10, now, 1_000, 100);
    assert_eq!(begin(0, 1_000).await.unwrap(), 0);
    let append = |offset, now| store.partial_append(upload(1, 0), offset, b"1", now);
    append(0, 1_000).await.unwrap();
    for other in 1..4 {
        assert_eq!(begin(other, 1_100).await.unwrap(), 0);
    }
    let more = begin(4, 1_200).await;
    assert!(matches!(more, Err(StoreError::PartialsFull)));
    // Other ids have their own room.
    let other = store.partial_begin(upload(2, 4), 10, 1_200, 1_000, 100);
    assert_eq!(other.await.unwrap(), 0);
    append(1, 1_300).await.unwrap();
    // Of those that stand still one makes room, and never the one that runs.
    for other in 4..9 {
        let now = 3_000 * u64::from(other);
        append(u64::from(other) - 2, now).await.unwrap();
        assert_eq!(begin(other, now).await.unwrap(), 0);
    }
    assert_eq!(begin(0, 30_000).await.unwrap(), 7);
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_stopped_and_never_elsewhere() {
    let store = store().await;
    let begin = |length, digest| store.partial_begin(upload(1, digest), length, 0, 100, 2);
    assert_eq!(begin(10, 1).await.unwrap(), 0);
    assert_eq!(
        store
            .partial_append(upload(1, 1), 0, b"01234", 0)
            .await
            .unwrap(),
        5
    );
    assert_eq!(begin(10, 1).await.unwrap(), 5);
    let elsewhere = store.partial_append(upload(1, 1), 0, b"x", 0).await;
    assert!(matches!(
        elsewhere,
        Err(StoreError::WrongOffset { asked: 0, held: 5 })
    ));
    assert!(
        store
            .partial_append(upload(1, 1), 5, b"567890", 0)
            .await
            .is_err(),
        "over its length"
    );
    assert_eq!(store.partial_finish(upload(1, 1)).await.unwrap(), None);
    store
        .partial_append(upload(1, 1), 5, b"56789", 0)
        .await
        .unwrap();
    assert_eq!(
        store.partial_finish(upload(1, 1)).await.unwrap().unwrap(),
        b"0123456789"
    );
    assert_eq!(begin(10, 2).await.unwrap(), 0, "other bytes start anew");
    assert_eq!(begin(10, 1).await.unwrap(), 10, "and stop none that run");
    let full = store.partial_begin(upload(2, 0), 95, 0, 100, 2).await;
    assert!(matches!(full, Err(StoreError::PartialsFull)));
    assert_eq!(store.partial_expire(1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_round_completes_with_its_model_and_forgets_what_it_was_made_of() {
    let store = store().await;
    store
        .put_encrypted_sum(TASK, 1, [3; 32], b"of an earlier selection")
        .await
        .unwrap();
    store.put_selection(TASK, 1, b"selected").await.unwrap();
    assert!(store.encrypted_sums(TASK, 1).await.unwrap().is_empty());
    store
        .put_encrypted_sum(TASK, 1, [3; 32], b"encrypted")
        .await
        .unwrap();
    store
        .put_statement(TASK, 1, "opening", b"opened")
        .await
        .unwrap();
    assert_eq!(
        store.statements(TASK, 1).await.unwrap(),
        [
            ("opening".to_owned(), b"opened".to_vec()),
            ("selection".to_owned(), b"selected".to_vec())
        ]
    );
    let completed = CompletedRound {
        task: TASK,
        round: 1,
        model: [9; 32],
        model_bytes: b"model".to_vec(),
        optimiser: b"state".to_vec(),
        metrics: "{}".into(),
        reports: 3,
        rejected: "{}".into(),
        votes: Some("[1]".into()),
        finished: 8,
        spent: 1,
        artefacts: vec![artefact("key", 1), artefact("record", 9)],
    };
    store.complete_round(completed.clone()).await.unwrap();
    assert!(
        store.complete_round(completed.clone()).await.is_err(),
        "a round completes once"
    );
    assert!(store.encrypted_sums(TASK, 1).await.unwrap().is_empty());
    assert!(store.statements(TASK, 1).await.unwrap().is_empty());
    assert_eq!(
        store.latest_model(TASK).await.unwrap().unwrap(),
        (b"model".to_vec(), b"state".to_vec())
    );
    store.put_round(TASK, 2, b"round 2", 9).await.unwrap();
    store
        .void_aggregation_round(TASK, 2, "short", 0, 10)
        .await
        .unwrap();
    assert_eq!(store.selections_asked(TASK).await.unwrap(), 1);
    store.put_round(TASK, 3, b"round 3", 11).await.unwrap();
    store
        .void_aggregation_round(TASK, 3, "encrypted twice, and not opened", 2, 12)
        .await
        .unwrap();
    assert_eq!(store.selections_asked(TASK).await.unwrap(), 3);
    let history = store.history(TASK, Some(3), 100).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].void_reason.as_deref(), Some("short"));
    assert_eq!(store.latest_model(TASK).await.unwrap().unwrap().0, b"model");
    // What is public of a round stays for as many rounds as it says.
    let key = || store.artefact(TASK, 1, "key");
    assert_eq!(key().await.unwrap().unwrap(), b"key");
    assert_eq!(store.artefact(TASK, 2, "key").await.unwrap(), None);
    for round in 4..=5 {
        store.put_round(TASK, round, b"round", 13).await.unwrap();
        let completed = CompletedRound {
            round,
            artefacts: Vec::new(),
            ..completed.clone()
        };
        store.complete_round(completed).await.unwrap();
        assert_eq!(key().await.unwrap(), None);
        let record = store.artefact(TASK, 1, "record").await.unwrap();
        assert_eq!(record.unwrap(), b"record");
    }
}

fn artefact(name: &str, rounds: u64) -> Artefact {
    Artefact {
        name: name.into(),
        rounds,
        bytes: name.into(),
    }
}

fn holds(folder: &std::path::Path, planted: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(planted.len()).any(|piece| piece == planted)
    })
}

#[tokio::test]
async fn what_is_dropped_is_gone_from_the_disk_and_what_is_there_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("node");
    let store = WorkStore::open(folder.join("work.db")).await.unwrap();
    store.put_task(TASK, b"manifest", 5).await.unwrap();
    store.put_round(TASK, 1, b"round", 6).await.unwrap();
    let planted = b"planted body of a report";
    let bytes = planted.repeat(4_000);
    let length = bytes.len() as u64;
    store
        .put_report(NewReport {
            bytes,
            ..report(1, 1)
        })
        .await
        .unwrap();
    assert!(holds(&folder, planted));
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    store.tidy().await.unwrap();
    let full = std::fs::metadata(folder.join("work.db")).unwrap().len();
    store.end_round(TASK, 1).await.unwrap();
    store.tidy().await.unwrap();
    assert!(!holds(&folder, planted));
    let left = std::fs::metadata(folder.join("work.db")).unwrap().len();
    assert!(left + length / 2 < full, "{full} bytes, then {left}");
}

#[tokio::test]
async fn a_store_of_an_earlier_build_is_tidied_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("work.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(include_str!("../src/layout_1.sql"))
        .execute(&old)
        .await
        .unwrap();
    sqlx::raw_sql("PRAGMA user_version = 1")
        .execute(&old)
        .await
        .unwrap();
    old.close().await;
    let store = WorkStore::open(&path).await.unwrap();
    store.put_task(TASK, b"manifest", 5).await.unwrap();
    store.put_round(TASK, 1, b"round", 6).await.unwrap();
    let big = NewReport {
        bytes: vec![7; 400_000],
        ..report(1, 1)
    };
    store.put_report(big).await.unwrap();
    store.end_round(TASK, 1).await.unwrap();
    store.tidy().await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 200_000);
}

#[tokio::test]
async fn a_file_that_is_no_store_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("work.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = WorkStore::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("work.db"), "{error}");
    assert!(error.contains("backup"), "{error}");
    assert!(!error.contains("free space"), "{error}");
}

#[tokio::test]
async fn claims_that_stand_still_do_not_keep_others_out() {
    let store = store().await;
    let begin = |id: u8, now: u64| store.partial_begin(upload(id, id), 50, now, 1_000, 4);
    for id in 0..4 {
        assert_eq!(begin(id, 1_000).await.unwrap(), 0);
    }
    // One of them goes on.
    store
        .partial_append(upload(3, 3), 0, b"0123456789", 2_500)
        .await
        .unwrap();
    assert!(matches!(
        begin(4, 1_500).await,
        Err(StoreError::PartialsFull)
    ));
    for id in 4..7 {
        assert_eq!(begin(id, 2_600).await.unwrap(), 0);
    }
    assert!(matches!(
        begin(7, 2_700).await,
        Err(StoreError::PartialsFull)
    ));
    assert_eq!(begin(3, 2_800).await.unwrap(), 10, "what goes on is kept");
    store.partial_drop_all(TASK).await.unwrap();
    assert_eq!(begin(3, 2_900).await.unwrap(), 0);
}

#[tokio::test]
async fn pending_reports_are_read_up_to_a_number_of_bytes() {
    let store = store().await;
    for id in 1..=5 {
        let bytes = vec![id; 100];
        store
            .put_report(NewReport {
                bytes,
                ..report(id, id)
            })
            .await
            .unwrap();
    }
    let read = async |limit, bytes| store.pending_reports(KEY, limit, bytes).await.unwrap();
    assert_eq!(read(9, 250).await.len(), 2);
    assert_eq!(read(9, 10).await.len(), 1, "at least one");
    assert_eq!(read(3, 10_000).await.len(), 3);
    assert_eq!(read(9, 10_000).await[4].id, [5; 16]);
}
