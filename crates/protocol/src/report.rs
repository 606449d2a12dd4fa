//! Reports in the encoding of DAP-09, section 4.4.2; of tasks with more than two shares, in one of our own that differs
//! in its end.

use std::io::Cursor;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prio::codec::{
    CodecError, Decode, Encode, decode_u16_items, decode_u32_items, encode_u16_items,
    encode_u32_items,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Credential, NodeId, Reason, ReportId, RoundNumber, Signature, TaskId};

/// Media type of a report.
pub const REPORT_MEDIA_TYPE: &str = "application/dap-report";
/// Media type of a report with more than two shares: id, time and public share as in DAP, then a list of all sealed
/// shares, leader first, behind its length in four bytes.
pub const SHARES_MEDIA_TYPE: &str = "application/vnd.defim-report";
/// Media type of a list of sealing keys.
pub const HPKE_CONFIG_LIST_MEDIA_TYPE: &str = "application/dap-hpke-config-list";
/// Private-use extension that binds all shares of a report to one round: its number, eight bytes,
/// big-endian. It travels inside the seal, so nobody can move a report to another round.
pub const ROUND_EXTENSION: u16 = 0xFF01;

/// Private-use extension of the one report of a full node's silo that counts more than once: its signature
/// ([`crate::Credential::silo`]).
pub const SILO_EXTENSION: u16 = 0xFF02;

/// Private-use extension of the one report that an enrolled light node has in a round: its key, 32 bytes, and its
/// signature ([`crate::Credential::enrolled`]).
pub const ENROLMENT_EXTENSION: u16 = 0xFF03;

/// A sealing key's public side (`HpkeConfig`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpkeConfig {
    /// Which of the node's keys.
    pub id: u8,
    /// RFC 9180 key encapsulation: 0x0020, X25519.
    pub kem: u16,
    /// RFC 9180 key derivation: 0x0001, HKDF-SHA256.
    pub kdf: u16,
    /// RFC 9180 encryption: 0x0001, AES-128-GCM.
    pub aead: u16,
    /// The public key.
    pub public_key: Vec<u8>,
}

/// A sealed input share (`HpkeCiphertext`).
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext {
    /// Which key it is sealed to.
    pub config_id: u8,
    /// The encapsulated key.
    pub encapsulated_key: Vec<u8>,
    /// The encrypted [`PlaintextShare`].
    pub payload: Vec<u8>,
}

/// What is public of a report besides its public share (`ReportMetadata`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The report's id.
    pub id: ReportId,
    /// When it was made, seconds since 1970.
    pub time_s: u64,
}

/// One contribution (`Report`).
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// Id and time.
    pub metadata: Metadata,
    /// The VDAF's public share.
    pub public_share: Vec<u8>,
    /// The leader's sealed share.
    pub leader: Ciphertext,
    /// The helper's sealed share.
    pub helper: Ciphertext,
}

/// One contribution to a task of any number of shares: for two, a [`Report`] on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedShares {
    /// Id and time.
    pub metadata: Metadata,
    /// The VDAF's public share.
    pub public_share: Vec<u8>,
    /// The sealed share of each member of the committee, leader first.
    pub sealed: Vec<Ciphertext>,
}

/// Media type of a report of so many shares.
pub const fn media_type(shares: u8) -> &'static str {
    match shares {
        ..=2 => REPORT_MEDIA_TYPE,
        _ => SHARES_MEDIA_TYPE,
    }
}

/// An extension (`Extension`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub kind: u16,
    /// Its content.
    pub data: Vec<u8>,
}

/// What a seal hides (`PlaintextInputShare`).
#[derive(Clone, PartialEq, Eq)]
pub struct PlaintextShare {
    /// Extensions, each type at most once.
    pub extensions: Vec<Extension>,
    /// The VDAF's input share.
    pub payload: Vec<u8>,
}

impl Extension {
    /// The extension that binds a share to this round.
    pub fn round(round: RoundNumber) -> Self {
        Self {
            kind: ROUND_EXTENSION,
            data: round.to_be_bytes().to_vec(),
        }
    }

    /// The extension that shows whose report it is.
    pub fn credential(credential: &Credential) -> Self {
        match credential {
            Credential::Silo(signature) => Self {
                kind: SILO_EXTENSION,
                data: signature.0.to_vec(),
            },
            Credential::Enrolled { key, signature } => Self {
                kind: ENROLMENT_EXTENSION,
                data: [key.0.as_slice(), &signature.0].concat(),
            },
        }
    }

