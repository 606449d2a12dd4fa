//! Where things are: the clone, the shared cache, the target folder.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The browser's target.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The folders every command works with.
#[derive(Debug, Clone)]
pub struct Places {
    /// The clone.
    pub root: PathBuf,
    /// Kept between clones: tools and build results.
    pub cache: PathBuf,
    /// What every child cargo gets as `CARGO_TARGET_DIR`.
    pub target: PathBuf,
}

impl Places {
    /// Finds the clone from the environment `cargo run` sets, or from the current folder.
    pub fn find() -> Result<Self> {
        // Read at run time: two clones may share one target folder, and with it this very binary.
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("the current folder cannot be read")?,
        };
        let Some(root) = start
            .ancestors()
            .find(|dir| dir.join("crates/xtask/Cargo.toml").is_file())
        else {
            bail!(
                "{} is not inside a clone of this project; change into one and run it again",
                start.display()
            );
        };
        let cache = cache_folder(
            env::var_os("DEFIM_CACHE"),
            env::var_os("XDG_CACHE_HOME"),
            env::var_os("HOME"),
        )
        .context("no cache folder: none of DEFIM_CACHE, XDG_CACHE_HOME, HOME is set; set one")?;
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => root.join(dir),
            None => cache.join("target"),
        };
        Ok(Self {
            root: root.to_path_buf(),
            cache,
            target,
        })
    }

    /// Root of what `cargo install` puts down for this project.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// Prefix of the npm packages that are tools rather than parts of `pkg/` or `e2e/`.
    pub fn npm_tools(&self) -> PathBuf {
        self.tools().join("npm")
    }

    /// The finished pages, ready to be served.
    pub fn site(&self) -> PathBuf {
        self.target.join("site")
    }

    /// The server binary.
    pub fn defim(&self) -> PathBuf {
        self.target
            .join("release")
            .join(format!("defim{}", env::consts::EXE_SUFFIX))
    }

    /// A cargo that shares this project's target folder and sees its tools.
    pub fn cargo(&self) -> Command {
        let mut cargo = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Any other program, run in the clone, with this project's tools on its PATH.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.root);
        if let Some(path) = self.path() {
            command.env("PATH", path);
        }
        command
    }

    fn path(&self) -> Option<OsString> {
        let own = self.tools().join("bin");
        let inherited = env::var_os("PATH").unwrap_or_default();
        env::join_paths(std::iter::once(own).chain(env::split_paths(&inherited))).ok()
    }

    /// The path as a reader of the clone would write it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

fn cache_folder(
    own: Option<OsString>,
    xdg: Option<OsString>,
    home: Option<OsString>,
) -> Option<PathBuf> {
    let given = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
    given(own)
        .or_else(|| given(xdg).map(|dir| dir.join("defim")))
        .or_else(|| given(home).map(|dir| dir.join(".cache/defim")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_cache_setting_wins() {
        let of = |own: &str, xdg: &str, home: &str| {
            cache_folder(Some(own.into()), Some(xdg.into()), Some(home.into()))
        };
        assert_eq!(of("/own", "/xdg", "/home"), Some("/own".into()));
        assert_eq!(of("", "/xdg", "/home"), Some("/xdg/defim".into()));
        assert_eq!(of("", "", "/home"), Some("/home/.cache/defim".into()));
        assert_eq!(cache_folder(None, None, None), None);
    }
}
