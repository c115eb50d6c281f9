//! Values of arguments, from the words on the command line; what is wrong with one is said as clap shows it.

use std::time::Duration;

use clap::ValueEnum;
use podswitch_bench::topology::Wiring;

/// The CPU of what stands between the pods, if it is bound to one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SwitchCpu(pub(crate) Option<usize>);

/// A span of time in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write a number of seconds from 0.05 to 3600".to_owned())
}

/// A CPU, or that it is left to the scheduler.
pub(crate) fn cpu_or_none(text: &str) -> Result<SwitchCpu, String> {
    match text {
        "none" => Ok(SwitchCpu(None)),
        number => number.parse().map(|cpu| SwitchCpu(Some(cpu))).map_err(|_| "write a CPU number or `none`".to_owned()),
    }
}

/// A setting of the switch.
pub(crate) fn setting(text: &str) -> Result<String, String> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("write KEY=VALUE, as in 'poll=\"spin\"'".to_owned()) }
}

/// What pods may be wired by other than ours.
pub(crate) fn peer(text: &str) -> Result<Wiring, String> {
    let peer = Wiring::from_str(text, false).ok().filter(|&wiring| wiring != Wiring::Ours);
    peer.ok_or_else(|| "write kernel-route, kernel-bridge, kernel-veth or tun-tap".to_owned())
}
