//! The ledger, followed by this page.

use std::collections::BTreeMap;

use defim_ledger::{
    AccountSlot, Digest, LightSlot, NodeId, ReportId, Round, RoundSlot, SignedText, Stage, TaskId,
    Verdict,
};
use defim_light::chain::{
    ChainError, FinalBlock, Follower, Proven, Served, ServedHeader, VerifiedOpening,
};
use js_sys::Uint8Array;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use wasm_bindgen::prelude::*;

use crate::{
    error::{Thrown, to_js},
    task::{millis, signed},
};

/// A ledger that is followed: it is told what was served, and says whether that is final.
///
/// What is served is given as the JSON that a node answers with; byte strings in it are base64url.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Chain(Follower);

impl From<ChainError> for Thrown {
    fn from(error: ChainError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Something that was proven, and the block under which it was.
#[derive(Serialize)]
struct Checked<T> {
    #[serde(flatten)]
    value: T,
    block: FinalBlock,
}

#[derive(Serialize)]
struct Account {
    balance: u64,
    nonce: u64,
}

/// A light node's entry in a task.
#[derive(Serialize)]
struct Member {
    /// Nothing: there is none.
    active: Option<bool>,
    claimed: Vec<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    model: Digest,
    accepted: u64,
    reward: u64,
}

/// A round as the ledger's state has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoundView {
    stage: &'static str,
    accepted: u64,
    /// Votes for the model, and complaints.
    accepts: usize,
    complaints: usize,
    /// What one report earns, and what light nodes have not claimed yet; of a finished round only.
    per_report: Option<u64>,
    unclaimed: Option<u64>,
    model: Option<Digest>,
}

impl From<Round> for RoundView {
    fn from(round: Round) -> Self {
        let accepts = round.votes.values();
        let accepts = accepts.filter(|verdict| matches!(verdict, Verdict::Accept { .. }));
        let accepts = accepts.count();
        let (stage, model, per_report, unclaimed) = match &round.stage {
            Stage::Open => ("open", None, None, None),
            Stage::Opened(_) => ("opened", None, None, None),
            Stage::Proposed(_, updated) => ("proposed", Some(updated.model), None, None),
            Stage::Finished {
                model,
                per_report,
                unclaimed,
                ..
            } => (
                "finished",
                Some(*model),
                Some(*per_report),
                Some(*unclaimed),
            ),
            Stage::Voided { .. } => ("voided", None, None, None),
        };
        Self {
            stage,
            accepted: round.accepted(),
            accepts,
            complaints: round.votes.len() - accepts,
            per_report,
            unclaimed,
            model,
        }
    }
}

fn served<T: DeserializeOwned>(json: &str, what: &str) -> Result<T, Thrown> {
    serde_json::from_str(json).map_err(|e| {
        Thrown::new(
            "malformed",
            format!("the ledger's {what} is not what it should be ({e}); ask again"),
        )
    })
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Thrown> {
    text.parse()
        .map_err(|e: T::Err| Thrown::new("malformed", e.to_string()))
}

/// What was served of a round's opening, in either of its two forms.
#[derive(Deserialize)]
struct Form {
    tx: Option<IgnoredAny>,
}

/// Check a round's opening.
pub(crate) fn opening(
    chain: &mut Follower,
    task: &TaskId,
    round: u64,
    statement: &SignedText,
    json: &str,
) -> Result<VerifiedOpening, Thrown> {
    let form: Form = served(json, "round")?;
    // A transaction, or where its block is of an epoch that is over, the round in the newest state.
    Ok(match form.tx {
        Some(_) => chain.verify_opening(task, round, statement, &served(json, "opening")?)?,
        None => chain.verify_round(task, round, statement, &served(json, "round")?)?,
    })
}

impl Chain {
    pub(crate) fn follower(&mut self) -> &mut Follower {
        &mut self.0
    }

    fn proven<T, V: Serialize>(
        proven: Proven<T>,
        view: impl FnOnce(T) -> V,
    ) -> Result<JsValue, JsValue> {
        to_js(&Checked {
            value: view(proven.value),
            block: proven.block,
        })
    }
}

#[wasm_bindgen]
impl Chain {
    /// Begin with a genesis in base64url, held against the chain id that is `pinned`. Without one, the genesis is
    /// trusted because nothing else is known: keep its `chain`, and pin that from then on.
    ///
    /// # Errors
    ///
    /// `malformed`, `bad-genesis`; `other-chain` if the genesis is not the pinned one's.
    pub fn begin(genesis: &str, pinned: Option<String>) -> Result<Chain, JsValue> {
        let begin = || -> Result<Follower, Thrown> {
            let genesis = Served::from_text("genesis", genesis)?;
            Ok(match pinned {
                Some(pinned) => Follower::begin(&genesis.0, &id(&pinned)?)?,
                None => Follower::trust_on_first_use(&genesis.0)?,
            })
        };
        Ok(Self(begin()?))
    }

    /// Go on from what `bytes` gave.
    ///
    /// # Errors
    ///
    /// `malformed`; begin anew then.
    pub fn restore(bytes: &[u8]) -> Result<Chain, JsValue> {
        Ok(Self(Follower::restore(bytes).map_err(Thrown::from)?))
    }

    /// What to keep until the next visit.
    pub fn bytes(&self) -> Uint8Array {
        Uint8Array::from(self.0.to_bytes().as_slice())
    }

    /// The chain's id.
    #[wasm_bindgen(getter)]
    pub fn chain(&self) -> String {
        self.0.chain().to_string()
    }

    /// Height of the newest final block that was seen.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> f64 {
        self.0.height() as f64
    }

    /// The epoch of the next block.
    #[wasm_bindgen(getter)]
    pub fn epoch(&self) -> f64 {
        self.0.epoch() as f64
    }

    /// The validators whose signatures count now: `[{ node, name }]`.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn validators(&self) -> Result<JsValue, JsValue> {
        to_js(&self.0.validators())
    }

