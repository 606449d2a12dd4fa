//! Light nodes and their rounds.

use std::sync::Arc;

use defim_learn::{Features, LearningSpec, Samples, ols_r2};
use defim_light::{Content, JoinedTask, ReadyRound, SealedReport, Training};
use defim_protocol::{
    AdmissionRule, NodeKey, Schedule,
    vdaf::{Scheme, VdafSpec},
    vote::Tally,
};
use rand::RngCore as _;
use rayon::prelude::*;

use crate::{
    Attack, Clock, Mesh, MeshSetup, RoundReport, RoundResult, SimError, Steps, Summary,
    steps::{Votes, ms, timed},
};

/// What to run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is learnt.
    pub spec: LearningSpec,
    /// All rows; a fifth is held out by seed, the rest dealt to the silos and the light nodes.
    pub rows: Samples,
    /// Light nodes, each with one contribution a round.
    pub light: usize,
    /// Full nodes with rows of their own, [`Setup::SILO_ROWS`] times as many as a light node's. Each contributes once a
    /// round, through the same machines.
    pub silos: usize,
    /// Rounds.
    pub rounds: u64,
    /// Decides hold-out, dealing and local training.
    pub seed: u64,
    /// What updates are shared and proven with.
    pub scheme: Scheme,
    /// Full nodes.
    pub full: u8,
    /// Shares of a report: 2, or 3.
    pub shares: u8,
    /// Full nodes that go away in each round, once all sums are encrypted.
    pub vanishing: usize,
    /// Epsilon and delta that are promised over all rounds; none: no noise.
    pub privacy: Option<(f64, f64)>,
    /// How often a silo's report may count: as often as it has rows, up to this.
    pub max_weight: u8,
    /// Whether every light node has a key that is enrolled, and no other one contributes.
    pub enrolled: bool,
    /// Bins of the contributors' private votes on the model; 0: there are none.
    pub votes: u8,
    /// How far the worst quarter of the votes may lie behind their mean, in parts per million, before a round is void.
    pub fairness_gap_ppm: u32,
    /// The last of the light nodes attack.
    pub attack: Option<Attack>,
}

impl Setup {
    /// Full nodes of a mesh, if nothing else is said.
    pub const FULL: u8 = 3;
    /// How many times the rows of a light node a silo has.
    pub const SILO_ROWS: usize = 5;
}

/// The rows as every run deals them.
pub(crate) struct Dealt {
    /// Silos first.
    pub parties: Vec<Features>,
    pub train: Features,
    pub test: Features,
}

impl Setup {
    pub(crate) fn deal(&self) -> Result<Dealt, SimError> {
        self.spec
            .validate()
            .map_err(|e| SimError::Setup(e.to_string()))?;
        // The bounds of the run with cryptography hold for both: a model of billions of parameters would end
        // the plain run with an allocation that aborts.
        let vdaf = VdafSpec {
            scheme: self.scheme,
            dimension: self.spec.dimension(),
            frac_bits: self.spec.frac_bits,
            shares: self.shares,
            votes: self.votes,
        };
        vdaf.instance()
            .map_err(|e| SimError::Setup(e.to_string()))?;
        let (train, test) = self.rows.split_holdout(5, self.seed);
        if self.silos > usize::from(self.full) {
            return Err(SimError::Setup(format!(
                "{} silos do not fit {} full nodes: each has one at most",
                self.silos, self.full
            )));
        }
        let left = train.len().saturating_sub(self.silos * Self::SILO_ROWS);
        if self.light < 2 || self.light > left {
            return Err(SimError::Setup(format!(
                "{} light nodes cannot share {} rows beside {} silos: from 2 to {left} can",
                self.light,
                train.len(),
                self.silos,
            )));
        }
        if self.rounds == 0 {
            return Err(SimError::Setup("a run has at least one round".into()));
        }
        let attackers = self.attackers()?;
        let schema = &self.spec.schema;
        let mut at_a_time = vec![Self::SILO_ROWS; self.silos];
        at_a_time.resize(self.silos + self.light, 1);
        Ok(Dealt {
            parties: train
                .deal(&at_a_time, self.seed)
                .iter()
                .enumerate()
                .map(|(at, rows)| {
                    let rows = rows.features(schema);
                    let attack = self.attack.filter(|_| attackers.contains(&at));
                    attack.map_or_else(|| rows.clone(), |attack| attack.rows(&rows, &self.spec))
                })
                .collect(),
            train: train.features(schema),
            test: test.features(schema),
        })
    }

