//! Three shares a report: totals are exact, full nodes go away at every step, cheats are refused, and what two members hold
//! opens nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{
    World,
    planted::{expected, person, silo, split, update},
    still,
};
use defim_learn::{FixedUpdate, builtin, builtin_csv};
use defim_light::SealedReport;
use defim_protocol::{
    Committee, Reason, ReportId, RoundPhase,
    report::{Extension, PlaintextShare, SealedShares},
    seal::{Seat, seal},
    vdaf::Scheme,
    wire::Request,
};
use defim_sim::{RoundResult, Setup, Steps, run};
use prio::{codec::Encode as _, vdaf::Client as _};

fn three(full: u8, scheme: Scheme) -> World {
    World::shared(full, 3, scheme, 2, 1, &[])
}

fn has(committee: &Committee, name: &str) -> bool {
    committee.members().iter().any(|m| m.name == name)
}

/// What these tests do with a world.
impl World {
    fn person_where(
        &self,
        update: &FixedUpdate,
        wanted: impl Fn(&Committee) -> bool,
    ) -> SealedReport {
        loop {
            let report = person(self, update);
            if wanted(&report.committee) {
                return report;
            }
        }
    }

    fn model(&self) -> Vec<u8> {
        self.mesh.coordinator().model().1.to_vec()
    }

    fn phase(&self) -> RoundPhase {
        self.mesh.coordinator().view().unwrap().phase
    }

    fn settle(&mut self, turns: u32) {
        for _ in 0..turns {
            let ended = self.mesh.settle(&still, &mut Steps::default()).unwrap();
            assert!(ended.is_none(), "{ended:?}");
            self.mesh.wait(1_100);
        }
    }

    fn completed(&mut self) -> Box<defim_aggregation::coordinator::Completed> {
        match self.finish() {
            RoundResult::Completed(done) => done,
            RoundResult::Voided(why) => panic!("voided: {why}"),
        }
    }

    /// The shares of an update, and the report that a client with its own code makes of them.
    fn forged(&self, id: ReportId, change: impl Fn(usize, &mut PlaintextShare)) -> SealedShares {
        let manifest = self.mesh.manifest();
        let vdaf = manifest.vdaf.instance().unwrap();
        let values = vec![0.1; manifest.vdaf.dimension];
        let (public, shares) = vdaf.shard(&values, id.as_bytes()).unwrap();
        let public_share = public.get_encoded().unwrap();
        let metadata = defim_protocol::report::Metadata {
            id,
            time_s: self.mesh.now() / 1000,
        };
        let committee = self.mesh.committee_of(&id).unwrap();
        let members = committee.members();
        let sealed = members.iter().zip(&shares).enumerate();
        let sealed = sealed.map(|(place, (member, share))| {
            let mut plain = PlaintextShare {
                extensions: vec![Extension::round(self.round.round)],
                payload: share.get_encoded().unwrap(),
            };
            change(place, &mut plain);
            seal(
                &member.hpke,
                Seat::of(place, members.len()),
                &manifest.task(),
                &metadata,
                &public_share,
                &plain,
                &mut rand::rng(),
            )
            .unwrap()
        });
        SealedShares {
            metadata,
            sealed: sealed.collect(),
            public_share,
        }
    }
}

#[test]
fn the_total_is_the_plain_sum_exactly_with_weights_and_any_number_of_full_nodes() {
    for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
        for full in [3, 4, 5] {
            let mut world = World::shared(full, 3, scheme, 2, 255, &[50, 100_000]);
            let before = world.model();
            let updates: Vec<_> = (0..6).map(|at| update(&world, at == 5)).collect();
            let mut reports = vec![silo(&world, &updates[0], 0), silo(&world, &updates[1], 1)];
            reports.extend(updates[2..].iter().map(|update| person(&world, update)));
            let length = world.mesh.manifest().vdaf.report_bytes().unwrap();
            for report in reports.split_off(2) {
                assert_eq!(report.committee.members().len(), 3);
                assert_eq!(report.bytes.len(), length);
                world.mesh.upload(report.bytes).unwrap();
            }
            for report in reports {
                world.mesh.upload(report.bytes).unwrap();
            }
            let done = world.completed();
            assert_eq!((done.reports, done.rejected.len()), (6, 0));
            let each: Vec<_> = updates.iter().zip([50, 255, 1, 1, 1, 1]).collect();
            assert_eq!(done.model, expected(&world, &before, &each));
        }
    }
}

