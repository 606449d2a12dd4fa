//! Finality certificates, in the format of commonware-consensus 2026.10.0: simplex `Finalization`, ed25519 scheme.
//!
//! | bytes | what |
//! |---|---|
//! | varint | epoch |
//! | varint | view |
//! | varint | view of the parent |
//! | 32 | payload: digest of the block |
//! | 8, most significant first | how many validators there are |
//! | one bit each, least significant first | which of them have signed |
//! | varint | how many signatures |
//! | 64 each | signatures, in the validators' order |
//!
//! Varints are those of Protocol Buffers, as short as they can be. Signed is
//! `varint(length of namespace) namespace proposal`, where the namespace ends in `_FINALIZE`, and the proposal is the
//! first four rows.

use crate::{CodecError, Digest, NodeId, limits};

use super::{ValidatorSet, zip215};

/// That a quorum of validators has agreed on a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The epoch, whose validators have signed.
    pub epoch: u64,
    /// The view, in which the block was proposed.
    pub view: u64,
    /// The view of the block before.
    pub parent: u64,
    /// The block.
    pub payload: Digest,
    /// For each validator, whether it has signed.
    pub signers: Vec<bool>,
    /// The signatures, in the validators' order.
    pub signatures: Vec<[u8; 64]>,
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the encoding of a certificate.
    #[error("the certificate cannot be read: {0}")]
    Malformed(#[from] CodecError),
    /// Too few have signed.
    #[error("{have} validators have signed, but {need} must: somebody is missing")]
    MissingSigner {
        /// So many have.
        have: usize,
        /// So many must.
        need: usize,
    },
    /// It is about another number of validators.
    #[error(
        "the certificate is of {found} validators, but the epoch has {expected}: it is another set's"
    )]
    WrongSet {
        /// Validators of the epoch.
        expected: usize,
        /// Validators of the certificate.
        found: usize,
    },
    /// Not as many signatures as signers.
    #[error("the certificate has {signatures} signatures of {signers} signers")]
    Count {
        /// Signatures.
        signatures: usize,
        /// Signers.
        signers: usize,
    },
    /// One signature stands for two signers.
    #[error("the certificate has one signature twice")]
    DuplicateSignature,
    /// The view is not after its parent's.
    #[error("the certificate's view {view} does not come after its parent's, {parent}")]
    WrongRound {
        /// The view.
        view: u64,
        /// The parent's.
        parent: u64,
    },
    /// A signature does not fit.
    #[error(
        "the signature of validator {0} does not fit: it did not sign this block in this round"
    )]
    BrokenSignature(NodeId),
}

impl CertificateError {
    /// The stable word, as in JSON and on the page.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::MissingSigner { .. } => "missing-signer",
            Self::WrongSet { .. } => "wrong-set",
            Self::Count { .. } => "signature-count",
            Self::DuplicateSignature => "duplicate-signature",
            Self::WrongRound { .. } => "wrong-round",
            Self::BrokenSignature(_) => "broken-signature",
        }
    }
}

