//! Which validator is asked first. Everybody's turn comes, so that one that holds back what is new does so for a moment only.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long one is asked first, before it is the next one's turn.
const TURN: Duration = Duration::from_secs(2);
/// How long one that failed is asked last; doubled each time it fails again.
const OUT: Duration = Duration::from_secs(5);
/// How often that is doubled at most.
const DOUBLED: u32 = 5;

/// The validators by their places.
pub struct Turns {
    count: usize,
    first: usize,
    until: Option<Instant>,
    /// Who failed: how often, and until when it is asked last.
    out: BTreeMap<usize, (u32, Instant)>,
}

impl Turns {
    /// Of so many.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            first: 0,
            until: None,
            out: BTreeMap::new(),
        }
    }

    /// All places, in the order in which they are to be asked now.
    pub fn order(&mut self, now: Instant) -> Vec<usize> {
        match self.until {
            Some(until) if now < until => {}
            before => {
                if before.is_some() {
                    self.first = (self.first + 1) % self.count.max(1);
                }
                self.until = Some(now + TURN);
            }
        }
        let all = (0..self.count).map(|step| (self.first + step) % self.count);
        let (last, mut order): (Vec<_>, Vec<_>) =
            all.partition(|at| self.out.get(at).is_some_and(|(_, until)| now < *until));
        order.extend(last);
        order
    }

    /// This one gave the newest answer: it is asked first for the rest of the turn.
    pub fn answered(&mut self, at: usize) {
        self.out.remove(&at);
        self.first = at;
    }

    /// This one failed.
    pub fn failed(&mut self, at: usize, now: Instant) {
        let (times, _) = self.out.get(&at).copied().unwrap_or((0, now));
        let until = now + OUT * 2_u32.pow(times.min(DOUBLED));
        self.out.insert(at, (times + 1, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_and_who_fails_is_asked_last() {
        let begun = Instant::now();
        let mut turns = Turns::new(4);
        assert_eq!(turns.order(begun), [0, 1, 2, 3]);
        assert_eq!(turns.order(begun + TURN), [1, 2, 3, 0]);
        turns.failed(1, begun + TURN);
        assert_eq!(turns.order(begun + TURN), [2, 3, 0, 1]);
        assert_eq!(turns.order(begun + 2 * TURN), [2, 3, 0, 1]);
        turns.answered(3);
        assert_eq!(turns.order(begun + 2 * TURN), [3, 0, 2, 1]);
        // It is taken up again, and longer left out each time.
        let later = begun + TURN + OUT;
        assert_eq!(turns.order(later).last(), Some(&3));
        turns.failed(1, later);
        assert_eq!(turns.order(later + OUT).last(), Some(&1));
    }
}
