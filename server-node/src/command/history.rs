//! `defim bench --history`: how long a ledger of many rounds takes to check.
//!
//! Nobody agrees on these blocks: the keys of four validators sign their certificates one after the other. All else is a real
//! ledger's: what a round puts into its blocks, epochs of the usual length, the files of a node that follows, and the API that
//! serves them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use defim_bench::Row;
use defim_ledger::{
    Admission, AdmissionRule, BatchSummary, Block, Body, Claim, CommitteeIndex, CreateTask, Digest,
    FirstValidator, Genesis, Header, ModelUpdated, NodeId, NodeKey, Opened, Proposal, ReportId,
    Role, RoundOpened, SignedText, State, TaskId, TaskTerms, Tx, Verdict, Vote, committee_count,
    committee_of_report, committee_seats, consensus_namespace, light::Certificate, light_report_id,
    propose, report_path, round_randomness,
};
use defim_validation::Stored;
use ed25519_dalek::{Signer as _, SigningKey};

use super::{ledger, out, run::stopped};
use crate::{
    cli::Bench,
    clock,
    config::Directory,
    failure::{Failure, Outcome},
    http,
    ledger::{client::LedgerClient, setup, validator::Validator},
};

const TASK: TaskId = TaskId([0x7A; 32]);
/// Light nodes, each of which contributes to every round and takes its reward.
const LIGHTS: u8 = 12;
const FULL: u8 = 3;
const VALIDATORS: u8 = 4;
/// Time between two blocks.
const BLOCK_MS: u64 = 1_000;
/// Blocks of a round.
const PER_ROUND: u64 = 5;

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

fn seed(kind: u8, number: u8) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[0] = number;
    seed
}

fn keys(kind: u8, count: u8) -> Vec<NodeKey> {
    let keys = (0..count).map(|number| NodeKey::from_seed(seed(kind, number)));
    keys.collect()
}

/// A ledger that grows by whole rounds.
struct History {
    genesis: Genesis,
    state: State,
    head: Header,
    blocks: Vec<Stored>,
    admin: NodeKey,
    aggregation: NodeKey,
    full: Vec<NodeKey>,
    lights: Vec<NodeKey>,
    /// In the order of their keys.
    validators: Vec<(NodeKey, SigningKey)>,
}

impl History {
    /// A ledger with a task that is funded for so many rounds.
    fn begin(rounds: u64) -> Outcome<Self> {
        let admin = NodeKey::from_seed(seed(1, 0));
        let mut validators: Vec<_> = (0..VALIDATORS)
            .map(|number| {
                let seed = seed(4, number);
                (NodeKey::from_seed(seed), SigningKey::from_bytes(&seed))
            })
            .collect();
        validators.sort_by_key(|(key, _)| key.id());
        let first = (1..)
            .zip(&validators)
            .map(|(number, (key, _))| FirstValidator {
                node: key.id(),
                name: format!("validator-{number}"),
                // Nobody is there.
                address: "127.0.0.1:9".into(),
            });
        let mut genesis = setup::genesis("a long history", first.collect(), admin.id())?;
        genesis.timestamp_ms -= BLOCK_MS * PER_ROUND * (rounds + 1);
        let mut history = Self {
            state: State::genesis(&genesis).map_err(other)?,
            head: Block::genesis(&genesis).map_err(other)?.header().clone(),
            genesis,
            blocks: Vec::new(),
            admin,
            aggregation: NodeKey::from_seed(seed(2, 0)),
            full: keys(3, FULL),
            lights: keys(5, LIGHTS),
            validators,
        };
        history.set_up(rounds)?;
        Ok(history)
    }

