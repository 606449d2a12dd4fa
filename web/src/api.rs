//! What the mesh's HTTP API answers, as far as the page shows it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::state::sentence;

/// A model's quality on rows nobody trained on.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Metrics {
    pub loss: f64,
    pub accuracy: Option<f64>,
    pub r2: Option<f64>,
}

impl Metrics {
    /// The number people look at: accuracy, or R2 where a number is predicted.
    pub fn score(&self) -> Option<f64> {
        self.accuracy.or(self.r2)
    }
}

/// The open round.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    pub round: u64,
    pub text: String,
    pub accepts_reports: bool,
    pub pending: u64,
    pub verified: u64,
    pub min_batch: u32,
}

/// A round that is over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub round: u64,
    pub outcome: String,
    pub reason: Option<String>,
    pub reports: u64,
    #[serde(default)]
    pub rejected: BTreeMap<String, u64>,
    pub finished_ms: f64,
    pub metrics: Option<Metrics>,
    /// Only in tasks with votes.
    pub votes: Option<Votes>,
}

/// How good those who contributed found the model that a round started from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Votes {
    /// How many in each tenth of accuracy; noise makes some negative.
    pub bins: Vec<i64>,
    pub votes: u64,
    pub mean: f64,
    pub worst_quarter: f64,
}

impl Record {
    /// Whether the round ended with a new model.
    pub fn finished(&self) -> bool {
        self.outcome == "finished"
    }
}

/// A text with its signature; the page reads the text, the light node checks the signature.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Signed {
    pub payload: String,
}

/// What a task promises each contributor, and what of it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Privacy {
    pub epsilon: f64,
    pub delta: f64,
    pub spent: f64,
    pub rounds_left: u64,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    pub id: String,
    pub name: String,
    pub title: String,
    pub summary: String,
    pub model: String,
    pub dimension: u64,
    pub paused: bool,
    pub signed: Signed,
    pub round: Option<Round>,
    /// Only where one task is asked for.
    pub history: Option<Vec<Record>>,
    pub initial: Option<Metrics>,
    pub sample: Option<String>,
    pub rounds_done: u64,
    pub rounds: u64,
    /// None: no noise is added.
    #[serde(default)]
    pub privacy: Option<Privacy>,
    /// What the ledger waits for before the next round opens.
    #[serde(default)]
    pub ledger_waits: Option<String>,
}

impl Task {
    /// Where the task stands, in words.
    pub fn round_text(&self) -> String {
        match &self.round {
            _ if self.paused => {
                "Paused by an administrator. Nothing is lost; try again later.".into()
            }
            Some(round) => round.text.clone(),
            None if self.ledger_waits.is_some() => {
                let waits = self.ledger_waits.as_deref().unwrap_or_default();
                format!("The next round waits for the ledger: {}", sentence(waits))
            }
            None if self.rounds_done >= self.rounds => "All rounds are done".into(),
            None if self.privacy.is_some_and(|privacy| privacy.rounds_left == 0) => {
                "The privacy budget is spent; no more rounds open".into()
            }
            None => "The next round is about to open".into(),
        }
    }

    /// Whether what it waits for may change without an event that says so.
    pub fn waits_for_ledger(&self) -> bool {
        !self.paused && self.round.is_none() && self.ledger_waits.is_some()
    }

    /// What noise protects a contribution: what is good, then how much of it is left or what it lacks.
    pub fn privacy_text(&self) -> (&'static str, String) {
        match self.privacy {
            None => (
                "No noise is added: ",
                "the model that everybody gets may tell something of single rows. Only the sum of all contributions is ever \
                 opened, and that sum is exact."
                    .into(),
            ),
            Some(Privacy {
                epsilon,
                delta,
                spent,
                rounds_left,
            }) => (
                "Noise hides single contributions: ",
                format!(
                    "epsilon {epsilon} at delta {delta} for all rounds together, if one of the full nodes is honest. Spent so far: \
                     {spent:.2}; the budget lasts for {}.",
                    crate::format::count(rounds_left, "more round")
                ),
            ),
        }
    }

    /// Why a contribution made now would not be counted.
    pub fn closed_because(&self) -> Option<String> {
        let open = !self.paused
            && self
                .round
                .as_ref()
                .is_some_and(|round| round.accepts_reports);
        (!open).then(|| self.round_text())
    }

    /// The quality of the newest model.
    pub fn latest(&self) -> Option<Metrics> {
        let newest = |records: &Vec<Record>| {
            records
                .iter()
                .filter(|r| r.finished())
                .max_by_key(|r| r.round)
                .cloned()
        };
        self.history
            .as_ref()
            .and_then(newest)
            .and_then(|record| record.metrics)
            .or(self.initial)
    }

    /// The quality of the model that a round started from.
    pub fn before(&self, round: u64) -> Option<Metrics> {
        let earlier = self
            .history
            .iter()
            .flatten()
            .filter(|r| r.finished() && r.round < round);
        earlier
            .max_by_key(|r| r.round)
            .map_or(self.initial, |record| record.metrics)
    }

    /// Changes when a round has ended, and so the history has grown.
    pub fn stage(&self) -> (u64, Option<u64>) {
        (
            self.rounds_done,
            self.round.as_ref().map(|round| round.round),
        )
    }
}

