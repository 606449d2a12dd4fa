//! The block on the wire and in the engine's files: the ledger's canonical bytes behind their length.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, EncodeSize, Error, RangeCfg, Read, Write};
use commonware_consensus::types::Height;
use commonware_consensus::{Block, BoundedBlock, Heightable};
use commonware_cryptography::{Digestible, sha256};

use crate::machine::Chained;

/// The longest length prefix.
const PREFIX: usize = 5;

/// A ledger's block with its bytes and digest, computed once.
#[derive(Clone, Debug)]
pub(crate) struct Wire<B> {
    block: B,
    bytes: Bytes,
    digest: sha256::Digest,
}

impl<B: Chained> Wire<B> {
    /// Wraps a block.
    pub(crate) fn new(block: B) -> Self {
        Self {
            bytes: Bytes::from(block.encode()),
            digest: sha256::Digest(block.digest()),
            block,
        }
    }

    /// The ledger's block.
    pub(crate) const fn block(&self) -> &B {
        &self.block
    }

    /// The ledger's bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl<B: Chained> Write for Wire<B> {
    fn write(&self, buf: &mut impl BufMut) {
        self.bytes.write(buf);
    }
}

impl<B: Chained> EncodeSize for Wire<B> {
    fn encode_size(&self) -> usize {
        self.bytes.encode_size()
    }
}

impl<B: Chained> Read for Wire<B> {
    /// The most bytes that a block may have.
    type Cfg = usize;

    fn read_cfg(buf: &mut impl Buf, most: &usize) -> Result<Self, Error> {
        // The length is refused before anything is allocated for it.
        let bytes = Bytes::read_cfg(buf, &RangeCfg::from(0..=*most))?;
        let block = B::decode(&bytes).ok_or(Error::Invalid(
            "block",
            "not the canonical bytes of a block",
        ))?;
        Ok(Self {
            digest: sha256::Digest(block.digest()),
            block,
            bytes,
        })
    }
}

impl<B: Chained> Digestible for Wire<B> {
    type Digest = sha256::Digest;

    fn digest(&self) -> sha256::Digest {
        self.digest
    }
}

impl<B: Chained> Heightable for Wire<B> {
    fn height(&self) -> Height {
        Height::new(self.block.height())
    }
}

impl<B: Chained> Block for Wire<B> {
    fn parent(&self) -> sha256::Digest {
        sha256::Digest(self.block.parent())
    }
}

impl<B: Chained> BoundedBlock for Wire<B> {
    fn max_encode_size(most: &usize) -> usize {
        most.saturating_add(PREFIX)
    }
}
