use super::*;

use std::sync::atomic::AtomicBool;
use std::thread;

fn start(phase: Phase) -> Start {
    Start { by_first: true, phase, icmp: (8, 0), ruling: Ruling { generation: 3, value: 0 } }
}

const FORTH: Step = Step { forth: true, begins: false, ends: false };
const BACK: Step = Step { forth: false, ..FORTH };

#[test]
fn what_is_noted_is_found_until_it_was_silent_for_too_long() {
    let table = Connections::new(64);
    let key = [1, 2, 3, 4, 5];
    assert!(table.find(&key, 0).is_none());
    for (phase, seconds) in [(Phase::Begun, 20), (Phase::Established, 3_600), (Phase::Closing, 40), (Phase::Told, 60)] {
        let key = [phase as u64, 2, 3, 4, 5];
        assert!(table.insert(&key, &start(phase), 100));
        let found = table.find(&key, 100 + seconds).unwrap();
        assert_eq!((found.phase(), found.by_first(), found.icmp()), (phase, true, (8, 0)));
        assert_eq!(found.ruling(), Ruling { generation: 3, value: 0 });
        assert!(table.find(&key, 101 + seconds).is_none());
        assert!(table.find(&key, 99).is_some(), "another worker's clock is behind");
    }
    assert_eq!((table.in_use(100), table.limit(), table.full(), table.displaced()), (4, 64, 0, 0));
}

#[test]
fn a_renewed_flow_lives_on_in_its_new_phase() {
    let table = Connections::new(8);
    let key = [7; 5];
    table.insert(&key, &start(Phase::Begun), 0);
    let mut found = table.find(&key, 15).unwrap();
    let answered = found.phase().after(BACK);
    table.renew(&mut found, (true, answered), 15);
    let mut found = table.find(&key, 30).unwrap();
    assert_eq!(found.phase(), Phase::Answered);
    let established = found.phase().after(FORTH);
    table.renew(&mut found, (true, established), 30);
    assert_eq!(table.find(&key, 3_630).unwrap().phase(), Phase::Established);
    assert!(table.find(&key, 3_631).is_none());
}

#[test]
fn only_a_whole_handshake_establishes() {
    let syn = Step { begins: true, ..FORTH };
    let after = |steps: &[Step]| steps.iter().fold(Phase::first(6), |phase, step| phase.after(*step));
    assert_eq!(after(&[syn, FORTH, FORTH]), Phase::Begun, "nobody answers");
    assert_eq!(after(&[syn, BACK, syn]), Phase::Answered, "sent again");
    assert_eq!(after(&[syn, BACK, FORTH]), Phase::Established);
    assert_eq!(after(&[syn, BACK, FORTH, Step { ends: true, ..BACK }, FORTH]), Phase::Closing);
}

#[test]
fn rulings_of_newer_rules_stay() {
    let table = Connections::new(8);
    let key = [7; 5];
    table.insert(&key, &start(Phase::Asked), 0);
    let mut found = table.find(&key, 0).unwrap();
    let mut late = found;
    table.rule(&mut found, Ruling { generation: 4, value: 9 });
    assert_eq!(table.find(&key, 0).unwrap().ruling(), Ruling { generation: 4, value: 9 });
    table.rule(&mut late, Ruling { generation: 5, value: 1 });
    assert_eq!(table.find(&key, 0).unwrap().ruling().generation, 4, "it had changed in between");
    table.rule(&mut found, Ruling { generation: 3, value: 0 });
    assert_eq!(table.find(&key, 0).unwrap().ruling().value, 9);
    assert!(found.ruling().is_of(4) && found.ruling().is_of(4 + (1 << 20)) && !found.ruling().is_of(5));
}

#[test]
fn what_was_found_before_its_place_went_to_another_changes_nothing() {
    let table = Connections::new(8);
    table.insert(&[7; 5], &start(Phase::Asked), 0);
    let mut stale = table.find(&[7; 5], 0).unwrap();
    // All places go to others.
    (0..64).for_each(|other| assert!(table.insert(&[other, 0, 0, 0, 0], &start(Phase::Asked), 1)));
    let before: Vec<_> =
        (0..64).filter_map(|other| table.find(&[other, 0, 0, 0, 0], 1)).map(|found| found.life).collect();
    assert!(table.find(&[7; 5], 1).is_none() && before.len() == 8);
    table.renew(&mut stale, (true, Phase::Told), 9);
    table.rule(&mut stale, Ruling { generation: 9, value: 9 });
    let after = (0..64).filter_map(|other| table.find(&[other, 0, 0, 0, 0], 1));
    assert!(
        after.clone().map(|found| found.life).eq(before)
            && after.map(|found| found.ruling().value).all(|value| value == 0)
    );
}

#[test]
fn a_flood_of_first_packets_takes_no_place_of_an_answered_flow() {
    let table = Connections::new(4_096);
    let key = |at: u64, kind: u64| [at, kind, 0, 0, 0];
    let noted: Vec<_> = (0..2_000).filter(|&at| table.insert(&key(at, 1), &start(Phase::Established), 0)).collect();
    (0..100_000).for_each(|at| _ = table.insert(&key(at, 2), &start(Phase::Begun), 1));
    assert!(noted.len() > 1_900 && noted.iter().all(|&at| table.find(&key(at, 1), 1).is_some()));
    assert!(table.displaced() > 90_000);
    // The newest of them are there.
    assert!((99_990..100_000).filter(|&at| table.find(&key(at, 2), 1).is_some()).count() >= 8);
}

#[test]
fn where_all_are_answered_a_new_flow_finds_no_place_until_one_expires() {
    let table = Connections::new(8);
    (0..8).for_each(|at| assert!(table.insert(&[at; 5], &start(Phase::Told), 0)));
    assert!(!table.insert(&[8; 5], &start(Phase::Asked), 60));
    assert_eq!((table.full(), table.displaced()), (1, 0));
    assert!(table.insert(&[8; 5], &start(Phase::Asked), 61));
}

#[test]
fn threads_find_whole_flows_or_none() {
    const KEYS: u64 = 40;
    let table = Connections::new(16);
    let over = AtomicBool::new(false);
    // All words of a key, and its ruling, say the same number.
    let of = |at: u64| ([at; 5], Start { ruling: Ruling { generation: 0, value: at as u32 }, ..start(Phase::Asked) });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                (0..200_000).map(|turn| of(turn % KEYS)).for_each(|(key, start)| _ = table.insert(&key, &start, 0));
                over.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let mut found = 0;
            while !over.load(Ordering::Relaxed) || found == 0 {
                for at in 0..KEYS {
                    let Some(mut connection) = table.find(&[at; 5], 0) else { continue };
                    found += 1;
                    let tag = connection.ruling >> TAG_SHIFT_RULING & TAG_MAX;
                    if connection.life >> TAG_SHIFT_LIFE & TAG_MAX == tag {
                        assert_eq!(connection.ruling().value, at as u32);
                    }
                    table.rule(&mut connection, Ruling { generation: 1, value: at as u32 });
                }
            }
        });
    });
}

#[test]
fn one_thread_goes_on_with_what_another_began() {
    let table = Connections::new(1 << 16);
    let (turns, ends) = (10_000, crossbeam::channel::bounded(64));
    thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..turns {
                table.insert(&[at; 5], &start(Phase::Begun), 0);
                ends.0.send(at).unwrap();
            }
        });
        let mut found = 0;
        for at in ends.1.iter().take(turns as usize) {
            found += usize::from(table.find(&[at; 5], 0).is_some());
        }
        assert_eq!(found, turns as usize, "a reply finds its flow, whoever carries it");
    });
}
