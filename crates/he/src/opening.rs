//! Which ciphertexts of a round are added and opened: one signed statement.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::ciphertext::{Ciphertext, Root};
use crate::codec::{CodecError, Reader};
use crate::mask::Round;
use crate::params::{Dimension, MAX_PARTIES};
use crate::sum::{Adding, Sum, SumError};

/// A node's id: its public signing key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

/// Digest of an opening's form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpeningDigest(pub [u8; 32]);

/// The first eight bytes, which is enough to tell ids apart in a log.
pub(crate) fn short(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().take(8).try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Display for OpeningDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for OpeningDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

/// One node of the set, with what it encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Root over the blocks of its ciphertext.
    pub ciphertext: Root,
    /// The committee whose aggregate it holds a share of.
    pub committee: u32,
    /// Reports in the committee's aggregate; the same number at all of its members.
    pub reports: u64,
}

/// A set is not one that can be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Nobody, or more than the modulus has room for.
    #[error("{0} ciphertexts cannot be opened together: there must be 2 to {MAX_PARTIES}")]
    Size(usize),
    /// A node is named twice.
    #[error("node {0} is named twice")]
    Duplicate(NodeId),
    /// Members of a committee state different numbers of reports.
    #[error("members of committee {0} do not agree on its reports")]
    Reports(u32),
    /// Not signed by who must.
    #[error("the opening is not signed by the aggregation node")]
    Signature,
}

/// The set of ciphertexts of one round that is opened together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    round: Round,
    members: Vec<Member>,
}

impl Opening {
    const LABEL: &[u8] = b"defim he v1 opening\0";

    /// The set, in any order.
    ///
    /// # Errors
    ///
    /// [`OpeningError`] for fewer than 2 members or more than [`MAX_PARTIES`], a node twice, or a committee with two
    /// numbers of reports.
    pub fn new(round: Round, mut members: Vec<Member>) -> Result<Self, OpeningError> {
        if !(2..=MAX_PARTIES).contains(&members.len()) {
            return Err(OpeningError::Size(members.len()));
        }
        members.sort_unstable_by_key(|member| member.node);
        for (i, a) in members.iter().enumerate() {
            for b in members.iter().skip(i + 1) {
                if a.node == b.node {
                    return Err(OpeningError::Duplicate(a.node));
                }
                if a.committee == b.committee && a.reports != b.reports {
                    return Err(OpeningError::Reports(a.committee));
                }
            }
        }
        Ok(Self { round, members })
    }

    /// The round.
    pub fn round(&self) -> Round {
        self.round
    }

    /// The members, by ascending node id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether this opens just these ciphertexts, ascending by node, of this round.
    pub fn is_of(&self, round: Round, ciphertexts: impl Iterator<Item = (NodeId, Root)>) -> bool {
        let members = self.members.iter();
        self.round == round && members.map(|m| (m.node, m.ciphertext)).eq(ciphertexts)
    }

    /// The one form, which is what the aggregation node signs: label, round, number of members, and each member.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Self::LABEL.to_vec();
        bytes.extend(self.round.to_bytes());
        // At most 32.
        bytes.push(self.members.len() as u8);
        for member in &self.members {
            bytes.extend(member.node.0);
            bytes.extend(member.ciphertext.0);
            bytes.extend(member.committee.to_be_bytes());
            bytes.extend(member.reports.to_be_bytes());
        }
        bytes
    }

    /// From its form.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the one form of a set that can be opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new("an opening", bytes);
        reader.label(Self::LABEL)?;
        let round = Round::read(&mut reader)?;
        let mut members = Vec::new();
        for _ in 0..reader.u8()? {
            members.push(Member {
                node: NodeId(reader.array()?),
                ciphertext: Root(reader.array()?),
                committee: reader.u32()?,
                reports: reader.u64()?,
            });
        }
        reader.end()?;
        let form = CodecError::Form { what: "an opening" };
        let opening = Self::new(round, members).map_err(|_| form)?;
        // Another order of members would be another form of the same set.
        match opening.to_bytes() == bytes {
            true => Ok(opening),
            false => Err(form),
        }
    }

    /// SHA-256 of the form.
    pub fn digest(&self) -> OpeningDigest {
        OpeningDigest(Sha256::digest(self.to_bytes()).into())
    }

    /// Add up the ciphertexts of the set, given in the order of its members and each checked against its root.
    ///
    /// # Errors
    ///
    /// [`SumError::Missing`] and [`SumError::Changed`] name the node whose ciphertext is not there or is another than
    /// the one that was signed; the others are those of [`Adding::add`].
    pub fn sum<'a>(
        &self,
        dimension: Dimension,
        ciphertexts: impl IntoIterator<Item = &'a Ciphertext>,
    ) -> Result<Sum, SumError> {
        let mut adding = Adding::new(dimension);
        let mut ciphertexts = ciphertexts.into_iter();
        for member in &self.members {
            let ciphertext = ciphertexts.next().ok_or(SumError::Missing(member.node))?;
            if ciphertext.root() != member.ciphertext {
                return Err(SumError::Changed(member.node));
            }
            adding.add(ciphertext)?;
        }
        match ciphertexts.next() {
            None => Ok(adding.finish()),
            Some(_) => Err(SumError::Unasked),
        }
    }
}

impl Round {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            task: reader.array()?,
            number: reader.u64()?,
        })
    }
}

/// An opening whose signature was found good. There is no other way to make one, and holders answer no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedOpening(Opening);

impl VerifiedOpening {
    /// `verify` says whether the aggregation node of the opening's task signed these bytes, [`Opening::to_bytes`].
    ///
    /// # Errors
    ///
    /// [`OpeningError::Signature`] if it says no.
    pub fn new(opening: Opening, verify: impl FnOnce(&[u8]) -> bool) -> Result<Self, OpeningError> {
        match verify(&opening.to_bytes()) {
            true => Ok(Self(opening)),
            false => Err(OpeningError::Signature),
        }
    }
}

impl std::ops::Deref for VerifiedOpening {
    type Target = Opening;

    fn deref(&self) -> &Opening {
        &self.0
    }
}
