//! The aggregation node as an attacker: with all that it was ever sent, and with its own keys, it learns the total of
//! each round and of no part of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use common::{World, still};
use defim_full::sum::{round_of, threshold};
use defim_he::{
    Adding, Ciphertext, Member, OpenError, Opening, Root, Round, SumKey, SumShare, open,
    params::{BLOCK_BYTES, Dimension, PRIMES},
};
use defim_learn::quantise_vector;
use defim_light::Training;
use defim_protocol::{
    Committee, Digest, NodeId, NodeKey, ReportId, VerifiedManifest,
    seal::KeyShareData,
    sum::{EncryptedSum, Selection, SumOpening, VerifiedSelection},
    vdaf::Scheme,
    wire::{self, Request, Response, SealedBytes, SelectedBatches, Submission},
};
use defim_sim::{RoundResult, Steps};
use prio::codec::Decode as _;
use rand::Rng as _;

/// The simulated aggregation node's key: the attacker signs with it what it likes.
const OWN_SEED: [u8; 32] = [1; 32];
/// Coordinates in a row that are looked for: by chance they are met nowhere.
const RUN: usize = 5;

/// What the aggregation node has of one round.
struct Loot {
    round: Round,
    selected: SelectedBatches,
    selection: VerifiedSelection,
    submissions: BTreeMap<NodeId, Submission>,
    ciphertexts: BTreeMap<NodeId, Ciphertext>,
    answers: Vec<SumShare>,
}

/// Sorts all that was heard by round.
fn loot(world: &World) -> BTreeMap<u64, Loot> {
    let task = world.mesh.manifest();
    let mut all = BTreeMap::new();
    for heard in world.mesh.heard() {
        match (&heard.question, &heard.answer) {
            (Request::Encrypt(selected), Response::Encrypted(submission)) => {
                let bytes = &submission.ciphertext;
                let ciphertext = Ciphertext::from_bytes(dimension(task), bytes).unwrap();
                let entry = all.entry(selected.round).or_insert_with(|| {
                    let SelectedBatches {
                        round,
                        selection,
                        signatures,
                        ..
                    } = selected.clone();
                    let selection =
                        VerifiedSelection::verify(task, round, selection, signatures).unwrap();
                    Loot {
                        round: round_of(&selection),
                        selected: selected.clone(),
                        selection,
                        submissions: BTreeMap::new(),
                        ciphertexts: BTreeMap::new(),
                        answers: Vec::new(),
                    }
                });
                entry.submissions.insert(heard.node, (**submission).clone());
                entry.ciphertexts.insert(heard.node, ciphertext);
            }
            (Request::OpenSum(question), Response::SumShare(bytes)) => {
                let share = SumShare::from_bytes(bytes).unwrap();
                let loot: &mut Loot = all.get_mut(&question.selected.round).unwrap();
                loot.answers.push(share);
            }
            _ => {}
        }
    }
    all
}

fn dimension(task: &VerifiedManifest) -> Dimension {
    Dimension::new(task.vdaf.dimension).unwrap()
}

/// `a * x + b * y` of packed ring elements, residue by residue.
fn combine(a: i64, x: &[u8], b: i64, y: &[u8]) -> Vec<u8> {
    let residues = |bytes: &[u8]| -> Vec<u64> {
        let five = bytes.as_chunks::<5>().0.iter();
        five.map(|[a, b, c, d, e]| u64::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0]))
            .collect()
    };
    let pairs = residues(x).into_iter().zip(residues(y)).enumerate();
    pairs
        .flat_map(|(at, (x, y))| {
            let prime = i128::from(PRIMES[at % 2]);
            let sum = i128::from(a) * i128::from(x) + i128::from(b) * i128::from(y);
            let sum = sum.rem_euclid(prime) as u64;
            sum.to_le_bytes()[..5].to_vec()
        })
        .collect()
}

impl Loot {
    fn total_key(&self, task: &VerifiedManifest) -> Option<SumKey> {
        SumKey::from_answers(threshold(task).unwrap(), &self.answers).ok()
    }

