//! Who takes part: server nodes by key, light nodes as each task says.

use super::Change;
use crate::{
    Admission, AdmissionRule, Invite, InviteSlot, Light, LightSlot, Millis, NodeEntry, NodeId,
    NodeSlot, NodeStatus, Reject, Role, TaskId, TaskSlot, TaskStatus, ValidatorsSlot,
    body::verify_invitation, limits,
};

impl Change {
    pub(super) fn enrol_node(
        &mut self,
        node: &NodeId,
        role: Role,
        name: &str,
        address: &str,
    ) -> Result<(), Reject> {
        self.must_be_admin()?;
        if name.len() > limits::NAME_BYTES || address.len() > limits::ADDRESS_BYTES {
            return Err(Reject::TooLarge);
        }
        if let Some(known) = self.state.get(&NodeSlot(*node)) {
            match known.status {
                NodeStatus::Slashed => return Err(Reject::NodeRemoved),
                // What it has done in one role is judged by that role.
                NodeStatus::Active | NodeStatus::Removed if known.role != role => {
                    return Err(Reject::WrongRole);
                }
                NodeStatus::Active | NodeStatus::Removed => {}
            }
        }
        let entry = NodeEntry {
            role,
            name: name.to_owned(),
            address: address.to_owned(),
            status: NodeStatus::Active,
        };
        self.state.put(&NodeSlot(*node), &entry);
        Ok(())
    }

    pub(super) fn remove_node(&mut self, node: &NodeId) -> Result<(), Reject> {
        self.must_be_admin()?;
        let mut entry = self
            .state
            .get(&NodeSlot(*node))
            .ok_or(Reject::UnknownNode)?;
        if entry.status != NodeStatus::Active {
            return Err(Reject::NodeRemoved);
        }
        let validates = self.state.get(&ValidatorsSlot()).is_some_and(|sets| {
            let coming = sets.next.is_some_and(|(_, set)| set.place(node).is_some());
            coming || sets.current.place(node).is_some()
        });
        if validates {
            return Err(Reject::StillValidator);
        }
        entry.status = NodeStatus::Removed;
        self.state.put(&NodeSlot(*node), &entry);
        Ok(())
    }

    pub(super) fn create_invite(
        &mut self,
        task: &TaskId,
        invite: &NodeId,
        uses: u32,
        until_ms: Millis,
    ) -> Result<(), Reject> {
        self.must_be_admin()?;
        let terms = self.state.task(task).ok_or(Reject::UnknownTask)?.terms;
        if terms.admission != AdmissionRule::Invite {
            return Err(Reject::NotAdmitted);
        }
        let slot = InviteSlot(*task, *invite);
        if self.state.get(&slot).is_some() {
            return Err(Reject::InviteExists);
        }
        if uses == 0 || until_ms <= self.now_ms {
            return Err(Reject::InviteSpent);
        }
        self.state.put(&slot, &Invite { uses, until_ms });
        Ok(())
    }

    pub(super) fn enrol_light(
        &mut self,
        task: &TaskId,
        key: &NodeId,
        by: &Admission,
    ) -> Result<(), Reject> {
        let mut entry = self.state.task(task).ok_or(Reject::UnknownTask)?;
        if entry.status == TaskStatus::Closed {
            return Err(Reject::TaskClosed);
        }
        match (by, entry.terms.admission) {
            (Admission::Approved, _) => self.must_be_admin()?,
            (Admission::Open, AdmissionRule::Open)
            | (Admission::Invite { .. }, AdmissionRule::Invite) => {
                if *key != self.from {
                    return Err(Reject::NotTheSender);
                }
            }
            _ => return Err(Reject::NotAdmitted),
        }
        let slot = LightSlot(*task, *key);
        let known = self.state.get(&slot);
        match &known {
            Some(light) if light.active => return Err(Reject::AlreadyEnrolled),
            // Only an admin takes back what an admin has removed.
            Some(_) if *by != Admission::Approved => return Err(Reject::NotEnrolled),
            Some(_) => {}
            // Whoever fills a task up with keys keeps nobody out whom an admin lets in.
            None if entry.lights >= limits::LIGHTS && *by != Admission::Approved => {
                return Err(Reject::TaskFull);
            }
            None => {
                entry.lights += 1;
                self.state.put(&TaskSlot(*task), &entry);
            }
        }
        if let Admission::Invite { invite, signature } = by {
            self.use_invite(task, key, invite, signature)?;
        }
        let claimed = known.map(|light| light.claimed).unwrap_or_default();
        let light = Light {
            active: true,
            claimed,
        };
        self.state.put(&slot, &light);
        Ok(())
    }

    fn use_invite(
        &mut self,
        task: &TaskId,
        key: &NodeId,
        invite: &NodeId,
        signature: &crate::Signature,
    ) -> Result<(), Reject> {
        let slot = InviteSlot(*task, *invite);
        let mut entry = self.state.get(&slot).ok_or(Reject::BadInvite)?;
        verify_invitation(invite, signature, task, key).map_err(|_| Reject::BadInvite)?;
        if self.now_ms > entry.until_ms {
            return Err(Reject::InviteSpent);
        }
        // A spent invite stays on record: its code is known to people, and must not be made anew.
        entry.uses = entry.uses.checked_sub(1).ok_or(Reject::InviteSpent)?;
        self.state.put(&slot, &entry);
        Ok(())
    }

    pub(super) fn remove_light(&mut self, task: &TaskId, key: &NodeId) -> Result<(), Reject> {
        self.must_be_admin()?;
        let slot = LightSlot(*task, *key);
        let mut light = self.state.get(&slot).ok_or(Reject::NotEnrolled)?;
        if !light.active {
            return Err(Reject::NotEnrolled);
        }
        light.active = false;
        self.state.put(&slot, &light);
        Ok(())
    }
}
