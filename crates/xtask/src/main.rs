//! Every developer command: setup, up, test, ci, layers, licences, size.
//!
//! `cargo xtask --help` lists them. Two rules hold for all: nothing is built in any profile but
//! `release` (and `wasm`, which inherits it), and every child cargo gets the same target folder, so
//! that nothing is built twice. See `docs/decisions/0001-one-release-profile.md`.
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: it times its own steps and polls with a deadline"
)]

mod ci;
mod json;
mod layers;
mod licences;
mod places;
mod process;
mod readme;
mod setup;
mod sim;
mod site;
mod size;
mod stamp;
mod suites;
mod tally;
mod up;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::places::Places;

/// Every developer command of Brainstems DeFim.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[command(after_help = "Example: cargo xtask up --headless -- --data /tmp/mesh")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing and say what: wasm target, tools, npm packages, Chromium.
    Setup,
    /// Install, build everything, run a whole mesh on this machine and print the page's address.
    #[command(after_help = "Example: cargo xtask up --headless -- --listen 127.0.0.1:9000")]
    Up {
        /// Do not open a browser.
        #[arg(long)]
        headless: bool,
        /// Arguments for `defim up`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build the wasm, the npm package and the pages.
    Web {
        /// Build one part only.
        #[arg(long, value_enum)]
        only: Option<web::Part>,
    },
    /// Install what is missing, then run all tests: native, wasm, browser end to end.
    #[command(after_help = "Example: cargo xtask test --only native")]
    Test {
        /// Run one suite only.
        #[arg(long, value_enum)]
        only: Option<suites::Suite>,
    },
    /// What `.ci/run` calls: format, lints, layers, docs, sizes, then the README's test command.
    Ci,
    /// Run the validators in virtual time, seed after seed, with faults; a violation prints the command that replays it.
    #[command(after_help = "Example: cargo xtask sim --seeds 1000")]
    Sim(sim::Sim),
    /// Fail on a dependency that points up the layers, or a server crate in the browser build.
    Layers,
    /// Fail on a crate whose licence, source or name `deny.toml` does not allow.
    Licences,
    /// Print the compressed size of the built wasm and fail when it is over its budget.
    Size,
    /// Wait until a mesh answers, then print its address. Started by `up`.
    #[command(hide = true)]
    Announce(up::Announce),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let places = Places::find()?;
    match task {
        Task::Setup => setup::run(&places, setup::For::Tests)?,
        Task::Up { headless, args } => up::run(&places, headless, &args)?,
        Task::Web { only } => {
            setup::run(&places, setup::For::Pages)?;
            web::build(&places, only)?;
        }
        Task::Test { only } => return suites::run(&places, only),
        Task::Ci => return ci::run(&places),
        Task::Sim(sim) => return sim::run(&places, &sim),
        Task::Layers => layers::run(&places)?,
        Task::Licences => licences::run(&places)?,
        Task::Size => size::run(&places)?,
        Task::Announce(announce) => announce.run(&places)?,
    }
    Ok(ExitCode::SUCCESS)
}
