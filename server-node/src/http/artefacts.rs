//! What is public of finished rounds: records, the bytes that they name, and single blocks for audits.

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use defim_protocol::{NodeId, RoundNumber, SignedText};

use super::{Mesh, api::find, error::ApiError};
use crate::node::artefact::{self, KEY, LARGE_ROUNDS, OPTIMISER, RECORD, RECORD_ROUNDS};

/// The signed record of a finished round.
#[utoipa::path(get, path = "/tasks/{task}/rounds/{round}/record",
    params(("task" = String, Path, description = "name or id"), ("round" = u64, Path)),
    responses((status = 200, description = "`{payload, signer, signature}`", content_type = "application/json"), (status = 404, body = ApiError)))]
pub async fn record(
    State(mesh): State<Mesh>,
    Path((task, round)): Path<(String, RoundNumber)>,
) -> Result<Json<SignedText>, ApiError> {
    let (id, run) = find(&mesh.node, &task).await?;
    let bytes = mesh.node.artefact(id, round, RECORD).await?;
    let bytes = bytes.ok_or_else(|| gone(&run.manifest().name, round, RECORD_ROUNDS))?;
    let signed = serde_json::from_slice(&bytes)
        .map_err(|e| crate::failure::Failure::Other(e.to_string()))?;
    Ok(Json(signed))
}

/// What a record names by its digest: `key`, `optimiser` (before the round) or `ciphertext.{node}`; and the
/// accepted reports of a committee, `ids.{committee}`: 16 bytes each, ascending, under its batch's root.
#[utoipa::path(get, path = "/tasks/{task}/rounds/{round}/artefacts/{name}",
    params(("task" = String, Path, description = "name or id"), ("round" = u64, Path), ("name" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ApiError)))]
pub async fn artefact(
    State(mesh): State<Mesh>,
    Path((task, round, name)): Path<(String, RoundNumber, String)>,
) -> Result<Response, ApiError> {
    let (id, run) = find(&mesh.node, &task).await?;
    let name = match name.split_once('.') {
        Some(("ciphertext", node)) => node
            .parse::<NodeId>()
            .ok()
            .map(|n| artefact::ciphertext(&n)),
        Some(("ids", committee)) => committee.parse().ok().map(artefact::ids),
        _ => Some(name).filter(|name| name == KEY || name == OPTIMISER),
    };
    let name = name.ok_or_else(|| {
        ApiError::not_found("a round has a key, an optimiser, a ciphertext.{node} for each node and an ids.{committee} for each batch that its record names")
    })?;
    let bytes = mesh.node.artefact(id, round, &name).await?;
    let bytes = bytes.ok_or_else(|| gone(&run.manifest().name, round, LARGE_ROUNDS))?;
    Ok(immutable(bytes))
}

/// One block of each ciphertext of a finished round and of their sum, with their Merkle paths.
#[utoipa::path(get, path = "/tasks/{task}/rounds/{round}/blocks/{block}",
    params(("task" = String, Path, description = "name or id"), ("round" = u64, Path), ("block" = u32, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ApiError)))]
pub async fn block(
    State(mesh): State<Mesh>,
    Path((task, round, block)): Path<(String, RoundNumber, u32)>,
) -> Result<Response, ApiError> {
    let (_, run) = find(&mesh.node, &task).await?;
    let evidence = mesh.node.block(run.manifest(), round, block).await?;
    let evidence = evidence.ok_or_else(|| gone(&run.manifest().name, round, LARGE_ROUNDS))?;
    Ok(immutable(evidence.to_bytes()))
}

fn gone(task: &str, round: RoundNumber, rounds: u64) -> ApiError {
    ApiError::not_found(format!(
        "there is no such thing of round {round} of task {task}: it has given no model, or more than {rounds} rounds came after it"
    ))
}

/// Named by a finished round: the same bytes for ever.
fn immutable(bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=86400, immutable"),
    ];
    (headers, bytes).into_response()
}
