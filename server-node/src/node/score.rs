//! Answering questions about a model that only who asks can read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use defim_learn::{LearningSpec, Model};
use defim_net::score::{Offer, Refusal, ScoreHandler};
use defim_protocol::{Digest, TaskId};
use defim_score::{QuantisedModel, Request, Shape};
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};

use super::full::{FullNode, Served};
use crate::{
    clock,
    failure::{Failure, Outcome},
};

/// How long a task's newest model is taken for the newest without asking again.
const FRESH: Duration = Duration::from_secs(2);
/// Answers that are computed at once. An answer takes milliseconds of a core that rounds need too; the others wait
/// in order.
const COMPUTING: usize = 1;

/// A model that can be asked.
pub struct Askable {
    digest: Digest,
    model: QuantisedModel,
}

struct Newest {
    since: Instant,
    digest: Digest,
    /// Or why it cannot be asked.
    model: Result<Arc<Askable>, String>,
}

/// What a full node keeps for who asks.
pub struct Desk {
    computing: Semaphore,
    /// One at a time is looked for: a burst of streams asks the aggregation node once.
    newest: Mutex<BTreeMap<TaskId, Newest>>,
    answered: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            computing: Semaphore::new(COMPUTING),
            newest: Mutex::default(),
            answered: AtomicU64::new(0),
        }
    }
}

/// What of a task's page is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Current {
    current_model: Digest,
}

impl FullNode {
    /// Questions answered since the start.
    pub fn scores_answered(&self) -> u64 {
        self.inner.desk.answered.load(Ordering::Relaxed)
    }

    async fn newest(&self, served: &Served) -> Result<Arc<Askable>, Refusal> {
        let mut newest = self.inner.desk.newest.lock().await;
        let task = served.manifest.task();
        let known = newest.remove(&task);
        let found = match known {
            Some(known) if known.since.elapsed() < FRESH => known,
            known => self.look(served, known).await?,
        };
        let answer = found.model.clone().map_err(Refusal::Unsuitable);
        newest.insert(task, found);
        answer
    }

    async fn look(&self, served: &Served, known: Option<Newest>) -> Result<Newest, Refusal> {
        let since = clock::start();
        let digest = match (self.current_model(&served.manifest.task()).await, known) {
            (Ok(digest), Some(known)) if known.digest == digest => {
                return Ok(Newest { since, ..known });
            }
            (Ok(digest), _) => digest,
            // The aggregation node is away: what it last said is still the newest that there is.
            (Err(failure), Some(known)) => {
                tracing::debug!(node = self.name(), %failure, "the newest model is not known");
                return Ok(Newest { since, ..known });
            }
            (Err(failure), None) => return Err(self.without_model(&failure)),
        };
        let bytes = self.fetch_model(&digest).await;
        let bytes = bytes.map_err(|failure| self.without_model(&failure))?;
        if Digest::of(&bytes) != digest {
            return Err(Refusal::Unavailable(
                "the model that was downloaded is not the one that was asked for".into(),
            ));
        }
        let model = askable(served.manifest.learning.get(), &bytes);
        let model = model.map(|model| Arc::new(Askable { digest, model }));
        Ok(Newest {
            since,
            digest,
            model,
        })
    }

    /// Who asks is told that there is no model now; why, which names this node's peers, is for its operator.
    fn without_model(&self, failure: &Failure) -> Refusal {
        tracing::warn!(node = self.name(), %failure, "questions cannot be answered");
        Refusal::Unavailable("it cannot get the task's newest model".into())
    }

    /// The digest of a task's newest model, by the word of the aggregation node's pages.
    async fn current_model(&self, task: &TaskId) -> Outcome<Digest> {
        let current: Current = self.fetch(&format!("tasks/{task}?limit=1")).await?;
        Ok(current.current_model)
    }
}

/// A model in integers, or why it cannot be.
fn askable(learning: &str, bytes: &[u8]) -> Result<QuantisedModel, String> {
    let spec: LearningSpec = serde_json::from_str(learning).map_err(|e| e.to_string())?;
    let model = Model::from_safetensors(bytes, &spec).map_err(|e| e.to_string())?;
    let Some((weights, biases)) = model.linear() else {
        return Err("it has a hidden layer, and only linear models can be".into());
    };
    let (inputs, outputs) = (spec.schema.inputs(), spec.schema.outputs());
    let shape = Shape::new(inputs, outputs).map_err(|e| e.to_string())?;
    QuantisedModel::from_linear(shape, &weights, &biases, spec.schema.input_range())
        .map_err(|e| e.to_string())
}

impl ScoreHandler for FullNode {
    type Model = Arc<Askable>;

    async fn offer(&self, task: &[u8; 32]) -> Result<(Offer, Arc<Askable>), Refusal> {
        let served = self.served(&TaskId(*task)).ok_or(Refusal::UnknownTask)?;
        let model = self.newest(&served).await?;
        let scale = model.model.scale();
        let offer = Offer {
            model: model.digest.0,
            feature_step: scale.feature,
            score_step: scale.score,
        };
        Ok((offer, model))
    }

    async fn answer(&self, model: &Arc<Askable>, question: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let malformed = |e: defim_score::ScoreError| Refusal::Malformed(e.to_string());
        let request = Request::from_bytes(&question).map_err(malformed)?;
        let desk = &self.inner.desk;
        let _turn = desk.computing.acquire().await;
        let model = Arc::clone(model);
        let work = move || model.model.score(&request, &mut rand::rng());
        let response = tokio::task::spawn_blocking(work).await;
        let response = response
            .map_err(|_| Refusal::Unavailable("the answer could not be computed".into()))?
            .map_err(malformed)?;
        desk.answered.fetch_add(1, Ordering::Relaxed);
        Ok(response.to_bytes())
    }
}