    /// Adds the ciphertexts of these nodes and opens the sum with a key.
    fn open(
        &self,
        task: &VerifiedManifest,
        nodes: &BTreeSet<NodeId>,
        key: &SumKey,
    ) -> Result<Vec<u64>, OpenError> {
        let mut adding = Adding::new(dimension(task));
        for node in nodes {
            adding.add(&self.ciphertexts[node]).unwrap();
        }
        open(self.round, &adding.finish(), key)
    }

    fn all(&self) -> BTreeSet<NodeId> {
        self.ciphertexts.keys().copied().collect()
    }

    /// All sets of some nodes, but for the set of all.
    fn parts(&self) -> Vec<BTreeSet<NodeId>> {
        let nodes: Vec<_> = self.ciphertexts.keys().copied().collect();
        (1..(1_u32 << nodes.len()) - 1)
            .map(|bits| {
                let named = nodes.iter().enumerate();
                let named = named.filter(|(at, _)| bits >> at & 1 == 1);
                named.map(|(_, node)| *node).collect()
            })
            .collect()
    }

    /// The statement that exactly these ciphertexts are opened together.
    fn opening(&self, nodes: &BTreeSet<NodeId>) -> Opening {
        let members = nodes.iter().map(|node| Member {
            node: defim_he::NodeId(node.0),
            ciphertext: self.ciphertexts[node].root(),
            committee: 0,
            reports: self.selection.accepted(),
        });
        Opening::new(self.round, members.collect()).unwrap()
    }
}

/// Everything that could serve as a key: each answer, each sum of keys, and what two of them give together.
fn keys(task: &VerifiedManifest, loot: &BTreeMap<u64, Loot>) -> Vec<SumKey> {
    let mut elements = vec![vec![0; BLOCK_BYTES]];
    for one in loot.values() {
        elements.extend(one.total_key(task).map(|key| key.to_bytes()));
        for answer in &one.answers {
            let bytes = answer.to_bytes();
            elements.push(bytes[bytes.len() - BLOCK_BYTES..].to_vec());
        }
    }
    let mut keys = Vec::new();
    for (at, x) in elements.iter().enumerate() {
        for y in &elements[..=at] {
            for (a, b) in [(1, 0), (1, 1), (1, -1), (-1, 1), (2, -1), (-1, 2), (3, -2)] {
                keys.push(SumKey::from_bytes(&combine(a, x, b, y)).unwrap());
            }
        }
    }
    keys
}

/// Tries every key on every part of every round. What is opened by that, if anything.
fn attack(task: &VerifiedManifest, loot: &BTreeMap<u64, Loot>) -> (usize, Vec<Vec<u64>>) {
    let keys = keys(task, loot);
    let (mut tries, mut opened) = (0, Vec::new());
    for one in loot.values() {
        for part in one.parts() {
            for key in &keys {
                tries += 1;
                match one.open(task, &part, key) {
                    Err(OpenError::Residual { .. } | OpenError::Range { .. }) => {}
                    Err(OpenError::Empty) => panic!("there is something in every part"),
                    Ok(integers) => opened.push(integers),
                }
            }
        }
    }
    (tries, opened)
}

/// Runs of a vector's coordinates, as field elements, in all the ways in which numbers are written down.
fn runs(integers: &[u64]) -> HashSet<Vec<u8>> {
    let windows = integers.windows(RUN);
    let forms = |run: &[u64]| {
        [
            run.iter().flat_map(|v| v.to_le_bytes()).collect(),
            run.iter().flat_map(|v| v.to_be_bytes()).collect(),
            postcard_form(run),
            serde_json::to_vec(run).unwrap()[1..].to_vec(),
        ]
    };
    windows.flat_map(forms).collect()
}

fn postcard_form(run: &[u64]) -> Vec<u8> {
    run.iter().flat_map(|v| wire::encode(v).unwrap()).collect()
}

fn holds(bytes: &[u8], runs: &HashSet<Vec<u8>>) -> bool {
    let lengths: BTreeSet<_> = runs.iter().map(Vec::len).collect();
    let seen = |length: &usize| bytes.windows(*length).any(|piece| runs.contains(piece));
    lengths.iter().any(seen)
}

