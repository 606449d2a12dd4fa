//! The ledger over HTTP: what a validation node serves, and how other nodes pass it on.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use defim_ledger::{
    Canonical as _, Digest, Genesis, NodeId, ReportId, RoundNumber, SignedTx, TaskId,
    light::Receipt, limits,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use utoipa::ToSchema;

use super::{
    body::{self, Held},
    error::ApiError,
};
use crate::{
    failure::{Failure, Outcome},
    ledger::{
        client::LedgerClient,
        codec::{LIGHTS_PAGE, Place, Sealed, b64},
        validator::{BUSY, Validator},
        view::BlockView,
    },
    node::aggregation::AggregationNode,
};

/// Most blocks of a page.
const PAGE: u64 = 100;
/// Most hand-overs of an answer.
const HANDOVERS: u64 = 512;
/// How far above a block a certificate is looked for.
const ABOVE: u64 = 64;

/// A validator's routes, to be nested under its base address.
pub fn router(validator: Validator) -> Router {
    Router::new()
        .route("/ledger/genesis", get(genesis))
        .route("/ledger/head", get(head))
        .route("/ledger/handovers", get(handovers))
        .route("/ledger/blocks", get(blocks))
        .route("/ledger/blocks/{height}", get(block))
        .route("/ledger/chain", get(chain))
        .route("/ledger/opening/{task}/{round}", get(opening))
        .route("/ledger/state/{place}", get(state))
        .route("/ledger/lights/{task}", get(lights))
        .route("/ledger/evidence/{digest}", get(evidence))
        .route("/ledger/txs", post(submit))
        .with_state(validator)
}

/// A ledger's beginning.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenesisView {
    /// What names the chain.
    pub chain: String,
    /// The genesis itself, base64url.
    pub genesis: String,
    /// Its name.
    pub name: String,
    /// The validators it begins with.
    pub validators: Vec<ValidatorView>,
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
}

/// A validator of the first epoch.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ValidatorView {
    /// Its key.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// How the ledger begins.
#[utoipa::path(get, path = "/ledger/genesis", responses((status = 200, body = GenesisView)))]
pub async fn genesis(State(validator): State<Validator>) -> Json<GenesisView> {
    Json(GenesisView::new(validator.genesis()))
}

impl GenesisView {
    pub(super) fn new(genesis: &Genesis) -> Self {
        Self {
            chain: genesis.chain().to_string(),
            genesis: b64(&genesis.to_bytes()),
            name: genesis.name.clone(),
            validators: genesis
                .validators
                .iter()
                .map(|first| ValidatorView {
                    node: first.node.to_string(),
                    name: first.name.clone(),
                    address: first.address.clone(),
                })
                .collect(),
            epoch_blocks: genesis.params.epoch_blocks,
        }
    }
}

/// The newest final block.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadView {
    /// What names it.
    pub digest: String,
    /// Its epoch.
    pub epoch: u64,
    /// When it was proposed.
    pub timestamp_ms: u64,
    /// Header and certificate.
    #[serde(flatten)]
    pub sealed: Sealed,
}

fn nothing_yet() -> ApiError {
    ApiError::not_found("the ledger has no block but the first yet; try again in a moment")
}

/// The header at a height, with the certificate of it or of the next one above that has one.
async fn sealed(validator: &Validator, height: u64) -> Outcome<Option<Sealed>> {
    let mut below = Vec::new();
    for above in height..height.saturating_add(ABOVE) {
        let Some((block, certificate)) = validator.block(above).await? else {
            return Ok(None);
        };
        let header = block.header().to_bytes();
        if let Some(certificate) = certificate {
            below.reverse();
            return Ok(Some(Sealed {
                height,
                header: b64(&header),
                certificate: b64(&certificate),
                below,
            }));
        }
        below.push(b64(&header));
    }
    Ok(None)
}

/// The newest final block's header and certificate.
#[utoipa::path(get, path = "/ledger/head", responses((status = 200, body = HeadView), (status = 404, body = ApiError)))]
pub async fn head(State(validator): State<Validator>) -> Result<Json<HeadView>, ApiError> {
    let head = validator.handle().head().borrow().clone();
    if head.height == 0 {
        return Err(nothing_yet());
    }
    let (block, _) = validator
        .block(head.height)
        .await?
        .ok_or_else(nothing_yet)?;
    Ok(Json(HeadView {
        digest: block.digest().to_string(),
        epoch: block.header().epoch,
        timestamp_ms: block.header().timestamp_ms,
        sealed: Sealed {
            height: head.height,
            header: b64(&block.header().to_bytes()),
            certificate: b64(&head.certificate),
            below: Vec::new(),
        },
    }))
}

/// Where an answer begins.
#[derive(Deserialize)]
pub struct From {
    #[serde(default)]
    from: u64,
}

