//! Errors of `/api/v1`: `{"code","message"}`.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::Failure;

/// An error of the API.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiError {
    #[serde(skip)]
    #[schema(ignore)]
    status: u16,
    /// A stable word.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
}

impl ApiError {
    /// Nothing by that name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            status: 404,
            code: "not-found",
            message: message.into(),
        }
    }

    /// A body is longer than it may be.
    pub fn too_large(most: usize) -> Self {
        Self {
            status: 413,
            code: "too-large",
            message: format!("the request's body has more than the {most} bytes allowed"),
        }
    }

    /// The caller may not do that.
    pub fn unauthorised() -> Self {
        Self {
            status: 401,
            code: "unauthorised",
            message: "this needs the mesh's admin token as bearer token; it is in admin.token in the node's data folder".into(),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::Usage(_) | Failure::Input(_) => 400,
            Failure::Unreachable(_) => 503,
            Failure::Integrity(_) | Failure::Other(_) => 500,
        };
        if status == 500 {
            tracing::error!(%failure, "a request failed");
        }
        Self {
            status,
            code: failure.kind(),
            message: failure.to_string(),
        }
    }
}

/// The framework's own refusals (an address that does not parse, a method that is not there) in the
/// form of all others.
pub async fn as_json(response: Response) -> Response {
    let status = response.status();
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    let message = match String::from_utf8_lossy(&text).trim() {
        "" => "the request is refused; GET /api/v1/openapi.json lists what there is".to_owned(),
        text => text.to_owned(),
    };
    let code = match status.as_u16() {
        404 => "not-found",
        405 => "method-not-allowed",
        code if code < 500 => "input",
        _ => "failed",
    };
    ApiError {
        status: status.as_u16(),
        code,
        message,
    }
    .into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