    /// The places of the attackers among all parties: the last ones.
    pub(crate) fn attackers(&self) -> Result<std::ops::Range<usize>, SimError> {
        let attackers = self.attack.map(|attack| attack.attackers(self.light));
        let all = self.reports();
        Ok(all.saturating_sub(attackers.transpose()?.unwrap_or(0))..all)
    }

    /// Contributions of a round.
    pub(crate) fn reports(&self) -> usize {
        self.silos + self.light
    }

    /// The keys of the light nodes, if they are enrolled.
    fn keys(&self) -> Vec<Arc<NodeKey>> {
        let light = if self.enrolled { self.light } else { 0 };
        let key = |n: usize| {
            let mut seed = [0x4C; 32];
            let (number, _) = seed.split_at_mut(8);
            number.copy_from_slice(&(n as u64).to_be_bytes());
            Arc::new(NodeKey::from_seed(seed))
        };
        (0..light).map(key).collect()
    }

    pub(crate) fn training_seed(&self, round: u64, party: usize) -> u64 {
        self.seed ^ (round << 20) ^ party as u64
    }
}

/// Who contributes.
#[derive(Clone, Copy)]
pub struct Party<'a> {
    /// Its rows.
    pub rows: &'a Features,
    /// Decides its training.
    pub seed: u64,
    /// The key of the full node whose silo it is.
    pub silo: Option<&'a NodeKey>,
    /// The key with which a light node is enrolled.
    pub key: Option<&'a Arc<NodeKey>>,
    /// What it does instead of contributing honestly.
    pub attack: Option<Attack>,
}

/// What one light node, or a silo, does in a round: train, split, seal.
///
/// # Errors
///
/// [`SimError::Light`].
pub fn contribute(
    task: &JoinedTask,
    round: &ReadyRound,
    model: &[u8],
    party: Party<'_>,
    now: u64,
    clock: Clock<'_>,
) -> Result<(SealedReport, Steps), SimError> {
    let mut steps = Steps::default();
    let mut training = Training::start(task, round, model)?;
    if let Some(key) = party.key {
        training = training.with_key(key.clone());
    }
    let quantised = timed(clock, &mut steps.train_ms, || {
        let update = training.train(party.rows, party.seed, &mut |_| {})?;
        training.clip_and_quantise(update)
    })?;
    let update = match party.attack {
        None => quantised.fixed,
        Some(attack) => attack.update(quantised.fixed, task.spec())?,
    };
    let weighty = party
        .silo
        .filter(|key| round.silo_report(&key.id()).is_some());
    let id = match weighty.and_then(|key| round.silo_report(&key.id())) {
        Some(id) => id,
        None => {
            let draw = || {
                let mut id = [0; 16];
                rand::rng().fill_bytes(&mut id);
                id
            };
            training.report_id(draw)?
        }
    };
    let split = timed(clock, &mut steps.split_ms, || {
        let content = Content {
            update: &update,
            vote: training.vote(party.rows),
        };
        training.split(content, id, now / 1000)
    })?;
    let sealed = timed(clock, &mut steps.seal_ms, || match weighty {
        Some(key) => split.seal_as_silo(round, key, &mut rand::rng()),
        None => split.seal(&mut rand::rng()),
    })?;
    Ok((sealed, steps))
}

