//! Uploads over HTTPS, as DAP-09 has them: `GET hpke_config`, `PUT tasks/{task}/reports`.

use axum::{
    Json, Router,
    body::{Body, HttpBody as _},
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use defim_protocol::{Reason, ReportId, TaskId, report::encode_hpke_config_list};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::node::{
    full::FullNode,
    receive::{ReceiveError, Received, ReportState},
};

/// Bodies that are read at a time, so that slow senders cannot fill the memory.
static UPLOADS: Semaphore = Semaphore::const_new(256);

/// The routes of one full node.
pub fn router(node: FullNode) -> Router {
    Router::new()
        .route("/hpke_config", get(hpke_config))
        .route("/tasks/{task}/reports", put(upload))
        .route("/tasks/{task}/reports/{report}", get(state))
        .with_state(node)
}

/// A problem document: DAP's error type where it has one, and this mesh's reason.
fn problem(status: StatusCode, kind: &str, code: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": format!("urn:ietf:params:ppm:dap:error:{kind}"),
        "title": kind,
        "code": code,
        "detail": detail,
    });
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

fn refusal(reason: Reason) -> Response {
    let (status, kind) = match reason {
        Reason::UnknownTask => (StatusCode::NOT_FOUND, "unrecognizedTask"),
        Reason::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalidMessage"),
        Reason::Malformed => (StatusCode::BAD_REQUEST, "invalidMessage"),
        Reason::TooEarly => (StatusCode::BAD_REQUEST, "reportTooEarly"),
        Reason::UnknownSealingKey => (StatusCode::BAD_REQUEST, "outdatedConfig"),
        _ => (StatusCode::BAD_REQUEST, "reportRejected"),
    };
    problem(status, kind, reason.slug(), reason.text())
}

fn answer(error: ReceiveError) -> Response {
    match error {
        ReceiveError::Refused(reason) => refusal(reason),
        ReceiveError::Broken(why) => {
            tracing::warn!(why, "a report could not be stored");
            let reason = Reason::Unavailable;
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "invalidMessage",
                reason.slug(),
                reason.text(),
            )
        }
    }
}

#[derive(Deserialize)]
struct ConfigQuery {
    task_id: Option<String>,
}

async fn hpke_config(State(node): State<FullNode>, Query(query): Query<ConfigQuery>) -> Response {
    if let Some(text) = query.task_id {
        let known = text
            .parse::<TaskId>()
            .is_ok_and(|task| node.served(&task).is_some());
        if !known {
            return refusal(Reason::UnknownTask);
        }
    }
    match encode_hpke_config_list(&[node.hpke()]) {
        Ok(body) => (
            [(header::CONTENT_TYPE, "application/dap-hpke-config-list")],
            body,
        )
            .into_response(),
        Err(error) => answer(ReceiveError::Broken(error.to_string())),
    }
}

async fn upload(State(node): State<FullNode>, Path(task): Path<String>, body: Body) -> Response {
    // Nothing is read for a task that is not led here, and no more than a report of it can have.
    let Some(served) = task.parse::<TaskId>().ok().and_then(|id| node.served(&id)) else {
        return refusal(Reason::UnknownTask);
    };
    let task = served.manifest.task();
    let longest = served.manifest.report_bytes();
    if body.size_hint().lower() > longest as u64 {
        return refusal(Reason::TooLarge);
    }
    let Ok(place) = UPLOADS.acquire().await else {
        return answer(ReceiveError::Broken("this node is stopping".into()));
    };
    let read = Limited::new(body, longest).collect().await;
    let bytes = match read {
        Ok(read) => read.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return refusal(Reason::TooLarge),
        Err(_) => return refusal(Reason::Malformed),
    };
    drop(place);
    match node.receive(task, bytes.to_vec()).await {
        Ok(Received::Stored) => StatusCode::CREATED.into_response(),
        Ok(Received::Again) => StatusCode::OK.into_response(),
        Err(error) => answer(error),
    }
}

async fn state(
    State(node): State<FullNode>,
    Path((task, report)): Path<(String, String)>,
) -> Response {
    let (Ok(task), Ok(report)) = (task.parse::<TaskId>(), report.parse::<ReportId>()) else {
        return refusal(Reason::UnknownTask);
    };
    let state = match node.report_state(&task, &report).await {
        Ok(state) => state,
        Err(error) => return answer(error),
    };
    let (word, reason) = match state {
        ReportState::Unknown => ("unknown", None),
        ReportState::Pending => ("pending", None),
        ReportState::Verified => ("verified", None),
        ReportState::Rejected(reason) => ("rejected", Some(reason)),
    };
    Json(serde_json::json!({
        "state": word,
        "reason": reason.map(Reason::slug),
        "text": reason.map(Reason::text),
    }))
    .into_response()
}
