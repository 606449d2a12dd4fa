//! `setup`: what is missing is installed, each with one line that says so.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::places::{Places, WASM_TARGET};
use crate::process;
use crate::stamp::Stamp;

/// The npm package that carries `wasm-opt`, and the version our sizes were measured with.
const BINARYEN: &str = "132.0.0";

/// Drives Firefox ESR and later.
const GECKODRIVER: &str = "0.37.1";

/// What the tools are for: pages alone need no test runner and no browser of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// `up` and `web`.
    Pages,
    /// `setup`, `test` and `ci`.
    Tests,
}

/// Installs what is missing. Says that all is there when it is.
pub fn run(places: &Places, purpose: For) -> Result<()> {
    let mut here = vec![
        node(places)?,
        wasm_target(places)?,
        wasm_bindgen(places)?,
        wasm_opt(places)?,
        packages(places, "pkg")?,
    ];
    if purpose == For::Tests {
        here.push(nextest(places)?);
        here.push(packages(places, "e2e")?);
        here.push(packages(places, "e2e/foreign")?);
        here.push(browser(places, chromium, "chromium", NO_BROWSER)?);
        here.push(browser(places, firefox, "firefox-esr", NO_FIREFOX)?);
        here.push(geckodriver(places)?);
    }
    let here: Vec<_> = here.into_iter().flatten().collect();
    println!("setup: here: {}", here.join(", "));
    Ok(())
}

/// What a check found in place; `None` if there is nothing to say about it.
type Here = Option<String>;

fn installing(what: &str) {
    println!("setup: installing {what}");
}

fn node(places: &Places) -> Result<Here> {
    for program in ["node", "npm"] {
        if find_program(program).is_none() {
            bail!(
                "{program} is not on PATH, and the pages need it; install Node.js 20 or later with npm"
            );
        }
    }
    let version = process::capture(places.command("node").arg("--version"))?;
    let version = version.trim();
    let major = version.trim_start_matches('v').split('.').next();
    if major
        .and_then(|m| m.parse::<u32>().ok())
        .is_none_or(|m| m < 20)
    {
        bail!("node {version} is too old for the tests and tools; install Node.js 20 or later");
    }
    Ok(Some(format!("node {version}")))
}

fn wasm_target(places: &Places) -> Result<Here> {
    let libdir = process::capture(places.command("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        WASM_TARGET,
    ]))?;
    if !Path::new(libdir.trim()).is_dir() {
        installing(&format!("the Rust target {WASM_TARGET}"));
        process::run(
            places
                .command("rustup")
                .args(["target", "add", WASM_TARGET]),
        )
        .with_context(|| {
            format!("the Rust target {WASM_TARGET} is missing; install it and run this again")
        })?;
    }
    Ok(Some(WASM_TARGET.to_owned()))
}

