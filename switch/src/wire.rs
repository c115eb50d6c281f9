//! Wiring: what is done in a pod's namespace, and in the node's, so that frames reach the switch.
//!
//! A pod gets an interface with its addresses as /32 and /128, and default routes by a gateway that is the switch itself
//! (the same for every pod, as Calico's are), whose Ethernet address is a permanent neighbour: no question need be asked
//! before the first packet. The interface is a TAP made where it lies: a move from another namespace
//! has the kernel wait until every CPU has let go of the device, many milliseconds. In return its descriptor holds the pod's
//! namespace, which `engine/sweep.rs` makes up for.
//!
//! The host port is a TAP in the node's namespace: a route for every pod range leads to it, and an `unreachable` one of
//! the worst metric stands behind, so that nothing leaks or loops when the switch is gone. Kernel settings are
//! changed on this device alone.
//!
//! Until a TAP is made persistent, closing it removes it with all that hangs on it: that is the undo of every step
//! here.

pub mod host_routes;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use control::{InterfaceName, Mtu};
use host::{
    Address, Error, Family, Link, LinkChange, Namespace, Neighbor, Netlink, Route, RouteKind, Scope, Sysctl, Tap,
    TapFeature, TapOptions,
};
use ipnet::IpNet;
use packet::{Mac, Prefix};

use crate::config::Node;
use crate::limits::Limits;
use crate::state::{Endpoint, GATEWAY_V4, GATEWAY_V6};

/// Makes `endpoint`'s interface in its namespace, with so many queues; the TAP is not persistent yet. For `tunnels` see
/// [`limit_queue`].
///
/// # Errors
/// What the kernel refused; nothing is left behind.
pub fn pod(endpoint: &Endpoint, namespace: &Namespace, (queues, tunnels): (u16, bool)) -> Result<Tap, Error> {
    let (name, multi_queue) = (endpoint.interface.as_str(), endpoint.tap.multi_queue);
    namespace.visit(|| {
        let tap = Tap::open(&TapOptions { queues, multi_queue, ..TapOptions::new(name) })?;
        no_duplicate_detection(name)?;
        let mut pod = Netlink::open()?;
        let index = pod.link(name)?.index;
        pod.set_no_queue(index)?;
        let (mac, mtu) = (Some(endpoint.mac), Some(mtu(endpoint.mtu)));
        pod.change_link(index, &LinkChange { mac, mtu, up: Some(true), ..queue(endpoint, tunnels) })?;
        for address in &endpoint.addresses {
            own_address(&mut pod, index, address.get())?;
        }
        for gateway in endpoint.gateways() {
            pod.add_neighbor(&Neighbor { link: index, address: gateway, mac: Mac::GATEWAY })?;
            if gateway.is_ipv4() {
                pod.add_route(&Route { scope: Scope::Link, ..Route::on_link(Prefix::host(gateway), index) })?;
            }
            pod.add_route(&Route::via(everything(gateway), gateway, index))?;
        }
        wait_until_in_use(&mut pod, endpoint)?;
        Ok(tap)
    })?
}

/// Opens `endpoint`'s interface again after the switch was gone.
///
/// # Errors
/// The namespace or the interface is gone, or is another's.
pub fn readopt_pod(endpoint: &Endpoint, namespace: &Namespace, queues: u16) -> Result<Tap, Error> {
    let name = endpoint.interface.as_str();
    let multi_queue = endpoint.tap.multi_queue;
    let queues = if multi_queue { queues } else { 1 };
    let options = TapOptions { adopt: true, persistent: true, multi_queue, queues, ..TapOptions::new(name) };
    namespace.visit(|| {
        let mut pod = Netlink::open()?;
        // Adopting would create what is not there.
        pod.link(name)?;
        let tap = Tap::open(&options)?;
        // Who asks for a link has the kernel take note of its carrier before it answers (linkwatch_sync_dev in Linux
        // net/core/rtnetlink.c). By itself it does so for a hundred devices a second, and until then nothing is sent.
        pod.link(name)?;
        Ok(tap)
    })?
}

/// Has the pod's kernel queue for the switch what suits it: super-frames that fit one datagram of a tunnel, headers included, where
/// there are `tunnels`, and for a pod that may send little, little. The pod may change that: it is for speed alone.
///
/// # Errors
/// What the kernel refused.
pub fn limit_queue(endpoint: &Endpoint, namespace: &Namespace, tunnels: bool) -> Result<(), Error> {
    if !tunnels && endpoint.bandwidth.egress.is_none() {
        return Ok(());
    }
    let mut pod = Netlink::open_in(namespace)?;
    let index = pod.link(endpoint.interface.as_str())?.index;
    pod.change_link(index, &queue(endpoint, tunnels))
}

