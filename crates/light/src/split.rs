//! Splitting an update into shares with a proof, and sealing each share for its member.

use defim_learn::FixedUpdate;
use defim_protocol::{
    Committee, Credential, NodeKey, ReportId, RoundNumber, TaskId,
    report::{Extension, Metadata, PlaintextShare, SealedShares},
    seal::{Seat, seal},
    vdaf::UpdateVdaf,
};
use prio::{
    codec::Encode as _,
    vdaf::{Vdaf, VdafError},
};
use rand::{CryptoRng, RngCore};

use crate::{JoinedTask, LightError, OpenRound};

/// What sharding gives.
pub(crate) type Sharded = (
    <UpdateVdaf as Vdaf>::PublicShare,
    Vec<<UpdateVdaf as Vdaf>::InputShare>,
);

/// What a report hides: an update, and in a task with private votes the bin that it votes for ([`crate::Training::vote`]).
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The update.
    pub update: &'a FixedUpdate,
    /// The bin.
    pub vote: Option<usize>,
}

impl<'a> From<&'a FixedUpdate> for Content<'a> {
    fn from(update: &'a FixedUpdate) -> Self {
        Self { update, vote: None }
    }
}

/// An update as shares, one for each member, proof included. Each share alone is random.
pub struct Split {
    committee: Committee,
    round: RoundNumber,
    metadata: Metadata,
    public_share: Vec<u8>,
    /// Leader first.
    shares: Vec<Vec<u8>>,
    /// Whose report it is, if it says so.
    credential: Option<Credential>,
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Split({}, {} bytes, redacted)",
            self.metadata.id,
            self.bytes()
        )
    }
}

/// A report that only its committee can open, each member its own share.
#[derive(Debug, Clone)]
pub struct SealedReport {
    /// The task.
    pub task: TaskId,
    /// The round it counts in.
    pub round: RoundNumber,
    /// Its id.
    pub id: ReportId,
    /// The committee that checks it; its leader takes the report.
    pub committee: Committee,
    /// The report, encoded as in DAP-09 if it has two shares ([`SealedShares`]).
    pub bytes: Vec<u8>,
}

impl Split {
    pub(crate) fn new(
        task: &JoinedTask,
        round: &OpenRound,
        content: Content<'_>,
        id: ReportId,
        key: Option<&NodeKey>,
        time_s: u64,
        shard: impl FnOnce(&UpdateVdaf, &Vec<f64>, &[u8; 16]) -> Result<Sharded, VdafError>,
    ) -> Result<Self, LightError> {
        let failed = |e: &dyn std::fmt::Display| LightError::Split(e.to_string());
        let vdaf = task.manifest().vdaf;
        let instance = vdaf.instance()?;
        let values = content.update.values();
        let measurement = match (vdaf.votes, content.vote) {
            (0, _) => vdaf.measurement(values),
            (_, Some(bin)) => vdaf.measurement_with_vote(values, bin),
            (_, None) => return Err(LightError::Split("its vote is missing".into())),
        };
        let (public, shares) =
            shard(&instance, &measurement, id.as_bytes()).map_err(|e| failed(&e))?;
        let committee = task.committee_of(round, &id);
        let members = committee.members().len();
        // A share that no member is there for would be missing in the total.
        if shares.len() != members {
            return Err(LightError::Split(format!(
                "{} shares for {members} members",
                shares.len()
            )));
        }
        let public_share = public.get_encoded().map_err(|e| failed(&e))?;
        // In a task of anybody a signature would say for nothing who has contributed.
        let key = key.filter(|_| task.admission().is_some());
        Ok(Self {
            committee,
            round: round.round,
            metadata: Metadata { id, time_s },
            credential: key.map(|key| Credential::enrolled(round, &id, &public_share, key)),
            public_share,
            shares: shares
                .iter()
                .map(|share| share.get_encoded().map_err(|e| failed(&e)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The committee that checks it.
    pub fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Length of all shares, in bytes.
    pub fn bytes(&self) -> usize {
        self.public_share.len() + self.shares.iter().map(Vec::len).sum::<usize>()
    }

    /// Seal each share for its member and put the report together.
    ///
    /// # Errors
    ///
    /// [`LightError::Seal`] if a member's key cannot be used.
    pub fn seal<R: RngCore + CryptoRng>(self, rng: &mut R) -> Result<SealedReport, LightError> {
        let credential = self.credential;
        self.seal_with(credential, rng)
    }

    /// As [`Split::seal`], as the report of this full node's silo. Its id must be [`defim_protocol::VerifiedRound::silo_report`].
    ///
    /// # Errors
    ///
    /// [`LightError::Seal`] if a member's key cannot be used.
    pub fn seal_as_silo<R: RngCore + CryptoRng>(
        self,
        round: &OpenRound,
        key: &NodeKey,
        rng: &mut R,
    ) -> Result<SealedReport, LightError> {
        let credential = Credential::silo(round, &self.metadata.id, &self.public_share, key);
        self.seal_with(Some(credential), rng)
    }

    fn seal_with<R: RngCore + CryptoRng>(
        self,
        credential: Option<Credential>,
        rng: &mut R,
    ) -> Result<SealedReport, LightError> {
        let task = self.committee.task();
        let mut sealed = |member: &defim_protocol::Member, seat, payload: Vec<u8>| {
            let credential = credential.as_ref().map(Extension::credential);
            let plain = PlaintextShare {
                extensions: [Extension::round(self.round)]
                    .into_iter()
                    .chain(credential)
                    .collect(),
                payload,
            };
            seal(
                &member.hpke,
                seat,
                &task,
                &self.metadata,
                &self.public_share,
                &plain,
                rng,
            )
        };
        let members = self.committee.members();
        let count = members.len();
        let sealed = members
            .into_iter()
            .zip(self.shares)
            .enumerate()
            .map(|(place, (member, share))| sealed(member, Seat::of(place, count), share))
            .collect::<Result<_, _>>()?;
        let report = SealedShares {
            metadata: self.metadata,
            public_share: self.public_share,
            sealed,
        };
        let bytes = report
            .get_encoded()
            .map_err(|e| LightError::Split(e.to_string()))?;
        Ok(SealedReport {
            task,
            round: self.round,
            id: self.metadata.id,
            committee: self.committee,
            bytes,
        })
    }
}
