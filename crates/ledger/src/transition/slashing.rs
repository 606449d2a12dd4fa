//! Slashing: what a cheat loses, and who gets it.

use std::collections::BTreeMap;

use super::{Change, rounds::seats};
use crate::{
    AccountSlot, ChainSlot, CommitteeIndex, Evidence, NodeId, NodeSlot, NodeStatus, Reject, Role,
    Shown, TaskId, TaskSlot, TaskStatus, Void,
    genesis::PPM,
    rewards::{divide, share_of},
};

/// Who was harmed, and who has found it.
struct Harm<'a> {
    /// The task that gets what the finders do not; without one the other validators do.
    task: Option<&'a TaskId>,
    /// Who shares the finders' part.
    finders: &'a [NodeId],
}

impl Change {
    pub(super) fn slash_by_evidence(
        &mut self,
        node: &NodeId,
        evidence: &Evidence,
    ) -> Result<(), Reject> {
        if *node == self.from {
            return Err(Reject::OwnFault);
        }
        let chain = self.state.get(&ChainSlot()).ok_or(Reject::WrongChain)?;
        let task = match evidence.verify(node, &chain.id)? {
            Shown::Round {
                task, committee, ..
            } => {
                self.must_have_seat(node, &task, committee)?;
                Some(task)
            }
            Shown::Consensus { .. } => {
                self.must_be_validation_node(node)?;
                None
            }
        };
        let finders = [self.from];
        let harm = Harm {
            task: task.as_ref(),
            finders: &finders,
        };
        self.slash(node, harm)
    }

    /// Others have no vote. One that signs two all the same could be slashed for the validators before the task that it has
    /// harmed gets anything.
    fn must_be_validation_node(&self, node: &NodeId) -> Result<(), Reject> {
        let entry = self.state.get(&NodeSlot(*node));
        match entry.ok_or(Reject::UnknownNode)?.role {
            Role::Validation => Ok(()),
            Role::Full | Role::Aggregation => Err(Reject::NoFault),
        }
    }

    /// A statement of somebody without the seat to make it harms nobody.
    fn must_have_seat(
        &self,
        node: &NodeId,
        task: &TaskId,
        committee: Option<CommitteeIndex>,
    ) -> Result<(), Reject> {
        let task = self.state.task(task).ok_or(Reject::UnknownTask)?;
        let seated = match committee {
            None => task.terms.aggregation == *node,
            // A helper's: an honest leader may propose twice.
            Some(committee) => seats(&task, committee)
                .and_then(|seats| seats.iter().position(|member| member == node))
                .is_some_and(|seat| seat > 0),
        };
        match seated {
            true => Ok(()),
            false => Err(Reject::NoFault),
        }
    }

    /// A quorum of validators has found the same. One that is slashed already is not slashed again.
    pub(super) fn slash_by_complaints(
        &mut self,
        task: &TaskId,
        node: &NodeId,
        finders: &[NodeId],
    ) -> Result<(), Reject> {
        let task = Some(task);
        match self.slash(node, Harm { task, finders }) {
            Err(Reject::AlreadySlashed) => Ok(()),
            done => done,
        }
    }

    fn slash(&mut self, node: &NodeId, harm: Harm<'_>) -> Result<(), Reject> {
        let mut entry = self
            .state
            .get(&NodeSlot(*node))
            .ok_or(Reject::UnknownNode)?;
        if entry.status == NodeStatus::Slashed {
            return Err(Reject::AlreadySlashed);
        }
        entry.status = NodeStatus::Slashed;
        self.state.put(&NodeSlot(*node), &entry);

        let params = self
            .state
            .get(&ChainSlot())
            .ok_or(Reject::WrongChain)?
            .params;
        let mut account = self.state.account(node);
        let lost = share_of(account.balance, params.slash_ppm.into(), PPM.into());
        account.balance = account.balance.saturating_sub(lost);
        self.state.put(&AccountSlot(*node), &account);

        let weights: BTreeMap<_, _> = harm.finders.iter().map(|node| (*node, 1)).collect();
        let found = share_of(lost, params.finder_ppm.into(), PPM.into());
        let mut left = lost;
        for (finder, amount) in divide(found, &weights) {
            self.credit(&finder, amount)?;
            left = left.saturating_sub(amount);
        }

        match harm.task {
            Some(task) => self.give_to_task(task, node, left),
            None => self.give_to_validators_but(node, left),
        }
    }

    /// A harmed task gets it; a round of an aggregation node that is slashed is void.
    fn give_to_task(&mut self, id: &TaskId, slashed: &NodeId, amount: u64) -> Result<(), Reject> {
        let mut task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        if task.status == TaskStatus::Closed {
            // It pays nobody any more.
            return self.give_to_validators_but(slashed, amount);
        }
        task.budget = task.budget.checked_add(amount).ok_or(Reject::Overflow)?;
        if task.unsettled && task.terms.aggregation == *slashed {
            self.void(id, &mut task, Void::Slashed)?;
        }
        self.state.put(&TaskSlot(*id), &task);
        Ok(())
    }

    fn give_to_validators_but(&mut self, slashed: &NodeId, amount: u64) -> Result<(), Reject> {
        let validators = self.state.validators().ok_or(Reject::WrongChain)?;
        let others = validators.current.keys().iter();
        let innocent = |node: &&NodeId| {
            let entry = self.state.get(&NodeSlot(**node));
            *node != slashed && entry.is_none_or(|entry| entry.status != NodeStatus::Slashed)
        };
        let weights: BTreeMap<_, _> = others.filter(innocent).map(|node| (*node, 1)).collect();
        let mut left = amount;
        for (node, part) in divide(amount, &weights) {
            self.credit(&node, part)?;
            left = left.saturating_sub(part);
        }
        // With nobody else to get it, it stays where it was.
        self.credit(slashed, left)
    }
}
