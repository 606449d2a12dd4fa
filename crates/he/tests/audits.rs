//! A wrong sum is shown to everybody by one block; an honest one cannot be accused.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mesh;

use defim_he::audit::{AuditError, Claim, Evidence, Fraud, FraudProof, draw};
use defim_he::params::{Dimension, PRIMES};
use defim_he::{Ciphertext, Opening, Sum};
use mesh::{Mesh, ROUND};

const BLOCKS: u32 = 8;

struct Published {
    mesh: Mesh,
    opening: Opening,
    sum: Sum,
}

fn published() -> Published {
    let mesh = Mesh::random(4, 6 * 4096 + 1, 21);
    let opening = mesh.all();
    let sum = opening.sum(mesh.dimension(), &mesh.ciphertexts).unwrap();
    Published { mesh, opening, sum }
}

impl Published {
    fn claim(&self) -> Claim<'_> {
        Claim {
            opening: &self.opening,
            dimension: self.mesh.dimension(),
            sum: self.sum.root(),
        }
    }

    fn evidence(&self, block: u32) -> Evidence {
        let one = |c: &Ciphertext| c.prove(&[block]).unwrap().remove(0);
        Evidence {
            parts: self.mesh.ciphertexts.iter().map(one).collect(),
            sum: self.sum.prove(&[block]).unwrap().remove(0),
        }
    }

    /// The same, with one residue of the published sum changed.
    fn forged(mut self, block: usize) -> Self {
        let mut bytes = self.sum.to_bytes();
        bytes[block * 40_960 + 17] ^= 1;
        self.sum = Sum::from_bytes(self.mesh.dimension(), 4, &bytes).unwrap();
        self
    }
}

#[test]
fn an_honest_sum_passes_at_every_block() {
    let published = published();
    let claim = published.claim();
    for block in 0..BLOCKS {
        assert_eq!(published.evidence(block).judge(&claim), Ok(None));
    }
    assert_eq!(published.sum.prove(&[BLOCKS]), None);
}

#[test]
fn a_wrong_block_is_proven_to_everybody_who_has_the_claim() {
    let honest = published();
    let published = self::published().forged(3);
    let claim = published.claim();
    for block in (0..BLOCKS).filter(|b| *b != 3) {
        assert_eq!(published.evidence(block).judge(&claim), Ok(None));
    }
    let proof = published.evidence(3).judge(&claim).unwrap().unwrap();
    let sent = FraudProof::from_bytes(&proof.to_bytes()).unwrap();
    assert_eq!(sent.verify(&claim), Ok(Fraud::Sum));
    // It says nothing about another claim.
    assert_eq!(sent.verify(&honest.claim()), Err(AuditError::NotOfSum));
}

/// All blocks together are drawn sooner or later, so a wrong one is.
#[test]
fn enough_draws_find_the_wrong_block() {
    let published = published().forged(5);
    let claim = published.claim();
    let found = (0..40u8).find(|seed| {
        draw(&[*seed; 32], claim.dimension, 2)
            .into_iter()
            .any(|block| published.evidence(block).judge(&claim).unwrap().is_some())
    });
    assert!(found.is_some());
}

#[test]
fn draws_are_of_different_blocks_and_follow_from_the_seed() {
    let dimension = Dimension::new(100_000).unwrap();
    let drawn = draw(&[4; 32], dimension, 8);
    assert_eq!(drawn, draw(&[4; 32], dimension, 8));
    assert_ne!(drawn, draw(&[5; 32], dimension, 8));
    assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.len() == 8);
    assert_eq!(draw(&[4; 32], dimension, 99), (0..25).collect::<Vec<_>>());
    let mut counts = [0; 25];
    for seed in 0..=255 {
        for block in draw(&[seed; 32], dimension, 5) {
            counts[block as usize] += 1;
        }
    }
    assert!(counts.iter().all(|n| (20..90).contains(n)), "{counts:?}");
}

