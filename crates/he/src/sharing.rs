//! Shamir's sharing of keys among the holders, coefficient by coefficient over both primes.
//!
//! A key's share for holder `x` is the value at `x` of a polynomial of degree `t - 1` with the key at 0. Shares of
//! different keys add up to a share of the keys' sum, so holders never put together a single key.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::{CodecError, Reader};
use crate::key::{self, SecretKey, SumKey};
use crate::opening::OpeningDigest;
use crate::params::{BLOCK_BYTES, MAX_PARTIES};
use crate::ring;

/// A holder's place: 1 to [`MAX_PARTIES`]. Place 0 would be the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderIndex(u8);

impl HolderIndex {
    /// The holder at this place.
    ///
    /// # Errors
    ///
    /// [`SharingError::Index`] for 0 and for more than [`MAX_PARTIES`].
    pub fn new(index: u8) -> Result<Self, SharingError> {
        match usize::from(index) {
            1..=MAX_PARTIES => Ok(Self(index)),
            _ => Err(SharingError::Index(index)),
        }
    }

    /// The place.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for HolderIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many of the holders are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    needed: u8,
    holders: u8,
}

impl Threshold {
    /// `needed` of `holders`.
    ///
    /// # Errors
    ///
    /// [`SharingError::Threshold`] unless `2 <= needed <= holders <= 32` and `2 * needed > holders`. With half of the
    /// holders or fewer, two groups that share no member could open two sets of one round.
    pub fn new(needed: u8, holders: u8) -> Result<Self, SharingError> {
        let most = usize::from(holders) <= MAX_PARTIES;
        match most && (2..=holders).contains(&needed) && needed > holders / 2 {
            true => Ok(Self { needed, holders }),
            false => Err(SharingError::Threshold { needed, holders }),
        }
    }

    /// Two thirds of `holders`, rounded up: any two groups that answer have a third of the holders in
    /// common, so that two sets of one round are opened only if as many break their rules.
    ///
    /// # Errors
    ///
    /// [`SharingError::Threshold`] for fewer than 2 or more than [`MAX_PARTIES`] holders.
    pub fn two_thirds(holders: u8) -> Result<Self, SharingError> {
        let needed = (u16::from(holders) * 2).div_ceil(3);
        Self::new(u8::try_from(needed).unwrap_or(u8::MAX), holders)
    }

    /// Answers that are needed.
    pub fn needed(self) -> u8 {
        self.needed
    }

    /// Holders there are.
    pub fn holders(self) -> u8 {
        self.holders
    }
}

/// Why shares are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// No holder has this place.
    #[error("there is no holder {0}: they count from 1, to 32 at most")]
    Index(u8),
    /// Such a threshold gives keys away or can never be met.
    #[error(
        "{needed} of {holders} holders is no threshold: it must be over half, at least 2, at most all of up to 32"
    )]
    Threshold {
        /// Wanted.
        needed: u8,
        /// There are.
        holders: u8,
    },
    /// Not enough answers.
    #[error("{have} holders answered, but {needed} are needed")]
    TooFew {
        /// Answers.
        have: usize,
        /// The threshold.
        needed: u8,
    },
    /// One holder answered twice.
    #[error("holder {0} answered twice")]
    Duplicate(HolderIndex),
    /// The holder is none of this round.
    #[error("holder {index} answered, but there are only {holders}")]
    Stranger {
        /// Who answered.
        index: HolderIndex,
        /// How many there are.
        holders: u8,
    },
    /// Holders answered for different sets of nodes.
    #[error("holder {0} answered for another set of nodes")]
    OtherSet(HolderIndex),
    /// The answers are not on one polynomial: a holder or a dealer cheats, and more answers than the threshold
    /// show it.
    #[error("the answer of holder {0} does not fit those of the others")]
    Inconsistent(HolderIndex),
}

/// One holder's share of one node's key. Secret: seal it to the holder.
pub struct KeyShare {
    pub(crate) holder: HolderIndex,
    pub(crate) values: Zeroizing<Vec<u64>>,
}

impl KeyShare {
    /// First bytes of its form.
    const LABEL: &[u8] = b"defim he v1 key share\0";
    /// Bytes of its form.
    pub const BYTES: usize = Self::LABEL.len() + 1 + BLOCK_BYTES;

    /// Whose share it is.
    pub fn holder(&self) -> HolderIndex {
        self.holder
    }

    /// Label, holder, values: [`KeyShare::BYTES`], to be sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // All of it at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::BYTES));
        bytes.extend_from_slice(Self::LABEL);
        bytes.push(self.holder.0);
        ring::pack(&self.values, &mut bytes);
        bytes
    }

    /// From its form.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the form of a share.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new("a key share", bytes);
        reader.label(Self::LABEL)?;
        let holder = holder(&mut reader)?;
        let values = key::element("a key share", reader.bytes(BLOCK_BYTES)?)?;
        reader.end()?;
        Ok(Self { holder, values })
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyShare(of holder {}, redacted)", self.holder)
    }
}

