//! `web`: the light node's wasm, the npm package around it, and the pages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::json;
use crate::places::{Places, WASM_TARGET};
use crate::process;
use crate::setup;
use crate::site;
use crate::stamp::Stamp;

/// What can be built alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The light node and its npm package.
    Light,
    /// The pages.
    Page,
    /// The benchmark that a page runs.
    Bench,
}

/// One browser build.
struct Wasm {
    part: Part,
    package: &'static str,
    folder: &'static str,
    /// Stem of the generated files: `<name>.js`, `<name>_bg.wasm`.
    name: &'static str,
    /// Speed for the light node, which crunches numbers; size for the page, which people wait for.
    level: &'static str,
    typescript: bool,
}

const LIGHT: Wasm = Wasm {
    part: Part::Light,
    package: "defim-light-bindings",
    folder: "crates/light/bindings",
    name: "light",
    level: "-O3",
    typescript: true,
};

const PAGE: Wasm = Wasm {
    part: Part::Page,
    package: "defim-web",
    folder: "web",
    name: "page",
    level: "-Oz",
    typescript: false,
};

const BENCH: Wasm = Wasm {
    part: Part::Bench,
    package: "defim-bench",
    folder: "crates/bench",
    name: "bench",
    level: "-O3",
    typescript: false,
};

/// What rustc and wasm-bindgen emit for this target; wasm-opt refuses what is not named.
const FEATURES: [&str; 8] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

/// The crates that end in a browser and exist in this clone.
pub fn browser_packages(places: &Places) -> Vec<&'static str> {
    present(places, None).iter().map(|w| w.package).collect()
}

/// Builds what has changed and lays the site out.
pub fn build(places: &Places, only: Option<Part>) -> Result<()> {
    let wanted = present(places, only);
    let built = compile(places, &wanted)?;
    for (wasm, file) in wanted.iter().zip(&built) {
        let folder = match wasm.part {
            Part::Light => places.root.join("pkg/wasm"),
            Part::Page => page_folder(places),
            Part::Bench => bench_folder(places),
        };
        bind(places, wasm, file, &folder)?;
        if wasm.part == Part::Light {
            package(places)?;
        }
    }
    if only != Some(Part::Light) {
        site::lay_out(places, &page_folder(places), &bench_folder(places))?;
    }
    Ok(())
}

fn present(places: &Places, only: Option<Part>) -> Vec<&'static Wasm> {
    [&LIGHT, &PAGE, &BENCH]
        .into_iter()
        .filter(|wasm| only.is_none_or(|part| part == wasm.part))
        .filter(|wasm| places.root.join(wasm.folder).join("Cargo.toml").is_file())
        .collect()
}

/// In the clone, as its stamp is: the target folder may be shared with other clones.
fn page_folder(places: &Places) -> PathBuf {
    places.root.join("web/dist")
}

fn bench_folder(places: &Places) -> PathBuf {
    places.root.join("crates/bench/dist")
}

/// One cargo for all, so that what they share is built once and their links run side by side.
fn compile(places: &Places, wanted: &[&Wasm]) -> Result<Vec<PathBuf>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut cargo = places.cargo();
    cargo.args(["build", "--profile", "wasm", "--target", WASM_TARGET]);
    cargo.arg("--message-format=json-render-diagnostics");
    for wasm in wanted {
        cargo.args(["--package", wasm.package]);
    }
    let messages = process::capture_stdout(&mut cargo)?;
    wanted
        .iter()
        .map(|wasm| {
            wasm_of(&messages, &places.root.join(wasm.folder)).with_context(|| {
                format!(
                    "{} built no .wasm file; it must be a binary or have crate-type \"cdylib\"",
                    wasm.package
                )
            })
        })
        .collect()
}

/// The `.wasm` that cargo says it made of the package in the given folder.
fn wasm_of(messages: &str, folder: &Path) -> Option<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| json::text(message, "reason") == Some("compiler-artifact"))
        .filter(|message| json::text(message, "manifest_path").map(Path::new) == Some(&manifest))
        .flat_map(|message| json::list(&message, "filenames").to_vec())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .find(|file| file.extension().is_some_and(|ext| ext == "wasm"))
}

/// wasm-bindgen, then wasm-opt, into `out`, which holds nothing else.
fn bind(places: &Places, wasm: &Wasm, file: &Path, out: &Path) -> Result<()> {
    let optimised = out.join(format!("{}_bg.wasm", wasm.name));
    let stamp = Stamp::new(places, wasm.name)
        .setting(wasm.level)
        .setting(&FEATURES.concat())
        .setting(&process::capture(
            places.command("wasm-bindgen").arg("--version"),
        )?)
        .input(&setup::wasm_opt_program(places))?
        .input(file)?;
    if !(stamp.holds() && optimised.is_file() && out.join(format!("{}.js", wasm.name)).is_file()) {
        if out.is_dir() {
            fs::remove_dir_all(out).with_context(|| format!("emptying {}", out.display()))?;
        }
        let mut bindgen = places.command("wasm-bindgen");
        bindgen.args(["--target", "web", "--out-name", wasm.name, "--out-dir"]);
        bindgen.arg(out).arg(file);
        if !wasm.typescript {
            bindgen.arg("--no-typescript");
        }
        process::run(&mut bindgen)?;
        let mut opt = places.command(setup::wasm_opt_program(places));
        opt.arg(&optimised).arg("-o").arg(&optimised);
        opt.arg(wasm.level).args(FEATURES);
        process::run(opt.args(["--strip-debug", "--strip-producers"]))?;
        stamp.keep()?;
    }
    let bytes = fs::metadata(&optimised)?.len();
    println!(
        "web: {} {} kB ({})",
        wasm.name,
        bytes / 1000,
        places.shown(&optimised)
    );
    Ok(())
}

/// Compiles the hand-written TypeScript around the light node.
fn package(places: &Places) -> Result<()> {
    let dir = places.root.join("pkg");
    if !dir.join("package.json").is_file() {
        return Ok(());
    }
    let mut stamp = Stamp::new(places, "pkg");
    for input in ["package.json", "package-lock.json", "tsconfig.json", "src"] {
        stamp = stamp.input(&dir.join(input))?;
    }
    for name in ["light.d.ts", "light_bg.wasm.d.ts", "light.js"] {
        stamp = stamp.input(&dir.join("wasm").join(name))?;
    }
    if !(stamp.holds() && dir.join("dist").is_dir()) {
        process::run(setup::npm(places, &dir).args(["run", "build"]))?;
        stamp.keep()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wasm_is_found_by_its_manifest_not_by_its_name() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/r/other/Cargo.toml","filenames":["/t/other.wasm"]}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/r/web/Cargo.toml","filenames":["/t/web.rlib","/t/defim-web.wasm"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            wasm_of(messages, Path::new("/r/web")),
            Some("/t/defim-web.wasm".into())
        );
        assert_eq!(wasm_of(messages, Path::new("/r/none")), None);
    }
}
