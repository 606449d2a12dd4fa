//! What the API shows of tasks, rounds and nodes.

use std::collections::BTreeMap;

use defim_aggregation::coordinator::Coordinator;
use defim_learn::ModelSpec;
use defim_light::JoinedTask;
use defim_protocol::{
    Committee, Digest, Manifest, Member, NodeId, Reason, RoundOpened, RoundPhase, SignedText,
    vote::Tally,
};
use defim_store::RoundRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Mesh;
use crate::{
    clock,
    config::Role,
    failure::{Failure, Outcome},
    ledger::clerk::Standing,
    node::{aggregation::has_builtin_rows, run::Run},
};

/// A model's quality on rows nobody trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsView {
    /// Mean cross-entropy or squared error.
    pub loss: f64,
    /// Share of right classes.
    pub accuracy: Option<f64>,
    /// Coefficient of determination.
    pub r2: Option<f64>,
    /// Rows it was measured on.
    pub rows: u64,
}

impl From<&defim_learn::Metrics> for MetricsView {
    fn from(m: &defim_learn::Metrics) -> Self {
        Self {
            loss: m.loss,
            accuracy: m.accuracy,
            r2: m.r2,
            rows: m.rows,
        }
    }
}

/// The open round.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoundView {
    /// Its number.
    pub round: u64,
    /// The signed opening.
    #[schema(value_type = Object)]
    pub signed: SignedText,
    /// SHA-256 of the model to train on.
    #[schema(value_type = String)]
    pub base_model: Digest,
    /// When it was opened, in milliseconds since 1970.
    pub opened_ms: u64,
    /// When it closes at the latest.
    pub deadline_ms: u64,
    /// Where it stands.
    #[schema(value_type = Object)]
    pub phase: RoundPhase,
    /// The same for a person.
    pub text: String,
    /// Whether a report sent now can still be counted.
    pub accepts_reports: bool,
    /// Stored, not yet checked.
    pub pending: u64,
    /// Checked by all members of its committee.
    pub verified: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// How often the report of a full node's silo counts, by name; all others count once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u8>,
    /// Where the round's opening is on the ledger; nothing until it is final, or where there is no ledger.
    #[serde(default)]
    pub ledger: Option<FinalView>,
    /// Fewest for a release.
    pub min_batch: u32,
    /// Most of a round.
    pub max_batch: u32,
}

/// A round that is over.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoundRecordView {
    /// Its number.
    pub round: u64,
    /// `finished` or `voided`.
    pub outcome: String,
    /// Why it was voided.
    pub reason: Option<String>,
    /// SHA-256 of the model it made.
    #[schema(value_type = Option<String>)]
    pub model: Option<Digest>,
    /// Reports counted.
    pub reports: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// When, in milliseconds since 1970.
    pub finished_ms: u64,
    /// The new model's quality.
    pub metrics: Option<MetricsView>,
    /// The contributors' private votes on the model that the round started from, if the task has votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<VotesView>,
}

/// How good those who contribute found a model, each on rows of their own: only counts, of which none says whose vote it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VotesView {
    /// How many voted for each bin of accuracy, all of the same width, from 0 to 1. Noise makes some negative.
    pub bins: Vec<i64>,
    /// How many voted.
    pub votes: u64,
    /// Their mean accuracy.
    pub mean: f64,
    /// Mean accuracy of the quarter of votes with the lowest.
    pub worst_quarter: f64,
    /// Standard deviation of the noise in each bin, in votes.
    pub deviation: f64,
}

impl From<&Tally> for VotesView {
    fn from(tally: &Tally) -> Self {
        Self {
            bins: tally.bins().to_vec(),
            votes: tally.votes(),
            mean: tally.mean(),
            worst_quarter: tally.worst_quarter(),
            deviation: tally.deviation(),
        }
    }
}

impl From<RoundRecord> for RoundRecordView {
    fn from(record: RoundRecord) -> Self {
        let metrics = record
            .metrics
            .and_then(|text| serde_json::from_str(&text).ok());
        Self {
            round: record.round,
            outcome: if record.model.is_some() {
                "finished"
            } else {
                "voided"
            }
            .to_owned(),
            reason: record.void_reason,
            model: record.model.map(Digest),
            reports: record.reports,
            rejected: serde_json::from_str(&record.rejected).unwrap_or_default(),
            finished_ms: record.finished,
            metrics,
            votes: record
                .votes
                .and_then(|text| serde_json::from_str(&text).ok()),
        }
    }
}

/// Most rounds in one answer.
pub const HISTORY: u64 = 500;

/// Which of a task's rounds are wanted.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct HistoryPage {
    /// Only rounds before this one.
    #[serde(default)]
    pub before: Option<u64>,
    /// Most of them.
    #[serde(default)]
    pub limit: Option<u64>,
}

