//! `defim bench`: this build beside its baselines.

use std::{net::SocketAddr, time::Instant};

use defim_bench::{Gauge, Plan, Row, SCHEMES};
use defim_net::{
    native::{Endpoint, EndpointConfig},
    speed,
};

use super::out;
use crate::{
    cli::Bench,
    clock,
    failure::{Failure, Outcome},
    memory::MEMORY,
};

/// This process's clock and memory.
struct Process {
    start: Instant,
    base: std::sync::atomic::AtomicUsize,
    threads: usize,
}

impl Gauge for Process {
    fn now_ms(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1e3
    }

    fn reset_peak(&self) {
        MEMORY.reset_peak_usage();
        let now = MEMORY.current_usage();
        self.base.store(now, std::sync::atomic::Ordering::Relaxed);
    }

    fn peak_bytes(&self) -> u64 {
        let base = self.base.load(std::sync::atomic::Ordering::Relaxed);
        MEMORY.peak_usage().saturating_sub(base) as u64
    }

    fn threads(&self) -> usize {
        self.threads
    }
}

/// Lets browsers measure their way here, until interrupted.
///
/// # Errors
///
/// [`Failure`] if the address cannot be had.
pub async fn network(at: SocketAddr, json: bool) -> Outcome {
    let endpoint = Endpoint::start(EndpointConfig {
        identity_seed: rand::random(),
        webrtc: Some(at),
        ..EndpointConfig::default()
    })
    .await
    .map_err(|e| Failure::Other(e.to_string()))?;
    let mut streams = endpoint
        .accept(speed::PROTOCOL)
        .map_err(|e| Failure::Other(e.to_string()))?;
    for address in endpoint.addresses() {
        match json {
            true => out::json(&serde_json::json!({ "address": address })),
            false => println!("{address}"),
        }
    }
    let serve = async {
        while let Some((_, mut stream)) = streams.next().await {
            tokio::spawn(async move {
                if let Err(error) = speed::serve(&mut stream).await {
                    tracing::debug!(%error, "a measurement broke");
                }
            });
        }
    };
    tokio::select! {
        () = serve => Ok(()),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|e| Failure::Other(e.to_string()))
        }
    }
}

/// Run it; one row for each step.
///
/// # Errors
///
/// [`Failure::Usage`] for an unknown scheme, [`Failure::Input`] if one refuses the dimension.
pub fn run(args: &Bench, json: bool) -> Outcome {
    let plan = Plan {
        dim: args.dim,
        runs: args.runs,
        schemes: match args.schemes.is_empty() {
            true => SCHEMES.iter().map(|name| (*name).to_owned()).collect(),
            false => args.schemes.clone(),
        },
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.max(1))
        .build()
        .map_err(|e| Failure::Other(format!("no threads: {e}")))?;
    let gauge = Process {
        start: clock::start(),
        base: std::sync::atomic::AtomicUsize::new(0),
        threads: args.threads.max(1),
    };
    if !json {
        println!(
            "{:<8} {:<15} {:>9} {:>11} {:>12} {:>12} {:>8}",
            "scheme", "step", "dim", "median ms", "bytes", "peak bytes", "threads"
        );
    }
    let mut print = |row: Row| match json {
        true => out::json(&row),
        false => println!(
            "{:<8} {:<15} {:>9} {:>11.3} {:>12} {:>12} {:>8}",
            row.scheme, row.step, row.dim, row.median_ms, row.bytes, row.peak_bytes, row.threads
        ),
    };
    pool.install(|| defim_bench::run(&plan, &gauge, &mut print))
        .map_err(|error| match error {
            defim_bench::BenchError::Refused { .. } => Failure::Input(error.to_string()),
            _ => Failure::Usage(error.to_string()),
        })
}
