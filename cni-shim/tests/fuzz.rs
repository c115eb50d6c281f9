//! Runs the fuzz bodies over random bytes, and over what the golden cases say with parts of it changed: nothing may panic.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::fs;
use std::path::Path;

use cni::fuzz;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// That file of every step of every golden case.
fn golden(file: &str) -> Vec<String> {
    let cases = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap();
    let folders = cases.map(|case| case.unwrap().path()).filter(|case| case.is_dir());
    let steps = folders.flat_map(|case| fs::read_dir(case).unwrap().map(|step| step.unwrap().path()));
    let mut texts: Vec<String> = steps.filter_map(|step| fs::read_to_string(step.join(file)).ok()).collect();
    texts.sort();
    assert!(texts.len() > 40, "only {} were found", texts.len());
    texts
}

/// Cuts, copies and overwrites: what is left is often still JSON, with something else in some place.
fn damage(text: &str, changes: &[(Index, Index, String)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to, put)| {
        let marks: Vec<usize> =
            text.char_indices().filter(|(_, one)| "\"[]{}:,.\n=/".contains(*one)).map(|(at, _)| at).collect();
        if marks.is_empty() {
            return text;
        }
        let (from, to) = (*from.get(&marks), *to.get(&marks));
        format!("{}{put}{}", &text[..from.min(to)], &text[from.max(to)..])
    })
}

/// Values that parsers stumble over, and anything.
fn put() -> impl Strategy<Value = String> {
    let known = [
        "",
        "0",
        "-1",
        "1e999",
        "null",
        "[]",
        "{}",
        "\"\"",
        "18446744073709551616",
        "\"::/0\"",
        "\"0.0.0.0/33\"",
        ",",
        "\\u0000",
    ];
    prop_oneof![select(known.to_vec()).prop_map(str::to_owned), ".{0,8}"]
}

fn changes() -> impl Strategy<Value = Vec<(Index, Index, String)>> {
    prop::collection::vec((any::<Index>(), any::<Index>(), put()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::configuration(&bytes);
        fuzz::environment(&bytes);
    }

    #[test]
    fn a_damaged_configuration(text in select(golden("stdin")), changes in changes()) {
        fuzz::configuration(damage(&text, &changes).as_bytes());
    }

    #[test]
    fn a_damaged_environment(text in select(golden("environment")), changes in changes()) {
        fuzz::environment(damage(&text.replace('\n', "\0"), &changes).as_bytes());
    }
}