/// The last headers of epochs, over which the validators of later ones are followed.
#[utoipa::path(get, path = "/ledger/handovers", params(("from" = Option<u64>, Query, description = "first epoch, by default 0")),
    responses((status = 200, body = Vec<Sealed>), (status = 400, body = ApiError)))]
pub async fn handovers(
    State(validator): State<Validator>,
    Query(From { from }): Query<From>,
) -> Result<Json<Vec<Sealed>>, ApiError> {
    let length = validator.genesis().params.epoch_blocks;
    let mut all = Vec::new();
    for epoch in from..from.saturating_add(HANDOVERS) {
        let height = epoch
            .saturating_add(1)
            .saturating_mul(length)
            .saturating_sub(1);
        let Some((block, certificate)) = validator.block(height).await? else {
            break;
        };
        // The engine ends an epoch only with a certificate for its last block.
        let Some(certificate) = certificate else {
            break;
        };
        all.push(Sealed {
            height,
            header: b64(&block.header().to_bytes()),
            certificate: b64(&certificate),
            below: Vec::new(),
        });
    }
    Ok(Json(all))
}

/// Which blocks are wanted.
#[derive(Deserialize)]
pub struct PageQuery {
    before: Option<u64>,
    limit: Option<u64>,
}

/// The newest blocks for people, newest first; those before them page by page.
#[utoipa::path(get, path = "/ledger/blocks",
    params(("before" = Option<u64>, Query, description = "only blocks below this height"), ("limit" = Option<u64>, Query, description = "most blocks, at most 100 and by default 20")),
    responses((status = 200, body = Vec<BlockView>), (status = 400, body = ApiError)))]
pub async fn blocks(
    State(validator): State<Validator>,
    Query(PageQuery { before, limit }): Query<PageQuery>,
) -> Result<Json<Vec<BlockView>>, ApiError> {
    let settled = validator.handle().settled();
    let newest = settled.block.header().height.saturating_add(1);
    let before = before.unwrap_or(newest).min(newest);
    let limit = limit.unwrap_or(20).min(PAGE);
    let mut views = Vec::new();
    for height in (before.saturating_sub(limit)..before).rev() {
        if let Some((block, certificate)) = validator.block(height).await? {
            views.push(BlockView::new(
                &block,
                certificate.as_deref(),
                validator.genesis(),
                &settled.state,
            ));
        }
    }
    Ok(Json(views))
}

/// Blocks with their certificates, ascending, as they are stored; `postcard`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StoredBlocks(pub Vec<(ByteBuf, Option<ByteBuf>)>);

/// Bytes of an answer with blocks, at which it ends.
const CHAIN_BYTES: usize = 4 * 1024 * 1024;
/// Most blocks of it.
const CHAIN_BLOCKS: u64 = 1_000;

/// Blocks with their certificates as they are stored, ascending, in `postcard`: pairs of a block and a certificate or none.
#[utoipa::path(get, path = "/ledger/chain", params(("from" = Option<u64>, Query, description = "first height")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 400, body = ApiError)))]
pub async fn chain(
    State(validator): State<Validator>,
    Query(From { from }): Query<From>,
) -> Result<Response, ApiError> {
    let from = from.max(1);
    let head = validator.handle().settled().block.header().height;
    let (mut all, mut bytes) = (StoredBlocks::default(), 0);
    for height in from..from
        .saturating_add(CHAIN_BLOCKS)
        .min(head.saturating_add(1))
    {
        let Some(stored) = validator.handle().block(height).await else {
            break;
        };
        bytes += stored.block.len();
        let certificate = stored.certificate.map(|c| ByteBuf::from(c.to_vec()));
        all.0
            .push((ByteBuf::from(stored.block.to_vec()), certificate));
        if bytes > CHAIN_BYTES {
            break;
        }
    }
    let bytes = postcard::to_allocvec(&all).map_err(|e| Failure::Other(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// A whole block.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WholeBlock {
    /// The block, base64url.
    pub block: String,
    /// Its certificate, if it has one of its own.
    pub certificate: Option<String>,
    /// The same for people.
    #[serde(flatten)]
    pub view: BlockView,
}

/// One final block.
#[utoipa::path(get, path = "/ledger/blocks/{height}", operation_id = "ledger_block", params(("height" = u64, Path)),
    responses((status = 200, body = WholeBlock), (status = 404, body = ApiError)))]
pub async fn block(
    State(validator): State<Validator>,
    Path(height): Path<u64>,
) -> Result<Json<WholeBlock>, ApiError> {
    let found = validator.block(height).await?;
    let (block, certificate) = found.ok_or_else(|| {
        ApiError::not_found(format!("there is no final block at height {height} yet"))
    })?;
    let state = validator.handle().state();
    Ok(Json(WholeBlock {
        block: b64(&block.to_bytes()),
        view: BlockView::new(&block, certificate.as_deref(), validator.genesis(), &state),
        certificate: certificate.map(|c| b64(&c)),
    }))
}

