//! Credentials: by what right a report counts in a task that knows its participants.
//!
//! Two kinds of reports have one possible id in a round, which follows from the round and from whose they are: that of a
//! full node's silo, and, in a task whose manifest has an [`AdmissionRule`](crate::AdmissionRule), that of an enrolled
//! light node. So neither chooses its committee nor counts twice. So that nobody else takes the id, and no full node makes
//! a report up, each of the report's shares carries a signature over task, round, id and the public share, which commits to
//! all shares.

use std::{collections::BTreeSet, sync::Arc};

use crate::{Context, Digest, NodeId, NodeKey, ReportId, RoundOpened, Signature, SignatureError};

/// The keys of the light nodes that are enrolled for a task, as far as a full node knows its ledger.
pub trait Enrolled {
    /// Whether this key is enrolled.
    fn is_enrolled(&self, key: &NodeId) -> bool;
}

impl Enrolled for BTreeSet<NodeId> {
    fn is_enrolled(&self, key: &NodeId) -> bool {
        self.contains(key)
    }
}

impl<T: Enrolled + ?Sized> Enrolled for Arc<T> {
    fn is_enrolled(&self, key: &NodeId) -> bool {
        (**self).is_enrolled(key)
    }
}

/// Whose report it is, and the signature that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// That of the silo of the full node whose id it has.
    Silo(Signature),
    /// That of an enrolled light node.
    Enrolled {
        /// Its key.
        key: NodeId,
        /// Its signature.
        signature: Signature,
    },
}

impl Credential {
    /// Sign the report of this full node's silo.
    pub fn silo(
        round: &RoundOpened,
        report: &ReportId,
        public_share: &[u8],
        key: &NodeKey,
    ) -> Self {
        let statement = statement(round, report, public_share);
        Self::Silo(key.sign(Context::Silo, statement.as_bytes()))
    }

    /// Sign the report of this light node.
    pub fn enrolled(
        round: &RoundOpened,
        report: &ReportId,
        public_share: &[u8],
        key: &NodeKey,
    ) -> Self {
        let statement = statement(round, report, public_share);
        Self::Enrolled {
            key: key.id(),
            signature: key.sign(Context::LightReport, statement.as_bytes()),
        }
    }
}

/// Check a signature over a report.
pub(crate) fn verify(
    context: Context,
    signer: &NodeId,
    signature: &Signature,
    round: &RoundOpened,
    report: &ReportId,
    public_share: &[u8],
) -> Result<(), SignatureError> {
    let statement = statement(round, report, public_share);
    signature.verify(context, statement.as_bytes(), signer)
}

/// What is signed. The public share commits to all shares of the report.
fn statement(round: &RoundOpened, report: &ReportId, public_share: &[u8]) -> String {
    let share = Digest::of(public_share);
    format!("{} {} {report} {share}", round.task, round.round)
}
