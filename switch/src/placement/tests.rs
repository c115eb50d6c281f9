use mio::Poll;
use ring::snapshot::Publisher;
use route_table::RouteTable;

use super::*;
use crate::bank;
use crate::port::Wire;
use crate::worker::tests::port;

/// What a window shows in which port 0 gives and takes so many frames.
fn weather(heat: &mut Heat, start: &mut Instant, (given, taken): (u64, u64)) -> Weather {
    let (port, _wire): (Port, Wire) = port(0, 1);
    let worlds = Publisher::new(World::new(port, RouteTable::new().reader()));
    let world = worlds.current();
    let port = world.port(0).unwrap();
    // The window that is open ends here.
    *start += WINDOW;
    heat.judge(world, *start);
    heat.note(port);
    port.counters.of(0).add(Count::Received, given);
    port.counters.of(0).add(Count::Sent, taken);
    assert_eq!(heat.judge(world, *start + WINDOW / 2), None, "the window is not over");
    *start += WINDOW;
    heat.judge(world, *start).unwrap()
}

#[test]
fn a_flood_is_hot_and_as_many_questions_with_answers_are_not() {
    let (mut heat, mut now) = (Heat::default(), Instant::now());
    assert_eq!(weather(&mut heat, &mut now, (100, 0)), Weather::Hot);
    assert_eq!(weather(&mut heat, &mut now, (100, 100)), Weather::Mild);
    assert_eq!(weather(&mut heat, &mut now, (20, 0)), Weather::Mild);
}

#[test]
fn cold_is_what_stays_cold() {
    let (mut heat, mut now) = (Heat::default(), Instant::now());
    let colds = |heat: &mut Heat, now: &mut Instant| {
        (0..u32::from(COLD_WINDOWS)).take_while(|_| weather(heat, now, (1, 1)) != Weather::Cold).count()
    };
    // Two windows go by each time, but one the first time, which only opens it.
    assert_eq!(colds(&mut heat, &mut now), usize::from(COLD_WINDOWS) / 2);
    assert_eq!(weather(&mut heat, &mut now, (100, 0)), Weather::Hot);
    assert_eq!(weather(&mut heat, &mut now, (1, 1)), Weather::Mild);
    while weather(&mut heat, &mut now, (1, 1)) != Weather::Cold {}
    heat.forget();
    assert_eq!(weather(&mut heat, &mut now, (1, 1)), Weather::Mild);
}

fn peer(number: u16, cpu: u16) -> Peer {
    let (poll, standing) = (Poll::new().unwrap(), Arc::new(Standing::default()));
    let waker = |poll: &Poll| Waker::new(poll.registry(), bank::WAKE).unwrap();
    let bell = Arc::new(Bell { at_bank: waker(&poll), at_rest: waker(&Poll::new().unwrap()) });
    Peer { number, cpu, inbox: mpsc::ring(4).0, bell, standing }
}

#[test]
fn a_hot_bank_goes_to_the_next_worker_of_another_cpu_that_has_room() {
    // Of a crew of four on two CPUs, as the second worker sees them.
    let mut peers = [peer(0, 0), peer(2, 0), peer(3, 1)];
    let chosen = |peers: &mut [Peer]| choose(peers, (1, 1)).map(|peer| peer.number);
    assert_eq!(chosen(&mut peers), Some(2));
    peers[1].standing.set_load(1);
    assert_eq!(chosen(&mut peers), Some(0));
    peers[0].standing.tell(Some(ROOM + 1), false);
    assert_eq!(chosen(&mut peers), None);
    peers[0].standing.tell(Some(ROOM), false);
    assert_eq!(chosen(&mut peers), Some(0));
}

#[test]
fn a_guest_is_worse_off_only_where_there_is_no_room_and_more_at_home() {
    let (here, home) = (Standing::default(), Standing::default());
    let worse = |at: Option<u64>, there: Option<u64>| {
        here.tell(at, false);
        home.tell(there, false);
        here.is_worse_than(&home)
    };
    assert!(worse(Some(NO_ROOM), Some(0)));
    assert!(!worse(Some(NO_ROOM - 1), Some(0)) && !worse(Some(NO_ROOM), Some(NO_ROOM)));
    assert!(!worse(None, Some(0)) && !worse(Some(100), None));
}
