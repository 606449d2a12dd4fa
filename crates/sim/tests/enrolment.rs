//! In a task that knows its light nodes each counts once a round, in a committee that nobody chose, and nobody else counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::{World, still};
use defim_aggregation::{
    coordinator::Completed,
    repeat::{BatchFault, Fault, RepeatError, check_enrolled, check_ids},
};
use defim_light::LightError;
use defim_protocol::{
    AdmissionRule, Context, Credential, NodeId, NodeKey, Reason, ReportId, Signature,
    batch::{BatchSummary, merkle_root},
    report::{Extension, Metadata, PlaintextShare, Report},
    seal::{Seat, seal},
    vdaf::Scheme,
};
use defim_sim::{RoundResult, SimError, Steps};
use prio::{codec::Encode as _, vdaf::Client as _};

/// What these tests do with a world.
impl World {
    /// Seal a valid update as a client with its own code could: any id, and in each seat any extension.
    fn forge(
        &self,
        id: ReportId,
        credential: impl Fn(&[u8]) -> [Option<Credential>; 2],
    ) -> Vec<u8> {
        let committee = self.mesh.committee_of(&id).unwrap();
        let manifest = self.mesh.manifest();
        let vdaf = manifest.vdaf.instance().unwrap();
        let values = vec![0.1; manifest.vdaf.dimension];
        let (public, shares) = vdaf.shard(&values, id.as_bytes()).unwrap();
        let public = public.get_encoded().unwrap();
        let credentials = credential(&public);
        let metadata = Metadata {
            id,
            time_s: self.mesh.now() / 1000,
        };
        let sealed = |at: usize, seat| {
            let credential = credentials[at].as_ref().map(Extension::credential);
            let plain = PlaintextShare {
                extensions: [Extension::round(self.round.round)]
                    .into_iter()
                    .chain(credential)
                    .collect(),
                payload: shares[at].get_encoded().unwrap(),
            };
            let (hpke, task) = (&committee.members()[at].hpke, manifest.task());
            let mut random = rand::rng();
            seal(hpke, seat, &task, &metadata, &public, &plain, &mut random).unwrap()
        };
        let (leader, helper) = (sealed(0, Seat::Leader), sealed(1, Seat::Helper));
        let report = Report {
            metadata,
            public_share: public.clone(),
            leader,
            helper,
        };
        report.get_encoded().unwrap()
    }

    fn id_of(&self, key: &NodeKey) -> ReportId {
        self.round.enrolled_report(&key.id()).unwrap()
    }

    fn complete(&mut self) -> Completed {
        match self.finish() {
            RoundResult::Completed(done) => *done,
            RoundResult::Voided(why) => panic!("voided: {why}"),
        }
    }
}

fn both(credential: Credential) -> [Option<Credential>; 2] {
    [Some(credential), Some(credential)]
}