/// The command line tool must match the crate to the patch version: both ends of one private format.
fn wasm_bindgen(places: &Places) -> Result<Here> {
    let lock = fs::read_to_string(places.root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let version = locked_version(&lock, "wasm-bindgen")
        .context("Cargo.lock has no wasm-bindgen; restore the file")?;
    let wanted = format!("wasm-bindgen {version}");
    let found = process::capture(places.command("wasm-bindgen").arg("--version"));
    if found.is_ok_and(|found| found.trim() == wanted) {
        return Ok(Some(wanted));
    }
    installing(&format!("{wanted} (cargo install, some minutes)"));
    cargo_install(places, "wasm-bindgen-cli", Some(version))?;
    Ok(Some(wanted))
}

fn nextest(places: &Places) -> Result<Here> {
    if !process::works(places.cargo().args(["nextest", "--version"])) {
        installing("cargo-nextest (cargo install, some minutes)");
        cargo_install(places, "cargo-nextest", None)?;
    }
    Ok(Some("cargo-nextest".to_owned()))
}

fn cargo_install(places: &Places, name: &str, version: Option<&str>) -> Result<()> {
    let mut cargo = places.cargo();
    // A folder of its own, thrown away by cargo: a tool's build would only fill the shared one.
    cargo.env_remove("CARGO_TARGET_DIR");
    cargo.args(["install", name, "--locked", "--force", "--root"]);
    cargo.arg(places.tools());
    if let Some(version) = version {
        cargo.args(["--version", version]);
    }
    process::run(&mut cargo)
        .with_context(|| format!("{name} could not be installed; see the lines above"))
}

/// The program that makes wasm smaller or faster, run by node.
pub fn wasm_opt_program(places: &Places) -> PathBuf {
    places.npm_tools().join("node_modules/.bin/wasm-opt")
}

fn wasm_opt(places: &Places) -> Result<Here> {
    let here = Some(format!("wasm-opt {BINARYEN}"));
    let manifest = places
        .npm_tools()
        .join("node_modules/binaryen/package.json");
    let wanted = format!("\"version\": \"{BINARYEN}\"");
    if fs::read_to_string(manifest).is_ok_and(|text| text.contains(&wanted)) {
        return Ok(here);
    }
    installing(&format!("wasm-opt (npm package binaryen {BINARYEN})"));
    fs::create_dir_all(places.npm_tools())?;
    process::run(
        npm(places, &places.npm_tools())
            .args(["install", "--prefix"])
            .arg(places.npm_tools())
            .arg(format!("binaryen@{BINARYEN}")),
    )?;
    let program = wasm_opt_program(places);
    if !process::works(places.command(&program).arg("--version")) {
        bail!(
            "{} was installed but does not start; delete {} and run this again",
            program.display(),
            places.npm_tools().display()
        );
    }
    Ok(here)
}

/// `npm ci` where a lock file exists and has changed since.
fn packages(places: &Places, folder: &str) -> Result<Here> {
    let dir = places.root.join(folder);
    let lock = dir.join("package-lock.json");
    let Ok(text) = fs::read_to_string(&lock) else {
        return Ok(None);
    };
    let stamp = Stamp::new(places, &format!("npm-{folder}")).input(&lock)?;
    // npm makes no folder when there is nothing to put into it.
    let complete = dir.join("node_modules").is_dir() || !text.contains("\"node_modules/");
    if !(stamp.holds() && complete) {
        installing(&format!("npm packages of {folder}/"));
        process::run(npm(places, &dir).arg("ci"))?;
        stamp.keep()?;
    }
    Ok(Some(format!("npm packages of {folder}/")))
}

/// npm without its advertisements and questions to the network.
pub fn npm(places: &Places, dir: &Path) -> Command {
    let mut npm = places.command("npm");
    npm.current_dir(dir).args([
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    ]);
    npm
}

/// A browser, from Debian where it is missing and can be installed.
fn browser(
    places: &Places,
    find: impl Fn() -> Option<PathBuf>,
    package: &str,
    without: &str,
) -> Result<Here> {
    let root = process::capture(places.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if find().is_none() && root && find_program("apt-get").is_some() {
        installing(&format!("{package} (apt-get install)"));
        process::run(places.command("apt-get").args(["update", "-qq"]))?;
        let mut apt = places.command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        process::run(apt.args(["install", "-y", "-qq", "--no-install-recommends", package]))?;
    }
    let found = find().map(|path| path.display().to_string());
    if found.is_none() {
        println!("setup: {without}");
    }
    Ok(found)
}

/// What drives Firefox.
fn geckodriver(places: &Places) -> Result<Here> {
    if firefox().is_none() {
        return Ok(None);
    }
    if driver(places).is_none() {
        installing(&format!(
            "geckodriver {GECKODRIVER} (cargo install, some minutes)"
        ));
        cargo_install(places, "geckodriver", Some(GECKODRIVER))?;
    }
    Ok(Some("geckodriver".to_owned()))
}

/// The program that drives Firefox, here or among this project's tools.
pub fn driver(places: &Places) -> Option<PathBuf> {
    let own = places.tools().join("bin/geckodriver");
    find_program("geckodriver").or_else(|| own.is_file().then_some(own))
}

/// What to do when no browser is found.
pub const NO_BROWSER: &str = "no Chromium found, which the end to end tests drive; install Chromium or \
     Chrome with the system's package manager, or set CHROMIUM to its program";

const NO_FIREFOX: &str = "no Firefox found, whose test will be skipped; install Firefox with the \
     system's package manager, or set FIREFOX to its program";

/// The browser that most end to end tests drive.
pub fn chromium() -> Option<PathBuf> {
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    given_or_found("CHROMIUM", &names)
}

/// The other browser.
pub fn firefox() -> Option<PathBuf> {
    given_or_found("FIREFOX", &["firefox-esr", "firefox"])
}

fn given_or_found(variable: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(given) = env::var_os(variable).map(PathBuf::from) {
        return given.is_file().then_some(given);
    }
    names.iter().find_map(|name| find_program(name))
}

/// Looks a program up on PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
        .find(|file| file.is_file())
}

fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_says_which_tool_version_fits() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.2.7\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.108\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.108"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }
}
