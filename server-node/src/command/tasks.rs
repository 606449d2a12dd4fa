//! `defim task`.

use std::path::Path;

use defim_protocol::{LedgerTerms, vdaf::Scheme, vote::BINS};
use serde_json::Value;

use super::{mesh::MeshClient, out};
use crate::{
    cli::{AdmissionArg, LedgerArgs, ModelArg, PrivacyArgs, ScheduleArgs},
    config::read_token,
    failure::{Failure, Outcome},
    http::TaskView,
    node::task::{PrivacyRequest, TaskRequest},
};

impl ModelArg {
    /// As specifications have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Mlp => "mlp",
            Self::Linear => "linear",
        }
    }
}

fn milliseconds(name: &str, seconds: f64) -> Outcome<u64> {
    if !seconds.is_finite() || !(0.0..=1e9).contains(&seconds) {
        return Err(Failure::Usage(format!(
            "{name} is a number of seconds from 0 to a billion"
        )));
    }
    Ok((seconds * 1000.0).round() as u64)
}

impl PrivacyArgs {
    /// As requests have it.
    pub fn privacy(&self) -> Option<PrivacyRequest> {
        let delta = self.delta;
        self.epsilon
            .map(|epsilon| PrivacyRequest { epsilon, delta })
    }
}

impl LedgerArgs {
    /// As manifests have them.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for shares that are none.
    pub fn terms(&self) -> Outcome<LedgerTerms> {
        let ppm = |flag: &str, share: Option<f64>, most: f64| match share {
            Some(share) if !(0.0..=most).contains(&share) => Err(Failure::Usage(format!(
                "{flag} {share}: it is a number from 0 to {most}"
            ))),
            share => Ok(share.map(|share| (share * 1e6).round() as u32)),
        };
        Ok(LedgerTerms {
            budget_per_round: self.round_budget,
            tolerance_ppm: ppm("--loss-tolerance", self.loss_tolerance, 1000.0)?,
            fairness_gap_ppm: ppm("--fairness-gap", self.fairness_gap, 1.0)?,
        })
    }
}

impl ScheduleArgs {
    /// As manifests have it.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for times that are none; the rest is checked with the manifest.
    pub fn schedule(&self) -> Outcome<defim_protocol::Schedule> {
        Ok(defim_protocol::Schedule {
            min_batch: self.min_batch,
            max_batch: self.max_batch,
            settle_ms: milliseconds("--settle", self.settle)?,
            round_ms: milliseconds("--deadline", self.deadline)?,
            rounds: self.rounds,
        })
    }
}

/// A task as the command line names it: a built-in one, or a file.
///
/// # Errors
///
/// [`Failure::Input`] if it is neither.
pub fn request(
    task: &str,
    name: Option<String>,
    model: Option<&str>,
    schedule: &ScheduleArgs,
) -> Outcome<TaskRequest> {
    let empty = TaskRequest {
        builtin: None,
        model: None,
        learning: None,
        name,
        title: None,
        summary: None,
        schedule: schedule.schedule()?,
        scheme: Scheme::default(),
        privacy: schedule.privacy.privacy(),
        max_weight: schedule.max_weight,
        admission: schedule.admission.map(AdmissionArg::rule),
        shares: schedule.shares,
        votes: match schedule.quality_votes {
            true => BINS,
            false => 0,
        },
        ledger: schedule.ledger.terms()?,
    };
    if !Path::new(task).is_file() {
        crate::node::task::builtin_task(task, model)?;
        return Ok(TaskRequest {
            builtin: Some(task.to_owned()),
            model: model.map(str::to_owned),
            ..empty
        });
    }
    let text = std::fs::read_to_string(task)
        .map_err(|e| Failure::Input(format!("{task} cannot be read: {e}")))?;
    let learning = serde_json::from_str(&text)
        .map_err(|e| Failure::Input(format!("{task} is no learning specification: {e}")))?;
    let stem = Path::new(task)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .map(str::to_owned);
    Ok(TaskRequest {
        learning: Some(learning),
        name: empty.name.clone().or(stem),
        ..empty
    })
}

/// `defim task create`.
///
/// # Errors
///
/// [`Failure`].
pub async fn create(mesh: &str, request: &TaskRequest, admin_token: &Path, json: bool) -> Outcome {
    let created: Value = MeshClient::new(mesh)?
        .post("/tasks", request, &read_token(admin_token)?)
        .await?;
    if json {
        out::json(&created);
    } else {
        println!(
            "created task {}",
            created.get("id").and_then(Value::as_str).unwrap_or("-")
        );
    }
    Ok(())
}

