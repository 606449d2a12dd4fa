//! Slashing: what a cheat loses, and who gets it.

use std::collections::BTreeMap;

use super::{Change, rounds::seats};
use crate::{
    AccountSlot, ChainSlot, Evidence, NodeId, NodeSlot, NodeStatus, Reject, TaskId, TaskSlot, Void,
    genesis::PPM,
    rewards::{divide, share_of},
};

/// Who was harmed, and who has found it.
struct Harm<'a> {
    /// The task that gets what the finders do not.
    task: &'a TaskId,
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
        let shown = evidence.verify(node)?;
        let task = self.state.task(&shown.task).ok_or(Reject::UnknownTask)?;
        // A statement of somebody without the seat to make it harms nobody.
        let seated = match shown.committee {
            None => task.terms.aggregation == *node,
            // A helper's: an honest leader may propose twice.
            Some(committee) => seats(&task, committee)
                .and_then(|seats| seats.iter().position(|member| member == node))
                .is_some_and(|seat| seat > 0),
        };
        if !seated {
            return Err(Reject::NoFault);
        }
        let finders = [self.from];
        self.slash(
            node,
            Harm {
                task: &shown.task,
                finders: &finders,
            },
        )
    }

    /// A quorum of validators has found the same. One that is slashed already is not slashed again.
    pub(super) fn slash_by_complaints(
        &mut self,
        task: &TaskId,
        node: &NodeId,
        finders: &[NodeId],
    ) -> Result<(), Reject> {
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

        let mut task = self.state.task(harm.task).ok_or(Reject::UnknownTask)?;
        task.budget = task.budget.checked_add(left).ok_or(Reject::Overflow)?;
        if task.unsettled && task.terms.aggregation == *node {
            self.void(harm.task, &mut task, Void::Slashed)?;
        }
        self.state.put(&TaskSlot(*harm.task), &task);
        Ok(())
    }
}