/// Run every real step.
///
/// # Errors
///
/// [`SimError`].
pub fn run(
    setup: &Setup,
    clock: Clock<'_>,
    on_round: &mut dyn FnMut(&RoundReport),
) -> Result<Summary, SimError> {
    let started = clock();
    let dealt = setup.deal()?;
    let attackers = setup.attackers()?;
    let most = u32::try_from(setup.reports())
        .map_err(|_| SimError::Setup("too many light nodes".into()))?;
    let schedule = Schedule {
        min_batch: 2,
        max_batch: most,
        settle_ms: 1_000,
        round_ms: 3_600_000,
        rounds: setup.rounds,
    };
    let mut mesh = Mesh::new(MeshSetup {
        spec: &setup.spec,
        holdout: Some(dealt.test.clone()),
        schedule,
        scheme: setup.scheme,
        full: setup.full,
        shares: setup.shares,
        votes: setup.votes,
        privacy: setup.privacy,
        max_weight: setup.max_weight,
        admission: setup.enrolled.then_some(AdmissionRule::Approved),
    })?;
    let keys = setup.keys();
    for key in &keys {
        mesh.enrol(key.id());
    }
    for (place, rows) in dealt.parties.iter().take(setup.silos).enumerate() {
        mesh.declare_silo(place, rows.len() as u64);
    }
    mesh.vanish_after_encrypting(setup.vanishing);
    let task = JoinedTask::join(mesh.signed().clone(), Some(mesh.manifest().task()))?;
    let (mut last, mut total, mut bytes) = (None, Steps::default(), 0);
    let (mut reports, mut rejected) = (0, 0);
    for _ in 0..setup.rounds {
        let round_started = clock();
        let opened = mesh.open_round()?;
        let now = mesh.now();
        let open = task
            .open_round(opened.signed().clone(), now)?
            .without_ledger();
        let (_, model) = mesh.coordinator().model();
        let sealed = dealt
            .parties
            .par_iter()
            .enumerate()
            .map(|(at, rows)| {
                let silo = (at < setup.silos).then(|| mesh.node_key(at)).flatten();
                let seed = setup.training_seed(opened.round, at);
                let party = Party {
                    rows,
                    seed,
                    silo,
                    key: at
                        .checked_sub(setup.silos)
                        .and_then(|light| keys.get(light)),
                    attack: setup.attack.filter(|_| attackers.contains(&at)),
                };
                contribute(&task, &open, model, party, now, clock)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut steps = Steps::default();
        for (party, (report, mut own)) in sealed.into_iter().enumerate() {
            if party < setup.silos {
                own.silo_train_ms = std::mem::take(&mut own.train_ms);
            }
            steps.add(&own);
            bytes = report.bytes.len() as u64;
            timed(clock, &mut steps.verify_ms, || mesh.upload(report.bytes))?;
        }
        let done = match mesh.finish_round(clock, &mut steps)? {
            RoundResult::Completed(done) => done,
            RoundResult::Voided(why) => {
                return Err(SimError::Voided {
                    round: opened.round,
                    why,
                });
            }
        };
        // As validators do before they accept it.
        let tally = done.tally.as_ref();
        if tally.is_some_and(|tally| tally.leaves_behind(setup.fairness_gap_ppm)) {
            return Err(SimError::Voided {
                round: opened.round,
                why: tally.map(Tally::to_string).unwrap_or_default(),
            });
        }
        let report = RoundReport {
            round: done.round,
            votes: tally.map(Votes::from),
            reports: done.reports,
            rejected: done.rejected.values().sum(),
            metrics: done.metrics,
            steps,
            wall_ms: ms(clock().saturating_sub(round_started)),
        };
        on_round(&report);
        total.add(&steps);
        reports += report.reports;
        rejected += report.rejected;
        last = Some(report.metrics);
    }
    Ok(Summary {
        summary: true,
        light: setup.light,
        silos: setup.silos,
        rounds: setup.rounds,
        dimension: setup.spec.dimension(),
        metrics: last.unwrap_or(defim_learn::Metrics::unknown()),
        reports,
        rejected,
        upload_bytes_per_report: bytes,
        epsilon: mesh.spent_epsilon(),
        steps: total,
        wall_s: clock().saturating_sub(started).as_secs_f64(),
        least_squares_r2: ols_r2(&dealt.train, &dealt.test),
    })
}
