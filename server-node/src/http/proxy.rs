//! Passing requests about the ledger on to the validators.

use axum::{
    Json, Router,
    body::Body,
    extract::{MatchedPath, Path, RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use defim_ledger::{Canonical as _, Digest, Reject, RoundNumber, SignedTx, TaskId, TxProof};

use super::{
    error::ApiError,
    ledger::{GenesisView, OpeningView, StateView, TaskIdPath, opens, refused, taken, tx_bytes},
};
use crate::{
    failure::{Failure, Outcome},
    ledger::{
        client::{LedgerClient, Submitted},
        codec::{Place, Sealed, b64, read},
    },
};

/// Passes requests about the ledger on to the validators. Whoever asks checks the answers by itself; what can be checked is
/// checked here too, so that one validator that lies does not stop all who ask through this node.
#[derive(Clone)]
pub struct Proxy {
    http: reqwest::Client,
    client: LedgerClient,
}

/// Longest answer that is passed on, in bytes.
const PASSED_ON: usize = 16 * 1024 * 1024;
/// The same for the bytes of a round that show a fault. They are passed on as they come.
const PASSED_EVIDENCE: usize = 512 * 1024 * 1024;

/// What a validator answered.
struct Answer {
    status: StatusCode,
    kind: Option<HeaderValue>,
    bytes: Vec<u8>,
}

impl Proxy {
    /// To the validators of this client.
    ///
    /// # Errors
    ///
    /// [`Failure::Other`] if the system's TLS cannot be set up.
    pub fn new(client: LedgerClient) -> Outcome<Self> {
        let http = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(20))
            .connect_timeout(std::time::Duration::from_secs(3))
            .build()
            .map_err(|e| Failure::Other(e.to_string()))?;
        Ok(Self { http, client })
    }

    /// Its routes, under `/ledger`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/ledger/genesis", get(pinned))
            .route("/ledger/head", get(pass_head))
            .route("/ledger/state/{place}", get(pass_state))
            .route("/ledger/opening/{task}/{round}", get(pass_opening))
            .route("/ledger/evidence/{digest}", get(pass_evidence))
            .route("/ledger/txs", post(pass_tx))
            .route("/ledger/handovers", get(pass))
            .route("/ledger/blocks", get(pass))
            .route("/ledger/chain", get(pass))
            .route("/ledger/blocks/{height}", get(pass_block))
            .route("/ledger/lights/{task}", get(pass_lights))
            .with_state(self)
    }

    async fn ask(&self, base: &str, path: &str) -> Result<reqwest::Response, String> {
        let answer = self.http.get(format!("{base}/ledger{path}")).send().await;
        let answer = answer.map_err(|e| e.to_string())?;
        match answer.status() {
            status if status.is_server_error() => Err(status.to_string()),
            _ => Ok(answer),
        }
    }

    /// The first answer that holds, validator by validator. One that has nothing of the kind may be the only one.
    async fn first(&self, path: &str, what: Asked) -> Result<Response, ApiError> {
        let (mut nothing, mut last) = (None, String::new());
        for (at, base) in self.client.in_turn() {
            let answer = match self.ask(&base, path).await {
                Ok(answer) => read_whole(answer).await,
                Err(why) => Err(why),
            };
            match answer {
                Ok(answer) if !answer.status.is_success() => nothing = Some(answer),
                Ok(answer) => match what.holds(&answer, &self.client).await {
                    Ok(()) => return Ok(answer.into_response()),
                    // One that answers falsely is asked last from now on.
                    Err(failure) => {
                        self.client.failed(at);
                        last = failure.to_string();
                    }
                },
                Err(why) => {
                    self.client.failed(at);
                    last = why;
                }
            }
        }
        match nothing {
            Some(answer) => Ok(answer.into_response()),
            None => Err(nobody(&last)),
        }
    }
}

fn nobody(why: &str) -> ApiError {
    Failure::Unreachable(format!(
        "no validation node answers ({why}); the ledger goes on when three of four are back"
    ))
    .into()
}

async fn read_whole(mut answer: reqwest::Response) -> Result<Answer, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|e| e.to_string())? {
        if bytes.len() + piece.len() > PASSED_ON {
            return Err(format!("an answer has more than {PASSED_ON} bytes"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Answer {
        status: answer.status(),
        kind: answer.headers().get(header::CONTENT_TYPE).cloned(),
        bytes,
    })
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.bytes));
        *response.status_mut() = self.status;
        if let Some(kind) = self.kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> Outcome<T> {
        serde_json::from_slice(&self.bytes)
            .map_err(|e| Failure::Integrity(format!("a validator's answer cannot be read: {e}")))
    }
}

