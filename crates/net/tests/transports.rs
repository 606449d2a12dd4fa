//! Real sockets on loopback: every transport carries 10 MB, a broken upload goes on where it stopped.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use defim_net::{
    Frame,
    native::{Endpoint, EndpointConfig, NetError},
    read_frame,
    upload::{Begin, BeginAnswer, Report, UploadHandler, Verdict, serve_upload, upload},
    write_frame,
};
use futures::AsyncWriteExt as _;

const UPLOAD: &str = "/test/upload/1";
const ASK: &str = "/test/ask/1";
const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps what arrives, by report.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<HashMap<[u8; 16], Vec<u8>>>>);

impl UploadHandler for Keeper {
    async fn begin(&self, begin: &Begin) -> BeginAnswer {
        let kept = self.0.lock().unwrap();
        BeginAnswer::Resume(kept.get(&begin.report_id).map_or(0, Vec::len) as u64)
    }

    async fn append(&self, begin: &Begin, offset: u64, bytes: &[u8]) -> Result<(), Verdict> {
        let mut kept = self.0.lock().unwrap();
        let have = kept.entry(begin.report_id).or_default();
        assert_eq!(have.len() as u64, offset, "nothing twice, nothing left out");
        have.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(&self, begin: &Begin) -> Verdict {
        let complete = self.0.lock().unwrap()[&begin.report_id].len() as u64 == begin.length;
        Verdict {
            code: u16::from(!complete),
            message: String::new(),
        }
    }
}

async fn server(keeper: Keeper) -> Endpoint {
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::start(EndpointConfig {
        identity_seed: [5; 32],
        quic: Some(any),
        tcp: Some(any),
        webrtc: Some(any),
        ..EndpointConfig::default()
    })
    .await
    .unwrap();
    let mut uploads = endpoint.accept(UPLOAD).unwrap();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = uploads.next().await {
            let keeper = keeper.clone();
            tokio::spawn(async move {
                let _ = serve_upload(&mut stream, &keeper, 1 << 26).await;
                let _ = stream.close().await;
            });
        }
    });
    let mut asks = endpoint.accept(ASK).unwrap();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = asks.next().await {
            let frame = read_frame(&mut stream, |_| Some(1 << 20)).await.unwrap();
            write_frame(&mut stream, &frame).await.unwrap();
            let _ = stream.close().await;
        }
    });
    endpoint
}

async fn client() -> Endpoint {
    Endpoint::start(EndpointConfig {
        identity_seed: [6; 32],
        // The native WebRTC transport dials from a socket that it listens on.
        webrtc: Some("127.0.0.1:0".parse().unwrap()),
        ..EndpointConfig::default()
    })
    .await
    .unwrap()
}