/// All that the aggregation node was sent and has asked, as it would be stored.
fn everything(world: &World) -> Vec<u8> {
    let heard = world.mesh.heard().iter();
    heard
        .flat_map(|heard| {
            let question = wire::encode(&heard.question).unwrap();
            [question, wire::encode(&heard.answer).unwrap()].concat()
        })
        .collect()
}

/// Uploads a planted update to a committee; its integers.
fn plant(world: &mut World, wanted: impl Fn(&Committee) -> bool) -> Vec<i64> {
    let now = world.mesh.now();
    let open = world.task.open_round(world.round.signed().clone(), now);
    let open = open.unwrap().without_ledger();
    let (_, model) = world.mesh.coordinator().model();
    let training = Training::start(&world.task, &open, model).unwrap();
    let spec = world.task.spec();
    let mut rng = rand::rng();
    let side = spec.clip_norm.0 / (spec.dimension() as f32).sqrt() * 0.9;
    let values: Vec<f32> = (0..spec.dimension())
        .map(|_| rng.random_range(-side..side))
        .collect();
    let update = quantise_vector(&values, spec.clip_norm, spec.frac_bits).unwrap();
    let id = loop {
        let id = ReportId(rng.random());
        if wanted(&world.task.committee_of(&open, &id)) {
            break id;
        }
    };
    let split = training.split(&update, id, now / 1000).unwrap();
    let report = split.seal(&mut rng).unwrap();
    world.mesh.upload(report.bytes).unwrap();
    update.values().iter().map(|v| i64::from(*v)).collect()
}

fn add(updates: &[Vec<i64>], scheme: Scheme) -> Vec<u64> {
    let modulus = i128::from(scheme.modulus());
    (0..updates[0].len())
        .map(|at| {
            let sum: i128 = updates.iter().map(|update| i128::from(update[at])).sum();
            sum.rem_euclid(modulus) as u64
        })
        .collect()
}

/// Four full nodes. All reports go to the committee of the first two or to that of the last two, so that the
/// ciphertexts of two nodes together hold just what one committee has added: the most that there is to find.
struct Scene {
    world: World,
    pairs: [BTreeSet<NodeId>; 2],
    scheme: Scheme,
}

impl Scene {
    fn new() -> Self {
        let scheme = Scheme::Pine64;
        let mut world = World::of(4, scheme, 2);
        world.mesh.listen();
        let nodes: Vec<_> = world
            .mesh
            .manifest()
            .members
            .iter()
            .map(|m| m.node)
            .collect();
        let pairs = [&nodes[..2], &nodes[2..]].map(|pair| pair.iter().copied().collect());
        Self {
            world,
            pairs,
            scheme,
        }
    }

    /// Three reports for the one pair and two for the other; their subtotals.
    fn contribute(&mut self) -> [Vec<u64>; 2] {
        [3, 2].map(|reports| {
            let pair = self.pairs[3 - reports].clone();
            let members = |c: &Committee| c.members().iter().all(|m| pair.contains(&m.node));
            let updates: Vec<_> = (0..reports)
                .map(|_| plant(&mut self.world, members))
                .collect();
            add(&updates, self.scheme)
        })
    }

    /// Let time pass until the attacker has heard so much.
    fn until(&mut self, heard: impl Fn(&BTreeMap<u64, Loot>) -> bool) {
        for _ in 0..1_000 {
            let ended = self
                .world
                .mesh
                .settle(&still, &mut Steps::default())
                .unwrap();
            assert!(ended.is_none(), "{ended:?}");
            if heard(&loot(&self.world)) {
                return;
            }
            self.world.mesh.wait(200);
        }
        panic!("{:?}", self.world.mesh.coordinator().view());
    }
}

