//! Fingerprints: a step whose inputs have not changed is not done again.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::places::Places;

/// A digest of a step's inputs, kept after the step succeeded.
pub struct Stamp {
    file: PathBuf,
    digest: DefaultHasher,
}

impl Stamp {
    /// A stamp for the named step of this clone: its outputs may lie in the clone, the stamp lies in
    /// the target folder, which other clones may share.
    pub fn new(places: &Places, step: &str) -> Self {
        let mut clone = DefaultHasher::new();
        places.root.hash(&mut clone);
        Self {
            file: places
                .target
                .join("stamps")
                .join(format!("{step}-{:016x}", clone.finish())),
            digest: DefaultHasher::new(),
        }
    }

    /// Adds a setting: a version, a flag.
    pub fn setting(mut self, value: &str) -> Self {
        value.hash(&mut self.digest);
        self
    }

    /// Adds a file's bytes, or every file below a folder. Something that does not exist counts too.
    pub fn input(mut self, path: &Path) -> Result<Self> {
        for file in files_below(path)? {
            file.strip_prefix(path)
                .unwrap_or(&file)
                .hash(&mut self.digest);
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            bytes.hash(&mut self.digest);
        }
        path.exists().hash(&mut self.digest);
        Ok(self)
    }

    /// True if the step was done with these inputs.
    pub fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|kept| kept == self.text())
    }

    /// Records that the step was done with these inputs.
    pub fn keep(&self) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.file, self.text())
            .with_context(|| format!("writing {}", self.file.display()))
    }

    fn text(&self) -> String {
        format!("{:016x}\n", self.digest.finish())
    }
}

/// Every file at or below a path, in a fixed order. Empty if there is nothing.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("listing {}", path.display()))?;
        let mut inside = entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()?;
        inside.sort();
        for entry in inside {
            files.extend(files_below(&entry)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(name: &str) -> Places {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Places {
            root: folder.clone(),
            cache: folder.clone(),
            target: folder,
        }
    }

    #[test]
    fn a_changed_byte_or_setting_breaks_the_stamp() {
        let places = places("stamp");
        let file = places.root.join("input");
        let stamp = |setting: &str| {
            Stamp::new(&places, "step")
                .setting(setting)
                .input(&file)
                .expect("readable")
        };
        fs::write(&file, "one").expect("written");
        assert!(!stamp("-O3").holds());
        stamp("-O3").keep().expect("kept");
        assert!(stamp("-O3").holds());
        assert!(!stamp("-Oz").holds());
        fs::write(&file, "two").expect("written");
        assert!(!stamp("-O3").holds());
        fs::remove_file(&file).expect("removed");
        assert!(!stamp("-O3").holds());
        fs::remove_dir_all(&places.root).expect("cleaned up");
    }
}
