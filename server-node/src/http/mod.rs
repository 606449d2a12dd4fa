//! HTTP: pages and `/api/v1` at the aggregation node, DAP-09 uploads at full nodes.

mod api;
mod dap;
mod error;
mod events;
mod metrics;
mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    services::ServeDir,
    set_header::SetResponseHeaderLayer,
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
};

use crate::{
    failure::{Failure, Outcome},
    node::{aggregation::AggregationNode, full::FullNode},
};

pub use view::{MeshView, MetricsView, RoundRecordView, TaskView};

/// Connections that are open at a time; the next is closed at once.
const CONNECTIONS: usize = 1024;
/// How long a request's head may take.
const HEADER_PATIENCE: Duration = Duration::from_secs(15);
/// How long a body may pause.
const BODY_PATIENCE: Duration = Duration::from_secs(15);
/// How long a request may take until it is answered; a report of a million coordinates is 8 MB.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest body of a request to the API, in bytes.
const API_BYTES: usize = 256 * 1024;

/// What the handlers of the aggregation node share.
#[derive(Clone)]
pub struct Mesh {
    /// The node.
    pub node: AggregationNode,
    /// Full nodes in this very process; their metrics are served here.
    pub embedded: Arc<Vec<FullNode>>,
    /// Who has it may create and pause tasks.
    pub admin_token: Arc<str>,
    /// The built pages.
    pub web: Option<PathBuf>,
}

/// Pages, API, metrics, and the uploads of full nodes in this process under `/nodes/{name}`.
pub fn mesh_router(mesh: Mesh) -> Router {
    let mut router = Router::new()
        .nest("/api/v1", api::router(mesh.clone()))
        .merge(api::samples(mesh.clone()))
        .merge(metrics::mesh_router(mesh.clone()));
    for full in mesh.embedded.iter() {
        router = router.nest(
            &format!("/nodes/{}", full.name()),
            dap::router(full.clone()),
        );
    }
    if let Some(folder) = &mesh.web {
        router = router.fallback_service(ServeDir::new(folder));
    }
    guard(router)
}

/// A full node's uploads, health and metrics.
pub fn full_router(node: FullNode) -> Router {
    let router = dap::router(node.clone())
        .merge(api::health_router())
        .merge(metrics::full_router(node));
    guard(router)
}

/// What holds for every answer.
fn guard(router: Router) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        // Uploads have their own, by task.
        .layer(DefaultBodyLimit::max(API_BYTES))
        .layer(RequestBodyTimeoutLayer::new(BODY_PATIENCE))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            PATIENCE,
        ))
        .layer(
            CorsLayer::new()
                .allow_origin(Any)
                .allow_methods([Method::GET, Method::PUT, Method::POST])
                .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]),
        )
        .layer(CompressionLayer::new())
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        // A page of an old build with wasm of a new one does not start.
        .layer(header(header::CACHE_CONTROL, "no-cache"))
}

/// Serve until the future ends.
///
/// # Errors
///
/// [`Failure`] if the address is taken.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Outcome {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| {
        Failure::Other(format!(
            "{address} cannot be listened on: {e}; stop what uses it or choose another address"
        ))
    })?;
    let bound = listener
        .local_addr()
        .map_err(|e| Failure::Other(e.to_string()))?;
    ready(bound);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_PATIENCE);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, most likely: others have to close first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!("a connection was refused: {CONNECTIONS} are open");
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let connection = open.watch(connection.into_owned());
        tokio::spawn(async move {
            // One that breaks is the peer's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    // Event streams never end by themselves; what is being answered has this long.
    let _ = tokio::time::timeout(Duration::from_secs(2), open.shutdown()).await;
    Ok(())
}
