//! What a full node remembers of a round's selections, so that no two of them are opened with its help.
//!
//! A holder of key shares opens one set a round. That alone is not enough: a full node that cheats can answer for two sets,
//! each of which needs only some of the honest ones. Hence each honest node stands for one selection at a time: it goes on to a
//! later one only while it has opened nothing, and opens none but the last it has encrypted. Of two selections that both
//! need an honest node's ciphertext, at most one is then ever opened with answers of honest nodes.

use defim_protocol::{Digest, sum::VerifiedSelection};

/// The last selection that this node encrypted in a round, as its store holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEncrypted {
    attempt: u32,
    selection: Digest,
}

/// Why another selection is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// Something of this round is open already.
    #[error("this node has helped to open this round; it encrypts nothing more of it")]
    Opened,
    /// There was a later selection.
    #[error(
        "this node has encrypted attempt {last} of this round; it follows no other one before the next, and this is {asked}"
    )]
    Earlier {
        /// The attempt that it encrypted.
        last: u32,
        /// The one in question.
        asked: u32,
    },
    /// It has encrypted this very selection.
    #[error("this node has encrypted this selection; what left it then is what there is")]
    Again,
    /// It has not encrypted what it shall open.
    #[error("this node has not encrypted this selection, or another one since")]
    NotEncrypted,
    /// The record cannot be read.
    #[error(
        "what this node encrypted before cannot be read; it encrypts and opens nothing of this round: restore its store"
    )]
    Damaged,
}

impl LastEncrypted {
    /// Its record.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.attempt.to_be_bytes().as_slice(), &self.selection.0].concat()
    }

    /// Whether this record is of this selection: then what left the node is sent again.
    pub fn is_of(record: &[u8], selection: &VerifiedSelection) -> bool {
        let last = Self::from_bytes(Some(record));
        last.is_ok_and(|last| last.is_some_and(|last| last.selection == selection.digest()))
    }

    fn from_bytes(record: Option<&[u8]>) -> Result<Option<Self>, OnceError> {
        let Some(record) = record else {
            return Ok(None);
        };
        let (attempt, selection) = record.split_first_chunk().ok_or(OnceError::Damaged)?;
        let selection = selection.try_into().map_err(|_| OnceError::Damaged)?;
        Ok(Some(Self {
            attempt: u32::from_be_bytes(*attempt),
            selection: Digest(selection),
        }))
    }

    /// What is on record once this selection is encrypted. `last` is the record so far, `opened` whether this node has
    /// answered an opening of the round.
    ///
    /// # Errors
    ///
    /// [`OnceError`] if it must not be encrypted.
    pub(crate) fn encrypting(
        selection: &VerifiedSelection,
        last: Option<&[u8]>,
        opened: bool,
    ) -> Result<Self, OnceError> {
        if opened {
            return Err(OnceError::Opened);
        }
        let this = Self {
            attempt: selection.attempt,
            selection: selection.digest(),
        };
        match Self::from_bytes(last)? {
            // Encrypted anew it would have other noise, and the mean of many has none.
            Some(last) if last == this => Err(OnceError::Again),
            Some(last) if last.attempt >= this.attempt => Err(OnceError::Earlier {
                last: last.attempt,
                asked: this.attempt,
            }),
            _ => Ok(this),
        }
    }

    /// Whether a selection may be opened. `encrypts`: this node is one of those that encrypt it.
    ///
    /// # Errors
    ///
    /// [`OnceError`] if not.
    pub(crate) fn opening(
        selection: &VerifiedSelection,
        last: Option<&[u8]>,
        encrypts: bool,
    ) -> Result<(), OnceError> {
        let last = Self::from_bytes(last)?;
        match last {
            Some(last) if last.selection == selection.digest() => Ok(()),
            _ if encrypts => Err(OnceError::NotEncrypted),
            // It was left out, as if it had gone. What it has encrypted before is of an earlier attempt.
            Some(last) if last.attempt >= selection.attempt => Err(OnceError::Earlier {
                last: last.attempt,
                asked: selection.attempt,
            }),
            _ => Ok(()),
        }
    }
}