/// A node of the mesh.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Node {
    pub name: String,
    pub reachable: bool,
}

/// The ledger that the mesh says it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ledger {
    pub height: u64,
}

/// The mesh.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Mesh {
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub ledger: Option<Ledger>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Reads JSON of the mesh.
pub async fn get<T: DeserializeOwned>(address: &str) -> Result<T, String> {
    let response = fetch(address).await?;
    let json = body(response.json()).await?;
    serde_wasm_bindgen::from_value(json).map_err(|error| {
        format!("The mesh answered something this page cannot read ({error}). Load the page again.")
    })
}

/// Reads a text of the mesh.
pub async fn text(address: &str) -> Result<String, String> {
    let response = fetch(address).await?;
    Ok(body(response.text()).await?.as_string().unwrap_or_default())
}

async fn fetch(address: &str) -> Result<web_sys::Response, String> {
    let answer = JsFuture::from(leptos::prelude::window().fetch_with_str(address)).await;
    let response: web_sys::Response = answer.map_err(|_| UNREACHABLE.to_owned())?.unchecked_into();
    if response.ok() {
        return Ok(response);
    }
    let status = response.status();
    let refusal = match body(response.json()).await {
        Ok(json) => serde_wasm_bindgen::from_value::<Refusal>(json).ok(),
        Err(_) => None,
    };
    Err(refusal.map_or_else(
        || format!("The mesh answered with error {status}. Try again in a moment."),
        |refusal| refusal.message,
    ))
}

async fn body(promise: Result<js_sys::Promise, JsValue>) -> Result<JsValue, String> {
    let broken = |_| "The mesh's answer broke off. Try again.".to_owned();
    JsFuture::from(promise.map_err(broken)?)
        .await
        .map_err(broken)
}

const UNREACHABLE: &str = "The mesh cannot be reached. Check that this device is online and that the mesh is running, then try again.";

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn task(json: &str) -> Task {
        let mut base: serde_json::Value = serde_json::from_str(
            r#"{"id":"t","name":"digits","title":"Digits","summary":"","model":"softmax","dimension":650,"paused":false,
                "signed":{"payload":"{}","signer":"k","signature":"s"},"round":null,"initial":{"loss":2.3,"accuracy":0.1,"r2":null,"rows":9},
                "sample":null,"roundsDone":0,"rounds":10}"#,
        )
        .unwrap();
        let changes: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            base[key] = value.clone();
        }
        serde_json::from_value(base).unwrap()
    }

    pub fn record(round: u64, outcome: &str, accuracy: f64) -> String {
        format!(
            r#"{{"round":{round},"outcome":"{outcome}","reason":"too few","reports":3,"rejected":{{"replayed":1}},
                "finishedMs":1,"metrics":{{"loss":0.5,"accuracy":{accuracy},"r2":null,"rows":9}}}}"#
        )
    }

    #[test]
    fn waiting_is_said_only_while_a_round_is_open() {
        assert_eq!(
            task(r#"{"roundsDone":10}"#).round_text(),
            "All rounds are done"
        );
        assert_eq!(task("{}").round_text(), "The next round is about to open");
        let stuck =
            task(r#"{"ledgerWaits":"2 of 4 validation nodes have voted on the new model"}"#);
        assert_eq!(
            stuck.round_text(),
            "The next round waits for the ledger: 2 of 4 validation nodes have voted on the new model."
        );
        assert!(stuck.waits_for_ledger());
        let open = r#""round":{"round":2,"text":"Waiting for 2 more contributions","acceptsReports":true,"pending":0,"verified":1,"minBatch":3}"#;
        let waiting = task(&format!("{{{open}}}"));
        assert_eq!(waiting.round_text(), "Waiting for 2 more contributions");
        assert_eq!(waiting.closed_because(), None);
        assert!(!waiting.waits_for_ledger());
        let paused = task(&format!("{{{open},\"paused\":true}}"));
        assert!(paused.closed_because().unwrap().starts_with("Paused"));
    }

    #[test]
    fn a_task_says_what_noise_it_has_and_stops_when_the_budget_is_spent() {
        let (title, _) = task("{}").privacy_text();
        assert!(title.starts_with("No noise"));
        let private = |left: u64| {
            task(&format!(
                r#"{{"privacy":{{"epsilon":8.0,"delta":0.00001,"spent":2.345,"roundsLeft":{left},"noise":9.0}}}}"#
            ))
        };
        let (title, text) = private(3).privacy_text();
        assert!(title.starts_with("Noise hides"));
        assert!(
            text.contains("epsilon 8") && text.contains("Spent so far: 2.3"),
            "{text}"
        );
        assert!(text.contains("3 more rounds"), "{text}");
        assert!(private(0).round_text().contains("budget is spent"));
    }

    #[test]
    fn a_void_round_changes_no_accuracy() {
        let history = [
            record(1, "finished", 0.8),
            record(2, "voided", 0.0),
            record(3, "finished", 0.9),
        ]
        .join(",");
        let task = task(&format!(r#"{{"history":[{history}]}}"#));
        let accuracy = |metrics: Option<Metrics>| metrics.unwrap().accuracy.unwrap();
        assert_eq!(accuracy(task.latest()), 0.9);
        assert_eq!(accuracy(task.before(3)), 0.8);
        assert_eq!(accuracy(task.before(1)), 0.1);
    }
}
