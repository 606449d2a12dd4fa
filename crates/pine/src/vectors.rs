//! Checking test vectors, good and bad: JSON files in the form of the draft's.
//!
//! A good file is one that the draft's own code writes. A bad one has the same form with something
//! corrupted, and says in `corrupted` what, and in `fails` at which step it must be refused: `"shard"`,
//! `"decode"`, `"prepare"` (an aggregator by itself, or all together) or `"finish"`.

use std::path::Path;

use prio::codec::{Encode, ParameterizedDecode};
use prio::field::{Field64, Field128, FieldPrio2};
use prio::vdaf::xof::{Xof, XofHmacSha256Aes128, XofTurboShake128};
use prio::vdaf::{Aggregator as _, Collector as _, PrepareTransition};
use serde::{Deserialize, Serialize};

use crate::field::{Field40, PineField};
use crate::params::{ALPHA, NUM_WR_CHECKS, NUM_WR_SUCCESSES, Parameters};
use crate::share::{AggregateShare, InputShare, OutputShare, PrepareShare, PublicShare};
use crate::vdaf::{Instance, NONCE_SIZE, Pine};

/// A file of vectors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VectorFile {
    /// Number of aggregators.
    pub shares: usize,
    /// Name of the field.
    pub field: String,
    /// See [`Parameters`], as all that follow.
    pub l2_norm_bound: u64,
    /// Fractional bits.
    pub num_frac_bits: u32,
    /// Coordinates.
    pub dimension: usize,
    /// Products in a gadget call.
    pub chunk_length: usize,
    /// Squares in a gadget call.
    pub chunk_length_norm_equality: usize,
    /// Proofs for the main circuit.
    pub proofs: u8,
    /// Proofs for the norm equality circuit.
    pub proofs_norm_equality: u8,
    /// Alpha.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Wraparound checks.
    #[serde(default = "checks")]
    pub num_wr_checks: usize,
    /// How many must hold.
    #[serde(default = "successes")]
    pub num_wr_successes: usize,
    /// Verification key; its length tells the XOF.
    pub verify_key: Hex,
    /// Reports.
    pub prep: Vec<Report>,
    /// Each aggregator's share of the sum.
    pub agg_shares: Vec<Hex>,
    /// The sum.
    pub agg_result: Vec<f64>,
    /// What was corrupted, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<String>,
    /// Where it must be refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<Step>,
}

/// One report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The vector.
    pub measurement: Vec<f64>,
    /// Nonce.
    pub nonce: Hex,
    /// The client's randomness.
    pub rand: Hex,
    /// What sharding gives.
    pub public_share: Hex,
    /// What sharding gives, by aggregator.
    pub input_shares: Vec<Hex>,
    /// By round and aggregator.
    pub prep_shares: Vec<Vec<Hex>>,
    /// By round.
    pub prep_messages: Vec<Hex>,
    /// By aggregator.
    pub out_shares: Vec<Vec<Hex>>,
}

/// A step of the protocol at which a corrupted file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The client refuses the measurement.
    Shard,
    /// A share does not decode.
    Decode,
    /// The proof or a part does not hold.
    Prepare,
    /// An aggregator's joint randomness is another one.
    Finish,
}

/// Bytes in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

fn alpha() -> f64 {
    ALPHA
}

fn checks() -> usize {
    NUM_WR_CHECKS
}

fn successes() -> usize {
    NUM_WR_SUCCESSES
}

/// A file does not agree with this crate.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The file is not of this form.
    #[error("not a file of PINE vectors: {0}")]
    Form(String),
    /// No instance is meant.
    #[error("no instance has the field {field} and a verification key of {key} bytes")]
    Instance {
        /// The field's name.
        field: String,
        /// Length of the key.
        key: usize,
    },
    /// A step fails that should not.
    #[error("report {report}: {step} fails: {error}")]
    Fails {
        /// Which report.
        report: usize,
        /// What was tried.
        step: &'static str,
        /// Why it fails.
        error: String,
    },
    /// A result is another one.
    #[error("report {report}: {what} differs")]
    Differs {
        /// Which report.
        report: usize,
        /// What is compared.
        what: String,
    },
    /// A corrupted file went through.
    #[error("corrupted ({0}), and not refused where it must be")]
    Accepted(String),
}

