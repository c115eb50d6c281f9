//! Every command of the documents, run as it stands there.
//!
//! A block that begins with three backticks and `sh` holds commands; they are run line by line (a backslash at the end
//! goes on) on a [`Stage`] of their page, and each must succeed. Any other word after the backticks (`text`, `toml`) is
//! something to read. What cannot be run here is listed below, with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use packet::{Punt, Reason};
use podswitch::config::{Config, Settings};
use podswitch::slow::Outcome;

use crate::stage::Stage;

#[test]
fn the_commands_of_the_first_page_run() {
    perform("README.md", &[]);
}

#[test]
fn the_commands_of_operating_run() {
    perform("docs/operating.md", &[]);
}

/// The page is for somebody who has a switch and a pod.
#[test]
fn the_commands_of_troubleshooting_run() {
    perform(
        "docs/troubleshooting.md",
        &[
            "podswitch run --pod-range 10.244.0.0/24 & sleep 1",
            "ip netns add web-1 && podswitch attach web-1 --netns web-1 --address 10.244.0.2",
        ],
    );
}

#[test]
fn every_other_page_has_no_command_that_could_be_run() {
    let run = ["README.md", "docs/operating.md", "docs/troubleshooting.md"];
    for page in pages().iter().filter(|page| !run.contains(&page.to_str().unwrap())) {
        for command in commands(page) {
            let place = format!("{}:{}", page.display(), command.line);
            assert!(not_run(&command.text).is_some(), "{place}: give this page a test of its own:\n{}", command.text);
        }
    }
}

#[test]
fn every_exception_is_needed_and_every_block_says_what_it_is() {
    let all: Vec<Command> = pages().iter().flat_map(|page| commands(page)).collect();
    for (beginning, reason) in NOT_RUN.iter().chain(&ANY_CODE) {
        assert!(
            all.iter().any(|command| command.text.starts_with(beginning)),
            "nothing begins with '{beginning}': {reason}"
        );
    }
    for page in pages() {
        for block in blocks(&page) {
            let known = ["sh", "text", "toml"].contains(&block.kind.as_str());
            assert!(known, "{}:{}: '{}' should be sh, text or toml", page.display(), block.line, block.kind);
            if block.kind == "toml" {
                let file = Path::new("in the document");
                Settings::parse(file, &block.lines.join("\n")).and_then(Config::try_from).unwrap();
            }
        }
    }
}

#[test]
fn troubleshooting_explains_every_name_that_is_counted_and_no_other() {
    let explained = |heading| explained("docs/troubleshooting.md", heading);
    let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(explained("## Why a packet was dropped"), sorted(names));
    let names: Vec<_> = Punt::ALL.iter().map(|why| why.name()).collect();
    assert_eq!(explained("## Why a packet was punted"), sorted(names));
    let names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert_eq!(explained("## What the slow path made of it"), sorted(names));
}

/// A command, and the line of its page where it begins.
struct Command {
    line: usize,
    text: String,
}

struct Block {
    kind: String,
    /// Line of its first line within.
    line: usize,
    lines: Vec<String>,
}

/// Runs a page's commands in order; `before` makes what the page takes for granted.
#[track_caller]
fn perform(page: &str, before: &[&str]) {
    let mut stage = Stage::new();
    before.iter().for_each(|command| drop(stage.must(command)));
    let mut ran = 0;
    for Command { line, text } in commands(Path::new(page)) {
        if not_run(&text).is_some() {
            continue;
        }
        let ended = stage.run(&text);
        let well = ended.code == 0 || ANY_CODE.iter().any(|(beginning, _)| text.starts_with(beginning));
        assert!(well, "{page}:{line}: `{text}` ended with {}:\n{}", ended.code, ended.text);
        ran += 1;
    }
    assert!(ran > 0, "{page} has no command");
}

fn not_run(command: &str) -> Option<&'static str> {
    NOT_RUN.iter().find(|(beginning, _)| command.starts_with(beginning)).map(|(_, reason)| *reason)
}

fn commands(page: &Path) -> Vec<Command> {
    let mut found = Vec::new();
    for block in blocks(page).into_iter().filter(|block| block.kind == "sh") {
        let mut begun: Option<Command> = None;
        for (line, text) in (block.line..).zip(&block.lines) {
            let mut command = begun.take().unwrap_or(Command { line, text: String::new() });
            let (part, goes_on) = text.strip_suffix('\\').map_or((text.as_str(), false), |part| (part, true));
            command.text.push_str(part);
            if goes_on {
                begun = Some(command);
            } else if !command.text.is_empty() && !command.text.starts_with('#') {
                found.push(command);
            }
        }
        assert!(begun.is_none(), "{}:{}: the last line goes on", page.display(), block.line);
    }
    found
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        open = match (open, line.trim_start().strip_prefix("```")) {
            (None, None) => None,
            (None, Some(kind)) => Some(Block { kind: kind.to_owned(), line: number + 1, lines: Vec::new() }),
            (Some(block), Some(_)) => {
                found.push(block);
                None
            }
            (Some(mut block), None) => {
                block.lines.push(line.to_owned());
                Some(block)
            }
        };
    }
    assert!(open.is_none(), "{}: the last block does not end", page.display());
    found
}

/// The names in the first column of the table below a heading.
fn explained(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{page} lacks '{heading}'"));
    let section = below.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    sorted(rows.flat_map(|cell| cell.split('`').step_by(2)).map(str::to_owned).collect())
}

fn sorted<T: Into<String>>(names: Vec<T>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
    names.sort();
    names
}

/// Every page for people, by its path in the repository.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut unread = ["README.md", "CONTRIBUTING.md", "docs"].map(PathBuf::from).to_vec();
    while let Some(path) = unread.pop() {
        let whole = repository().join(&path);
        if whole.is_dir() {
            unread.extend(fs::read_dir(whole).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Commands that are not run here, by how they begin, and why.
const NOT_RUN: [(&str, &str); 9] = [
    ("cargo ", "builds or tests for minutes; what it builds is on the stage already"),
    ("make demo", "has a step of its own in CI"),
    ("make test", "is what runs this test"),
    ("make deep", "takes hours"),
    ("make bench", "measures for minutes"),
    ("target/release/podswitch-bench ", "measures for minutes"),
    ("CRATES=", "is what runs this test"),
    ("PROPTEST_CASES=", "tests for minutes"),
    ("RUSTFLAGS=", "tests for minutes"),
];
/// Commands whose exit code tells of the machine, not of whether they worked.
const ANY_CODE: [(&str, &str); 1] = [("podswitch doctor", "1 where the machine lacks something")];
