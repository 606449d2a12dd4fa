//! Validators' votes: what they finish, what they void, whom they slash.

use std::collections::BTreeMap;

use super::{Change, rounds::seats};
use crate::{
    Fault, NodeId, NodeSlot, NodeStatus, Reject, Round, RoundNumber, RoundSlot, Stage, Task,
    TaskId, TaskSlot, ValidatorsSlot, Verdict, Void, Vote, VotedSlot,
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
        let proposed = match (&round.stage, &vote.verdict) {
            (Stage::Proposed(_, proposal), _) => proposal.model,
            // Complaints about a round that is void already decide who pays for it: whoever is at fault cannot escape by
            // giving the round up, or by opening the next.
            (
                Stage::Voided {
                    proposed: Some(proposed),
                    ..
                },
                Verdict::Complain { .. },
            ) => proposed.1.model,
            _ => return Err(Reject::WrongStage),
        };
        if proposed != vote.model {
            return Err(Reject::WrongModel);
        }
        round.votes.insert(self.from, vote.verdict);
        self.state.put(&slot, &round);
        let mut voted = self.state.get(&VotedSlot()).unwrap_or_default();
        voted.insert((vote.task, vote.round));
        self.state.put(&VotedSlot(), &voted);
        Ok(())
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

    /// At the end of a block, count the votes of the rounds that were voted on in it. Within a block, no vote is
    /// earlier than another.
    pub(super) fn count_votes(&mut self) -> Result<(), Reject> {
        let voted = self.state.get(&VotedSlot()).unwrap_or_default();
        for (task, round) in &voted {
            self.settle(task, *round)?;
        }
        self.state.remove(&VotedSlot());
        Ok(())
    }

    fn settle(&mut self, id: &TaskId, number: RoundNumber) -> Result<(), Reject> {
        let slot = RoundSlot(*id, number);
        let (Some(mut task), Some(round), Some(validators)) = (
            self.state.task(id),
            self.state.get(&slot),
            self.state.get(&ValidatorsSlot()),
        ) else {
            // The round ran out in the same block.
            return Ok(());
        };
        let set = validators.current;
        // Votes of those who are validators no longer, or have been slashed, do not count.
        let counts = |node: &NodeId| {
            let entry = self.state.get(&NodeSlot(*node));
            let slashed = entry.is_some_and(|entry| entry.status == NodeStatus::Slashed);
            set.place(node).is_some() && !slashed
        };
        let counted = |wanted: &dyn Fn(&Verdict) -> bool| -> Vec<NodeId> {
            let votes = round.votes.iter();
            votes
                .filter(|(node, verdict)| counts(node) && wanted(verdict))
                .map(|(node, _)| *node)
                .collect()
        };
        let accepting = counted(&|verdict| matches!(verdict, Verdict::Accept { .. }));
        let complaining = counted(&|verdict| matches!(verdict, Verdict::Complain { .. }));
        if matches!(round.stage, Stage::Proposed(..)) {
            if accepting.len() >= set.quorum() {
                return self.finish(id, number, task, round, accepting);
            }
            if complaining.len() > set.most_faulty() {
                self.void(id, &mut task, Void::Complaints)?;
                self.state.put(&TaskSlot(*id), &task);
            }
        }
        for (node, accusers) in accusations(&task, &round, &complaining) {
            if accusers.len() >= set.quorum() {
                self.slash_by_complaints(id, &node, &accusers)?;
            }
        }
        Ok(())
    }

    /// Pay for a round, and make its model the task's.
    fn finish(
        &mut self,
        id: &TaskId,
        number: RoundNumber,
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
        let mut back = paid.back;
        for (node, amount) in &paid.accounts {
            let entry = self.state.get(&NodeSlot(*node));
            // A node that was slashed meanwhile earns nothing; what would be its goes back.
            match entry.is_some_and(|entry| entry.status == NodeStatus::Slashed) {
                true => back = back.checked_add(*amount).ok_or(Reject::Overflow)?,
                false => self.credit(node, *amount)?,
            }
        }
        task.budget = task.budget.checked_add(back).ok_or(Reject::Overflow)?;
        task.model = proposal.model;
        task.optimiser = proposal.optimiser;
        task.finished = task.finished.saturating_add(1);
        task.unsettled = false;
        round.stage = Stage::Finished {
            model: proposal.model,
            record: proposal.record,
            per_report: paid.per_report,
            unclaimed: paid.reports,
        };
        self.state.put(&TaskSlot(*id), &task);
        self.state.put(&RoundSlot(*id, number), &round);
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