#[test]
fn enrolled_light_nodes_and_silos_are_counted_and_everybody_sees_under_which_ids() {
    let mut world = World::enrolled(3, 2, 5);
    for n in 0..5 {
        let key = World::light_key(n);
        let report = world.signed_by(n.into(), &key);
        assert_eq!(report.id, world.id_of(&key));
        world.mesh.upload(report.bytes).unwrap();
    }
    // A full node's key is its silo's credential, without a weight too.
    let silo = world.report(6, world.mesh.node_key(1), None).unwrap();
    world.mesh.upload(silo.bytes).unwrap();
    let done = world.complete();
    assert_eq!((done.reports, done.rejected.len()), (6, 0));

    let task = world.mesh.manifest().clone();
    let record = defim_protocol::record::VerifiedRecord::verify(done.record, &task, 1).unwrap();
    let round = record.opened();
    let mut all = Vec::new();
    assert_eq!(done.ids.len(), record.batches.len());
    let keys: Vec<NodeId> = (0..5).map(|n| World::light_key(n).id()).collect();
    for ((committee, ids), batch) in done.ids.iter().zip(&record.batches) {
        let summary = BatchSummary::read(&batch[0].payload).unwrap();
        assert_eq!(summary.committee, *committee);
        check_ids(&task, round, &summary, ids).unwrap();
        check_enrolled(&task, round, &summary, ids, &keys).unwrap();
        all.extend(ids.iter().copied());
    }
    let mut expected: Vec<_> = (0..5).map(|n| world.id_of(&World::light_key(n))).collect();
    expected.push(silo.id);
    expected.sort_unstable();
    all.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn nobody_counts_without_a_credential_of_ones_own() {
    let mut world = World::enrolled(3, 2, 3);
    let (mine, others) = (World::light_key(0), World::light_key(1));
    let round = world.round.clone();
    let id = world.id_of(&mine);
    let sign = |id: ReportId, key: Arc<NodeKey>| {
        let round = round.clone();
        move |public: &[u8]| both(Credential::enrolled(&round, &id, public, &key))
    };
    let free = ReportId([7; 16]);
    let stranger = Arc::new(NodeKey::from_seed([77; 32]));
    let strangers = world.id_of(&stranger);
    let claimed = |public: &[u8]| {
        let Credential::Enrolled { signature, .. } =
            Credential::enrolled(&round, &id, public, &stranger)
        else {
            panic!()
        };
        both(Credential::Enrolled {
            key: mine.id(),
            signature,
        })
    };
    let of_another_kind = |public: &[u8]| {
        let share = defim_protocol::Digest::of(public);
        let text = format!("{} {} {id} {share}", round.task, round.round);
        both(Credential::Enrolled {
            key: mine.id(),
            signature: mine.sign(Context::Silo, text.as_bytes()),
        })
    };
    let nothing = Signature([0; 64]);
    let forged: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "no credential",
            world.forge(free, |_| [None, None]),
            Reason::NotItsReport,
        ),
        (
            "no credential, under an enrolled node's id",
            world.forge(id, |_| [None, None]),
            Reason::NotItsReport,
        ),
        (
            "an id of one's own",
            world.forge(free, sign(free, mine.clone())),
            Reason::NotItsReport,
        ),
        (
            "somebody else's id",
            world.forge(
                world.id_of(&others),
                sign(world.id_of(&others), mine.clone()),
            ),
            Reason::NotItsReport,
        ),
        (
            "somebody else's key",
            world.forge(id, claimed),
            Reason::NotItsReport,
        ),
        (
            "a signature of another kind",
            world.forge(id, of_another_kind),
            Reason::NotItsReport,
        ),
        (
            "a signature over another report",
            world.forge(id, |_| sign(id, mine.clone())(b"other")),
            Reason::NotItsReport,
        ),
        (
            "no signature",
            world.forge(id, |_| {
                both(Credential::Enrolled {
                    key: mine.id(),
                    signature: nothing,
                })
            }),
            Reason::NotItsReport,
        ),
        (
            "a silo's credential",
            world.forge(free, |_| both(Credential::Silo(nothing))),
            Reason::NotTheSilos,
        ),
        (
            "a key that is not enrolled",
            world.forge(strangers, sign(strangers, stranger.clone())),
            Reason::NotEnrolled,
        ),
    ];
    for (what, bytes, reason) in forged {
        assert_eq!(world.mesh.upload(bytes), Err(reason), "{what}");
    }
    // A full node has its silo's report and no second one, even if its key is enrolled.
    let member = world.mesh.node_key(0).unwrap();
    let second = world.id_of(member);
    let bytes = world.forge(second, |public| {
        both(Credential::enrolled(&round, &second, public, member))
    });
    let member = member.id();
    world.mesh.enrol(member);
    assert_eq!(world.mesh.upload(bytes), Err(Reason::NotItsReport));
    // This client makes none of them.
    assert!(matches!(
        world.report(0, None, None),
        Err(SimError::Light(LightError::NoKey))
    ));
    // What is in one seal only does not help: the helper looks too.
    for n in 1..3 {
        let report = world.signed_by(n, &World::light_key(n as u8));
        world.mesh.upload(report.bytes).unwrap();
    }
    let half = world.forge(id, |public| {
        [Some(sign(id, mine.clone())(public)[0].unwrap()), None]
    });
    world.mesh.upload(half).unwrap();
    let done = world.complete();
    assert_eq!(done.reports, 2);
    let refused = BTreeMap::from([(Reason::NotItsReport.slug().to_owned(), 1)]);
    assert_eq!(done.rejected, refused);
}