    /// The credential in this extension; none if it is of another kind.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`] if it is of such a kind and no credential.
    pub fn as_credential(&self) -> Result<Option<Credential>, Reason> {
        let data = self.data.as_slice();
        let signature = |bytes: &[u8]| bytes.try_into().map(Signature);
        let read = match self.kind {
            SILO_EXTENSION => signature(data).map(Credential::Silo),
            ENROLMENT_EXTENSION => {
                let (key, rest) = data.split_first_chunk().ok_or(Reason::Malformed)?;
                let key = NodeId(*key);
                signature(rest).map(|signature| Credential::Enrolled { key, signature })
            }
            _ => return Ok(None),
        };
        read.map(Some).map_err(|_| Reason::Malformed)
    }
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Ciphertext(key {}, {} bytes)",
            self.config_id,
            self.payload.len()
        )
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Report({}, {:?}, {:?})",
            self.metadata.id, self.leader, self.helper
        )
    }
}

impl std::fmt::Debug for SealedShares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedShares({}, {:?})", self.metadata.id, self.sealed)
    }
}

impl std::fmt::Debug for PlaintextShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlaintextShare({} bytes, redacted)", self.payload.len())
    }
}

fn put_bytes16(bytes: &mut Vec<u8>, items: &[u8]) -> Result<(), CodecError> {
    encode_u16_items(bytes, &(), items)
}

fn put_bytes32(bytes: &mut Vec<u8>, items: &[u8]) -> Result<(), CodecError> {
    encode_u32_items(bytes, &(), items)
}

/// The additional data of a seal (`InputShareAad`).
pub(crate) fn additional_data(
    task: &TaskId,
    metadata: &Metadata,
    public_share: &[u8],
) -> Result<Vec<u8>, CodecError> {
    let mut bytes = task.0.to_vec();
    metadata.encode(&mut bytes)?;
    put_bytes32(&mut bytes, public_share)?;
    Ok(bytes)
}

impl Encode for Metadata {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        bytes.extend_from_slice(&self.id.0);
        self.time_s.encode(bytes)
    }
}

impl Decode for Metadata {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        let mut id = [0; 16];
        std::io::Read::read_exact(bytes, &mut id)?;
        Ok(Self {
            id: ReportId(id),
            time_s: u64::decode(bytes)?,
        })
    }
}

impl Encode for HpkeConfig {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.id.encode(bytes)?;
        self.kem.encode(bytes)?;
        self.kdf.encode(bytes)?;
        self.aead.encode(bytes)?;
        put_bytes16(bytes, &self.public_key)
    }
}

impl Decode for HpkeConfig {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            id: u8::decode(bytes)?,
            kem: u16::decode(bytes)?,
            kdf: u16::decode(bytes)?,
            aead: u16::decode(bytes)?,
            public_key: decode_u16_items(&(), bytes)?,
        })
    }
}

impl Encode for Ciphertext {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.config_id.encode(bytes)?;
        put_bytes16(bytes, &self.encapsulated_key)?;
        put_bytes32(bytes, &self.payload)
    }
}

impl Decode for Ciphertext {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            config_id: u8::decode(bytes)?,
            encapsulated_key: decode_u16_items(&(), bytes)?,
            payload: decode_u32_items(&(), bytes)?,
        })
    }
}

impl Encode for Report {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.metadata.encode(bytes)?;
        put_bytes32(bytes, &self.public_share)?;
        self.leader.encode(bytes)?;
        self.helper.encode(bytes)
    }
}

impl Decode for Report {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            metadata: Metadata::decode(bytes)?,
            public_share: decode_u32_items(&(), bytes)?,
            leader: Ciphertext::decode(bytes)?,
            helper: Ciphertext::decode(bytes)?,
        })
    }
}

impl SealedShares {
    /// The report's bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if a part is too long for its length prefix.
    pub fn get_encoded(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        self.metadata.encode(&mut bytes)?;
        put_bytes32(&mut bytes, &self.public_share)?;
        match self.sealed.as_slice() {
            [leader, helper] => {
                leader.encode(&mut bytes)?;
                helper.encode(&mut bytes)?;
            }
            more => encode_u32_items(&mut bytes, &(), more)?,
        }
        Ok(bytes)
    }

