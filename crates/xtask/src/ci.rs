//! `ci`: every gate, then the README's test command. `.ci/run` calls this and nothing else.

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::layers;
use crate::licences;
use crate::places::{Places, WASM_TARGET};
use crate::process;
use crate::readme;
use crate::setup;
use crate::size;
use crate::tally::Tally;
use crate::web;

/// A check of the whole clone.
type Gate = fn(&Places) -> Result<()>;

/// Runs all gates even when one fails: one CI run should name every fault.
pub fn run(places: &Places) -> Result<ExitCode> {
    setup::run(places, setup::For::Tests)?;
    let gates: [(&str, Gate); 7] = [
        ("format", format),
        ("layers", layers::run),
        ("lints", lints),
        ("browser lints", browser_lints),
        ("docs", docs),
        ("licences", licences),
        ("sizes", sizes),
    ];
    let mut failed = Vec::new();
    for (name, gate) in gates {
        println!("ci: {name}");
        let started = Instant::now();
        match gate(places) {
            Ok(()) => println!("ci: {name} good, {:.1?}", started.elapsed()),
            Err(error) => {
                eprintln!("error: {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    let tests = tests(places)?;
    if failed.is_empty() {
        println!("{tests}");
    } else {
        println!("ci: failed: {}", failed.join(", "));
        let gates = Tally {
            failed: failed.len() as u64,
            ..Tally::default()
        };
        let mut all = tests;
        all += gates;
        println!("{all}");
    }
    Ok(if failed.is_empty() && tests.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn format(places: &Places) -> Result<()> {
    process::run(places.cargo().args(["fmt", "--all", "--check"]))
}

fn lints(places: &Places) -> Result<()> {
    let mut clippy = places.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--all-targets"]);
    process::run(clippy.args(["--", "-D", "warnings"]))
}

/// In the profile and with the packages of the real browser build, whose build scripts and macros are
/// then shared.
fn browser_lints(places: &Places) -> Result<()> {
    let packages = web::browser_packages(places);
    if packages.is_empty() {
        return Ok(());
    }
    let mut clippy = places.cargo();
    clippy.args(["clippy", "--profile", "wasm", "--target", WASM_TARGET]);
    for package in packages {
        clippy.args(["--package", package]);
    }
    process::run(clippy.args(["--", "-D", "warnings"]))
}

/// Broken links and the like. Shares the dependencies' metadata with the lints.
fn docs(places: &Places) -> Result<()> {
    let mut doc = places.cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings");
    process::run(doc.args(["doc", "--release", "--workspace", "--no-deps"]))
}

fn licences(places: &Places) -> Result<()> {
    licences::run(places)?;
    if !process::works(places.cargo().args(["deny", "--version"])) {
        println!(
            "ci: cargo-deny, which would read licence files and advise on duplicates too, is not installed"
        );
        return Ok(());
    }
    // Not advisories: their database is fetched from the network.
    process::run(
        places
            .cargo()
            .args(["deny", "check", "licenses", "bans", "sources"]),
    )
}

fn sizes(places: &Places) -> Result<()> {
    web::build(places, None)?;
    size::run(places)
}

fn tests(places: &Places) -> Result<Tally> {
    let readme = fs::read_to_string(places.root.join("README.md")).context("reading README.md")?;
    let words = readme::test_command(&readme)?;
    println!("ci: {}", words.join(" "));
    let mut command = places.cargo();
    command.args(words.iter().skip(1));
    let watched = process::watch(&mut command)?;
    Ok(Tally::of_ours(&watched.text)
        .unwrap_or_default()
        .with_verdict(watched.success))
}
