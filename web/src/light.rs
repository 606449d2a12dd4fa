//! The bridge to the light node, which is fetched only when it is needed.

use std::cell::RefCell;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::ledger;

const ADDRESS: &str = "/light/dist/index.js";

#[wasm_bindgen(inline_js = "export function load(address) { return import(address); }")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn load(address: &str) -> Result<js_sys::Promise, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    type Module;
    #[wasm_bindgen(method, catch, js_name = joinMesh)]
    fn join_mesh(this: &Module) -> Result<js_sys::Promise, JsValue>;

    /// The mesh, joined.
    #[derive(Clone)]
    pub type Mesh;
    #[wasm_bindgen(method, catch)]
    fn contribute(this: &Mesh, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn check(this: &Mesh, task: &str, rows: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn score(this: &Mesh, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn audit(this: &Mesh, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn given(this: &Mesh) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn spent(this: &Mesh, task: &str) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn kept(this: &Mesh) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn resume(this: &Mesh, report: &str, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn discard(this: &Mesh, report: &str) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn enrolled(this: &Mesh, task: &str) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn enrol(this: &Mesh, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn rewards(this: &Mesh, task: &str) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn claim(this: &Mesh, options: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn ledger(this: &Mesh) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn receipt(this: &Mesh, contribution: &JsValue) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn balance(this: &Mesh, key: &str) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = ledgerRound)]
    fn ledger_round(this: &Mesh, task: &str, round: f64) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = forgetLedger)]
    fn forget_ledger(this: &Mesh) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn outcome(this: &Mesh, contribution: &JsValue) -> Result<js_sys::Promise, JsValue>;
}

/// A way to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    Webrtc,
    Https,
}

/// A contribution that the leader has stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    pub task: String,
    pub task_name: String,
    pub round: u64,
    pub report: String,
    pub node: String,
    pub path: Via,
    pub because: Option<String>,
    pub bytes: u64,
}

/// A sealed report that waits in this browser.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub report: String,
    pub task: String,
    pub task_name: String,
    pub round: u64,
    pub bytes: u64,
}

/// Something wrong with the data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Problem {
    pub row: Option<u64>,
    #[serde(default)]
    pub line: Option<u64>,
    pub column: Option<String>,
    pub message: String,
}

impl Problem {
    /// Where it is: `Row 3, column p7, line 4 of the file`.
    pub fn place(&self) -> String {
        let column = self.column.as_deref().filter(|name| !name.is_empty());
        let place = match (self.row, column) {
            (Some(row), Some(column)) => format!("Row {row}, column {column}"),
            (Some(row), None) => format!("Row {row}"),
            (None, Some(column)) => format!("Column {column}"),
            (None, None) => "The file".into(),
        };
        match self.line {
            Some(line) => format!("{place}, line {line} of the file"),
            None => place,
        }
    }
}

/// What the light node found in the data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Checked {
    pub rows: u64,
    pub errors: Vec<Problem>,
}

/// What a model says of one row.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Prediction {
    Class {
        class: String,
        probabilities: Vec<f64>,
    },
    Number {
        value: f64,
    },
}

/// A row's answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Score {
    pub row: usize,
    /// From the row in the clear to its answer in the clear.
    pub ms: f64,
    #[serde(flatten)]
    pub prediction: Prediction,
}

/// What a full node's model says of rows that only this device can read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Scores {
    pub node: String,
    pub newest: bool,
    pub scores: Vec<Score>,
}

impl Scores {
    /// The median time of an answer, in milliseconds.
    pub fn median(&self) -> Option<f64> {
        let mut times: Vec<f64> = self.scores.iter().map(|score| score.ms).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

/// What the light node found when it added up a part of a finished round again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    pub round: u64,
    pub blocks: Vec<u32>,
    pub of_blocks: u32,
    pub parties: u32,
    pub bytes: u64,
    pub ms: f64,
    #[serde(default)]
    pub fraud: Option<Fraud>,
}

/// What this browser has spent of a task's privacy budget.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    pub rounds: u64,
    pub most_a_round: u64,
    pub epsilon: Option<f64>,
}

impl Spent {
    /// For a person; nothing before the first contribution.
    pub fn told(&self) -> Option<String> {
        let rounds = match self.rounds {
            0 => return None,
            1 => "1 round".to_owned(),
            many => format!("{many} rounds"),
        };
        let epsilon = match self.epsilon {
            None => {
                return Some(format!(
                    "You have contributed to {rounds} from this browser, without noise."
                ));
            }
            Some(epsilon) => format!("{epsilon:.3}"),
        };
        let several = match self.most_a_round {
            0 | 1 => "",
            _ => " To some of them more than once, which spends as often.",
        };
        Some(format!(
            "You have contributed to {rounds} from this browser: epsilon {epsilon} of yours is spent.{several}"
        ))
    }
}