    /// Read a report of a task with so many shares.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is none, or has another number of shares.
    pub fn get_decoded(shares: u8, bytes: &[u8]) -> Result<Self, CodecError> {
        if shares <= 2 {
            return Report::get_decoded(bytes).map(Self::from);
        }
        let mut cursor = Cursor::new(bytes);
        let this = Self {
            metadata: Metadata::decode(&mut cursor)?,
            public_share: decode_u32_items(&(), &mut cursor)?,
            sealed: decode_u32_items(&(), &mut cursor)?,
        };
        if this.sealed.len() != usize::from(shares) {
            return Err(CodecError::UnexpectedValue);
        }
        match bytes.len() as u64 - cursor.position() {
            0 => Ok(this),
            left => Err(CodecError::BytesLeftOver(left as usize)),
        }
    }
}

impl From<Report> for SealedShares {
    fn from(report: Report) -> Self {
        Self {
            metadata: report.metadata,
            public_share: report.public_share,
            sealed: vec![report.leader, report.helper],
        }
    }
}

impl Encode for Extension {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.kind.encode(bytes)?;
        put_bytes16(bytes, &self.data)
    }
}

impl Decode for Extension {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            kind: u16::decode(bytes)?,
            data: decode_u16_items(&(), bytes)?,
        })
    }
}

impl Encode for PlaintextShare {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_u16_items(bytes, &(), &self.extensions)?;
        put_bytes32(bytes, &self.payload)
    }
}

impl Decode for PlaintextShare {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            extensions: decode_u16_items(&(), bytes)?,
            payload: decode_u32_items(&(), bytes)?,
        })
    }
}

/// Encode a list of sealing keys (`HpkeConfigList`).
///
/// # Errors
///
/// [`CodecError`] if a key is too long for its length prefix.
pub fn encode_hpke_config_list(configs: &[HpkeConfig]) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_u16_items(&mut bytes, &(), configs)?;
    Ok(bytes)
}

impl Serialize for HpkeConfig {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let bytes = self.get_encoded().map_err(serde::ser::Error::custom)?;
        s.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for HpkeConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        URL_SAFE_NO_PAD
            .decode(&text)
            .ok()
            .and_then(|bytes| Self::get_decoded(&bytes).ok())
            .ok_or_else(|| serde::de::Error::custom("not a base64url HpkeConfig"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_bytes_are_those_of_dap_09() {
        let report = Report {
            metadata: Metadata {
                id: ReportId([1; 16]),
                time_s: 0x0102,
            },
            public_share: vec![0xAA, 0xBB],
            leader: Ciphertext {
                config_id: 7,
                encapsulated_key: vec![2],
                payload: vec![3, 4],
            },
            helper: Ciphertext {
                config_id: 8,
                encapsulated_key: vec![5],
                payload: vec![6],
            },
        };
        let bytes = report.get_encoded().unwrap();
        assert_eq!(
            hex::encode(&bytes),
            "010101010101010101010101010101010000000000000102\
             00000002aabb07000102000000020304080001050000000106"
        );
        assert_eq!(Report::get_decoded(&bytes).unwrap(), report);
        for cut in 0..bytes.len() {
            assert!(Report::get_decoded(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Report::get_decoded(&longer).is_err(), "trailing bytes");
        let shares = SealedShares::get_decoded(2, &bytes).unwrap();
        assert_eq!(shares, SealedShares::from(report));
        assert_eq!(shares.get_encoded().unwrap(), bytes);
    }

    #[test]
    fn a_report_of_three_shares_is_read_for_a_task_of_three_only() {
        let sealed = |n: u8| Ciphertext {
            config_id: n,
            encapsulated_key: vec![n],
            payload: vec![n, n],
        };
        let report = SealedShares {
            metadata: Metadata {
                id: ReportId([1; 16]),
                time_s: 0x0102,
            },
            public_share: vec![0xAA, 0xBB],
            sealed: vec![sealed(7), sealed(8), sealed(9)],
        };
        let bytes = report.get_encoded().unwrap();
        assert_eq!(
            hex::encode(&bytes),
            "010101010101010101010101010101010000000000000102\
             00000002aabb0000001e07000107000000020707080001080000000208080900010900000002\
             0909"
        );
        assert_eq!(SealedShares::get_decoded(3, &bytes).unwrap(), report);
        assert!(SealedShares::get_decoded(2, &bytes).is_err());
        for cut in 0..bytes.len() {
            assert!(SealedShares::get_decoded(3, &bytes[..cut]).is_err());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(SealedShares::get_decoded(3, &longer).is_err());
        let fewer = SealedShares {
            sealed: vec![sealed(7), sealed(8)],
            ..report
        };
        let two = fewer.get_encoded().unwrap();
        assert!(SealedShares::get_decoded(3, &two).is_err());
        assert!(SealedShares::get_decoded(2, &two).is_ok());
    }
}
