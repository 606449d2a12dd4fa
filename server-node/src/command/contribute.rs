//! `defim contribute`: a native light node, with the browser's code.

use std::{sync::Arc, time::Duration};

use defim_ledger::round_randomness;
use defim_light::{
    SealedReport, Training,
    delivery::{Delivery, Input, Output, Path},
};
use defim_net::{
    http::HttpError,
    native::Endpoint,
    upload::{Report, upload},
};
use defim_protocol::{
    Digest, NodeId, NodeKey, Reason, ReportId, RoundNumber, report::media_type, wire::protocol,
};
use serde::Serialize;

use super::{
    leader::{Leader, draw},
    mesh::MeshClient,
    out,
    simulate::read_rows,
};
use crate::{
    cli::{Contribute, Via},
    clock,
    command::{
        account,
        receipt::{self, Receipted},
    },
    config::load_or_make_key,
    failure::{Failure, Outcome},
    http::{RoundRecordView, TaskView},
    ledger::client::LedgerClient,
    node::light::{self, Who, ms},
};

const POLL: Duration = Duration::from_millis(300);
/// Even with `--timeout 0` what is there may be answered.
const LEAST: Duration = Duration::from_secs(1);

/// One contribution, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Contribution {
    task: String,
    round: u64,
    report: ReportId,
    node: String,
    /// The public key that it is counted under, where light nodes are enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<NodeId>,
    path: &'static str,
    because: Option<String>,
    bytes: usize,
    rows: usize,
    train_ms: u64,
    split_ms: u64,
    send_ms: u64,
    clipped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<RoundRecordView>,
    /// Its receipt, verified here, if the mesh has a ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipted>,
}

/// How sending ended, short of a failure.
enum Sent<T> {
    /// The leader has the report.
    Stored(T),
    /// The round was over, or full, before the report was there or checked. Nothing is lost: the rows are good for the next.
    Missed { round: u64, why: String },
}

struct Sender {
    endpoint: Option<Endpoint>,
    client: MeshClient,
    leader: Leader,
    round: RoundNumber,
    /// Whether the report's id follows from a key, so that there is one a round.
    keyed: bool,
}

impl Sender {
    /// Send until the leader has stored or refused the report, or time is up.
    async fn deliver(
        &self,
        report: &SealedReport,
        give_up: std::time::Instant,
    ) -> Outcome<Sent<(Path, Option<String>)>> {
        let peer_to_peer = self.endpoint.is_some() && !self.leader.addresses.is_empty();
        let mut delivery = Delivery::new(&self.leader.name, peer_to_peer);
        delivery.handle(clock::now(), Input::Tick);
        let mut waited_for = String::new();
        loop {
            let Some(output) = delivery.poll() else {
                let due = delivery
                    .next_tick()
                    .unwrap_or_default()
                    .saturating_sub(clock::now());
                tokio::time::sleep(Duration::from_millis(due.clamp(10, 1000))).await;
                delivery.handle(clock::now(), Input::Tick);
                continue;
            };
            match output {
                Output::Try { path, .. } => {
                    let input = match path {
                        Path::Webrtc => self.over_peer(report).await,
                        Path::Https => self.over_https(report).await,
                    };
                    delivery.handle(clock::now(), input);
                }
                Output::Wait { because, .. } => {
                    if clock::start() >= give_up {
                        return Err(Failure::Unreachable(format!(
                            "{because}; nothing was counted, try again later"
                        )));
                    }
                    if because != waited_for {
                        eprintln!("{because}; trying again");
                        waited_for = because;
                    }
                }
                Output::Delivered { path, because } => {
                    return Ok(Sent::Stored((path, because)));
                }
                Output::Refused { code, .. } if self.keyed && code == Reason::Replayed.slug() => {
                    return Err(Failure::Input(format!(
                        "this key has contributed to round {} already, which counts once; wait for the next round",
                        self.round
                    )));
                }
                Output::Refused { code, .. }
                    if Reason::from_slug(&code).is_some_and(Reason::missed) =>
                {
                    return Ok(Sent::Missed {
                        round: self.round,
                        why: code,
                    });
                }
                Output::Refused { code, message } => {
                    return Err(Failure::Input(format!("{message} ({code})")));
                }
            }
        }
    }