#[test]
fn a_light_node_counts_once_a_round() {
    let mut world = World::enrolled(3, 2, 3);
    let key = World::light_key(0);
    let first = world.signed_by(0, &key);
    for _ in 0..2 {
        world.mesh.upload(first.bytes.clone()).unwrap();
    }
    let second = world.signed_by(3, &key);
    assert_eq!(second.id, first.id);
    assert_eq!(world.mesh.upload(second.bytes), Err(Reason::Replayed));
    let other = world.signed_by(1, &World::light_key(1));
    world.mesh.upload(other.bytes).unwrap();
    assert_eq!(world.complete().reports, 2);
    // In the next round it has another id, and the old report none.
    world.round = world.mesh.open_round().unwrap();
    let leader = first.committee.leader().node;
    assert_eq!(
        world.mesh.upload_to(&leader, first.bytes),
        Err(Reason::WrongRound)
    );
    let again = world.signed_by(0, &key);
    assert_ne!(again.id, first.id);
    world.mesh.upload(again.bytes).unwrap();
}

#[test]
fn a_light_node_does_not_choose_its_committee() {
    let mut world = World::enrolled(3, 2, 1);
    let key = World::light_key(0);
    let committees: std::collections::BTreeSet<_> = (0..20)
        .map(|party| world.signed_by(party % 12, &key).committee.index())
        .collect();
    assert_eq!(committees.len(), 1, "whatever it draws");
    // Nor does it get in at a full node that it likes better.
    let report = world.signed_by(0, &key);
    let leader = report.committee.leader().node;
    let members: Vec<_> = world
        .mesh
        .manifest()
        .members
        .iter()
        .map(|m| m.node)
        .collect();
    for node in members.iter().filter(|node| **node != leader) {
        assert!(world.mesh.upload_to(node, report.bytes.clone()).is_err());
    }
    world.mesh.upload(report.bytes).unwrap();
}

#[test]
fn a_helper_that_hears_of_an_enrolment_later_costs_nobody_anything() {
    for (heard, shares) in [(true, 2), (false, 2), (true, 3), (false, 3)] {
        let mut world = World::enrolled_shared(3, shares, 2, 0);
        let keys = [0, 1, 2].map(World::light_key);
        let place = |world: &World, node| world.mesh.manifest().place(&node).unwrap();
        for (n, key) in keys.iter().enumerate() {
            let report = world.signed_by(n, key);
            assert_eq!(
                world.mesh.upload(report.bytes.clone()),
                Err(Reason::NotEnrolled)
            );
            let leader = place(&world, report.committee.leader().node);
            let helpers = report.committee.helpers().into_iter();
            let helpers: Vec<_> = helpers.map(|m| place(&world, m.node)).collect();
            world.mesh.enrol_at(leader, key.id());
            world.mesh.upload(report.bytes).unwrap();
            // Of the first one's helpers the last has not heard.
            let heard = if n > 0 {
                helpers.len()
            } else {
                helpers.len() - 1
            };
            for helper in &helpers[..heard] {
                world.mesh.enrol_at(*helper, key.id());
            }
        }
        for _ in 0..2 {
            let went_on = world.mesh.settle(&still, &mut Steps::default()).unwrap();
            assert!(went_on.is_none());
            let view = world.mesh.coordinator().view().unwrap();
            assert_eq!((view.verified, view.pending), (2, 1), "it waits");
            world.mesh.wait(400);
        }
        if heard {
            world.mesh.enrol(keys[0].id());
        }
        let done = world.complete();
        let refused = done.rejected.get(Reason::NotEnrolled.slug()).copied();
        match heard {
            true => assert_eq!((done.reports, refused), (3, None)),
            // The round ends, and then it is too late for it.
            false => assert_eq!((done.reports, refused), (2, Some(1))),
        }
    }
}

#[test]
fn enrolled_light_nodes_are_counted_once_with_three_shares_too() {
    let mut world = World::enrolled_shared(4, 3, 2, 4);
    for n in 0..4 {
        let report = world.signed_by(n.into(), &World::light_key(n));
        assert_eq!(report.id, world.id_of(&World::light_key(n)));
        assert_eq!(report.committee.members().len(), 3);
        world.mesh.upload(report.bytes).unwrap();
    }
    let stranger = Arc::new(NodeKey::from_seed([77; 32]));
    let report = world.signed_by(5, &stranger);
    assert_eq!(world.mesh.upload(report.bytes), Err(Reason::NotEnrolled));
    let again = world.signed_by(6, &World::light_key(0));
    assert_eq!(world.mesh.upload(again.bytes), Err(Reason::Replayed));
    let done = world.complete();
    assert_eq!((done.reports, done.rejected.len()), (4, 0));
    assert_eq!(done.ids.iter().map(|(_, ids)| ids.len()).sum::<usize>(), 4);
}

