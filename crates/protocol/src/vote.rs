//! Private votes on a round's model: each report carries one, for the bin of accuracy that the model reaches on the contributor's
//! own rows. Only the count of each bin is ever seen.
//!
//! A round's votes are on the model that it starts from, which is what the round before made.

use crate::VerifiedManifest;

/// Bins, unless a task's manifest says otherwise.
pub const BINS: u8 = 10;
/// With fewer votes, the lowest quarter is fewer than eight contributors: a few with bad luck are no group.
pub const FEWEST_VOTES: u64 = 32;

/// How many deviations of noise are allowed for.
const DEVIATIONS: f64 = 4.0;

/// The votes of a round, as far as noise lets them be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    bins: Vec<i64>,
    votes: u64,
    /// Of the noise in a bin, in votes.
    deviation: f64,
}

/// The bin of an accuracy from 0 to 1, out of so many of the same width.
pub fn bin_of(accuracy: f64, bins: u8) -> usize {
    // Safe: a cast from f64 saturates, and NaN gives 0.
    let bin = (accuracy * f64::from(bins)) as usize;
    bin.min(usize::from(bins).saturating_sub(1))
}

impl Tally {
    /// The count of each bin in a round of so many reports, whose total has the noise of so many full nodes. None if the task has
    /// no votes, or these are not its bins.
    pub fn new(task: &VerifiedManifest, bins: &[i64], reports: u64, nodes: usize) -> Option<Self> {
        if bins.is_empty() || bins.len() != usize::from(task.vdaf.votes) {
            return None;
        }
        let deviation = match &task.privacy {
            None => 0.0,
            Some(privacy) => privacy.vote_deviation(&task.vdaf, nodes).ok()?,
        };
        Some(Self {
            bins: bins.to_vec(),
            votes: reports,
            deviation,
        })
    }

    /// The count of each bin, from the lowest accuracy to the highest. Noise makes some negative.
    pub fn bins(&self) -> &[i64] {
        &self.bins
    }

    /// How many have voted: one of each accepted report.
    pub const fn votes(&self) -> u64 {
        self.votes
    }

    /// Standard deviation of the noise in each count; 0 if there is none.
    pub const fn deviation(&self) -> f64 {
        self.deviation
    }

    /// Whether these can be the counts of so many votes: none below nothing, and all of them together, up to noise.
    pub fn adds_up(&self) -> bool {
        let most = 6.0 * self.deviation;
        let sum: f64 = self.bins.iter().map(|count| *count as f64).sum();
        let bins = self.bins.len() as f64;
        // Every count is rounded.
        let rounding = if self.deviation > 0.0 { bins } else { 0.0 };
        (sum - self.votes as f64).abs() <= most * bins.sqrt() + rounding
            && self
                .bins
                .iter()
                .all(|count| *count as f64 >= -most - rounding)
    }

    /// Mean accuracy over all votes, by the bins' middles, from 0 to 1.
    pub fn mean(&self) -> f64 {
        self.mean_of_lowest(self.votes as f64)
    }

    /// Mean accuracy of the quarter of votes with the lowest.
    pub fn worst_quarter(&self) -> f64 {
        self.mean_of_lowest(self.votes as f64 / 4.0)
    }

    /// How far the worst quarter lies behind the mean.
    pub fn gap(&self) -> f64 {
        (self.mean() - self.worst_quarter()).max(0.0)
    }

    /// By how much noise may have widened the gap: by a misplaced vote's share of all, and of the quarter, for as many votes as
    /// noise misplaces almost never.
    pub fn allowance(&self) -> f64 {
        let bins = self.bins.len() as f64;
        // The mean of a normal variable's absolute value is 0.8 deviations, and the deviation of that is 0.6.
        let misplaced = (0.8 * bins + DEVIATIONS * 0.6 * bins.sqrt()) * self.deviation;
        5.0 * misplaced / (self.votes as f64).max(1.0)
    }

    /// Whether a group has fallen behind by more than this, in parts per million: noise and chance of the few do not count.
    pub fn leaves_behind(&self, most_ppm: u32) -> bool {
        self.votes >= FEWEST_VOTES
            && self.gap() > f64::from(most_ppm) / 1e6 + self.allowance() + 1e-9
    }

    /// Mean accuracy of so many votes, from the lowest bin up.
    fn mean_of_lowest(&self, votes: f64) -> f64 {
        let (mut left, mut sum) = (votes, 0.0);
        for (at, count) in self.bins.iter().enumerate() {
            let taken = (*count as f64).clamp(0.0, left.max(0.0));
            sum += taken * (at as f64 + 0.5) / self.bins.len() as f64;
            left -= taken;
        }
        let counted = votes - left;
        if counted > 0.0 { sum / counted } else { 0.0 }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "by {} private votes the model is right on {:.0} % of a contributor's rows on average, but on {:.0} % for the quarter that it serves worst",
            self.votes,
            self.mean() * 100.0,
            self.worst_quarter() * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(bins: &[i64], deviation: f64) -> Tally {
        Tally {
            bins: bins.to_vec(),
            votes: bins.iter().sum::<i64>().unsigned_abs(),
            deviation,
        }
    }

    #[test]
    fn an_accuracy_has_one_bin() {
        assert_eq!(bin_of(0.0, 10), 0);
        assert_eq!(bin_of(0.099, 10), 0);
        assert_eq!(bin_of(0.1, 10), 1);
        assert_eq!(bin_of(0.999, 10), 9);
        assert_eq!(bin_of(1.0, 10), 9, "the best is in the last bin");
        for none in [f64::NAN, -1.0] {
            assert_eq!(bin_of(none, 10), 0);
        }
    }

    #[test]
    fn a_quarter_that_falls_behind_is_seen() {
        // Three in four at 95 %, one at 5 %.
        let split = tally(&[10, 0, 0, 0, 0, 0, 0, 0, 0, 30], 0.0);
        assert!((split.mean() - 0.725).abs() < 1e-9);
        assert!((split.worst_quarter() - 0.05).abs() < 1e-9);
        assert!(split.leaves_behind(300_000));
        assert!(!split.leaves_behind(680_000));
        // All alike, wherever that is.
        assert!(!tally(&[0, 0, 40, 0, 0, 0, 0, 0, 0, 0], 0.0).leaves_behind(0));
        // The spread of a few rows each.
        let spread = tally(&[0, 0, 0, 0, 0, 0, 4, 8, 16, 12], 0.0);
        assert!(!spread.leaves_behind(300_000));
        // Two of seven are two people.
        assert!(!tally(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 5], 0.0).leaves_behind(300_000));
    }

    #[test]
    fn noise_leaves_nobody_behind() {
        // The same votes, hidden by noise that may have made them.
        let split = [10, 0, 0, 0, 0, 0, 0, 0, 0, 30];
        assert!(!tally(&split, 2.0).leaves_behind(300_000));
        let many = split.map(|count| count * 100);
        assert!(tally(&many, 2.0).leaves_behind(300_000));
    }

    #[test]
    fn counts_that_nobody_can_have_cast_do_not_add_up() {
        let honest = tally(&[10, 0, 30], 0.0);
        assert!(honest.adds_up());
        for bins in [[11, 0, 30], [10, -1, 31], [0, 0, 0]] {
            let changed = Tally {
                bins: bins.to_vec(),
                ..honest.clone()
            };
            assert!(!changed.adds_up(), "{bins:?}");
        }
        let noisy = Tally {
            bins: vec![12, -3, 29],
            votes: 40,
            deviation: 2.0,
        };
        assert!(noisy.adds_up());
    }
}
