//! The draft's vectors, byte for byte.
#![cfg(feature = "vectors")]

use std::path::Path;

#[test]
fn the_drafts_vectors_hold_byte_for_byte() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/pine");
    let Ok(files) = std::fs::read_dir(&shared) else {
        eprintln!("skipped: {} is not there", shared.display());
        return;
    };
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        defim_pine::vectors::check_file(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
    }
    assert!(count > 0);
}
