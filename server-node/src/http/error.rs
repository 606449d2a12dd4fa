//! Errors of `/api/v1`: `{"code","message"}`.

use axum::{
    Json,
    http::StatusCode,
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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
