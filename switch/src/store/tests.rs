//! What is kept is found again, whatever happened to the file in between.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::Underlay;
use crate::state::tests::neighbors::{change_neighbors, neighbor};
use crate::state::tests::{attach, detach, pause, populated, restore, resume, route, unroute};
use crate::state::{Change, State};
use control::Origin;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    (dir, store)
}

fn again(dir: &tempfile::TempDir, store: Store) -> Store {
    drop(store);
    Store::open(&dir.path().join("state")).unwrap()
}

fn change(store: &mut Store, state: &mut State, change: Change) {
    let effect = state.apply(change).unwrap();
    store.keep(&effect, state).unwrap();
}

fn restored(store: &Store) -> State {
    let Kept { node, endpoints, routes, neighbors, pauses, damages } = store.load().unwrap().unwrap();
    assert_eq!(damages, []);
    let mut state = restore(node.unwrap(), endpoints, routes, neighbors).unwrap();
    pauses.into_iter().for_each(|pause| state.admit_pause(pause));
    state
}

#[test]
fn a_state_survives_its_process_and_every_change_of_it() {
    let (dir, mut store) = store();
    assert_eq!(store.load().unwrap(), None);
    let mut state = populated();
    store.begin(&state).unwrap();
    for wish in [
        attach("c", 3, &["10.244.0.9"]),
        route("10.77.0.0/16", "endpoint:c", Origin::Cli),
        route("10.78.0.0/16", "host", Origin::Cli),
        route("10.78.0.0/16", "blackhole", Origin::Cli),
        unroute("192.0.2.0/24", Origin::Cli, false),
        detach("b", Origin::Cli, true),
        neighbor("10.244.3.0/24", "192.168.9.3", Origin::Agent),
        change_neighbors(
            &[("10.244.2.0/24", Origin::Cli), ("10.244.3.0/24", Origin::Agent)],
            &[("10.244.2.0/25", "192.168.9.4"), ("10.244.4.0/24", "192.168.9.4"), ("10.244.5.0/24", "192.168.9.4")],
        ),
        change_neighbors(&[], &[("10.244.4.0/24", "192.168.9.5")]),
        change_neighbors(&[("10.244.4.0/24", Origin::Cli), ("10.244.5.0/24", Origin::Cli)], &[]),
        pause("no lease", Origin::Agent),
        pause("no lease yet", Origin::Agent),
        pause("maintenance", Origin::Cli),
        resume(Origin::Agent),
    ] {
        change(&mut store, &mut state, wish);
        store = again(&dir, store);
        assert_eq!(restored(&store), state);
        store.begin(&state).unwrap();
    }
}

#[test]
fn a_journal_that_has_grown_is_written_anew() {
    let (dir, mut store) = store();
    let mut state = populated();
    store.begin(&state).unwrap();
    let lines = |store: &Store| fs::read_to_string(store.dir.join(JOURNAL)).unwrap().lines().count();
    for _ in 0..RECORDS_SPARE {
        change(&mut store, &mut state, route("10.78.0.0/16", "host", Origin::Cli));
        change(&mut store, &mut state, unroute("10.78.0.0/16", Origin::Cli, false));
        assert!(lines(&store) < 2 * RECORDS_SPARE);
    }
    assert_eq!(restored(&again(&dir, store)), state);
}

#[test]
fn files_are_for_their_owner_alone() {
    let (_dir, mut store) = store();
    store.begin(&populated()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&store.dir), 0o700);
    assert_eq!([JOURNAL, LOCK].map(|file| mode(&store.dir.join(file))), [0o600; 2]);
    assert!(!store.dir.join(JOURNAL_NEW).exists());
}

#[test]
fn a_second_switch_is_refused_by_the_firsts_pid() {
    let (_dir, store) = store();
    let error = Store::open(&store.dir).unwrap_err();
    assert!(error.to_string().contains(&process::id().to_string()), "{error}");
}

#[test]
fn a_directory_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Exposed { .. })));
}

#[test]
fn a_newer_format_is_refused_and_another_boots_state_is_void() {
    let (dir, mut store) = store();
    store.begin(&populated()).unwrap();
    let path = store.dir.join(JOURNAL);
    let head = |format, boot: String| serde_json::json!({"head": {"format": format, "boot": boot, "new": true}});
    drop(Journal::replace(&path, [head(FORMAT + 1, boot())].iter()).unwrap());
    assert!(matches!(store.load(), Err(Error::Newer { found, .. }) if found == FORMAT + 1));
    let state = populated();
    let foreign = Head { format: FORMAT, boot: "another".to_owned(), node: Cow::Borrowed(state.node()) };
    drop(Journal::replace(&path, [Record::Head(foreign)].into_iter()).unwrap());
    assert_eq!(again(&dir, store).load().unwrap(), None);
}