    /// From which epoch on hand-overs must be fetched before this `{ header, certificate }` can be checked, if any.
    ///
    /// # Errors
    ///
    /// `malformed`.
    pub fn needs(&self, block: &str) -> Result<Option<f64>, JsValue> {
        let block: ServedHeader = served(block, "header")?;
        let needs = self.0.needs(&block).map_err(Thrown::from)?;
        Ok(needs.map(|epoch| epoch as f64))
    }

    /// Take over the next epoch's validators.
    ///
    /// # Errors
    ///
    /// The code of the refusal, as for `advance`; `no-hand-over` for another header of the epoch.
    #[wasm_bindgen(js_name = handOver)]
    pub fn hand_over(&mut self, block: &str) -> Result<JsValue, JsValue> {
        let block: ServedHeader = served(block, "hand-over")?;
        to_js(&self.0.hand_over(&block).map_err(Thrown::from)?)
    }

    /// Check that a block is final, and move on to it if it is newer: `{ height, digest, epoch, timestampMs, signers,
    /// validators }`.
    ///
    /// # Errors
    ///
    /// The code of the refusal: `missing-signer`, `wrong-set`, `signature-count`, `duplicate-signature`,
    /// `broken-signature`, `wrong-round`, `altered-payload`, `old-set`, `past-epoch`, `later-epoch`, `bad-header`,
    /// `bad-next-set`, `fork`, `malformed`.
    pub fn advance(&mut self, block: &str) -> Result<JsValue, JsValue> {
        let block: ServedHeader = served(block, "header")?;
        to_js(&self.0.advance(&block).map_err(Thrown::from)?)
    }

