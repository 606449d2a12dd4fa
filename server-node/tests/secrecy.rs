//! Nobody's update can be read from what one full node or the aggregation node stores or logs, and nobody's question
//! from their memory either.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Mesh, NODES};
use defim_learn::quantise_vector;
use defim_light::{JoinedTask, Scoring, Training};
use defim_net::{
    http::HttpClient,
    native::{Endpoint, EndpointConfig},
    score::Asker,
};
use defim_protocol::{
    Digest, NodeId, ReportId, SignedText, VerifiedManifest,
    report::media_type,
    vdaf::{Scheme, VdafSpec},
    wire::protocol,
};
use memchr::memmem::Finder;
use serde_json::Value;

/// Coordinates in a row that are looked up: fewer are met by chance, for a coordinate has few values.
const RUN: usize = 5;

/// Runs of an update's coordinates in every form in which it could lie about, by their length in bytes.
type Needles = BTreeMap<usize, HashSet<Vec<u8>>>;

fn element(value: i32, scheme: Scheme) -> u64 {
    i128::from(value).rem_euclid(i128::from(scheme.modulus())) as u64
}

fn needles(values: &[i32], spec: &VdafSpec, bound: f32) -> Needles {
    let one = spec.norm_bound() as f32;
    let element = |v: i32| element(v, spec.scheme);
    let forms: [&dyn Fn(i32) -> Vec<u8>; 9] = [
        &|v| v.to_le_bytes().to_vec(),
        &|v| v.to_be_bytes().to_vec(),
        &|v| (v as i16).to_le_bytes().to_vec(),
        &|v| (v as i16).to_be_bytes().to_vec(),
        &|v| (v as f32 / one).to_le_bytes().to_vec(),
        &|v| (v as f32 / one * bound).to_le_bytes().to_vec(),
        &|v| f64::from(v as f32 / one).to_le_bytes().to_vec(),
        // A field element, as it is shared.
        &|v| element(v).to_le_bytes().to_vec(),
        &|v| (element(v) as u32).to_le_bytes().to_vec(),
    ];
    let mut needles = Needles::new();
    let mut look_for = |piece: Vec<u8>| {
        needles.entry(piece.len()).or_default().insert(piece);
    };
    // What is the same everywhere is not the update's.
    let runs = || {
        let varied = |run: &&[i32]| run.iter().collect::<HashSet<_>>().len() == RUN;
        values.windows(RUN).filter(varied)
    };
    for run in runs() {
        for form in forms {
            look_for(run.iter().flat_map(|v| form(*v)).collect());
        }
        for separator in [",", ", ", " "] {
            let words: Vec<String> = run.iter().map(ToString::to_string).collect();
            look_for(words.join(separator).into_bytes());
        }
    }
    needles
}

/// What of the update is in a file: the surroundings of the first piece that is.
fn found(file: &Path, needles: &Needles) -> Option<String> {
    let bytes = std::fs::read(file).unwrap();
    let at = needles.iter().find_map(|(length, pieces)| {
        (bytes.windows(*length)).position(|piece| pieces.contains(piece))
    })?;
    let around = &bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())];
    Some(around.escape_ascii().to_string())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[test]
fn a_planted_update_is_found_in_no_store_and_no_log() {
    plant("2");
}

#[test]
fn a_planted_update_of_three_shares_is_found_in_no_store_and_no_log() {
    plant("3");
}

