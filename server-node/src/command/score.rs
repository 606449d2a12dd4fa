//! `defim score`: asks a full node's model about rows that only this machine can read.

use std::time::Duration;

use defim_learn::Prediction;
use defim_light::{JoinedTask, Scoring};
use defim_net::{
    native::{Endpoint, Stream},
    score::{AskError, Asker, Refusal},
};
use defim_protocol::{Digest, wire::protocol};
use serde::Serialize;

use super::{mesh::MeshClient, out, simulate::read_rows};
use crate::{
    cli::Score,
    clock,
    failure::{Failure, Outcome},
    http::{MeshView, NodeView},
};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);

/// One row's answer.
#[derive(Debug, Serialize)]
struct Scored {
    /// From 1.
    row: usize,
    #[serde(flatten)]
    prediction: Prediction,
    /// From the row in the clear to its answer in the clear, in milliseconds.
    ms: f64,
}

/// All answers, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Scores {
    task: String,
    node: String,
    model: Digest,
    newest: bool,
    median_ms: f64,
    rows: Vec<Scored>,
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match &error {
            AskError::Refused(Refusal::Unavailable(_)) | AskError::Frame(_) => {
                Self::Unreachable(error.to_string())
            }
            AskError::Refused(_) => Self::Input(error.to_string()),
            AskError::Protocol(_) => Self::Integrity(error.to_string()),
        }
    }
}

/// The first of the full nodes that offers its model.
async fn begin(
    endpoint: &Endpoint,
    task: &JoinedTask,
    nodes: Vec<NodeView>,
) -> Outcome<(String, Asker<Stream>)> {
    let mut last = Failure::Unreachable("no full node of the task is reachable".into());
    for node in nodes {
        let asked = async {
            let key = node
                .id
                .parse::<defim_protocol::NodeId>()
                .map_err(|_| Failure::Integrity(format!("\"{}\" is no node id", node.id)))?;
            let stream = endpoint
                .open(key.0, &node.native_addresses(), protocol::SCORE, CONNECT)
                .await
                .map_err(|e| Failure::Unreachable(format!("{}: {e}", node.name)))?;
            within(Asker::begin(stream, task.task().0)).await
        };
        match asked.await {
            Ok(asker) => return Ok((node.name, asker)),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn within<T>(work: impl Future<Output = Result<T, AskError>>) -> Outcome<T> {
    match tokio::time::timeout(ANSWER, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::Unreachable(
            "the full node does not answer; ask another one with --node".into(),
        )),
    }
}

/// The task's full nodes that can be asked, or the one that is named.
fn askable(mesh: MeshView, task: &JoinedTask, named: Option<&str>) -> Outcome<Vec<NodeView>> {
    let serves = |node: &NodeView| {
        let mut members = task.manifest().members.iter();
        members.any(|member| member.node.to_string() == node.id)
    };
    let (mut nodes, known): (Vec<_>, Vec<_>) = mesh
        .nodes
        .into_iter()
        .filter(serves)
        .partition(|node| named.map_or(node.reachable, |name| node.name == name));
    if let (Some(name), true) = (named, nodes.is_empty()) {
        let known: Vec<_> = known.into_iter().map(|node| node.name).collect();
        return Err(Failure::Input(format!(
            "no full node of the task is called \"{name}\"; there are {}",
            known.join(", ")
        )));
    }
    // Not all at the first one.
    if !nodes.is_empty() {
        let at = rand::random_range(0..nodes.len());
        nodes.rotate_left(at);
    }
    Ok(nodes)
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(args: Score, json: bool) -> Outcome {
    let csv = read_rows(&args.data)?;
    let client = MeshClient::new(&args.mesh)?;
    let view = client.task(&args.task).await?;
    let task = view.join()?;
    let nodes = askable(client.mesh().await?, &task, args.node.as_deref())?;
    let endpoint = super::light_endpoint().await?;
    let (node, mut asker) = begin(&endpoint, &task, nodes).await?;
    let offer = asker.offer();
    let scoring = Scoring::begin(&task, offer.feature_step, offer.score_step)?;
    let rows = scoring.read_csv(&csv).map_err(|error| {
        let place = args.data.display();
        Failure::Input(format!("{place}: {error}"))
    })?;
    let mut scored = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let started = clock::start();
        let (question, bytes) = scoring.ask(row, &mut rand::rng())?;
        let answer = within(asker.ask(bytes)).await?;
        let prediction = scoring.open(question, &answer)?;
        let ms = started.elapsed().as_secs_f64() * 1000.0;
        if !json {
            let sure = prediction.probability();
            let sure = sure.map_or_else(String::new, |p| format!("  {:.1} %", 100.0 * p));
            println!("row {}: {prediction}{sure}", at + 1);
        }
        scored.push(Scored {
            row: at + 1,
            prediction,
            ms,
        });
    }
    let _ = futures::AsyncWriteExt::close(&mut asker.into_inner()).await;
    let mut times: Vec<f64> = scored.iter().map(|one| one.ms).collect();
    times.sort_by(f64::total_cmp);
    let scores = Scores {
        task: view.name,
        node,
        model: Digest(offer.model),
        newest: Digest(offer.model) == view.current_model,
        median_ms: times.get(times.len() / 2).copied().unwrap_or_default(),
        rows: scored,
    };
    if json {
        out::json(&scores);
        return Ok(());
    }
    println!(
        "{} answered {} questions that it cannot read, {:.1} ms each (median)",
        scores.node,
        scores.rows.len(),
        scores.median_ms
    );
    if !scores.newest {
        println!(
            "  with a model that is not the newest of the task: {}",
            scores.model
        );
    }
    Ok(())
}