#[test]
fn a_task_of_anybody_takes_no_credentials() {
    let mut world = World::of(3, Scheme::Pine64, 2);
    let key = World::light_key(0);
    world.mesh.enrol(key.id());
    let id = ReportId([5; 16]);
    let round = world.round.clone();
    let bytes = world.forge(id, |public| {
        both(Credential::enrolled(&round, &id, public, &key))
    });
    assert_eq!(world.mesh.upload(bytes), Err(Reason::UnknownExtension));
    // A client that has a key does not show it.
    let report = world.signed_by(0, &key);
    world.mesh.upload(report.bytes).unwrap();
    assert_eq!(world.mesh.manifest().admission, None::<AdmissionRule>);
}

#[test]
fn members_that_sign_another_list_than_there_can_be_are_named() {
    let world = World::enrolled(3, 2, 40);
    let (task, round) = (world.mesh.manifest(), &world.round);
    let committee = task.committee(2).unwrap();
    let ours = |id: &ReportId| task.committee_of(round, id).index() == committee.index();
    let keys: Vec<NodeId> = (0..40).map(|n| World::light_key(n).id()).collect();
    let ids = keys.iter().map(|key| round.enrolled_report(key).unwrap());
    let (mut ids, others): (Vec<_>, Vec<_>) = ids.partition(ours);
    ids.sort_unstable();
    assert!(ids.len() > 2 && !others.is_empty());
    let signed = |ids: &[ReportId], count: u64, extra_weight: u64| BatchSummary {
        task: task.task(),
        round: 1,
        opening: round.randomness(),
        committee: committee.index(),
        root: merkle_root(ids),
        accepted: count,
        rejected: BTreeMap::new(),
        extra_weight,
    };
    let honest = signed(&ids, ids.len() as u64, 0);
    check_ids(task, round, &honest, &ids).unwrap();
    check_enrolled(task, round, &honest, &ids, &keys).unwrap();

    let signers: Vec<_> = committee.members().iter().map(|m| m.node).collect();
    let fault = |checked: Result<(), RepeatError>| match checked {
        Err(RepeatError::Fault(Fault::Batch {
            committee: 2,
            signers: named,
            why,
        })) => {
            assert_eq!(named, signers);
            why
        }
        other => panic!("{other:?}"),
    };
    let check = |ids: &[ReportId], count: usize, weight| {
        fault(check_ids(
            task,
            round,
            &signed(ids, count as u64, weight),
            ids,
        ))
    };
    let n = ids.len();
    let mut twice = ids.clone();
    twice.insert(1, ids[0]);
    assert_eq!(check(&twice, n + 1, 0), BatchFault::Order(ids[0]));
    let mut unsorted = ids.clone();
    unsorted.swap(0, 1);
    assert_eq!(check(&unsorted, n, 0), BatchFault::Order(ids[0]));
    let (said, have) = (n as u64 + 1, n as u64);
    assert_eq!(check(&ids, n + 1, 0), BatchFault::Count { said, have });
    let (said, have) = (3, 0);
    assert_eq!(check(&ids, n, 3), BatchFault::Weight { said, have });
    let mut foreign = ids.clone();
    foreign.push(others[0]);
    foreign.sort_unstable();
    let BatchFault::Committee { report, committee } = check(&foreign, n + 1, 0) else {
        panic!("a report of another committee")
    };
    assert_eq!(report, others[0]);
    assert_eq!(committee, task.committee_of(round, &others[0]).index());

    // Made up by both members together, under an id that nobody has.
    let mut made_up = ids.clone();
    made_up.push(
        (0..)
            .map(|n: u128| ReportId(n.to_be_bytes()))
            .find(ours)
            .unwrap(),
    );
    made_up.sort_unstable();
    let summary = signed(&made_up, n as u64 + 1, 0);
    check_ids(task, round, &summary, &made_up).unwrap();
    let found = fault(check_enrolled(task, round, &summary, &made_up, &keys));
    assert!(matches!(found, BatchFault::Stranger(_)));

    // Another list than the signed one says nothing of who signed.
    for other in [&ids[1..], &[], &others] {
        let checked = check_ids(task, round, &honest, other);
        assert!(matches!(checked, Err(RepeatError::Unusable(_))));
    }
}
