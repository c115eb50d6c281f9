//! What the switch logs, and in which form.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::rig::{Pod, Rig, ping, until};

#[test]
fn the_journal_is_recognised_and_spared_what_it_knows_itself() {
    let mut rig = Rig::stopped("");
    rig.start();
    let (plain, socket) = (rig.logged(), rig.client().socket().display().to_string());
    let ready = format!("podswitch::engine: ready socket={socket}\n");
    assert!(plain.ends_with(&format!("Z  INFO {ready}")), "{plain}");

    rig.kill();
    rig.start_with(|command, log| {
        let log = log.metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()));
    });
    let log = rig.logged();
    let journal = log.strip_prefix(&plain).unwrap();
    assert!(journal.ends_with(&format!("<6>{ready}")), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with("<6>podswitch::engine")), "{journal}");
    rig.kill();
    rig.start_with(|command, _| {
        command.env("JOURNAL_STREAM", "1:1");
    });
    assert!(rig.logged().ends_with(&format!("Z  INFO {ready}")), "{}", rig.logged());
}

#[test]
fn endpoints_forgotten_by_the_dozen_do_not_flood_the_log() {
    let mut rig = Rig::new();
    let pods: Vec<Pod> = (2..14).map(|number| rig.pod(number)).collect();
    rig.kill();
    drop(pods);
    rig.start();
    rig.client().stop().unwrap();
    assert!(rig.has_ended());
    let log = rig.logged();
    assert_eq!(log.matches("forgotten").count(), 6, "{log}");
    assert!(log.contains("7 more like this were left out: forgotten"), "{log}");
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_switch() {
    let mut rig = Rig::stopped("sweep_seconds = 1");
    rig.start_with(|command, _| {
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
    });
    let (a, b) = (rig.pod(2), rig.pod(3));
    drop(b);
    until("the sweep to have said something", || (rig.client().status().unwrap().endpoints == 1).then_some(()));
    ping(&rig.node, a.v4());
    rig.client().stop().unwrap();
    assert!(rig.has_ended());
}
