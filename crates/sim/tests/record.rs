//! What is public of a finished round lets anybody repeat it, and shows every lie of the aggregation node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::World;
use defim_aggregation::{
    coordinator::Completed,
    repeat::{Added, Artefacts, Fault, RepeatError, Repeated, Unusable, repeat},
};
use defim_he::{
    Ciphertext, Sum,
    audit::{Evidence, Fraud},
    params::{BLOCK_BYTES, Dimension},
};
use defim_light::{Audit, LightError, Verdict};
use defim_protocol::{
    Digest, NodeKey, SignedText,
    record::{RecordError, RoundRecord, VerifiedRecord},
    vdaf::Scheme,
};
use defim_sim::RoundResult;

struct Finished {
    world: World,
    done: Box<Completed>,
    model_before: Vec<u8>,
}

fn finished() -> Finished {
    let mut world = World::of(3, Scheme::Pine64, 2);
    let model_before = world.mesh.coordinator().model().1.to_vec();
    for party in 0..6 {
        world.upload_where(party, |_| true);
    }
    let RoundResult::Completed(done) = world.finish() else {
        panic!("the round is finished");
    };
    Finished {
        world,
        done,
        model_before,
    }
}

impl Finished {
    fn record(&self) -> RoundRecord {
        serde_json::from_str(&self.done.record.payload).unwrap()
    }

    /// What the aggregation node signs if it lies.
    fn signed(&self, change: impl FnOnce(&mut RoundRecord)) -> SignedText {
        let mut record = self.record();
        change(&mut record);
        record.sign(self.world.mesh.aggregation_key()).unwrap()
    }

    fn verified(&self, signed: SignedText) -> Result<VerifiedRecord, RecordError> {
        VerifiedRecord::verify(signed, self.world.mesh.manifest(), 1)
    }

    fn ciphertexts(&self) -> Vec<Vec<u8>> {
        self.done
            .ciphertexts
            .iter()
            .map(|(_, c)| c.clone())
            .collect()
    }

    fn repeat(&self, signed: SignedText) -> Result<Repeated, RepeatError> {
        let record = self.verified(signed).unwrap();
        repeat(
            self.world.mesh.manifest(),
            &record,
            Artefacts {
                ciphertexts: &self.ciphertexts(),
                key: &self.done.key,
                model: &self.model_before,
                optimiser: &self.done.optimiser_before,
            },
        )
    }

    /// Of each block: that of a model of diabetes, and the one of zeros.
    fn evidence(&self) -> [Evidence; 2] {
        let record = self.verified(self.done.record.clone()).unwrap();
        let added = Added::new(self.world.mesh.manifest(), &record, &self.ciphertexts()).unwrap();
        assert!(added.prove(2).is_none(), "there are two blocks");
        [0, 1].map(|block| added.prove(block).unwrap())
    }

    fn audit(&self, signed: SignedText) -> Result<Audit, LightError> {
        Audit::begin(&self.world.task, 1, signed, &[7; 32], 3)
    }
}

#[test]
fn an_honest_round_is_repeated_to_the_last_bit() {
    let finished = finished();
    let repeated = finished.repeat(finished.done.record.clone()).unwrap();
    assert_eq!(repeated.model.to_safetensors(), finished.done.model);
    assert_eq!(repeated.optimiser.to_bytes(), finished.done.optimiser);
    assert_eq!(repeated.total.reports(), 6);
}

