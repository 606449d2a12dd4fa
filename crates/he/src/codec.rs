//! Reading bytes from elsewhere: every length is checked, every form is the only one.

/// Bytes that are not the form of what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Too short or too long.
    #[error("{what} has {found} bytes where {expected} belong")]
    Length {
        /// What was read.
        what: &'static str,
        /// Bytes that belong there.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// It ends before it is complete.
    #[error("{what} ends too early")]
    Short {
        /// What was read.
        what: &'static str,
    },
    /// A residue is not below its prime.
    #[error("coefficient {coefficient} of block {block} is not below the modulus")]
    NotCanonical {
        /// Its block.
        block: u32,
        /// Its place in the block.
        coefficient: usize,
    },
    /// It is something else, of another version, or in an order that is not the one form.
    #[error("{what} is not in its one form")]
    Form {
        /// What was read.
        what: &'static str,
    },
}

/// What is left to read of `what`.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// The label that `bytes` must begin with.
    pub(crate) fn label(&mut self, label: &[u8]) -> Result<(), CodecError> {
        match self.bytes(label.len())? == label {
            true => Ok(()),
            false => Err(self.form()),
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(CodecError::Short { what: self.what })?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const L: usize>(&mut self) -> Result<[u8; L], CodecError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(CodecError::Short { what: self.what })?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), CodecError> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(self.form()),
        }
    }

    pub(crate) fn form(&self) -> CodecError {
        CodecError::Form { what: self.what }
    }
}