/// A wrong sum.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Fraud {
    pub block: u32,
}

impl Audited {
    /// For a person.
    pub fn told(&self) -> String {
        let Self {
            round,
            of_blocks,
            parties,
            ..
        } = self;
        match &self.fraud {
            None => format!(
                "Checked here: this browser added {} of {of_blocks} {} of the encrypted sums of {parties} full nodes up again, and got what the record that this mesh shows of round {round} says.",
                self.blocks.len(),
                if *of_blocks == 1 { "block" } else { "blocks" },
            ),
            Some(fraud) => format!(
                "Round {round} is wrong: block {} of its encrypted sum is not what the full nodes encrypted. Tell the other participants; `defim audit` writes a proof that they can check.",
                fraud.block
            ),
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    pub state: Verdict,
    /// The reason's stable word, if it was rejected.
    #[serde(default)]
    pub reason: Option<String>,
    pub text: Option<String>,
}

/// The states of a stored report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pending,
    Verified,
    Rejected,
    Unknown,
}

/// Why the light node could not do something.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Failure {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub problems: Option<Vec<Problem>>,
}

impl Failure {
    /// For a person: what is wrong, with the first bad cell.
    pub fn told(&self) -> String {
        match self.problems.as_ref().and_then(|problems| problems.first()) {
            Some(problem) => format!("{}: {}", problem.place(), problem.message),
            None => self.message.clone(),
        }
    }
}

/// What the light node tells while it works.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    Step(StepDone),
    Training {
        epoch: u32,
        epochs: u32,
        loss: f64,
    },
    Path {
        path: Via,
        because: Option<String>,
        node: String,
    },
    Connected {
        ms: f64,
    },
    Upload {
        sent: u64,
        total: u64,
        resumed_from: u64,
    },
    Kept {
        retry_ms: f64,
        because: String,
    },
}

/// A step is done.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    tag = "step",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum StepDone {
    /// The round's opening was found to be final.
    Final {
        ms: f64,
        round: u64,
        height: u64,
        signers: Vec<String>,
        validators: u64,
    },
    Read {
        ms: f64,
        rows: u64,
        bytes: u64,
    },
    Trained {
        ms: f64,
        bytes: u64,
        loss_before: f64,
        loss_after: f64,
        clipped: bool,
    },
    Split {
        ms: f64,
        bytes: u64,
    },
    Sealed {
        ms: f64,
        bytes: u64,
        report: String,
        round: u64,
    },
    Sent {
        ms: f64,
        bytes: u64,
        path: Via,
        because: Option<String>,
    },
}

thread_local! {
    static JOINED: RefCell<Option<Mesh>> = const { RefCell::new(None) };
}

/// The mesh: one for the life of the page, as its peer-to-peer connection is.
pub async fn mesh() -> Result<Mesh, Failure> {
    if let Some(mesh) = JOINED.with_borrow(Clone::clone) {
        return Ok(mesh);
    }
    let module = settle(load(ADDRESS)).await.map_err(|_| Failure {
        code: "not-loaded".into(),
        message:
            "The light node could not be loaded. Check that this device is online, then try again."
                .into(),
        problems: None,
    })?;
    let mesh: Mesh = settle(module.unchecked_ref::<Module>().join_mesh())
        .await
        .map_err(failure)?
        .unchecked_into();
    // Two callers may have joined side by side; both then use the first.
    Ok(JOINED.with_borrow_mut(|joined| joined.get_or_insert(mesh).clone()))
}

/// Listens to the light node and can stop it.
pub struct Ears {
    on_event: JsValue,
    stop: Option<web_sys::AbortController>,
}

impl Ears {
    /// Events go to `hear`.
    pub fn new(mut hear: impl FnMut(Event) + 'static) -> Self {
        let listener = Closure::<dyn FnMut(JsValue)>::new(move |event| {
            if let Ok(event) = serde_wasm_bindgen::from_value(event) {
                hear(event);
            }
        });
        // Left to the garbage collector: a last event may come after the promise has settled.
        Self {
            on_event: listener.into_js_value(),
            stop: web_sys::AbortController::new().ok(),
        }
    }

    /// Stops the work when it is called.
    pub fn stopper(&self) -> Option<web_sys::AbortController> {
        self.stop.clone()
    }

    fn options(&self) -> js_sys::Object {
        let options = js_sys::Object::new();
        set(&options, "onEvent", &self.on_event);
        if let Some(stop) = &self.stop {
            set(&options, "signal", &stop.signal());
        }
        options
    }
}

