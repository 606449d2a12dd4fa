//! The rules a node relies on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_store::{
    ClaimReport, ClosedBatch, CompletedRound, NewReport, Outcome, PutReport, ReportStatus,
    RoundState, SharePut, StoreError, WorkStore,
};

const TASK: [u8; 32] = [1; 32];

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
    store.void_round(TASK, 1, "short").await.unwrap();
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
    let claim = |id: u8, digest: u8| store.claim_helper_report(TASK, 1, [id; 16], [digest; 32]);
    assert_eq!(claim(1, 1).await.unwrap(), ClaimReport::New);
    assert_eq!(claim(2, 2).await.unwrap(), ClaimReport::New);
    store
        .record_outcomes(
            TASK,
            1,
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
        .record_outcomes(TASK, 1, &[([2; 16], verified(2))])
        .await
        .unwrap();
    assert_eq!(
        store.outcome(TASK, [2; 16]).await.unwrap(),
        Some(Outcome::Rejected { reason: 10 })
    );
    assert_eq!(store.verified_ids(TASK, 1).await.unwrap(), vec![[1; 16]]);
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
        .record_outcomes(TASK, 1, &[([1; 16], verified(1))])
        .await
        .unwrap();
    store.count_rejection(TASK, 1, 6).await.unwrap();
    let batch = |ids: Vec<[u8; 16]>| ClosedBatch {
        summary: b"summary".to_vec(),
        signatures: b"signatures".to_vec(),
        aggregate_share: b"share".to_vec(),
        report_ids: ids,
    };
    let missing = store
        .close_batch(TASK, 1, batch(vec![[1; 16], [2; 16]]))
        .await;
    assert!(matches!(missing, Err(StoreError::MissingShare)));
    assert!(
        store.batch(TASK, 1).await.unwrap().is_none(),
        "nothing half closed"
    );
    store
        .close_batch(TASK, 1, batch(vec![[1; 16]]))
        .await
        .unwrap();
    assert_eq!(
        store.current_round(TASK).await.unwrap().unwrap().state,
        RoundState::Closed
    );
    assert_eq!(store.outcome(TASK, [1; 16]).await.unwrap(), None);
    assert_eq!(
        store.report_status(TASK, [2; 16]).await.unwrap(),
        Some(ReportStatus::Dropped)
    );
    let counts = store.report_counts(TASK, 1).await.unwrap();
    assert_eq!(
        (counts.verified, counts.rejected_by_reason),
        (1, vec![(6, 1)])
    );
    let waiting = store.undelivered_batches().await.unwrap();
    assert_eq!(waiting[0].aggregate_share, b"share");
    store.mark_delivered(TASK, 1).await.unwrap();
    assert!(store.undelivered_batches().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_stopped_and_never_elsewhere() {
    let store = store().await;
    let begin =
        |length, digest: u8| store.partial_begin(TASK, [1; 16], length, [digest; 32], 0, 100, 2);
    assert_eq!(begin(10, 1).await.unwrap(), 0);
    assert_eq!(
        store
            .partial_append(TASK, [1; 16], 0, b"01234")
            .await
            .unwrap(),
        5
    );
    assert_eq!(begin(10, 1).await.unwrap(), 5);
    let elsewhere = store.partial_append(TASK, [1; 16], 0, b"x").await;
    assert!(matches!(
        elsewhere,
        Err(StoreError::WrongOffset { asked: 0, held: 5 })
    ));
    assert!(
        store
            .partial_append(TASK, [1; 16], 5, b"567890")
            .await
            .is_err(),
        "over its length"
    );
    assert_eq!(store.partial_finish(TASK, [1; 16]).await.unwrap(), None);
    store
        .partial_append(TASK, [1; 16], 5, b"56789")
        .await
        .unwrap();
    assert_eq!(
        store.partial_finish(TASK, [1; 16]).await.unwrap().unwrap(),
        b"0123456789"
    );
    assert_eq!(begin(10, 2).await.unwrap(), 0, "another digest starts anew");
    let full = store
        .partial_begin(TASK, [2; 16], 95, [0; 32], 0, 100, 2)
        .await;
    assert!(matches!(full, Err(StoreError::PartialsFull)));
    assert_eq!(store.partial_expire(1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_round_completes_with_its_model_and_forgets_the_shares() {
    let store = store().await;
    let put = |bytes: &'static [u8]| store.put_aggregate_share(TASK, 1, [3; 32], bytes);
    assert_eq!(put(b"share").await.unwrap(), SharePut::Stored);
    assert_eq!(put(b"share").await.unwrap(), SharePut::Stored);
    assert_eq!(put(b"other").await.unwrap(), SharePut::Conflict);
    let completed = CompletedRound {
        task: TASK,
        round: 1,
        model: [9; 32],
        model_bytes: b"model".to_vec(),
        optimiser: b"state".to_vec(),
        metrics: "{}".into(),
        reports: 3,
        rejected: "{}".into(),
        finished: 8,
    };
    store.complete_round(completed.clone()).await.unwrap();
    assert!(
        store.complete_round(completed).await.is_err(),
        "a round completes once"
    );
    assert!(store.aggregate_shares(TASK, 1).await.unwrap().is_empty());
    assert_eq!(
        store.latest_model(TASK).await.unwrap().unwrap(),
        (b"model".to_vec(), b"state".to_vec())
    );
    store.put_round(TASK, 2, b"round 2", 9).await.unwrap();
    store
        .void_aggregation_round(TASK, 2, "short", 10)
        .await
        .unwrap();
    let history = store.history(TASK).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].void_reason.as_deref(), Some("short"));
    assert_eq!(store.latest_model(TASK).await.unwrap().unwrap().0, b"model");
}
