//! A node's key of one round, and the key that opens a sum.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::CodecError;
use crate::params::{BLOCK_BYTES, N};
use crate::ring::{self, RESIDUES};

/// A node's key for one round: uniform in the ring.
///
/// Share it ([`SecretKey::share`]), then encrypt with it ([`SecretKey::encrypt`]), which uses it up: a
/// second vector under one key shows the difference of the two up to noise. It is overwritten when it
/// is dropped and cannot be copied or written down.
pub struct SecretKey {
    pub(crate) coefficients: Zeroizing<Vec<u64>>,
}

impl SecretKey {
    /// A fresh key. `rng` must be the operating system's or the browser's, or seeded by it.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self {
            coefficients: ring::uniform(|bytes| rng.fill_bytes(bytes)),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// The sum of the keys of one set of nodes. It opens the sum of their ciphertexts and nothing else, and is
/// published with the total so that anybody can open it again.
#[derive(Clone, PartialEq, Eq)]
pub struct SumKey {
    pub(crate) coefficients: Vec<u64>,
}

impl SumKey {
    /// Packed form, [`BLOCK_BYTES`] long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ring::pack(&self.coefficients, &mut bytes);
        bytes
    }

    /// From packed form.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for another length and for coefficients that are not below the modulus.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Self {
            coefficients: element("a sum of keys", bytes)?.to_vec(),
        })
    }
}

impl fmt::Debug for SumKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SumKey").finish_non_exhaustive()
    }
}

/// One element of [`BLOCK_BYTES`].
pub(crate) fn element(what: &'static str, bytes: &[u8]) -> Result<Zeroizing<Vec<u64>>, CodecError> {
    let mut residues = Zeroizing::new(vec![0; RESIDUES]);
    if bytes.len() != BLOCK_BYTES {
        return Err(CodecError::Length {
            what,
            expected: BLOCK_BYTES,
            found: bytes.len(),
        });
    }
    ring::unpack(bytes, &mut residues).map_err(|coefficient| CodecError::NotCanonical {
        block: 0,
        coefficient: coefficient.min(N),
    })?;
    Ok(residues)
}
