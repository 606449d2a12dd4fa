//! HTTP: pages and `/api/v1` at the aggregation node, DAP-09 uploads at full nodes.

mod api;
mod dap;
mod error;
mod events;
mod metrics;
mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, header},
};
use defim_protocol::limits;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    services::ServeDir,
    set_header::SetResponseHeaderLayer,
};

use crate::{
    failure::{Failure, Outcome},
    node::{aggregation::AggregationNode, full::FullNode},
};

pub use view::{MeshView, MetricsView, RoundRecordView, TaskView};

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
        .layer(DefaultBodyLimit::max(limits::REPORT_BYTES))
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
    let (stopped, over) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopped.send(());
    });
    tokio::select! {
        result = serving => result.map_err(|e| Failure::Other(format!("the HTTP server stopped: {e}"))),
        // Event streams never end by themselves; what is being answered has this long.
        () = async {
            if over.await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            } else {
                std::future::pending::<()>().await;
            }
        } => Ok(()),
    }
}
