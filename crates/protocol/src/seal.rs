//! Sealing input shares with HPKE (RFC 9180), as DAP-09 section 4.4.2 does.

use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm128, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use prio::codec::{Decode as _, Encode as _};
use rand::{CryptoRng, RngCore};

use zeroize::Zeroizing;

use crate::{
    Digest, NodeId, Reason, RoundNumber, TaskId,
    report::{Ciphertext, HpkeConfig, Metadata, PlaintextShare, additional_data},
};

type Kem = X25519HkdfSha256;

/// Which seat of the committee a share is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// Of two: takes uploads and drives preparation.
    Leader,
    /// Of two: answers the leader.
    Helper,
    /// Of more than two, which DAP does not know: its place in the committee. The leader's is 0.
    OfMore(u8),
}

impl Seat {
    /// The seat at this place of a committee of so many; the leader's place is 0.
    pub fn of(place: usize, members: usize) -> Self {
        match (place, members) {
            (0, ..=2) => Self::Leader,
            (_, ..=2) => Self::Helper,
            // A committee has three members at most.
            _ => Self::OfMore(u8::try_from(place).unwrap_or(u8::MAX)),
        }
    }

    /// The seat's number as an aggregator: the leader's is 0.
    pub fn aggregator_id(self) -> usize {
        match self {
            Self::Leader => 0,
            Self::Helper => 1,
            Self::OfMore(place) => place.into(),
        }
    }

    fn info(self) -> Vec<u8> {
        match self {
            Self::Leader => b"dap-09 input share\x01\x02".to_vec(),
            Self::Helper => b"dap-09 input share\x01\x03".to_vec(),
            Self::OfMore(place) => [b"defim v1 input share\x01".as_slice(), &[place]].concat(),
        }
    }
}

/// A share could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The member's key is of another kind.
    #[error(
        "the member's sealing key {id} is not X25519, HKDF-SHA256, AES-128-GCM; it cannot be used"
    )]
    UnsupportedKey {
        /// The key's id.
        id: u8,
    },
    /// The share does not fit its length prefix.
    #[error("the share cannot be encoded: {0}")]
    Encoding(String),
}

/// A node's secret sealing key.
pub struct SealingKey {
    id: u8,
    secret: <Kem as hpke::Kem>::PrivateKey,
    public: <Kem as hpke::Kem>::PublicKey,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({}, secret redacted)", self.id)
    }
}

impl SealingKey {
    /// The key that this secret seed gives.
    pub fn from_seed(id: u8, seed: [u8; 32]) -> Self {
        let (secret, public) = Kem::derive_keypair(&seed);
        Self { id, secret, public }
    }

    /// The public side.
    pub fn config(&self) -> HpkeConfig {
        HpkeConfig {
            id: self.id,
            kem: 0x0020,
            kdf: 0x0001,
            aead: 0x0001,
            public_key: self.public.to_bytes().to_vec(),
        }
    }

    /// Open a share that was sealed for this node in this seat.
    ///
    /// # Errors
    ///
    /// [`Reason::UnknownSealingKey`], [`Reason::SealBroken`] or [`Reason::Malformed`].
    pub fn open(
        &self,
        seat: Seat,
        task: &TaskId,
        metadata: &Metadata,
        public_share: &[u8],
        sealed: &Ciphertext,
    ) -> Result<PlaintextShare, Reason> {
        if sealed.config_id != self.id {
            return Err(Reason::UnknownSealingKey);
        }
        let aad = additional_data(task, metadata, public_share).map_err(|_| Reason::Malformed)?;
        let plain = self.open_bytes(&seat.info(), sealed, &aad)?;
        PlaintextShare::get_decoded(&plain).map_err(|_| Reason::Malformed)
    }

    /// Open a share of a key that `dealer` sealed for this node.
    ///
    /// # Errors
    ///
    /// [`Reason::UnknownSealingKey`], [`Reason::SealBroken`] or [`Reason::Malformed`].
    pub fn open_key_share(
        &self,
        about: &KeyShareData,
        sealed: &Ciphertext,
    ) -> Result<Zeroizing<Vec<u8>>, Reason> {
        if sealed.config_id != self.id {
            return Err(Reason::UnknownSealingKey);
        }
        let plain = self.open_bytes(KEY_SHARE_INFO, sealed, &about.to_bytes())?;
        Ok(Zeroizing::new(plain))
    }

    fn open_bytes(&self, info: &[u8], sealed: &Ciphertext, aad: &[u8]) -> Result<Vec<u8>, Reason> {
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key)
            .map_err(|_| Reason::Malformed)?;
        hpke::single_shot_open::<AesGcm128, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.secret,
            &encapsulated,
            info,
            &sealed.payload,
            aad,
        )
        .map_err(|_| Reason::SealBroken)
    }
}

const KEY_SHARE_INFO: &[u8] = b"defim v1 key share";