#[test]
fn the_same_rows_give_the_same_model_with_two_shares_and_with_three() {
    let spec = builtin("diabetes", None).unwrap().spec;
    let rows = spec
        .schema
        .read_csv(builtin_csv("diabetes").unwrap(), &Default::default())
        .unwrap();
    let setup = |shares, full| Setup {
        spec: spec.clone(),
        rows: rows.clone(),
        light: 8,
        silos: 1,
        rounds: 2,
        seed: 3,
        scheme: Scheme::Pine64,
        full,
        shares,
        votes: 0,
        fairness_gap_ppm: 1_000_000,
        vanishing: 0,
        privacy: None,
        max_weight: 3,
        enrolled: false,
        attack: None,
    };
    let ran = |setup: &Setup| run(setup, &still, &mut |_| {}).unwrap();
    let two = ran(&setup(2, 3));
    for full in [3, 4] {
        let three = ran(&setup(3, full));
        assert_eq!(three.metrics, two.metrics);
        assert!(three.upload_bytes_per_report > two.upload_bytes_per_report);
    }
    // One more share is some seeds, and not another vector.
    let more = ran(&setup(3, 3)).upload_bytes_per_report - two.upload_bytes_per_report;
    assert!(more < 400, "{more}");
    // With noise, of which the total has that of every full node.
    let mut noisy = setup(3, 4);
    noisy.privacy = Some((8.0, 1e-5));
    noisy.vanishing = 1;
    let noisy = ran(&noisy);
    assert_eq!(noisy.reports, 18);
    assert!((7.9..=8.0).contains(&noisy.epsilon.unwrap()));
    assert_ne!(noisy.metrics, two.metrics);
    let why = run(&setup(3, 2), &still, &mut |_| {}).unwrap_err();
    assert!(why.to_string().contains("3 shares for only 2 full nodes"));
}

