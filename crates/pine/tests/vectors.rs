//! Test vectors, good and bad; natively and, by the same body, in WebAssembly.
#![cfg(feature = "vectors")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use include_dir::{Dir, include_dir};

/// This crate's own.
static VECTORS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/vectors");

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn good_vectors_hold_byte_for_byte_and_bad_ones_are_refused_where_they_say() {
    let mut counts = [0; 2];
    for (folder, count) in ["good", "bad"].into_iter().zip(&mut counts) {
        for file in VECTORS.get_dir(folder).unwrap().files() {
            let name = file.path().display();
            let says_corrupted = file.contents_utf8().unwrap().contains("\"fails\"");
            assert_eq!(
                says_corrupted,
                folder == "bad",
                "{name} is in the wrong folder"
            );
            defim_pine::vectors::check(file.contents()).unwrap_or_else(|e| panic!("{name}: {e}"));
            *count += 1;
        }
    }
    assert_eq!(counts, [25, 65]);
}

/// A checker that accepts everything would pass all of the above.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_vector_that_differs_in_one_digit_is_found_out() {
    let good = VECTORS.get_file("good/Pine64_negatives.json").unwrap();
    let text = good.contents_utf8().unwrap();
    for field in [
        "public_share",
        "input_shares",
        "prep_shares",
        "prep_messages",
        "out_shares",
    ] {
        let mut changed = text.to_owned();
        let start = changed.find(&format!("\"{field}\"")).unwrap() + field.len() + 3;
        let digit = start + changed[start..].find(|c: char| c.is_ascii_digit()).unwrap();
        let other = if &changed[digit..=digit] == "0" {
            "1"
        } else {
            "0"
        };
        changed.replace_range(digit..=digit, other);
        assert!(
            defim_pine::vectors::check(changed.as_bytes()).is_err(),
            "{field}"
        );
    }
    let bad = VECTORS
        .get_file("bad/Pine64_nonce.json")
        .unwrap()
        .contents_utf8()
        .unwrap();
    let elsewhere = bad.replace("\"prepare\"", "\"decode\"");
    assert!(defim_pine::vectors::check(elsewhere.as_bytes()).is_err());
    assert!(defim_pine::vectors::check(b"{}").is_err());
}

/// The draft's own, where they are at hand.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn the_drafts_vectors_hold_byte_for_byte() {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/pine");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        defim_pine::vectors::check_file(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
