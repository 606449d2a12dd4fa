//! Committees: which full nodes check a report together.
//!
//! Their numbers and seats are the ledger's rule ([`defim_ledger::committee_seats`]), for two and for three shares.
//!
//! Which committee checks a report follows from the round and the report's id: nobody needs to be told, and every node
//! checks it.

use std::ops::Deref;

pub use defim_ledger::CommitteeIndex;
use defim_ledger::{committee_count, committee_of_report, committee_seats};

use crate::{Member, NodeId, ReportId, VerifiedManifest, VerifiedRound, seal::Seat};

/// A task as one of its committees serves it.
#[derive(Debug, Clone)]
pub struct Committee {
    task: VerifiedManifest,
    index: CommitteeIndex,
    /// Places in the manifest, leader first.
    seats: Vec<usize>,
}

impl Committee {
    /// Its number.
    pub fn index(&self) -> CommitteeIndex {
        self.index
    }

    /// The member that takes uploads and drives preparation.
    pub fn leader(&self) -> &Member {
        let leader = self.seats.first().copied().unwrap_or_default();
        // Safe: `VerifiedManifest::committee` has counted the members.
        #[expect(clippy::indexing_slicing)]
        &self.task.members[leader]
    }

    /// The members that answer the leader, in the order of their seats.
    pub fn helpers(&self) -> Vec<&Member> {
        self.members().split_off(1)
    }

    /// Leader, then helpers; as many as a report has shares.
    pub fn members(&self) -> Vec<&Member> {
        // Safe: `VerifiedManifest::committee` has counted the members.
        #[expect(clippy::indexing_slicing)]
        let member = |at: &usize| &self.task.members[*at];
        self.seats.iter().map(member).collect()
    }

    /// The seat that a node has here.
    pub fn seat_of(&self, node: &NodeId) -> Option<Seat> {
        let members = self.members();
        let place = members.iter().position(|member| member.node == *node)?;
        Some(Seat::of(place, self.seats.len()))
    }
}

impl Deref for Committee {
    type Target = VerifiedManifest;

    fn deref(&self) -> &VerifiedManifest {
        &self.task
    }
}

impl VerifiedManifest {
    /// How many committees the task has: as many as there are ordered pairs of full nodes, also with three shares.
    pub fn committee_count(&self) -> CommitteeIndex {
        committee_count(self.members.len(), self.vdaf.shares)
    }

    /// A committee by its number.
    pub fn committee(&self, index: CommitteeIndex) -> Option<Committee> {
        let seats = committee_seats(self.members.len(), self.vdaf.shares, index)?;
        Some(Committee {
            task: self.clone(),
            index,
            seats,
        })
    }

    /// All committees, in their order.
    pub fn committees(&self) -> impl Iterator<Item = Committee> {
        (0..self.committee_count()).filter_map(|index| self.committee(index))
    }

