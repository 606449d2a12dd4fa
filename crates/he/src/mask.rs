//! The public ring element of each block, which anybody expands from task, round and block.

use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha3::{TurboShake128, TurboShake128Core};
use zeroize::Zeroizing;

use crate::ring;

/// What the stream is for; nothing else in the project begins with it.
const DOMAIN: &[u8] = b"defim he v1 mask\0";

/// Domain byte of TurboSHAKE128. The VDAF drafts use 1.
const DOMAIN_BYTE: u8 = 0x68;

/// A round of a task. Everything encrypted belongs to one, and a key to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round {
    /// The task's id.
    pub task: [u8; 32],
    /// The round's number in the task.
    pub number: u64,
}

impl Round {
    /// Task and number, big-endian so that the order is the same: 40 bytes.
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let number = self.number.to_be_bytes();
        for (place, byte) in bytes.iter_mut().zip(self.task.iter().chain(&number)) {
            *place = *byte;
        }
        bytes
    }

    /// The public element `a_b` of a block: uniform in the ring, by its coefficients.
    ///
    /// TurboSHAKE128 over domain, task, round and block, read as residues modulo the first prime and
    /// then modulo the second: 40 bits each, little-endian, leaving out what is no least residue.
    pub(crate) fn mask(self, block: u32) -> Zeroizing<Vec<u64>> {
        let mut xof = TurboShake128::from_core(TurboShake128Core::new(DOMAIN_BYTE));
        xof.update(DOMAIN);
        xof.update(&self.to_bytes());
        xof.update(&block.to_be_bytes());
        let mut stream = xof.finalize_xof();
        ring::uniform(|bytes| stream.read(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn masks_differ_by_task_round_and_block_and_never_change() {
        let round = Round {
            task: [1; 32],
            number: 7,
        };
        let other = Round {
            task: [2; 32],
            ..round
        };
        let next = Round { number: 8, ..round };
        let masks = [round.mask(0), round.mask(1), other.mask(0), next.mask(0)];
        for (i, a) in masks.iter().enumerate() {
            assert!(masks.iter().skip(i + 1).all(|b| a != b));
        }
        // Every node must expand the same element, in every version.
        let mut bytes = Vec::new();
        ring::pack(&masks[0], &mut bytes);
        assert_eq!(
            hex::encode(Sha256::digest(&bytes)),
            "f66af555f1b8ca8b6bd38b2c358eb2c591b8ed34441c4c8d8c0dd8551ed574ca"
        );
    }
}