fn queue(endpoint: &Endpoint, tunnels: bool) -> LinkChange<'static> {
    let limit = endpoint.bandwidth.egress.map(Limits::queue);
    let longest = [tunnels.then_some(SUPER_FRAME_IN_TUNNEL), limit.map(|(_, longest)| longest)];
    let longest = longest.into_iter().flatten().min();
    let queue_length = limit.map(|(frames, _)| frames);
    LinkChange { gso_max_size: longest, gso_ipv4_max_size: longest, queue_length, ..Default::default() }
}

/// Makes the host port, or takes the one an earlier switch left; its addresses and routes are brought up to `node`.
///
/// # Errors
/// What the kernel refused. A device made here goes with the returned TAP; one that was taken lasts.
pub fn host_port((name, queues): (&InterfaceName, u16), node: &Node, adopt: bool) -> Result<Tap, Error> {
    let options = TapOptions { adopt, persistent: adopt, multi_queue: true, queues, ..TapOptions::new(name.as_str()) };
    let tap = match Tap::open(&options) {
        // Made by an older switch, with one queue for good.
        Err(Error::TapUnlike { .. }) if adopt => Tap::open(&TapOptions { multi_queue: false, queues: 1, ..options })?,
        opened => opened?,
    };
    for (family, key, value) in HOST_SYSCTLS {
        set_if_present(&Sysctl::interface(*family, name.as_str(), key)?, value)?;
    }
    let mut own = Netlink::open()?;
    let Link { index, queue_discipline, .. } = own.link(name.as_str())?;
    if queue_discipline != NO_QUEUE {
        own.set_no_queue(index)?;
    }
    let change = LinkChange { mtu: Some(mtu(node.mtu)), up: Some(true), ..Default::default() };
    own.change_link(index, &change)?;
    for &address in &node.router_addresses {
        match own_address(&mut own, index, address) {
            Err(error) if !error.is_exists() => return Err(error),
            _ => {}
        }
    }
    for gateway in [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)] {
        own.replace_neighbor(&Neighbor { link: index, address: gateway, mac: Mac::GATEWAY })?;
    }
    for &range in &node.pod_ranges {
        own.replace_route(&Route { onlink: true, ..Route::via(range, gateway_of(range), index) })?;
        own.replace_route(&Route::unreachable(range, METRIC_WORST))?;
    }
    Ok(tap)
}

/// Removes what an earlier switch set up in the node's namespace for settings that have changed: the host port that was
/// called otherwise, addresses and routes.
pub fn retire(before: &Node, now: &Node) -> Result<(), Error> {
    let mut own = Netlink::open()?;
    remove_unreachable_routes(&mut own, before, now)?;
    let link = unless_missing(own.link(before.host_port.as_str()))?;
    let Some(link) = link.filter(|link| link.kind == TAP_KIND) else { return Ok(()) };
    if before.host_port != now.host_port {
        return unless_missing(own.delete_link(link.index)).map(drop);
    }
    let gone = |address: &&IpAddr| !now.router_addresses.contains(address);
    for &address in before.router_addresses.iter().filter(gone) {
        unless_missing(own.delete_address(&Address::new(link.index, IpNet::from(address))))?;
    }
    for &range in before.pod_ranges.iter().filter(|range| !now.pod_ranges.contains(range)) {
        unless_missing(own.delete_route(&Route { onlink: true, ..Route::via(range, gateway_of(range), link.index) }))?;
    }
    Ok(())
}

/// Removes the routes that stand behind the host port; the device's own go with it.
pub fn remove_routes(node: &Node) -> Result<(), Error> {
    remove_unreachable_routes(&mut Netlink::open()?, node, &Node { pod_ranges: Vec::new(), ..node.clone() })
}

fn remove_unreachable_routes(own: &mut Netlink, before: &Node, now: &Node) -> Result<(), Error> {
    for &range in before.pod_ranges.iter().filter(|range| !now.pod_ranges.contains(range)) {
        unless_missing(own.delete_route(&Route::unreachable(range, METRIC_WORST)))?;
    }
    Ok(())
}

pub(crate) fn unless_missing<T>(done: Result<T, Error>) -> Result<Option<T>, Error> {
    match done {
        Err(error) if error.is_missing() => Ok(None),
        done => done.map(Some),
    }
}

fn no_duplicate_detection(interface: &str) -> Result<(), Error> {
    set_if_present(&Sysctl::interface(Family::V6, interface, "accept_dad")?, "0")
}

/// A kernel without IPv6, or an older one, has no such key; that is no error.
fn set_if_present(sysctl: &Sysctl, value: &str) -> Result<(), Error> {
    if sysctl.path().exists() { sysctl.write(value) } else { Ok(()) }
}

fn own_address(netlink: &mut Netlink, link: u32, address: IpAddr) -> Result<(), Error> {
    netlink.add_address(&Address { no_dad: address.is_ipv6(), ..Address::new(link, IpNet::from(address)) })
}

