//! Two native nodes, version 1 and version 2.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use common::*;
use defim_webrtc_direct::{Version, native::Limits};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_come_back_over_both_versions() {
    let server = server(Limits::default()).await;
    for version in [Version::V1, Version::V2] {
        let client = client(version).await;
        client.connect(&server).await;
        let stream = client.open(&server, ECHO).await.unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let (mut from, mut to) = stream.split();
        let write = async {
            to.write_all(&sent).await.unwrap();
            to.close().await.unwrap();
        };
        let mut back = Vec::new();
        let (_, read) = futures::join!(write, from.read_to_end(&mut back));
        read.unwrap();
        assert!(back == sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_leave_nothing_behind() {
    let server = server(Limits::default()).await;
    let client = client(Version::V2).await;
    client.connect(&server).await;
    let mut whole = 0;
    for i in 0..300_u32 {
        let mut stream = client.open(&server, ECHO).await.unwrap();
        stream.write_all(&i.to_be_bytes()).await.unwrap();
        // Some are closed as they should be, some dropped while the other side still reads.
        if i % 3 > 0 {
            let mut back = Vec::new();
            if stream.close().await.is_ok() && stream.read_to_end(&mut back).await.is_ok() {
                assert_eq!(back, i.to_be_bytes());
                whole += 1;
            }
        }
    }
    // libp2p-stream drops a stream that comes before the last one was taken.
    assert!(whole > 150, "{whole} of 200");
    for node in [&server, &client] {
        let streams = &node.counts.streams;
        until("all streams are gone", 5 * SECOND, || {
            streams.load(Relaxed) == 0
        })
        .await;
    }
    assert_eq!(server.counts.connections.load(Relaxed), 1);
    drop(client);
    until("the connection is gone", 5 * SECOND, || {
        server.counts.connections.load(Relaxed) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_makes_the_sender_wait_and_memory_stays() {
    let server = server(Limits::default()).await;
    let client = client(Version::V2).await;
    client.connect(&server).await;
    let mut slow = client.open(&server, GIVE).await.unwrap();
    slow.write_all(&20_000_000_u64.to_be_bytes()).await.unwrap();
    tokio::time::sleep(SECOND).await;
    // Nothing was lost meanwhile, and another connection is not in the way of it.
    let other = common::client(Version::V2).await;
    other.connect(&server).await;
    let mut quick = other.open(&server, GIVE).await.unwrap();
    quick.write_all(&1_000_000_u64.to_be_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    quick.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), 1_000_000);
    let mut bytes = Vec::new();
    slow.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len(), 20_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_said() {
    let server = server(Limits::default()).await;
    let good = server.address.clone().unwrap().to_string();
    let other_node = common::server(Limits::default()).await;
    let other = other_node.address.clone().unwrap().to_string();
    let hash = |address: &str| address.split('/').nth(7).unwrap().to_owned();
    let mut client = client(Version::V2).await;
    for (address, why) in [
        (
            good.replace(&hash(&good), &hash(&other)),
            "WrongCertificate",
        ),
        (
            "/ip4/127.0.0.1/udp/9/webrtc-direct/certhash/".to_owned() + &hash(&good),
            "NoAnswer",
        ),
        (
            good.replace(&server.peer.to_string(), &other_node.peer.to_string()),
            "WrongPeerId",
        ),
    ] {
        client.dial.send(address.parse().unwrap()).await.unwrap();
        let error = tokio::time::timeout(8 * SECOND, client.errors.recv())
            .await
            .unwrap();
        let error = error.unwrap();
        assert!(error.contains(why), "{why}: {error}");
    }
    let client = common::client(Version::V2).await;
    client.connect(&server).await;
    assert!(client.open(&server, ECHO).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_keep_nobody_out() {
    let server = server(Limits::default()).await;
    let at = server.address.clone().unwrap().to_string();
    let port: u16 = at.split('/').nth(4).unwrap().parse().unwrap();
    // 500 that asked and began DTLS, each from an address of its own, and then said nothing.
    let sockets: Vec<_> = (0..500).map(|i| half_open(port, i)).collect();
    until("handshakes have begun", 5 * SECOND, || {
        server.counts.begun.load(Relaxed) >= 400
    })
    .await;
    let limits = Limits::default();
    assert!(server.counts.connections.load(Relaxed) <= limits.handshakes_per_address as u64);
    let client = client(Version::V2).await;
    client.connect(&server).await;
    let opened = tokio::time::timeout(SECOND, client.open(&server, ECHO)).await;
    assert!(
        opened.is_ok_and(|stream| stream.is_ok()),
        "one more client is in within a second"
    );
    drop(sockets);
    until("half-open handshakes are gone", 12 * SECOND, || {
        server.counts.connections.load(Relaxed) == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_a_page_that_was_closed_is_the_next_ones() {
    let server = server(Limits::default()).await;
    let at = server.address.clone().unwrap().to_string();
    let port: u16 = at.split('/').nth(4).unwrap().parse().unwrap();
    let socket = half_open(port, 1);
    let begun = async |number| {
        until("a handshake has begun", 3 * SECOND, || {
            server.counts.begun.load(Relaxed) == number
        })
        .await;
    };
    begun(1).await;
    // Whoever it was is gone, and says nothing to what it is asked; the next one repeats its hello.
    for _ in 0..3 {
        hello(&socket, 2);
        tokio::time::sleep(SECOND).await;
    }
    begun(2).await;
}

/// Fragments of nothing, each of which DTLS would keep and put together one call deeper than the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_fragments_do_not_end_the_node() {
    let server = server(Limits::default()).await;
    let at = server.address.clone().unwrap().to_string();
    let port: u16 = at.split('/').nth(4).unwrap().parse().unwrap();
    let socket = half_open(port, 7);
    let fragment = |offset: u32| {
        let three = |n: u32| n.to_be_bytes()[1..].to_vec();
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0];
        record.extend((offset as u16).to_be_bytes());
        record.extend([0, 12, 1]);
        record.extend(three(60_000));
        // The next message that is awaited.
        record.extend([0, 1]);
        record.extend(three(offset));
        record.extend(three(0));
        record
    };
    for packet in (0..40_000).collect::<Vec<u32>>().chunks(50).rev() {
        let records: Vec<u8> = packet.iter().rev().flat_map(|n| fragment(*n)).collect();
        socket.send(&records).unwrap();
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let client = client(Version::V2).await;
    client.connect(&server).await;
    assert!(client.open(&server, ECHO).await.is_ok());
    assert!(server.counts.refused_packets.load(Relaxed) > 100);
}

/// A client hello that will be answered by a cookie, from a fresh socket that checked before.
fn half_open(port: u16, number: u32) -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    hello(&socket, number);
    socket
}

fn hello(socket: &std::net::UdpSocket, number: u32) {
    use stun::{
        attributes::ATTR_USERNAME, integrity::MessageIntegrity, message::*,
        textattrs::TextAttribute,
    };
    let server = format!("libp2p+webrtc+v2/0123456789abcdefghijkl{number}");
    let mut check = Message::new();
    check
        .build(&[
            Box::new(stun::agent::TransactionId([1; 12])) as Box<dyn Setter>,
            Box::new(BINDING_REQUEST),
            Box::new(TextAttribute::new(ATTR_USERNAME, format!("{server}:abcd"))),
            Box::new(MessageIntegrity::new_short_term_integrity(server)),
        ])
        .unwrap();
    socket.send(&check.raw).unwrap();
    socket.set_read_timeout(Some(SECOND)).unwrap();
    // What went to whoever had the port before is passed over.
    let mut answer = [0; 2000];
    let n = loop {
        let n = socket.recv(&mut answer).expect("a check is answered");
        if answer[..2] == [1, 1] {
            break n;
        }
    };
    assert!(n < 3 * check.raw.len(), "no amplification");
    let mut hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0];
    let body = [
        [254, 253].as_slice(),
        &[7; 32],
        &[0, 0],
        &[0, 2, 0xC0, 0x2B],
        &[1, 0],
        &[0, 0],
    ]
    .concat();
    let length = body.len() as u8;
    hello.extend([0, 12 + length]);
    hello.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
    hello.extend(body);
    socket.send(&hello).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanished_is_noticed_within_five_seconds() {
    let server = server(Limits::default()).await;
    // A runtime of its own, stopped at once: nothing is closed, nothing is sent any more.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = server.address.clone().unwrap();
    let (peer, counts) = (server.peer, server.counts.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let client = client(Version::V2).await;
        client.dial.send(address).await.unwrap();
        let mut control = client.control.clone();
        for _ in 0..100 {
            if control.open_stream(peer, ECHO).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tell.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    told.await.unwrap();
    // A silent connection stays as long as its other side answers.
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(counts.connections.load(Relaxed), 1);
    runtime.shutdown_background();
    until("the server has noticed", 5 * SECOND, || {
        counts.connections.load(Relaxed) == 0
    })
    .await;
    until("it is counted", SECOND, || {
        counts.failures().any(|failure| failure == ("peer-gone", 1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_the_limit_are_refused_and_the_rest_works() {
    let limits = Limits {
        streams_per_connection: 20,
        ..Limits::default()
    };
    let server = server(limits).await;
    let client = client(Version::V2).await;
    client.connect(&server).await;
    drop(client.open(&server, ECHO).await.unwrap());
    until("it is gone", 5 * SECOND, || {
        server.counts.streams.load(Relaxed) == 0
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..30 {
        let opened = client.control.clone().open_stream(server.peer, ECHO).await;
        if let Ok(mut stream) = opened
            && stream.write_all(b"a").await.is_ok()
            && stream.read_exact(&mut [0]).await.is_ok()
        {
            open.push(stream);
        }
    }
    assert_eq!(open.len(), 20);
    assert_eq!(server.counts.refused_streams.load(Relaxed), 10);
    open.clear();
    until("they are gone", 5 * SECOND, || {
        server.counts.streams.load(Relaxed) == 0
    })
    .await;
    assert!(client.open(&server, ECHO).await.is_ok());
}