#[test]
fn with_all_it_was_sent_the_aggregation_node_opens_no_part_of_a_round() {
    let mut scene = Scene::new();
    let task = scene.world.mesh.manifest().clone();
    let mut subtotals = Vec::new();
    for round in 1..=2 {
        let parts = scene.contribute();
        // Only some holders can answer yet: the attacker tries at each step of the round.
        let names: Vec<_> = task.members.iter().map(|m| m.node).collect();
        scene.until(|loot| {
            loot.get(&round)
                .is_some_and(|one| one.ciphertexts.len() == 4)
        });
        let (tries, opened) = attack(&task, &loot(&scene.world));
        assert!(tries >= 14 && opened.is_empty(), "{opened:?}");
        assert!(matches!(
            scene.world.finish(),
            RoundResult::Completed(done) if done.reports == 5
        ));
        let all = loot(&scene.world);
        let one = &all[&round];
        assert_eq!(one.all(), names.into_iter().collect());
        let (tries, opened) = attack(&task, &all);
        assert!(tries > 1000, "{tries}");
        assert!(opened.is_empty(), "{opened:?}");

        // The same attacker's code opens what it may: the total.
        let total = one.open(&task, &one.all(), &one.total_key(&task).unwrap());
        let modulus = u128::from(scene.scheme.modulus());
        let sums = parts[0].iter().zip(&parts[1]);
        let sums: Vec<u64> = sums
            .map(|(a, b)| ((u128::from(*a) + u128::from(*b)) % modulus) as u64)
            .collect();
        assert_eq!(total.unwrap(), sums);
        subtotals.extend(parts);
        if round < 2 {
            scene.world.round = scene.world.mesh.open_round().unwrap();
        }
    }

    // Nor is a subtotal written anywhere in what it was sent.
    let stored = everything(&scene.world);
    assert!(stored.len() > 8 * 80_000, "{}", stored.len());
    for subtotal in &subtotals {
        let runs = runs(subtotal);
        assert!(!holds(&stored, &runs));
        for form in &runs {
            let planted = [&stored[..1000], form, &stored[1000..2000]].concat();
            assert!(holds(&planted, &runs), "the search finds what is there");
        }
    }
}

#[test]
fn its_own_keys_open_no_share_and_its_signature_moves_no_holder() {
    let mut scene = Scene::new();
    let task = scene.world.mesh.manifest().clone();
    scene.contribute();
    scene.until(|loot| loot.get(&1).is_some_and(|one| one.ciphertexts.len() == 4));
    let all = loot(&scene.world);
    let one = &all[&1];
    let own = defim_full::Secrets::from_seed(OWN_SEED);
    let key = NodeKey::from_seed(OWN_SEED);
    assert_eq!(key.id(), task.aggregation);
    for submission in one.submissions.values() {
        for (holder, sealed) in task.members.iter().zip(&submission.key_shares) {
            let sealed = decoded(sealed);
            let opened = own
                .sealing
                .open_key_share(&about(one, submission, holder.node), &sealed);
            assert!(opened.is_err());
        }
    }

    // Asked for a part, each holder says no, whether the part is dressed as the whole or as another selection.
    let holders: Vec<_> = task.members.iter().map(|m| m.node).collect();
    for part in one.parts().into_iter().filter(|part| part.len() >= 2) {
        let signed = SumOpening {
            task: task.task(),
            round: one.selection.round,
            selection: one.selection.digest(),
            set: hex(&one.opening(&part).to_bytes()),
        }
        .sign(&key)
        .unwrap();
        for (place, holder) in holders.iter().enumerate() {
            let question = wire::OpenSum {
                selected: one.selected.clone(),
                opening: signed.clone(),
                statements: part
                    .iter()
                    .map(|node| one.submissions[node].statement.clone())
                    .collect(),
                key_shares: part
                    .iter()
                    .map(|node| one.submissions[node].key_shares[place].clone())
                    .collect(),
            };
            let answer = scene
                .world
                .mesh
                .ask(holder, Request::OpenSum(question))
                .unwrap();
            let Response::Refused(why) = answer else {
                panic!("a holder answers for a part: {answer:?}");
            };
            assert!(why.contains("not that of all nodes"), "{why}");
        }
    }
    let less: Selection = serde_json::from_str(&one.selected.selection.payload).unwrap();
    assert!(less.batches.len() >= 2);
    for index in less.batches.keys() {
        let mut less = less.clone();
        less.attempt += 1;
        less.batches.remove(index);
        let places = one.selection.batches().keys().copied();
        let signatures = one.selection.signatures().into_iter().zip(places);
        let signatures = signatures.filter(|(_, at)| at != index);
        let selected = SelectedBatches {
            selection: less.sign(&key).unwrap(),
            signatures: signatures.map(|(signatures, _)| signatures).collect(),
            ..one.selected.clone()
        };
        let verified = VerifiedSelection::verify(
            &task,
            selected.round,
            selected.selection.clone(),
            selected.signatures.clone(),
        );
        let verified = verified.unwrap();
        let nodes = verified.nodes().clone();
        let signed = SumOpening {
            task: task.task(),
            round: verified.round,
            selection: verified.digest(),
            set: hex(&one.opening(&nodes).to_bytes()),
        }
        .sign(&key)
        .unwrap();
        for (place, holder) in holders.iter().enumerate() {
            let question = wire::OpenSum {
                selected: selected.clone(),
                opening: signed.clone(),
                statements: nodes
                    .iter()
                    .map(|node| one.submissions[node].statement.clone())
                    .collect(),
                key_shares: nodes
                    .iter()
                    .map(|node| one.submissions[node].key_shares[place].clone())
                    .collect(),
            };
            let answer = scene
                .world
                .mesh
                .ask(holder, Request::OpenSum(question))
                .unwrap();
            assert!(matches!(answer, Response::Refused(_)), "{answer:?}");
        }
    }

    // None of this has stopped the round, and none of it has shown anything.
    assert!(matches!(scene.world.finish(), RoundResult::Completed(_)));
    assert!(attack(&task, &loot(&scene.world)).1.is_empty());
}

