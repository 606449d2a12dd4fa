//! A simulated mesh with a task and an open round.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod planted;

use std::{sync::Arc, time::Duration};

use defim_learn::{Features, builtin, builtin_csv};
use defim_light::{JoinedTask, SealedReport};
use defim_protocol::{
    AdmissionRule, Committee, NodeKey, Schedule, VerifiedRound, vdaf::Scheme, vote::BINS,
};
use defim_sim::{Mesh, MeshSetup, Party, RoundResult, SimError, Steps, contribute};

pub const fn still() -> Duration {
    Duration::ZERO
}

pub struct World {
    pub mesh: Mesh,
    pub task: JoinedTask,
    pub round: VerifiedRound,
    pub rows: Vec<Features>,
}

impl World {
    pub fn of(full: u8, scheme: Scheme, min_batch: u32) -> Self {
        Self::weighed(full, scheme, min_batch, 1, &[])
    }

    /// With silos of so many rows at the first full nodes.
    pub fn weighed(
        full: u8,
        scheme: Scheme,
        min_batch: u32,
        max_weight: u8,
        silos: &[u64],
    ) -> Self {
        Self::shared(full, 2, scheme, min_batch, max_weight, silos)
    }

    /// The same with so many shares.
    pub fn shared(
        full: u8,
        shares: u8,
        scheme: Scheme,
        min_batch: u32,
        max_weight: u8,
        silos: &[u64],
    ) -> Self {
        Self::admitting(full, shares, scheme, min_batch, max_weight, silos, None)
    }

    /// A task that only enrolled light nodes contribute to, with this many of them.
    pub fn enrolled(full: u8, min_batch: u32, lights: u8) -> Self {
        Self::enrolled_shared(full, 2, min_batch, lights)
    }

    /// The same with so many shares.
    pub fn enrolled_shared(full: u8, shares: u8, min_batch: u32, lights: u8) -> Self {
        let admission = Some(AdmissionRule::Invite);
        let mut world = Self::admitting(full, shares, Scheme::Pine64, min_batch, 1, &[], admission);
        for n in 0..lights {
            world.mesh.enrol(Self::light_key(n).id());
        }
        world
    }

    pub fn light_key(n: u8) -> Arc<NodeKey> {
        Arc::new(NodeKey::from_seed([0x80 | n; 32]))
    }

    fn admitting(
        full: u8,
        shares: u8,
        scheme: Scheme,
        min_batch: u32,
        max_weight: u8,
        silos: &[u64],
        admission: Option<AdmissionRule>,
    ) -> Self {
        Self::made(
            "diabetes", 0, full, shares, scheme, min_batch, max_weight, silos, admission,
        )
    }

    /// A task that tells digits apart, whose reports vote on the model.
    pub fn voting(full: u8, min_batch: u32) -> Self {
        Self::made(
            "digits",
            BINS,
            full,
            2,
            Scheme::Pine64,
            min_batch,
            1,
            &[],
            None,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn made(
        task: &str,
        votes: u8,
        full: u8,
        shares: u8,
        scheme: Scheme,
        min_batch: u32,
        max_weight: u8,
        silos: &[u64],
        admission: Option<AdmissionRule>,
    ) -> Self {
        let mut spec = builtin(task, None).unwrap().spec;
        spec.frac_bits = spec.frac_bits.min(scheme.most_frac_bits());
        let samples = spec
            .schema
            .read_csv(builtin_csv(task).unwrap(), &Default::default())
            .unwrap();
        let rows = samples
            .partition(12, 1)
            .iter()
            .map(|rows| rows.features(&spec.schema))
            .collect();
        let schedule = Schedule {
            min_batch,
            max_batch: 100,
            settle_ms: 1000,
            round_ms: 60_000,
            rounds: 5,
        };
        let mut mesh = Mesh::new(MeshSetup {
            spec: &spec,
            holdout: None,
            schedule,
            scheme,
            full,
            shares,
            votes,
            privacy: None,
            max_weight,
            admission,
        })
        .unwrap();
        for (place, rows) in silos.iter().enumerate() {
            mesh.declare_silo(place, *rows);
        }
        let task = JoinedTask::join(mesh.signed().clone(), None).unwrap();
        let round = mesh.open_round().unwrap();
        Self {
            mesh,
            task,
            round,
            rows,
        }
    }

    pub fn honest(&self, party: usize) -> SealedReport {
        self.report(party, None, None).unwrap()
    }

    /// The report of an enrolled light node, with its key.
    pub fn signed_by(&self, party: usize, key: &Arc<NodeKey>) -> SealedReport {
        self.report(party, None, Some(key)).unwrap()
    }

    pub fn report(
        &self,
        party: usize,
        silo: Option<&NodeKey>,
        key: Option<&Arc<NodeKey>>,
    ) -> Result<SealedReport, SimError> {
        let now = self.mesh.now();
        let open = self.task.open_round(self.round.signed().clone(), now);
        let open = open.unwrap().without_ledger();
        let (_, model) = self.mesh.coordinator().model();
        let party = Party {
            rows: &self.rows[party],
            seed: 7,
            silo,
            key,
            attack: None,
        };
        Ok(contribute(&self.task, &open, model, party, now, &still)?.0)
    }

    /// An honest report that goes to a committee of one's choice.
    pub fn honest_where(&self, party: usize, wanted: impl Fn(&Committee) -> bool) -> SealedReport {
        loop {
            let report = self.honest(party);
            if wanted(&report.committee) {
                return report;
            }
        }
    }

    pub fn upload_where(&mut self, party: usize, wanted: impl Fn(&Committee) -> bool) {
        let report = self.honest_where(party, wanted);
        self.mesh.upload(report.bytes).unwrap();
    }

    pub fn finish(&mut self) -> RoundResult {
        self.mesh
            .finish_round(&still, &mut Steps::default())
            .unwrap()
    }
}
