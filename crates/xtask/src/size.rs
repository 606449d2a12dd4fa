//! `size`: what a person downloads, against a budget.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::json;
use crate::places::Places;
use crate::process;
use crate::stamp::files_below;

/// A part of the site and the most it may weigh, compressed with gzip as the server does.
struct Budget {
    name: &'static str,
    holds: fn(&str) -> bool,
    limit: u64,
}

const BUDGETS: [Budget; 3] = [
    Budget {
        name: "page",
        holds: |file| !file.starts_with("light/") && !file.starts_with("bench/"),
        limit: 400_000,
    },
    Budget {
        name: "bench",
        holds: |file| file.starts_with("bench/"),
        limit: 300_000,
    },
    Budget {
        name: "light",
        holds: |file| file.starts_with("light/"),
        limit: 900_000,
    },
];

/// Node has both compressors and can read a wasm module's imports.
const MEASURE: &str = r#"
const fs = require('fs'), zlib = require('zlib');
const quality = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 9 } };
console.log(JSON.stringify(process.argv.slice(1).map((file) => {
  const bytes = fs.readFileSync(file);
  const imports = file.endsWith('.wasm')
    ? WebAssembly.Module.imports(new WebAssembly.Module(bytes)) : [];
  return {
    raw: bytes.length,
    gzip: zlib.gzipSync(bytes).length,
    brotli: zlib.brotliCompressSync(bytes, quality).length,
    env: imports.filter((i) => i.module === 'env').map((i) => i.name),
  };
})));
"#;

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sizes {
    raw: u64,
    gzip: u64,
    brotli: u64,
}

/// Prints every wasm and script of the site, the sums, and fails when one is over its budget.
pub fn run(places: &Places) -> Result<()> {
    let site = places.site();
    let files: Vec<PathBuf> = files_below(&site)?
        .into_iter()
        .filter(|file| {
            file.extension()
                .is_some_and(|ext| ext == "wasm" || ext == "js")
        })
        .collect();
    if files.is_empty() {
        bail!(
            "{} holds no wasm; run `cargo xtask web` first",
            site.display()
        );
    }
    let measured = process::capture(
        places
            .command("node")
            .args(["-e", MEASURE, "--"])
            .args(&files),
    )?;
    let measured: Vec<Value> = serde_json::from_str(&measured).context("reading node's figures")?;
    let mut faults = Vec::new();
    let mut listed = Vec::new();
    for (file, figures) in files.iter().zip(&measured) {
        let name = file
            .strip_prefix(&site)?
            .to_string_lossy()
            .replace('\\', "/");
        for import in json::list(figures, "env") {
            // C code left a function open that no browser has; the module would not start.
            faults.push(format!("{name} imports {import} from \"env\""));
        }
        let sizes = Sizes::of(figures);
        if name.ends_with(".wasm") {
            println!("size: {name}: {}", sizes.shown());
        }
        listed.push((name, sizes));
    }
    for budget in &BUDGETS {
        faults.extend(over(budget, &listed));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

fn over(budget: &Budget, files: &[(String, Sizes)]) -> Option<String> {
    let mut sum = Sizes::default();
    for (_, sizes) in files.iter().filter(|(name, _)| (budget.holds)(name)) {
        sum.raw += sizes.raw;
        sum.gzip += sizes.gzip;
        sum.brotli += sizes.brotli;
    }
    if sum.raw == 0 {
        return None;
    }
    println!(
        "size: {} in all, wasm and js: {}; budget {} kB gzip",
        budget.name,
        sum.shown(),
        budget.limit / 1000
    );
    (sum.gzip > budget.limit).then(|| {
        format!(
            "{} is {} kB compressed, over its budget of {} kB",
            budget.name,
            sum.gzip.div_ceil(1000),
            budget.limit / 1000
        )
    })
}

impl Sizes {
    fn of(figures: &Value) -> Self {
        let read = |name: &str| figures.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self {
            raw: read("raw"),
            gzip: read("gzip"),
            brotli: read("brotli"),
        }
    }

    fn shown(self) -> String {
        let kilo = |bytes: u64| bytes.div_ceil(1000);
        format!(
            "{} kB, gzip {} kB, brotli {} kB",
            kilo(self.raw),
            kilo(self.gzip),
            kilo(self.brotli)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_pays_for_its_own_files_only() {
        let file = |name: &str, gzip| {
            let sizes = Sizes {
                raw: 2 * gzip,
                gzip,
                brotli: gzip,
            };
            (name.to_owned(), sizes)
        };
        let mut files = vec![
            file("page_bg.wasm", 390_000),
            file("page.js", 10_000),
            file("light/wasm/light_bg.wasm", 900_000),
        ];
        assert_eq!(over(&BUDGETS[0], &files), None);
        assert_eq!(over(&BUDGETS[1], &files), None);
        files.push(file("worker.js", 1));
        let fault = over(&BUDGETS[0], &files).expect("over by a byte");
        assert!(fault.contains("page is 401 kB compressed"), "{fault}");
    }
}