/// What a task promises each contributor over all of its rounds, and what of it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrivacyView {
    /// Epsilon.
    pub epsilon: f64,
    /// Delta.
    pub delta: f64,
    /// Epsilon of the rounds so far, at this delta.
    pub spent: f64,
    /// Rounds that the budget is still good for.
    pub rounds_left: u64,
    /// Standard deviation of the noise in a round's total, in units of the clip norm.
    pub noise: f64,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// SHA-256 of the manifest's text, base64url.
    pub id: String,
    /// Its name on this mesh.
    pub name: String,
    /// One line.
    pub title: String,
    /// In plain words.
    pub summary: String,
    /// `softmax`, `mlp` or `linear`.
    pub model: String,
    /// Parameters of the model.
    pub dimension: usize,
    /// Whether an admin has paused it.
    pub paused: bool,
    /// The signed manifest.
    #[schema(value_type = Object)]
    pub signed: SignedText,
    /// The open round.
    pub round: Option<RoundView>,
    /// Rounds that are over; only where one task is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RoundRecordView>>,
    /// The first model's quality.
    pub initial: Option<MetricsView>,
    /// SHA-256 of the current model.
    #[schema(value_type = String)]
    pub current_model: Digest,
    /// Where sample rows are.
    pub sample: Option<String>,
    /// Rounds that ended with a model.
    pub rounds_done: u64,
    /// Rounds of the task.
    pub rounds: u64,
    /// Differential privacy; none: no noise is added.
    pub privacy: Option<PrivacyView>,
    /// The last of the rounds that ended with a model, if the validators have yet to accept that model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<u64>,
    /// What the ledger waits for before the next round opens, in words.
    #[serde(default)]
    pub ledger_waits: Option<String>,
}

impl TaskView {
    /// Rounds whose model is not only proposed.
    pub fn rounds_accepted(&self) -> u64 {
        self.rounds_done
            .saturating_sub(self.proposed.is_some().into())
    }

    /// Verify that this is the task that it says it is.
    ///
    /// # Errors
    ///
    /// [`Failure::Integrity`] for another one's manifest, and one that is not signed as it must be.
    pub fn join(&self) -> Outcome<JoinedTask> {
        let expected = self.id.parse();
        let expected =
            expected.map_err(|_| Failure::Integrity(format!("\"{}\" is no task id", self.id)))?;
        Ok(JoinedTask::join(self.signed.clone(), Some(expected))?)
    }
}

/// A node of the mesh.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its key, base64url.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `full` or `aggregation`.
    #[schema(value_type = String)]
    pub role: Role,
    /// Base address of its HTTP side, relative to this one or absolute.
    pub http: String,
    /// Multiaddresses.
    pub addresses: Vec<String>,
    /// Whether the aggregation node reaches it.
    pub reachable: bool,
}

impl NodeView {
    /// The multiaddresses for a native program: WebRTC is for browsers.
    pub fn native_addresses(&self) -> Vec<String> {
        let native = self.addresses.iter().filter(|a| !a.contains("/webrtc"));
        native.cloned().collect()
    }
}

/// Who runs a mesh.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AggregationView {
    /// Its key, base64url.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The mesh.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MeshView {
    /// The aggregation node.
    pub aggregation: AggregationView,
    /// All other nodes.
    pub nodes: Vec<NodeView>,
    /// The ledger, if the mesh has one.
    #[serde(default)]
    pub ledger: Option<LedgerView>,
}

/// A mesh's ledger.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// What names it: the digest of its genesis.
    pub chain: String,
    /// Height of the newest final block that the aggregation node has seen.
    pub height: u64,
}

/// That a round's opening is final.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FinalView {
    /// The height under which it was seen.
    pub height: u64,
}

