//! How a node comes to its subnet, and keeps it.
//!
//! What it had before it takes again: the lease it remembers, else one that names its address, else, where that is free, the
//! subnet it remembers. Otherwise it is one of the first hundred that are free, by chance, so that nodes which start at
//! the same time seldom want the same. Who is beaten to one looks again.
//!
//! A lease is only ever written over what was read before. So no two nodes hold one subnet, unless a program that writes
//! without looking takes it; then this node finds out, and stands back.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use ipnet::IpNet;
use packet::Prefix;

use crate::error::Error;
use crate::lease::{Attributes, Subnets};
use crate::network::{Network, Pool};
use crate::store::Store;
use crate::view::View;

/// A lease of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What it is for.
    pub subnets: Subnets,
    /// Its value in the store.
    pub text: String,
}

/// How it stands with a lease that was held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is held, and renewed.
    Kept,
    /// It was gone or changed, and is held again.
    Regained,
    /// Somebody else has it.
    Lost(String),
}

/// Takes a subnet; `remembered` is the lease that this node had when it ran last.
///
/// # Errors
/// [`Error::Full`] and [`Error::Raced`], and what the store says.
pub fn acquire(
    store: &mut dyn Store,
    network: &Network,
    said: &Attributes,
    remembered: Option<&Held>,
) -> Result<Held, Error> {
    let text = said.text();
    for _ in 0..TRIES_MAX {
        let view = View::new(store.leases()?);
        let taken = if let Some((subnets, before)) = mine(&view, network, said, remembered) {
            (subnets, store.replace(&subnets.to_string(), before, &text)?)
        } else {
            let subnets = choose(&view, network, remembered.map(|held| held.subnets), chance())?;
            (subnets, store.create(&subnets.to_string(), &text)?)
        };
        if let (subnets, true) = taken {
            return Ok(Held { subnets, text });
        }
    }
    Err(Error::Raced)
}

/// Renews a lease, or takes it again where nobody else has it.
pub fn keep(store: &mut dyn Store, held: &Held, said: &Attributes) -> Result<Standing, Error> {
    let key = held.subnets.to_string();
    if store.replace(&key, &held.text, &held.text)? {
        return Ok(Standing::Kept);
    }
    let regained = match store.lease(&key)? {
        None => store.create(&key, &held.text)?,
        Some(found) => match serde_json::from_str::<Attributes>(&found) {
            Ok(other) if other.public_ip != said.public_ip => {
                return Ok(Standing::Lost(format!("{} has the lease of {}", other.public_ip, held.subnets)));
            }
            _ => store.replace(&key, &found, &held.text)?,
        },
    };
    let beaten = || Standing::Lost(format!("the lease of {} is being changed by somebody else", held.subnets));
    Ok(if regained { Standing::Regained } else { beaten() })
}

/// A lease that is this node's own, and its value.
fn mine<'a>(
    view: &'a View,
    network: &Network,
    said: &Attributes,
    remembered: Option<&Held>,
) -> Option<(Subnets, &'a str)> {
    let fits = |subnets: Subnets| network.v4.has(subnets.v4) && fits_v6(network, subnets.v6);
    let known = remembered.filter(|held| fits(held.subnets)).and_then(|held| {
        let text = view.get(&held.subnets.to_string())?;
        (text == held.text).then_some((held.subnets, text))
    });
    known.or_else(|| {
        let (key, subnets, _) =
            view.leases().find(|(_, subnets, other)| other.public_ip == said.public_ip && fits(*subnets))?;
        Some((subnets, view.get(key)?))
    })
}

/// The wished-for subnets if they are free, else some of the first that are.
fn choose(view: &View, network: &Network, wish: Option<Subnets>, chance: u64) -> Result<Subnets, Error> {
    let taken: BTreeSet<Prefix> = view.leases().flat_map(|(_, subnets, _)| subnets.each()).collect();
    let is_free = |subnet: Prefix| {
        let within = taken.range(subnet..).next().is_some_and(|other| other.overlaps(subnet));
        let around = (1..=subnet.length()).any(|length| {
            let wider = IpNet::new(subnet.address(), length).map(|net| net.trunc());
            wider.is_ok_and(|wider| Prefix::try_from(wider).is_ok_and(|wider| taken.contains(&wider)))
        });
        !within && !around
    };
    if let Some(wish) = wish.filter(|wish| network.v4.has(wish.v4) && fits_v6(network, wish.v6))
        && wish.each().all(is_free)
    {
        return Ok(wish);
    }
    let pick = |pool: &Pool| {
        let free: Vec<Prefix> = pool.subnets().filter(|subnet| is_free(*subnet)).take(CHOICE).collect();
        let place = (chance % free.len().max(1) as u64) as usize;
        free.get(place).copied().ok_or(Error::Full { network: pool.network })
    };
    Ok(Subnets { v4: pick(&network.v4)?, v6: network.v6.as_ref().map(pick).transpose()? })
}

