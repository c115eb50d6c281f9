//! Rates of ports, shown again and again until the reader has enough.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use control::{Client, PortView};

use super::Table;
use crate::cli::{Error, print};

/// Shows what passed each port since the last look, every `seconds`; on a terminal each table takes the place of the one
/// before.
pub(in crate::cli) fn ports(client: &Client, seconds: u16) -> Result<(), Error> {
    let (mut before, mut since) = (client.ports()?, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(seconds.into()));
        let (after, now) = (client.ports()?, Instant::now());
        let clear = if io::stdout().is_terminal() { HOME_AND_CLEAR } else { "" };
        print(&format!("{clear}{}", rates(&before, &after, now - since)))?;
        (before, since) = (after, now);
    }
}

fn rates(before: &[PortView], after: &[PortView], period: Duration) -> String {
    let mut table =
        Table::new(&["port", "name", "received/s", "sent/s", "dropped/s", "received Mbit/s", "sent Mbit/s"]);
    for port in after {
        // A port that came since counts from nothing, and so does another of its number.
        let Some(old) = before.iter().find(|old| (old.index, &old.name) == (port.index, &port.name)) else { continue };
        let rate = |count: fn(&PortView) -> u64| count(port).saturating_sub(count(old)) as f64 / period.as_secs_f64();
        let megabits = |count| format!("{:.1}", rate(count) * 8.0 / 1e6);
        table.row([
            port.index.to_string(),
            port.name.clone(),
            format!("{:.0}", rate(|port| port.received.frames)),
            format!("{:.0}", rate(|port| port.sent.frames)),
            format!("{:.0}", rate(|port| port.dropped.values().sum::<u64>() + port.kernel_dropped.unwrap_or(0))),
            megabits(|port| port.received.bytes),
            megabits(|port| port.sent.bytes),
        ]);
    }
    table.text()
}

/// ECMA-48 control sequences CUP and ED, as every terminal takes them.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[2J";

#[cfg(test)]
mod tests {
    use control::{PortKind, Traffic};
    use packet::Mac;

    use super::*;

    fn port(name: &str, received: Traffic, kernel_dropped: Option<u64>) -> PortView {
        PortView {
            index: 1,
            name: name.to_owned(),
            kind: PortKind::Workload,
            interface: Some("eth0".parse().unwrap()),
            netns: None,
            addresses: Vec::new(),
            mac: Mac::ZERO,
            mtu: 1500,
            abilities: Vec::new(),
            origin: None,
            received,
            sent: Traffic::default(),
            dropped: [("multicast".to_owned(), 4)].into(),
            kernel_dropped,
        }
    }

    #[test]
    fn a_rate_is_what_passed_in_the_period_and_a_port_that_just_came_has_none() {
        let before = [port("web-0", Traffic { frames: 100, bytes: 1_000_000 }, None)];
        let after = port("web-0", Traffic { frames: 300, bytes: 3_500_000 }, Some(6));
        let text = rates(&before, &[after.clone(), port("web-1", after.received, None)], Duration::from_secs(2));
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["1", "web-0", "100", "0", "3", "10.0", "0.0"]]);
    }
}
