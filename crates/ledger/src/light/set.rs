//! The validators of an epoch.

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::{NodeId, genesis::is_ascending, limits};

/// The validators of an epoch, in ascending order of their keys: a certificate names them by their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct ValidatorSet(Vec<NodeId>);

/// Why keys are no set of validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// None, or too many.
    #[error("there must be from 1 to {most} validators", most = limits::VALIDATORS)]
    Count,
    /// Not ascending, or one twice.
    #[error("validators must be named once each, in ascending order of their keys")]
    Order,
    /// A key that is no point of the curve, or of small order.
    #[error("the key of validator {0} is no proper ed25519 key")]
    Key(NodeId),
}

impl ValidatorSet {
    /// A set of these keys.
    ///
    /// # Errors
    ///
    /// [`SetError`] with what is wrong.
    pub fn new(keys: Vec<NodeId>) -> Result<Self, SetError> {
        let set = Self::try_from(keys)?;
        for node in &set.0 {
            // Under a key of small order, everybody can sign.
            match VerifyingKey::from_bytes(node.as_bytes()) {
                Ok(key) if !key.is_weak() => {}
                _ => return Err(SetError::Key(*node)),
            }
        }
        Ok(set)
    }

    /// The keys, ascending.
    pub fn keys(&self) -> &[NodeId] {
        &self.0
    }

    /// How many there are: n.
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The place of a key.
    pub fn place(&self, node: &NodeId) -> Option<usize> {
        self.0.binary_search(node).ok()
    }

    /// How many may be wrong at most: f = floor((n - 1) / 3).
    pub fn most_faulty(&self) -> usize {
        self.len().saturating_sub(1) / 3
    }

    /// How many must agree: n - f. Two quorums have an honest validator in common.
    pub fn quorum(&self) -> usize {
        self.len() - self.most_faulty()
    }
}

impl TryFrom<Vec<NodeId>> for ValidatorSet {
    type Error = SetError;

    /// Checks count and order; [`ValidatorSet::new`] also looks at the keys, which a set that validators agreed on
    /// went through.
    fn try_from(keys: Vec<NodeId>) -> Result<Self, SetError> {
        if !(1..=limits::VALIDATORS).contains(&keys.len()) {
            return Err(SetError::Count);
        }
        match is_ascending(&keys) {
            true => Ok(Self(keys)),
            false => Err(SetError::Order),
        }
    }
}

impl From<ValidatorSet> for Vec<NodeId> {
    fn from(set: ValidatorSet) -> Self {
        set.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;

    fn keys(n: u8) -> Vec<NodeId> {
        let mut keys: Vec<_> = (1..=n)
            .map(|seed| NodeKey::from_seed([seed; 32]).id())
            .collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn quorums_are_those_of_three_f_plus_one() {
        for (n, faulty, quorum) in [(1, 0, 1), (3, 0, 3), (4, 1, 3), (7, 2, 5), (10, 3, 7)] {
            let set = ValidatorSet::new(keys(n)).unwrap();
            assert_eq!((set.most_faulty(), set.quorum()), (faulty, quorum));
        }
    }

    #[test]
    fn improper_sets_are_refused() {
        assert_eq!(ValidatorSet::new(Vec::new()), Err(SetError::Count));
        let mut swapped = keys(4);
        swapped.swap(0, 1);
        assert_eq!(ValidatorSet::new(swapped), Err(SetError::Order));
        let twice = vec![keys(1)[0]; 2];
        assert_eq!(ValidatorSet::new(twice), Err(SetError::Order));
        // The neutral element: its signature (R = identity, s = 0) fits every text.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(
            ValidatorSet::new(vec![NodeId(neutral)]),
            Err(SetError::Key(NodeId(neutral)))
        );
    }
}
