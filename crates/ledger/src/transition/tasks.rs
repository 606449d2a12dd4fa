//! Tasks: created, funded, paused and closed.

use super::Change;
use crate::{CreateTask, Digest, Reject, Role, Task, TaskId, TaskSlot, TaskStatus, Void};

impl Change {
    pub(super) fn create_task(&mut self, create: &CreateTask) -> Result<(), Reject> {
        self.must_be_admin()?;
        if self.state.task(&create.task).is_some() {
            return Err(Reject::TaskExists);
        }
        if !create.terms.is_usable() {
            return Err(Reject::BadTerms);
        }
        self.active(&create.terms.aggregation, Role::Aggregation)?;
        for member in &create.terms.members {
            self.active(member, Role::Full)?;
        }
        let task = Task {
            manifest: create.manifest,
            terms: create.terms.clone(),
            model: create.model,
            optimiser: Digest::of(&[]),
            budget: 0,
            round: 0,
            unsettled: false,
            finished: 0,
            lights: 0,
            status: TaskStatus::Active,
        };
        self.state.put(&TaskSlot(create.task), &task);
        Ok(())
    }

    pub(super) fn fund_task(&mut self, id: &TaskId, amount: u64) -> Result<(), Reject> {
        let mut task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        if task.status == TaskStatus::Closed {
            return Err(Reject::TaskClosed);
        }
        let from = self.from;
        self.debit(&from, amount)?;
        task.budget = task.budget.checked_add(amount).ok_or(Reject::Overflow)?;
        self.state.put(&TaskSlot(*id), &task);
        Ok(())
    }

    pub(super) fn pause_task(&mut self, id: &TaskId, paused: bool) -> Result<(), Reject> {
        self.must_be_admin()?;
        let mut task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        task.status = match (task.status, paused) {
            (TaskStatus::Closed, _) => return Err(Reject::TaskClosed),
            (_, true) => TaskStatus::Paused,
            (_, false) => TaskStatus::Active,
        };
        self.state.put(&TaskSlot(*id), &task);
        Ok(())
    }

    pub(super) fn close_task(&mut self, id: &TaskId) -> Result<(), Reject> {
        self.must_be_admin()?;
        let mut task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        if task.status == TaskStatus::Closed {
            return Err(Reject::TaskClosed);
        }
        if task.unsettled {
            self.void(id, &mut task, Void::Closed)?;
        }
        let budget = std::mem::take(&mut task.budget);
        task.status = TaskStatus::Closed;
        self.state.put(&TaskSlot(*id), &task);
        let from = self.from;
        self.credit(&from, budget)
    }
}
