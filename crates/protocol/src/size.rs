//! How long a task's reports are. Known before one arrives, so that nobody can make a node hold more.

use crate::vdaf::{VdafError, VdafSpec};

/// Report id and time.
const METADATA_BYTES: usize = 16 + 8;
/// X25519's encapsulated key (RFC 9180, section 7.1).
const ENCAPSULATED_KEY_BYTES: usize = 32;
/// AES-128-GCM's tag.
const TAG_BYTES: usize = 16;
/// The round extension: type, length, round number.
const ROUND_EXTENSION_BYTES: usize = 2 + 2 + 8;
/// Room for a credential in each share, and for what a later client may add. Far below a share: nothing worth storing
/// fits in.
const SLACK_BYTES: usize = 512;

/// Of a sealed share in a report, the length prefixes included.
const fn sealed(share: usize) -> usize {
    let plain = 2 + ROUND_EXTENSION_BYTES + 4 + share;
    1 + 2 + ENCAPSULATED_KEY_BYTES + 4 + plain + TAG_BYTES
}

impl VdafSpec {
    /// Bytes of an encoded report as this version's clients make it.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range.
    pub fn report_bytes(&self) -> Result<usize, VdafError> {
        let (public, leader, helper) = self.share_lengths()?;
        let helpers = usize::from(self.shares.saturating_sub(1));
        // Of two, DAP has no list.
        let list = if helpers > 1 { 4 } else { 0 };
        Ok(METADATA_BYTES + 4 + public + list + sealed(leader) + helpers * sealed(helper))
    }

    /// Most bytes of a report that are taken.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range.
    pub fn most_report_bytes(&self) -> Result<usize, VdafError> {
        Ok(self.report_bytes()? + SLACK_BYTES)
    }

    /// Most bytes of one sealed share for a helper, length prefixes included.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range.
    pub fn most_helper_bytes(&self) -> Result<usize, VdafError> {
        let (_, _, helper) = self.share_lengths()?;
        Ok(sealed(helper) + SLACK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use prio::{codec::Encode as _, vdaf::Client as _};

    use super::*;
    use crate::{
        NodeKey, ReportId, VerifiedManifest,
        manifest::tests::manifest,
        report::{Extension, Metadata, PlaintextShare, Report, SealedShares},
        seal::{Seat, seal},
    };

    #[test]
    fn the_length_is_that_of_a_report() {
        let key = NodeKey::from_seed([9; 32]);
        let task = VerifiedManifest::verify(manifest(&key).sign(&key).unwrap(), None).unwrap();
        let metadata = Metadata {
            id: ReportId([1; 16]),
            time_s: 7,
        };
        let instance = task.vdaf.instance().unwrap();
        let values = task.vdaf.measurement(&vec![0; task.vdaf.dimension]);
        let (public, shares) = instance.shard(&values, metadata.id.as_bytes()).unwrap();
        let public = public.get_encoded().unwrap();
        let sealed = |at: usize, seat| {
            let plain = PlaintextShare {
                extensions: vec![Extension::round(3)],
                payload: shares[at].get_encoded().unwrap(),
            };
            let hpke = &task.members[at].hpke;
            let mut random = rand::rng();
            seal(
                hpke,
                seat,
                &task.task(),
                &metadata,
                &public,
                &plain,
                &mut random,
            )
            .unwrap()
        };
        let report = Report {
            metadata,
            leader: sealed(0, Seat::Leader),
            helper: sealed(1, Seat::Helper),
            public_share: public,
        };
        let bytes = report.get_encoded().unwrap();
        assert_eq!(bytes.len(), task.vdaf.report_bytes().unwrap());
        let helper = report.helper.get_encoded().unwrap();
        assert_eq!(
            helper.len() + SLACK_BYTES,
            task.vdaf.most_helper_bytes().unwrap()
        );
        let three = VdafSpec {
            shares: 3,
            ..task.vdaf
        };
        let instance = three.instance().unwrap();
        let (public, shares) = instance.shard(&values, metadata.id.as_bytes()).unwrap();
        let (public, mut random) = (public.get_encoded().unwrap(), rand::rng());
        let report = SealedShares {
            metadata,
            sealed: (0..3)
                .map(|at| {
                    let plain = PlaintextShare {
                        extensions: vec![Extension::round(3)],
                        payload: shares[at].get_encoded().unwrap(),
                    };
                    let (hpke, seat) = (&task.members[0].hpke, Seat::of(at, 3));
                    let task = task.task();
                    seal(hpke, seat, &task, &metadata, &public, &plain, &mut random).unwrap()
                })
                .collect(),
            public_share: public.clone(),
        };
        let bytes = report.get_encoded().unwrap();
        assert_eq!(bytes.len(), three.report_bytes().unwrap());
        let wide = VdafSpec {
            dimension: usize::MAX,
            ..task.vdaf
        };
        assert!(wide.report_bytes().is_err());
    }
}