/// What a sealed share of a one-time key is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyShareData {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// Digest of the selection that is encrypted.
    pub selection: Digest,
    /// Merkle root of the ciphertext.
    pub ciphertext: Digest,
    /// Whose key it is.
    pub dealer: NodeId,
    /// Whose share it is.
    pub holder: NodeId,
}

impl KeyShareData {
    /// All of it in order; every part has a fixed length.
    fn to_bytes(self) -> Vec<u8> {
        let Self {
            task,
            round,
            selection,
            ciphertext,
            dealer,
            holder,
        } = self;
        [
            task.0.as_slice(),
            &round.to_be_bytes(),
            &selection.0,
            &ciphertext.0,
            &dealer.0,
            &holder.0,
        ]
        .concat()
    }
}

/// Seal a share of a one-time key for its holder.
///
/// # Errors
///
/// [`SealError`] if the holder's key is of a kind this build does not know.
pub fn seal_key_share<R: RngCore + CryptoRng>(
    config: &HpkeConfig,
    about: &KeyShareData,
    share: &[u8],
    rng: &mut R,
) -> Result<Ciphertext, SealError> {
    seal_bytes(config, KEY_SHARE_INFO, share, &about.to_bytes(), rng)
}

/// Seal a share for a member.
///
/// # Errors
///
/// [`SealError`] if the member's key is of a kind this build does not know.
pub fn seal<R: RngCore + CryptoRng>(
    config: &HpkeConfig,
    seat: Seat,
    task: &TaskId,
    metadata: &Metadata,
    public_share: &[u8],
    share: &PlaintextShare,
    rng: &mut R,
) -> Result<Ciphertext, SealError> {
    let encoding = |e: prio::codec::CodecError| SealError::Encoding(e.to_string());
    let aad = additional_data(task, metadata, public_share).map_err(encoding)?;
    let plain = share.get_encoded().map_err(encoding)?;
    seal_bytes(config, &seat.info(), &plain, &aad, rng)
}

fn seal_bytes<R: RngCore + CryptoRng>(
    config: &HpkeConfig,
    info: &[u8],
    plain: &[u8],
    aad: &[u8],
    rng: &mut R,
) -> Result<Ciphertext, SealError> {
    let unsupported = SealError::UnsupportedKey { id: config.id };
    if (config.kem, config.kdf, config.aead) != (0x0020, 0x0001, 0x0001) {
        return Err(unsupported);
    }
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(&config.public_key)
        .map_err(|_| unsupported.clone())?;
    let (encapsulated, payload) = hpke::single_shot_seal::<AesGcm128, HkdfSha256, Kem, _>(
        &OpModeS::Base,
        &public,
        info,
        plain,
        aad,
        rng,
    )
    .map_err(|_| unsupported)?;
    Ok(Ciphertext {
        config_id: config.id,
        encapsulated_key: encapsulated.to_bytes().to_vec(),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReportId, report::Extension};

    #[test]
    fn a_seal_opens_only_for_its_seat_task_and_metadata() {
        let key = SealingKey::from_seed(3, [5; 32]);
        let task = TaskId([1; 32]);
        let metadata = Metadata {
            id: ReportId([2; 16]),
            time_s: 9,
        };
        let share = PlaintextShare {
            extensions: vec![Extension::round(4)],
            payload: vec![1, 2, 3],
        };
        let sealed = seal(
            &key.config(),
            Seat::Leader,
            &task,
            &metadata,
            b"public",
            &share,
            &mut rand::rng(),
        )
        .unwrap();
        let open =
            |seat, task: &TaskId, metadata: &Metadata, public: &[u8], sealed: &Ciphertext| {
                key.open(seat, task, metadata, public, sealed)
            };
        assert_eq!(
            open(Seat::Leader, &task, &metadata, b"public", &sealed),
            Ok(share)
        );
        let broken = Err(Reason::SealBroken);
        assert_eq!(
            open(Seat::Helper, &task, &metadata, b"public", &sealed),
            broken
        );
        assert_eq!(
            open(
                Seat::Leader,
                &TaskId([0; 32]),
                &metadata,
                b"public",
                &sealed
            ),
            broken
        );
        let later = Metadata {
            time_s: 10,
            ..metadata
        };
        assert_eq!(
            open(Seat::Leader, &task, &later, b"public", &sealed),
            broken
        );
        assert_eq!(
            open(Seat::Leader, &task, &metadata, b"Public", &sealed),
            broken
        );
        let other = Ciphertext {
            config_id: 4,
            ..sealed.clone()
        };
        assert_eq!(
            open(Seat::Leader, &task, &metadata, b"public", &other),
            Err(Reason::UnknownSealingKey)
        );
        let mut flipped = sealed;
        flipped.payload[0] ^= 1;
        assert_eq!(
            open(Seat::Leader, &task, &metadata, b"public", &flipped),
            broken
        );
    }
}