/// A round's opening in a final block.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpeningView {
    /// The transaction.
    pub tx: String,
    /// That it stands in the block.
    pub proof: String,
    /// The block's header.
    #[serde(flatten)]
    pub sealed: Sealed,
}

/// The opening of a round, proven under a final header.
#[utoipa::path(get, path = "/ledger/opening/{task}/{round}", params(("task" = String, Path, description = "id"), ("round" = u64, Path)),
    responses((status = 200, body = OpeningView), (status = 404, body = ApiError)))]
pub async fn opening(
    State(validator): State<Validator>,
    Path((task, round)): Path<(TaskIdPath, RoundNumber)>,
) -> Result<Json<OpeningView>, ApiError> {
    let missing = || {
        ApiError::not_found(format!(
            "the opening of round {round} is in no final block that this node looks through; try again in a moment"
        ))
    };
    let height = validator.opening(task.0, round).ok_or_else(missing)?;
    let (block, _) = validator.block(height).await?.ok_or_else(missing)?;
    let at = block
        .txs()
        .iter()
        .position(|tx| opens(tx, task.0, round))
        .ok_or_else(missing)?;
    let (Some(tx), Some(proof)) = (block.txs().get(at), block.prove(at)) else {
        return Err(missing());
    };
    let sealed = sealed(&validator, height).await?.ok_or_else(missing)?;
    Ok(Json(OpeningView {
        tx: b64(&tx.to_bytes()),
        proof: b64(&proof.to_bytes()),
        sealed,
    }))
}

pub(super) fn opens(tx: &SignedTx, task: TaskId, round: RoundNumber) -> bool {
    let defim_ledger::Body::RoundOpened { statement } = &tx.tx.body else {
        return false;
    };
    serde_json::from_str::<defim_ledger::RoundOpened>(&statement.payload)
        .is_ok_and(|opened| opened.task == task && opened.round == round)
}

/// A task id in an address.
pub struct TaskIdPath(pub(super) TaskId);

impl<'de> Deserialize<'de> for TaskIdPath {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// What stands at a place in the newest final state.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StateView {
    /// The state's header.
    #[serde(flatten)]
    pub sealed: Sealed,
    /// What stands there, or that nothing does.
    pub proof: String,
    /// The same for people.
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
}

/// What stands at a place in the newest final state, proven under its header.
#[utoipa::path(get, path = "/ledger/state/{place}",
    params(("place" = String, Path, description = "account.{node}, node.{node}, task.{task}, round.{task}.{round}, light.{task}.{key} or validators")),
    responses((status = 200, body = StateView), (status = 404, body = ApiError)))]
pub async fn state(
    State(validator): State<Validator>,
    Path(place): Path<String>,
) -> Result<Json<StateView>, ApiError> {
    let place: Place = place.parse().map_err(ApiError::not_found)?;
    // The newest block may be final by a certificate of one above it that is on its way.
    for _ in 0..50 {
        let settled = validator.handle().settled();
        let height = settled.block.header().height;
        if height == 0 {
            return Err(nothing_yet());
        }
        if let Some(sealed) = sealed(&validator, height).await? {
            let (value, proof) = place.look(&settled.state);
            return Ok(Json(StateView {
                sealed,
                proof: b64(&proof.to_bytes()),
                value,
            }));
        }
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    }
    Err(
        Failure::Unreachable("the newest block's certificate is on its way; try again".into())
            .into(),
    )
}

/// Where a page of light nodes begins.
#[derive(Deserialize)]
pub struct After {
    /// The last key of the page before.
    after: Option<NodeId>,
}

/// Keys of the light nodes that are enrolled for a task, ascending: the first 100,000 after `after`.
#[utoipa::path(get, path = "/ledger/lights/{task}",
    params(("task" = String, Path, description = "id"), ("after" = Option<String>, Query, description = "the last key of the page before")),
    responses((status = 200, body = Vec<String>), (status = 400, body = ApiError)))]
pub async fn lights(
    State(validator): State<Validator>,
    Path(task): Path<TaskIdPath>,
    Query(After { after }): Query<After>,
) -> Json<Vec<NodeId>> {
    let all = tokio::task::block_in_place(|| validator.lights(&task.0));
    Json(page(&all, after, LIGHTS_PAGE).copied().collect())
}

/// So many of ascending keys after one.
fn page(all: &[NodeId], after: Option<NodeId>, most: usize) -> impl Iterator<Item = &NodeId> {
    let first = after.map_or(0, |after| all.partition_point(|key| *key <= after));
    all.iter().skip(first).take(most)
}

