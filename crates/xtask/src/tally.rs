//! Counting what test runners report in their own words.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, timed out or could not run.
    pub failed: u64,
    /// Tests that were left out.
    pub skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Tally {
    /// A runner that ended badly without naming a failed test (it did not build, say) is one failure.
    pub fn with_verdict(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// A suite in which nothing passed is a failure, whatever its runner says: its tests were lost.
    pub fn of_suite(mut self) -> Self {
        if self.passed == 0 && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// Reads nextest's `Summary [...] 12 tests run: 11 passed (1 slow), 1 failed, 2 skipped`.
    pub fn of_nextest(text: &str) -> Self {
        let mut tally = Self::default();
        let summary = text
            .lines()
            .rfind(|line| line.trim_start().starts_with("Summary ["));
        let counts = summary
            .and_then(|line| line.split_once("run:"))
            .map(|(_, counts)| counts)
            .unwrap_or_default();
        for part in counts.split(',') {
            let mut words = part.split_whitespace();
            let count = words
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0);
            match words.next() {
                Some("passed") => tally.passed += count,
                Some("failed" | "timed" | "exec") => tally.failed += count,
                Some("skipped") => tally.skipped += count,
                _ => {}
            }
        }
        tally
    }

    /// Reads every `test result: ok. 3 passed; 0 failed; ...` of cargo's own runner.
    pub fn of_cargo_test(text: &str) -> Self {
        let mut tally = Self::default();
        for line in text.lines().filter(|l| l.starts_with("test result:")) {
            for part in line.split([';', '.']) {
                match part.trim().split_once(' ') {
                    Some((n, "passed")) => tally.passed += n.parse().unwrap_or(0),
                    Some((n, "failed")) => tally.failed += n.parse().unwrap_or(0),
                    Some((n, "ignored")) => tally.skipped += n.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        tally
    }

    /// Reads node's closing `# pass 3`, `# fail 0`, `# cancelled 0`, `# skipped 1`, in either of its reporters.
    pub fn of_node(text: &str) -> Self {
        let mut tally = Self::default();
        for line in text.lines() {
            let Some(rest) = line
                .strip_prefix("# ")
                .or_else(|| line.strip_prefix("\u{2139} "))
            else {
                continue;
            };
            match rest.trim().split_once(' ') {
                Some(("pass", n)) => tally.passed += n.parse().unwrap_or(0),
                Some(("fail" | "cancelled", n)) => tally.failed += n.parse().unwrap_or(0),
                Some(("skipped" | "todo", n)) => tally.skipped += n.parse().unwrap_or(0),
                _ => {}
            }
        }
        tally
    }

    /// Reads the last line that is a tally in our own words.
    pub fn of_ours(text: &str) -> Option<Self> {
        text.lines().rev().find_map(|line| {
            let (passed, rest) = line.trim().split_once(" passed, ")?;
            let (failed, rest) = rest.split_once(" failed, ")?;
            Some(Self {
                passed: passed.parse().ok()?,
                failed: failed.parse().ok()?,
                skipped: rest.strip_suffix(" skipped")?.parse().ok()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn nextest_summaries() {
        let good = "     Summary [   0.052s] 12 tests run: 12 passed, 3 skipped\n";
        assert_eq!(Tally::of_nextest(good), tally(12, 0, 3));
        let one = "     Summary [   0.002s] 1 test run: 1 passed, 0 skipped\n";
        assert_eq!(Tally::of_nextest(one), tally(1, 0, 0));
        let bad = "     Summary [  61.2s] 9/12 tests run: 5 passed (1 slow, 1 flaky), 2 failed, \
                   1 timed out, 1 exec failed, 3 skipped\n        FAIL [ 0.1s] crate test\n";
        assert_eq!(Tally::of_nextest(bad), tally(5, 4, 3));
        let build = "error: could not compile `defim`";
        assert_eq!(Tally::of_nextest(build).with_verdict(false), tally(0, 1, 0));
    }

    #[test]
    fn doctest_results_add_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(Tally::of_cargo_test(text), tally(4, 2, 1));
    }

    #[test]
    fn both_of_nodes_reporters() {
        let tap = "# tests 4\n# pass 3\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n";
        assert_eq!(Tally::of_node(tap), tally(3, 1, 0));
        let spec = "\u{2139} tests 4\n\u{2139} pass 2\n\u{2139} fail 1\n\u{2139} cancelled 1\n\
                    \u{2139} skipped 2\n\u{2139} todo 1\n";
        assert_eq!(Tally::of_node(spec), tally(2, 2, 3));
    }

    #[test]
    fn our_own_line_is_the_last_of_its_kind() {
        let text =
            "1 passed, 0 failed, 0 skipped\nnoise\n17 passed, 2 failed, 3 skipped\nFAIL native\n";
        assert_eq!(Tally::of_ours(text), Some(tally(17, 2, 3)));
        assert_eq!(Tally::of_ours("nothing"), None);
        assert_eq!(
            tally(17, 2, 3).to_string(),
            "17 passed, 2 failed, 3 skipped"
        );
    }

    #[test]
    fn a_bad_end_counts_once() {
        assert_eq!(tally(5, 2, 0).with_verdict(false), tally(5, 2, 0));
        assert_eq!(tally(5, 0, 0).with_verdict(false), tally(5, 1, 0));
        assert_eq!(tally(5, 0, 0).with_verdict(true), tally(5, 0, 0));
    }

    #[test]
    fn a_suite_in_which_nothing_passed_has_failed() {
        assert_eq!(tally(0, 0, 0).of_suite(), tally(0, 1, 0));
        assert_eq!(tally(0, 0, 9).of_suite(), tally(0, 1, 9));
        assert_eq!(tally(0, 2, 0).of_suite(), tally(0, 2, 0));
        assert_eq!(tally(1, 0, 9).of_suite(), tally(1, 0, 9));
    }
}
