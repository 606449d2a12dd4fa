//! `ci`: every crate of the build, by `deny.toml`'s own rules on licences, sources and bans. `cargo deny` reads
//! the same file and looks deeper; this part needs no tool that may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::json;
use crate::places::Places;
use crate::process;

#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

/// A crate of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
}

/// Checks this clone.
pub fn run(places: &Places) -> Result<()> {
    let text = fs::read_to_string(places.root.join("deny.toml")).context("reading deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("reading deny.toml")?;
    let mut packages = BTreeMap::new();
    for target in &rules.graph.targets {
        let metadata = process::capture(places.cargo().args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            target,
        ]))?;
        let metadata = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
        let tree = process::capture(places.cargo().args([
            "tree",
            "--workspace",
            "--locked",
            "--edges=normal,build,dev",
            "--prefix=none",
            "--format={p}",
            "--target",
            target,
        ]))?;
        packages.extend(built(&metadata, &tree));
    }
    let packages: Vec<_> = packages.into_values().collect();
    let faults = faults(&rules, &packages);
    if faults.is_empty() {
        println!("licences: {} crates", packages.len());
        Ok(())
    } else {
        bail!("{}", faults.join("\n"))
    }
}

/// The packages of a tree, by id. The metadata alone also lists optional dependencies that no feature turns on.
fn built(metadata: &Value, tree: &str) -> BTreeMap<String, Package> {
    let used: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    json::list(metadata, "packages")
        .iter()
        .filter_map(|package| {
            let own = |key| json::text(package, key).map(str::to_owned);
            let found = Package {
                name: own("name")?,
                version: own("version")?,
                licence: own("license"),
                source: own("source"),
            };
            let is_used = used.contains(&(found.name.as_str(), found.version.as_str()));
            is_used.then_some((own("id")?, found))
        })
        .collect()
}

fn faults(rules: &Rules, packages: &[Package]) -> Vec<String> {
    // A check that sees nothing must not pass.
    if packages.is_empty() {
        return vec!["cargo's metadata lists no crates".into()];
    }
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages {
        let Package {
            name,
            version,
            licence,
            source,
        } = package;
        let extra = rules
            .licenses
            .exceptions
            .iter()
            .filter(|e| e.name == *name)
            .flat_map(|e| &e.allow)
            .collect::<BTreeSet<_>>();
        let allowed = |term: &str| {
            rules.licenses.allow.contains(term) || extra.iter().any(|one| *one == term)
        };
        match licence.as_deref() {
            None => faults.push(format!("{name} {version} names no licence")),
            Some(text) => {
                let words = words(text);
                seen.extend(words.iter().cloned());
                match satisfied(&words, &allowed) {
                    Some(true) => {}
                    Some(false) => faults.push(format!(
                        "{name} {version} is licensed {text}, which deny.toml does not allow"
                    )),
                    None => faults.push(format!(
                        "{name} {version} has a licence that cannot be read: {text}"
                    )),
                }
            }
        }
        let registry = source.as_deref().map(|text| text.strip_prefix("registry+"));
        if registry.is_some_and(|r| r.is_none_or(|r| !rules.sources.allow_registry.contains(r))) {
            let from = source.as_deref().unwrap_or_default();
            faults.push(format!(
                "{name} {version} is from {from}, which deny.toml does not allow"
            ));
        }
        for ban in &rules.bans.deny {
            if is_banned(&ban.spec, name, version) {
                faults.push(format!("{name} {version} is banned: {}", ban.reason));
            }
        }
    }
    for unused in rules.licenses.allow.difference(&seen) {
        faults.push(format!(
            "deny.toml allows {unused}, which no crate has; remove it"
        ));
    }
    faults
}

/// `name` bans every version, `name:>1.2.3` those above it.
fn is_banned(spec: &str, name: &str, version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let plain = text.split(['-', '+']).next().unwrap_or_default();
        plain.split('.').filter_map(|n| n.parse().ok()).collect()
    };
    match spec.split_once(":>") {
        None => spec == name,
        Some((banned, above)) => banned == name && numbers(version) > numbers(above),
    }
}

/// An SPDX expression's words; the old `MIT/Apache-2.0` means either.
fn words(expression: &str) -> Vec<String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words: Vec<String> = Vec::new();
    let mut with = false;
    for word in spaced.split_whitespace() {
        match words.last_mut() {
            // An exception makes another licence of it.
            Some(last) if with => *last = format!("{last} WITH {word}"),
            _ if word == "WITH" => {}
            _ => words.push(word.to_owned()),
        }
        with = word == "WITH";
    }
    words
}

