//! A map from bytes to bytes with a root: a binary Merkle trie by the SHA-256 of the key.
//!
//! A part of the trie with one key is that key's leaf, however high up it stands, so that depth grows with the
//! logarithm of the number of keys. The shape, and with it the root, follows from the contents alone, not from the order of
//! changes. Copies share their nodes: a copy costs nothing, a change costs one path, and hashes are worked out when
//! a root is asked for, once for each node.
//!
//! Hashes: a leaf is `SHA-256(0, SHA-256(key), SHA-256(value))`, a branch `SHA-256(1, left, right)`, nothing is zeros.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, merkle::node_hash};

/// The hash of nothing.
const NOTHING: Digest = Digest([0; 32]);
/// Bits of a path.
const BITS: usize = 256;

type Link = Option<Arc<Node>>;

/// A persistent map with a Merkle root.
#[derive(Clone, Default)]
pub(crate) struct Trie(Link);

enum Node {
    Leaf(Leaf),
    Branch {
        left: Link,
        right: Link,
        hash: OnceLock<Digest>,
    },
}

struct Leaf {
    path: Digest,
    key: Box<[u8]>,
    value: Box<[u8]>,
    hash: OnceLock<Digest>,
}

fn leaf_hash(path: &Digest, value: &Digest) -> Digest {
    let mut hash = Sha256::new_with_prefix([0]);
    hash.update(path.0);
    hash.update(value.0);
    Digest(hash.finalize().into())
}

fn bit(path: &Digest, depth: usize) -> bool {
    path.0
        .get(depth / 8)
        .is_some_and(|byte| byte >> (7 - depth % 8) & 1 == 1)
}

fn branch(left: Link, right: Link) -> Link {
    Some(Arc::new(Node::Branch {
        left,
        right,
        hash: OnceLock::new(),
    }))
}

fn hash_of(link: &Link) -> Digest {
    match link.as_deref() {
        None => NOTHING,
        Some(Node::Leaf(leaf)) => *leaf
            .hash
            .get_or_init(|| leaf_hash(&leaf.path, &Digest::of(&leaf.value))),
        Some(Node::Branch { left, right, hash }) => {
            *hash.get_or_init(|| node_hash(&hash_of(left), &hash_of(right)))
        }
    }
}

impl Trie {
    /// The root.
    pub(crate) fn root(&self) -> Digest {
        hash_of(&self.0)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let path = Digest::of(key);
        let (mut at, mut depth) = (self.0.as_deref(), 0);
        loop {
            match at? {
                Node::Leaf(leaf) => return (leaf.path == path).then_some(&*leaf.value),
                Node::Branch { left, right, .. } => {
                    at = if bit(&path, depth) { right } else { left }.as_deref();
                    depth += 1;
                }
            }
        }
    }

    /// Give a key a value.
    pub(crate) fn put(&mut self, key: &[u8], value: Vec<u8>) {
        let leaf = Arc::new(Node::Leaf(Leaf {
            path: Digest::of(key),
            key: key.into(),
            value: value.into(),
            hash: OnceLock::new(),
        }));
        let path = Digest::of(key);
        self.0 = put(&self.0, 0, &path, leaf);
    }

    /// Take a key away.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            self.0 = remove(&self.0, 0, &Digest::of(key));
        }
    }

    /// All keys and values, in the order of the keys' digests.
    pub(crate) fn for_each<'a>(&'a self, each: &mut impl FnMut(&'a [u8], &'a [u8])) {
        walk(&self.0, each);
    }

    /// A proof of what a key's value is, or that it has none.
    pub(crate) fn prove(&self, key: &[u8]) -> TrieProof {
        let path = Digest::of(key);
        let (mut at, mut depth, mut siblings) = (&self.0, 0, Vec::new());
        loop {
            match at.as_deref() {
                None => {
                    return TrieProof {
                        siblings,
                        end: None,
                    };
                }
                Some(Node::Leaf(leaf)) => {
                    let end = Some((leaf.path, Digest::of(&leaf.value)));
                    return TrieProof { siblings, end };
                }
                Some(Node::Branch { left, right, .. }) => {
                    let (next, other) = match bit(&path, depth) {
                        true => (right, left),
                        false => (left, right),
                    };
                    siblings.push(hash_of(other));
                    at = next;
                    depth += 1;
                }
            }
        }
    }
}

fn put(link: &Link, depth: usize, path: &Digest, new: Arc<Node>) -> Link {
    match link.as_deref() {
        None => Some(new),
        Some(Node::Leaf(old)) if old.path == *path => Some(new),
        Some(Node::Leaf(old)) => match (bit(&old.path, depth), bit(path, depth)) {
            (false, true) => branch(link.clone(), Some(new)),
            (true, false) => branch(Some(new), link.clone()),
            // Two digests differ within 256 bits.
            (true, true) => branch(None, put(link, depth + 1, path, new)),
            (false, false) => branch(put(link, depth + 1, path, new), None),
        },
        Some(Node::Branch { left, right, .. }) => match bit(path, depth) {
            true => branch(left.clone(), put(right, depth + 1, path, new)),
            false => branch(put(left, depth + 1, path, new), right.clone()),
        },
    }
}