/// Trains on rows (text or a file) and sends one report.
pub async fn contribute(
    mesh: &Mesh,
    task: &str,
    rows: &JsValue,
    ears: &Ears,
) -> Result<Delivered, Failure> {
    let options = ears.options();
    set(&options, "task", &task.into());
    set(&options, "rows", rows);
    read(mesh.contribute(&options)).await
}

/// Sends a kept report.
pub async fn resume(mesh: &Mesh, report: &str, ears: &Ears) -> Result<Delivered, Failure> {
    read(mesh.resume(report, &ears.options())).await
}

/// Drops a kept report for good.
pub async fn discard(mesh: &Mesh, report: &str) -> Result<(), Failure> {
    settle(mesh.discard(report))
        .await
        .map(drop)
        .map_err(failure)
}

/// Reads rows against the task's schema, in the worker.
pub async fn check(mesh: &Mesh, task: &str, rows: &JsValue) -> Result<Checked, Failure> {
    read(mesh.check(task, rows)).await
}

/// Asks a full node's model about rows that it cannot read.
pub async fn score(mesh: &Mesh, task: &str, rows: &str) -> Result<Scores, Failure> {
    let options = js_sys::Object::new();
    set(&options, "task", &task.into());
    set(&options, "rows", &rows.into());
    read(mesh.score(&options)).await
}

/// Adds up random blocks of a finished round's encrypted sum again.
pub async fn audit(mesh: &Mesh, task: &str, round: u64) -> Result<Audited, Failure> {
    let options = js_sys::Object::new();
    set(&options, "task", &task.into());
    set(&options, "round", &(round as f64).into());
    read(mesh.audit(&options)).await
}

/// What this browser has spent of a task's privacy budget.
pub async fn spent(mesh: &Mesh, task: &str) -> Result<Spent, Failure> {
    read(mesh.spent(task)).await
}

/// What was delivered from this browser, oldest first.
pub async fn given(mesh: &Mesh) -> Result<Vec<ledger::Given>, Failure> {
    read(mesh.given()).await
}

/// Reports that wait in this browser.
pub async fn kept(mesh: &Mesh) -> Result<Vec<Kept>, Failure> {
    read(mesh.kept()).await
}

/// Whether this browser's key is enrolled for a task; the key is made if there is none.
pub async fn enrolled(mesh: &Mesh, task: &str) -> Result<ledger::Enrolled, Failure> {
    read(mesh.enrolled(task)).await
}

/// Enrols this browser's key for a task.
pub async fn enrol(mesh: &Mesh, task: &str, invite: &str) -> Result<ledger::Enrolled, Failure> {
    let options = js_sys::Object::new();
    set(&options, "task", &task.into());
    if !invite.is_empty() {
        set(&options, "invite", &invite.into());
    }
    read(mesh.enrol(&options)).await
}

/// What this browser's key for a task has, and what it can claim.
pub async fn rewards(mesh: &Mesh, task: &str) -> Result<ledger::Rewards, Failure> {
    read_rewards(mesh.rewards(task), "claimable").await
}

/// Claims all of it: what was paid.
pub async fn claim(mesh: &Mesh, task: &str) -> Result<ledger::Rewards, Failure> {
    let options = js_sys::Object::new();
    set(&options, "task", &task.into());
    read_rewards(mesh.claim(&options), "paid").await
}

async fn read_rewards(
    promise: Result<js_sys::Promise, JsValue>,
    list: &str,
) -> Result<ledger::Rewards, Failure> {
    let value = settle(promise).await.map_err(failure)?;
    let number = |object: &JsValue, key: &str| {
        let found = js_sys::Reflect::get(object, &key.into()).ok();
        found.and_then(|found| found.as_f64()).unwrap_or_default() as u64
    };
    let all = js_sys::Reflect::get(&value, &list.into()).unwrap_or_default();
    let all = js_sys::Array::from(&all);
    let rewards = all.iter().map(|one| ledger::Reward {
        round: number(&one, "round"),
        points: number(&one, "points"),
    });
    Ok(ledger::Rewards {
        rewards: rewards.collect(),
        before: number(&value, "before"),
        now: serde_wasm_bindgen::from_value(value).map_err(|error| unreadable(&error))?,
    })
}

/// Follows the ledger to its newest final block.
pub async fn ledger(mesh: &Mesh) -> Result<ledger::Status, Failure> {
    read(mesh.ledger()).await
}

/// The receipt of a counted report; the light node keeps it.
pub async fn receipt(
    mesh: &Mesh,
    task: &str,
    round: u64,
    report: &str,
) -> Result<ledger::Receipt, Failure> {
    let contribution = js_sys::Object::new();
    set(&contribution, "task", &task.into());
    set(&contribution, "round", &(round as f64).into());
    set(&contribution, "report", &report.into());
    read(mesh.receipt(&contribution)).await
}