/// Written by a switch of format 1.
#[test]
fn format_1_is_read_and_becomes_the_journal() {
    let (dir, mut store) = store();
    let document = include_str!("../../tests/golden/state-format-1.json");
    fs::write(store.dir.join(DOCUMENT), document).unwrap();
    let state = restored(&store);
    assert_eq!(state.endpoints().map(|endpoint| endpoint.name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((state.routes().len(), state.endpoints().all(|endpoint| !endpoint.tap.multi_queue)), (3, true));
    store.begin(&state).unwrap();
    assert!(!store.dir.join(DOCUMENT).exists());
    assert_eq!(restored(&again(&dir, store)), state);

    let (_dir, store) = self::store();
    for length in [0, 1, 100, document.len() - 2] {
        fs::write(store.dir.join(DOCUMENT), &document[..length]).unwrap();
        let kept = store.load().unwrap().unwrap();
        assert!(kept.endpoints.is_empty() && kept.damages.len() == 1, "{length}");
    }
}

/// Written by a switch of format 2, which knew no other nodes.
#[test]
fn format_2_is_read_and_goes_on() {
    let (dir, mut store) = store();
    let state = populated();
    store.begin(&state).unwrap();
    let path = store.dir.join(JOURNAL);
    let (mut records, _) = journal::read::<serde_json::Value>(&fs::read(&path).unwrap());
    records.retain(|record| record.get("neighbor").is_none());
    records[0]["head"]["format"] = 2.into();
    records[0]["head"]["node"].as_object_mut().unwrap().remove("underlay").unwrap();
    drop(Journal::replace(&path, records.iter()).unwrap());
    let store = again(&dir, store);
    let kept = store.load().unwrap().unwrap();
    assert_eq!((kept.endpoints.len(), kept.routes.len(), kept.damages.len()), (2, 3, 0));
    let node = kept.node.unwrap();
    assert_eq!((node.underlay, node.pod_ranges), (Underlay::default(), state.node().pod_ranges.clone()));
}

/// A process may end between any two records of a change: what is read is as if fewer of them had been asked for, and fits.
#[test]
fn a_change_of_many_neighbours_cut_off_after_any_record_still_fits() {
    let (dir, mut store) = store();
    let mut state = populated();
    store.begin(&state).unwrap();
    let path = store.dir.join(JOURNAL);
    let before = fs::read(&path).unwrap().len();
    // What comes overlaps what goes.
    let gone = [("10.244.2.0/24", Origin::Cli)];
    change(
        &mut store,
        &mut state,
        change_neighbors(&gone, &[("10.244.2.0/25", "192.168.9.4"), ("10.244.2.128/25", "192.168.9.5")]),
    );
    let whole = fs::read(&path).unwrap();
    let store = again(&dir, store);
    let ends = whole.iter().enumerate().skip(before - 1).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let known: Vec<usize> = ends
        .map(|end| {
            fs::write(&path, &whole[..end]).unwrap();
            restored(&store).neighbors().len()
        })
        .collect();
    assert_eq!(known, [3, 2, 3, 4]);
}

/// Whatever byte is changed or cut: what is loaded is what was kept, less the one record that was hit.
#[test]
fn damage_costs_one_record_and_never_half_of_one() {
    let (dir, mut store) = store();
    let state = populated();
    store.begin(&state).unwrap();
    let path = store.dir.join(JOURNAL);
    let sound = fs::read(&path).unwrap();
    let store = again(&dir, store);
    for at in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        for (text, lost_most) in [(&damaged[..], 1), (&sound[..at], usize::MAX)] {
            fs::write(&path, text).unwrap();
            let Some(kept) = store.load().unwrap() else { panic!("{at}: void") };
            let endpoints = kept.endpoints.iter().filter(|endpoint| state.endpoint(&endpoint.name) == Some(endpoint));
            let routes = kept.routes.iter().filter(|route| state.routes().any(|known| known == *route));
            let neighbors = kept.neighbors.iter().filter(|one| state.neighbors().any(|known| known == *one));
            let whole = [endpoints.count(), routes.count(), neighbors.count()];
            assert_eq!(whole, [kept.endpoints.len(), kept.routes.len(), kept.neighbors.len()], "{at}");
            let all = state.endpoints().len() + state.routes().len() + state.neighbors().len() + 1;
            let lost = all - whole.into_iter().sum::<usize>() - usize::from(kept.node.is_some());
            assert!(lost <= lost_most, "{at}: {lost}");
            assert!(lost == 0 || !kept.damages.is_empty() || sound[..at].ends_with(b"\n") || at == 0, "{at}: untold");
        }
    }
    let aside = store.set_damaged_aside().unwrap();
    assert!(aside.exists());
}