    fn set_up(&mut self, rounds: u64) -> Outcome {
        let enrol = |node: &NodeKey, role, name: &str| Body::EnrolNode {
            node: node.id(),
            role,
            name: name.into(),
            address: "127.0.0.1:9".into(),
        };
        let mut bodies = vec![enrol(&self.aggregation, Role::Aggregation, "aggregation")];
        bodies.extend(self.full.iter().map(|key| enrol(key, Role::Full, "full")));
        let terms = TaskTerms {
            aggregation: self.aggregation.id(),
            members: self.full.iter().map(NodeKey::id).collect(),
            shares: 2,
            min_batch: 3,
            rounds,
            max_weight: 1,
            admission: AdmissionRule::Open,
            budget_per_round: setup::BUDGET_PER_ROUND,
            split: setup::SPLIT,
            tolerance_ppm: setup::TOLERANCE_PPM,
            fairness_gap_ppm: setup::FAIRNESS_GAP_PPM,
        };
        let create = CreateTask {
            task: TASK,
            manifest: Digest([1; 32]),
            model: Digest([2; 32]),
            terms,
        };
        let fund = Body::FundTask {
            task: TASK,
            amount: setup::BUDGET_PER_ROUND * rounds,
        };
        bodies.extend([Body::CreateTask(create), fund]);
        self.block(|own| bodies.into_iter().map(|body| (&own.admin, body)).collect())?;
        self.block(|own| {
            let enrolled = own.lights.iter().map(|key| {
                let body = Body::EnrolLight {
                    task: TASK,
                    key: key.id(),
                    by: Admission::Open,
                };
                (key, body)
            });
            enrolled.collect()
        })
    }

    /// One block with these, all of which are good, and its certificate.
    fn block(&mut self, bodies: impl FnOnce(&Self) -> Vec<(&NodeKey, Body)>) -> Outcome {
        let (proposal, certificate) = self.made(bodies)?;
        self.blocks.push(Stored {
            block: proposal.block.to_bytes().into(),
            certificate: Some(certificate.to_bytes().into()),
        });
        self.head = proposal.block.header().clone();
        self.state = proposal.state;
        Ok(())
    }

    fn made(
        &self,
        bodies: impl FnOnce(&Self) -> Vec<(&NodeKey, Body)>,
    ) -> Outcome<(Proposal, Certificate)> {
        let chain = self.genesis.chain();
        let mut sent: BTreeMap<NodeId, u64> = BTreeMap::new();
        let txs: Vec<_> = bodies(self)
            .into_iter()
            .map(|(key, body)| {
                let from = key.id();
                let first = || self.state.account(&from).nonce;
                let next = sent.entry(from).or_insert_with(first);
                let nonce = *next;
                *next += 1;
                let tx = Tx {
                    from,
                    nonce,
                    chain,
                    body,
                };
                tx.sign(key)
            })
            .collect();
        let now = self.head.timestamp_ms + BLOCK_MS;
        let proposal = propose(&self.state, &self.head, &txs, now, usize::MAX).map_err(other)?;
        if let Some((_, why)) = proposal.refused.first() {
            return Err(other(why));
        }
        let certificate = self.certify(proposal.block.header());
        Ok((proposal, certificate))
    }

    /// The certificate of three of four, as the engine makes it.
    fn certify(&self, header: &Header) -> Certificate {
        let view = header.height % self.genesis.params.epoch_blocks + 1;
        // Another one is late each time.
        let late = usize::try_from(header.height).unwrap_or(0) % self.validators.len();
        let mut certificate = Certificate {
            epoch: header.epoch,
            view,
            parent: view - 1,
            payload: header.digest(),
            signers: (0..self.validators.len()).map(|at| at != late).collect(),
            signatures: Vec::new(),
        };
        let message = certificate.signed_bytes(&consensus_namespace(&self.genesis.chain()));
        let signers = (0..).zip(&self.validators).filter(|(at, _)| *at != late);
        certificate.signatures = signers
            .map(|(_, (_, key))| key.sign(&message).to_bytes())
            .collect();
        certificate
    }

