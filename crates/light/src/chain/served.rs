//! What nodes serve of the ledger, byte strings in base64url as in its HTTP API, before anything of it is believed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use defim_ledger::{
    Canonical, Header, SignedTx, StateProof, TxProof,
    light::{Certificate, Receipt},
};
use serde::{Deserialize, Deserializer};

use super::ChainError;

/// A byte string that travels as base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served(pub Vec<u8>);

impl Served {
    /// Read its text.
    ///
    /// # Errors
    ///
    /// [`ChainError::Malformed`] if it is no base64url.
    pub fn from_text(what: &'static str, text: &str) -> Result<Self, ChainError> {
        let bytes = URL_SAFE_NO_PAD.decode(text);
        bytes.map(Self).map_err(|e| ChainError::Malformed {
            what,
            why: e.to_string(),
        })
    }

    /// Read what the bytes encode.
    pub(super) fn read<T: Canonical>(&self, what: &'static str) -> Result<T, ChainError> {
        T::from_bytes(&self.0).map_err(|e| ChainError::malformed(what, &e))
    }
}

impl<'de> Deserialize<'de> for Served {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = URL_SAFE_NO_PAD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// A header and what makes it final.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedHeader {
    /// [`Header`].
    pub header: Served,
    /// [`Certificate`].
    pub certificate: Served,
    /// Headers below it, each the parent of the one before, down to the one that is meant; none if that is the certified
    /// one itself.
    #[serde(default)]
    pub below: Vec<Served>,
}

impl ServedHeader {
    pub(super) fn read(&self) -> Result<(Header, Certificate), ChainError> {
        Ok((self.read_header()?, self.read_certificate()?))
    }

    pub(super) fn read_header(&self) -> Result<Header, ChainError> {
        self.header.read("header")
    }

    fn read_certificate(&self) -> Result<Certificate, ChainError> {
        Certificate::from_bytes(&self.certificate.0)
            .map_err(|e| ChainError::malformed("certificate", &e))
    }
}

/// That a round's opening stands in a final block (`/ledger/opening/...`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedOpening {
    /// [`SignedTx`].
    pub tx: Served,
    /// [`TxProof`].
    pub proof: Served,
    /// The block.
    #[serde(flatten)]
    pub block: ServedHeader,
}

impl ServedOpening {
    pub(super) fn read(&self) -> Result<(SignedTx, TxProof), ChainError> {
        Ok((
            self.tx.read("transaction")?,
            self.proof.read("transaction's proof")?,
        ))
    }
}

/// What stands at a place in the state after a final block (`/ledger/state/...`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedState {
    /// [`StateProof`].
    pub proof: Served,
    /// The block.
    #[serde(flatten)]
    pub block: ServedHeader,
}

impl ServedState {
    pub(super) fn read(&self) -> Result<StateProof, ChainError> {
        self.proof.read("state's proof")
    }
}

/// That a report is counted (`/ledger/receipt/...`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServedReceipt {
    /// [`Receipt`].
    pub receipt: Served,
    /// The block under which it is checked.
    #[serde(flatten)]
    pub block: ServedHeader,
}

impl ServedReceipt {
    pub(super) fn read(&self) -> Result<Receipt, ChainError> {
        self.receipt.read("receipt")
    }
}
