//! Validators' votes: what they finish, what they void, whom they slash.

use std::collections::BTreeMap;

use super::{Change, rounds::seats};
use crate::{
    Fault, NodeId, Reject, Round, RoundSlot, Stage, Task, TaskSlot, ValidatorsSlot, Verdict, Void,
    Vote,
    light::ValidatorSet,
    rewards::{Work, payouts},
};

impl Change {
    pub(super) fn vote(&mut self, vote: &Vote) -> Result<(), Reject> {
        let validators = self
            .state
            .get(&ValidatorsSlot())
            .ok_or(Reject::WrongChain)?;
        let set = validators.current;
        set.place(&self.from).ok_or(Reject::NotValidator)?;
        let task = self.state.task(&vote.task).ok_or(Reject::UnknownTask)?;
        let slot = RoundSlot(vote.task, vote.round);
        let mut round = self.state.get(&slot).ok_or(Reject::WrongRound)?;
        if round.votes.contains_key(&self.from) {
            return Err(Reject::AlreadyVoted);
        }
        self.check_accused(vote, &task)?;
        match (&round.stage, &vote.verdict) {
            (Stage::Proposed(_, proposal), _) => {
                if proposal.model != vote.model {
                    return Err(Reject::WrongModel);
                }
            }
            // More complaints after the round is void decide who pays for it. Whoever is at fault cannot escape by
            // opening the next round.
            (Stage::Voided(Void::Complaints), Verdict::Complain { .. }) => {}
            _ => return Err(Reject::WrongStage),
        }
        round.votes.insert(self.from, vote.verdict);
        self.state.put(&slot, &round);
        self.settle(vote, task, &set, &round)
    }

    /// An accusation must be of somebody who can have done it.
    fn check_accused(&self, vote: &Vote, task: &Task) -> Result<(), Reject> {
        let Verdict::Complain { fault, accused, .. } = vote.verdict else {
            return Ok(());
        };
        let possible = match accused {
            None => true,
            Some(node) if fault.is_aggregations() => node == task.terms.aggregation,
            Some(node) => fault == Fault::Batch && task.terms.members.contains(&node),
        };
        possible.then_some(()).ok_or(Reject::BadAccused)
    }

    fn settle(
        &mut self,
        vote: &Vote,
        mut task: Task,
        set: &ValidatorSet,
        round: &Round,
    ) -> Result<(), Reject> {
        // Votes of those who are validators no longer do not count.
        let counted = |wanted: &dyn Fn(&Verdict) -> bool| -> Vec<NodeId> {
            let votes = round.votes.iter();
            votes
                .filter(|(node, verdict)| set.place(node).is_some() && wanted(verdict))
                .map(|(node, _)| *node)
                .collect()
        };
        let accepting = counted(&|verdict| matches!(verdict, Verdict::Accept { .. }));
        let complaining = counted(&|verdict| matches!(verdict, Verdict::Complain { .. }));
        if matches!(round.stage, Stage::Proposed(..)) {
            if accepting.len() >= set.quorum() {
                return self.finish(vote, task, round.clone(), accepting);
            }
            if complaining.len() > set.most_faulty() {
                self.void(&vote.task, &mut task, Void::Complaints)?;
                self.state.put(&TaskSlot(vote.task), &task);
            }
        }
        for (node, accusers) in accusations(&task, round, &complaining) {
            if accusers.len() >= set.quorum() {
                self.slash_by_complaints(&vote.task, &node, &accusers)?;
            }
        }
        Ok(())
    }

    /// Pay for a round, and make its model the task's.
    fn finish(
        &mut self,
        vote: &Vote,
        mut task: Task,
        mut round: Round,
        voters: Vec<NodeId>,
    ) -> Result<(), Reject> {
        let Stage::Proposed(_, proposal) = &round.stage else {
            return Err(Reject::WrongStage);
        };
        let mut verified = BTreeMap::new();
        for (committee, batch) in &round.batches {
            for member in seats(&task, *committee).into_iter().flatten() {
                let reports: &mut u64 = verified.entry(member).or_default();
                *reports = reports
                    .checked_add(batch.accepted)
                    .ok_or(Reject::Overflow)?;
            }
        }
        let work = Work {
            reports: round.accepted(),
            verified,
            aggregation: Some(task.terms.aggregation),
            voters,
        };
        let budget = std::mem::take(&mut round.reserved);
        let paid = payouts(budget, &task.terms.split, &work);
        for (node, amount) in &paid.accounts {
            self.credit(node, *amount)?;
        }
        task.budget = task.budget.checked_add(paid.back).ok_or(Reject::Overflow)?;
        task.model = proposal.model;
        task.finished = task.finished.saturating_add(1);
        task.unsettled = false;
        round.stage = Stage::Finished {
            model: proposal.model,
            record: proposal.record,
            per_report: paid.per_report,
            unclaimed: paid.reports,
        };
        self.state.put(&TaskSlot(vote.task), &task);
        self.state.put(&RoundSlot(vote.task, vote.round), &round);
        Ok(())
    }
}

/// Who is accused of something that slashes, and by whom.
fn accusations(
    task: &Task,
    round: &Round,
    complaining: &[NodeId],
) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut accusations: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for validator in complaining {
        let accused = match round.votes.get(validator) {
            Some(Verdict::Complain { fault, .. }) if fault.is_aggregations() => {
                Some(task.terms.aggregation)
            }
            Some(Verdict::Complain { accused, .. }) => *accused,
            _ => None,
        };
        if let Some(node) = accused {
            accusations.entry(node).or_default().push(*validator);
        }
    }
    accusations
}