/// `defim task list`.
///
/// # Errors
///
/// [`Failure`].
pub async fn list(mesh: &str, json: bool) -> Outcome {
    let tasks: Vec<TaskView> = MeshClient::new(mesh)?.get("/tasks").await?;
    if json {
        out::json(&tasks);
        return Ok(());
    }
    if tasks.is_empty() {
        println!("no tasks; `defim task create` makes one");
    }
    for task in tasks {
        let state = match &task.round {
            Some(round) => format!("round {}: {}", round.round, round.text),
            None => match &task.ledger_waits {
                Some(waits) => format!("waits for the ledger: {waits}"),
                None if task.rounds_done >= task.rounds => "all rounds are done".to_owned(),
                None => "no round is open".to_owned(),
            },
        };
        println!(
            "{:<16} {:<8} {}/{} rounds  {state}",
            task.name,
            task.model,
            task.rounds_accepted(),
            task.rounds
        );
    }
    Ok(())
}

fn print(task: &TaskView) {
    println!("{} ({})", task.name, task.title);
    println!("  id          {}", task.id);
    println!(
        "  model       {}, {} parameters, {}",
        task.model, task.dimension, task.current_model
    );
    println!(
        "  rounds      {} of {} done{}",
        task.rounds_accepted(),
        task.rounds,
        if task.paused { ", paused" } else { "" }
    );
    if let Some(waits) = &task.ledger_waits {
        println!("              waits for the ledger: {waits}");
    }
    println!("  first model {}", out::quality(task.initial.as_ref()));
    if let Ok(joined) = task.join() {
        let shares = joined.manifest().vdaf.shares;
        println!(
            "  shares      {shares}, each for another full node; all but one of them tell nothing"
        );
    }
    let voted = task.history.iter().flatten().rev();
    let mut voted = voted.filter_map(|record| Some((record.round, record.votes.as_ref()?)));
    if let Some((round, votes)) = voted.next() {
        println!(
            "  votes       round {round}: {:?}, {:.1} % on average, {:.1} % in the worst quarter",
            votes.bins,
            votes.mean * 100.0,
            votes.worst_quarter * 100.0
        );
    }
    match &task.privacy {
        None => {
            println!("  privacy     no noise is added: totals and models may tell of single rows")
        }
        Some(privacy) => println!(
            "  privacy     epsilon {} at delta {} over all rounds; {:.2} spent, {} rounds left",
            privacy.epsilon, privacy.delta, privacy.spent, privacy.rounds_left
        ),
    }
    if let Some(round) = &task.round {
        println!("  round {:<5} {}", round.round, round.text);
        println!(
            "              {} verified, {} to check",
            round.verified, round.pending
        );
        for (node, weight) in &round.weights {
            println!("              the silo of {node} counts {weight} times");
        }
        for (reason, count) in &round.rejected {
            println!("              {count} refused: {reason}");
        }
    }
    for record in task.history.iter().flatten() {
        match &record.reason {
            None => println!(
                "  round {:<5} {} contributions, {}{}",
                record.round,
                record.reports,
                out::quality(record.metrics.as_ref()),
                match task.proposed == Some(record.round) {
                    true => ": proposed, not accepted yet",
                    false => "",
                }
            ),
            Some(reason) => println!(
                "  round {:<5} ended without a result: {reason}",
                record.round
            ),
        }
    }
}

/// `defim task show`.
///
/// # Errors
///
/// [`Failure`].
pub async fn show(mesh: &str, task: &str, json: bool) -> Outcome {
    let task = MeshClient::new(mesh)?.task(task).await?;
    if json {
        out::json(&task);
    } else {
        print(&task);
    }
    Ok(())
}

/// `defim task void-round`.
///
/// # Errors
///
/// [`Failure`].
pub async fn void_round(
    mesh: &str,
    task: &str,
    round: Option<u64>,
    reason: &str,
    admin_token: &Path,
    json: bool,
) -> Outcome {
    let client = MeshClient::new(mesh)?;
    let id = client.task(task).await?.id;
    let body = serde_json::json!({ "round": round, "reason": reason });
    let view: TaskView = client
        .post(
            &format!("/tasks/{id}/void-round"),
            &body,
            &read_token(admin_token)?,
        )
        .await?;
    if json {
        out::json(&view);
    } else {
        print(&view);
    }
    Ok(())
}

/// `defim task pause`.
///
/// # Errors
///
/// [`Failure`].
pub async fn pause(
    mesh: &str,
    task: &str,
    paused: bool,
    admin_token: &Path,
    json: bool,
) -> Outcome {
    let client = MeshClient::new(mesh)?;
    // The name is checked where it is looked up.
    let id = client.task(task).await?.id;
    let body = serde_json::json!({ "paused": paused });
    let view: TaskView = client
        .post(
            &format!("/tasks/{id}/pause"),
            &body,
            &read_token(admin_token)?,
        )
        .await?;
    if json {
        out::json(&view);
    } else {
        print(&view);
    }
    Ok(())
}