    /// A round from its opening to its rewards.
    fn round(&mut self) -> Outcome {
        let task = self.state.task(&TASK).ok_or_else(|| other("no task"))?;
        let round = task.round + 1;
        let opening = RoundOpened {
            task: TASK,
            round,
            base_model: task.model,
            opened_ms: self.head.timestamp_ms,
            deadline_ms: self.head.timestamp_ms + 60_000,
            weights: BTreeMap::new(),
        };
        let statement = opening.sign(&self.aggregation).map_err(other)?;
        let batches = self.batches(&statement);
        let closed = self.closed(round, &batches)?;
        let opened = self.opened(round, &batches)?;
        let model = Digest::of(&round.to_be_bytes());
        let updated = ModelUpdated {
            task: TASK,
            round,
            model,
            optimiser: Digest([8; 32]),
            record: Digest([9; 32]),
        };
        let vote = Vote {
            task: TASK,
            round,
            model,
            verdict: Verdict::Accept {
                loss_micro: 300_000,
                accuracy_ppm: 900_000,
            },
        };
        let claims = self.claims(round, &batches)?;
        self.block(|own| vec![(&own.aggregation, Body::RoundOpened { statement })])?;
        self.block(|own| {
            let closed = closed.into_iter();
            closed.map(|body| (&own.aggregation, body)).collect()
        })?;
        self.block(|own| {
            let bodies = [Body::Opened(opened), Body::ModelUpdated(updated)];
            bodies.map(|body| (&own.aggregation, body)).into()
        })?;
        self.block(|own| {
            let votes = own.validators.iter();
            votes
                .map(|(key, _)| (key, Body::Vote(vote.clone())))
                .collect()
        })?;
        self.block(|own| own.lights.iter().zip(claims).collect())
    }

    fn committee(&self, id: &ReportId, randomness: &Digest) -> CommitteeIndex {
        committee_of_report(&TASK, randomness, id, committee_count(self.full.len(), 2))
    }

    /// Everybody's report, by the committee that checks it, and whose it is.
    fn batches(&self, statement: &SignedText) -> Batches {
        let randomness = round_randomness(statement);
        let mut batches = Batches {
            opening: randomness,
            ids: BTreeMap::new(),
            of: Vec::new(),
        };
        for key in &self.lights {
            let id = light_report_id(&TASK, &randomness, &key.id());
            let committee = self.committee(&id, &randomness);
            batches.ids.entry(committee).or_default().push(id);
            batches.of.push((committee, id));
        }
        for ids in batches.ids.values_mut() {
            ids.sort_unstable();
        }
        batches
    }

    fn seats(&self, committee: CommitteeIndex) -> impl Iterator<Item = &NodeKey> {
        let seats = committee_seats(self.full.len(), 2, committee).unwrap_or_default();
        seats.into_iter().filter_map(|seat| self.full.get(seat))
    }

    fn closed(&self, round: u64, batches: &Batches) -> Outcome<Vec<Body>> {
        let batches = batches.ids.iter().map(|(committee, ids)| {
            let summary = BatchSummary::new(
                TASK,
                round,
                batches.opening,
                *committee,
                ids,
                BTreeMap::new(),
            );
            let summary = summary.map_err(other)?;
            let statements = self
                .seats(*committee)
                .map(|key| summary.sign(key).map_err(other))
                .collect::<Outcome<_>>()?;
            Ok(Body::BatchClosed { statements })
        });
        batches.collect()
    }

    fn opened(&self, round: u64, batches: &Batches) -> Outcome<Opened> {
        let nodes: BTreeSet<_> = batches
            .ids
            .keys()
            .flat_map(|committee| self.seats(*committee))
            .map(NodeKey::id)
            .collect();
        Ok(Opened {
            task: TASK,
            round,
            selection: Digest([3; 32]),
            batches: batches.ids.keys().copied().collect(),
            ciphertexts: nodes
                .into_iter()
                .map(|node| (node, Digest([4; 32])))
                .collect(),
            sum: Digest([5; 32]),
            key: Digest([6; 32]),
            total: Digest([7; 32]),
        })
    }

    /// In the order of the light nodes.
    fn claims(&self, round: u64, batches: &Batches) -> Outcome<Vec<Body>> {
        let claims = batches.of.iter().map(|(committee, report)| {
            let ids = batches.ids.get(committee);
            let path = ids.and_then(|ids| report_path(ids, report));
            Ok(Body::Claim(Claim {
                task: TASK,
                round,
                report: *report,
                committee: *committee,
                path: path.ok_or_else(|| other("no path"))?,
            }))
        });
        claims.collect()
    }
}

/// The reports of a round.
struct Batches {
    /// What decides where they go.
    opening: Digest,
    ids: BTreeMap<CommitteeIndex, Vec<ReportId>>,
    /// In the order of the light nodes.
    of: Vec<(CommitteeIndex, ReportId)>,
}

/// A node with the history, at work.
struct Served {
    genesis: Genesis,
    height: u64,
    validator: Validator,
}

