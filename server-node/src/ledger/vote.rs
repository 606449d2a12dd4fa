//! Fetching what a validation node needs to judge a proposed round: no byte more than the round can have, and nothing before
//! what names it has been checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use defim_he::params::{BLOCK_BYTES, Dimension};
use defim_learn::LearningSpec;
use defim_ledger::{
    Digest, Fault, ModelUpdated, NodeId, Opened, Round, RoundNumber, Task, TaskId, Verdict,
    signed_digest,
};
use defim_net::http::HttpClient;
use defim_protocol::{
    SignedText, VerifiedManifest, limits,
    record::{RecordError, RoundRecord, VerifiedRecord},
};
use defim_validation::{
    evidence::Evidence,
    judge::{Judged, Known, judge},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use tokio::task::JoinHandle;

use crate::{
    failure::{Failure, Outcome},
    node::{aggregation::builtin_rows, artefact},
};

/// Longest description of a task, in bytes: its manifest as JSON, once signed and once read.
const TASK_BYTES: usize = 4 * 1024 * 1024;
/// Longest record, in bytes: the signatures of all batches, and little else.
const RECORD_BYTES: usize = 16 * 1024 * 1024;
/// What a model file has besides its numbers, in bytes.
const MODEL_HEAD_BYTES: usize = 64 * 1024;
/// How long it waits before a round's bytes are asked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// A round with a proposed model, as the ledger has it.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// The task's id.
    pub id: TaskId,
    /// The task.
    pub task: Task,
    /// The round.
    pub round: Round,
    /// What was opened.
    pub opened: Opened,
    /// What is proposed.
    pub model: ModelUpdated,
}

/// Where the bytes of a round are fetched.
#[derive(Debug, Clone)]
pub struct Source {
    /// The client.
    pub http: HttpClient,
    /// Base address of the aggregation node's HTTP side.
    pub base: String,
}

/// A task as it is published, of which only this is looked at.
#[derive(Deserialize)]
struct Published {
    signed: SignedText,
}

fn unusable(why: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(why.to_string())
}

impl Source {
    async fn bytes(&self, path: &str, most: usize) -> Outcome<ByteBuf> {
        let url = format!("{}/api/v1{path}", self.base);
        let got = self.http.get_bytes(&url, most).await;
        got.map(ByteBuf::from).map_err(unusable)
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, most: usize) -> Outcome<T> {
        let bytes = self.bytes(path, most).await?;
        serde_json::from_slice(&bytes).map_err(unusable)
    }

    /// Everything of a round, with its record if that keeps the rules. The record is the one that the ledger names, or nothing
    /// else is asked for; of what it names nothing is believed here: [`judge`] checks it.
    async fn fetch(&self, proposed: &Proposed) -> Outcome<(Evidence, Option<RoundRecord>)> {
        let (id, round) = (proposed.id, proposed.opened.round);
        let path = format!("/tasks/{id}?limit=1");
        let Published { signed: manifest } = self.json(&path, TASK_BYTES).await?;
        if signed_digest(&manifest) != proposed.task.manifest {
            return Err(unusable(
                "the manifest is not the one that the ledger names",
            ));
        }
        let task = VerifiedManifest::verify(manifest.clone(), Some(id)).map_err(unusable)?;
        let base = format!("/tasks/{id}/rounds/{round}");
        let signed: SignedText = self.json(&format!("{base}/record"), RECORD_BYTES).await?;
        if Digest::of(signed.payload.as_bytes()) != proposed.model.record {
            return Err(unusable("the record is not the one that the ledger names"));
        }
        let mut evidence = Evidence {
            manifest,
            record: signed.clone(),
            ids: Vec::new(),
            ciphertexts: Vec::new(),
            key: ByteBuf::new(),
            model: ByteBuf::new(),
            optimiser: ByteBuf::new(),
        };
        let record = match VerifiedRecord::verify(signed, &task, round) {
            Ok(record) => record,
            // The signature is not under the digest: whoever passed it on may have changed it.
            Err(why @ RecordError::Signature(_)) => return Err(unusable(why)),
            // Its text breaks a rule, and the ledger names that text: nothing more is needed to say so.
            Err(_) => return Ok((evidence, None)),
        };
        let batches = record.selection().batches();
        let reports = batches.values().map(|batch| batch.summary().accepted);
        if reports.fold(0, u64::saturating_add) > limits::BATCH_REPORTS as u64 {
            return Err(unusable("the round has more reports than a round can have"));
        }
        for (committee, batch) in batches {
            let path = format!("{base}/artefacts/{}", artefact::ids(*committee));
            let length = usize::try_from(batch.summary().accepted).unwrap_or(usize::MAX);
            let ids = self.bytes(&path, length.saturating_mul(16)).await?;
            evidence.ids.push(ids);
        }
        let dimension = Dimension::new(task.vdaf.coordinates()).map_err(unusable)?;
        for (node, _) in record.ciphertexts() {
            let path = format!("{base}/artefacts/{}", artefact::ciphertext(node));
            let ciphertext = self.bytes(&path, dimension.ciphertext_bytes()).await?;
            evidence.ciphertexts.push(ciphertext);
        }
        let path = |name| format!("{base}/artefacts/{name}");
        evidence.key = self.bytes(&path(artefact::KEY), BLOCK_BYTES).await?;
        // Two moments of four bytes a coordinate, and a model of four.
        let coordinates = task.vdaf.dimension;
        let moments = coordinates.saturating_mul(8);
        evidence.optimiser = self.bytes(&path(artefact::OPTIMISER), moments).await?;
        let model = coordinates.saturating_mul(4);
        let path = format!("/models/{}", record.before.model);
        let most = model.saturating_add(MODEL_HEAD_BYTES);
        evidence.model = self.bytes(&path, most).await?;
        Ok((evidence, Some((*record).clone())))
    }

