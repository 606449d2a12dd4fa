//! Committees: which two full nodes check a report together, by numbers alone.

use sha2::{Digest as _, Sha256};

use crate::{Digest, ReportId, TaskId};

/// A committee's number in its task, from 0.
pub type CommitteeIndex = u32;

/// How many committees a task of so many full nodes has: all ordered pairs.
pub fn committee_count(members: usize) -> CommitteeIndex {
    let members = CommitteeIndex::try_from(members).unwrap_or(0);
    members.saturating_mul(members.saturating_sub(1))
}

/// Leader and helper of a committee, as places among the task's full nodes. `None` beyond the last one.
///
/// By distance from leader to helper: the first committees have every member once in each seat.
pub fn committee_seats(members: usize, index: CommitteeIndex) -> Option<(usize, usize)> {
    if index >= committee_count(members) {
        return None;
    }
    let at = usize::try_from(index).ok()?;
    let leader = at.checked_rem(members)?;
    let distance = at.checked_div(members)? + 1;
    Some((leader, (leader + distance) % members))
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
            let pairs: BTreeSet<_> = (0..committee_count(members))
                .map(|index| committee_seats(members, index).unwrap())
                .collect();
            assert_eq!(pairs.len(), members * members.saturating_sub(1));
            assert!(pairs.iter().all(|(leader, helper)| leader != helper));
            assert_eq!(committee_seats(members, committee_count(members)), None);
        }
    }
}
