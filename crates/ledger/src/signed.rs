//! Signed public statements: the exact text, who signed it and the signature.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeId;

/// What a signature is about. It is part of what is signed, so that a statement of one kind can
/// never be passed off as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A task manifest, signed by the task's aggregation node.
    Manifest,
    /// A [`crate::RoundOpened`], signed by the task's aggregation node.
    Round,
    /// A [`crate::BatchSummary`], signed by all members of its committee.
    Batch,
    /// A selection of encrypted sums, signed by the task's aggregation node.
    Selection,
    /// An encrypted sum, signed by the full node that encrypted.
    EncryptedSum,
    /// An opening of a sum, signed by the task's aggregation node.
    SumOpening,
    /// The public record of a finished round, signed by the task's aggregation node.
    Record,
    /// A silo's report, signed by its full node.
    Silo,
    /// A transaction of the ledger (`Tx`), signed by its sender.
    Tx,
    /// The admission of a light node's key to a task, signed by an invite's key.
    Invite,
    /// A report of an enrolled light node, signed with the key that is enrolled.
    LightReport,
}

impl Context {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Manifest => b"defim v1 manifest\0",
            Self::Round => b"defim v1 round\0",
            Self::Batch => b"defim v1 batch\0",
            Self::Selection => b"defim v1 selection\0",
            Self::EncryptedSum => b"defim v1 encrypted sum\0",
            Self::SumOpening => b"defim v1 sum opening\0",
            Self::Record => b"defim v1 record\0",
            Self::Silo => b"defim v1 silo\0",
            Self::Tx => b"defim v1 tx\0",
            Self::Invite => b"defim v1 invite\0",
            Self::LightReport => b"defim v1 light credential\0",
        }
    }
}

/// A node's ed25519 signing key.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// The key that this secret seed gives.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public key, which names the node.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Sign bytes as a statement of this kind.
    pub fn sign(&self, context: Context, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&message(context, bytes)).to_bytes())
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey({}, secret redacted)", self.id())
    }
}

/// Why a signed text is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Signed by somebody else.
    #[error("signed by node {found}, but node {expected} must sign it")]
    WrongSigner {
        /// Who had to sign.
        expected: NodeId,
        /// Who signed.
        found: NodeId,
    },
    /// The signature does not fit the text.
    #[error("the signature of node {0} does not fit the text: it was changed after it was signed")]
    Broken(NodeId),
}

/// A text exactly as it was signed; it is never encoded again, so its digest is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedText {
    /// The signed text, JSON.
    pub payload: String,
    /// Who signed.
    pub signer: NodeId,
    /// Ed25519 signature over context label and text.
    #[serde(with = "signature_bytes")]
    pub signature: [u8; 64],
}

impl SignedText {
    /// Sign `payload` as a statement of this kind.
    pub fn sign(context: Context, payload: String, key: &NodeKey) -> Self {
        let signature = key.sign(context, payload.as_bytes()).0;
        Self {
            payload,
            signer: key.id(),
            signature,
        }
    }

    /// Check that `expected` signed this text as a statement of this kind.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if somebody else signed, or the text, the kind or the signature was changed.
    pub fn verify(&self, context: Context, expected: &NodeId) -> Result<(), SignatureError> {
        if self.signer != *expected {
            return Err(SignatureError::WrongSigner {
                expected: *expected,
                found: self.signer,
            });
        }
        Signature(self.signature).verify(context, self.payload.as_bytes(), expected)
    }
}

/// An ed25519 signature over a context label and bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Check that `signer` signed these bytes as a statement of this kind.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Broken`].
    pub fn verify(
        &self,
        context: Context,
        bytes: &[u8],
        signer: &NodeId,
    ) -> Result<(), SignatureError> {
        // `verify_strict` also refuses small-order keys, under which one signature fits many texts.
        VerifyingKey::from_bytes(signer.as_bytes())
            .and_then(|key| {
                key.verify_strict(
                    &message(context, bytes),
                    &ed25519_dalek::Signature::from_bytes(&self.0),
                )
            })
            .map_err(|_| SignatureError::Broken(*signer))
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            return signature_bytes::serialize(&self.0, s);
        }
        let (low, high) = self.0.split_at(32);
        let half = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().unwrap_or([0; 32]) };
        (half(low), half(high)).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return signature_bytes::deserialize(d).map(Self);
        }
        let halves = <([u8; 32], [u8; 32])>::deserialize(d)?;
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(halves.0.iter().chain(&halves.1)) {
            *to = *from;
        }
        Ok(Self(bytes))
    }
}

fn message(context: Context, bytes: &[u8]) -> Vec<u8> {
    [context.label(), bytes].concat()
}

mod signature_bytes {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8; 64], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 64], D::Error> {
        let text = String::deserialize(d)?;
        URL_SAFE_NO_PAD
            .decode(&text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom("a signature is 86 characters of base64url"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_signer_or_kind_is_refused() {
        let key = NodeKey::from_seed([1; 32]);
        let other = NodeKey::from_seed([2; 32]);
        let signed = SignedText::sign(Context::Manifest, "{}".into(), &key);
        assert_eq!(signed.verify(Context::Manifest, &key.id()), Ok(()));
        assert!(matches!(
            signed.verify(Context::Manifest, &other.id()),
            Err(SignatureError::WrongSigner { .. })
        ));
        assert!(signed.verify(Context::Batch, &key.id()).is_err());
        let mut changed = signed.clone();
        changed.payload.push(' ');
        assert!(changed.verify(Context::Manifest, &key.id()).is_err());
        let json = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedText>(&json).unwrap(), signed);
        assert!(!format!("{key:?}").contains("1, 1"));
    }
}
