//! What everybody must have been paid, worked out beside the ledger.

use std::collections::BTreeMap;

use defim_ledger::{
    AccountSlot, NodeId, Round, Stage, State, Verdict,
    rewards::{Work, payouts},
};
use defim_protocol::VerifiedManifest;

use super::setup::{BUDGET, SPLIT};

/// Points by account.
#[derive(Default)]
pub struct Pay {
    due: BTreeMap<NodeId, u64>,
}

impl Pay {
    /// An account has these at first.
    pub fn grant(&mut self, node: NodeId, amount: u64) {
        *self.due.entry(node).or_default() += amount;
    }

    /// A round is finished, in which these light nodes are counted.
    ///
    /// # Errors
    ///
    /// If the ledger has set aside other rewards than follow from the round.
    pub fn finished<'a>(
        &mut self,
        task: &VerifiedManifest,
        round: &Round,
        counted: impl ExactSizeIterator<Item = &'a NodeId>,
    ) -> Result<(), String> {
        let mut work = Work {
            reports: counted.len() as u64,
            aggregation: Some(task.aggregation),
            ..Work::default()
        };
        for (index, batch) in &round.batches {
            let committee = task.committee(*index).ok_or("there is no such committee")?;
            for member in committee.members() {
                *work.verified.entry(member.node).or_default() += batch.accepted;
            }
        }
        let accepts = |verdict: &Verdict| matches!(verdict, Verdict::Accept { .. });
        let votes = round.votes.iter().filter(|(_, verdict)| accepts(verdict));
        work.voters = votes.map(|(node, _)| *node).collect();
        let paid = payouts(BUDGET, &SPLIT, &work);
        if paid.total() != u128::from(BUDGET) {
            return Err(format!("a round pays {} and not {BUDGET}", paid.total()));
        }
        let Stage::Finished { per_report, .. } = round.stage else {
            return Err("the round is not finished".into());
        };
        if per_report != paid.per_report {
            return Err(format!(
                "a report earns {per_report} and not {}",
                paid.per_report
            ));
        }
        for (node, amount) in paid.accounts {
            self.grant(node, amount);
        }
        for node in counted {
            self.grant(*node, per_report);
        }
        Ok(())
    }

    /// Compare with the ledger.
    ///
    /// # Errors
    ///
    /// Who has what in place of what.
    pub fn check(&self, state: &State) -> Result<(), String> {
        for (node, due) in &self.due {
            let has = state.get(&AccountSlot(*node)).unwrap_or_default().balance;
            if has != *due {
                return Err(format!("{node} has {has} points and was to be paid {due}"));
            }
        }
        Ok(())
    }
}
