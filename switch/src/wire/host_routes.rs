//! Routes of the node's own table to neighbours of `host-gw`: `SUBNET via NODE`, by whatever link leads to the node.
//!
//! They have the protocol number of all our routes. What stands there and is not ours is never replaced.

use control::{Backend, Neighbor};
use host::{Error, Netlink, Route, RouteKind};

use super::unless_missing;

/// Makes the route of each that is of `host-gw`, in the place of one of ours with another next hop.
///
/// # Errors
/// What the kernel refused; [`Error::is_exists`] where somebody else's route is in the way. Those before it stand.
pub fn establish<'n>(neighbors: impl IntoIterator<Item = &'n Neighbor>) -> Result<(), Error> {
    let mut routes = neighbors.into_iter().filter_map(route).peekable();
    let mut own = if routes.peek().is_some() { Netlink::open()? } else { return Ok(()) };
    let mut listed = None;
    for route in routes {
        match own.add_route(&route) {
            Err(error) if error.is_exists() => {
                let listed = if let Some(listed) = &listed { listed } else { listed.insert(own.routes()?) };
                if !listed.iter().any(|there| there.prefix == route.prefix && is_to_a_neighbor(there)) {
                    return Err(error);
                }
                own.replace_route(&route)?;
            }
            added => added?,
        }
    }
    Ok(())
}

/// Makes those that are missing again: the kernel drops them when a link goes down or loses its address.
///
/// # Errors
/// The first refusal; the others were tried all the same.
pub fn mend<'n>(neighbors: impl IntoIterator<Item = &'n Neighbor>) -> Result<(), Error> {
    let mut routes = neighbors.into_iter().filter_map(route).peekable();
    let mut own = if routes.peek().is_some() { Netlink::open()? } else { return Ok(()) };
    let refused = routes.filter_map(|route| own.add_route(&route).err().filter(|error| !error.is_exists()));
    // All of them, hence no short cut.
    refused.reduce(|first, _| first).map_or(Ok(()), Err)
}

/// Removes the route of each that is of `host-gw`; one that is gone is no error.
pub fn withdraw<'n>(neighbors: impl IntoIterator<Item = &'n Neighbor>) -> Result<(), Error> {
    let mut routes = neighbors.into_iter().filter_map(route).peekable();
    let mut own = if routes.peek().is_some() { Netlink::open()? } else { return Ok(()) };
    routes.try_for_each(|route| unless_missing(own.delete_route(&route)).map(drop))
}

/// The route to a neighbour of `host-gw`; none of the others.
pub fn route(neighbor: &Neighbor) -> Option<Route> {
    let Neighbor { subnet, via, backend, .. } = neighbor;
    (*backend == Backend::HostGw).then(|| Route { link: None, ..Route::via(*subnet, *via, 0) })
}

/// Ours, and no pod range's, of this switch or another: those go by a host port, whatever its addresses say.
fn is_to_a_neighbor(route: &Route) -> bool {
    route.protocol == Route::PROTOCOL && route.kind == RouteKind::Unicast && route.via.is_some() && !route.onlink
}
