//! Which addresses a pod gets that leaves the choice to the switch.
//!
//! One address of each pool. Who was here before (`Assign::keep_for`) gets what it had, if that is free. Otherwise it is
//! the lowest address that nobody has or had lately, and when all were had, the one that was left longest ago: an address
//! is given again as late as can be, since others may still speak to its last holder. The choice is made by the control
//! thread right before the endpoint is applied to the state, so it is taken, kept and undone with the endpoint; nothing
//! here has to be given back.
//!
//! Never chosen: the first and last address of an IPv4 pod range and the first of an IPv6 one, which have meanings of
//! their own, the router's, reserved ones, and what has a route of its own. A reserved address is had by asking for it.

mod memory;

use std::collections::HashSet;
use std::net::IpAddr;

use control::{AddressRange, Assign, Code, PodAddress, Refusal};
use packet::Prefix;

use crate::state::State;

pub(crate) use self::memory::{FILE as ADDRESSES, Memory};

/// All `addresses` a pod is to have: those given, and one from each pool of `assign` that holds none of them.
///
/// # Errors
/// A pool or a given address outside the pod ranges is invalid; a pool without a free address is unavailable.
pub(crate) fn complete(
    mut addresses: Vec<PodAddress>,
    assign: &Assign,
    (state, memory, reserved): (&State, &Memory, &[AddressRange]),
) -> Result<Vec<PodAddress>, Refusal> {
    let pools = if assign.pools.is_empty() { of_the_node(state) } else { assign.pools.clone() };
    let ranges = &state.node().pod_ranges;
    for range in assign.pools.iter().flatten() {
        if !ranges.iter().any(|pods| pods.contains(range.first()) && pods.contains(range.last())) {
            return Err(outside(&format!("the range {range}"), ranges));
        }
    }
    for address in &addresses {
        let pooled = || assign.pools.is_empty() || pools.iter().flatten().any(|range| range.contains(address.get()));
        if !ranges.iter().any(|pods| pods.contains(address.get())) {
            return Err(outside(&format!("the address {address}"), ranges));
        }
        if !pooled() {
            return Err(Refusal::new(Code::Invalid, format!("the address {address} lies in none of the ranges given")));
        }
    }
    let taken: HashSet<IpAddr> = state.endpoints().flat_map(|one| one.addresses.iter().map(|own| own.get())).collect();
    let is_free = |address: IpAddr| !taken.contains(&address) && state.has_room_for(address);
    for pool in &pools {
        let has_one = |address: &PodAddress| pool.iter().any(|range| range.contains(address.get()));
        if addresses.iter().any(has_one) {
            continue;
        }
        let had = assign.keep_for.as_ref().and_then(|owner| {
            memory.addresses_of(owner).find(|&had| pool.iter().any(|range| range.contains(had)) && is_free(had))
        });
        let chosen = had.or_else(|| choose(pool, reserved, memory, is_free)).ok_or_else(|| exhausted(pool))?;
        addresses.push(PodAddress::try_from(chosen).map_err(|error| Refusal::new(Code::Invalid, error.to_string()))?);
    }
    Ok(addresses)
}

/// The lowest free address that nobody had lately, or else the one left longest ago.
fn choose(
    pool: &[AddressRange],
    reserved: &[AddressRange],
    memory: &Memory,
    is_free: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let fresh = |address: &IpAddr| is_free(*address) && !memory.has(*address);
    let lowest = pool.iter().find_map(|range| unreserved(*range, reserved).find(fresh));
    lowest.or_else(|| {
        let inside = |address: &IpAddr| {
            let within = |ranges: &[AddressRange]| ranges.iter().any(|range| range.contains(*address));
            within(pool) && !within(reserved)
        };
        memory.longest_left_first().filter(inside).find(|address| is_free(*address))
    })
}

/// The addresses of `range` in order, those in `reserved` left out at one step for each range of them.
fn unreserved(range: AddressRange, reserved: &[AddressRange]) -> impl Iterator<Item = IpAddr> {
    let beyond = move |at: IpAddr| reserved.iter().find(|other| other.contains(at)).map(|other| next(other.last()));
    let skip = move |mut at: Option<IpAddr>| {
        while let Some(after) = at.and_then(beyond) {
            at = after;
        }
        at.filter(|&at| range.contains(at))
    };
    std::iter::successors(skip(Some(range.first())), move |&at| skip(next(at)))
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// A pool for each family the node has ranges of.
fn of_the_node(state: &State) -> Vec<Vec<AddressRange>> {
    let of = |v4: bool| {
        let ranges = state.node().pod_ranges.iter().filter(move |range| range.address().is_ipv4() == v4);
        ranges.filter_map(|range| for_pods(*range)).collect::<Vec<_>>()
    };
    [of(true), of(false)].into_iter().filter(|pool| !pool.is_empty()).collect()
}

/// What pods may have of a range: an IPv4 subnet's first and last address stand for all of it (RFC 1122, section 3.2.1.3),
/// an IPv6 one's first for any router (RFC 4291, section 2.6.1); where there are but one or two (RFC 3021), all.
fn for_pods(range: Prefix) -> Option<AddressRange> {
    let all = AddressRange::from(range);
    if range.net().max_prefix_len() - range.length() < 2 {
        return Some(all);
    }
    let last = match all.last() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) - 1).into()),
        v6 => v6,
    };
    next(all.first()).and_then(|first| AddressRange::new(first, last).ok())
}

fn outside(what: &str, ranges: &[Prefix]) -> Refusal {
    let ranges: Vec<String> = ranges.iter().map(Prefix::to_string).collect();
    Refusal::new(Code::Invalid, format!("{what} lies in none of this node's pod ranges, {}", ranges.join(", ")))
}

fn exhausted(pool: &[AddressRange]) -> Refusal {
    let ranges: Vec<String> = pool.iter().map(AddressRange::to_string).collect();
    Refusal::new(Code::Unavailable, format!("every address of {} is in use or reserved", ranges.join(", ")))
        .hint("detach pods that are not needed, or give the node another pod range")
}

#[cfg(test)]
mod tests;
