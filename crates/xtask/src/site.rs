//! The folder that `defim up --web` serves.
//!
//! `index.html` and `web/public/` at the top, beside the page's `page.js` and `page_bg.wasm`; the npm
//! package under `light/dist` and `light/wasm`, so that its own relative imports hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::places::Places;
use crate::stamp::files_below;

/// Makes the site equal to its sources: copies what differs, removes what is no longer there.
pub fn lay_out(places: &Places, page: &Path, bench: &Path) -> Result<()> {
    let root = &places.root;
    let mut files = BTreeMap::new();
    for (source, under) in [
        (page.to_path_buf(), ""),
        (bench.to_path_buf(), "bench/wasm"),
        (root.join("web/public"), ""),
        (root.join("pkg/dist"), "light/dist"),
        (root.join("pkg/wasm"), "light/wasm"),
    ] {
        for file in files_below(&source)? {
            let name = Path::new(under).join(file.strip_prefix(&source)?);
            if let Some(other) = files.insert(name.clone(), file) {
                bail!(
                    "two sources give the site's {}: one is {}; rename one",
                    name.display(),
                    other.display()
                );
            }
        }
    }
    let index = root.join("web/index.html");
    if index.is_file() {
        files.insert("index.html".into(), index);
    } else {
        println!("web: web/index.html is missing, so the site has no first page");
    }
    let site = places.site();
    mirror(&files, &site)?;
    println!("web: {} files in {}", files.len(), site.display());
    Ok(())
}

fn mirror(files: &BTreeMap<PathBuf, PathBuf>, site: &Path) -> Result<()> {
    for stale in files_below(site)? {
        if !files.contains_key(stale.strip_prefix(site)?) {
            fs::remove_file(&stale).with_context(|| format!("removing {}", stale.display()))?;
        }
    }
    for (name, source) in files {
        let to = site.join(name);
        let bytes = fs::read(source).with_context(|| format!("reading {}", source.display()))?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_copies_what_is_new_and_drops_what_is_gone() {
        let folder = std::env::temp_dir().join(format!("xtask-site-{}", std::process::id()));
        let (from, site) = (folder.join("from"), folder.join("site"));
        fs::create_dir_all(&from).expect("made");
        fs::create_dir_all(site.join("light")).expect("made");
        fs::write(from.join("a"), "new").expect("written");
        fs::write(site.join("light/gone"), "old").expect("written");
        let files = BTreeMap::from([(PathBuf::from("x/a"), from.join("a"))]);
        mirror(&files, &site).expect("mirrored");
        let there = files_below(&site).expect("listed");
        assert_eq!(there, [site.join("x/a")]);
        assert_eq!(fs::read_to_string(site.join("x/a")).expect("read"), "new");
        fs::remove_dir_all(&folder).expect("cleaned up");
    }
}