/// Bytes that show a fault, from the validator that complained about it.
#[utoipa::path(get, path = "/ledger/evidence/{digest}", params(("digest" = String, Path, description = "base64url")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = ApiError)))]
pub async fn evidence(
    State(validator): State<Validator>,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    let digest: Digest = digest
        .parse()
        .map_err(|_| ApiError::not_found("evidence is named by its SHA-256 in base64url"))?;
    let file = validator.evidence(&digest).await?;
    let file = file.ok_or_else(|| {
        ApiError::not_found("this validator has no such evidence; ask the one that complained")
    })?;
    // All of a round's ciphertexts may be in it.
    let pieces = Body::from_stream(tokio_util::io::ReaderStream::new(file));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], pieces).into_response())
}

/// A transaction's bytes, which come in time or not at all.
pub(super) async fn tx_bytes(body: Body) -> Result<Held, ApiError> {
    body::read(body, limits::TX_BYTES)
        .await
        .map_err(|error| error.into_answer(limits::TX_BYTES))
}

/// Take a signed transaction, to be put into a block.
#[utoipa::path(post, path = "/ledger/txs", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, description = "`{id}`", content_type = "application/json"), (status = 400, body = ApiError), (status = 408, body = ApiError), (status = 413, body = ApiError)))]
pub async fn submit(State(validator): State<Validator>, body: Body) -> Result<Response, ApiError> {
    let held = tx_bytes(body).await?;
    let tx = match SignedTx::from_bytes(&held.bytes) {
        Ok(tx) => tx,
        Err(why) => {
            return Ok(refused(
                "malformed",
                &format!("this is no transaction: {why}"),
            ));
        }
    };
    Ok(match validator.submit(tx).await {
        Ok(id) => taken(id),
        // Not by a rule of the ledger: it can be taken elsewhere, or later.
        Err((BUSY, why)) => return Err(Failure::Unreachable(why).into()),
        Err((code, why)) => refused(code, &why),
    })
}

pub(super) fn taken(id: Digest) -> Response {
    let answer = Json(serde_json::json!({ "id": id.to_string() }));
    (StatusCode::ACCEPTED, answer).into_response()
}

pub(super) fn refused(code: &str, message: &str) -> Response {
    let answer = Json(serde_json::json!({ "code": code, "message": message }));
    (StatusCode::BAD_REQUEST, answer).into_response()
}

/// A receipt with the final header under which it is checked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The receipt.
    pub receipt: String,
    /// The header.
    #[serde(flatten)]
    pub sealed: Sealed,
}

/// What receipts are made from: the aggregation node's lists of report ids, and the validators' word on the round.
#[derive(Clone)]
pub struct Receipts {
    /// The node.
    pub node: AggregationNode,
    /// The validators.
    pub client: LedgerClient,
}

impl Receipts {
    /// Its route, under `/ledger`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/ledger/receipt/{task}/{round}/{report}", get(receipt))
            .with_state(self)
    }
}

/// The receipt of a counted report, under a final header.
#[utoipa::path(get, path = "/ledger/receipt/{task}/{round}/{report}",
    params(("task" = String, Path, description = "name or id"), ("round" = u64, Path), ("report" = String, Path, description = "base64url")),
    responses((status = 200, body = ReceiptView), (status = 404, body = ApiError)))]
pub async fn receipt(
    State(Receipts { node, client }): State<Receipts>,
    Path((task, round, report)): Path<(String, RoundNumber, String)>,
) -> Result<Json<ReceiptView>, ApiError> {
    let (id, run) = super::api::find(&node, &task).await?;
    let report: ReportId = report
        .parse()
        .map_err(|_| ApiError::not_found("a report's id is 22 characters of base64url"))?;
    let found = node.report_path(run.manifest(), round, &report).await?;
    let (committee, path) = found.ok_or_else(|| {
        ApiError::not_found(format!(
            "report {report} is not counted in round {round}, or not yet"
        ))
    })?;
    let (sealed, record, _) = client.stated(Place::Round(id, round)).await?;
    let receipt = Receipt {
        task: id,
        round,
        committee,
        path,
        record,
    };
    Ok(Json(ReceiptView {
        receipt: b64(&receipt.to_bytes()),
        sealed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_keys_join_without_a_hole() {
        let keys: Vec<_> = (0..7).map(|n| NodeId([n; 32])).collect();
        let of = |after| page(&keys, after, 3).copied().collect::<Vec<_>>();
        assert_eq!(of(None), keys[..3]);
        assert_eq!(of(Some(keys[2])), keys[3..6]);
        assert_eq!(of(Some(keys[5])), keys[6..]);
        assert_eq!(of(Some(keys[6])), []);
        // The last key of a page may be gone when the next is asked for.
        let mut gone = [2; 32];
        gone[31] += 1;
        assert_eq!(of(Some(NodeId(gone))), keys[3..6]);
    }
}
