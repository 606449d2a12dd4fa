//! Every encoding, byte for byte: the same natively and in WebAssembly, in every version. A change here is a change of
//! the protocol, and of every chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use std::collections::BTreeMap;

use defim_ledger::light::{LightChain, Receipt};
use defim_ledger::{
    AccountSlot, Admission, BatchSummary, Body, Canonical as _, Choice, Digest, Evidence, Fault,
    NodeId, Params, Proposed, Role, Tx, Verdict, light_report_id, round_randomness,
};
use world::{TASK, World, admin, aggregation, key, light, member, voted};

fn bodies(world: &World) -> Vec<(&'static str, Body)> {
    let (task, node) = (TASK, member(0).id());
    let opening = world.opening(TASK);
    let mut second = opening.clone();
    second.deadline_ms += 1;
    let statement = opening.sign(&aggregation()).unwrap();
    let randomness = round_randomness(&statement);
    let report = light_report_id(&TASK, &randomness, &light(0).id());
    let batch = |n| {
        let ids = [report, defim_ledger::ReportId([0xFF; 16])];
        let summary = BatchSummary::new(TASK, 1, randomness, 0, &ids[..n], BTreeMap::new());
        summary.unwrap().sign(&member(0)).unwrap()
    };
    let text = |text: &str| text.to_owned();
    let complaint = Verdict::Complain {
        fault: Fault::DroppedCiphertext,
        accused: Some(aggregation().id()),
        evidence: Digest([7; 32]),
    };
    vec![
        (
            "transfer",
            Body::Transfer {
                to: node,
                amount: 300,
            },
        ),
        (
            "enrol node",
            Body::EnrolNode {
                node,
                role: Role::Full,
                name: text("Full node 1"),
                address: text("/ip4/127.0.0.1/udp/1"),
            },
        ),
        ("remove node", Body::RemoveNode { node }),
        ("set admins", Body::SetAdmins { admins: vec![node] }),
        (
            "set validators",
            Body::SetValidators {
                set: vec![node],
                from_epoch: 2,
            },
        ),
        (
            "create task",
            Body::CreateTask(defim_ledger::CreateTask {
                task,
                manifest: Digest([1; 32]),
                model: Digest([2; 32]),
                terms: world::terms(3),
            }),
        ),
        (
            "fund task",
            Body::FundTask {
                task,
                amount: 70_000,
            },
        ),
        ("pause task", Body::PauseTask { task, paused: true }),
        ("close task", Body::CloseTask { task }),
        (
            "create invite",
            Body::CreateInvite {
                task,
                invite: node,
                uses: 5,
                until_ms: 1 << 40,
            },
        ),
        (
            "enrol light, open",
            Body::EnrolLight {
                task,
                key: node,
                by: Admission::Open,
            },
        ),
        (
            "enrol light, invited",
            Body::EnrolLight {
                task,
                key: node,
                by: Admission::invited(&key(9, 1), &TASK, &node),
            },
        ),
        (
            "enrol light, approved",
            Body::EnrolLight {
                task,
                key: node,
                by: Admission::Approved,
            },
        ),
        ("remove light", Body::RemoveLight { task, key: node }),
        (
            "round opened",
            Body::RoundOpened {
                statement: statement.clone(),
            },
        ),
        ("batch closed", world.batch(TASK, 1, 0, &[report])),
        ("opened", Body::Opened(world.total(TASK, 1, &[0, 1]))),
        ("model updated", Body::ModelUpdated(world.model(TASK, 1))),
        ("vote, accept", world.accept(TASK, 1)),
        ("vote, complain", world.verdict(TASK, 1, complaint)),
        (
            "round voided",
            Body::RoundVoided {
                task,
                round: 1,
                reason: text("too few"),
                evidence: Some(Digest([3; 32])),
            },
        ),
        (
            "claim",
            Body::Claim(defim_ledger::Claim {
                task,
                round: 1,
                report,
                committee: 4,
                path: defim_ledger::report_path(&[report], &report).unwrap(),
            }),
        ),
        (
            "slash, two openings",
            Body::Slash {
                node,
                evidence: Evidence::TwoOpenings {
                    first: statement,
                    second: second.sign(&aggregation()).unwrap(),
                },
            },
        ),
        (
            "slash, two batches",
            Body::Slash {
                node,
                evidence: Evidence::TwoBatches {
                    first: batch(1),
                    second: batch(2),
                },
            },
        ),
        (
            "slash, two votes",
            Body::Slash {
                node,
                evidence: two_votes(world),
            },
        ),
    ]
}

