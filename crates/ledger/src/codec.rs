//! The one encoding of each type: postcard, and nothing that is not exactly what encoding gives again.

use serde::{Serialize, de::DeserializeOwned};

use crate::Digest;

/// Why bytes are not the encoding of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than any value of the type may be.
    #[error("{have} bytes are too many; at most {most} are read")]
    TooLong {
        /// So many there are.
        have: usize,
        /// So many are allowed.
        most: usize,
    },
    /// Not readable.
    #[error("the bytes cannot be read: {0}")]
    Malformed(String),
    /// Readable, but written otherwise than this version writes it.
    #[error("the bytes are not the one encoding of what they say; encode it again")]
    NotCanonical,
}

/// A type with exactly one encoding.
///
/// Postcard reads numbers that are written with more bytes than they need. Two byte strings for one value
/// would be two digests for one transaction, so what is read is written again and compared.
pub trait Canonical: Serialize + DeserializeOwned {
    /// Longest encoding that is read at all, in bytes.
    const MOST_BYTES: usize;

    /// The encoding.
    fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Read an encoding.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are too many, not readable, followed by more, or not canonical.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > Self::MOST_BYTES {
            return Err(CodecError::TooLong {
                have: bytes.len(),
                most: Self::MOST_BYTES,
            });
        }
        decode(bytes)
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Safe: memory grows as needed, and the types of this crate have no sequence of unknown length.
    #[expect(clippy::expect_used)]
    postcard::to_allocvec(value).expect("every type of the ledger can be encoded")
}

pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let value: T =
        postcard::from_bytes(bytes).map_err(|error| CodecError::Malformed(error.to_string()))?;
    if encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// SHA-256 of a label and bytes: what is hashed as one kind never passes for another.
pub(crate) fn labelled(label: &[u8], bytes: &[u8]) -> Digest {
    Digest::of(&[label, bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_written_with_more_bytes_than_it_needs_is_refused() {
        assert_eq!(decode::<u64>(&[5]), Ok(5));
        assert_eq!(decode::<u64>(&[0x85, 0x00]), Err(CodecError::NotCanonical));
        assert_eq!(decode::<u64>(&[5, 0]), Err(CodecError::NotCanonical));
        assert!(matches!(decode::<u64>(&[]), Err(CodecError::Malformed(_))));
        // A length that no input backs takes no memory.
        let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 1];
        assert!(decode::<Vec<u64>>(&huge).is_err());
    }
}
