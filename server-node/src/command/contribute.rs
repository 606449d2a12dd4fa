//! `defim contribute`: a native light node, with the browser's code.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use defim_ledger::round_randomness;
use defim_light::{
    LightError, SealedReport, Training,
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
use serde::{Deserialize, Serialize};

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
        receipt::{self, Receipted, Standing},
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

/// How often in a row a report may be stored and not checked until the person is asked.
const MOST_UNCHECKED: u32 = 3;

/// What a leader says became of a report.
#[derive(Deserialize)]
struct ReportStateView {
    reason: Option<String>,
}

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

/// How taking part in a round ended, short of a failure.
enum Sent<T> {
    /// The leader has the report.
    Stored(T),
    /// The round does not count the report, for this reason: nothing was sent, or the ledger shows it. The rows are good for the
    /// next round.
    Missed(String),
    /// The rows may have gone into a total, or those of the key have: the round is one of those that were asked for.
    Spent(Failure),
}

/// What a leader said of a report.
enum Answer {
    Stored(Path, Option<String>),
    /// It has another one under the same id.
    Replayed,
    /// It comes too late, for this reason, over this path. Its word is no proof that it is not counted.
    Late(Reason, Path),
    /// So it said when the report came again; the answer to what went before over this path was lost.
    Lost(Path),
}

struct Sender {
    endpoint: Option<Endpoint>,
    client: MeshClient,
    leader: Leader,
}

impl Sender {
    /// Send until the leader has stored or refused the report, or time is up.
    async fn deliver(&self, report: &SealedReport, give_up: Instant) -> Outcome<Answer> {
        let peer_to_peer = self.endpoint.is_some() && !self.leader.addresses.is_empty();
        let mut delivery = Delivery::new(&self.leader.name, peer_to_peer);
        delivery.handle(clock::now(), Input::Tick);
        let (mut waited_for, mut lost, mut tried) = (String::new(), None, Path::Https);
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
                    tried = path;
                    let input = match path {
                        Path::Webrtc => self.over_peer(report, &mut lost).await,
                        Path::Https => self.over_https(report, &mut lost).await,
                    };
                    delivery.handle(clock::now(), input);
                }
                Output::Wait { because, .. } => {
                    if clock::start() >= give_up {
                        return Err(Failure::Unreachable(format!(
                            "{because}; {}, try again later",
                            match lost {
                                None => "nothing was counted",
                                Some(_) => "whether it has the contribution is not known",
                            }
                        )));
                    }
                    if because != waited_for {
                        eprintln!("{because}; trying again");
                        waited_for = because;
                    }
                }
                Output::Delivered { path, because } => {
                    return Ok(Answer::Stored(path, because));
                }
                Output::Refused { code, .. } if code == Reason::Replayed.slug() => {
                    return Ok(Answer::Replayed);
                }
                Output::Refused { code, message } => {
                    return match Reason::from_slug(&code).filter(|reason| reason.missed()) {
                        None => Err(Failure::Input(format!("{message} ({code})"))),
                        Some(reason) => Ok(match lost {
                            None => Answer::Late(reason, tried),
                            Some(path) => Answer::Lost(path),
                        }),
                    };
                }
            }
        }
    }

    /// Send peer to peer; in `lost` it is kept that an answer is missing.
    async fn over_peer(&self, report: &SealedReport, lost: &mut Option<Path>) -> Input {
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
        let failure = match tokio::time::timeout(limit, upload(&mut stream, &sent, |_| {})).await {
            Ok(Ok(verdict)) => {
                return Input::Verdict {
                    path,
                    code: verdict.code,
                };
            }
            Ok(Err(error)) => failed("broken", error.to_string()),
            Err(_) => failed("stalled", "the upload stood still".into()),
        };
        *lost = Some(path);
        failure
    }

    /// Send over HTTPS; in `lost` it is kept that an answer is missing.
    async fn over_https(&self, report: &SealedReport, lost: &mut Option<Path>) -> Input {
        let path = Path::Https;
        let failed = |code: &str, message: String| Input::Failed {
            path,
            code: code.into(),
            message,
        };
        let base = self.client.resolve(&self.leader.http);
        let task = report.task.to_string();
        let media = media_type(report.committee.vdaf.shares);
        let http = self.client.http();
        let put = http.put_report(&base, &task, media, report.bytes.clone());
        let answer = put.await;
        // Who did not listen got nothing.
        if answer.as_ref().is_err_and(|error| !error.is_refusal()) {
            *lost = Some(path);
        }
        match answer {
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
    (give_up, timeout): (Instant, f64),
) -> Outcome<TaskView> {
    let mut told = false;
    loop {
        let view = client.task(task).await?;
        let out_of_time = clock::start() >= give_up;
        if out_of_time && last.is_some_and(|last| !last.stored) {
            return Err(Failure::Unreachable(standstill(&view, last, timeout)));
        }
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
        if out_of_time {
            return Err(Failure::Unreachable(standstill(&view, last, timeout)));
        }
        if view.paused && !told {
            eprintln!("waiting: task {} is paused", view.name);
            told = true;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Wait for the end of a round.
async fn ended(
    client: &MeshClient,
    task: &str,
    round: RoundNumber,
    give_up: Instant,
) -> Outcome<RoundRecordView> {
    loop {
        let view = client.task(task).await?;
        let mut records = view.history.iter().flatten();
        if let Some(record) = records.find(|record| record.round == round) {
            return Ok(record.clone());
        }
        if clock::start() >= give_up {
            let state = view
                .round
                .map_or("no round is open".to_owned(), |round| round.text);
            return Err(Failure::Unreachable(format!(
                "round {round} is not finished yet: {state}; the contribution is stored, and whether it counts shows when the round ends"
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
    /// Whether the person knows that the key has no effect.
    told: bool,
    /// How many reports in a row were stored and not checked.
    unchecked: u32,
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
            told: false,
            unchecked: 0,
        })
    }

    /// Take part in this round, if it is still open when the report is ready.
    async fn take_part(
        &mut self,
        view: &TaskView,
        give_up: Instant,
    ) -> Outcome<Sent<Contribution>> {
        let task = view.join()?;
        let Some(open) = &view.round else {
            return Err(Failure::Input("no round is open".into()));
        };
        let round = open.round;
        match (task.admission(), &self.key) {
            (Some(_), None) => {
                return Err(Failure::Usage(format!(
                    "task {} counts enrolled light nodes only; name a file with --key, which is made if it is missing",
                    view.name
                )));
            }
            (None, Some(_)) if !self.told => {
                eprintln!(
                    "task {} enrols nobody: --key has no effect, and there are no rewards to claim",
                    view.name
                );
                self.told = true;
            }
            _ => {}
        }
        // What is there may be answered, even with no time left.
        let until = || give_up.max(clock::start() + LEAST);
        if let (Some(rule), Some(key), Some(ledger)) = (task.admission(), &self.key, &self.ledger) {
            let invite = self.args.invite.as_deref();
            receipt::enrol(ledger, &task, rule, key, invite, until()).await?;
        }
        if let Some(ledger) = &self.ledger {
            let randomness = round_randomness(&open.signed);
            receipt::is_final(ledger, task.task(), round, randomness, until()).await?;
        }
        let model = self.client.model(&open.base_model).await?;
        let mesh = self.client.mesh().await?;
        if self.args.via == Via::Auto && self.endpoint.is_none() {
            self.endpoint = Some(super::light_endpoint().await?);
        }
        let open = match task.open_round(open.signed.clone(), clock::now()) {
            Err(LightError::TooLate { .. }) => {
                return Ok(Sent::Missed(
                    "its deadline has passed, and nothing was sent".into(),
                ));
            }
            open => open?.without_ledger(),
        };
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
        let committee = &prepared.report.committee;
        let at = receipt::At {
            task: task.task(),
            round,
            committee: committee.index(),
            report: prepared.report.id,
        };
        let sender = Sender {
            endpoint: self.endpoint.clone(),
            client: self.client.clone(),
            leader: Leader::of(committee.leader(), &mesh)?,
        };
        let started = clock::start();
        let until_sent = until();
        let delivered = sender.deliver(&prepared.report, until_sent);
        let delivered = tokio::time::timeout_at((until_sent + LEAST).into(), delivered).await;
        let answer = delivered.map_err(|_| {
            Failure::Unreachable(format!(
                "full node {} does not answer in time; whether it has the contribution is not known",
                sender.leader.name
            ))
        })??;
        let send_ms = ms(started);
        let key = key.map(|key| &**key);
        let leader = &sender.leader;
        let stored = matches!(answer, Answer::Stored(..));
        let (path, because) = match answer {
            Answer::Stored(path, because) => (path, because),
            Answer::Replayed => {
                let text = match key {
                    Some(_) => format!(
                        "this key has contributed to round {round} already, which counts once; wait for the next round"
                    ),
                    None => Reason::Replayed.text().into(),
                };
                return Ok(Sent::Spent(Failure::Input(text)));
            }
            Answer::Late(reason, path) if self.ledger.is_some() => (
                path,
                Some(format!("full node {} said: {}", leader.name, reason.text())),
            ),
            Answer::Late(reason, _) => {
                let text = format!("{} ({})", reason.text(), reason.slug());
                return Ok(Sent::Spent(Failure::Input(text)));
            }
            Answer::Lost(path) => {
                let because = format!("an answer of full node {} was lost", leader.name);
                if self.ledger.is_none() {
                    return Ok(Sent::Spent(Failure::Unreachable(format!(
                        "{because}, and round {round} is over; whether it counts the contribution is not known"
                    ))));
                }
                (path, Some(because))
            }
        };
        let mut done = Contribution {
            task: view.name.clone(),
            round,
            report: prepared.report.id,
            node: leader.name.clone(),
            key: key.map(NodeKey::id),
            path: match path {
                Path::Webrtc => "peer-to-peer",
                Path::Https => "https",
            },
            because: because.clone().filter(|_| self.args.via != Via::Https),
            bytes: prepared.report.bytes.len(),
            rows: prepared.rows,
            train_ms: prepared.train_ms,
            split_ms: prepared.split_ms,
            send_ms,
            clipped: prepared.clipped,
            counted: None,
            receipt: None,
        };
        if stored && !self.args.wait {
            return Ok(Sent::Stored(done));
        }
        let mut void = None;
        if self.args.wait {
            let record = ended(&self.client, &self.args.task, round, give_up).await?;
            void.clone_from(&record.reason);
            done.counted = Some(record);
        }
        let void = |more: &str| {
            let why = void.as_deref().unwrap_or("the ledger has voided it");
            Failure::Other(format!("round {round} ended without a result: {why}{more}"))
        };
        // A full node's word that it has no report, and the mesh's that there is no receipt, would be ways to be given the same
        // rows again and again.
        let Some(ledger) = &self.ledger else {
            return Ok(
                match done
                    .counted
                    .as_ref()
                    .is_some_and(|record| record.reason.is_some())
                {
                    true => Sent::Spent(void("")),
                    false => Sent::Stored(done),
                },
            );
        };
        Ok(
            match receipt::standing(&self.client, ledger, &at, key, until()).await? {
                Standing::Counted(receipted) => {
                    done.receipt = Some(receipted);
                    Sent::Stored(done)
                }
                Standing::Void { opened: false } => Sent::Missed(void("").to_string()),
                Standing::Void { opened: true } => Sent::Spent(void(
                    "; its total may have been opened with this contribution in it",
                )),
                Standing::Not if stored => self.unchecked(leader, &at).await?,
                Standing::Not => Sent::Missed(because.unwrap_or_default()),
            },
        )
    }

    /// The leader had the report, and the finished round does not count it.
    async fn unchecked(
        &mut self,
        leader: &Leader,
        at: &receipt::At,
    ) -> Outcome<Sent<Contribution>> {
        let base = self.client.resolve(&leader.http);
        let base = base.trim_end_matches('/');
        let url = format!("{base}/tasks/{}/reports/{}", at.task, at.report);
        let state: Option<ReportStateView> = self.client.http().get_json(&url).await.ok();
        let reason = state.and_then(|state| Reason::from_slug(state.reason.as_deref()?));
        if let Some(reason) = reason.filter(|reason| !reason.missed()) {
            return Err(Failure::Input(format!(
                "{} ({})",
                reason.text(),
                reason.slug()
            )));
        }
        let why = "it was stored, but not checked by all of its full nodes in time";
        self.unchecked += 1;
        // Each round draws other full nodes: those that drop reports are not to draw for ever.
        Ok(match self.unchecked < MOST_UNCHECKED {
            true => Sent::Missed(why.into()),
            false => Sent::Spent(Failure::Other(format!(
                "round {} does not count the contribution: {why}, {} times in a row; contribute again if you like",
                at.round, self.unchecked
            ))),
        })
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
    let limit = Duration::from_secs_f64(timeout);
    let (mut last, mut left, mut counted) = (None, rounds, 0);
    let mut give_up = clock::start() + limit;
    while left > 0 {
        let until = (give_up, timeout);
        let view = next_round(&light.client, &light.args.task, last, until).await?;
        let round = view.round.as_ref().map_or(0, |round| round.round);
        let sent = light.take_part(&view, give_up).await?;
        let stored = !matches!(sent, Sent::Missed(_));
        last = Some(Tried { round, stored });
        match sent {
            Sent::Stored(done) => {
                counted += 1;
                light.unchecked = 0;
                if json {
                    out::json(&done);
                } else {
                    print(&done);
                }
            }
            Sent::Missed(why) => {
                eprintln!("round {round} does not count the report ({why}); waiting for the next");
                continue;
            }
            Sent::Spent(failure) if left == 1 && counted == 0 => return Err(failure),
            Sent::Spent(failure) => eprintln!("{failure}"),
        }
        left -= 1;
        give_up = clock::start() + limit;
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