impl Mesh {
    /// The mesh as the API shows it.
    pub fn view(&self) -> MeshView {
        let mut nodes: Vec<_> = self
            .node
            .link()
            .peers()
            .map(|peer| {
                let health = self.node.health(&peer.node);
                NodeView {
                    id: peer.node.to_string(),
                    name: peer.name.clone(),
                    role: peer.role,
                    http: peer.http.clone(),
                    addresses: if health.addresses.is_empty() {
                        peer.addresses.clone()
                    } else {
                        health.addresses
                    },
                    reachable: health.reachable,
                }
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        MeshView {
            aggregation: AggregationView {
                id: self.node.id().to_string(),
                name: self.node.name().to_owned(),
            },
            nodes,
            ledger: self.ledger.as_ref().map(|client| LedgerView {
                chain: client.genesis().chain().to_string(),
                height: client.height(),
            }),
        }
    }

    /// A task as the API shows it.
    pub async fn task_view(
        &self,
        run: &Run,
        machine: &Coordinator,
        history: Option<HistoryPage>,
    ) -> Outcome<TaskView> {
        let manifest = machine.task();
        let records = match history {
            Some(page) => {
                let limit = page.limit.unwrap_or(HISTORY).min(HISTORY);
                let store = self.node.store();
                let stored = store.history(manifest.task().0, page.before, limit).await?;
                Some(stored.into_iter().map(RoundRecordView::from).collect())
            }
            None => None,
        };
        let standing = run.standing();
        let ended = self
            .node
            .store()
            .history(manifest.task().0, None, 1)
            .await?;
        let proposed = ended.last().filter(|last| {
            let ahead = |standing: &Standing| {
                last.round > standing.round || (last.round == standing.round && standing.unsettled)
            };
            last.model.is_some() && standing.as_ref().is_some_and(ahead)
        });
        // While the ledger's newest round is open here, nobody waits for the ledger.
        let open = machine.open_round().map(|open| open.round);
        let waits = standing.filter(|s| !(s.unsettled && open == Some(s.round)));
        let model = match machine.spec().model {
            ModelSpec::Softmax => "softmax",
            ModelSpec::Mlp { .. } => "mlp",
            ModelSpec::Linear => "linear",
        };
        Ok(TaskView {
            id: manifest.task().to_string(),
            name: manifest.name.clone(),
            title: manifest.title.clone(),
            summary: manifest.summary.clone(),
            model: model.to_owned(),
            dimension: machine.spec().dimension(),
            paused: machine.paused(),
            signed: manifest.signed().clone(),
            round: self.round_view(run, machine),
            history: records,
            initial: machine.initial_metrics().map(MetricsView::from),
            current_model: machine.model().0,
            sample: has_builtin_rows(machine.spec())
                .then(|| format!("/samples/{}.csv", manifest.name)),
            rounds_done: machine.rounds_done(),
            rounds: manifest.schedule.rounds,
            privacy: privacy_view(machine),
            proposed: proposed.map(|last| last.round),
            ledger_waits: waits.and_then(|standing| standing.waits),
        })
    }

    fn round_view(&self, run: &Run, machine: &Coordinator) -> Option<RoundView> {
        let manifest = machine.task();
        let open = machine.open_round()?;
        let told = machine.view();
        let mut phase = told.as_ref().map_or(
            RoundPhase::WaitingForReports {
                have: 0,
                need: u64::from(manifest.schedule.min_batch),
            },
            |view| view.phase.clone(),
        );
        // A leader tells of its helper; nobody but this node can tell of a leader. One committee that works
        // is enough to take part.
        let there = |node: &NodeId| self.node.health(node).reachable;
        let works = |committee: &Committee| committee.members().iter().all(|m| there(&m.node));
        let knows = |committee: &Committee| {
            let mut members = committee.members().into_iter();
            members.all(|member| run.has_taken_up(&member.node, open.round))
        };
        let waiting = matches!(phase, RoundPhase::WaitingForReports { .. });
        if waiting && !manifest.committees().any(|committee| works(&committee)) {
            let gone = manifest.members.iter().find(|member| !there(&member.node));
            phase = RoundPhase::WaitingForMember {
                member: gone.map(|member| member.name.clone()).unwrap_or_default(),
            };
        } else if phase.accepts_reports()
            && !manifest
                .committees()
                .filter(|committee| works(committee))
                .all(|committee| knows(&committee))
        {
            // A report sent now could meet a member that does not know the round.
            phase = RoundPhase::Opening;
        }
        if machine.paused() {
            phase = RoundPhase::Paused;
        }
        Some(RoundView {
            round: open.round,
            signed: open.signed().clone(),
            base_model: open.base_model,
            opened_ms: open.opened_ms,
            deadline_ms: open.deadline_ms,
            text: phase.text(),
            accepts_reports: phase.accepts_reports() && clock::now() <= open.deadline_ms,
            phase,
            pending: told.as_ref().map_or(0, |view| view.pending),
            verified: told.as_ref().map_or(0, |view| view.verified),
            rejected: told.map(|view| view.rejected).unwrap_or_default(),
            weights: weights(manifest, open),
            ledger: run
                .standing()
                .filter(|standing| standing.round == open.round)
                .map(|standing| FinalView {
                    height: standing.height,
                }),
            min_batch: manifest.schedule.min_batch,
            max_batch: manifest.schedule.max_batch,
        })
    }
}

fn weights(manifest: &Manifest, round: &RoundOpened) -> BTreeMap<String, u8> {
    let members = manifest.members.iter();
    let weight = |m: &Member| Some((m.name.clone(), *round.weights.get(&m.node)?));
    members.filter_map(weight).collect()
}

fn privacy_view(machine: &Coordinator) -> Option<PrivacyView> {
    let manifest = machine.task();
    let privacy = manifest.privacy.as_ref()?;
    let spent = machine.spent();
    Some(PrivacyView {
        epsilon: privacy.epsilon,
        delta: privacy.delta,
        spent: privacy
            .spent(&manifest.vdaf, manifest.max_weight, spent)
            .ok()?,
        rounds_left: manifest.schedule.rounds.saturating_sub(spent),
        noise: privacy
            .deviation(&manifest.vdaf, manifest.members.len())
            .ok()?,
    })
}

/// A reason as a label: its slug.
pub fn slug(code: u16) -> &'static str {
    Reason::from_code(code).map_or("other", Reason::slug)
}