/// The kernel takes an IPv6 address into use by work it does later: until then it refuses what arrives for it.
fn wait_until_in_use(pod: &mut Netlink, endpoint: &Endpoint) -> Result<(), Error> {
    let start = Instant::now();
    loop {
        let routes = pod.routes()?;
        let is_in_use = |address: IpAddr| {
            routes.iter().any(|route| route.kind == RouteKind::Local && route.prefix == Prefix::host(address))
        };
        let Some(late) = endpoint.addresses.iter().find(|address| !is_in_use(address.get())) else { return Ok(()) };
        if start.elapsed() > IN_USE_WITHIN {
            let source = ErrorKind::TimedOut.into();
            return Err(Error::Call { call: "taking an address into use", object: late.to_string(), source });
        }
        thread::sleep(IN_USE_LOOK);
    }
}

fn everything(of: IpAddr) -> Prefix {
    let zero = if of.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    Prefix::new(zero, 0).expect("zero has no host bits")
}

fn gateway_of(range: Prefix) -> IpAddr {
    if range.address().is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

fn mtu(mtu: Mtu) -> u32 {
    mtu.get().into()
}

/// Makes the TAP by which super-frames go into tunnels uncut, with so many queues; none where the kernel does not know
/// such frames. It goes with this process.
///
/// # Errors
/// What the kernel refused.
pub fn express(queues: u16) -> Result<Option<Tap>, Error> {
    let (name, tap) = express_tap(queues)?;
    if !tap.offers(TapFeature::UdpTunnelGso) {
        return Ok(None);
    }
    for (key, value) in EXPRESS_SYSCTLS {
        set_if_present(&Sysctl::interface(Family::V4, &name, key)?, value)?;
    }
    set_if_present(&Sysctl::interface(Family::V6, &name, "disable_ipv6")?, "1")?;
    let mut own = Netlink::open()?;
    let index = own.link(&name)?.index;
    own.change_link(index, &LinkChange { mac: Some(EXPRESS_MAC), up: Some(true), ..Default::default() })?;
    Ok(Some(tap))
}

/// Other switches of this namespace may have one each.
fn express_tap(queues: u16) -> Result<(String, Tap), Error> {
    let mut number = 0;
    loop {
        let name = format!("{EXPRESS}{number}");
        match Tap::open(&TapOptions { queues, multi_queue: true, tunnels: true, ..TapOptions::new(&name) }) {
            Err(Error::TapBusy { .. }) if number < EXPRESS_LAST => number += 1,
            opened => return Ok((name, opened?)),
        }
    }
}

/// What the TAPs for uncut super-frames are called, with a number.
const EXPRESS: &str = "podswitch-tx";
const EXPRESS_LAST: u32 = 99;

/// The station that takes encapsulated super-frames for the kernel to forward.
pub const EXPRESS_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// What the kernel's IPv4 needs to forward what comes from this node's own address.
const EXPRESS_SYSCTLS: &[(&str, &str)] =
    &[("forwarding", "1"), ("accept_local", "1"), ("rp_filter", "0"), ("send_redirects", "0")];

/// What the host port needs of the kernel, on its own device only. The switch's ICMP errors come from the router
/// address, which is the host's own (`accept_local`). While no switch holds the device its routes do not count, so that
/// the unreachable ones behind them answer (`ignore_routes_with_linkdown`).
const HOST_SYSCTLS: &[(Family, &str, &str)] = &[
    (Family::V4, "forwarding", "1"),
    (Family::V4, "accept_local", "1"),
    (Family::V4, "ignore_routes_with_linkdown", "1"),
    (Family::V6, "ignore_routes_with_linkdown", "1"),
    (Family::V4, "rp_filter", "0"),
    (Family::V4, "send_redirects", "0"),
    (Family::V4, "accept_redirects", "0"),
    (Family::V6, "forwarding", "1"),
    (Family::V6, "force_forwarding", "1"),
    (Family::V6, "accept_ra", "0"),
    (Family::V6, "accept_dad", "0"),
    (Family::V6, "accept_redirects", "0"),
];

/// With outer headers, and those of 64 segments, it stays below 64 KiB.
const SUPER_FRAME_IN_TUNNEL: u32 = 61_440;
/// What the kernel calls no queue discipline.
const NO_QUEUE: &str = "noqueue";
/// What the kernel calls the kind of a TAP.
pub(crate) const TAP_KIND: &str = "tun";
/// The kernel takes the lowest metric: this one stands behind every other route.
const METRIC_WORST: u32 = u32::MAX;

/// Within microseconds on an idle machine; the bound is for one that is not.
const IN_USE_WITHIN: Duration = Duration::from_secs(10);
const IN_USE_LOOK: Duration = Duration::from_micros(200);
