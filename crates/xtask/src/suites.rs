//! `test`: native, wasm and browser tests, and one line that sums them.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::places::{Places, WASM_TARGET};
use crate::process;
use crate::setup;
use crate::tally::Tally;
use crate::up;
use crate::web;

/// A group of tests that can be run alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// Rust unit, integration and documentation tests.
    Native,
    /// The npm package's tests over the light node's wasm, in Node.
    Wasm,
    /// Real processes, real browsers, real peers.
    E2e,
}

/// Runs the suites. A suite that cannot run counts as failed; the others still run.
pub fn run(places: &Places, only: Option<Suite>) -> Result<ExitCode> {
    setup::run(places, setup::For::Tests)?;
    let mut sum = Tally::default();
    let mut failed = Vec::new();
    for (suite, name) in [
        (Suite::Native, "native"),
        (Suite::Wasm, "wasm"),
        (Suite::E2e, "e2e"),
    ] {
        if only.is_some_and(|only| only != suite) {
            continue;
        }
        println!("test: {name}");
        let outcome = match suite {
            Suite::Native => native(places),
            Suite::Wasm => wasm(places),
            Suite::E2e => e2e(places, only.is_none()),
        };
        let tally = outcome.unwrap_or_else(|error| {
            eprintln!("error: {name}: {error:#}");
            Tally::default().with_verdict(false)
        });
        if tally.passed == 0 {
            eprintln!("error: {name}: no test passed; a suite without its tests is no good one");
        }
        let tally = tally.of_suite();
        println!("test: {name}: {tally}");
        if tally.failed > 0 {
            failed.push(name);
        }
        sum += tally;
    }
    if !failed.is_empty() {
        println!("test: failed: {}", failed.join(", "));
    }
    println!("{sum}");
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn native(places: &Places) -> Result<Tally> {
    let mut nextest = places.cargo();
    nextest.args(["nextest", "run", "--release", "--workspace"]);
    nextest.args(["--no-fail-fast", "--no-tests=fail"]);
    // Of a failing test the words come first and last; its stack is of no use in a log that is cut.
    nextest.args(["--failure-output", "immediate-final"]);
    nextest.env("RUST_BACKTRACE", "0");
    let watched = process::watch(&mut nextest)?;
    let mut tally = Tally::of_nextest(&watched.text).with_verdict(watched.success);
    // nextest does not run the examples in the documentation.
    let mut doc = places.cargo();
    doc.args([
        "test",
        "--release",
        "--workspace",
        "--doc",
        "--no-fail-fast",
    ]);
    let watched = process::watch(&mut doc)?;
    tally += Tally::of_cargo_test(&watched.text).with_verdict(watched.success);
    Ok(tally)
}

fn wasm(places: &Places) -> Result<Tally> {
    web::build(places, None)?;
    let mut tally = npm_test(places, "pkg", |_| Ok(()))?;
    // The same bytes as natively: PINE's test vectors, through the SIMD that browsers have, ciphertexts, the ledger.
    let tests: [&[&str]; 5] = [
        &["defim-pine", "--features", "vectors", "--test", "vectors"],
        &["defim-he", "--test", "conformance"],
        &["defim-score", "--test", "conformance"],
        &["defim-ledger", "--test", "conformance"],
        &["defim-ledger", "--test", "vectors"],
    ];
    for test in tests {
        let mut cargo = places.cargo();
        cargo.env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            "wasm-bindgen-test-runner",
        );
        cargo.args(["test", "--release", "--target", WASM_TARGET]);
        cargo.args(["--no-fail-fast", "--package"]).args(test);
        let watched = process::watch(&mut cargo)?;
        tally += Tally::of_cargo_test(&watched.text).with_verdict(watched.success);
    }
    Ok(tally)
}

fn e2e(places: &Places, after_native: bool) -> Result<Tally> {
    web::build(places, None)?;
    up::build_server(places, after_native)?;
    npm_test(places, "e2e", |npm| {
        let chromium = setup::chromium().context(setup::NO_BROWSER)?;
        npm.env("CHROMIUM", chromium)
            .env("DEFIM_BIN", places.defim())
            .env("DEFIM_SITE", places.site());
        if let (Some(firefox), Some(driver)) = (setup::firefox(), setup::driver(places)) {
            npm.env("FIREFOX", firefox).env("GECKODRIVER", driver);
        }
        Ok(())
    })
}

/// Runs a folder's `npm test` and counts what node reports.
fn npm_test(
    places: &Places,
    folder: &str,
    prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Tally> {
    let dir = places.root.join(folder);
    let manifest = std::fs::read_to_string(dir.join("package.json"))
        .with_context(|| format!("{folder}/package.json cannot be read; restore it"))?;
    if !has_test_script(&manifest) {
        bail!("{folder}/package.json has no test script, so that its tests cannot run; restore it");
    }
    let mut npm = setup::npm(places, &dir);
    npm.args(["test", "--silent"]);
    prepare(&mut npm)?;
    let watched = process::watch(&mut npm)?;
    Ok(Tally::of_node(&watched.text).with_verdict(watched.success))
}

fn has_test_script(manifest: &str) -> bool {
    serde_json::from_str::<Value>(manifest).is_ok_and(|manifest| {
        manifest
            .pointer("/scripts/test")
            .is_some_and(Value::is_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_script_is_what_package_json_names_so() {
        assert!(has_test_script(r#"{"scripts": {"test": "node --test"}}"#));
        assert!(!has_test_script(r#"{"scripts": {"build": "tsc"}}"#));
        assert!(!has_test_script(""));
    }
    #[test]
    fn a_folder_that_has_lost_its_tests_is_an_error() {
        let root = std::env::temp_dir().join(format!("xtask-suites-{}", std::process::id()));
        std::fs::create_dir_all(root.join("pkg")).expect("made");
        let places = Places {
            root: root.clone(),
            cache: root.clone(),
            target: root.clone(),
        };
        let error = || {
            let outcome = npm_test(&places, "pkg", |_| panic!("nothing is run"));
            outcome.map(|_| ()).expect_err("refused").to_string()
        };
        assert!(error().contains("pkg/package.json cannot be read"));
        std::fs::write(root.join("pkg/package.json"), "{}").expect("written");
        assert!(error().contains("no test script"));
        std::fs::remove_dir_all(&root).expect("cleaned up");
    }
}
