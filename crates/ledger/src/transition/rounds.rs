//! Rounds: opened, batches closed, total opened, model proposed, or given up.

use std::collections::{BTreeMap, BTreeSet};

use super::Change;
use crate::{
    Batch, BatchSummary, ChainSlot, Context, Digest, ModelUpdated, NodeId, Opened, Reject, Role,
    Round, RoundNumber, RoundOpened, RoundSlot, SignedText, Stage, Task, TaskId, TaskSlot,
    TaskStatus, Void, committee_seats, genesis::is_ascending, limits, round_randomness,
};

impl Change {
    /// The task, if the sender is its aggregation node and takes part.
    fn as_aggregation(&self, id: &TaskId) -> Result<Task, Reject> {
        let task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        if task.terms.aggregation != self.from {
            return Err(Reject::NotAggregation);
        }
        self.active(&self.from, Role::Aggregation)?;
        Ok(task)
    }

    /// A task's newest round, if it has this number and is not settled.
    pub(super) fn current(
        &self,
        id: &TaskId,
        task: &Task,
        round: RoundNumber,
    ) -> Result<Round, Reject> {
        if task.round != round {
            return Err(Reject::WrongRound);
        }
        if !task.unsettled {
            return Err(Reject::WrongStage);
        }
        let slot = RoundSlot(*id, round);
        self.state.get(&slot).ok_or(Reject::WrongRound)
    }

    pub(super) fn round_opened(&mut self, statement: &SignedText) -> Result<(), Reject> {
        let opened = read(statement, RoundOpened::read)?;
        let id = opened.task;
        let mut task = self.as_aggregation(&id)?;
        statement
            .verify(Context::Round, &self.from)
            .map_err(|_| Reject::BadStatement)?;
        match task.status {
            TaskStatus::Active => {}
            TaskStatus::Paused => return Err(Reject::TaskPaused),
            TaskStatus::Closed => return Err(Reject::TaskClosed),
        }
        if task.unsettled {
            return Err(Reject::RoundUnsettled);
        }
        if task.finished >= task.terms.rounds {
            return Err(Reject::RoundsDone);
        }
        if task.round.checked_add(1) != Some(opened.round) {
            return Err(Reject::WrongRound);
        }
        if opened.base_model != task.model {
            return Err(Reject::WrongModel);
        }
        let latest = self.now_ms.saturating_add(limits::CLOCK_SKEW_MS);
        if opened.deadline_ms <= opened.opened_ms || opened.opened_ms > latest {
            return Err(Reject::BadTimes);
        }
        let mut most_extra_weight = 0;
        for (node, weight) in &opened.weights {
            let member = task.terms.members.contains(node);
            if !member || !(2..=task.terms.max_weight).contains(weight) {
                return Err(Reject::BadWeights);
            }
            most_extra_weight += u64::from(weight.saturating_sub(1));
        }
        self.expire(&id, &mut task, opened.round)?;
        let reserved = task.terms.budget_per_round;
        task.budget = task.budget.checked_sub(reserved).ok_or(Reject::Unfunded)?;
        task.round = opened.round;
        task.unsettled = true;
        let round = Round {
            randomness: round_randomness(statement),
            base_model: opened.base_model,
            deadline_ms: opened.deadline_ms,
            most_extra_weight,
            batches: BTreeMap::new(),
            stage: Stage::Open,
            votes: BTreeMap::new(),
            reserved,
        };
        self.state.put(&TaskSlot(id), &task);
        self.state.put(&RoundSlot(id, opened.round), &round);
        Ok(())
    }

    /// Forget the round whose rewards can no longer be claimed; what is left of them goes back to the task.
    fn expire(&mut self, id: &TaskId, task: &mut Task, opening: RoundNumber) -> Result<(), Reject> {
        let chain = self.state.get(&ChainSlot()).ok_or(Reject::WrongChain)?;
        let Some(old) = opening.checked_sub(chain.params.claim_rounds) else {
            return Ok(());
        };
        let slot = RoundSlot(*id, old);
        if let Some(round) = self.state.get(&slot) {
            if let Stage::Finished { unclaimed, .. } = round.stage {
                task.budget = task.budget.checked_add(unclaimed).ok_or(Reject::Overflow)?;
            }
            self.state.remove(&slot);
        }
        Ok(())
    }