fn fits_v6(network: &Network, v6: Option<Prefix>) -> bool {
    match (network.v6, v6) {
        (Some(pool), Some(v6)) => pool.has(v6),
        (None, None) => true,
        _ => false,
    }
}

/// Another number each time: standard library's hashers have random keys.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

const CHOICE: usize = 100;
const TRIES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::Files;

    const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;

    fn said(last: u8) -> Attributes {
        let network: Network = NETWORK.parse().unwrap();
        Attributes::of(network.backend, [192, 168, 9, last].into(), None)
    }

    fn store() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let store = Files::new(folder.path().to_owned()).unwrap();
        (folder, store)
    }

    fn take(store: &mut Files, network: &str, last: u8, remembered: Option<&Held>) -> Result<Held, Error> {
        acquire(store, &network.parse().unwrap(), &said(last), remembered)
    }

    #[test]
    fn a_node_gets_its_own_subnet_again() {
        let (_folder, mut store) = store();
        let first = take(&mut store, NETWORK, 1, None).unwrap();
        assert_eq!(take(&mut store, NETWORK, 1, None).unwrap(), first, "by its address");
        let moved = take(&mut store, NETWORK, 2, Some(&first)).unwrap();
        assert_eq!((moved.subnets, moved.text), (first.subnets, said(2).text()), "by what it remembers");
        std::fs::remove_file(_folder.path().join("subnets").join(first.subnets.to_string())).unwrap();
        assert_eq!(take(&mut store, NETWORK, 3, Some(&first)).unwrap().subnets, first.subnets, "where it is free");
    }

    #[test]
    fn another_nodes_subnet_is_left_to_it() {
        let (_folder, mut store) = store();
        let other = take(&mut store, NETWORK, 1, None).unwrap();
        let stale = Held { subnets: other.subnets, text: said(2).text() };
        assert_ne!(take(&mut store, NETWORK, 2, Some(&stale)).unwrap().subnets, other.subnets);
        assert_eq!(store.lease(&other.subnets.to_string()).unwrap(), Some(other.text));
    }

    #[test]
    fn a_full_network_is_told() {
        let (_folder, mut store) = store();
        let small = NETWORK.replace("10.5.0.0/16", "10.5.0.0/24");
        for node in 1..=3 {
            take(&mut store, &small, node, None).unwrap();
        }
        let error = take(&mut store, &small, 4, None).unwrap_err();
        assert_eq!(error.to_string(), "no subnet of 10.5.0.0/24 is free");
    }

    #[test]
    fn a_lease_is_kept_regained_or_lost() {
        let (folder, mut store) = store();
        let held = take(&mut store, NETWORK, 1, None).unwrap();
        let path = folder.path().join("subnets").join(held.subnets.to_string());
        let mut keep = || keep(&mut store, &held, &said(1)).unwrap();
        assert_eq!(keep(), Standing::Kept);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(keep(), Standing::Regained);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(keep(), Standing::Regained);
        std::fs::write(&path, said(7).text()).unwrap();
        let Standing::Lost(why) = keep() else { panic!("another node has it") };
        assert!(why.contains("192.168.9.7"), "{why}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), said(7).text());
    }

    proptest! {
        #[test]
        fn what_is_chosen_was_free(taken in proptest::collection::vec((0u8..=255, 17u8..=26), 0..60), chance: u64) {
            let network: Network = NETWORK.parse().unwrap();
            let key = |(third, length): (u8, u8)| {
                let net: IpNet = format!("10.5.{third}.0/{length}").parse().unwrap();
                format!("{}-{length}", net.network())
            };
            let view = View::new(taken.into_iter().map(|taken| (key(taken), said(9).text())).collect());
            if let Ok(chosen) = choose(&view, &network, None, chance) {
                prop_assert!(!view.leases().any(|(_, other, _)| other.overlaps(chosen)));
                prop_assert!(network.v4.has(chosen.v4));
            } else {
                let free = |subnet: &Prefix| !view.leases().any(|(_, other, _)| other.v4.overlaps(*subnet));
                prop_assert_eq!(network.v4.subnets().find(free), None);
            }
        }
    }
}
