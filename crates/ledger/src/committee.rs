//! Committees: which full nodes check a report together, by numbers alone.
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

use sha2::{Digest as _, Sha256};

use crate::{Digest, ReportId, TaskId, limits};

/// A committee's number in its task, from 0.
pub type CommitteeIndex = u32;

/// How many committees a task of so many full nodes has: as many as there are ordered pairs, also with three shares.
/// None if there are fewer full nodes than shares, or a report cannot have so many shares.
pub fn committee_count(members: usize, shares: u8) -> CommitteeIndex {
    if !limits::SHARES.contains(&shares) || members < usize::from(shares) {
        return 0;
    }
    let members = CommitteeIndex::try_from(members).unwrap_or(0);
    members.saturating_mul(members.saturating_sub(1))
}

/// The seats of a committee as places among the task's full nodes: the leader, then its helpers; as many as a report has
/// shares. `None` beyond the last one.
pub fn committee_seats(members: usize, shares: u8, index: CommitteeIndex) -> Option<Vec<usize>> {
    if index >= committee_count(members, shares) {
        return None;
    }
    let at = usize::try_from(index).ok()?;
    let leader = at.checked_rem(members)?;
    let mut distance = at.checked_div(members)? + 1;
    let mut seats = vec![leader];
    while seats.len() < usize::from(shares) {
        seats.push((leader + distance).checked_rem(members)?);
        // The next place, and after the last one the first behind the leader.
        distance = distance.checked_rem(members.checked_sub(1)?)? + 1;
    }
    Some(seats)
}

/// The committee that checks a report: `SHA-256("defim v1 committee\0", task, randomness, report id)` as a number, modulo the number of committees.
pub fn committee_of_report(
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_ordered_pair_is_a_committee_once() {
        for members in 0..=7 {
            let pairs: BTreeSet<_> = (0..committee_count(members, 2))
                .map(|index| committee_seats(members, 2, index).unwrap())
                .collect();
            assert_eq!(pairs.len(), members * members.saturating_sub(1));
            assert!(
                pairs
                    .iter()
                    .all(|seats| seats.len() == 2 && seats[0] != seats[1])
            );
            assert_eq!(
                committee_seats(members, 2, committee_count(members, 2)),
                None
            );
        }
    }

    #[test]
    fn of_three_shares_nobody_has_two_and_no_committee_comes_twice() {
        for members in 3..=limits::MEMBERS {
            let count = committee_count(members, 3);
            assert_eq!(
                count,
                committee_count(members, 2),
                "as many as of two shares"
            );
            let all: BTreeSet<_> = (0..count)
                .map(|index| {
                    let seats = committee_seats(members, 3, index).unwrap();
                    // Leader and first helper are those of two shares.
                    assert_eq!(committee_seats(members, 2, index).unwrap(), seats[..2]);
                    seats
                })
                .collect();
            assert_eq!(all.len(), count as usize);
            for seats in &all {
                assert_eq!(seats.iter().collect::<BTreeSet<_>>().len(), 3, "{seats:?}");
                assert!(seats.iter().all(|seat| *seat < members));
            }
            assert_eq!(committee_seats(members, 3, count), None);
        }
    }

    #[test]
    fn there_is_no_committee_of_more_shares_than_nodes_or_than_there_can_be() {
        for (members, shares) in [(2, 3), (1, 2), (0, 2), (5, 0), (5, 1), (5, 4), (300, 255)] {
            assert_eq!(committee_count(members, shares), 0);
            assert_eq!(committee_seats(members, shares, 0), None);
        }
    }
}