    pub(super) fn batch_closed(&mut self, statements: &[SignedText]) -> Result<(), Reject> {
        let leader = statements.first().ok_or(Reject::BadStatement)?;
        if statements.iter().any(|s| s.payload != leader.payload) {
            return Err(Reject::BadStatement);
        }
        let summary = read(leader, BatchSummary::read)?;
        let id = summary.task;
        let task = self.state.task(&id).ok_or(Reject::UnknownTask)?;
        let terms = &task.terms;
        // Any of those who hold the statements: one that holds them back stops nobody.
        if self.from != terms.aggregation && !terms.members.contains(&self.from) {
            return Err(Reject::NotAggregation);
        }
        let mut round = self.current(&id, &task, summary.round)?;
        if summary.opening != round.randomness {
            return Err(Reject::WrongOpening);
        }
        if round.stage != Stage::Open {
            return Err(Reject::WrongStage);
        }
        if round.batches.contains_key(&summary.committee) {
            return Err(Reject::BatchExists);
        }
        let seats = seats(&task, summary.committee).ok_or(Reject::UnknownCommittee)?;
        // Every member's: one that has not signed may have verified other reports.
        if statements.len() != seats.len() {
            return Err(Reject::BadStatement);
        }
        for (member, statement) in seats.iter().zip(statements) {
            self.active(member, Role::Full)?;
            statement
                .verify(Context::Batch, member)
                .map_err(|_| Reject::BadStatement)?;
        }
        let reports = 1..=limits::BATCH_REPORTS;
        if !reports.contains(&summary.accepted) || summary.extra_weight > round.most_extra_weight {
            return Err(Reject::BadBatch);
        }
        let batch = Batch {
            root: summary.root,
            accepted: summary.accepted,
            extra_weight: summary.extra_weight,
            summary: Digest::of(leader.payload.as_bytes()),
        };
        round.batches.insert(summary.committee, batch);
        self.state.put(&RoundSlot(id, summary.round), &round);
        Ok(())
    }

    pub(super) fn opened(&mut self, opened: &Opened) -> Result<(), Reject> {
        let task = self.as_aggregation(&opened.task)?;
        let mut round = self.current(&opened.task, &task, opened.round)?;
        if round.stage != Stage::Open {
            return Err(Reject::WrongStage);
        }
        if opened.batches.is_empty() || !is_ascending(&opened.batches) {
            return Err(Reject::UnknownCommittee);
        }
        let (mut nodes, mut batches) = (BTreeSet::new(), BTreeMap::new());
        for committee in &opened.batches {
            let batch = round.batches.remove(committee);
            batches.insert(*committee, batch.ok_or(Reject::UnknownCommittee)?);
            nodes.extend(seats(&task, *committee).ok_or(Reject::UnknownCommittee)?);
        }
        round.batches = batches;
        if round.accepted() < u64::from(task.terms.min_batch) {
            return Err(Reject::BelowMinBatch);
        }
        // The total is only that of the batches if every node of theirs is in it.
        if !nodes
            .iter()
            .eq(opened.ciphertexts.iter().map(|(node, _)| node))
        {
            return Err(Reject::WrongCiphertexts);
        }
        round.stage = Stage::Opened(opened.clone());
        self.state
            .put(&RoundSlot(opened.task, opened.round), &round);
        Ok(())
    }

    pub(super) fn model_updated(&mut self, updated: &ModelUpdated) -> Result<(), Reject> {
        let task = self.as_aggregation(&updated.task)?;
        let mut round = self.current(&updated.task, &task, updated.round)?;
        let Stage::Opened(opened) = round.stage else {
            return Err(Reject::WrongStage);
        };
        round.stage = Stage::Proposed(opened, updated.clone());
        self.state
            .put(&RoundSlot(updated.task, updated.round), &round);
        Ok(())
    }

    pub(super) fn round_voided(
        &mut self,
        id: &TaskId,
        round: RoundNumber,
        reason: &str,
        evidence: Option<Digest>,
    ) -> Result<(), Reject> {
        if reason.len() > limits::REASON_BYTES {
            return Err(Reject::TooLarge);
        }
        let mut task = self.as_aggregation(id)?;
        self.current(id, &task, round)?;
        let void = Void::Aggregation {
            reason: reason.to_owned(),
            evidence,
        };
        self.void(id, &mut task, void)?;
        self.state.put(&TaskSlot(*id), &task);
        Ok(())
    }

    /// End a task's newest round without a result. The caller writes the task.
    pub(super) fn void(&mut self, id: &TaskId, task: &mut Task, why: Void) -> Result<(), Reject> {
        let slot = RoundSlot(*id, task.round);
        let mut round = self.state.get(&slot).ok_or(Reject::WrongRound)?;
        let back = std::mem::take(&mut round.reserved);
        task.budget = task.budget.checked_add(back).ok_or(Reject::Overflow)?;
        task.unsettled = false;
        let proposed = match &round.stage {
            Stage::Proposed(opened, model) => Some(Box::new((opened.clone(), model.clone()))),
            _ => None,
        };
        round.stage = Stage::Voided { why, proposed };
        self.state.put(&slot, &round);
        Ok(())
    }
}

/// The members of a task's committee, leader first; as many as a report has shares.
pub(super) fn seats(task: &Task, committee: u32) -> Option<Vec<NodeId>> {
    let members = &task.terms.members;
    committee_seats(members.len(), task.terms.shares, committee)?
        .into_iter()
        .map(|seat| members.get(seat).copied())
        .collect()
}

/// Read a statement's text, which is not too long.
fn read<T, E>(statement: &SignedText, read: impl Fn(&str) -> Result<T, E>) -> Result<T, Reject> {
    if statement.payload.len() > limits::STATEMENT_BYTES {
        return Err(Reject::TooLarge);
    }
    read(&statement.payload).map_err(|_| Reject::BadStatement)
}