fn plant(shares: &str) {
    let mesh = Mesh::start(&["--min-batch", "3", "--max-batch", "3", "--shares", shares]);
    mesh.wait("the members have taken up the round", |mesh| {
        mesh.task()["round"]["acceptsReports"] == true
    });
    let view = mesh.task();
    let signed: SignedText = serde_json::from_value(view["signed"].clone()).unwrap();
    let round: SignedText = serde_json::from_value(view["round"]["signed"].clone()).unwrap();
    let vdaf = VerifiedManifest::verify(signed.clone(), None).unwrap().vdaf;
    let task = JoinedTask::join(signed, None).unwrap();
    let now = view["round"]["openedMs"].as_u64().unwrap();
    let open = task.open_round(round, now).unwrap().without_ledger();

    // Values that come up nowhere by themselves; their norm is half the bound.
    let bound = task.spec().clip_norm;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let planted: Vec<f32> = (0..task.spec().dimension())
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * bound.0 * 0.03
        })
        .collect();
    let update = quantise_vector(&planted, bound, task.spec().frac_bits).unwrap();
    let needles = needles(update.values(), &vdaf, bound.0);
    assert!(needles.values().map(HashSet::len).sum::<usize>() > 5000);

    // The search itself finds what is there, in any of the forms.
    let control = mesh.dir.path().join("control");
    let some = &update.values()[100..110];
    for form in [
        some.iter()
            .flat_map(|v| (*v as i16).to_le_bytes())
            .collect(),
        (some.iter())
            .flat_map(|v| element(*v, vdaf.scheme).to_le_bytes())
            .collect(),
        format!("{some:?}").into_bytes(),
    ] {
        std::fs::write(&control, form).unwrap();
        assert!(found(&control, &needles).is_some());
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let http = HttpClient::new().unwrap();
        let digest: Digest = open.base_model;
        let model = http
            .get_bytes(&format!("{}/api/v1/models/{digest}", mesh.url()), 1 << 20)
            .await
            .unwrap();
        let training = Training::start(&task, &open, &model).unwrap();
        let id = (0..=255)
            .map(|n| ReportId([n; 16]))
            .find(|id| task.committee_of(&open, id).leader().name == "full-1")
            .unwrap();
        let report = training
            .split(&update, id, now / 1000)
            .unwrap()
            .seal(&mut rand::rng())
            .unwrap();
        let leader = format!("http://127.0.0.1:{}", mesh.port + 10);
        let answer = http
            .put_report(
                &leader,
                &report.task.to_string(),
                media_type(vdaf.shares),
                report.bytes,
            )
            .await
            .unwrap();
        assert_eq!((answer.status, answer.code), (201, None));
    });

    let search = |when: &str| {
        let mut searched = 0;
        for node in NODES {
            let mut all = files(&mesh.folder().join(node));
            all.push(mesh.log(node));
            for file in all {
                searched += std::fs::metadata(&file).unwrap().len();
                if let Some(around) = found(&file, &needles) {
                    panic!("{when}: the update is in {}: {around}", file.display());
                }
            }
        }
        assert!(
            searched > 100_000,
            "the stores were searched: {searched} bytes"
        );
    };
    search("stored");
    mesh.wait("the report is verified", |mesh| {
        mesh.task()["round"]["verified"] == 1
    });
    search("verified");
    for _ in 0..2 {
        assert!(mesh.contribute(&[]).status.success());
    }
    mesh.wait("the round is finished", |mesh| {
        mesh.task()["roundsDone"] == 1
    });
    search("released");
}

/// Calls `look` with the memory that a process can write to, mapping by mapping; how much it was, in bytes.
fn memory(process: u32, look: &mut dyn FnMut(&[u8])) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut searched = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        // Piece by piece, overlapping by more than a needle.
        for at in (from..to).step_by(1 << 22) {
            let length = (to - at).min((1 << 22) + 4096);
            let mut piece = vec![0; usize::try_from(length).unwrap()];
            // What the kernel keeps for itself cannot be read.
            if memory.read_exact_at(&mut piece, at).is_ok() {
                searched += piece.len();
                look(&piece);
            }
        }
    }
    searched
}

/// Runs of a row in every form in which a server could hold it, with the form's name.
fn forms(cells: &[f64], seen: &[f32], step: f32) -> Vec<(&'static str, Finder<'static>)> {
    let steps: Vec<i64> = seen.iter().map(|x| (x / step).round() as i64).collect();
    // The text that a person wrote, numbers as they are read, as the model sees them, and as they are encrypted.
    let form = |name, bytes: &dyn Fn(usize) -> Vec<u8>| {
        let runs = (0..cells.len() / 16).map(|run| 16 * run..16 * run + 8);
        let needles = runs.map(|run| run.flat_map(bytes).collect::<Vec<u8>>());
        needles
            .map(|needle| (name, Finder::new(&needle).into_owned()))
            .collect::<Vec<_>>()
    };
    [
        form("text", &|at| format!("{},", cells[at]).into_bytes()),
        form("f64", &|at| cells[at].to_le_bytes().to_vec()),
        form("f32", &|at| (cells[at] as f32).to_le_bytes().to_vec()),
        form("seen, f32", &|at| seen[at].to_le_bytes().to_vec()),
        form("seen, f64", &|at| {
            f64::from(seen[at]).to_le_bytes().to_vec()
        }),
        form("steps, i8", &|at| (steps[at] as i8).to_le_bytes().to_vec()),
        form("steps, i16", &|at| {
            (steps[at] as i16).to_le_bytes().to_vec()
        }),
        form("steps, i32", &|at| {
            (steps[at] as i32).to_le_bytes().to_vec()
        }),
        form("steps, i64", &|at| steps[at].to_le_bytes().to_vec()),
    ]
    .concat()
}

