//! Full nodes in committees of two, each of them a holder, through one round.
#![allow(dead_code)]

use std::collections::BTreeMap;

use defim_he::holder::{Holder, Refusal, Rules};
use defim_he::params::{Dimension, FIELD};
use defim_he::{
    Ciphertext, HolderIndex, KeyShare, Member, NodeId, Opening, Round, SecretKey, Sum, SumKey,
    SumShare, Threshold, VerifiedOpening,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub const ROUND: Round = Round {
    task: [0xD5; 32],
    number: 12,
};

/// Reports of each committee.
pub const REPORTS: u64 = 10;

/// `parties` nodes, of which 2i and 2i + 1 are committee i. An odd last one is a committee by itself.
pub struct Mesh {
    pub rng: StdRng,
    pub nodes: Vec<NodeId>,
    pub threshold: Threshold,
    pub holders: Vec<Holder>,
    pub vectors: Vec<Vec<u64>>,
    pub ciphertexts: Vec<Ciphertext>,
    pub aggregation: SigningKey,
}

pub fn element(rng: &mut StdRng) -> u64 {
    rng.random_range(0..FIELD)
}

/// The sum in the field, by the slowest and surest way.
pub fn plain_sum<'a>(vectors: impl IntoIterator<Item = &'a Vec<u64>> + Clone) -> Vec<u64> {
    let d = vectors.clone().into_iter().next().map_or(0, Vec::len);
    (0..d)
        .map(|i| {
            let sum: u128 = vectors.clone().into_iter().map(|v| u128::from(v[i])).sum();
            (sum % u128::from(FIELD)) as u64
        })
        .collect()
}

impl Mesh {
    /// Each node has shared its key and encrypted its vector.
    pub fn new(vectors: Vec<Vec<u64>>, seed: u64) -> Self {
        let parties = vectors.len();
        let mut mesh = Self {
            rng: StdRng::seed_from_u64(seed),
            nodes: (0..parties as u8).map(|i| NodeId([i; 32])).collect(),
            threshold: Threshold::two_thirds(parties as u8).unwrap(),
            holders: (0..parties).map(|_| Holder::new()).collect(),
            vectors,
            ciphertexts: Vec::new(),
            aggregation: SigningKey::from_bytes(&[9; 32]),
        };
        for k in 0..parties {
            let key = SecretKey::random(&mut mesh.rng);
            for share in key.share(mesh.threshold, &mut mesh.rng) {
                mesh.keep(mesh.nodes[k], share).unwrap();
            }
            let ciphertext = key.encrypt(ROUND, &mesh.vectors[k], &mut mesh.rng);
            mesh.ciphertexts.push(ciphertext.unwrap());
        }
        mesh
    }

    pub fn random(parties: usize, d: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let vector = |_| (0..d).map(|_| element(&mut rng)).collect();
        Self::new((0..parties).map(vector).collect(), seed)
    }

    pub fn dimension(&self) -> Dimension {
        self.ciphertexts[0].dimension()
    }

    pub fn rules(&self, holder: HolderIndex) -> Rules {
        let mut committees: BTreeMap<u32, _> = BTreeMap::new();
        for (k, node) in self.nodes.iter().enumerate() {
            let committee: &mut std::collections::BTreeSet<_> =
                committees.entry(k as u32 / 2).or_default();
            committee.insert(*node);
        }
        Rules {
            holder,
            min_committees: committees.len().min(2),
            min_reports: REPORTS,
            committees,
        }
    }

    pub fn keep(&mut self, dealer: NodeId, share: KeyShare) -> Result<(), Refusal> {
        let rules = self.rules(share.holder());
        let place = usize::from(share.holder().get()) - 1;
        let step = self.holders[place].keep(&rules, ROUND, dealer, share)?;
        step.written();
        Ok(())
    }

    pub fn member(&self, k: usize) -> Member {
        Member {
            node: self.nodes[k],
            ciphertext: self.ciphertexts[k].root(),
            committee: k as u32 / 2,
            reports: REPORTS,
        }
    }

    /// An opening of these nodes.
    pub fn opening(&self, set: impl IntoIterator<Item = usize>) -> Opening {
        Opening::new(ROUND, set.into_iter().map(|k| self.member(k)).collect()).unwrap()
    }

    pub fn all(&self) -> Opening {
        self.opening(0..self.nodes.len())
    }

    pub fn signed(&self, opening: &Opening) -> VerifiedOpening {
        let signature: Signature = self.aggregation.sign(&opening.to_bytes());
        let key = self.aggregation.verifying_key();
        VerifiedOpening::new(opening.clone(), |bytes| {
            key.verify_strict(bytes, &signature).is_ok()
        })
        .unwrap()
    }

    pub fn answer(&mut self, place: usize, opening: &Opening) -> Result<SumShare, Refusal> {
        let verified = self.signed(opening);
        let rules = self.rules(HolderIndex::new(place as u8 + 1).unwrap());
        Ok(self.holders[place].answer(&rules, &verified)?.written())
    }

    /// As many answers as are needed, of the last holders.
    pub fn answers(&mut self, opening: &Opening) -> Vec<SumShare> {
        let holders = self.holders.len();
        let needed = usize::from(self.threshold.needed());
        (holders - needed..holders)
            .map(|place| self.answer(place, opening).unwrap())
            .collect()
    }

    /// Sum of all ciphertexts and the key that opens it.
    pub fn finish(&mut self) -> (Sum, SumKey) {
        let opening = self.all();
        let answers = self.answers(&opening);
        let sum = opening.sum(self.dimension(), &self.ciphertexts).unwrap();
        (sum, SumKey::from_answers(self.threshold, &answers).unwrap())
    }
}