async fn pinned(State(proxy): State<Proxy>) -> Json<GenesisView> {
    Json(GenesisView::new(proxy.client.genesis()))
}

/// What was asked, as far as answers can be checked.
#[derive(Clone, Copy)]
enum Asked {
    Anything,
    Head,
    Opening(TaskId, RoundNumber),
}

impl Asked {
    async fn holds(self, answer: &Answer, client: &LedgerClient) -> Outcome {
        match self {
            Self::Anything => Ok(()),
            Self::Head => {
                let sealed: Sealed = answer.json()?;
                let height = client.follow(&sealed).await?.header().height;
                match height < client.proven_height() {
                    true => Err(Failure::Unreachable(format!(
                        "block {height} is not the newest"
                    ))),
                    false => Ok(()),
                }
            }
            Self::Opening(task, round) => {
                let view: OpeningView = answer.json()?;
                let (certified, _) = view.sealed.certified()?;
                // Those of an epoch that is over are for whoever asks: it follows the hand-overs from where it stands.
                if certified.epoch < client.epoch() {
                    return Ok(());
                }
                let header = client.follow(&view.sealed).await?;
                let (tx, proof): (SignedTx, TxProof) = (read(&view.tx)?, read(&view.proof)?);
                match opens(&tx, task, round) && header.has_tx(&tx, &proof).is_ok() {
                    true => Ok(()),
                    false => Err(Failure::Integrity(
                        "a validator shows another transaction than the round's opening".into(),
                    )),
                }
            }
        }
    }
}

/// Only of these routes, whose paths have no part of the asker's choice: a path with dots would lead elsewhere.
async fn pass(
    State(proxy): State<Proxy>,
    route: MatchedPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let route = route.as_str();
    let path = route.split_once("/ledger").map_or("", |(_, rest)| rest);
    proxy.first(&asked(path, query), Asked::Anything).await
}

async fn pass_block(
    State(proxy): State<Proxy>,
    Path(height): Path<u64>,
) -> Result<Response, ApiError> {
    let path = format!("/blocks/{height}");
    proxy.first(&path, Asked::Anything).await
}

async fn pass_lights(
    State(proxy): State<Proxy>,
    Path(task): Path<TaskIdPath>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let path = format!("/lights/{}", task.0);
    proxy.first(&asked(&path, query), Asked::Anything).await
}

