//! Running other programs: seen by the person, and read by us where their words matter.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

/// Runs a program to its end with our terminal; an error names it when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to its standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| not_started(command))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`capture`], with the program's messages shown as they come.
pub fn capture_stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| not_started(command))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// True if the program starts and ends well; what it writes is dropped.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a watched program did.
pub struct Watched {
    /// It ended with exit code 0.
    pub success: bool,
    /// All it wrote, both streams, line by line as they came.
    pub text: String,
}

/// Runs a program whose output is both shown and kept.
pub fn watch(command: &mut Command) -> Result<Watched> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| not_started(command))?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("no stdout"))?;
    let stderr = child.stderr.take().ok_or_else(|| anyhow!("no stderr"))?;
    let text = Mutex::new(String::new());
    thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, std::io::stdout(), &text));
        scope.spawn(|| pass_on(stderr, std::io::stderr(), &text));
    });
    let status = child.wait().with_context(|| not_started(command))?;
    Ok(Watched {
        success: status.success(),
        text: text.into_inner().unwrap_or_else(PoisonError::into_inner),
    })
}

fn pass_on(from: impl Read, mut to: impl Write, text: &Mutex<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A closed terminal must not stop the reading: the child would block on a full pipe.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        text.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&String::from_utf8_lossy(&line));
    }
}

fn not_started(command: &Command) -> String {
    format!(
        "`{}` could not be started; is it installed and on PATH?",
        command.get_program().to_string_lossy()
    )
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or(command.get_program())
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watching_keeps_both_streams_and_the_verdict() {
        let watched = watch(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]));
        let watched = watched.expect("sh runs");
        assert!(!watched.success);
        assert!(watched.text.contains("out\n") && watched.text.contains("err\n"));
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("sh").args(["-c", "exit 4"])).expect_err("it failed");
        assert!(
            error.to_string().contains("`sh -c exit 4` failed"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_said_so() {
        let error = run(&mut Command::new("no-such-program-here")).expect_err("it is missing");
        assert!(error.to_string().contains("is it installed"), "{error}");
    }
}