#[test]
fn every_lie_of_the_aggregation_node_is_found() {
    let finished = finished();
    let fault = |signed| match finished.repeat(signed) {
        Err(RepeatError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    };
    let wrong = Digest([7; 32]);
    let sum = finished.signed(|record| record.sum = wrong);
    assert_eq!(fault(sum), Fault::Sum);
    let model = finished.signed(|record| record.after.model = wrong);
    assert!(matches!(fault(model), Fault::Model { published, .. } if published == wrong));
    let optimiser = finished.signed(|record| record.after.optimiser = wrong);
    assert_eq!(fault(optimiser), Fault::Optimiser);
    // Another key, which it says has opened the sum.
    let mut key = finished.done.key.clone();
    let end = key.len() - 5;
    key[end] ^= 1;
    let signed = finished.signed(|record| record.key = Digest::of(&key));
    let record = finished.verified(signed).unwrap();
    let artefacts = Artefacts {
        ciphertexts: &finished.ciphertexts(),
        key: &key,
        model: &finished.model_before,
        optimiser: &finished.done.optimiser_before,
    };
    let manifest = finished.world.mesh.manifest();
    assert!(matches!(
        repeat(manifest, &record, artefacts),
        Err(RepeatError::Fault(Fault::Opening(_)))
    ));
    // Another base model than the round was opened for, a node's ciphertext left out, another round, somebody else's word.
    let base = finished.signed(|record| record.before.model = wrong);
    assert_eq!(
        finished.verified(base).unwrap_err(),
        RecordError::OtherModel
    );
    let dropped = finished.signed(|record| {
        record.sums.pop();
    });
    assert_eq!(
        finished.verified(dropped).unwrap_err(),
        RecordError::OtherNodes
    );
    let replayed = finished.signed(|record| record.round = 2);
    assert!(matches!(
        finished.verified(replayed).unwrap_err(),
        RecordError::Elsewhere { round: 2, .. }
    ));
    let stranger = finished
        .record()
        .sign(&NodeKey::from_seed([77; 32]))
        .unwrap();
    assert!(matches!(
        finished.verified(stranger).unwrap_err(),
        RecordError::Signature(_)
    ));
}

#[test]
fn bytes_that_the_record_does_not_name_accuse_nobody() {
    let finished = finished();
    let record = finished.verified(finished.done.record.clone()).unwrap();
    let manifest = finished.world.mesh.manifest();
    let mut changed = finished.ciphertexts();
    changed[1][3] ^= 1;
    let honest = finished.ciphertexts();
    let right = Artefacts {
        ciphertexts: &honest,
        key: &finished.done.key,
        model: &finished.model_before,
        optimiser: &finished.done.optimiser_before,
    };
    for artefacts in [
        Artefacts {
            ciphertexts: &changed,
            ..right
        },
        Artefacts {
            ciphertexts: &honest[..2],
            ..right
        },
        Artefacts {
            key: b"key",
            ..right
        },
        Artefacts {
            model: &finished.done.model,
            ..right
        },
        Artefacts {
            optimiser: b"state",
            ..right
        },
    ] {
        assert!(matches!(
            repeat(manifest, &record, artefacts),
            Err(RepeatError::Unusable(
                Unusable::Other(_) | Unusable::Ciphertext(_)
            ))
        ));
    }
}

#[test]
fn a_light_node_finds_a_wrong_sum_by_one_block_and_proves_it_to_others() {
    let finished = finished();
    let [evidence, zeros] = finished.evidence();
    let honest = finished.audit(finished.done.record.clone()).unwrap();
    assert_eq!(
        (honest.blocks(), honest.of_blocks()),
        ([0, 1].as_slice(), 2)
    );
    assert_eq!(honest.parties(), 3);
    for (block, evidence) in [(0, &evidence), (1, &zeros)] {
        let judged = honest.judge(block, &evidence.to_bytes());
        assert_eq!(judged.unwrap(), Verdict::Right);
    }

    // The aggregation node publishes another sum, with a root of its own and a block that fits it.
    let dimension = Dimension::new(finished.world.mesh.manifest().vdaf.dimension).unwrap();
    let mut bytes = [evidence.sum.bytes.clone(), zeros.sum.bytes].concat();
    assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
    bytes[9] ^= 1;
    let forged = Sum::from_bytes(dimension, 3, &bytes).unwrap();
    let lie = finished.signed(|record| record.sum = Digest(forged.root().0));
    let audit = finished.audit(lie.clone()).unwrap();
    let shown = Evidence {
        parts: evidence.parts.clone(),
        sum: forged.prove(&[0]).unwrap().remove(0),
    };
    let Verdict::Wrong { fraud, proof } = audit.judge(0, &shown.to_bytes()).unwrap() else {
        panic!("the sum is wrong");
    };
    assert_eq!(fraud, Fraud::Sum);
    // Whoever has the record checks the proof, and it accuses no honest one.
    assert_eq!(finished.audit(lie).unwrap().check(&proof), Ok(Fraud::Sum));
    assert!(honest.check(&proof).is_err());

    // What is not of the round proves nothing.
    let mut other = evidence.clone();
    other.parts[0].bytes[0] ^= 1;
    for served in [
        other.to_bytes(),
        evidence.to_bytes()[1..].to_vec(),
        Vec::new(),
    ] {
        assert!(matches!(
            honest.judge(0, &served),
            Err(LightError::Evidence { block: 0, .. })
        ));
    }
    assert!(honest.judge(1, &evidence.to_bytes()).is_err());
    let _ = Ciphertext::from_bytes(dimension, &finished.ciphertexts()[0]).unwrap();
}

#[test]
fn a_ciphertext_that_was_left_out_of_the_opening_is_seen_in_the_record() {
    let finished = finished();
    // The set of the record names two of the three full nodes that encrypted.
    let record = finished.verified(finished.done.record.clone()).unwrap();
    let set = defim_he::Opening::from_bytes(&record.opened_set().unwrap()).unwrap();
    let fewer = defim_he::Opening::new(set.round(), set.members()[..2].to_vec()).unwrap();
    let statement = defim_protocol::sum::SumOpening {
        task: record.task,
        round: 1,
        selection: record.selection().digest(),
        set: hex::encode(fewer.to_bytes()),
    };
    let opening = statement
        .sign(finished.world.mesh.aggregation_key())
        .unwrap();
    let lie = finished.signed(|record| record.opening = opening);
    assert_eq!(
        finished.repeat(lie.clone()).unwrap_err(),
        RepeatError::Fault(Fault::Set)
    );
    assert!(matches!(
        finished.audit(lie),
        Err(LightError::DroppedCiphertext { round: 1 })
    ));
}