    async fn over_peer(&self, report: &SealedReport) -> Input {
        let path = Path::Webrtc;
        let failed = |code: &str, message: String| Input::Failed {
            path,
            code: code.into(),
            message,
        };
        let Some(endpoint) = &self.endpoint else {
            return failed("no-endpoint", "peer to peer is switched off".into());
        };
        let connect = Duration::from_millis(defim_light::delivery::CONNECT_MS);
        let opened = endpoint
            .open(
                self.leader.key,
                &self.leader.addresses,
                protocol::UPLOAD,
                connect,
            )
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return failed("unreachable", error.to_string()),
        };
        let sent = Report {
            task: report.task.0,
            report_id: report.id.0,
            digest: Digest::of(&report.bytes).0,
            bytes: &report.bytes,
        };
        let limit = Duration::from_millis(defim_light::delivery::HTTPS_MS);
        match tokio::time::timeout(limit, upload(&mut stream, &sent, |_| {})).await {
            Ok(Ok(verdict)) => Input::Verdict {
                path,
                code: verdict.code,
            },
            Ok(Err(error)) => failed("broken", error.to_string()),
            Err(_) => failed("stalled", "the upload stood still".into()),
        }
    }

    async fn over_https(&self, report: &SealedReport) -> Input {
        let path = Path::Https;
        let failed = |code: &str, message: String| Input::Failed {
            path,
            code: code.into(),
            message,
        };
        let base = self.client.resolve(&self.leader.http);
        match self
            .client
            .http()
            .put_report(
                &base,
                &report.task.to_string(),
                media_type(report.committee.vdaf.shares),
                report.bytes.clone(),
            )
            .await
        {
            Ok(answer) => match answer.code {
                None if answer.status < 300 => Input::Verdict { path, code: 0 },
                None => Input::Verdict {
                    path,
                    code: Reason::TooLarge.code(),
                },
                Some(slug) => match Reason::from_slug(&slug) {
                    Some(reason) => Input::Verdict {
                        path,
                        code: reason.code(),
                    },
                    None => failed(
                        "unknown-answer",
                        format!("the node refuses with \"{slug}\""),
                    ),
                },
            },
            Err(HttpError::Unreachable { why, .. }) => failed("unreachable", why),
            Err(error @ HttpError::Silent { .. }) => failed("unreachable", error.to_string()),
            Err(error) => failed("broken", error.to_string()),
        }
    }
}

/// The last round that was tried, and whether it has the report.
#[derive(Clone, Copy)]
struct Tried {
    round: u64,
    stored: bool,
}

/// Why no round takes a report now.
fn standstill(view: &TaskView, last: Option<Tried>, timeout: f64) -> String {
    let name = &view.name;
    let state = match (&view.round, view.paused, &view.ledger_waits) {
        (_, true, _) => defim_protocol::RoundPhase::Paused.text(),
        (Some(round), ..) => round.text.clone(),
        (None, false, Some(waits)) => {
            format!("no round is open, the ledger is waited for: {waits}")
        }
        (None, false, None) => "no round is open".to_owned(),
    };
    let Some(Tried { round, stored }) = last else {
        return format!("task {name} takes no contribution now: {state}");
    };
    let still_open = view.round.as_ref().is_some_and(|open| open.round == round);
    let has = match (stored, still_open) {
        (true, true) => "is still open and has yours",
        (true, false) => "has yours",
        (false, _) => "does not count yours",
    };
    format!(
        "round {round} of task {name} {has}; the next has not opened within {timeout} s: {state}"
    )
}

