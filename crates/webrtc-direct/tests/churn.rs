//! Many connections, one after another and at once, leave nothing behind.
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
use peak_alloc::PeakAlloc;

/// What this process holds, clients included.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    files: usize,
    threads: usize,
    tasks: usize,
}

fn held(server: &Node) -> Held {
    let entries = |path| std::fs::read_dir(path).unwrap().count();
    Held {
        files: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
        tasks: server.tasks()
            + tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
    }
}

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What is allocated, and what of it and of what was freed the process still has.
fn memory() -> String {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    let allocated = HEAP.current_usage() / 1024;
    format!("{allocated} kB allocated, {} kB resident", 4 * pages)
}

async fn visit(server: &Node, number: u32) -> Node {
    let version = [Version::V1, Version::V2][number as usize % 2];
    let client = client(version).await;
    client.connect(server).await;
    let mut stream = client.open(server, ECHO).await.unwrap();
    stream.write_all(&[7; 20_000]).await.unwrap();
    stream.close().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back.len(), 20_000);
    client
}

/// Waits until no more is held than at first.
async fn back_to(first: Held, server: &Node) {
    let most = Duration::from_secs(20);
    until(&format!("{first:?} again"), most, || {
        let all = [&server.counts.connections, &server.counts.streams];
        let now = held(server);
        all.iter().all(|n| n.load(Relaxed) == 0)
            && now.files <= first.files
            && now.threads <= first.threads
            && now.tasks <= first.tasks
    })
    .await;
}

/// `DEFIM_CHURN=1000` for the figures of a release.
#[tokio::test]
async fn cycles_and_idle_connections_leave_nothing_behind() {
    let cycles = std::env::var("DEFIM_CHURN").map_or(60, |n| n.parse().unwrap());
    let server = server(Limits::default()).await;
    // Once for what the process keeps: a timer's thread.
    visit(&server, 0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let first = held(&server);
    for number in 0..20 {
        visit(&server, number).await;
    }
    back_to(first, &server).await;
    println!("first {first:?}, {}", memory());
    for number in 0..cycles {
        visit(&server, number).await;
    }
    back_to(first, &server).await;
    println!("after {cycles} cycles the same, {}", memory());
    let mut idle = Vec::new();
    for number in 0..cycles / 5 {
        idle.push(visit(&server, number).await);
    }
    let open = server.counts.connections.load(Relaxed);
    assert_eq!(open, u64::from(cycles / 5));
    println!("with {open} idle {:?}, {}", held(&server), memory());
    drop(idle);
    back_to(first, &server).await;
    println!("after them the same, {}", memory());
}