#[test]
fn a_question_is_in_no_memory_no_store_and_no_log() {
    let mesh = Mesh::start(&[]);
    mesh.wait("the task is there", |mesh| {
        mesh.json(&["task", "show", "digits"]).is_some()
    });
    let view = mesh.task();
    let signed: SignedText = serde_json::from_value(view["signed"].clone()).unwrap();
    let task = JoinedTask::join(signed, None).unwrap();

    // Numbers that come up nowhere by themselves.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let columns = &task.spec().schema.columns;
    let cells: Vec<f64> = columns
        .iter()
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 44) as f64 / (1 << 16) as f64
        })
        .collect();
    let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
    let words: Vec<_> = cells.iter().map(ToString::to_string).collect();
    let csv = format!("{}\n{}\n", names.join(","), words.join(","));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let nodes = mesh.json(&["node", "list"]).unwrap();
        let of = |node: &&Value| node["name"] == "full-2";
        let node = nodes["nodes"].as_array().unwrap().iter().find(of).unwrap();
        let addresses: Vec<String> = serde_json::from_value(node["addresses"].clone()).unwrap();
        let key: NodeId = node["id"].as_str().unwrap().parse().unwrap();
        let endpoint = Endpoint::start(EndpointConfig {
            identity_seed: [5; 32],
            ..EndpointConfig::default()
        });
        let endpoint = endpoint.await.unwrap();
        let deadline = Duration::from_secs(10);
        let native: Vec<String> = addresses
            .into_iter()
            .filter(|address| !address.contains("webrtc"))
            .collect();
        let stream = endpoint.open(key.0, &native, protocol::SCORE, deadline);
        let mut asker = Asker::begin(stream.await.unwrap(), task.task().0)
            .await
            .unwrap();
        let offer = asker.offer();
        let scoring = Scoring::begin(&task, offer.feature_step, offer.score_step).unwrap();
        let row = scoring.read_csv(csv.as_bytes()).unwrap().remove(0);
        for _ in 0..5 {
            let (question, bytes) = scoring.ask(&row, &mut rand::rng()).unwrap();
            let answer = asker.ask(bytes).await.unwrap();
            scoring.open(question, &answer).unwrap();
        }

        // The stream is still open: what the node holds of it, it holds now.
        let needles = forms(&cells, &row, offer.feature_step);
        assert!(needles.len() >= 36);
        let title = Finder::new("Read handwritten digits");
        for node in mesh.nodes() {
            let mut titles = 0;
            let searched = memory(mesh.process(node), &mut |piece| {
                titles += usize::from(title.find(piece).is_some());
                for (form, needle) in &needles {
                    assert!(
                        needle.find(piece).is_none(),
                        "{node} holds the row as {form}"
                    );
                }
            });
            assert!(searched > 1 << 20, "{node}: {searched} bytes");
            // The search does see what a server holds.
            assert!(titles > 0 || node != "aggregation");
        }
        // And it does find a row, in each of the forms, where it is in the clear: here.
        for form in ["text", "f64", "seen, f32"] {
            let mut found = 0;
            memory(std::process::id(), &mut |piece| {
                let of = needles.iter().filter(|(name, _)| *name == form);
                found += of
                    .filter(|(_, needle)| needle.find(piece).is_some())
                    .count();
            });
            assert!(found > 0, "{form} is found in this process");
        }
        futures::AsyncWriteExt::close(&mut asker.into_inner())
            .await
            .unwrap();
        for node in mesh.nodes() {
            let mut all = files(&mesh.folder().join(node));
            all.push(mesh.log(node));
            for file in all {
                let bytes = std::fs::read(&file).unwrap();
                for (form, needle) in &needles {
                    let place = file.display();
                    assert!(
                        needle.find(&bytes).is_none(),
                        "{place} holds the row as {form}"
                    );
                }
            }
        }
    });
}
