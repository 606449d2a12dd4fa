//! What travels in the ledger's JSON: bytes as base64url, and the names of places in the state.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use defim_ledger::{
    Canonical, Header, NodeId, ProofError, RoundNumber, State, StateProof, TaskId,
    light::{Certificate, FinalHeader},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failure::{Failure, Outcome};

/// Most keys of one page of a task's light nodes.
pub const LIGHTS_PAGE: usize = 100_000;

/// Bytes as text.
pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Text as bytes.
///
/// # Errors
///
/// [`Failure::Integrity`] if it is no base64url.
pub fn unb64(text: &str) -> Outcome<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|e| Failure::Integrity(format!("a validator's answer is no base64url: {e}")))
}

/// Read something of the ledger out of its text.
///
/// # Errors
///
/// [`Failure::Integrity`] if it is none.
pub fn read<T: Canonical>(text: &str) -> Outcome<T> {
    T::from_bytes(&unb64(text)?)
        .map_err(|e| Failure::Integrity(format!("a validator's answer cannot be read: {e}")))
}

/// A final header: itself certified, or the ancestor of one that is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// Height of the header that is meant.
    pub height: u64,
    /// The certified header.
    pub header: String,
    /// Its certificate.
    pub certificate: String,
    /// The headers below it, each the parent of the one before, down to the one that is meant; empty if that is the
    /// certified one.
    #[serde(default)]
    pub below: Vec<String>,
}

impl Sealed {
    /// The certified header and its certificate.
    ///
    /// # Errors
    ///
    /// [`Failure::Integrity`] if they cannot be read.
    pub fn certified(&self) -> Outcome<(Header, Certificate)> {
        let certificate = Certificate::from_bytes(&unb64(&self.certificate)?)
            .map_err(|e| Failure::Integrity(format!("a certificate cannot be read: {e}")))?;
        Ok((read(&self.header)?, certificate))
    }
}

/// A place in the state, as addresses name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `account.{node}`
    Account(NodeId),
    /// `node.{node}`
    Node(NodeId),
    /// `task.{task}`
    Task(TaskId),
    /// `round.{task}.{round}`
    Round(TaskId, RoundNumber),
    /// `light.{task}.{key}`
    Light(TaskId, NodeId),
    /// `invite.{task}.{invite}`
    Invite(TaskId, NodeId),
    /// `validators`
    Validators,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.');
        let kind = parts.next().unwrap_or_default();
        let none = || {
            format!(
                "\"{text}\" is no place in the state; there are account.{{node}}, node.{{node}}, task.{{task}}, round.{{task}}.{{round}}, light.{{task}}.{{key}}, invite.{{task}}.{{invite}} and validators"
            )
        };
        let mut next = || parts.next().ok_or_else(none);
        let place = match kind {
            "account" => Self::Account(next()?.parse().map_err(|_| none())?),
            "node" => Self::Node(next()?.parse().map_err(|_| none())?),
            "task" => Self::Task(next()?.parse().map_err(|_| none())?),
            "round" => Self::Round(
                next()?.parse().map_err(|_| none())?,
                next()?.parse().map_err(|_| none())?,
            ),
            "light" => Self::Light(
                next()?.parse().map_err(|_| none())?,
                next()?.parse().map_err(|_| none())?,
            ),
            "invite" => Self::Invite(
                next()?.parse().map_err(|_| none())?,
                next()?.parse().map_err(|_| none())?,
            ),
            "validators" => Self::Validators,
            _ => return Err(none()),
        };
        match parts.next() {
            None => Ok(place),
            Some(_) => Err(none()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(node) => write!(f, "account.{node}"),
            Self::Node(node) => write!(f, "node.{node}"),
            Self::Task(task) => write!(f, "task.{task}"),
            Self::Round(task, round) => write!(f, "round.{task}.{round}"),
            Self::Light(task, key) => write!(f, "light.{task}.{key}"),
            Self::Invite(task, invite) => write!(f, "invite.{task}.{invite}"),
            Self::Validators => f.write_str("validators"),
        }
    }
}

impl Place {
    /// What stands there, for people, and the proof of it.
    pub fn look(&self, state: &State) -> (serde_json::Value, StateProof) {
        use defim_ledger::{
            AccountSlot, InviteSlot, LightSlot, NodeSlot, RoundSlot, Slot, TaskSlot, ValidatorsSlot,
        };
        fn at<S: Slot>(state: &State, slot: &S) -> (serde_json::Value, StateProof) {
            let value = serde_json::to_value(state.get(slot)).unwrap_or_default();
            (value, state.prove(slot))
        }
        match self {
            Self::Account(node) => at(state, &AccountSlot(*node)),
            Self::Node(node) => at(state, &NodeSlot(*node)),
            Self::Task(task) => at(state, &TaskSlot(*task)),
            Self::Round(task, round) => at(state, &RoundSlot(*task, *round)),
            Self::Light(task, key) => at(state, &LightSlot(*task, *key)),
            Self::Invite(task, invite) => at(state, &InviteSlot(*task, *invite)),
            Self::Validators => at(state, &ValidatorsSlot()),
        }
    }

    /// What stands there by a proof under a final header, for people.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof does not show it.
    pub fn read(
        &self,
        header: &FinalHeader,
        proof: &StateProof,
    ) -> Result<serde_json::Value, ProofError> {
        use defim_ledger::{
            AccountSlot, InviteSlot, LightSlot, NodeSlot, RoundSlot, Slot, TaskSlot, ValidatorsSlot,
        };
        fn read<S: Slot>(
            header: &FinalHeader,
            proof: &StateProof,
            slot: &S,
        ) -> Result<serde_json::Value, ProofError> {
            let entry = header.state(slot, proof)?;
            Ok(serde_json::to_value(entry).unwrap_or_default())
        }
        match self {
            Self::Account(node) => read(header, proof, &AccountSlot(*node)),
            Self::Node(node) => read(header, proof, &NodeSlot(*node)),
            Self::Task(task) => read(header, proof, &TaskSlot(*task)),
            Self::Round(task, round) => read(header, proof, &RoundSlot(*task, *round)),
            Self::Light(task, key) => read(header, proof, &LightSlot(*task, *key)),
            Self::Invite(task, invite) => read(header, proof, &InviteSlot(*task, *invite)),
            Self::Validators => read(header, proof, &ValidatorsSlot()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_others_are_refused() {
        let (node, task) = (NodeId([7; 32]), TaskId([9; 32]));
        for place in [
            Place::Account(node),
            Place::Node(node),
            Place::Task(task),
            Place::Round(task, 12),
            Place::Light(task, node),
            Place::Invite(task, node),
            Place::Validators,
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for wrong in ["", "account", "account.x", "validators.1", "purse.7"] {
            assert!(
                wrong.parse::<Place>().unwrap_err().contains("no place"),
                "{wrong}"
            );
        }
    }
}