#[test]
fn a_false_accusation_is_refused() {
    let published = published().forged(3);
    let claim = published.claim();
    let proof = published.evidence(3).judge(&claim).unwrap().unwrap();
    let sent = proof.to_bytes();
    // A fraud proof of an honest block, in place of the true one.
    let honest = self::published();
    let accusation = |evidence: Evidence| evidence.judge(&honest.claim());
    let mut forged = honest.evidence(2);
    forged.sum.bytes[0] ^= 1;
    assert_eq!(accusation(forged), Err(AuditError::NotOfSum));
    let mut forged = honest.evidence(2);
    forged.parts[1].bytes[0] ^= 1;
    assert_eq!(
        accusation(forged),
        Err(AuditError::NotOfCiphertext(honest.mesh.nodes[1]))
    );
    let mut forged = honest.evidence(2);
    forged.parts[1] = honest.evidence(4).parts.remove(1);
    assert_eq!(
        accusation(forged),
        Err(AuditError::OtherBlock(honest.mesh.nodes[1]))
    );
    let mut forged = honest.evidence(2);
    forged.parts[1] = honest.evidence(4).parts.remove(1);
    forged.parts[1].index = 2;
    assert!(accusation(forged).is_err());
    let mut forged = honest.evidence(2);
    forged.parts.swap(0, 1);
    assert!(accusation(forged).is_err());
    let mut forged = honest.evidence(2);
    forged.parts.pop();
    assert_eq!(
        accusation(forged),
        Err(AuditError::Parts {
            expected: 4,
            found: 3
        })
    );
    let mut forged = honest.evidence(2);
    forged.sum.path.pop();
    assert_eq!(accusation(forged), Err(AuditError::NotOfSum));
    // The true proof with any of its bytes changed is no proof, or still the true one.
    for at in (0..sent.len()).step_by(997) {
        let mut changed = sent.clone();
        changed[at] ^= 1;
        if let Ok(proof) = FraudProof::from_bytes(&changed) {
            assert!(proof.verify(&claim).is_err(), "byte {at}");
        }
    }
    assert_eq!(
        FraudProof::from_bytes(&sent)
            .unwrap()
            .verify(&honest.claim()),
        Err(AuditError::NotOfSum)
    );
}

/// The set names a root over bytes that are no ciphertext: nobody can add it, so signing it is a fraud.
#[test]
fn a_ciphertext_that_is_none_is_a_fraud_of_who_signed_it() {
    use defim_he::{Member, Root};
    use sha2::{Digest as _, Sha256};

    let mesh = Mesh::random(4, 10, 22);
    let honest = mesh.ciphertexts[1].prove(&[0]).unwrap().remove(0);
    let (mut bytes, beside) = (honest.bytes, honest.path[0]);
    bytes[..5].copy_from_slice(&PRIMES[0].to_le_bytes()[..5]);
    let hash = |parts: [&[u8]; 3]| -> [u8; 32] { Sha256::digest(parts.concat()).into() };
    let leaf = hash([b"defim he v1 block\0", &[0; 4], &bytes]);
    // Beside it is the block of zeros.
    let top = hash([b"defim he v1 node\0", &leaf, &beside]);
    let root = Root(hash([b"defim he v1 root\0", &[0, 0, 0, 2], &top]));
    let members = (0..4).map(|k| match k {
        1 => Member {
            ciphertext: root,
            ..mesh.member(1)
        },
        _ => mesh.member(k),
    });
    let opening = Opening::new(ROUND, members.collect()).unwrap();
    let sum = mesh.all().sum(mesh.dimension(), &mesh.ciphertexts).unwrap();
    let claim = Claim {
        opening: &opening,
        dimension: mesh.dimension(),
        sum: sum.root(),
    };
    let one = |c: &Ciphertext| c.prove(&[0]).unwrap().remove(0);
    let mut evidence = Evidence {
        parts: mesh.ciphertexts.iter().map(one).collect(),
        sum: sum.prove(&[0]).unwrap().remove(0),
    };
    evidence.parts[1].bytes = bytes;
    let proof = evidence.judge(&claim).unwrap().unwrap();
    assert_eq!(proof.verify(&claim), Ok(Fraud::Ciphertext(mesh.nodes[1])));
}
