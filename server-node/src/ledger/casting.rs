//! What a validation node has sent to the ledger and waits to see there, each under its own number.

use std::collections::BTreeMap;

/// How long something may take to come into a block before it is sent again.
pub const AGAIN_MS: u64 = 5_000;

/// Transactions of one account that are under way, by what they are for.
#[derive(Debug)]
pub struct UnderWay<K>(BTreeMap<K, (u64, u64)>);

impl<K> Default for UnderWay<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> UnderWay<K> {
    /// Forget those that are not waited for any longer.
    pub fn retain(&mut self, waited: impl Fn(&K) -> bool) {
        self.0.retain(|what, _| waited(what));
    }

    /// Whether it was sent so lately that it is not sent again.
    pub fn has(&self, what: &K, now: u64) -> bool {
        self.0
            .get(what)
            .is_some_and(|(_, at)| now < at.saturating_add(AGAIN_MS))
    }

    /// The number for the next transaction, if the account's next one on the ledger is `next`: none that is under way.
    pub fn number(&self, next: u64, now: u64) -> u64 {
        let taken = |number: u64| {
            let mut under_way = self.0.values();
            under_way.any(|(of, at)| *of == number && now < at.saturating_add(AGAIN_MS))
        };
        (next..).find(|number| !taken(*number)).unwrap_or(next)
    }

    /// It was sent under this number.
    pub fn sent(&mut self, what: K, number: u64, now: u64) {
        self.0.insert(what, (number, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_together_has_different_numbers_and_what_is_lost_is_sent_again() {
        let mut votes = UnderWay::default();
        for (vote, number) in [('a', 7), ('b', 8), ('c', 9)] {
            assert!(!votes.has(&vote, 100));
            assert_eq!(votes.number(7, 100), number);
            votes.sent(vote, number, 100);
            assert!(votes.has(&vote, 101));
        }
        // The first is in a block.
        assert_eq!(votes.number(8, 200), 10);
        // The others are not, and so they are sent once more.
        let later = 100 + AGAIN_MS;
        assert!(!votes.has(&'b', later));
        assert_eq!(votes.number(8, later), 8);
        votes.sent('b', 8, later);
        assert_eq!(votes.number(8, later), 9);
        votes.retain(|vote| *vote == 'c');
        assert_eq!(votes.number(8, later), 8);
    }
}
