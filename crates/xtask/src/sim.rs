//! `sim`: validators and the whole mesh in virtual time, seed after seed, with faults and lies; on as many processes as there
//! are cores.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::places::Places;
use crate::process;

/// `cargo xtask sim`.
#[derive(Args)]
pub struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One scenario only, or all of the whole mesh with `mesh`; by default the seeds go through all of them in turn.
    #[arg(long, default_value = "all")]
    scenario: String,
}

/// Runs the seeds. The last line is `seeds N violations V`.
pub fn run(places: &Places, sim: &Sim) -> Result<ExitCode> {
    let mut build = places.cargo();
    // With the features that everything else is built with: its crates are there already.
    build.args(["build", "--release", "--workspace", "--example", "seeds"]);
    process::run(&mut build)?;
    let program = places.target.join("release/examples/seeds");
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = sim.seeds.div_ceil(workers.max(1));
    let parts: Vec<_> = (0..workers)
        .map(|at| {
            (
                sim.first + at * share,
                share.min(sim.seeds.saturating_sub(at * share)),
            )
        })
        .filter(|(_, seeds)| *seeds > 0)
        .collect();
    let running: Vec<_> = parts
        .into_iter()
        .map(|(first, seeds)| {
            let (program, scenario) = (program.clone(), sim.scenario.clone());
            thread::spawn(move || part(program, first, seeds, &scenario))
        })
        .collect();
    let (mut violations, mut whole) = (0, 0);
    for worker in running {
        match worker.join() {
            Ok(done) => {
                let done = done?;
                violations += done.violations;
                whole += done.whole;
            }
            Err(_) => bail!("a worker of the simulation panicked; its message is above"),
        }
    }
    println!(
        "sim: {:.0} s; {whole} seeds with the whole mesh, the others with its validators alone",
        began.elapsed().as_secs_f64()
    );
    println!("seeds {} violations {violations}", sim.seeds);
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What came of some of the seeds.
struct Done {
    violations: u64,
    /// Seeds with the whole mesh.
    whole: u64,
}

/// Some of the seeds, in a process of their own.
fn part(program: PathBuf, first: u64, seeds: u64, scenario: &str) -> Result<Done> {
    let mut child = std::process::Command::new(&program)
        .args([
            "--seeds",
            &seeds.to_string(),
            "--first",
            &first.to_string(),
            "--scenario",
            scenario,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let out = child.stdout.take().context("no output")?;
    let (mut violations, mut whole) = (None, 0);
    for line in BufReader::new(out).lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("seeds ") {
            violations = rest.rsplit(' ').next().and_then(|n| n.parse().ok());
        } else if let Some(number) = line.strip_prefix("whole ") {
            whole = number.parse().unwrap_or(0);
        } else {
            println!("{line}");
        }
    }
    child.wait()?;
    let violations =
        violations.with_context(|| format!("seeds from {first} on did not come to their end"))?;
    Ok(Done { violations, whole })
}