impl PartialEq for KeyShare {
    /// In the same time wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.values.iter().zip(other.values.iter());
        self.holder == other.holder && pairs.fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl Eq for KeyShare {}

/// What a holder answers to an opening: the sum of its shares of the set's keys.
#[derive(Clone, PartialEq, Eq)]
pub struct SumShare {
    pub(crate) opening: OpeningDigest,
    pub(crate) holder: HolderIndex,
    pub(crate) values: Vec<u64>,
}

impl SumShare {
    const LABEL: &[u8] = b"defim he v1 sum share\0";
    /// Bytes of its form.
    pub const BYTES: usize = Self::LABEL.len() + 32 + 1 + BLOCK_BYTES;

    /// Who answers.
    pub fn holder(&self) -> HolderIndex {
        self.holder
    }

    /// Digest of the opening that it answers.
    pub fn opening(&self) -> OpeningDigest {
        self.opening
    }

    /// The sum of the shares that a holder has of the keys of an opening's nodes.
    pub(crate) fn of<'a>(
        opening: OpeningDigest,
        holder: HolderIndex,
        shares: impl Iterator<Item = &'a KeyShare>,
    ) -> Self {
        let mut values = vec![0; ring::RESIDUES];
        shares.for_each(|share| ring::add(&mut values, &share.values));
        Self {
            opening,
            holder,
            values,
        }
    }

    /// Label, opening, holder, values: [`SumShare::BYTES`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(Self::LABEL);
        bytes.extend_from_slice(&self.opening.0);
        bytes.push(self.holder.0);
        ring::pack(&self.values, &mut bytes);
        bytes
    }

    /// From its form.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the form of an answer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new("a sum share", bytes);
        reader.label(Self::LABEL)?;
        let opening = OpeningDigest(reader.array()?);
        let holder = holder(&mut reader)?;
        let values = key::element("a sum share", reader.bytes(BLOCK_BYTES)?)?.to_vec();
        reader.end()?;
        Ok(Self {
            opening,
            holder,
            values,
        })
    }
}

impl fmt::Debug for SumShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            opening, holder, ..
        } = self;
        write!(f, "SumShare(of holder {holder} for {opening:?})")
    }
}

fn holder(reader: &mut Reader<'_>) -> Result<HolderIndex, CodecError> {
    HolderIndex::new(reader.u8()?).map_err(|_| reader.form())
}

impl SecretKey {
    /// A share for each holder, in their order. `rng` as for [`SecretKey::random`].
    pub fn share(&self, threshold: Threshold, rng: &mut impl CryptoRng) -> Vec<KeyShare> {
        let higher: Vec<_> = (1..threshold.needed)
            .map(|_| ring::uniform(|bytes| rng.fill_bytes(bytes)))
            .collect();
        (1..=threshold.holders)
            .map(|x| {
                // Horner's scheme, from the highest coefficient down to the key.
                let mut values = Zeroizing::new(vec![0; ring::RESIDUES]);
                for coefficient in higher.iter().rev().chain([&self.coefficients]) {
                    ring::scale(&mut values, [u64::from(x); 2]);
                    ring::add(&mut values, coefficient);
                }
                let holder = HolderIndex(x);
                KeyShare { holder, values }
            })
            .collect()
    }
}

impl SumKey {
    /// The sum of keys that these answers are shares of. Any `needed` of them give it; the others are checked
    /// against it.
    ///
    /// A wrong answer among exactly `needed` is not seen here, but when the sum is opened.
    ///
    /// # Errors
    ///
    /// [`SharingError`] for answers that are too few, twice, of strangers, for different sets, or that contradict
    /// each other.
    pub fn from_answers(threshold: Threshold, answers: &[SumShare]) -> Result<Self, SharingError> {
        let mut seen: Vec<HolderIndex> = Vec::new();
        for answer in answers {
            if answer.holder.0 > threshold.holders {
                return Err(SharingError::Stranger {
                    index: answer.holder,
                    holders: threshold.holders,
                });
            }
            if seen.contains(&answer.holder) {
                return Err(SharingError::Duplicate(answer.holder));
            }
            seen.push(answer.holder);
            if answers.first().is_some_and(|a| a.opening != answer.opening) {
                return Err(SharingError::OtherSet(answer.holder));
            }
        }
        let too_few = SharingError::TooFew {
            have: answers.len(),
            needed: threshold.needed,
        };
        let Some((base, rest)) = answers.split_at_checked(threshold.needed.into()) else {
            return Err(too_few);
        };
        for extra in rest {
            if value_at(base, extra.holder.0) != Some(extra.values.clone()) {
                return Err(SharingError::Inconsistent(extra.holder));
            }
        }
        let coefficients = value_at(base, 0).ok_or(too_few)?;
        Ok(Self { coefficients })
    }
}

/// The value at `x` of the polynomial through `base`, by Lagrange. Nothing if two have the same place.
fn value_at(base: &[SumShare], x: u8) -> Option<Vec<u64>> {
    let difference = |a: u8, b: u8| {
        crate::params::PRIMES.map(|q| match a >= b {
            true => u64::from(a - b),
            false => q - u64::from(b - a),
        })
    };
    let mut value = vec![0; ring::RESIDUES];
    for one in base {
        let mut factor = [1; 2];
        for other in base.iter().filter(|other| other.holder != one.holder) {
            let above = difference(x, other.holder.0);
            let below = difference(one.holder.0, other.holder.0);
            factor = ring::times(factor, ring::quotient(above, below)?);
        }
        let mut term = one.values.clone();
        ring::scale(&mut term, factor);
        ring::add(&mut value, &term);
    }
    Some(value)
}
