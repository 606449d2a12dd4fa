//! Nobody's update can be read from what one full node or the aggregation node stores or logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use common::{Mesh, NODES};
use defim_learn::quantise_vector;
use defim_light::{JoinedTask, Training};
use defim_net::http::HttpClient;
use defim_protocol::{Digest, ReportId, SignedText};
use prio::{
    codec::Encode as _,
    field::{Field128, FieldElement as _},
};

/// Bytes that are looked up; shorter ones would be met by chance.
const WINDOW: usize = 8;
/// The same for numbers in words: logs are full of short lists of small numbers.
const TEXT: usize = 16;

/// Pieces of an update in every form in which it could lie about.
struct Needles {
    binary: HashSet<[u8; WINDOW]>,
    text: HashSet<[u8; TEXT]>,
    bits: Vec<u8>,
}

/// All pieces of a form, but for runs of one byte, which are everywhere.
fn pieces<const N: usize>(form: &[u8]) -> impl Iterator<Item = [u8; N]> {
    let varied = |piece: &&[u8]| piece.iter().collect::<HashSet<_>>().len() > 4;
    form.windows(N)
        .filter(varied)
        .map(|piece| piece.try_into().unwrap())
}

fn needles(values: &[i32], bound: f32) -> Needles {
    let forms: [Vec<u8>; 7] = [
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        values.iter().flat_map(|v| v.to_be_bytes()).collect(),
        values
            .iter()
            .flat_map(|v| (*v as i16).to_le_bytes())
            .collect(),
        values
            .iter()
            .flat_map(|v| (*v as i16).to_be_bytes())
            .collect(),
        values
            .iter()
            .flat_map(|v| (*v as f32 / 32768.0).to_le_bytes())
            .collect(),
        values
            .iter()
            .flat_map(|v| (*v as f32 / 32768.0 * bound).to_le_bytes())
            .collect(),
        values
            .iter()
            .flat_map(|v| (f64::from(*v) / 32768.0).to_le_bytes())
            .collect(),
    ];
    let texts = [",", ", ", " "].map(|separator| {
        let texts = values.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>().join(separator).into_bytes()
    });
    Needles {
        binary: forms.iter().flat_map(|form| pieces(form)).collect(),
        text: texts.iter().flat_map(|form| pieces(form)).collect(),
        bits: encoded_bits(values),
    }
}

/// The update as the proof system has it, bit by bit in its field.
fn encoded_bits(values: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in &values[..2] {
        let raised = (value + 32768) as u32;
        for bit in 0..16 {
            let element = if raised >> bit & 1 == 1 {
                Field128::one()
            } else {
                Field128::zero()
            };
            bytes.extend(element.get_encoded().unwrap());
        }
    }
    bytes
}

/// What of the update is in a file: the surroundings of the first piece that is.
fn found(file: &Path, needles: &Needles) -> Option<String> {
    let bytes = std::fs::read(file).unwrap();
    let Needles { binary, text, bits } = needles;
    let at = (bytes
        .windows(WINDOW)
        .position(|piece| binary.contains(piece)))
    .or_else(|| bytes.windows(TEXT).position(|piece| text.contains(piece)))
    .or_else(|| bytes.windows(bits.len()).position(|piece| piece == bits))?;
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
    let needles = needles(update.values(), bound.0);
    assert!(needles.binary.len() > 5000 && needles.text.len() > 5000);

    // The search itself finds what is there, in any of the forms.
    let control = mesh.dir.path().join("control");
    let plain: Vec<u8> = update.values()[100..110]
        .iter()
        .flat_map(|v| (*v as i16).to_le_bytes())
        .collect();
    for form in [
        plain,
        encoded_bits(update.values()),
        format!("{:?}", &update.values()[7..12]).into_bytes(),
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