fn asked(path: &str, query: Option<String>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

async fn pass_head(State(proxy): State<Proxy>) -> Result<Response, ApiError> {
    proxy.first("/head", Asked::Head).await
}

async fn pass_state(
    State(proxy): State<Proxy>,
    Path(place): Path<String>,
) -> Result<Json<StateView>, ApiError> {
    let place: Place = place.parse().map_err(ApiError::not_found)?;
    let (sealed, proof, value) = match proxy.client.stated(place).await {
        Ok(stated) => stated,
        // As the validators say it.
        Err(Failure::Input(why)) => return Err(ApiError::not_found(why)),
        Err(failure) => return Err(failure.into()),
    };
    Ok(Json(StateView {
        sealed,
        proof: b64(&proof.to_bytes()),
        value,
    }))
}

async fn pass_opening(
    State(proxy): State<Proxy>,
    Path((task, round)): Path<(TaskIdPath, RoundNumber)>,
) -> Result<Response, ApiError> {
    let path = format!("/opening/{}/{round}", task.0);
    proxy.first(&path, Asked::Opening(task.0, round)).await
}

async fn pass_tx(State(proxy): State<Proxy>, body: Body) -> Result<Response, ApiError> {
    let held = tx_bytes(body).await?;
    if let Err(why) = SignedTx::from_bytes(&held.bytes) {
        return Ok(refused(
            "malformed",
            &format!("this is no transaction: {why}"),
        ));
    }
    Ok(match proxy.client.send(held.bytes).await? {
        Submitted::Waiting(id) => taken(id),
        Submitted::Refused(why) => {
            let known = Reject::ALL.iter().find(|reject| reject.text() == why);
            refused(known.map_or("refused", |reject| reject.slug()), &why)
        }
    })
}

async fn pass_evidence(
    State(proxy): State<Proxy>,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    let digest: Digest = digest
        .parse()
        .map_err(|_| ApiError::not_found("evidence is named by its SHA-256 in base64url"))?;
    let mut last = String::new();
    for (_, base) in proxy.client.in_turn() {
        match proxy.ask(&base, &format!("/evidence/{digest}")).await {
            Ok(answer) if answer.status().is_success() => return Ok(streamed(answer)),
            Ok(answer) => last = answer.status().to_string(),
            Err(why) => last = why,
        }
    }
    Err(ApiError::not_found(format!(
        "no validation node that answers has such evidence ({last})"
    )))
}

/// Pass pieces on as they come, and break off at the most that there can be.
fn streamed(answer: reqwest::Response) -> Response {
    let begun = (answer, PASSED_EVIDENCE);
    let pieces = futures::stream::try_unfold(begun, |(mut answer, left)| async move {
        let piece = answer.chunk().await.map_err(std::io::Error::other)?;
        let Some(piece) = piece else { return Ok(None) };
        match left.checked_sub(piece.len()) {
            Some(left) => Ok(Some((piece, (answer, left)))),
            None => Err(std::io::Error::other("the answer is too long")),
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, Body::from_stream(pieces)).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{
        http::{self, body},
        ledger::fake::{Lie, TASK, World, admin, four},
    };

    async fn served(router: Router) -> String {
        let (listener, bound) = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(http::serve(listener, router, std::future::pending()));
        bound.to_string()
    }

    async fn get_from(address: &str, path: &str) -> (StatusCode, serde_json::Value) {
        let answer = reqwest::get(format!("http://{address}{path}")).await;
        let answer = answer.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn one_validator_that_lies_stops_nobody_who_asks_through_another_node() {
        let (world, fakes, client) = four(World::with_task(), Lie::Forged).await;
        let address = served(Proxy::new(client).unwrap().router()).await;
        let height = world.lock().unwrap().height();
        // Its answer to this has no end.
        let (status, _) = get_from(&address, "/ledger/chain").await;
        assert_eq!(status, StatusCode::OK);
        for _ in 0..3 {
            let (status, head) = get_from(&address, "/ledger/head").await;
            assert_eq!((status, &head["height"]), (StatusCode::OK, &height.into()));
            let (status, task) = get_from(&address, &format!("/ledger/state/task.{TASK}")).await;
            assert_eq!((status, &task["height"]), (StatusCode::OK, &height.into()));
            assert_eq!(task["value"]["round"], 0);
        }
        // A transaction goes to all of them.
        *fakes[0].lie.lock().unwrap() = Lie::Refuses;
        let body = defim_ledger::Body::Transfer {
            to: admin().id(),
            amount: 1,
        };
        let tx = world.lock().unwrap().txs(&admin(), vec![body]).remove(0);
        let url = format!("http://{address}/ledger/txs");
        let sent = reqwest::Client::new().post(url).body(tx.to_bytes()).send();
        assert_eq!(sent.await.unwrap().status(), StatusCode::ACCEPTED);
    }

    #[tokio::test]
    async fn only_the_ledger_is_asked_for_through_another_node() {
        let (_world, _fakes, client) = four(World::with_task(), Lie::None).await;
        let address = served(Proxy::new(client).unwrap().router()).await;
        let lights = format!("/ledger/lights/{TASK}");
        assert_eq!(get_from(&address, &lights).await.0, StatusCode::OK);
        // A client does away with dots before it asks; not everybody is one.
        for path in [
            "/ledger/../secret",
            "/ledger/%2e%2e/secret",
            "/ledger/blocks/../../secret",
            "/ledger/lights/..%2f..%2fsecret",
            "/ledger/state/..%2f..%2fsecret",
        ] {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let status = answer.get(9..12).unwrap();
            assert!(["400", "404"].contains(&status), "{path}: {answer}");
            assert!(!answer.contains("beside the ledger"), "{path}");
        }
    }

    #[tokio::test]
    async fn a_transaction_that_never_comes_to_its_end_is_not_waited_for() {
        let (_world, _fakes, client) = four(World::new(), Lie::None).await;
        let address = served(Proxy::new(client).unwrap().router()).await;
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head = "POST /ledger/txs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let ended = tokio::time::timeout(body::STALL + Duration::from_secs(5), read).await;
        assert!(ended.is_ok(), "the connection is held");
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"));
    }
}
