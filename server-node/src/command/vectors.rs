//! `defim vectors check`: test vectors against this build.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::out;
use crate::failure::{Failure, Outcome};

/// Check every `.json` file of a folder, or one file.
///
/// # Errors
///
/// [`Failure::Input`] if there is none, [`Failure::Integrity`] if any differs.
pub fn check(path: &Path, json: bool) -> Outcome {
    let files = files(path)?;
    let mut failed = 0;
    for file in &files {
        let result = defim_pine::vectors::check_file(file);
        failed += usize::from(result.is_err());
        let error = result.err().map(|e| e.to_string());
        match (json, error) {
            (true, error) => {
                out::json(&json!({ "file": file, "passed": error.is_none(), "error": error }));
            }
            (false, None) => println!("passed  {}", file.display()),
            (false, Some(error)) => println!("FAILED  {}: {error}", file.display()),
        }
    }
    let passed = files.len() - failed;
    match json {
        true => out::json(&json!({ "summary": true, "passed": passed, "failed": failed })),
        false => println!("{passed} passed, {failed} failed"),
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Integrity(format!(
            "{failed} of {} vector files differ from what this build computes",
            files.len()
        ))),
    }
}

fn files(path: &Path) -> Outcome<Vec<PathBuf>> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Failure::Input(format!("{} cannot be read: {e}", path.display()))
    };
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| unreadable(&e))? {
        let file = entry.map_err(|e| unreadable(&e))?.path();
        if file.is_file()
            && file
                .extension()
                .is_some_and(|extension| extension == "json")
        {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(Failure::Input(format!(
            "{} holds no .json file; name the folder that the vectors are in",
            path.display()
        ))),
        false => Ok(files),
    }
}