    /// Fetch a proposed round, and judge it.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if its bytes cannot be had now; they are asked for again.
    pub async fn judge(
        &self,
        proposed: &Proposed,
        enrolled: &BTreeSet<NodeId>,
    ) -> Outcome<(Judged, Option<RoundRecord>)> {
        let (fetched, record) = self.fetch(proposed).await?;
        let Proposed { task, round, .. } = proposed;
        let judged = tokio::task::block_in_place(|| {
            let holdout = holdout(&fetched);
            let known = Known {
                task,
                round,
                enrolled,
                holdout: holdout.as_ref(),
            };
            judge(known, &fetched)
        });
        Ok((judged.map_err(unusable)?, record))
    }
}

/// Try until it comes to something, and no longer than `patience`: then the last failure is what there is to say.
///
/// # Errors
///
/// The last failure, in words.
pub async fn patiently<T, F: Future<Output = Outcome<T>>>(
    patience: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, String> {
    let mut last = "the round's bytes do not come".to_owned();
    let tried = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(failure) => {
                    tracing::debug!(%failure, "a round's bytes are asked for again");
                    last = failure.to_string();
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(patience, tried)
        .await
        .map_err(|_| last)
}

/// A complaint that a round's bytes cannot be had.
pub fn unavailable(why: String) -> Judged {
    Judged {
        verdict: Verdict::Complain {
            fault: Fault::Unavailable,
            accused: None,
            evidence: Digest::of(why.as_bytes()),
        },
        why: Some(why),
        evidence: None,
    }
}

/// The rows that this node judges models by: those that no sample has of a built-in task with this schema.
fn holdout(fetched: &Evidence) -> Option<defim_learn::Features> {
    let manifest: defim_protocol::Manifest =
        serde_json::from_str(&fetched.manifest.payload).ok()?;
    let spec: LearningSpec = serde_json::from_str(manifest.learning.get()).ok()?;
    let (_, rows) = builtin_rows(&spec)?;
    Some(rows.features(&spec.schema))
}

/// Rounds that are judged at once. More wait, and are no less in time: the patience of each begins when it does.
const AT_ONCE: usize = 4;
/// Those of one aggregation node: one that is slow does not hold up the rounds of others.
const OF_ONE_NODE: usize = 2;

/// A round of a task.
pub type Key = (TaskId, RoundNumber);

/// The rounds that are being judged, each by itself, and what came of it.
pub struct Docket<T> {
    working: BTreeMap<Key, (NodeId, JoinHandle<T>)>,
    done: BTreeMap<Key, T>,
}

impl<T> Default for Docket<T> {
    fn default() -> Self {
        Self {
            working: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }
}

impl<T: Send + 'static> Docket<T> {
    /// Take in what is done, and drop what nobody waits for any longer.
    pub async fn tidy(&mut self, waiting: &[Key]) {
        self.done.retain(|key, _| waiting.contains(key));
        let mut working = BTreeMap::new();
        for (key, (node, handle)) in std::mem::take(&mut self.working) {
            if !waiting.contains(&key) {
                handle.abort();
            } else if handle.is_finished() {
                // One that panicked is begun again.
                self.done.extend(handle.await.ok().map(|done| (key, done)));
            } else {
                working.insert(key, (node, handle));
            }
        }
        self.working = working;
    }

    /// Begin to judge a round of this aggregation node, unless that has begun, or as many are judged as may be at once.
    pub fn begin<F: Future<Output = T> + Send + 'static>(
        &mut self,
        key: Key,
        node: NodeId,
        work: impl FnOnce() -> F,
    ) {
        let of_node = self.working.values().filter(|(of, _)| *of == node).count();
        if !self.working.contains_key(&key)
            && !self.done.contains_key(&key)
            && self.working.len() < AT_ONCE
            && of_node < OF_ONE_NODE
        {
            self.working.insert(key, (node, tokio::spawn(work())));
        }
    }

    /// What came of it.
    pub fn done(&self, key: &Key) -> Option<&T> {
        self.done.get(key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Json, Router, extract::State, http::Uri, response::IntoResponse as _};
    use defim_ledger::{AdmissionRule, NodeKey, Stage, TaskStatus, TaskTerms};
    use defim_protocol::{
        Manifest, Member, Schedule,
        record::ModelState,
        seal::SealingKey,
        vdaf::{Scheme, VdafSpec},
    };

    use super::*;
    use crate::{http, ledger::setup};

    const PATIENCE: Duration = Duration::from_millis(1200);

    fn aggregation() -> NodeKey {
        NodeKey::from_seed([9; 32])
    }

    fn manifest() -> VerifiedManifest {
        let spec = defim_learn::builtin("diabetes", None).unwrap().spec;
        let learning = serde_json::to_string(&spec).unwrap();
        let manifest = Manifest {
            name: "diabetes".into(),
            title: String::new(),
            summary: String::new(),
            aggregation: aggregation().id(),
            members: (1..3)
                .map(|n: u8| Member {
                    node: NodeKey::from_seed([n; 32]).id(),
                    name: format!("full-{n}"),
                    hpke: SealingKey::from_seed(n, [n; 32]).config(),
                })
                .collect(),
            vdaf: VdafSpec {
                scheme: Scheme::Pine64,
                dimension: spec.dimension(),
                frac_bits: 15,
                shares: 2,
                votes: 0,
            },
            schedule: Schedule {
                min_batch: 2,
                max_batch: 9,
                settle_ms: 0,
                round_ms: 60_000,
                rounds: 9,
            },
            privacy: None,
            max_weight: 1,
            admission: None,
            ledger: defim_protocol::LedgerTerms::default(),
            created_ms: 0,
            learning: serde_json::value::RawValue::from_string(learning).unwrap(),
        };
        VerifiedManifest::verify(manifest.sign(&aggregation()).unwrap(), None).unwrap()
    }

    /// A record that names whatever costs most to fetch.
    fn greedy(task: &VerifiedManifest) -> SignedText {
        let sign = |text: &str| {
            SignedText::sign(
                defim_protocol::Context::Record,
                text.to_owned(),
                &aggregation(),
            )
        };
        let state = ModelState {
            model: Digest([1; 32]),
            optimiser: Digest([1; 32]),
        };
        let record = RoundRecord {
            task: task.task(),
            round: 1,
            opened: sign("{}"),
            selection: sign("{}"),
            batches: vec![vec![sign("{}"); 2]; 1000],
            sums: vec![sign("{}"); 5000],
            opening: sign("{}"),
            sum: Digest([1; 32]),
            key: Digest([1; 32]),
            before: state,
            after: state,
            votes: Vec::new(),
        };
        record.sign(&aggregation()).unwrap()
    }

    fn proposed(task: &VerifiedManifest, record: Digest) -> Proposed {
        let (id, one) = (task.task(), Digest([1; 32]));
        let opened = Opened {
            task: id,
            round: 1,
            selection: one,
            batches: Vec::new(),
            ciphertexts: Vec::new(),
            sum: one,
            key: one,
            total: one,
        };
        let model = ModelUpdated {
            task: id,
            round: 1,
            model: one,
            optimiser: one,
            record,
        };
        Proposed {
            id,
            round: Round {
                randomness: one,
                base_model: one,
                deadline_ms: 0,
                most_extra_weight: 0,
                batches: BTreeMap::new(),
                stage: Stage::Proposed(opened.clone(), model.clone()),
                votes: BTreeMap::new(),
                reserved: 0,
            },
            task: Task {
                manifest: signed_digest(task.signed()),
                terms: TaskTerms {
                    aggregation: aggregation().id(),
                    members: Vec::new(),
                    shares: 2,
                    min_batch: 2,
                    rounds: 9,
                    max_weight: 1,
                    admission: AdmissionRule::Open,
                    budget_per_round: 0,
                    split: setup::SPLIT,
                    tolerance_ppm: 0,
                    fairness_gap_ppm: 0,
                },
                model: one,
                optimiser: one,
                budget: 0,
                round: 1,
                unsettled: true,
                finished: 0,
                lights: 0,
                status: TaskStatus::Active,
            },
            opened,
            model,
        }
    }

    type Asked = Arc<Mutex<Vec<String>>>;

    /// An aggregation node that serves this manifest and this record, and whatever else is asked for.
    async fn serving(manifest: SignedText, record: SignedText) -> (Source, Asked) {
        let asked = Asked::default();
        let serve =
            async |State((asked, manifest, record)): State<(Asked, SignedText, SignedText)>,
                   uri: Uri| {
                asked.lock().unwrap().push(uri.path().to_owned());
                match uri.path() {
                    path if path.ends_with("/record") => Json(record).into_response(),
                    path if path.contains("/rounds/") || path.contains("/models/") => {
                        vec![0_u8; 1 << 20].into_response()
                    }
                    _ => Json(serde_json::json!({ "signed": manifest })).into_response(),
                }
            };
        let router = Router::new()
            .fallback(serve)
            .with_state((asked.clone(), manifest, record));
        let (listener, bound) = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(http::serve(listener, router, std::future::pending()));
        let source = Source {
            http: HttpClient::new().unwrap(),
            base: format!("http://{bound}"),
        };
        (source, asked)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_that_a_record_names_is_fetched_before_the_record_is_checked() {
        let task = manifest();
        let record = greedy(&task);
        let named = Digest::of(record.payload.as_bytes());
        // The record that the ledger names, which keeps no rule.
        let (source, asked) = serving(task.signed().clone(), record.clone()).await;
        let (judged, _) = source
            .judge(&proposed(&task, named), &BTreeSet::new())
            .await
            .unwrap();
        assert!(
            matches!(
                judged.verdict,
                Verdict::Complain {
                    fault: Fault::OtherModel,
                    ..
                }
            ),
            "{judged:?}"
        );
        assert_eq!(asked.lock().unwrap().len(), 2);
        // Another one than the ledger names.
        let other = proposed(&task, Digest([3; 32]));
        assert!(source.judge(&other, &BTreeSet::new()).await.is_err());
        assert_eq!(asked.lock().unwrap().len(), 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_byte_that_flips_on_the_way_accuses_nobody() {
        let task = manifest();
        let mut record = greedy(&task);
        let named = Digest::of(record.payload.as_bytes());
        let text = String::from("something else");
        let other = SignedText::sign(defim_protocol::Context::Record, text, &aggregation());
        record.signature = other.signature;
        let (source, asked) = serving(task.signed().clone(), record).await;
        let round = proposed(&task, named);
        let nobody = BTreeSet::new();
        let found = patiently(PATIENCE, || source.judge(&round, &nobody)).await;
        let why = found.unwrap_err();
        let Verdict::Complain { fault, accused, .. } = unavailable(why).verdict else {
            panic!("accepted")
        };
        assert_eq!((fault, accused), (Fault::Unavailable, None));
        // It was fetched again.
        assert!(asked.lock().unwrap().len() >= 4);
    }

    #[tokio::test]
    async fn a_round_whose_bytes_never_come_is_complained_about_and_holds_up_no_other() {
        let mut docket = Docket::default();
        let keys: Vec<Key> = (0..8).map(|n| (TaskId([n; 32]), 1)).collect();
        let slow = NodeId([1; 32]);
        for key in &keys[..6] {
            docket.begin(*key, slow, || async {
                patiently(PATIENCE, std::future::pending::<Outcome<u8>>).await
            });
        }
        assert_eq!(docket.working.len(), OF_ONE_NODE);
        for key in &keys[6..] {
            docket.begin(*key, NodeId([2; 32]), || async {
                patiently(PATIENCE, || std::future::ready(Ok(7))).await
            });
        }
        tokio::time::sleep(PATIENCE / 4).await;
        docket.tidy(&keys).await;
        assert_eq!(docket.done(&keys[6]), Some(&Ok(7)));
        assert_eq!(docket.done(&keys[7]), Some(&Ok(7)));
        assert_eq!(docket.done(&keys[0]), None);
        tokio::time::sleep(PATIENCE).await;
        docket.tidy(&keys).await;
        assert!(matches!(docket.done(&keys[0]), Some(Err(_))));
        docket.tidy(&[]).await;
        assert!(docket.done(&keys[0]).is_none());
    }
}
