//! `/metrics` in the text format of Prometheus, made from the stores at each scrape.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use defim_store::BatchKey;
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Mesh, view::slug};
use crate::{failure::Outcome, node::full::FullNode};

/// Rounds that are looked through for the current model's quality.
const LAST: u64 = 50;

type Labels = Vec<(&'static str, String)>;
type Counts = Family<Labels, Gauge<i64>>;
type Values = Family<Labels, Gauge<f64, AtomicU64>>;

fn count(family: &Counts, labels: Labels, value: u64) {
    family
        .get_or_create(&labels)
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[derive(Default)]
struct Page {
    reports: Counts,
    rejected: Counts,
    refused: Counts,
    rounds: Counts,
    open: Counts,
    counted: Counts,
    reachable: Counts,
    accuracy: Values,
    loss: Values,
    answered: Counts,
    webrtc: Counts,
    webrtc_ended: Counts,
    webrtc_refused: Counts,
}

impl Page {
    async fn add_full(&self, node: &FullNode) -> Outcome {
        let label = vec![("node", node.name().to_owned())];
        count(&self.answered, label, node.scores_answered());
        for served in node.all_served() {
            let Some(round) = served.round() else {
                continue;
            };
            let (mut pending, mut verified) = (0, 0);
            let mut rejected = BTreeMap::<u16, u64>::new();
            // Of the committees that this node leads: a helper would count each report again.
            for index in served.led.keys() {
                let key = BatchKey {
                    task: served.manifest.task().0,
                    round: round.round,
                    committee: *index,
                };
                let counts = node.store().report_counts(key).await?;
                pending += counts.pending;
                verified += counts.verified;
                for (code, number) in counts.rejected_by_reason {
                    *rejected.entry(code).or_default() += number;
                }
            }
            let labels = |key, value: &str| {
                vec![
                    ("node", node.name().to_owned()),
                    ("task", served.manifest.name.clone()),
                    (key, value.to_owned()),
                ]
            };
            count(&self.reports, labels("state", "pending"), pending);
            count(&self.reports, labels("state", "verified"), verified);
            for (code, number) in rejected {
                count(&self.rejected, labels("reason", slug(code)), number);
            }
            for (code, number) in served.refusals(round.round) {
                count(&self.refused, labels("reason", slug(code)), number);
            }
        }
        Ok(())
    }

    fn add_webrtc(&self, node: &FullNode) {
        let seen = node.webrtc_counts();
        let labels = |key, value: &str| {
            let node = ("node", node.name().to_owned());
            vec![node, (key, value.to_owned())]
        };
        for (what, number) in [
            ("connections", &seen.connections),
            ("streams", &seen.streams),
        ] {
            count(&self.webrtc, labels("what", what), number.load(Relaxed));
        }
        for (reason, number) in seen.failures() {
            count(&self.webrtc_ended, labels("reason", reason), number);
        }
        for (what, number) in [
            ("packets", &seen.refused_packets),
            ("connections", &seen.refused_connections),
            ("streams", &seen.refused_streams),
        ] {
            let number = number.load(Relaxed);
            count(&self.webrtc_refused, labels("what", what), number);
        }
    }

    async fn add_mesh(&self, mesh: &Mesh) -> Outcome {
        for node in mesh.view().nodes {
            count(
                &self.reachable,
                vec![("node", node.name)],
                u64::from(node.reachable),
            );
        }
        for (id, run) in mesh.node.tasks() {
            let machine = run.machine().await?;
            let labels = vec![("task", machine.task().name.clone())];
            count(&self.rounds, labels.clone(), machine.rounds_done());
            count(
                &self.open,
                labels.clone(),
                machine.open_round().map_or(0, |round| round.round),
            );
            drop(machine);
            let store = mesh.node.store();
            let counted = store.reports_counted(id.0).await?;
            count(&self.counted, labels.clone(), counted);
            let history = store.history(id.0, None, LAST).await?;
            let last = history
                .into_iter()
                .rev()
                .map(super::RoundRecordView::from)
                .find_map(|record| record.metrics);
            if let Some(metrics) = last {
                self.loss.get_or_create(&labels).set(metrics.loss);
                if let Some(accuracy) = metrics.accuracy {
                    self.accuracy.get_or_create(&labels).set(accuracy);
                }
            }
        }
        Ok(())
    }

    fn text(self) -> String {
        let mut registry = Registry::with_prefix("defim");
        registry.register(
            "reports",
            "Reports of the open round, by state",
            self.reports,
        );
        registry.register(
            "rejected_reports",
            "Refused reports of the open round, by reason",
            self.rejected,
        );
        registry.register(
            "refused_uploads",
            "Uploads to the open round that were refused and never stored, by reason; since the node's start",
            self.refused,
        );
        registry.register(
            "questions_answered",
            "Encrypted questions about a model that were answered; since the node's start",
            self.answered,
        );
        registry.register(
            "webrtc",
            "Connections and streams from browsers",
            self.webrtc,
        );
        registry.register(
            "webrtc_ended",
            "Connections from browsers that ended, by reason, handshakes that failed included; since the node's start",
            self.webrtc_ended,
        );
        registry.register(
            "webrtc_refused",
            "Packets, connections and streams over WebRTC that were refused; since the node's start",
            self.webrtc_refused,
        );
        registry.register("rounds_done", "Rounds that ended with a model", self.rounds);
        registry.register(
            "open_round",
            "Number of the open round; 0 if none",
            self.open,
        );
        registry.register(
            "counted_reports",
            "Reports counted in all rounds",
            self.counted,
        );
        registry.register(
            "node_reachable",
            "Whether the aggregation node reaches a node",
            self.reachable,
        );
        registry.register(
            "model_accuracy",
            "Accuracy of the current model on held-out rows",
            self.accuracy,
        );
        registry.register(
            "model_loss",
            "Loss of the current model on held-out rows",
            self.loss,
        );
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

fn respond(page: Page) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        page.text(),
    )
        .into_response()
}

/// Of the mesh and the full nodes in this process.
pub fn mesh_router(mesh: Mesh) -> Router {
    let handler = async |State(mesh): State<Mesh>| -> Result<Response, super::error::ApiError> {
        let page = Page::default();
        page.add_mesh(&mesh).await?;
        for full in mesh.embedded.iter() {
            page.add_full(full).await?;
            page.add_webrtc(full);
        }
        Ok(respond(page))
    };
    Router::new()
        .route("/metrics", get(handler))
        .with_state(mesh)
}

/// Of one full node.
pub fn full_router(node: FullNode) -> Router {
    let handler = async |State(node): State<FullNode>| -> Result<Response, super::error::ApiError> {
        let page = Page::default();
        page.add_full(&node).await?;
        page.add_webrtc(&node);
        Ok(respond(page))
    };
    Router::new()
        .route("/metrics", get(handler))
        .with_state(node)
}