impl Certificate {
    /// Read an encoding.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is none, or not the only one of its value.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > limits::CERTIFICATE_BYTES {
            return Err(CodecError::TooLong {
                have: bytes.len(),
                most: limits::CERTIFICATE_BYTES,
            });
        }
        let mut reader = Reader(bytes);
        let (epoch, view, parent) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let payload = Digest(*reader.array()?);
        let validators = u64::from_be_bytes(*reader.array()?);
        let validators = usize::try_from(validators)
            .ok()
            .filter(|count| *count <= limits::VALIDATORS)
            .ok_or_else(|| malformed("it has too many validators"))?;
        let bits = reader.take(validators.div_ceil(8))?;
        let bit = |at: usize| {
            bits.get(at / 8)
                .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
        };
        if (validators..bits.len() * 8).any(bit) {
            return Err(malformed("it names signers beyond the last validator"));
        }
        let signers: Vec<bool> = (0..validators).map(bit).collect();
        let count = reader.varint()?;
        // At most one signature of each: what does not exist takes no memory.
        if count > validators as u64 {
            return Err(malformed("it has more signatures than validators"));
        }
        let signatures = (0..count)
            .map(|_| reader.array().copied())
            .collect::<Result<_, _>>()?;
        if !reader.0.is_empty() {
            return Err(malformed("more follows"));
        }
        Ok(Self {
            epoch,
            view,
            parent,
            payload,
            signers,
            signatures,
        })
    }

    /// The encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.proposal();
        bytes.extend_from_slice(&(self.signers.len() as u64).to_be_bytes());
        for eight in self.signers.chunks(8) {
            let byte = (0..).zip(eight).map(|(at, signed)| u8::from(*signed) << at);
            bytes.push(byte.sum());
        }
        varint(self.signatures.len() as u64, &mut bytes);
        bytes.extend(self.signatures.iter().flatten());
        bytes
    }

    /// What is signed, before the namespace.
    fn proposal(&self) -> Vec<u8> {
        proposal((self.epoch, self.view), self.parent, &self.payload)
    }

    /// Exactly what each signer signs, on the chain with this namespace ([`crate::consensus_namespace`]).
    pub fn signed_bytes(&self, namespace: &[u8]) -> Vec<u8> {
        signed(namespace, b"_FINALIZE", &self.proposal())
    }

    /// Check that a quorum of these validators has signed, each once, and nobody else.
    ///
    /// That these are the validators of its epoch, and which block it is for, is for [`super::LightChain`].
    /// The signers are given back.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] with what is wrong.
    pub fn verify(
        &self,
        set: &ValidatorSet,
        namespace: &[u8],
    ) -> Result<Vec<NodeId>, CertificateError> {
        if self.signers.len() != set.len() {
            return Err(CertificateError::WrongSet {
                expected: set.len(),
                found: self.signers.len(),
            });
        }
        let signers: Vec<NodeId> = set
            .keys()
            .iter()
            .zip(&self.signers)
            .filter(|(_, signed)| **signed)
            .map(|(node, _)| *node)
            .collect();
        if signers.len() != self.signatures.len() {
            return Err(CertificateError::Count {
                signatures: self.signatures.len(),
                signers: signers.len(),
            });
        }
        if signers.len() < set.quorum() {
            return Err(CertificateError::MissingSigner {
                have: signers.len(),
                need: set.quorum(),
            });
        }
        if self.view <= self.parent {
            return Err(CertificateError::WrongRound {
                view: self.view,
                parent: self.parent,
            });
        }
        let mut sorted = self.signatures.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != self.signatures.len() {
            return Err(CertificateError::DuplicateSignature);
        }
        let message = self.signed_bytes(namespace);
        for (node, signature) in signers.iter().zip(&self.signatures) {
            if !zip215::verify(node, &message, signature) {
                return Err(CertificateError::BrokenSignature(*node));
            }
        }
        Ok(signers)
    }
}

fn malformed(what: &str) -> CodecError {
    CodecError::Malformed(what.to_owned())
}

/// A proposal of a block in an epoch's view, as it is signed.
pub(crate) fn proposal((epoch, view): (u64, u64), parent: u64, payload: &Digest) -> Vec<u8> {
    let mut bytes = view_of_epoch((epoch, view));
    varint(parent, &mut bytes);
    bytes.extend_from_slice(&payload.0);
    bytes
}

/// A view of an epoch, as it is signed.
pub(crate) fn view_of_epoch((epoch, view): (u64, u64)) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(epoch, &mut bytes);
    varint(view, &mut bytes);
    bytes
}

/// What is signed, for what the suffix says, on the chain with this namespace.
pub(crate) fn signed(namespace: &[u8], suffix: &[u8], what: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint((namespace.len() + suffix.len()) as u64, &mut bytes);
    for part in [namespace, suffix, what] {
        bytes.extend_from_slice(part);
    }
    bytes
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], CodecError> {
        let taken = self.take(N)?;
        taken
            .first_chunk()
            .ok_or_else(|| malformed("it ends too early"))
    }

    fn varint(&mut self) -> Result<u64, CodecError> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.array::<1>()?;
            let low = u64::from(byte & 0x7F);
            if shift == 63 && low > 1 {
                return Err(malformed("a number is too large"));
            }
            number |= low << shift;
            if byte < 0x80 {
                // A zero at the end is one byte too many.
                return match byte == 0 && shift > 0 {
                    true => Err(CodecError::NotCanonical),
                    false => Ok(number),
                };
            }
        }
        Err(malformed("a number is too large"))
    }
}
