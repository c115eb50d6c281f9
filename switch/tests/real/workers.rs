//! Any number of workers: more than CPUs, and another number after a restart.

use std::fs;

use crate::rig::Rig;
use crate::traffic::{connection, transfer};

#[test]
fn more_workers_than_cpus_serve_connections_that_outlive_a_change_of_their_number() {
    let mut rig = Rig::with(&line(5));
    let (a, b) = (rig.pod(2), rig.pod(3));
    for (address, (before, after)) in [(b.v4(), (5, 1)), (b.v6(), (1, 3))] {
        transfer(&connection(&a, &b, address), 8 << 20, || {
            let text = fs::read_to_string(rig.configuration()).unwrap();
            fs::write(rig.configuration(), text.replace(&line(before), &line(after))).unwrap();
            rig.kill();
            rig.start();
        });
        assert_eq!(rig.client().workers().unwrap().len(), after);
        assert!(rig.settled().conserved);
    }
}

/// So many workers, all on one CPU.
fn line(workers: usize) -> String {
    format!("worker_cpus = {:?}", vec![0; workers])
}