/// Wait for a round after `last` that takes reports.
async fn next_round(
    client: &MeshClient,
    task: &str,
    last: Option<Tried>,
    (give_up, timeout): (std::time::Instant, f64),
) -> Outcome<TaskView> {
    let mut told = false;
    loop {
        let view = client.task(task).await?;
        if view.rounds_done >= view.rounds {
            return Err(Failure::Input(format!(
                "all {} rounds of task {} are done",
                view.rounds, view.name
            )));
        }
        // A report can still be sent while a member is away: the nodes keep it.
        if view.round.as_ref().is_some_and(|open| {
            open.accepts_reports && last.is_none_or(|last| open.round > last.round)
        }) {
            return Ok(view);
        }
        if clock::start() >= give_up {
            return Err(Failure::Unreachable(standstill(&view, last, timeout)));
        }
        if view.paused && !told {
            eprintln!("waiting: task {} is paused", view.name);
            told = true;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn counted(
    client: &MeshClient,
    task: &str,
    round: u64,
    give_up: std::time::Instant,
) -> Outcome<RoundRecordView> {
    loop {
        let view = client.task(task).await?;
        if let Some(record) = view
            .history
            .iter()
            .flatten()
            .find(|record| record.round == round)
        {
            return match &record.reason {
                None => Ok(record.clone()),
                Some(reason) => Err(Failure::Other(format!(
                    "round {round} ended without a result: {reason}"
                ))),
            };
        }
        if clock::start() >= give_up {
            let state = view
                .round
                .map_or("no round is open".to_owned(), |round| round.text);
            return Err(Failure::Unreachable(format!(
                "round {round} is not finished yet: {state}; the contribution is stored and will be counted"
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn print(done: &Contribution) {
    println!(
        "round {}: {} rows trained in {} ms, split and sealed in {} ms, {} bytes sent to {} ({}) in {} ms",
        done.round,
        done.rows,
        done.train_ms,
        done.split_ms,
        done.bytes,
        done.node,
        done.path,
        done.send_ms
    );
    if let Some(because) = &done.because {
        println!("  not peer to peer: {because}");
    }
    if let Some(receipt) = &done.receipt {
        println!(
            "  receipt verified here under block {}, signed by {} validation nodes{}",
            receipt.height,
            receipt.signers,
            match receipt.claimed {
                true => format!("; {} points claimed", receipt.reward),
                false => String::new(),
            }
        );
    }
    if let Some(record) = &done.counted {
        println!(
            "  counted with {} others; new model: {}",
            record.reports.saturating_sub(1),
            out::quality(record.metrics.as_ref())
        );
    }
}

/// The ledger that must have the round's opening, by the chain that the person names and the one that the mesh says it keeps.
///
/// A mesh that could say that it has none could give this person alone a round.
fn chain<'a>(named: Option<&'a str>, claimed: Option<&'a str>) -> Outcome<Option<&'a str>> {
    match (named, claimed) {
        (Some(named), None) => Err(Failure::Integrity(format!(
            "the mesh says that it keeps no ledger, and --chain names {named}; nothing was sent"
        ))),
        (named, claimed) => Ok(named.or(claimed)),
    }
}

/// What is the same for every round that a light node takes part in.
struct Contributor {
    args: Contribute,
    csv: Vec<u8>,
    client: MeshClient,
    key: Option<Arc<NodeKey>>,
    ledger: Option<LedgerClient>,
    endpoint: Option<Endpoint>,
}

impl Contributor {
    async fn new(args: Contribute) -> Outcome<Self> {
        let csv = read_rows(&args.data)?;
        if !args.timeout.is_finite() || !(0.0..=1e6).contains(&args.timeout) {
            return Err(Failure::Usage("--timeout is a number of seconds".into()));
        }
        let limit = Duration::from_secs_f64(args.timeout);
        let client = MeshClient::within(&args.mesh, limit.max(LEAST))?;
        let key = match &args.key {
            None => None,
            Some(file) => Some(Arc::new(NodeKey::from_seed(load_or_make_key(file)?))),
        };
        let claimed = client.mesh().await?.ledger.map(|ledger| ledger.chain);
        let ledger = match chain(args.chain.as_deref(), claimed.as_deref())? {
            None => None,
            Some(chain) => Some(account::ledger(&args.mesh, Some(chain)).await?),
        };
        Ok(Self {
            args,
            csv,
            client,
            key,
            ledger,
            endpoint: None,
        })
    }

    /// Take part in this round; [`Sent::Missed`] if the report comes too late for it.
    async fn take_part(
        &mut self,
        view: &TaskView,
        give_up: std::time::Instant,
    ) -> Outcome<Sent<Contribution>> {
        let task = view.join()?;
        let Some(open) = &view.round else {
            return Err(Failure::Input("no round is open".into()));
        };
        let round = open.round;
        if task.admission().is_some() && self.key.is_none() {
            return Err(Failure::Usage(format!(
                "task {} counts enrolled light nodes only; name a file with --key, which is made if it is missing",
                view.name
            )));
        }
        if let (Some(rule), Some(key), Some(ledger)) = (task.admission(), &self.key, &self.ledger) {
            receipt::enrol(ledger, &task, rule, key, self.args.invite.as_deref()).await?;
        }
        if let Some(ledger) = &self.ledger {
            let randomness = round_randomness(&open.signed);
            receipt::is_final(ledger, task.task(), round, randomness).await?;
        }
        let model = self.client.model(&open.base_model).await?;
        let mesh = self.client.mesh().await?;
        if self.args.via == Via::Auto && self.endpoint.is_none() {
            self.endpoint = Some(super::light_endpoint().await?);
        }
        let open = task
            .open_round(open.signed.clone(), clock::now())?
            .without_ledger();
        let mut training = Training::start(&task, &open, &model)?;
        let key = self.key.as_ref().filter(|_| task.admission().is_some());
        let id = match key {
            Some(key) => {
                training = training.with_key(key.clone());
                training.report_id(light::fresh_id)?
            }
            None => draw(&task, &open, &mesh, &self.client, self.endpoint.as_ref()).await?,
        };
        let prepared =
            tokio::task::block_in_place(|| light::prepare(&training, &self.csv, Who::Person(id)));
        let prepared = prepared.map_err(|failure| match failure {
            Failure::Input(why) => Failure::Input(format!("{}: {why}", self.args.data.display())),
            other => other,
        })?;
        let sender = Sender {
            endpoint: self.endpoint.clone(),
            client: self.client.clone(),
            leader: Leader::of(prepared.report.committee.leader(), &mesh)?,
            round,
            keyed: task.admission().is_some(),
        };
        let started = clock::start();
        let delivered = sender.deliver(&prepared.report, give_up);
        let delivered = tokio::time::timeout_at((give_up + LEAST).into(), delivered).await;
        let delivered = delivered.map_err(|_| {
            Failure::Unreachable(format!(
                "full node {} does not answer within {} s; whether it has the contribution is not known",
                sender.leader.name, self.args.timeout
            ))
        })??;
        let (path, because) = match delivered {
            Sent::Stored(way) => way,
            Sent::Missed { round, why } => return Ok(Sent::Missed { round, why }),
        };
        let mut done = Contribution {
            task: view.name.clone(),
            round,
            report: prepared.report.id,
            node: sender.leader.name.clone(),
            key: key.map(|key| key.id()),
            path: match path {
                Path::Webrtc => "peer-to-peer",
                Path::Https => "https",
            },
            because: because.filter(|_| self.args.via != Via::Https),
            bytes: prepared.report.bytes.len(),
            rows: prepared.rows,
            train_ms: prepared.train_ms,
            split_ms: prepared.split_ms,
            send_ms: ms(started),
            clipped: prepared.clipped,
            counted: None,
            receipt: None,
        };
        if self.args.wait {
            done.counted = Some(counted(&self.client, &self.args.task, round, give_up).await?);
            if let Some(ledger) = &self.ledger {
                let key = key.map(|key| &**key);
                let (id, report) = (task.task(), prepared.report.id);
                let found = receipt::receipt(&self.client, ledger, id, round, report, key).await?;
                if found.is_none() {
                    let why = "it was stored, but not checked by its full nodes in time";
                    return Ok(Sent::Missed {
                        round,
                        why: why.into(),
                    });
                }
                done.receipt = found;
            }
        }
        Ok(Sent::Stored(done))
    }
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(args: Contribute, json: bool) -> Outcome {
    let mut light = Contributor::new(args).await?;
    let (rounds, timeout) = (light.args.rounds, light.args.timeout);
    let mut last = None;
    for _ in 0..rounds {
        let give_up = clock::start() + Duration::from_secs_f64(timeout);
        let done = loop {
            let until = (give_up, timeout);
            let view = next_round(&light.client, &light.args.task, last, until).await?;
            match light.take_part(&view, give_up).await? {
                Sent::Stored(done) => break done,
                Sent::Missed { round, why } => {
                    eprintln!(
                        "round {round} does not count the report ({why}); waiting for the next"
                    );
                    last = Some(Tried {
                        round,
                        stored: false,
                    });
                }
            }
        };
        if json {
            out::json(&done);
        } else {
            print(&done);
        }
        last = Some(Tried {
            round: done.round,
            stored: true,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_does_not_talk_a_named_ledger_away() {
        let failure = chain(Some("named"), None).map_err(|failure| failure.code());
        assert_eq!(failure, Err(5));
        // Another one than is named is found out when its genesis is read.
        let right = |named, claimed| chain(named, claimed).ok().flatten();
        assert_eq!(right(Some("named"), Some("claimed")), Some("named"));
        assert_eq!(right(None, Some("claimed")), Some("claimed"));
        assert_eq!(right(None, None), None);
    }
}
