//! Committees: which full nodes check a report together.
//!
//! With `n` full nodes a task has `n (n - 1)` committees, numbered from 0. Committee `c` is led by the member at place
//! `c mod n`. With `d = c div n + 1`, its helper is the member `d` places after the leader, around the end; so every
//! ordered pair is a committee once. With three shares the second helper is the member `d mod (n - 1) + 1` places after
//! the leader: the next one, the leader left out. Hence
//!
//! - of each `n` committees in a row, every member has each seat once;
//! - with three full nodes every ordered triple is a committee once, and with four every leader has every pair of helpers once;
//! - there are no more batches to agree on and to sign for than with two shares; all ordered triples of 32 would be 29,760.
//!   What is left out are triples that are no neighbours: of five or more full nodes, three that collude are 3 committees
//!   if they sit side by side, and fewer otherwise.
//!
//! Which committee checks a report follows from the round and the report's id: nobody needs to be told, and every node
//! checks it.

use std::ops::Deref;

use sha2::{Digest as _, Sha256};

use crate::{
    Digest, Member, NodeId, ReportId, TaskId, VerifiedManifest, VerifiedRound, seal::Seat,
};

/// A committee's number in its task, from 0.
pub type CommitteeIndex = u32;

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
        // At most 32 members.
        let members = self.members.len() as CommitteeIndex;
        members * (members - 1)
    }

    /// A committee by its number.
    pub fn committee(&self, index: CommitteeIndex) -> Option<Committee> {
        (index < self.committee_count()).then(|| self.seated(index))
    }

    fn seated(&self, index: CommitteeIndex) -> Committee {
        let members = self.members.len();
        let (leader, mut distance) = (index as usize % members, index as usize / members + 1);
        let mut seats = vec![leader];
        while seats.len() < usize::from(self.vdaf.shares) {
            seats.push((leader + distance) % members);
            // The next place, and after the last one the first behind the leader.
            distance = distance % (members - 1) + 1;
        }
        Committee {
            task: self.clone(),
            index,
            seats,
        }
    }

    /// All committees, in their order.
    pub fn committees(&self) -> impl Iterator<Item = Committee> {
        (0..self.committee_count()).filter_map(|index| self.committee(index))
    }

    /// The committee that checks this report: uniform over all, and settled once round and id are.
    pub fn committee_of(&self, round: &VerifiedRound, report: &ReportId) -> Committee {
        let index = assigned(
            &self.task(),
            &round.randomness(),
            report,
            self.committee_count(),
        );
        self.seated(index)
    }
}

/// `SHA-256(label, task, randomness, report id)` as a number, modulo the number of committees.
fn assigned(
    task: &TaskId,
    randomness: &Digest,
    report: &ReportId,
    committees: CommitteeIndex,
) -> CommitteeIndex {
    let mut hash = Sha256::new_with_prefix(b"defim v1 committee\0");
    hash.update(task.0);
    hash.update(randomness.0);
    hash.update(report.0);
    let digest: [u8; 32] = hash.finalize().into();
    let mut number = [0; 8];
    number.copy_from_slice(digest.first_chunk::<8>().unwrap_or(&[0; 8]));
    // At most 992 committees: the modulo's bias is below 2^-54.
    (u64::from_be_bytes(number) % u64::from(committees.max(1))) as CommitteeIndex
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{NodeKey, RoundOpened, manifest::tests::manifest_of};

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
