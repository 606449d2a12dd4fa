//! Who is paid what for a finished round: a pure function.

use std::collections::BTreeMap;

use crate::{NodeId, Split};

/// What was done in a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Accepted reports of all batches.
    pub reports: u64,
    /// For each member, the accepted reports of the batches it signed.
    pub verified: BTreeMap<NodeId, u64>,
    /// The aggregation node.
    pub aggregation: Option<NodeId>,
    /// The validators whose votes finished the round.
    pub voters: Vec<NodeId>,
}

/// Who is paid what. Everything together is the budget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payouts {
    /// To accounts at once.
    pub accounts: BTreeMap<NodeId, u64>,
    /// What each accepted report earns, once it is claimed.
    pub per_report: u64,
    /// What is set aside for reports.
    pub reports: u64,
    /// What goes back to the task, since it cannot be divided or nobody has earned it.
    pub back: u64,
}

impl Payouts {
    /// Everything together.
    pub fn total(&self) -> u128 {
        let accounts: u128 = self.accounts.values().map(|paid| u128::from(*paid)).sum();
        accounts + u128::from(self.reports) + u128::from(self.back)
    }
}

/// Share out a budget. The payouts sum to the budget exactly, and do not depend on any order.
pub fn payouts(budget: u64, split: &Split, work: &Work) -> Payouts {
    let pot = |parts: u16| share_of(budget, u64::from(parts), u64::from(Split::WHOLE));
    let mut paid = Payouts::default();
    paid.per_report = pot(split.light).checked_div(work.reports).unwrap_or(0);
    // Not more than the pot it was divided out of.
    paid.reports = paid.per_report.saturating_mul(work.reports);
    let equal = |node: &NodeId| (*node, 1);
    for (parts, weights) in [
        (split.committee, work.verified.clone()),
        (
            split.aggregation,
            work.aggregation.iter().map(equal).collect(),
        ),
        (split.validators, work.voters.iter().map(equal).collect()),
    ] {
        for (node, amount) in divide(pot(parts), &weights) {
            let account = paid.accounts.entry(node).or_default();
            // Parts of one budget cannot sum to more than it.
            *account = account.saturating_add(amount);
        }
    }
    let out = u128::from(paid.reports)
        + paid
            .accounts
            .values()
            .map(|paid| u128::from(*paid))
            .sum::<u128>();
    paid.back = u64::try_from(u128::from(budget).saturating_sub(out)).unwrap_or(0);
    paid
}

/// Divide an amount by weights: each gets its part rounded down, and the largest remainders one more each, ties
/// by key. What is given out is the amount exactly, or nothing if there are no weights.
pub(crate) fn divide(amount: u64, weights: &BTreeMap<NodeId, u64>) -> BTreeMap<NodeId, u64> {
    let whole: u128 = weights.values().map(|weight| u128::from(*weight)).sum();
    if whole == 0 {
        return BTreeMap::new();
    }
    let mut parts: Vec<_> = weights
        .iter()
        .map(|(node, weight)| {
            // At most 128 bits: a product of two numbers of 64.
            let exact = u128::from(amount) * u128::from(*weight);
            (*node, exact / whole, exact % whole)
        })
        .collect();
    let given: u128 = parts.iter().map(|(_, part, _)| part).sum();
    let mut left = u128::from(amount).saturating_sub(given);
    parts.sort_unstable_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
    parts
        .into_iter()
        .map(|(node, part, _)| {
            let more = u128::from(left > 0);
            left = left.saturating_sub(more);
            (node, u64::try_from(part + more).unwrap_or(u64::MAX))
        })
        .collect()
}

/// `amount * parts / whole`, rounded down; nothing of nothing.
pub(crate) fn share_of(amount: u64, parts: u64, whole: u64) -> u64 {
    let exact = (u128::from(amount) * u128::from(parts)).checked_div(u128::from(whole));
    u64::try_from(exact.unwrap_or(0)).unwrap_or(u64::MAX)
}
