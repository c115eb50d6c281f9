//! The plugin as a runtime sees it, case by case: folders below `tests/golden`.
//!
//! ```text
//!   CASE/switch              if there: a switch runs, with these lines of configuration beside the pod ranges
//!   CASE/STEP/environment    lines VARIABLE=VALUE; nothing else is in the plugin's environment but PATH
//!   CASE/STEP/stdin          what it reads
//!   CASE/STEP/stdout, exit   what it answers
//!   CASE/STEP/command        in place of all these: a line for a shell in the pod's namespace, which must succeed
//! ```
//!
//! `{SOCKET}`, `{POD}` and `{OTHER}` stand for the switch's socket and two pods' namespaces, `{SCRATCH}` for a folder of the
//! case's own, `{NODE}` for the node's namespace. `BLESS=1` writes what is answered.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rig::{Node, Pod, run_in};

#[test]
fn every_case_answers_as_it_is_written() {
    let cases = sorted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    assert!(cases.len() > 40, "only {} cases were found", cases.len());
    let failures: Vec<String> = cases.iter().flat_map(|case| play(case)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Plays a case; what went otherwise than written.
fn play(case: &Path) -> Vec<String> {
    let lines = fs::read_to_string(case.join("switch"));
    let node = match &lines {
        Ok(lines) => Node::with(lines),
        Err(_) => Node::stopped(),
    };
    let (pod, other) = (Pod::new(), Pod::new());
    let places = [
        ("{SOCKET}", node.socket().display().to_string()),
        ("{POD}", pod.path().display().to_string()),
        ("{OTHER}", other.path().display().to_string()),
        ("{NODE}", node.namespace().path().display().to_string()),
        ("{SCRATCH}", node.folder().display().to_string()),
    ];
    let fill = |text: String| places.iter().fold(text, |text, (mark, value)| text.replace(mark, value));
    let hide = |text: String| places.iter().fold(text, |text, (mark, value)| text.replace(value, mark));
    let steps = sorted(case).into_iter().filter(|path| path.is_dir());
    steps.filter_map(|step| take(&step, (&node, &pod), &fill, &hide)).collect()
}

fn take(
    step: &Path,
    (node, pod): (&Node, &Pod),
    fill: &dyn Fn(String) -> String,
    hide: &dyn Fn(String) -> String,
) -> Option<String> {
    let read = |file: &str| fs::read_to_string(step.join(file)).unwrap_or_default();
    if step.join("command").exists() {
        let output = run_in(pod.namespace(), &["sh", "-c", &fill(read("command"))]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return (!output.status.success()).then(|| format!("{}: the command failed: {said}", step.display()));
    }
    let mut command = node.plugin();
    for line in fill(read("environment")).lines() {
        let (variable, value) = line.split_once('=').unwrap();
        command.env(variable, value);
    }
    let output = node.call(command.stdin(Stdio::piped()), fill(read("stdin")).as_bytes());
    let stdout = hide(String::from_utf8(output.stdout).unwrap());
    let exit = format!("{}\n", output.status.code().unwrap_or(-1));
    if std::env::var_os("BLESS").is_some() {
        fs::write(step.join("stdout"), &stdout).unwrap();
        fs::write(step.join("exit"), &exit).unwrap();
        return None;
    }
    let (expected, status) = (read("stdout"), read("exit"));
    let same = (&stdout, &exit) == (&expected, &status);
    (!same).then(|| format!("{}: exit {exit}{stdout}instead of exit {status}{expected}", step.display()))
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