    /// The committee that checks this report: uniform over all, and settled once round and id are. A manifest has at least
    /// as many members as a report has shares, so there is one.
    pub fn committee_of(&self, round: &VerifiedRound, report: &ReportId) -> Committee {
        let index = committee_of_report(
            &self.task(),
            &round.randomness(),
            report,
            self.committee_count(),
        );
        self.committee(index).unwrap_or_else(|| Committee {
            task: self.clone(),
            index: 0,
            seats: (0..self.vdaf.shares.into()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{Digest, NodeKey, RoundOpened, manifest::tests::manifest_of};

    #[test]
    fn every_ordered_pair_is_a_committee_once() {
        let key = NodeKey::from_seed([9; 32]);
        for members in 2..=7 {
            let task =
                VerifiedManifest::verify(manifest_of(&key, members).sign(&key).unwrap(), None)
                    .unwrap();
            let pairs: BTreeSet<_> = task
                .committees()
                .map(|c| (c.leader().node, c.helpers()[0].node))
                .collect();
            let n = usize::from(members);
            assert_eq!(pairs.len(), n * (n - 1));
            assert!(pairs.iter().all(|(leader, helper)| leader != helper));
            assert!(task.committee(task.committee_count()).is_none());
            // Each member leads and helps the same number of times among the first n.
            let leaders: BTreeSet<_> = task.committees().take(n).map(|c| c.leader().node).collect();
            assert_eq!(leaders.len(), n);
        }
    }

    #[test]
    fn the_ids_that_keys_have_spread_evenly_over_committees_and_anew_each_round() {
        let key = NodeKey::from_seed([9; 32]);
        let mut manifest = manifest_of(&key, 4);
        manifest.admission = Some(crate::AdmissionRule::Open);
        let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
        let round = |round| {
            let opened = RoundOpened {
                task: task.task(),
                round,
                base_model: Digest([0; 32]),
                opened_ms: 1,
                deadline_ms: 2,
                weights: BTreeMap::new(),
            };
            VerifiedRound::verify(opened.sign(&key).unwrap(), &task).unwrap()
        };
        let keys: Vec<_> = (0_u128..12_000)
            .map(|n| NodeId(Digest::of(&n.to_be_bytes()).0))
            .collect();
        let rounds = [round(1), round(2)];
        let mut pairs = BTreeMap::<_, u32>::new();
        for key in &keys {
            let at = rounds.each_ref().map(|round| {
                let id = round.enrolled_report(key).unwrap();
                task.committee_of(round, &id).index()
            });
            *pairs.entry(at).or_default() += 1;
        }
        // Chi-square over all pairs of committees in two rounds: 143 degrees of freedom, five standard deviations.
        let expected = 12_000.0 / 144.0;
        let seen = (0..12).flat_map(|a| (0..12).map(move |b| [a, b]));
        let chi: f64 = seen
            .map(|at| f64::from(pairs.get(&at).copied().unwrap_or(0)) - expected)
            .map(|d| d * d / expected)
            .sum();
        assert!((143.0 - 85.0..143.0 + 85.0).contains(&chi), "{chi}");
        let ids: BTreeSet<_> = rounds
            .iter()
            .flat_map(|round| keys.iter().map(|key| round.enrolled_report(key).unwrap()))
            .collect();
        assert_eq!(ids.len(), 24_000, "no two have the same");
    }

    #[test]
    fn of_three_shares_each_member_has_each_seat_equally_often() {
        let key = NodeKey::from_seed([9; 32]);
        for members in 3..=8 {
            let mut manifest = manifest_of(&key, members);
            manifest.vdaf.shares = 3;
            let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
            let n = usize::from(members);
            let all: Vec<Vec<_>> = task
                .committees()
                .map(|c| c.members().iter().map(|m| m.node).collect())
                .collect();
            assert_eq!(all.len(), n * (n - 1));
            let different: BTreeSet<_> = all.iter().collect();
            assert_eq!(different.len(), all.len(), "no committee comes twice");
            for turn in all.chunks(n) {
                for seat in 0..3 {
                    let once: BTreeSet<_> = turn.iter().map(|members| members[seat]).collect();
                    assert_eq!(once.len(), n);
                }
            }
            let mut sizes = BTreeMap::<_, u32>::new();
            for members in &all {
                let set: BTreeSet<_> = members.iter().collect();
                assert_eq!(set.len(), 3, "nobody has two shares");
                *sizes.entry(set).or_default() += 1;
            }
            let most = *sizes.values().max().unwrap();
            assert_eq!(most, if n == 3 { 6 } else { 3 });
            let seats = [0, 1, 2].map(|place| Seat::of(place, 3));
            let first = task.committee(0).unwrap();
            for (seat, node) in seats.iter().zip(&all[0]) {
                assert_eq!(first.seat_of(node), Some(*seat));
            }
        }
    }

    #[test]
    fn reports_spread_over_all_committees_and_differently_each_round() {
        let key = NodeKey::from_seed([9; 32]);
        let task =
            VerifiedManifest::verify(manifest_of(&key, 3).sign(&key).unwrap(), None).unwrap();
        let round = |round| {
            let opened = RoundOpened {
                task: task.task(),
                round,
                base_model: Digest([0; 32]),
                opened_ms: 1,
                deadline_ms: 2,
                weights: std::collections::BTreeMap::new(),
            };
            VerifiedRound::verify(opened.sign(&key).unwrap(), &task).unwrap()
        };
        let (first, second) = (round(1), round(2));
        let mut counts = BTreeMap::<_, u32>::new();
        let mut moved = 0;
        for n in 0_u128..6000 {
            let id = ReportId(n.to_be_bytes());
            let one = task.committee_of(&first, &id).index();
            assert_eq!(one, task.committee_of(&first, &id).index());
            *counts.entry(one).or_default() += 1;
            moved += u32::from(one != task.committee_of(&second, &id).index());
        }
        assert_eq!(counts.len(), 6);
        // Five standard deviations around 1000 and 5000.
        assert!(
            counts.values().all(|n| (850..=1150).contains(n)),
            "{counts:?}"
        );
        assert!((4850..=5150).contains(&moved), "{moved}");
    }
}
