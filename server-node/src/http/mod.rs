//! HTTP: pages and `/api/v1` at the aggregation node, DAP-09 uploads at full nodes.

mod api;
mod artefacts;
mod body;
mod dap;
mod error;
mod events;
mod ledger;
mod listen;
mod metrics;
mod proxy;
mod view;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::map_response,
};
use defim_protocol::limits;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    services::{ServeDir, ServeFile},
    set_header::SetResponseHeaderLayer,
};

use crate::{
    failure::Outcome,
    ledger::{client::LedgerClient, validator::Validator},
    node::{aggregation::AggregationNode, full::FullNode},
};

pub use ledger::{GenesisView, ReceiptView, StoredBlocks};
pub use listen::{bind, is_blocked, serve};
pub use view::{MeshView, MetricsView, NodeView, RoundRecordView, TaskView, VotesView};

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
    /// The ledger, if the mesh has one.
    pub ledger: Option<LedgerClient>,
    /// Validation nodes in this very process, by name.
    pub validators: Arc<Vec<Validator>>,
}

/// Pages, API, metrics, and the uploads of full nodes in this process under `/nodes/{name}`.
///
/// # Errors
///
/// [`Failure`](crate::failure::Failure) if the system's TLS cannot be set up.
pub fn mesh_router(mesh: Mesh) -> Outcome<Router> {
    let mut api = api::router(mesh.clone());
    if let Some(client) = &mesh.ledger {
        let receipts = ledger::Receipts {
            node: mesh.node.clone(),
            client: client.clone(),
        };
        // The receipts' address is the more exact one.
        api = proxy::Proxy::new(client.clone())?
            .router()
            .merge(receipts.router())
            .layer(map_response(error::as_json))
            .merge(api);
    }
    let mut router = Router::new()
        .nest("/api/v1", api)
        .merge(api::samples(mesh.clone()))
        .merge(metrics::mesh_router(mesh.clone()));
    for full in mesh.embedded.iter() {
        router = router.nest(
            &format!("/nodes/{}", full.name()),
            dap::router(full.clone()),
        );
    }
    for validator in mesh.validators.iter() {
        let own = validator_routes(validator.clone());
        router = router.nest(&format!("/nodes/{}", validator.name()), own);
    }
    if let Some(folder) = &mesh.web {
        // One document for all pages; it looks at the address itself.
        let page = || ServeFile::new(folder.join("index.html"));
        router = router.route_service("/ledger", page());
        // It says of an address that is none, that it is none.
        router = router.fallback_service(ServeDir::new(folder).not_found_service(page()));
    } else {
        router = router.fallback(|| async {
            error::ApiError::not_found(
                "this node serves no pages; GET /api/v1/openapi.json lists what it serves",
            )
        });
    }
    Ok(guard(router))
}

fn validator_routes(validator: Validator) -> Router {
    ledger::router(validator)
        .layer(map_response(error::as_json))
        .merge(api::health_router())
}

/// A validation node's ledger and health.
pub fn validator_router(validator: Validator) -> Router {
    guard(validator_routes(validator))
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
        // Handlers read bodies themselves, each with its own bound; this one is for the rest.
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES))
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