fn only(endpoint: &Endpoint, word: &str) -> Vec<String> {
    let found: Vec<_> = endpoint
        .addresses()
        .iter()
        .filter(|text| text.contains(word))
        .cloned()
        .collect();
    assert_eq!(found.len(), 1, "{word}: {:?}", endpoint.addresses());
    found
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

fn report(id: u8, bytes: &[u8]) -> Report<'_> {
    Report {
        task: [1; 32],
        report_id: [id; 16],
        digest: [0; 32],
        bytes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_arrive_over_every_transport() {
    let keeper = Keeper::default();
    let server = server(keeper.clone()).await;
    let sent = bytes(10_000_000);
    for (id, word) in [(1, "/quic-v1/"), (2, "/tcp/"), (3, "/webrtc-direct/")] {
        // A connection that is there would be used again.
        let client = client().await;
        let mut stream = client
            .open(server.node_key(), &only(&server, word), UPLOAD, DEADLINE)
            .await
            .unwrap_or_else(|error| panic!("{word}: {error}"));
        let mut progress = Vec::new();
        let verdict = upload(&mut stream, &report(id, &sent), |step| {
            progress.push(step.sent)
        })
        .await
        .unwrap_or_else(|error| panic!("{word}: {error}"));
        assert_eq!(verdict.code, 0, "{word}");
        assert!(
            keeper.0.lock().unwrap()[&[id; 16]] == sent,
            "{word}: the bytes differ"
        );
        assert!(progress.is_sorted() && progress.last() == Some(&10_000_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_goes_on_where_it_stopped() {
    let keeper = Keeper::default();
    let server = server(keeper.clone()).await;
    let sent = bytes(3_000_000);
    let first = client().await;
    let address = only(&server, "/webrtc-direct/");
    let mut stream = first
        .open(server.node_key(), &address, UPLOAD, DEADLINE)
        .await
        .unwrap();
    let (half, reached) = tokio::sync::oneshot::channel();
    let mut half = Some(half);
    let contribution = report(1, &sent);
    tokio::select! {
        result = upload(&mut stream, &contribution, |step| {
            if step.sent > 1_000_000 && let Some(half) = half.take() {
                let _ = half.send(());
            }
        }) => panic!("it was to break: {result:?}"),
        // As when a page is reloaded.
        _ = reached => {}
    }
    drop(stream);
    drop(first);
    let second = client().await;
    let mut stream = second
        .open(server.node_key(), &address, UPLOAD, DEADLINE)
        .await
        .unwrap();
    let mut resumed = None;
    let verdict = upload(&mut stream, &contribution, |step| {
        resumed = Some(step.resumed_from)
    })
    .await
    .unwrap();
    assert_eq!(verdict.code, 0);
    assert!(resumed.unwrap() > 0, "it went on, it did not begin again");
    assert!(keeper.0.lock().unwrap()[&[1; 16]] == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_finds_its_node_again_after_a_restart() {
    let client = client().await;
    let first = server(Keeper::default()).await;
    let (key, old) = (first.node_key(), only(&first, "/tcp/"));
    let ask = |addresses: Vec<String>| {
        let client = client.clone();
        async move {
            let frame = Frame {
                kind: 1,
                payload: vec![7; 100_000],
            };
            client.request(key, &addresses, ASK, frame, DEADLINE).await
        }
    };
    assert_eq!(ask(old.clone()).await.unwrap().payload.len(), 100_000);
    let second = server(Keeper::default()).await;
    assert_eq!(second.node_key(), key);
    drop(first);
    let mut both = only(&second, "/tcp/");
    both.extend(old);
    assert_eq!(ask(both).await.unwrap().payload.len(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_with_the_address() {
    let client = client().await;
    let address = "/ip4/127.0.0.1/tcp/9".to_owned();
    let error = client
        .open([5; 32], &[address], UPLOAD, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("/ip4/127.0.0.1/tcp/9"),
        "{error}"
    );
    let nonsense = client
        .open([5; 32], &["nonsense".to_owned()], UPLOAD, DEADLINE)
        .await
        .unwrap_err();
    assert!(nonsense.to_string().contains("nonsense"), "{nonsense}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_at_a_node_s_address_is_not_talked_to() {
    let server = server(Keeper::default()).await;
    let client = client().await;
    let stranger = [9; 32];
    let key = Endpoint::start(EndpointConfig {
        identity_seed: stranger,
        ..EndpointConfig::default()
    })
    .await
    .unwrap()
    .node_key();
    let bare = only(&server, "/tcp/")[0]
        .split("/p2p/")
        .next()
        .unwrap()
        .to_owned();
    let error = client
        .open(key, &[bare], UPLOAD, Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(matches!(error, NetError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let result = Endpoint::start(EndpointConfig {
        identity_seed: [8; 32],
        tcp: Some(address),
        ..EndpointConfig::default()
    })
    .await;
    let Err(error) = result else {
        panic!("it cannot listen there")
    };
    assert!(
        error.to_string().contains(&address.port().to_string()),
        "{error}"
    );
    let said = error.to_string();
    assert!(
        said.contains("in use") && said.contains("choose another"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn crumbs_are_not_stored_one_by_one() {
    let keeper = Keeper::default();
    let server = server(keeper.clone()).await;
    let client = client().await;
    let mut stream = client
        .open(server.node_key(), &only(&server, "/tcp/"), UPLOAD, DEADLINE)
        .await
        .unwrap();
    let begin = Begin {
        task: [1; 32],
        report_id: [9; 16],
        length: 100_000,
        digest: [0; 32],
    };
    let frame = |kind, payload| Frame { kind, payload };
    let payload = postcard::to_allocvec(&begin).unwrap();
    write_frame(&mut stream, &frame(1, payload)).await.unwrap();
    let resume = read_frame(&mut stream, |_| Some(1 << 10)).await.unwrap();
    assert_eq!(resume.kind, 2);
    write_frame(&mut stream, &frame(3, vec![7])).await.unwrap();
    assert!(read_frame(&mut stream, |_| Some(1 << 10)).await.is_err());
    assert!(keeper.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webrtc_address_stays_with_its_certificate() {
    let config = |pem| EndpointConfig {
        identity_seed: [4; 32],
        webrtc: Some("127.0.0.1:0".parse().unwrap()),
        webrtc_certificate_pem: pem,
        ..EndpointConfig::default()
    };
    let hash = |endpoint: &Endpoint| {
        let address = only(endpoint, "/certhash/").remove(0);
        address.split("/certhash/").nth(1).unwrap().to_owned()
    };
    let first = Endpoint::start(config(None)).await.unwrap();
    let pem = first.webrtc_certificate_pem().unwrap().to_owned();
    let second = Endpoint::start(config(Some(pem))).await.unwrap();
    assert_eq!(hash(&first), hash(&second));
}