fn remove(link: &Link, depth: usize, path: &Digest) -> Link {
    match link.as_deref() {
        None => None,
        Some(Node::Leaf(leaf)) => (leaf.path != *path).then(|| link.clone()).flatten(),
        Some(Node::Branch { left, right, .. }) => {
            let (left, right) = match bit(path, depth) {
                true => (left.clone(), remove(right, depth + 1, path)),
                false => (remove(left, depth + 1, path), right.clone()),
            };
            // What is left of two moves up, or the shape would tell what once was there.
            match (left.as_deref(), right.as_deref()) {
                (None, None) => None,
                (None, Some(Node::Leaf(_))) => right,
                (Some(Node::Leaf(_)), None) => left,
                _ => branch(left, right),
            }
        }
    }
}

fn walk<'a>(link: &'a Link, each: &mut impl FnMut(&'a [u8], &'a [u8])) {
    match link.as_deref() {
        None => {}
        Some(Node::Leaf(leaf)) => each(&leaf.key, &leaf.value),
        Some(Node::Branch { left, right, .. }) => {
            walk(left, each);
            walk(right, each);
        }
    }
}

/// What stands at the end of a key's path: its leaf, another key's, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrieProof {
    /// From the root downwards.
    siblings: Vec<Digest>,
    /// Digest of the key and of the value there.
    end: Option<(Digest, Digest)>,
}

impl TrieProof {
    /// Whether under this root the key has this value, or none.
    pub(crate) fn holds(&self, root: &Digest, key: &[u8], value: Option<&[u8]>) -> bool {
        let path = Digest::of(key);
        let depth = self.siblings.len();
        if depth > BITS {
            return false;
        }
        let fits = match (&self.end, value) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((there, digest)), Some(value)) => *there == path && *digest == Digest::of(value),
            // Another key's leaf shows absence only where the key's own would have to stand.
            (Some((there, _)), None) => {
                *there != path && (0..depth).all(|at| bit(there, at) == bit(&path, at))
            }
        };
        let end = match &self.end {
            None => NOTHING,
            Some((there, digest)) => leaf_hash(there, digest),
        };
        let climbed =
            (0..depth)
                .rev()
                .zip(self.siblings.iter().rev())
                .fold(end, |below, (at, sibling)| match bit(&path, at) {
                    true => node_hash(sibling, &below),
                    false => node_hash(&below, sibling),
                });
        fits && climbed == *root
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn built(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Trie {
        let mut trie = Trie::default();
        for (key, value) in map {
            trie.put(key, value.clone());
        }
        trie
    }

    /// Small numbers that repeat: many keys are changed and taken away again.
    fn numbers(n: u32) -> impl Iterator<Item = u32> {
        let mut x = 12345_u32;
        (0..n).map(move |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x >> 16
        })
    }

    #[test]
    fn the_root_follows_from_the_contents_alone() {
        let (mut trie, mut map) = (Trie::default(), BTreeMap::new());
        assert_eq!(trie.root(), NOTHING);
        for (step, number) in numbers(3000).enumerate() {
            let key = (number % 200).to_be_bytes().to_vec();
            if number % 3 == 0 {
                trie.remove(&key);
                map.remove(&key);
            } else {
                trie.put(&key, number.to_be_bytes().to_vec());
                map.insert(key, number.to_be_bytes().to_vec());
            }
            if step % 97 == 0 {
                assert_eq!(trie.root(), built(&map).root());
            }
        }
        let mut found = BTreeMap::new();
        trie.for_each(&mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
        });
        assert_eq!(found, map);
        for key in map.keys() {
            trie.remove(key);
        }
        assert_eq!(trie.root(), NOTHING);
    }

    #[test]
    fn a_copy_keeps_its_contents_when_the_other_changes() {
        let mut trie = Trie::default();
        trie.put(b"a", vec![1]);
        let (copy, root) = (trie.clone(), trie.root());
        trie.put(b"a", vec![2]);
        trie.put(b"b", vec![3]);
        assert_eq!((copy.root(), copy.get(b"a")), (root, Some(&[1][..])));
        assert_ne!(trie.root(), root);
    }

    #[test]
    fn proofs_hold_for_one_key_one_value_and_one_root() {
        let mut trie = Trie::default();
        for number in 0_u32..300 {
            trie.put(&number.to_be_bytes(), vec![number as u8; 3]);
        }
        let root = trie.root();
        for number in 0_u32..600 {
            let key = number.to_be_bytes();
            let proof = trie.prove(&key);
            let value = trie.get(&key);
            assert_eq!(value.is_some(), number < 300);
            assert!(proof.holds(&root, &key, value));
            assert!(!proof.holds(&root, &key, Some(b"other")));
            assert!(!proof.holds(&NOTHING, &key, value));
            if value.is_some() {
                assert!(!proof.holds(&root, &key, None));
            }
            let mut cut = proof.clone();
            cut.siblings.pop();
            assert!(!cut.holds(&root, &key, value));
        }
        // A leaf that is elsewhere in the trie says nothing about this key.
        let (here, there) = (trie.prove(&[0, 0, 0, 1]), trie.prove(&[0, 0, 0, 2]));
        assert!(!there.holds(&root, &[0, 0, 0, 1], None) || there.end == here.end);
        let grafted = TrieProof {
            end: there.end,
            ..here
        };
        assert!(!grafted.holds(&root, &[0, 0, 0, 1], None));
    }
}
