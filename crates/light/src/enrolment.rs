//! A light node's key for a task: how it is enrolled on the ledger, and how its rewards are claimed.
//!
//! A key is made for one task on this device and used nowhere else: whoever reads the ledger sees that the same key
//! contributes to a task round after round, and nothing that links it to a key for another task.

use defim_ledger::{
    Admission, Body, Canonical as _, Claim, InviteCode, InviteCodeError, Tx, light::Receipt,
};
use defim_protocol::{AdmissionRule, Digest, NodeKey, ReportId, TaskId};

use crate::LightError;

/// Whose transaction it is, and on which chain.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The light node's key for the task.
    pub key: &'a NodeKey,
    /// The mesh's chain ([`defim_ledger::Genesis::chain`]).
    pub chain: Digest,
    /// How many transactions of this key were carried out before.
    pub nonce: u64,
}

impl Sender<'_> {
    fn sign(self, body: Body) -> Vec<u8> {
        let Self { key, chain, nonce } = self;
        let from = key.id();
        let tx = Tx {
            from,
            nonce,
            chain,
            body,
        };
        tx.sign(key).to_bytes()
    }

    /// Ask to be enrolled, by the task's rule of admission and with an invite's code where it needs one: the
    /// bytes of the signed transaction, as validation nodes take them.
    ///
    /// # Errors
    ///
    /// [`LightError::Enrolment`] if there is no code and one is needed, the code is none, or only an admin enrols keys.
    pub fn enrol(
        self,
        task: &TaskId,
        rule: AdmissionRule,
        code: Option<&str>,
    ) -> Result<Vec<u8>, LightError> {
        let key = self.key.id();
        let by = match (rule, code) {
            (AdmissionRule::Open, _) => Admission::Open,
            (AdmissionRule::Invite, Some(code)) => {
                let code: InviteCode = code
                    .parse()
                    .map_err(|e: InviteCodeError| bad("the invite's code", e.to_string()))?;
                Admission::invited(&code.key(), task, &key)
            }
            (AdmissionRule::Invite, None) => {
                return Err(bad("the invite's code", "there is none".into()));
            }
            (AdmissionRule::Approved, _) => {
                let why =
                    format!("an admin of the mesh enrols keys for this task; show them {key}");
                return Err(bad("the key", why));
            }
        };
        let task = *task;
        Ok(self.sign(Body::EnrolLight { task, key, by }))
    }

    /// Claim the reward of a counted report by its receipt: the bytes of the signed transaction.
    ///
    /// # Errors
    ///
    /// [`LightError::Enrolment`] if the bytes are no receipt.
    pub fn claim(self, receipt: &[u8], report: ReportId) -> Result<Vec<u8>, LightError> {
        let receipt =
            Receipt::from_bytes(receipt).map_err(|e| bad("the receipt", e.to_string()))?;
        let Receipt {
            task,
            round,
            committee,
            path,
            ..
        } = receipt;
        Ok(self.sign(Body::Claim(Claim {
            task,
            round,
            report,
            committee,
            path,
        })))
    }
}

const fn bad(what: &'static str, why: String) -> LightError {
    LightError::Enrolment { what, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_is_signed_by_the_key_and_by_the_invite() {
        let key = NodeKey::from_seed([1; 32]);
        let task = TaskId([2; 32]);
        let sender = Sender {
            key: &key,
            chain: Digest([3; 32]),
            nonce: 4,
        };
        let invite = InviteCode::new([5; 16]);
        let code = format!(" {invite}\n");
        let signed = sender
            .enrol(&task, AdmissionRule::Invite, Some(&code))
            .unwrap();
        let signed = defim_ledger::SignedTx::from_bytes(&signed).unwrap();
        assert_eq!(signed.verify(), Ok(()));
        let tx = signed.tx;
        assert_eq!((tx.from, tx.nonce, tx.chain), (key.id(), 4, sender.chain));
        let by = Admission::invited(&invite.key(), &task, &key.id());
        let enrolled = Body::EnrolLight {
            task,
            key: key.id(),
            by,
        };
        assert_eq!(tx.body, enrolled);
        for (rule, code) in [
            (AdmissionRule::Invite, None),
            (AdmissionRule::Invite, Some("AAAA")),
            (AdmissionRule::Approved, None),
        ] {
            let error = sender.enrol(&task, rule, code).unwrap_err();
            assert_eq!(error.code(), "bad-enrolment", "{error}");
        }
        assert!(sender.enrol(&task, AdmissionRule::Open, None).is_ok());
        assert!(sender.claim(b"no receipt", ReportId([0; 16])).is_err());
    }
}
