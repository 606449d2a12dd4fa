//! A transaction: who asks for what on which chain, signed.

use serde::{Deserialize, Serialize};

use crate::{
    Body, Context, Digest, NodeId, NodeKey, Signature, SignatureError, codec::Canonical, limits,
};

/// What somebody asks the ledger to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tx {
    /// Whose account this is; it signs.
    pub from: NodeId,
    /// How many transactions of this account were carried out before. So none is carried out twice.
    pub nonce: u64,
    /// The chain ([`crate::Genesis::chain`]). So none is carried out on another chain.
    pub chain: Digest,
    /// What is asked for.
    pub body: Body,
}

impl Tx {
    /// Sign as its sender. [`SignedTx::verify`] refuses the signature of any other key than `from`'s.
    pub fn sign(self, key: &NodeKey) -> SignedTx {
        let signature = key.sign(Context::Tx, &self.to_bytes());
        SignedTx {
            tx: self,
            signature,
        }
    }

    /// What names the transaction, whoever asks: the SHA-256 of what its sender signs.
    pub fn id(&self) -> Digest {
        crate::codec::labelled(b"defim v1 tx\0", &self.to_bytes())
    }
}

impl Canonical for Tx {
    const MOST_BYTES: usize = limits::TX_BYTES - 64;
}

/// A transaction with its sender's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTx {
    /// The transaction.
    pub tx: Tx,
    /// Its sender's signature ([`Context::Tx`]).
    pub signature: Signature,
}

impl SignedTx {
    /// What names the transaction ([`Tx::id`]).
    pub fn id(&self) -> Digest {
        self.tx.id()
    }

    /// Check that the sender signed it.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if anybody else did, or it was changed.
    pub fn verify(&self) -> Result<(), SignatureError> {
        self.signature
            .verify(Context::Tx, &self.tx.to_bytes(), &self.tx.from)
    }
}

impl Canonical for SignedTx {
    const MOST_BYTES: usize = limits::TX_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_its_senders_and_reads_back_from_its_bytes_alone() {
        let key = NodeKey::from_seed([1; 32]);
        let tx = Tx {
            from: key.id(),
            nonce: 3,
            chain: Digest([9; 32]),
            body: Body::Transfer {
                to: NodeId([2; 32]),
                amount: 300,
            },
        };
        let signed = tx.clone().sign(&key);
        assert_eq!(signed.verify(), Ok(()));
        let bytes = signed.to_bytes();
        assert_eq!(SignedTx::from_bytes(&bytes).unwrap(), signed);
        let mut longer = bytes;
        longer.push(0);
        assert!(SignedTx::from_bytes(&longer).is_err());
        let other = Tx {
            nonce: 4,
            ..tx.clone()
        };
        assert_ne!(other.id(), signed.id());
        let forged = SignedTx {
            tx: other,
            ..signed
        };
        assert!(forged.verify().is_err());
        assert!(tx.sign(&NodeKey::from_seed([2; 32])).verify().is_err());
    }
}
