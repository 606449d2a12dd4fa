//! A full node's keys.

use defim_protocol::{Committee, NodeKey, seal::SealingKey, vdaf::VERIFY_KEY_BYTES};
use hkdf::Hkdf;
use sha2::Sha256;

/// A full node's secrets, all derived from one seed that its operator keeps.
#[derive(Debug)]
pub struct Secrets {
    /// Names and signs.
    pub node: NodeKey,
    /// Opens what is sealed for this node.
    pub sealing: SealingKey,
    verify: VerifySeed,
}

struct VerifySeed([u8; 32]);

impl std::fmt::Debug for VerifySeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifySeed(redacted)")
    }
}

/// Id of the sealing key that [`Secrets::from_seed`] derives.
const SEALING_KEY_ID: u8 = 1;

impl Secrets {
    /// The secrets that this seed gives.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            node: NodeKey::from_seed(seed),
            sealing: SealingKey::from_seed(SEALING_KEY_ID, derive(&seed, b"defim v1 sealing key")),
            verify: VerifySeed(derive(&seed, b"defim v1 verify seed")),
        }
    }

    /// The verification key this node chooses for a committee it leads. Clients never learn it: who
    /// knows the challenges beforehand can prove what is false.
    pub fn verify_key(&self, committee: &Committee) -> [u8; VERIFY_KEY_BYTES] {
        let task = committee.task();
        let info = [task.as_bytes().as_slice(), &committee.index().to_be_bytes()].concat();
        derive(&self.verify.0, &info)
    }
}

/// HKDF-SHA256 (RFC 5869) of a uniformly random seed.
fn derive<const N: usize>(seed: &[u8; 32], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let expanded = Hkdf::<Sha256>::new(None, seed).expand(info, &mut out);
    debug_assert!(
        expanded.is_ok(),
        "N is far below the 8,160 bytes HKDF-SHA256 gives"
    );
    out
}
