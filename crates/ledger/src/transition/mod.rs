//! What a transaction changes: pure functions from a state to the next.
//!
//! Every rule reads the state, and writes only when all its checks have passed or the whole change is
//! dropped: a transaction is carried out on a copy of the state, which costs nothing.

mod accounts;
mod admission;
mod claims;
mod rounds;
mod slashing;
mod tasks;
mod votes;

use crate::{
    AdminsSlot, Body, Millis, NodeEntry, NodeId, NodeSlot, NodeStatus, Reject, Role, SignedTx,
    State,
};

/// Check whether the ledger would carry out a transaction now.
///
/// # Errors
///
/// [`Reject`] with the first rule that it breaks.
pub fn check(state: &State, tx: &SignedTx, now_ms: Millis) -> Result<(), Reject> {
    execute(state, tx, now_ms).map(drop)
}

/// The state after a transaction. `now_ms` is the time of the block it stands in.
///
/// # Errors
///
/// [`Reject`] with the first rule that it breaks.
pub fn execute(state: &State, tx: &SignedTx, now_ms: Millis) -> Result<State, Reject> {
    let from = tx.tx.from;
    if state.chain().is_none_or(|chain| chain.id != tx.tx.chain) {
        return Err(Reject::WrongChain);
    }
    let nonce = state.account(&from).nonce;
    match tx.tx.nonce {
        used if used < nonce => return Err(Reject::NonceUsed),
        ahead if ahead > nonce => return Err(Reject::NonceAhead),
        _ => {}
    }
    // Last of what needs no more than the sender: it costs the most.
    tx.verify().map_err(|_| Reject::BadSignature)?;
    let mut change = Change {
        state: state.clone(),
        from,
        now_ms,
    };
    change.count(nonce)?;
    change.carry_out(&tx.tx.body)?;
    Ok(change.state)
}

/// What happens at the end of a block: votes are counted.
///
/// # Errors
///
/// [`Reject::Overflow`], which cannot happen.
pub(crate) fn settle(state: &State, now_ms: Millis) -> Result<State, Reject> {
    let mut change = Change {
        state: state.clone(),
        from: NodeId([0; 32]),
        now_ms,
    };
    change.count_votes()?;
    Ok(change.state)
}

/// A transaction, or the end of a block, being carried out.
struct Change {
    state: State,
    /// The sender; nobody at the end of a block.
    from: NodeId,
    now_ms: Millis,
}

impl Change {
    fn carry_out(&mut self, body: &Body) -> Result<(), Reject> {
        match body {
            Body::Transfer { to, amount } => self.transfer(to, *amount),
            Body::EnrolNode {
                node,
                role,
                name,
                address,
            } => self.enrol_node(node, *role, name, address),
            Body::RemoveNode { node } => self.remove_node(node),
            Body::SetAdmins { admins } => self.set_admins(admins),
            Body::SetValidators { set, from_epoch } => self.set_validators(set, *from_epoch),
            Body::CreateTask(create) => self.create_task(create),
            Body::FundTask { task, amount } => self.fund_task(task, *amount),
            Body::PauseTask { task, paused } => self.pause_task(task, *paused),
            Body::CloseTask { task } => self.close_task(task),
            Body::CreateInvite {
                task,
                invite,
                uses,
                until_ms,
            } => self.create_invite(task, invite, *uses, *until_ms),
            Body::EnrolLight { task, key, by } => self.enrol_light(task, key, by),
            Body::RemoveLight { task, key } => self.remove_light(task, key),
            Body::RoundOpened { statement } => self.round_opened(statement),
            Body::BatchClosed { statements } => self.batch_closed(statements),
            Body::Opened(opened) => self.opened(opened),
            Body::ModelUpdated(updated) => self.model_updated(updated),
            Body::Vote(vote) => self.vote(vote),
            Body::RoundVoided {
                task,
                round,
                reason,
                evidence,
            } => self.round_voided(task, *round, reason, *evidence),
            Body::Claim(claim) => self.claim(claim),
            Body::Slash { node, evidence } => self.slash_by_evidence(node, evidence),
        }
    }

    fn must_be_admin(&self) -> Result<(), Reject> {
        let admins = self.state.get(&AdminsSlot()).unwrap_or_default();
        match admins.binary_search(&self.from) {
            Ok(_) => Ok(()),
            Err(_) => Err(Reject::NotAdmin),
        }
    }

    /// A server node that takes part in this role.
    fn active(&self, node: &NodeId, role: Role) -> Result<NodeEntry, Reject> {
        let entry = self
            .state
            .get(&NodeSlot(*node))
            .ok_or(Reject::UnknownNode)?;
        if entry.role != role {
            return Err(Reject::WrongRole);
        }
        match entry.status {
            NodeStatus::Active => Ok(entry),
            NodeStatus::Removed | NodeStatus::Slashed => Err(Reject::NodeRemoved),
        }
    }
}
