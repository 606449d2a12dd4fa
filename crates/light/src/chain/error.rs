//! Why a light node does not believe what it was served of the ledger.

use defim_ledger::{
    CodecError, ProofError, RoundNumber, TaskId,
    light::{CertificateError, LightError, ReceiptError},
};

/// Something of the ledger is not believed. Nothing that was known before has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Bytes that are not what they should be.
    #[error("the ledger's {what} cannot be read: {why}; ask again, or another node")]
    Malformed {
        /// Of what.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A header or its certificate.
    #[error(transparent)]
    Header(#[from] LightError),
    /// A proof under a final header.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// A header that should hand an epoch over and does not.
    #[error(
        "the header at height {height} hands nothing over; the one at height {expected} was asked for"
    )]
    NotHandOver {
        /// Its height.
        height: u64,
        /// The height of the epoch's last header.
        expected: u64,
    },
    /// The transaction that was served opens no round.
    #[error("the transaction opens no round: something else was served in its place")]
    NotAnOpening,
    /// The final opening is not the statement that this node was given.
    #[error(
        "the ledger has another opening of round {round} than the one that was given: the aggregation node signed two, and this one was not used"
    )]
    OtherOpening {
        /// The round that was given.
        round: RoundNumber,
    },
    /// The ledger knows nothing of the round.
    #[error("the ledger has no round {round} of task {task}")]
    NoRound {
        /// The task.
        task: TaskId,
        /// The round.
        round: RoundNumber,
    },
    /// The round's total is opened already, or it is over.
    #[error("round {round} takes no more reports on the ledger; take part in the next one")]
    RoundClosed {
        /// The round.
        round: RoundNumber,
    },
    /// A receipt of something else.
    #[error("the receipt is one of task {task}, round {round}, which was not asked for")]
    OtherReceipt {
        /// Its task.
        task: TaskId,
        /// Its round.
        round: RoundNumber,
    },
}

impl ChainError {
    pub(super) fn malformed(what: &'static str, why: &CodecError) -> Self {
        Self::Malformed {
            what,
            why: why.to_string(),
        }
    }

    /// A stable word for each refusal.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Header(error) => header_code(error),
            Self::Proof(_) | Self::Receipt(ReceiptError::Proof(_)) => "bad-proof",
            Self::Receipt(ReceiptError::NoRound) | Self::NoRound { .. } => "no-such-round",
            Self::Receipt(ReceiptError::NotFinished) => "not-finished",
            Self::Receipt(ReceiptError::NoBatch | ReceiptError::NotInBatch) => "not-in-batch",
            Self::NotHandOver { .. } => "no-hand-over",
            Self::NotAnOpening => "no-opening",
            Self::OtherOpening { .. } => "other-opening",
            Self::RoundClosed { .. } => "round-closed",
            Self::OtherReceipt { .. } => "other-receipt",
        }
    }
}

const fn header_code(error: &LightError) -> &'static str {
    match error {
        LightError::WrongGenesis { .. } => "other-chain",
        LightError::Genesis(_) => "bad-genesis",
        LightError::Certificate(error) => certificate_code(error),
        LightError::WrongPayload { .. } => "altered-payload",
        LightError::OldSet { .. } => "old-set",
        LightError::OtherEpoch { expected, found } => match *found > *expected {
            true => "later-epoch",
            false => "past-epoch",
        },
        LightError::BadHeader { .. } => "bad-header",
        LightError::NextSet(_) => "bad-next-set",
        LightError::Stale { .. } => "stale",
        LightError::WrongRound { .. } => "wrong-round",
        LightError::Fork { .. } => "fork",
        LightError::NotParent => "not-parent",
    }
}

const fn certificate_code(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Malformed(_) => "malformed",
        CertificateError::MissingSigner { .. } => "missing-signer",
        CertificateError::WrongSet { .. } => "wrong-set",
        CertificateError::Count { .. } => "signature-count",
        CertificateError::DuplicateSignature => "duplicate-signature",
        CertificateError::WrongRound { .. } => "wrong-round",
        CertificateError::BrokenSignature(_) => "broken-signature",
    }
}
