//! Balances, nonces, admins and validators.

use super::Change;
use crate::{
    AccountSlot, AdminsSlot, ChainSlot, HeadSlot, NodeId, Reject, Role, ValidatorsSlot,
    genesis::is_admins, light::ValidatorSet,
};

impl Change {
    /// The sender's next transaction has the next number.
    pub(super) fn count(&mut self, nonce: u64) -> Result<(), Reject> {
        let mut account = self.state.account(&self.from);
        account.nonce = nonce.checked_add(1).ok_or(Reject::Overflow)?;
        self.state.put(&AccountSlot(self.from), &account);
        Ok(())
    }

    pub(super) fn credit(&mut self, owner: &NodeId, amount: u64) -> Result<(), Reject> {
        if amount == 0 {
            return Ok(());
        }
        let mut account = self.state.account(owner);
        account.balance = account
            .balance
            .checked_add(amount)
            .ok_or(Reject::Overflow)?;
        self.state.put(&AccountSlot(*owner), &account);
        Ok(())
    }

    pub(super) fn debit(&mut self, owner: &NodeId, amount: u64) -> Result<(), Reject> {
        // Moving nothing would cost nothing, and fill the state with accounts.
        if amount == 0 {
            return Err(Reject::NothingMoved);
        }
        let mut account = self.state.account(owner);
        account.balance = account
            .balance
            .checked_sub(amount)
            .ok_or(Reject::InsufficientBalance)?;
        self.state.put(&AccountSlot(*owner), &account);
        Ok(())
    }

    pub(super) fn transfer(&mut self, to: &NodeId, amount: u64) -> Result<(), Reject> {
        let from = self.from;
        // A block's room is for what changes something.
        if *to == from {
            return Err(Reject::NothingMoved);
        }
        self.debit(&from, amount)?;
        self.credit(to, amount)
    }

    pub(super) fn set_admins(&mut self, admins: &Vec<NodeId>) -> Result<(), Reject> {
        self.must_be_admin()?;
        if !is_admins(admins) {
            return Err(Reject::BadSet);
        }
        self.state.put(&AdminsSlot(), admins);
        Ok(())
    }

    pub(super) fn set_validators(&mut self, set: &[NodeId], from_epoch: u64) -> Result<(), Reject> {
        self.must_be_admin()?;
        let set = ValidatorSet::new(set.to_vec()).map_err(|_| Reject::BadSet)?;
        for node in set.keys() {
            self.active(node, Role::Validation)?;
        }
        let (Some(chain), Some(head), Some(mut validators)) = (
            self.state.get(&ChainSlot()),
            self.state.get(&HeadSlot()),
            self.state.get(&ValidatorsSlot()),
        ) else {
            return Err(Reject::WrongChain);
        };
        // The block that this stands in is the one after the head.
        let height = head.height.saturating_add(1);
        let epoch = height
            .checked_div(chain.params.epoch_blocks)
            .ok_or(Reject::WrongChain)?;
        if from_epoch <= epoch {
            return Err(Reject::EpochPast);
        }
        validators.next = Some((from_epoch, set));
        self.state.put(&ValidatorsSlot(), &validators);
        Ok(())
    }
}