/// A question of a leader: its name, and how it is known.
type Stage = (&'static str, fn(&Request) -> bool);

/// The questions of a leader, in their order.
const STAGES: [Stage; 4] = [
    ("collect", |asked| matches!(asked, Request::Collect(_))),
    ("finish", |asked| matches!(asked, Request::Finish(_))),
    ("check", |asked| matches!(asked, Request::Check { .. })),
    ("close", |asked| matches!(asked, Request::Close { .. })),
];

#[test]
fn of_three_full_nodes_one_that_goes_at_any_step_is_waited_for_and_nothing_counts_twice() {
    for (stage, asked) in STAGES {
        for answered in [false, true] {
            for seat in [1, 2] {
                let mut world = three(3, Scheme::Pine64);
                let before = world.model();
                let updates: Vec<_> = (0..3).map(|_| update(&world, false)).collect();
                let committee = world.mesh.manifest().committee(0).unwrap();
                for update in &updates {
                    let report = world.person_where(update, |c| c.index() == committee.index());
                    world.mesh.upload(report.bytes).unwrap();
                }
                let gone = committee.members()[seat];
                let place = world.mesh.manifest().place(&gone.node).unwrap();
                world.mesh.lose_at(place, asked, answered);
                world.settle(12);
                match stage {
                    "collect" | "finish" => {
                        let member = gone.name.clone();
                        assert_eq!(world.phase(), RoundPhase::WaitingForMember { member });
                    }
                    _ => assert_eq!(world.phase(), RoundPhase::Closing, "{stage}"),
                }
                world.mesh.set_up(place, true);
                let done = world.completed();
                assert_eq!((done.reports, done.rejected.len()), (3, 0), "{stage}");
                let each: Vec<_> = updates.iter().zip([1; 3]).collect();
                assert_eq!(done.model, expected(&world, &before, &each), "{stage}");
            }
        }
    }
}

#[test]
fn of_four_full_nodes_one_that_goes_at_any_step_costs_its_committees_only() {
    for (stage, asked) in STAGES {
        for answered in [false, true] {
            let mut world = three(4, Scheme::Pine64);
            let before = world.model();
            let updates: Vec<_> = (0..5).map(|_| update(&world, false)).collect();
            for (at, update) in updates.iter().enumerate() {
                let report = world.person_where(update, |committee| match at {
                    0..3 => !has(committee, "full-4"),
                    at => committee.members()[at - 2].name == "full-4",
                });
                world.mesh.upload(report.bytes).unwrap();
            }
            world.mesh.lose_at(3, asked, answered);
            let done = world.completed();
            assert_eq!(done.reports, 3, "{stage}");
            let each: Vec<_> = updates[..3].iter().zip([1; 3]).collect();
            assert_eq!(done.model, expected(&world, &before, &each), "{stage}");
            // It is back in the next round, in which all count.
            world.mesh.set_up(3, true);
            world.round = world.mesh.open_round().unwrap();
            for update in &updates {
                let report = person(&world, update);
                world.mesh.upload(report.bytes).unwrap();
            }
            assert_eq!(world.completed().reports, 5);
        }
    }
}

#[test]
fn once_sums_are_encrypted_as_many_must_stay_as_a_report_has_shares() {
    for (full, opens) in [(3, false), (4, true)] {
        let mut world = three(full, Scheme::Pine64);
        let before = world.model();
        let updates: Vec<_> = (0..4).map(|_| update(&world, false)).collect();
        for update in &updates {
            let report = person(&world, update);
            world.mesh.upload(report.bytes).unwrap();
        }
        world.mesh.vanish_after_encrypting(1);
        match (world.finish(), opens) {
            (RoundResult::Completed(done), true) => {
                let each: Vec<_> = updates.iter().zip([1; 4]).collect();
                assert_eq!(done.model, expected(&world, &before, &each));
            }
            (RoundResult::Voided(why), false) => {
                assert_eq!(why, "2 of 3 full nodes have opened the total, 3 are needed");
                assert_eq!(world.model(), before);
            }
            (ended, _) => panic!("{full} full nodes: {ended:?}"),
        }
        world.mesh.vanish_after_encrypting(0);
        world.mesh.set_up(usize::from(full) - 1, true);
        world.round = world.mesh.open_round().unwrap();
        for update in &updates {
            let report = person(&world, update);
            world.mesh.upload(report.bytes).unwrap();
        }
        assert_eq!(world.completed().reports, 4);
    }
}

#[test]
fn a_node_that_goes_before_anything_is_verified_is_avoided_by_those_who_know() {
    let mut world = three(4, Scheme::Pine64);
    world.mesh.set_up(0, false);
    for _ in 0..4 {
        let update = update(&world, false);
        let report = std::iter::repeat_with(|| {
            let id = ReportId(rand::random());
            split(&world, &update, id).seal(&mut rand::rng()).unwrap()
        })
        .find(|report| !has(&report.committee, "full-1"))
        .unwrap();
        world.mesh.upload(report.bytes).unwrap();
    }
    assert_eq!(world.completed().reports, 4);
}

/// What is done to a share, and the reason it is refused for.
type Wrong<'a> = (&'static str, &'a dyn Fn(&mut PlaintextShare));

#[test]
fn a_wrong_share_to_any_one_member_is_refused_with_its_reason_and_costs_nobody_else_anything() {
    let broken = |payload: &mut Vec<u8>| {
        let middle = payload.len() / 2;
        payload[middle] ^= 1;
    };
    for place in 0..3 {
        let cases: [Wrong<'_>; 3] = [
            ("invalid-proof", &|plain| broken(&mut plain.payload)),
            ("invalid-share", &|plain| plain.payload.truncate(7)),
            ("wrong-round", &|plain| {
                plain.extensions[0] = Extension::round(9)
            }),
        ];
        for (reason, change) in cases {
            let mut world = three(3, Scheme::Pine64);
            let updates: Vec<_> = (0..2).map(|_| update(&world, false)).collect();
            let before = world.model();
            for update in &updates {
                let report = person(&world, update);
                world.mesh.upload(report.bytes).unwrap();
            }
            let report = world.forged(ReportId([9; 16]), |at, plain| {
                if at == place {
                    change(plain);
                }
            });
            let uploaded = world.mesh.upload(report.get_encoded().unwrap());
            // The leader sees at once what is wrong with its own share alone.
            let alone = place == 0 && reason != "invalid-proof";
            match alone {
                true => assert_eq!(uploaded.unwrap_err().slug(), reason),
                false => assert_eq!(uploaded, Ok(())),
            }
            let done = world.completed();
            assert_eq!(done.reports, 2);
            let rejected: Vec<_> = done
                .rejected
                .iter()
                .map(|(r, n)| (r.as_str(), *n))
                .collect();
            match alone {
                true => assert!(rejected.is_empty()),
                false => assert_eq!(rejected, [(reason, 1)], "share {place}"),
            }
            let each: Vec<_> = updates.iter().zip([1; 2]).collect();
            assert_eq!(done.model, expected(&world, &before, &each));
        }
    }
}

#[test]
fn a_changed_seal_another_number_of_shares_and_a_repeated_id_are_refused() {
    let mut world = three(4, Scheme::Pine64);
    for _ in 0..2 {
        let report = person(&world, &update(&world, false));
        world.mesh.upload(report.bytes).unwrap();
    }
    // As the honest report of the forger's own machinery, but for one byte on the way to one of the helpers.
    for place in 1..3_u8 {
        let mut report = world.forged(ReportId([place; 16]), |_, _| {});
        report.sealed[usize::from(place)].payload[5] ^= 1;
        world.mesh.upload(report.get_encoded().unwrap()).unwrap();
    }
    let honest = world.forged(ReportId([8; 16]), |_, _| {});
    let mut fewer = honest.clone();
    fewer.sealed.pop();
    let mut more = honest.clone();
    more.sealed.push(more.sealed[1].clone());
    for other in [fewer, more] {
        let refused = world.mesh.upload(other.get_encoded().unwrap());
        assert_eq!(refused, Err(Reason::Malformed));
    }
    // The helpers' shares changed about: each is sealed for its seat.
    let mut swapped = world.forged(ReportId([7; 16]), |_, _| {});
    swapped.sealed.swap(1, 2);
    world.mesh.upload(swapped.get_encoded().unwrap()).unwrap();
    world.mesh.upload(honest.get_encoded().unwrap()).unwrap();
    world.mesh.upload(honest.get_encoded().unwrap()).unwrap();
    let other = world.forged(ReportId([8; 16]), |_, _| {});
    let again = world.mesh.upload(other.get_encoded().unwrap());
    assert_eq!(again, Err(Reason::Replayed));
    let done = world.completed();
    assert_eq!(done.reports, 3);
    let rejected: u64 = done.rejected.values().sum();
    assert_eq!(rejected, 3, "{:?}", done.rejected);
    assert!(done.rejected.contains_key("seal-broken"));
}

#[test]
fn two_members_cannot_open_what_is_sealed_for_the_third() {
    let world = three(3, Scheme::Pine64);
    let report = world.forged(ReportId([3; 16]), |_, _| {});
    let committee = world.mesh.committee_of(&report.metadata.id).unwrap();
    let task = world.mesh.manifest().task();
    for (at, member) in committee.members().iter().enumerate() {
        let secrets = world.mesh.secrets(&member.node).unwrap();
        for (place, sealed) in report.sealed.iter().enumerate() {
            let opened = secrets.sealing.open(
                Seat::of(place, 3),
                &task,
                &report.metadata,
                &report.public_share,
                sealed,
            );
            assert_eq!(opened.is_ok(), at == place);
        }
    }
}
