//! Manual pages and completions in `share/`: those of the binaries as they are.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn manual_pages_and_completions_are_those_of_the_binaries() {
    let folder = tempfile::tempdir().unwrap();
    let script = repository().join("scripts/share");
    let switch = rig::podswitch();
    let agent = switch.with_file_name("podswitch-agent");
    assert!(agent.exists(), "{} is missing: `cargo build -p podswitch-agent`", agent.display());
    let made = Command::new(script).arg(folder.path()).args([switch, rig::PLUGIN.into(), agent]).status().unwrap();
    assert!(made.success());
    for part in ["man", "completions"] {
        let (made, kept) = (files(&folder.path().join(part)), files(&repository().join("share").join(part)));
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&made),
            names(&kept),
            "left: of the binaries; right: share/{part}; `make share` writes it again"
        );
        let old: Vec<_> = made.iter().filter(|(name, text)| kept[*name] != **text).map(|(name, _)| name).collect();
        assert!(old.is_empty(), "out of date below share/{part}: {old:?}; `make share` writes it again");
    }
}

/// Files of a folder by their path within, with their content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut unread = vec![folder.to_owned()];
    while let Some(path) = unread.pop() {
        if path.is_dir() {
            unread.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(path).unwrap());
        }
    }
    found
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