/// Check the file's content.
///
/// # Errors
///
/// [`VectorError`] with the first difference.
pub fn check(json: &[u8]) -> Result<(), VectorError> {
    let file: VectorFile =
        serde_json::from_slice(json).map_err(|e| VectorError::Form(e.to_string()))?;
    match (file.field.as_str(), file.verify_key.0.len()) {
        ("Field64", 16) => check_as::<Field64, XofTurboShake128, 16>(&file),
        ("Field128", 16) => check_as::<Field128, XofTurboShake128, 16>(&file),
        ("Field64", 32) => check_as::<Field64, XofHmacSha256Aes128, 32>(&file),
        ("Field32", 32) => check_as::<FieldPrio2, XofHmacSha256Aes128, 32>(&file),
        ("Field40", 32) => check_as::<Field40, XofHmacSha256Aes128, 32>(&file),
        (field, key) => Err(VectorError::Instance {
            field: field.to_owned(),
            key,
        }),
    }
}

/// Check one file.
///
/// # Errors
///
/// As [`check`], and [`VectorError::Form`] if it cannot be read.
pub fn check_file(path: &Path) -> Result<(), VectorError> {
    check(&std::fs::read(path).map_err(|e| VectorError::Form(e.to_string()))?)
}

impl VectorFile {
    /// The parameters it is for.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            l2_norm_bound: self.l2_norm_bound,
            num_frac_bits: self.num_frac_bits,
            dimension: self.dimension,
            chunk_length: self.chunk_length,
            chunk_length_norm_equality: self.chunk_length_norm_equality,
            num_shares: self.shares,
            num_proofs: self.proofs,
            num_proofs_norm_equality: self.proofs_norm_equality,
            alpha: self.alpha,
            num_wr_checks: self.num_wr_checks,
            num_wr_successes: self.num_wr_successes,
        }
    }
}

fn check_as<F: PineField, X: Xof<SEED>, const SEED: usize>(
    file: &VectorFile,
) -> Result<(), VectorError>
where
    Pine<F, X, SEED>: Instance,
{
    let pine =
        Pine::<F, X, SEED>::new(file.parameters()).map_err(|e| VectorError::Form(e.to_string()))?;
    let mut sums: Vec<Vec<OutputShare<F>>> = vec![Vec::new(); file.shares];
    for (index, report) in file.prep.iter().enumerate() {
        let run = Run {
            pine: &pine,
            index,
            report,
            key: &file.verify_key.0,
        };
        let result = run.all(file.fails);
        match (file.fails, result) {
            (None, Ok(outputs)) => {
                for (sum, output) in sums.iter_mut().zip(outputs) {
                    sum.push(output);
                }
            }
            (None, Err((_, error))) => return Err(error),
            (Some(wanted), Err((step, _))) if wanted == step => {}
            (Some(_), _) => {
                let what = file.corrupted.clone().unwrap_or_default();
                return Err(VectorError::Accepted(what));
            }
        }
    }
    if file.fails.is_some() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| VectorError::Fails {
        report: file.prep.len(),
        step: "aggregation",
        error: error.to_string(),
    };
    let mut shares: Vec<AggregateShare<F>> = Vec::new();
    for (outputs, expected) in sums.into_iter().zip(&file.agg_shares) {
        let share = pine.aggregate(&(), outputs).map_err(|e| failed(&e))?;
        same(file.prep.len(), "aggregate share", &share, expected)?;
        shares.push(share);
    }
    let result = pine
        .unshard(&(), shares, file.prep.len())
        .map_err(|e| failed(&e))?;
    match result == file.agg_result {
        true => Ok(()),
        false => Err(VectorError::Differs {
            report: file.prep.len(),
            what: "the aggregate result".to_owned(),
        }),
    }
}

fn same(report: usize, what: &str, value: &impl Encode, expected: &Hex) -> Result<(), VectorError> {
    match value.get_encoded() {
        Ok(bytes) if bytes == expected.0 => Ok(()),
        _ => Err(VectorError::Differs {
            report,
            what: what.to_owned(),
        }),
    }
}