/// Whether the licences that are allowed are enough; `None` if it is no expression.
fn satisfied(words: &[String], allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut rest = words.iter().map(String::as_str).peekable();
    let value = any(&mut rest, allowed)?;
    rest.next().is_none().then_some(value)
}

type Words<'a, I> = std::iter::Peekable<I>;

fn any<'a, I: Iterator<Item = &'a str>>(
    words: &mut Words<'a, I>,
    allowed: &dyn Fn(&str) -> bool,
) -> Option<bool> {
    let mut value = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        value |= all(words, allowed)?;
    }
    Some(value)
}

fn all<'a, I: Iterator<Item = &'a str>>(
    words: &mut Words<'a, I>,
    allowed: &dyn Fn(&str) -> bool,
) -> Option<bool> {
    let mut value = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        value &= one(words, allowed)?;
    }
    Some(value)
}

fn one<'a, I: Iterator<Item = &'a str>>(
    words: &mut Words<'a, I>,
    allowed: &dyn Fn(&str) -> bool,
) -> Option<bool> {
    match words.next()? {
        "(" => {
            let value = any(words, allowed)?;
            words.next_if_eq(&")").map(|_| value)
        }
        ")" | "AND" | "OR" => None,
        licence => Some(allowed(licence)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [graph]
        targets = ["x"]
        [licenses]
        allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
        exceptions = [{ crate = "prio", allow = ["MPL-2.0"] }]
        [bans]
        deny = [{ crate = "openssl-sys", reason = "rustls" }, { crate = "tool:>0.2.108", reason = "must match" }]
        [sources]
        allow-registry = ["https://crates.example"]
    "#;

    fn package(name: &str, licence: &str) -> Package {
        Package {
            name: name.into(),
            version: "0.2.108".into(),
            licence: Some(licence.into()).filter(|text: &String| !text.is_empty()),
            source: Some("registry+https://crates.example".into()),
        }
    }

    /// The faults beside crates that are fine and use all that is allowed.
    fn found(package: Package) -> Vec<String> {
        let rules = toml::from_str(RULES).expect("rules");
        let fine = self::package("fine", "(MIT OR Apache-2.0) AND Unicode-3.0");
        faults(&rules, &[fine, package])
    }

    #[test]
    fn licences_are_expressions() {
        let good = |licence| found(package("a", licence)).is_empty();
        assert!(good("MIT"));
        assert!(good("MIT/Apache-2.0"));
        assert!(good("GPL-3.0 OR (MIT AND Apache-2.0)"));
        assert!(good("Apache-2.0 WITH LLVM-exception OR MIT"));
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "MPL-2.0",
            "(MIT",
            "MIT OR",
            "MIT Apache-2.0",
            "",
        ] {
            assert_eq!(found(package("a", bad)).len(), 1, "{bad}");
        }
        assert!(found(package("prio", "MPL-2.0")).is_empty());
    }

    #[test]
    fn sources_bans_and_unused_rules_are_looked_at() {
        let git = Package {
            source: Some("git+https://example/a".into()),
            ..package("a", "MIT")
        };
        assert!(found(git)[0].contains("git+https://example/a"));
        let ours = Package {
            source: None,
            ..package("a", "MIT")
        };
        assert!(found(ours).is_empty());
        assert!(found(package("openssl-sys", "MIT"))[0].contains("rustls"));
        assert!(found(package("tool", "MIT")).is_empty());
        let newer = Package {
            version: "0.2.109".into(),
            ..package("tool", "MIT")
        };
        assert!(found(newer)[0].contains("must match"));
        let rules = toml::from_str(RULES).expect("rules");
        let unused = faults(&rules, &[package("a", "MIT OR Apache-2.0")]);
        assert_eq!(unused.len(), 1);
        assert!(unused[0].contains("allows Unicode-3.0"));
        assert_eq!(
            faults(&rules, &[]).len(),
            1,
            "nothing seen is nothing checked"
        );
    }

    #[test]
    fn only_what_is_built_counts() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "a 1", "name": "a", "version": "1.0.0", "license": "MIT", "source": null},
                {"id": "b 1", "name": "b", "version": "1.0.0", "license": null, "source": "registry+x"},
            ],
        });
        let packages = built(&metadata, "a v1.0.0 (/r/a)\n\nc v2.0.0 (proc-macro) (*)\n");
        assert_eq!(packages.len(), 1);
        assert_eq!(packages["a 1"].licence.as_deref(), Some("MIT"));
    }
}
