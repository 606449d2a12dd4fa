//! Uploads over HTTPS, as DAP-09 has them: `GET hpke_config`, `PUT tasks/{task}/reports`. Reports of three shares, which DAP
//! does not know, come over the same paths with a media type of their own.

use axum::{
    Json, Router,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use defim_protocol::{
    Reason, ReportId, TaskId,
    report::{REPORT_MEDIA_TYPE, encode_hpke_config_list, media_type},
};
use serde::Deserialize;

use super::body::{self, BodyError};
use crate::node::{
    full::FullNode,
    receive::{ReceiveError, Received, ReportState},
};

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

async fn hpke_config(
    State(node): State<FullNode>,
    query: Result<Query<ConfigQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refusal(Reason::UnknownTask);
    };
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

async fn upload(
    State(node): State<FullNode>,
    task: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(task) = task.ok().and_then(|Path(task)| task.parse::<TaskId>().ok()) else {
        return refusal(Reason::UnknownTask);
    };
    // Before a byte of the body is read: the task says how long a report is.
    let most = match node.led(&task) {
        Ok(served) => {
            let wanted = media_type(served.manifest.vdaf.shares);
            let sent = headers.get(header::CONTENT_TYPE);
            let right = sent.is_some_and(|sent| sent.as_bytes() == wanted.as_bytes());
            // What DAP's clients say is not looked at: they were taken at any word.
            if wanted != REPORT_MEDIA_TYPE && !right {
                return problem(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "invalidMessage",
                    Reason::Malformed.slug(),
                    &format!(
                        "This task takes reports of more than two shares, as {wanted}. Update this client."
                    ),
                );
            }
            served.report_bytes
        }
        Err(reason) => return refusal(reason),
    };
    let held = match body::read(body, most).await {
        Ok(held) => held,
        Err(BodyError::TooLarge) => {
            node.count_refusal(&task, Reason::TooLarge);
            return refusal(Reason::TooLarge);
        }
        Err(BodyError::Broken) => return refusal(Reason::Malformed),
        Err(BodyError::Slow) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "invalidMessage",
                Reason::Unavailable.slug(),
                "The report came too slowly and was not stored. Send it again.",
            );
        }
        Err(BodyError::Busy) => {
            return answer(ReceiveError::Broken(
                "too many reports are on their way at once".into(),
            ));
        }
    };
    match node.receive(task, held.bytes).await {
        Ok(Received::Stored) => StatusCode::CREATED.into_response(),
        Ok(Received::Again) => StatusCode::OK.into_response(),
        Err(error) => answer(error),
    }
}

async fn state(
    State(node): State<FullNode>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let parsed = path.ok().and_then(|Path((task, report))| {
        Some((
            task.parse::<TaskId>().ok()?,
            report.parse::<ReportId>().ok()?,
        ))
    });
    let Some((task, report)) = parsed else {
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
