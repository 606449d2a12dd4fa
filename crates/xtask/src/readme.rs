//! The README's commands are run as they stand there, so that they stay true.

use anyhow::{Result, bail};

/// The words of the first fenced line that starts with `cargo xtask test`.
pub fn test_command(readme: &str) -> Result<Vec<String>> {
    let mut fenced = false;
    for line in readme.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let line = line.strip_prefix("$ ").unwrap_or(line);
        // What follows a # is for the reader.
        let command = line.split(" #").next().unwrap_or(line);
        let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
        if fenced && words.iter().take(3).eq(["cargo", "xtask", "test"]) {
            return Ok(words);
        }
    }
    bail!(
        "README.md has no fenced line that starts with `cargo xtask test`; \
         CI runs the command a reader is told, so put it there"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fenced_line_is_the_command() {
        let readme = "Run `cargo xtask test --only e2e` or\n\n\
                      ```sh\n$ cargo xtask up\n$ cargo xtask test   # all tests\n```\n";
        assert_eq!(
            test_command(readme).expect("it is there"),
            ["cargo", "xtask", "test"]
        );
    }

    #[test]
    fn a_readme_without_it_is_refused() {
        for readme in ["", "cargo xtask test\n", "```\ncargo xtask testing\n```\n"] {
            let error = test_command(readme).expect_err("not a fenced command");
            assert!(error.to_string().contains("README.md has no fenced line"));
        }
    }
}
