//! `/api/v1`, described by `/api/v1/openapi.json`.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use defim_protocol::{Digest, limits};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::{
    Mesh, artefacts, body,
    error::{self, ApiError},
    events, ledger,
    view::{HistoryPage, MeshView, TaskView},
};
use crate::{
    failure::Failure,
    ledger::clerk,
    node::{
        aggregation::{AggregationNode, NewTask, builtin_rows},
        run::Run,
        task::TaskRequest,
    },
};

/// The API's description.
#[derive(OpenApi)]
#[openapi(
    info(title = "DeFim mesh", description = "Tasks, rounds, models and nodes of one mesh. Ids and digests are unpadded base64url; times are milliseconds since 1970."),
    servers((url = "/api/v1")),
    paths(health, mesh, tasks, task, model, create, pause, void_round, events::events, artefacts::record, artefacts::artefact, artefacts::block,
        ledger::genesis, ledger::head, ledger::handovers, ledger::blocks, ledger::block, ledger::chain, ledger::opening,
        ledger::state, ledger::lights, ledger::evidence, ledger::submit, ledger::receipt),
    components(schemas(ApiError, MeshView, TaskView, PauseRequest, VoidRequest, Created))
)]
struct Description;

/// The routes.
pub fn router(mesh: Mesh) -> Router {
    Router::new()
        .route("/mesh", get(self::mesh))
        .route("/tasks", get(tasks).post(create))
        .route("/tasks/{task}", get(task))
        .route("/tasks/{task}/pause", post(pause))
        .route("/tasks/{task}/void-round", post(void_round))
        .route("/models/{digest}", get(model))
        .route(
            "/tasks/{task}/rounds/{round}/record",
            get(artefacts::record),
        )
        .route(
            "/tasks/{task}/rounds/{round}/artefacts/{name}",
            get(artefacts::artefact),
        )
        .route(
            "/tasks/{task}/rounds/{round}/blocks/{block}",
            get(artefacts::block),
        )
        .route("/events", get(events::events))
        .route(
            "/openapi.json",
            get(|| async { Json(Description::openapi()) }),
        )
        .with_state(mesh)
        .merge(Router::new().route("/health", get(health)))
        .fallback(|| async {
            ApiError::not_found("there is no such address; GET /api/v1/openapi.json lists all")
        })
        .layer(map_response(error::as_json))
}

/// Sample rows of the built-in tasks: those the model is not evaluated on.
pub fn samples(mesh: Mesh) -> Router {
    Router::new()
        .route("/samples/{file}", get(sample))
        .with_state(mesh)
        .layer(map_response(error::as_json))
}

/// For nodes that serve no API.
pub fn health_router() -> Router {
    Router::new().route("/api/v1/health", get(health))
}

/// That this node serves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Health {
    status: String,
    version: String,
}

/// Whether this node serves.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// The mesh's nodes.
#[utoipa::path(get, path = "/mesh", responses((status = 200, body = MeshView)))]
async fn mesh(State(mesh): State<Mesh>) -> Json<MeshView> {
    Json(mesh.view())
}

/// All tasks, without their histories.
#[utoipa::path(get, path = "/tasks", responses((status = 200, body = Vec<TaskView>)))]
async fn tasks(State(mesh): State<Mesh>) -> Result<Json<Vec<TaskView>>, ApiError> {
    let mut views = Vec::new();
    for (_, run) in mesh.node.tasks() {
        let machine = run.machine().await?;
        views.push((
            machine.task().created_ms,
            mesh.task_view(&run, &machine, None).await?,
        ));
    }
    views.sort_by_key(|(created, _)| *created);
    Ok(Json(views.into_iter().map(|(_, view)| view).collect()))
}

/// A task by id or name.
pub async fn find(
    node: &AggregationNode,
    text: &str,
) -> Result<(defim_protocol::TaskId, std::sync::Arc<Run>), ApiError> {
    let shown: String = text.chars().take(80).collect();
    node.find(text).await.ok_or_else(|| {
        ApiError::not_found(format!(
            "there is no task \"{shown}\" on this mesh; GET /api/v1/tasks lists all"
        ))
    })
}

/// One task with its last rounds; those before them page by page.
#[utoipa::path(get, path = "/tasks/{task}", params(("task" = String, Path, description = "name or id"),
        ("before" = Option<u64>, Query, description = "only rounds before this one"),
        ("limit" = Option<u64>, Query, description = "most rounds, at most and by default 500")),
    responses((status = 200, body = TaskView), (status = 404, body = ApiError)))]
async fn task(
    State(mesh): State<Mesh>,
    Path(text): Path<String>,
    Query(page): Query<HistoryPage>,
) -> Result<Json<TaskView>, ApiError> {
    let (_, run) = find(&mesh.node, &text).await?;
    let machine = run.machine().await?;
    Ok(Json(mesh.task_view(&run, &machine, Some(page)).await?))
}

/// How a model is wanted.
#[derive(Deserialize)]
struct ModelQuery {
    download: Option<String>,
}