/// What a key has on the ledger.
pub async fn balance(mesh: &Mesh, key: &str) -> Result<ledger::Balance, Failure> {
    read(mesh.balance(key)).await
}

/// Where a round stands on the ledger, if it is there.
pub async fn ledger_round(
    mesh: &Mesh,
    task: &str,
    round: u64,
) -> Result<Option<ledger::Standing>, Failure> {
    read(mesh.ledger_round(task, round as f64)).await
}

/// Forgets which ledger the mesh is known by.
pub async fn forget_ledger(mesh: &Mesh) -> Result<(), Failure> {
    settle(mesh.forget_ledger())
        .await
        .map(drop)
        .map_err(failure)
}

/// What became of a delivered report.
pub async fn outcome(mesh: &Mesh, delivered: &Delivered) -> Result<Outcome, Failure> {
    let contribution =
        serde_wasm_bindgen::to_value(delivered).map_err(|error| unreadable(&error))?;
    read(mesh.outcome(&contribution)).await
}

async fn read<T: DeserializeOwned>(
    promise: Result<js_sys::Promise, JsValue>,
) -> Result<T, Failure> {
    let value = settle(promise).await.map_err(failure)?;
    serde_wasm_bindgen::from_value(value).map_err(|error| unreadable(&error))
}

async fn settle(promise: Result<js_sys::Promise, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(promise?).await
}

fn set(object: &js_sys::Object, key: &str, value: &JsValue) {
    // A plain object takes every key; `set` fails only on frozen ones and proxies.
    let _ = js_sys::Reflect::set(object, &key.into(), value);
}

fn unreadable(error: &serde_wasm_bindgen::Error) -> Failure {
    Failure {
        code: "unreadable".into(),
        message: format!(
            "This page and its light node do not fit together ({error}). Load the page again."
        ),
        problems: None,
    }
}

fn failure(thrown: JsValue) -> Failure {
    let text = |key: &str| {
        js_sys::Reflect::get(&thrown, &key.into())
            .ok()
            .and_then(|value| value.as_string())
            .filter(|t| !t.is_empty())
    };
    let problems = js_sys::Reflect::get(&thrown, &"problems".into()).ok();
    Failure {
        code: text("code").unwrap_or_default(),
        message: text("message")
            .unwrap_or_else(|| "The light node stopped. Load the page again.".into()),
        problems: problems.and_then(|list| serde_wasm_bindgen::from_value(list).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_kind_and_step() {
        let event = |json| serde_json::from_str::<Event>(json).unwrap();
        assert_eq!(
            event(r#"{"kind":"step","step":"read","ms":1.5,"rows":75,"bytes":900}"#),
            Event::Step(StepDone::Read {
                ms: 1.5,
                rows: 75,
                bytes: 900
            })
        );
        assert_eq!(
            event(r#"{"kind":"upload","sent":8000,"total":20000,"resumedFrom":4000}"#),
            Event::Upload {
                sent: 8000,
                total: 20000,
                resumed_from: 4000
            }
        );
        assert!(matches!(
            event(
                r#"{"kind":"step","step":"trained","ms":9,"bytes":2600,"lossBefore":2.3,"lossAfter":0.4,"norm":3.1,"clipped":true}"#
            ),
            Event::Step(StepDone::Trained { clipped: true, .. })
        ));
        assert!(matches!(
            event(r#"{"kind":"path","path":"https","because":"no answer","node":"full-1"}"#),
            Event::Path {
                path: Via::Https,
                ..
            }
        ));
    }

    #[test]
    fn an_answer_is_a_class_or_a_number() {
        let json = r#"{"task":"t","node":"full-2","model":"m","newest":true,"scores":[
            {"row":1,"ms":9.5,"kind":"class","class":"7","probabilities":[0.1,0.9]},
            {"row":2,"ms":3.5,"kind":"number","value":152.5},{"row":3,"ms":4,"kind":"number","value":1}]}"#;
        let scores = serde_json::from_str::<Scores>(json).unwrap();
        assert_eq!(scores.median(), Some(4.0));
        assert!(
            matches!(&scores.scores[0].prediction, Prediction::Class { class, .. } if class == "7")
        );
    }

    #[test]
    fn a_problem_says_where_it_is() {
        let problem = |row, column: Option<&str>| Problem {
            row,
            line: None,
            column: column.map(Into::into),
            message: String::new(),
        };
        assert_eq!(problem(Some(3), Some("p7")).place(), "Row 3, column p7");
        assert_eq!(problem(Some(3), Some("")).place(), "Row 3");
        assert_eq!(problem(None, None).place(), "The file");
        let later = Problem {
            line: Some(6),
            ..problem(Some(3), Some("p7"))
        };
        assert_eq!(later.place(), "Row 3, column p7, line 6 of the file");
    }
}
