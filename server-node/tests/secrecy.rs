//! Nobody's update can be read from what one full node or the aggregation node stores or logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use common::{Mesh, NODES};
use defim_learn::quantise_vector;
use defim_light::{JoinedTask, Training};
use defim_net::http::HttpClient;
use defim_protocol::{
    Digest, ReportId, SignedText, VerifiedManifest,
    vdaf::{Scheme, VdafSpec},
};

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
    let mesh = Mesh::start(&["--min-batch", "3", "--max-batch", "3"]);
    mesh.wait("the members have taken up the round", |mesh| {
        mesh.task()["round"]["acceptsReports"] == true
    });
    let view = mesh.task();
    let signed: SignedText = serde_json::from_value(view["signed"].clone()).unwrap();
    let round: SignedText = serde_json::from_value(view["round"]["signed"].clone()).unwrap();
    let vdaf = VerifiedManifest::verify(signed.clone(), None).unwrap().vdaf;
    let task = JoinedTask::join(signed, None).unwrap();
    let now = view["round"]["openedMs"].as_u64().unwrap();
    let open = task.open_round(round, now).unwrap();

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
            .put_report(&leader, &report.task.to_string(), report.bytes)
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
