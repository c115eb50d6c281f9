//! Keeps what `docs/architecture.md` promises about the source itself: which crate may use which, and which files
//! hold `unsafe` code and atomics. The two lists of files are read from that page, so page and source cannot part.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

/// Every crate of the workspace and which of our own crates its non-test code may use.
const ARROWS: [(&str, &[&str]); 11] = [
    ("podswitch-ring", &[]),
    ("podswitch-packet", &[]),
    ("podswitch-route-table", &["podswitch-packet"]),
    ("podswitch-encap", &["podswitch-packet"]),
    ("podswitch-policy", &["podswitch-packet"]),
    ("podswitch-control", &["podswitch-packet"]),
    ("podswitch-host", &["podswitch-packet"]),
    (
        "podswitch",
        &[
            "podswitch-ring",
            "podswitch-packet",
            "podswitch-route-table",
            "podswitch-encap",
            "podswitch-policy",
            "podswitch-control",
            "podswitch-host",
        ],
    ),
    ("podswitch-agent", &["podswitch-packet", "podswitch-encap", "podswitch-control", "podswitch-host"]),
    ("podswitch-cni", &["podswitch-packet", "podswitch-control", "podswitch-host"]),
    (
        "podswitch-bench",
        &[
            "podswitch-ring",
            "podswitch-packet",
            "podswitch-route-table",
            "podswitch-encap",
            "podswitch-policy",
            "podswitch-control",
            "podswitch-host",
            "podswitch",
        ],
    ),
];

#[test]
fn crates_use_only_what_the_arrows_allow() {
    let metadata = workspace();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let (_, allowed) = ARROWS
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{name} is new: give it its arrows here and in docs/architecture.md"));
        let used = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        for used in used.filter(|dependency| ours.contains(dependency.name.as_str())) {
            assert!(allowed.contains(&used.name.as_str()), "{name} must not use {}", used.name);
        }
    }
    assert_eq!(ours.len(), ARROWS.len(), "a crate named in the arrows is gone");
}

#[test]
fn unsafe_code_stands_only_in_the_named_files() {
    let metadata = workspace();
    let found = source_files(&metadata, |_, source| has_word(source, |word| word == "unsafe"));
    assert_eq!(found, listed(&metadata, "unsafe"), "left: files with unsafe code; right: docs/architecture.md");
}

#[test]
fn atomics_stand_only_in_the_named_files() {
    let metadata = workspace();
    let found = source_files(&metadata, |path, source| {
        let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "benches");
        let product = source.split("\nmod tests {").next().unwrap_or_default();
        !is_test && (product.contains("sync::atomic") || has_word(product, is_atomic))
    });
    assert_eq!(found, listed(&metadata, "atomics"), "left: files with atomics; right: docs/architecture.md");
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    let metadata = workspace();
    let listed = listed(&metadata, "unsafe");
    for package in &metadata.packages {
        let folder = folder_of(&metadata, package);
        if listed.iter().any(|file| file.starts_with(folder.join("src"))) {
            let manifest = fs::read_to_string(&package.manifest_path).unwrap();
            assert!(
                manifest.contains("[lints]\nworkspace = true"),
                "{}: the workspace's lints deny unsafe code",
                package.name
            );
            continue;
        }
        let roots =
            package.targets.iter().filter(|target| target.is_kind(TargetKind::Lib) || target.is_kind(TargetKind::Bin));
        for root in roots {
            let source = fs::read_to_string(&root.src_path).unwrap();
            assert!(source.contains("#![forbid(unsafe_code)]"), "{} does not forbid unsafe code", root.src_path);
        }
    }
}

fn workspace() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo describes its own workspace")
}

/// Rust files of every crate, by their path in the repository, whose code (no strings, no comments) is `wanted`.
fn source_files(metadata: &Metadata, wanted: impl Fn(&Path, &str) -> bool) -> BTreeSet<PathBuf> {
    let root = metadata.workspace_root.as_std_path();
    let mut unread: Vec<PathBuf> = metadata.packages.iter().map(|package| folder_of(metadata, package)).collect();
    let mut found = BTreeSet::new();
    while let Some(path) = unread.pop() {
        if root.join(&path).is_dir() {
            let entries = fs::read_dir(root.join(&path)).expect("a crate's folder can be read");
            unread.extend(entries.map(|entry| path.join(entry.expect("a folder's entries can be read").file_name())));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(root.join(&path)).expect("a source file is text");
            let code: String = source.lines().flat_map(|line| [code_of(line), "\n".to_owned()]).collect();
            if wanted(&path, &code) {
                found.insert(path);
            }
        }
    }
    found
}

/// The first column of the table between `<!-- NAME files -->` and `<!-- end -->` of the architecture page.
fn listed(metadata: &Metadata, name: &str) -> BTreeSet<PathBuf> {
    let page = fs::read_to_string(metadata.workspace_root.join("docs/architecture.md"))
        .expect("the page of the lists is there");
    let (_, after) = page.split_once(&format!("<!-- {name} files -->")).expect("the page has the list's opening mark");
    let (list, _) = after.split_once("<!-- end -->").expect("the page has the list's closing mark");
    list.lines().filter_map(|line| line.split('`').nth(1)).map(PathBuf::from).collect()
}

fn folder_of(metadata: &Metadata, package: &Package) -> PathBuf {
    let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
    folder.strip_prefix(&metadata.workspace_root).expect("ours lie in the workspace").into()
}

/// A line without what stands in its string literals and its comment.
fn code_of(line: &str) -> String {
    let code: String = line.split('"').step_by(2).collect();
    code.split("//").next().unwrap_or_default().to_owned()
}

fn is_atomic(word: &str) -> bool {
    word.strip_prefix("Atomic").is_some_and(|rest| rest.starts_with(char::is_uppercase))
}

fn has_word(source: &str, wanted: impl Fn(&str) -> bool) -> bool {
    source.split(|c: char| !c.is_alphanumeric() && c != '_').any(wanted)
}