#[test]
fn two_thirds_of_the_full_nodes_keys_and_what_it_was_sent_do_open_a_committees_subtotal() {
    let mut scene = Scene::new();
    let task = scene.world.mesh.manifest().clone();
    let subtotals = scene.contribute();
    assert!(matches!(scene.world.finish(), RoundResult::Completed(_)));
    let all = loot(&scene.world);
    let one = &all[&1];
    let needed = usize::from(threshold(&task).unwrap().needed());
    assert_eq!(needed, 3);
    for (pair, subtotal) in scene.pairs.iter().zip(&subtotals) {
        // What each holder would answer, if it answered for a part, made by hand from its sealing key.
        let answers: Vec<SumShare> = (0..task.members.len())
            .map(|place| {
                let secrets = scene.world.mesh.secrets(&task.members[place].node);
                answer_by_hand(one, secrets.unwrap(), place, pair)
            })
            .collect();
        let threshold = threshold(&task).unwrap();
        let key = SumKey::from_answers(threshold, &answers[1..]).unwrap();
        assert_eq!(&one.open(&task, pair, &key).unwrap(), subtotal);
        // One fewer is not enough.
        assert!(SumKey::from_answers(threshold, &answers[2..]).is_err());
    }
}

/// Three full nodes, of which two open a sum. The first is corrupt and works for the aggregation node: it answers for
/// whatever it is asked to. There are two selections: of all committees, and of all but that of the two honest ones, whose
/// difference is what that committee has added: here one report.
struct Conspiracy {
    world: World,
    task: VerifiedManifest,
    key: NodeKey,
    /// The one report that nobody may see.
    target: Vec<u64>,
    selections: [SelectedBatches; 2],
}

