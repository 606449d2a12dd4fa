//! Rewards of light nodes, taken by receipt.

use super::Change;
use crate::{
    ChainSlot, Claim, LightSlot, Reject, RoundSlot, Stage, committee_count, committee_of_report,
    light_report_id, merkle,
};

impl Change {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<(), Reject> {
        let Claim {
            task: id,
            round: number,
            report,
            committee,
            path,
        } = claim;
        let task = self.state.task(id).ok_or(Reject::UnknownTask)?;
        let light_slot = LightSlot(*id, self.from);
        let mut light = self
            .state
            .get(&light_slot)
            .filter(|light| light.active)
            .ok_or(Reject::NotEnrolled)?;
        let slot = RoundSlot(*id, *number);
        let mut round = self.state.get(&slot).ok_or(Reject::WrongRound)?;
        let Stage::Finished {
            per_report,
            unclaimed,
            ..
        } = &mut round.stage
        else {
            return Err(Reject::NotFinished);
        };
        if light.claimed.contains(number) {
            return Err(Reject::AlreadyClaimed);
        }
        // The one id that this key's report can have, in the one committee that checks it: members who accept more
        // than one report of somebody do not have them paid.
        let count = committee_count(task.terms.members.len(), task.terms.shares);
        if *report != light_report_id(id, &round.randomness, &self.from)
            || *committee != committee_of_report(id, &round.randomness, report, count)
        {
            return Err(Reject::WrongReport);
        }
        let batch = round.batches.get(committee);
        let batch = batch.ok_or(Reject::UnknownCommittee)?;
        if !path.holds(merkle::leaf_hash(&report.0), batch.accepted, &batch.root) {
            return Err(Reject::NotInBatch);
        }
        let reward = *per_report;
        *unclaimed = unclaimed.checked_sub(reward).ok_or(Reject::Overflow)?;
        self.state.put(&slot, &round);

        let chain = self.state.get(&ChainSlot()).ok_or(Reject::WrongChain)?;
        let claim_rounds = chain.params.claim_rounds;
        light
            .claimed
            .retain(|round| task.round.saturating_sub(*round) < claim_rounds);
        light.claimed.push(*number);
        light.claimed.sort_unstable();
        self.state.put(&light_slot, &light);
        let from = self.from;
        self.credit(&from, reward)
    }
}