/// A model by its SHA-256, as safetensors.
#[utoipa::path(get, path = "/models/{digest}", params(("digest" = String, Path, description = "base64url")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ApiError)))]
async fn model(
    State(mesh): State<Mesh>,
    Path(digest): Path<String>,
    Query(query): Query<ModelQuery>,
) -> Result<Response, ApiError> {
    let digest: Digest = digest.parse().map_err(|_| {
        ApiError::not_found("a model's address is the SHA-256 of its bytes in base64url")
    })?;
    let bytes = mesh
        .node
        .model(digest)
        .await?
        .ok_or_else(|| ApiError::not_found(format!("there is no model {digest} here")))?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    if query.download.is_some()
        && let Ok(value) = format!("attachment; filename=\"{digest}.safetensors\"").parse()
    {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok((headers, bytes).into_response())
}

async fn sample(State(mesh): State<Mesh>, Path(file): Path<String>) -> Result<Response, ApiError> {
    let missing = || {
        ApiError::not_found(
            "there are no sample rows by that name; a task's \"sample\" says where they are",
        )
    };
    let name = file.strip_suffix(".csv").ok_or_else(missing)?;
    let (_, run) = find(&mesh.node, name).await?;
    let spec = run.machine().await?.spec().clone();
    let (rows, _) = builtin_rows(&spec).ok_or_else(missing)?;
    Ok((
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8")],
        rows.to_csv(&spec.schema),
    )
        .into_response())
}

fn admin(mesh: &Mesh, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    // Digests are compared, so that the time taken says nothing of the token.
    if Digest::of(given.as_bytes()) == Digest::of(mesh.admin_token.as_bytes()) {
        Ok(())
    } else {
        Err(ApiError::unauthorised())
    }
}

/// A body that is JSON, read once the caller is known to be an admin.
async fn json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let held = body::read(body, limits::API_BODY_BYTES)
        .await
        .map_err(|error| error.into_answer(limits::API_BODY_BYTES))?;
    serde_json::from_slice(&held.bytes)
        .map_err(|e| Failure::Input(format!("the request cannot be read: {e}")).into())
}

/// A new task.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Created {
    /// Its id.
    id: String,
}

/// Create a task. Needs the admin token.
#[utoipa::path(post, path = "/tasks", request_body = TaskRequest,
    responses((status = 201, body = Created), (status = 400, body = ApiError), (status = 401, body = ApiError)))]
async fn create(
    State(mesh): State<Mesh>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    admin(&mesh, &headers)?;
    let request: TaskRequest = json(body).await?;
    let task = mesh.node.create(NewTask::try_from(request)?).await?;
    Ok((
        StatusCode::CREATED,
        Json(Created {
            id: task.to_string(),
        }),
    ))
}

/// Whether a task is to pause.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// True to pause, false to go on.
    pub paused: bool,
}

/// Pause a task or let it go on. Needs the admin token.
#[utoipa::path(post, path = "/tasks/{task}/pause", params(("task" = String, Path, description = "name or id")), request_body = PauseRequest,
    responses((status = 200, body = TaskView), (status = 401, body = ApiError), (status = 404, body = ApiError)))]
async fn pause(
    State(mesh): State<Mesh>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TaskView>, ApiError> {
    admin(&mesh, &headers)?;
    let (id, run) = find(&mesh.node, &text).await?;
    let request: PauseRequest = json(body).await?;
    mesh.node.pause(id, &run, request.paused).await?;
    whole(&mesh, &run).await
}

/// A round to give up.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidRequest {
    /// Its number; by default that of the open round.
    #[serde(default)]
    pub round: Option<u64>,
    /// Why, for everybody to read.
    #[serde(default)]
    pub reason: String,
}

/// End the open round without a result: its contributions are dropped, and the next round opens. A round that is over here and
/// open on the ledger only is given up there. Needs the admin token.
#[utoipa::path(post, path = "/tasks/{task}/void-round", params(("task" = String, Path, description = "name or id")), request_body = VoidRequest,
    responses((status = 200, body = TaskView), (status = 400, body = ApiError), (status = 401, body = ApiError), (status = 404, body = ApiError)))]
async fn void_round(
    State(mesh): State<Mesh>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TaskView>, ApiError> {
    admin(&mesh, &headers)?;
    let (id, run) = find(&mesh.node, &text).await?;
    let request: VoidRequest = json(body).await?;
    let reason: String = request.reason.chars().take(limits::NAME_CHARS).collect();
    match (
        mesh.node.void(&run, request.round, &reason).await,
        &mesh.ledger,
    ) {
        (Ok(()), _) => {}
        // It may be over here, and stuck there.
        (Err(Failure::Input(_)), Some(ledger)) => {
            let reason = ended(&reason);
            clerk::void_there(ledger, &mesh.node.key(), id, request.round, &reason).await?;
        }
        (Err(failure), _) => return Err(failure.into()),
    }
    whole(&mesh, &run).await
}

fn ended(reason: &str) -> String {
    match reason.trim() {
        "" => "an administrator ended it".into(),
        why => format!("an administrator ended it: {why}"),
    }
}

async fn whole(mesh: &Mesh, run: &Run) -> Result<Json<TaskView>, ApiError> {
    let machine = run.machine().await?;
    let view = mesh.task_view(run, &machine, Some(HistoryPage::default()));
    Ok(Json(view.await?))
}
