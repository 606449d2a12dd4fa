//! Merkle trees over lists, hashed as in RFC 6962: a leaf can never pass for a node.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, ReportId};

/// The hash of a leaf: `SHA-256(0, bytes)`.
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new_with_prefix([0]);
    hash.update(bytes);
    Digest(hash.finalize().into())
}

/// The hash of a node: `SHA-256(1, left, right)`.
pub(crate) fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hash = Sha256::new_with_prefix([1]);
    hash.update(left.0);
    hash.update(right.0);
    Digest(hash.finalize().into())
}

/// Where a list of so many leaves is cut: the largest power of two below its length.
const fn cut(count: u64) -> u64 {
    match count {
        0..=2 => 1,
        _ => 1 << (63 - (count - 1).leading_zeros()),
    }
}

/// The root over these leaf hashes. The root of none is the digest of nothing.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(cut(leaves.len() as u64) as usize);
            node_hash(&root(left), &root(right))
        }
    }
}

/// That one leaf stands at one place of a list (RFC 6962, section 2.1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The leaf's place, from 0.
    pub index: u64,
    /// Siblings from the leaf upwards.
    pub siblings: Vec<Digest>,
}

impl Path {
    /// The path of a leaf, if there is one at this place.
    pub fn new(leaves: &[Digest], index: usize) -> Option<Self> {
        (index < leaves.len()).then(|| {
            let mut siblings = Vec::new();
            collect(leaves, index, &mut siblings);
            Self {
                index: index as u64,
                siblings,
            }
        })
    }

    /// The root that a list of `count` leaves has with this leaf at this place. `None` if it can have none.
    pub fn root(&self, leaf: Digest, count: u64) -> Option<Digest> {
        climb(leaf, self.index, count, &self.siblings)
    }

    /// Whether a list of `count` leaves with this root has this leaf at this place.
    pub fn holds(&self, leaf: Digest, count: u64, root: &Digest) -> bool {
        self.root(leaf, count).as_ref() == Some(root)
    }
}

fn collect(leaves: &[Digest], index: usize, siblings: &mut Vec<Digest>) {
    if leaves.len() < 2 {
        return;
    }
    let at = cut(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(at);
    if index < at {
        collect(left, index, siblings);
        siblings.push(root(right));
    } else {
        collect(right, index - at, siblings);
        siblings.push(root(left));
    }
}

fn climb(leaf: Digest, index: u64, count: u64, siblings: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    if count == 1 {
        return siblings.is_empty().then_some(leaf);
    }
    // At most 64 deep: every step halves the count, rounded up.
    let (top, below) = siblings.split_last()?;
    let at = cut(count);
    if index < at {
        Some(node_hash(&climb(leaf, index, at, below)?, top))
    } else {
        Some(node_hash(top, &climb(leaf, index - at, count - at, below)?))
    }
}

/// Merkle root over sorted report ids. The root of no reports is the digest of nothing.
pub fn merkle_root(sorted: &[ReportId]) -> Digest {
    root(&report_leaves(sorted))
}

/// The path of a report in a batch, whose accepted ids are given in ascending order.
pub fn report_path(sorted: &[ReportId], report: &ReportId) -> Option<Path> {
    let index = sorted.binary_search(report).ok()?;
    Path::new(&report_leaves(sorted), index)
}

fn report_leaves(sorted: &[ReportId]) -> Vec<Digest> {
    sorted.iter().map(|id| leaf_hash(&id.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Digest> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_has_a_path_and_it_holds_nowhere_else() {
        for n in 1..40 {
            let leaves = leaves(n);
            let root = root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let path = Path::new(&leaves, index).unwrap();
                assert!(path.holds(*leaf, n, &root));
                let other = leaf_hash(b"other");
                assert!(!path.holds(other, n, &root));
                let mut moved = path.clone();
                moved.index = (moved.index + 1) % n;
                assert!(n == 1 || !moved.holds(*leaf, n, &root), "{n} {index}");
                let mut longer = path.clone();
                longer.siblings.push(root);
                assert!(!longer.holds(*leaf, n, &root));
                let mut shorter = path;
                if shorter.siblings.pop().is_some() {
                    assert!(!shorter.holds(*leaf, n, &root));
                }
            }
            assert_eq!(Path::new(&leaves, leaves.len()), None);
        }
    }

    #[test]
    fn the_largest_count_is_climbed_without_overflow() {
        let path = Path {
            index: u64::MAX - 1,
            siblings: vec![Digest([0; 32]); 63],
        };
        assert!(path.root(Digest([1; 32]), u64::MAX).is_some());
        assert!(path.root(Digest([1; 32]), u64::MAX - 1).is_none());
    }

    #[test]
    fn the_trees_are_those_of_rfc_6962() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|x: &[u8; 1]| leaf_hash(x));
        let ab = node_hash(&a, &b);
        assert_eq!(root(&[a, b, c]), node_hash(&ab, &c));
        assert_eq!(
            hex::encode(root(&[]).0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        // The one-leaf tree of RFC 6962's reference vectors: the empty string.
        assert_eq!(
            hex::encode(root(&[leaf_hash(b"")]).0),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }
}