/// Make a history, and start a node that follows it from its files.
async fn served(rounds: u64, folder: &Path) -> Outcome<Served> {
    let history = tokio::task::spawn_blocking(move || {
        let mut history = History::begin(rounds)?;
        for _ in 0..rounds {
            history.round()?;
        }
        Ok::<_, Failure>(history)
    });
    let History {
        genesis,
        head,
        blocks,
        ..
    } = history.await.map_err(other)??;
    std::fs::create_dir_all(folder).map_err(other)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Validator::fill(folder, genesis.clone(), blocks)?;
    let name = "follower".to_owned();
    let validator =
        Validator::start(name, folder, genesis.clone(), listen, &Directory::new()).await?;
    let mut at = validator.handle().head();
    let reached = at.wait_for(|at| at.height >= head.height);
    reached.await.map_err(other)?;
    Ok(Served {
        genesis,
        height: head.height,
        validator,
    })
}

/// A folder that goes when it is no longer used.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left is in the system's own folder for that.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Measure it, or serve it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(rounds: u64, args: &Bench, json: bool) -> Outcome {
    let name = format!("defim-history-{}", std::process::id());
    let folder = Temporary(std::env::temp_dir().join(name));
    let (listener, bound) = match args.listen {
        Some(at) => http::bind(at).await?,
        None => http::bind((Ipv4Addr::LOCALHOST, 0).into()).await?,
    };
    let started = clock::start();
    let Served {
        genesis,
        height,
        validator,
    } = served(rounds, &folder.0).await?;
    let made = started.elapsed();
    let router = axum::Router::new().nest("/api/v1", http::validator_router(validator.clone()));
    let mesh = format!("http://{bound}");
    if args.listen.is_some() {
        let chain = genesis.chain();
        match json {
            true => out::json(
                &serde_json::json!({ "mesh": mesh, "chain": chain, "height": height, "rounds": rounds }),
            ),
            false => println!("{mesh} serves {rounds} rounds in {height} blocks of chain {chain}"),
        }
        http::serve(listener, router, stopped()).await?;
    } else {
        let serving = tokio::spawn(http::serve(listener, router, stopped()));
        let measured = measure(rounds, made, &mesh, &genesis, args.runs, json).await;
        serving.abort();
        measured?;
    }
    // Why it had ended before is in its log.
    let _ = validator.handle().stop().await;
    Ok(())
}

async fn measure(
    rounds: u64,
    made: Duration,
    mesh: &str,
    genesis: &Genesis,
    runs: usize,
    json: bool,
) -> Outcome {
    if !json {
        println!(
            "{:<8} {:<8} {:>9} {:>11} {:>12}",
            "scheme", "step", "rounds", "median ms", "bytes"
        );
    }
    let print = |step: &str, mut times: Vec<Duration>, bytes: u64| {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let row = Row {
            scheme: "ledger".into(),
            step: step.into(),
            dim: usize::try_from(rounds).unwrap_or(usize::MAX),
            median_ms: median.as_secs_f64() * 1e3,
            bytes,
            peak_bytes: 0,
            threads: 1,
        };
        match json {
            true => out::json(&row),
            false => println!(
                "{:<8} {:<8} {:>9} {:>11.1} {:>12}",
                row.scheme, row.step, row.dim, row.median_ms, row.bytes
            ),
        }
    };
    print("make", vec![made], 0);
    let (mut verify, mut bytes) = (Vec::new(), 0);
    let chain = genesis.chain().to_string();
    for _ in 0..runs.max(1) {
        let started = clock::start();
        let verified = ledger::check(mesh, Some(&chain)).await?;
        verify.push(started.elapsed());
        if verified.rounds != rounds {
            return Err(Failure::Integrity(format!(
                "{} rounds were verified, and {rounds} made",
                verified.rounds
            )));
        }
        bytes = verified.bytes;
    }
    print("verify", verify, bytes);
    let mut follow = Vec::new();
    for _ in 0..runs.max(1) {
        let started = clock::start();
        let client = LedgerClient::new(genesis.clone(), vec![format!("{mesh}/api/v1")])?;
        // From the genesis over all hand-overs to the head, and what stands there.
        client.account(genesis.treasury).await?;
        follow.push(started.elapsed());
    }
    print("follow", follow, 0);
    Ok(())
}