impl Conspiracy {
    fn new() -> Self {
        let mut world = World::of(3, Scheme::Pine64, 2);
        world.mesh.listen();
        let task = world.mesh.manifest().clone();
        let corrupt = task.members[0].node;
        let honest = move |c: &Committee| c.members().iter().all(|m| m.node != corrupt);
        let target = add(&[plant(&mut world, honest)], Scheme::Pine64);
        for at in [1, 2, 1, 2] {
            let pair = [corrupt, task.members[at].node];
            plant(&mut world, |c| {
                c.members().iter().all(|m| pair.contains(&m.node))
            });
        }
        // Until the batches are agreed, and the aggregation node asks for their sums.
        let asked = |world: &World| {
            let mut heard = world.mesh.heard().iter();
            heard.find_map(|heard| match &heard.question {
                Request::Encrypt(selected) => Some(selected.clone()),
                _ => None,
            })
        };
        for _ in 0..1_000 {
            if asked(&world).is_some() {
                break;
            }
            let ended = world.mesh.settle(&still, &mut Steps::default()).unwrap();
            assert!(ended.is_none(), "{ended:?}");
            world.mesh.wait(200);
        }
        let all = asked(&world).unwrap();
        let key = NodeKey::from_seed(OWN_SEED);
        let mut less: Selection = serde_json::from_str(&all.selection.payload).unwrap();
        let kept = |index: &u32| !honest(&task.committee(*index).unwrap());
        let pairs = less.batches.keys().copied().zip(all.signatures.clone());
        let signatures = pairs.filter(|(index, _)| kept(index)).map(|(_, s)| s);
        let signatures: Vec<_> = signatures.collect();
        less.batches.retain(|index, _| kept(index));
        less.attempt += 1;
        let less = SelectedBatches {
            selection: less.sign(&key).unwrap(),
            signatures,
            ..all.clone()
        };
        Self {
            world,
            task,
            key,
            target,
            selections: [all, less],
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.task.members.iter().map(|m| m.node).collect()
    }

    fn encrypt(&mut self, node: usize, which: usize) -> Result<Submission, String> {
        let question = Request::Encrypt(self.selections[which].clone());
        match self.world.mesh.ask(&self.nodes()[node], question).unwrap() {
            Response::Encrypted(submission) => Ok(*submission),
            Response::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    fn loot(&self, which: usize, submissions: &[Submission]) -> Loot {
        let SelectedBatches {
            round,
            selection,
            signatures,
            ..
        } = self.selections[which].clone();
        let selection = VerifiedSelection::verify(&self.task, round, selection, signatures);
        let selection = selection.unwrap();
        let nodes = || self.nodes().into_iter().zip(submissions);
        let read = |s: &Submission| Ciphertext::from_bytes(dimension(&self.task), &s.ciphertext);
        Loot {
            round: round_of(&selection),
            selected: self.selections[which].clone(),
            selection,
            submissions: nodes().map(|(node, s)| (node, s.clone())).collect(),
            ciphertexts: nodes().map(|(node, s)| (node, read(s).unwrap())).collect(),
            answers: Vec::new(),
        }
    }

    /// Asks an honest node to open a selection.
    fn open(&mut self, loot: &Loot, node: usize) -> Result<SumShare, String> {
        let nodes = self.nodes();
        let signed = SumOpening {
            task: self.task.task(),
            round: loot.selection.round,
            selection: loot.selection.digest(),
            set: hex(&loot.opening(&loot.all()).to_bytes()),
        };
        let sums = || loot.submissions.values();
        let question = wire::OpenSum {
            selected: loot.selected.clone(),
            opening: signed.sign(&self.key).unwrap(),
            statements: sums().map(|s| s.statement.clone()).collect(),
            key_shares: sums().map(|s| s.key_shares[node].clone()).collect(),
        };
        let question = Request::OpenSum(question);
        match self.world.mesh.ask(&nodes[node], question).unwrap() {
            Response::SumShare(bytes) => Ok(SumShare::from_bytes(&bytes).unwrap()),
            Response::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    /// The corrupt node's answer, which no rule binds.
    fn cheat(&self, loot: &Loot) -> SumShare {
        let secrets = self.world.mesh.secrets(&self.nodes()[0]).unwrap();
        answer_by_hand(loot, secrets, 0, &loot.all())
    }
}

#[test]
fn with_one_corrupt_full_node_no_two_selections_of_a_round_are_opened() {
    // Both are encrypted before anything is opened: the honest nodes then stand for the later one.
    let mut plot = Conspiracy::new();
    let first: Vec<_> = (0..3).map(|node| plot.encrypt(node, 0).unwrap()).collect();
    let second: Vec<_> = (0..3).map(|node| plot.encrypt(node, 1).unwrap()).collect();
    let loot = [plot.loot(0, &first), plot.loot(1, &second)];
    for node in [1, 2] {
        let why = plot.open(&loot[0], node).unwrap_err();
        assert!(why.contains("has not encrypted this selection"), "{why}");
        // Nor does it go back to the earlier one.
        let why = plot.encrypt(node, 0).unwrap_err();
        assert!(why.contains("has encrypted attempt 2"), "{why}");
    }
    let threshold = threshold(&plot.task).unwrap();
    let answers = [plot.cheat(&loot[1]), plot.open(&loot[1], 2).unwrap()];
    let key = SumKey::from_answers(threshold, &answers).unwrap();
    let without = loot[1].open(&plot.task, &loot[1].all(), &key).unwrap();
    let alone = [plot.cheat(&loot[0])];
    assert!(SumKey::from_answers(threshold, &alone).is_err());

    // The first is opened before the second is encrypted: who has opened it encrypts no other one.
    let mut plot = Conspiracy::new();
    let first: Vec<_> = (0..3).map(|node| plot.encrypt(node, 0).unwrap()).collect();
    let loot = plot.loot(0, &first);
    let answers = [plot.cheat(&loot), plot.open(&loot, 1).unwrap()];
    let key = SumKey::from_answers(threshold, &answers).unwrap();
    let with = loot.open(&plot.task, &loot.all(), &key).unwrap();
    let why = plot.encrypt(1, 1).unwrap_err();
    assert!(why.contains("has helped to open this round"), "{why}");
    // The other one still would, and alone gives nothing: the selection needs both.
    plot.encrypt(2, 1).unwrap();
    assert!(plot.open(&loot, 2).is_err());

    // Two such totals of one round are worth the attempt: their difference is the one report.
    assert_eq!(with.len(), without.len());
    assert_eq!(plot.target.len(), with.len());
}

#[test]
fn two_totals_of_one_round_would_show_a_report() {
    let mut plot = Conspiracy::new();
    let modulus = u128::from(Scheme::Pine64.modulus());
    let totals = [0, 1].map(|which| {
        let sums: Vec<_> = (0..3)
            .map(|node| plot.encrypt(node, which).unwrap())
            .collect();
        let loot = plot.loot(which, &sums);
        // With the sealing keys of two nodes nobody is asked.
        let answers = [0, 2].map(|place| {
            let secrets = plot.world.mesh.secrets(&plot.nodes()[place]).unwrap();
            answer_by_hand(&loot, secrets, place, &loot.all())
        });
        let key = SumKey::from_answers(threshold(&plot.task).unwrap(), &answers).unwrap();
        loot.open(&plot.task, &loot.all(), &key).unwrap()
    });
    let shown: Vec<u64> = totals[0]
        .iter()
        .zip(&totals[1])
        .map(|(with, without)| {
            ((u128::from(*with) + modulus - u128::from(*without)) % modulus) as u64
        })
        .collect();
    assert_eq!(shown, plot.target);
}

/// What a holder would answer for a set, made from its sealing key.
fn answer_by_hand(
    loot: &Loot,
    secrets: &defim_full::Secrets,
    place: usize,
    set: &BTreeSet<NodeId>,
) -> SumShare {
    let mut sum = vec![0; BLOCK_BYTES];
    for node in set {
        let submission = &loot.submissions[node];
        let sealed = decoded(&submission.key_shares[place]);
        let about = about(loot, submission, secrets.node.id());
        let share = secrets.sealing.open_key_share(&about, &sealed).unwrap();
        sum = combine(1, &sum, 1, &share[share.len() - BLOCK_BYTES..]);
    }
    let head: &[u8] = b"defim he v1 sum share\0";
    let digest = loot.opening(set).digest();
    let bytes = [head, &digest.0, &[place as u8 + 1], &sum].concat();
    SumShare::from_bytes(&bytes).unwrap()
}

fn about(loot: &Loot, submission: &Submission, holder: NodeId) -> KeyShareData {
    let (dealer, _) = loot
        .submissions
        .iter()
        .find(|(_, other)| *other == submission)
        .unwrap();
    let statement = EncryptedSum::verify(&submission.statement, dealer, &loot.selection).unwrap();
    assert_eq!(
        Root(statement.ciphertext.0),
        loot.ciphertexts[dealer].root()
    );
    KeyShareData {
        task: loot.selection.task,
        round: loot.selection.round,
        selection: loot.selection.digest(),
        ciphertext: Digest(statement.ciphertext.0),
        dealer: *dealer,
        holder,
    }
}

fn decoded(sealed: &SealedBytes) -> defim_protocol::report::Ciphertext {
    defim_protocol::report::Ciphertext::get_decoded(&sealed.0).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
