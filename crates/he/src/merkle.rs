//! A hash tree over blocks, split as in RFC 6962, section 2.1; every kind of input has its own prefix.

use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];

/// A block at its place.
pub(crate) fn leaf(block: u32, bytes: &[u8]) -> Hash {
    let mut hash = Sha256::new_with_prefix(b"defim he v1 block\0");
    hash.update(block.to_be_bytes());
    hash.update(bytes);
    hash.finalize().into()
}

fn node(left: Hash, right: Hash) -> Hash {
    let mut hash = Sha256::new_with_prefix(b"defim he v1 node\0");
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The root binds the number of blocks too.
fn root_of(blocks: u32, top: Hash) -> Hash {
    let mut hash = Sha256::new_with_prefix(b"defim he v1 root\0");
    hash.update(blocks.to_be_bytes());
    hash.update(top);
    hash.finalize().into()
}

/// Leaves in the left branch: the largest power of two below `leaves`, of which there are two or more.
fn left_leaves(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

fn top(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => [0; 32],
        [one] => *one,
        _ => {
            let (left, right) = leaves
                .split_at_checked(left_leaves(leaves.len()))
                .unwrap_or_default();
            node(top(left), top(right))
        }
    }
}

/// Root of these leaves.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    root_of(leaves.len() as u32, top(leaves))
}

/// The hashes beside the way from leaf `at` to the root, from the bottom up.
pub(crate) fn path(leaves: &[Hash], at: usize) -> Vec<Hash> {
    let (mut leaves, mut at, mut down) = (leaves, at, Vec::new());
    while leaves.len() > 1 {
        let left = left_leaves(leaves.len());
        let (first, second) = leaves.split_at_checked(left).unwrap_or_default();
        if at < left {
            down.push(top(second));
            leaves = first;
        } else {
            down.push(top(first));
            leaves = second;
            at -= left;
        }
    }
    down.reverse();
    down
}

/// The root that leaf `at` of `blocks` and its path give; nothing if the path has another length or there is
/// no such leaf.
pub(crate) fn climb(leaf: Hash, at: u32, blocks: u32, path: &[Hash]) -> Option<Hash> {
    if at >= blocks {
        return None;
    }
    // The turns from the root down: whether the leaf is on the right.
    let (mut leaves, mut place, mut turns) = (blocks as usize, at as usize, Vec::new());
    while leaves > 1 {
        let left = left_leaves(leaves);
        let right = place >= left;
        turns.push(right);
        if right {
            place -= left;
            leaves -= left;
        } else {
            leaves = left;
        }
    }
    if turns.len() != path.len() {
        return None;
    }
    let top = turns
        .iter()
        .rev()
        .zip(path)
        .fold(leaf, |below, (right, beside)| match right {
            true => node(*beside, below),
            false => node(below, *beside),
        });
    Some(root_of(blocks, top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_climbs_to_the_root_from_its_place_only() {
        for blocks in 1..=33 {
            let leaves: Vec<Hash> = (0..blocks).map(|i| leaf(i, b"block")).collect();
            let expected = Some(root(&leaves));
            for at in 0..blocks {
                let path = path(&leaves, at as usize);
                let here = leaves[at as usize];
                assert_eq!(climb(here, at, blocks, &path), expected);
                for other in (0..blocks).filter(|other| *other != at) {
                    assert_ne!(climb(here, other, blocks, &path), expected);
                }
                assert_ne!(climb(here, at, blocks + 1, &path), expected);
                assert_eq!(climb(here, blocks, blocks, &path), None);
                let mut changed = path.clone();
                changed.push([0; 32]);
                assert_eq!(climb(here, at, blocks, &changed), None);
            }
        }
    }
}