fn two_votes(world: &World) -> Evidence {
    let vote = |choice| {
        voted(
            &world.genesis.chain(),
            &world.validators[1],
            (4, 300),
            choice,
        )
    };
    Evidence::TwoVotes {
        first: vote(Choice::Nullify),
        second: vote(Choice::Finalize(Proposed {
            parent: 299,
            payload: Digest([9; 32]),
        })),
    }
}

fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let params = Params {
        epoch_blocks: 3,
        ..Params::default()
    };
    let mut world = World::with(4, 3, params);
    let mut forms = vec![("genesis", world.genesis.to_bytes())];
    forms.push(("chain", world.genesis.chain().0.to_vec()));
    for (name, body) in bodies(&world) {
        let tx = Tx {
            from: admin().id(),
            nonce: 200,
            chain: world.genesis.chain(),
            body,
        };
        let signed = tx.sign(&admin());
        forms.push((name, signed.to_bytes()));
        if name == "transfer" {
            forms.push(("transaction id", signed.id().0.to_vec()));
        }
    }
    world.enrol_lights(TASK, 0..8);
    let (round, batches, opening) = world.finished(TASK, 0..8);
    let claim = world.claim(TASK, round, &opening, &batches, 2);
    let receipt = Receipt::new(
        &world.state,
        TASK,
        round,
        claim.committee,
        claim.path.clone(),
    );
    world.run(vec![(&light(2), Body::Claim(claim))]);
    let (voided, ..) = world.proposed(TASK, 0..8);
    let lie = Verdict::Complain {
        fault: Fault::OtherModel,
        accused: None,
        evidence: Digest([1; 32]),
    };
    for n in 0..3 {
        let vote = world.verdict(TASK, voided, lie);
        world.run(vec![(&world.validator(n), vote)]);
    }
    let block = &world.blocks[3];
    let last = world.blocks[2].header();
    assert!(last.next_validators.is_some());
    forms.push(("header", block.header().to_bytes()));
    forms.push(("header, hand-over", last.to_bytes()));
    forms.push(("block digest", block.digest().0.to_vec()));
    forms.push(("block", block.to_bytes()));
    forms.push(("transaction proof", block.prove(0).unwrap().to_bytes()));
    forms.push(("state root", world.state.root().0.to_vec()));
    forms.push(("snapshot", world.state.snapshot()));
    let here = AccountSlot(aggregation().id());
    forms.push(("state proof", world.state.prove(&here).to_bytes()));
    let nowhere = AccountSlot(NodeId([1; 32]));
    forms.push((
        "state proof, absence",
        world.state.prove(&nowhere).to_bytes(),
    ));
    forms.push(("receipt", receipt.to_bytes()));
    let certificate = world.certify(last, 300, &[0, 1, 3]);
    forms.push(("certificate", certificate.to_bytes()));
    let mut chain = LightChain::begin(&world.genesis, &world.genesis.chain()).unwrap();
    chain.advance(last.clone(), &certificate).unwrap();
    forms.push(("light chain", chain.to_bytes()));
    forms
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn every_form_is_the_same_in_every_version_and_on_every_target() {
    let found: Vec<_> = forms()
        .iter()
        .map(|(name, bytes)| {
            format!(
                "{name}: {} {}",
                bytes.len(),
                hex::encode(&Digest::of(bytes).0[..8])
            )
        })
        .collect();
    let expected: Vec<_> = include_str!("conformance.txt").lines().collect();
    assert_eq!(found, expected, "\n{}\n", found.join("\n"));
}