/// One report going through all steps.
struct Run<'a, F: PineField, X, const SEED: usize> {
    pine: &'a Pine<F, X, SEED>,
    index: usize,
    report: &'a Report,
    key: &'a [u8],
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Run<'_, F, X, SEED>
where
    Pine<F, X, SEED>: Instance,
{
    fn fails(&self, step: &'static str, error: &dyn std::fmt::Display) -> VectorError {
        VectorError::Fails {
            report: self.index,
            step,
            error: error.to_string(),
        }
    }

    /// All steps. Of a corrupted report, what sharding and preparing give is not compared.
    fn all(&self, corrupted: Option<Step>) -> Result<Vec<OutputShare<F>>, (Step, VectorError)> {
        let Report {
            measurement,
            nonce,
            rand,
            public_share,
            input_shares,
            prep_shares,
            prep_messages,
            out_shares,
        } = self.report;
        let pine = self.pine;
        let compare = corrupted.is_none();
        let nonce: &[u8; NONCE_SIZE] = nonce
            .0
            .as_slice()
            .try_into()
            .map_err(|_| (Step::Decode, self.fails("the nonce", &"it is not 16 bytes")))?;
        let key: &[u8; SEED] = self
            .key
            .try_into()
            .map_err(|_| (Step::Decode, self.fails("the key", &"of another length")))?;
        if compare || corrupted == Some(Step::Shard) {
            let (public, shares) = pine
                .shard_with_randomness(measurement, nonce, &rand.0)
                .map_err(|e| (Step::Shard, self.fails("sharding", &e)))?;
            let shard = |error| (Step::Shard, error);
            same(self.index, "public share", &public, public_share).map_err(shard)?;
            for (share, expected) in shares.iter().zip(input_shares) {
                same(self.index, "input share", share, expected).map_err(shard)?;
            }
        }

        let undecodable = |e: &dyn std::fmt::Display| (Step::Decode, self.fails("decoding", e));
        let public = PublicShare::get_decoded_with_param(pine, &public_share.0)
            .map_err(|e| undecodable(&e))?;
        let mut states = Vec::new();
        let mut prepare_shares = Vec::new();
        for (aggregator, bytes) in input_shares.iter().enumerate() {
            let share = InputShare::get_decoded_with_param(&(pine, aggregator), &bytes.0)
                .map_err(|e| undecodable(&e))?;
            let (state, prepared) = pine
                .prepare_init(key, aggregator, &(), nonce, &public, &share)
                .map_err(|e| (Step::Prepare, self.fails("preparation", &e)))?;
            let expected = prep_shares.first().and_then(|round| round.get(aggregator));
            if let (true, Some(expected)) = (compare, expected) {
                let prepare = |error| (Step::Prepare, error);
                same(self.index, "prepare share", &prepared, expected).map_err(prepare)?;
                // What goes over the network is what comes out of it.
                PrepareShare::get_decoded_with_param(&state, &expected.0)
                    .map_err(|e| undecodable(&e))?;
            }
            states.push(state);
            prepare_shares.push(prepared);
        }
        let message = pine
            .prepare_shares_to_prepare_message(&(), prepare_shares)
            .map_err(|e| (Step::Prepare, self.fails("preparation", &e)))?;
        let expected = prep_messages.first();
        if let (true, Some(expected)) = (compare, expected) {
            let prepare = |error| (Step::Prepare, error);
            same(self.index, "prepare message", &message, expected).map_err(prepare)?;
        }
        let mut outputs = Vec::new();
        for (state, expected) in states.into_iter().zip(out_shares) {
            let transition = pine
                .prepare_next(state, message.clone())
                .map_err(|e| (Step::Finish, self.fails("finishing", &e)))?;
            let PrepareTransition::Finish(output) = transition else {
                return Err((Step::Finish, self.fails("finishing", &"another round")));
            };
            let expected = Hex(expected.iter().flat_map(|e| e.0.iter().copied()).collect());
            let finish = |error| (Step::Finish, error);
            same(self.index, "output share", &output, &expected).map_err(finish)?;
            outputs.push(output);
        }
        Ok(outputs)
    }
}