    /// Check that exactly this signed opening of a round is final: the block, as of `advance`. Served is the opening's
    /// transaction, or the round in the newest state.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`, `no-opening`, `other-opening`, `no-such-round`, `round-closed`.
    #[wasm_bindgen(js_name = checkOpening)]
    pub fn check_opening(
        &mut self,
        task: &str,
        round: f64,
        statement: &str,
        opening_json: &str,
    ) -> Result<JsValue, JsValue> {
        let statement = signed(statement, "round's opening")?;
        let (task, round) = (id(task)?, millis(round));
        let opening = opening(&mut self.0, &task, round, &statement, opening_json)?;
        to_js(opening.block())
    }

    /// Check that a report is counted in a finished round: `{ model, accepted, reward, block }`.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`, `other-receipt`, `no-such-round`, `not-finished`, `not-in-batch`.
    #[wasm_bindgen(js_name = checkReceipt)]
    pub fn check_receipt(
        &mut self,
        task: &str,
        round: f64,
        report: &str,
        receipt: &str,
    ) -> Result<JsValue, JsValue> {
        let mut check = || -> Result<Proven<defim_ledger::light::Counted>, Thrown> {
            let (task, report): (TaskId, ReportId) = (id(task)?, id(report)?);
            let receipt = served(receipt, "receipt")?;
            Ok(self
                .0
                .verify_receipt(&task, millis(round), &report, &receipt)?)
        };
        Self::proven(check()?, |counted| Counted {
            model: counted.model,
            accepted: counted.accepted,
            reward: counted.reward,
        })
    }

    /// Check what an account has: `{ balance, nonce, block }`. One that nobody has used is empty.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`.
    #[wasm_bindgen(js_name = checkAccount)]
    pub fn check_account(&mut self, node: &str, state: &str) -> Result<JsValue, JsValue> {
        let mut check = || -> Result<_, Thrown> {
            let slot = AccountSlot(id::<NodeId>(node)?);
            Ok(self.0.verify_state(&slot, &served(state, "account")?)?)
        };
        Self::proven(check()?, |account| {
            let account = account.unwrap_or_default();
            Account {
                balance: account.balance,
                nonce: account.nonce,
            }
        })
    }

    /// Check where a round stands: `{ round: { stage, accepted, accepts, complaints, perReport, unclaimed, model } | null,
    /// block }`.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`.
    #[wasm_bindgen(js_name = checkRound)]
    pub fn check_round(&mut self, task: &str, round: f64, state: &str) -> Result<JsValue, JsValue> {
        let mut check = || -> Result<_, Thrown> {
            let slot = RoundSlot(id::<TaskId>(task)?, millis(round));
            Ok(self.0.verify_state(&slot, &served(state, "round")?)?)
        };
        Self::proven(check()?, |round| {
            BTreeMap::from([("round", round.map(RoundView::from))])
        })
    }

    /// Check whether a light node is enrolled for a task: `{ active, claimed, block }`, where null says that it never was, and
    /// false that it was removed; claimed are the rounds whose reward it has.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`.
    #[wasm_bindgen(js_name = checkLight)]
    pub fn check_light(&mut self, task: &str, key: &str, state: &str) -> Result<JsValue, JsValue> {
        let mut check = || -> Result<_, Thrown> {
            let slot = LightSlot(id::<TaskId>(task)?, id::<NodeId>(key)?);
            Ok(self.0.verify_state(&slot, &served(state, "light node")?)?)
        };
        Self::proven(check()?, |light| Member {
            active: light.as_ref().map(|light| light.active),
            claimed: light.map(|light| light.claimed).unwrap_or_default(),
        })
    }

    /// Learn the name of a validator that the genesis does not name.
    ///
    /// # Errors
    ///
    /// As `advance`; `bad-proof`.
    #[wasm_bindgen(js_name = checkName)]
    pub fn check_name(&mut self, node: &str, state: &str) -> Result<Option<String>, JsValue> {
        let mut check = || -> Result<_, Thrown> {
            Ok(self
                .0
                .verify_name(id::<NodeId>(node)?, &served(state, "node")?)?)
        };
        Ok(check()?)
    }
}
