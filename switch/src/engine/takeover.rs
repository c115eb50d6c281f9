//! Taking up what an earlier switch left: the host port, the endpoints' interfaces, the routes, the neighbours.
//!
//! Only what is certain ends an endpoint here: its namespace or its interface is gone, or its path names another
//! namespace by now. It is forgotten then, and said so. Any other failure ends the start, since forgetting would leave
//! an interface that nobody knows. Of a damaged state what is sound is taken up; where that does not fit together any
//! more, the later things go.

use control::{Refusal, Route, RouteTarget};
use host::Namespace;
use packet::Mac;

use crate::config::Config;
use crate::crew::Crew;
use crate::limits::Limits;
use crate::port::{Link, Port, PortCounters};
use crate::state::{Endpoint, State};
use crate::store::{Damage, Kept, Store};
use crate::wire;

use super::Engine;
use super::endpoints::netns_id;
use super::error::{Error, report};

/// Makes the host port, or takes up the one that is there, and lets it outlive this process. `kept` is what an earlier
/// switch was asked for; what it had set up for settings that have changed since is removed.
pub(super) fn open_host_port(
    (config, crew): (&Config, &Crew),
    store: &mut Store,
    kept: Option<&Kept>,
) -> Result<Port, Error> {
    let node = &config.node;
    let name = &node.host_port;
    let named = |source| Error::HostPort { name: name.to_string(), source };
    let before = kept.and_then(|kept| kept.node.as_ref());
    if let Some(before) = before {
        wire::retire(before, node).map_err(named)?;
    }
    let adopt = kept.is_some() && before.is_none_or(|before| before.host_port == *name);
    let tap = wire::host_port((name, crew.queues()), node, adopt).map_err(named)?;
    // Kept after the device was made and before it is made to last: a crash leaves none that is not known for ours, and a
    // stranger's that is in the way stays a stranger's.
    match kept {
        None => store.begin(&State::new(node.clone()))?,
        Some(kept) if before != Some(node) => store.carry_over(node, kept)?,
        Some(_) => {}
    }
    tap.set_persistent(true).map_err(named)?;
    Ok(Port {
        number: 0,
        name: name.to_string(),
        host: true,
        mac: tap.mac().map_err(named)?,
        gateway: Mac::GATEWAY,
        mtu: node.mtu.get(),
        sources_v4: Vec::new(),
        sources_v6: Vec::new(),
        strict_mac: false,
        abilities: tap.abilities(),
        steering: crew.steer(&tap, None),
        limits: Limits::default(),
        link: Link::Tap(tap),
        counters: PortCounters::new(crew.writers()),
    })
}

/// Says what was damaged, and puts a copy where it is not written over.
pub(super) fn report_damage(store: &Store, damages: &[Damage]) {
    if damages.is_empty() {
        return;
    }
    for Damage { line, cut_off } in damages {
        let what = if *cut_off {
            "is cut off: who asked for it was never answered"
        } else {
            "is damaged: what it said is lost"
        };
        tracing::warn!("line {line} of the kept state {what}");
    }
    match store.set_damaged_aside() {
        Ok(copy) => tracing::warn!("a copy of the damaged state is {}", copy.display()),
        Err(error) => tracing::warn!("the damaged state was not copied: {}", report(&error)),
    }
}

impl Engine {
    /// Takes up endpoints and routes. All ports come into force together, then the routes.
    pub(super) fn take_over(&mut self, kept: Kept) -> Result<(), Error> {
        // A last record that is cut off was never acknowledged, and nothing builds on it.
        let damaged = kept.damages.iter().any(|damage| !damage.cut_off);
        let mut ports = Vec::with_capacity(kept.endpoints.len());
        for mut endpoint in kept.endpoints {
            match self.reopen(&mut endpoint) {
                Ok(port) => match self.state.admit_endpoint(endpoint) {
                    Ok(()) => ports.push(port),
                    Err(refusal) => {
                        drop_or_fail(damaged, refusal)?;
                        discard(&port);
                    }
                },
                Err(why) if why.is_gone() => tracing::warn!(endpoint = %endpoint.name, "forgotten: {}", report(&why)),
                Err(why) => return Err(why),
            }
        }
        self.tables.add_ports(ports).map_err(Error::State)?;
        for route in kept.routes {
            self.take_over_route(route, damaged)?;
        }
        self.take_over_neighbors(kept.neighbors)?;
        kept.pauses.into_iter().for_each(|pause| self.state.admit_pause(pause));
        if let Err(error) = self.store.begin(&self.state) {
            // Pods need their network more than a tidy journal; the next change tries again.
            tracing::warn!("{}", report(&error));
        }
        let (endpoints, routes) = (self.state.endpoints().len(), self.state.routes().len());
        let neighbors = self.state.neighbors().len();
        tracing::info!(endpoints, routes, neighbors, milliseconds = self.started.elapsed().as_millis(), "taken up");
        Ok(())
    }

    fn take_over_route(&mut self, route: Route, damaged: bool) -> Result<(), Error> {
        if let RouteTarget::Endpoint(name) = &route.target
            && self.state.endpoint(name).is_none()
        {
            tracing::warn!(prefix = %route.prefix, "forgotten: the route led to endpoint {name}");
            return Ok(());
        }
        if let Err(refusal) = self.state.admit_route(route.clone()) {
            return drop_or_fail(damaged, refusal);
        }
        let hop = self.next_hop(&route);
        self.tables.load(route.prefix, hop).map_err(Error::State)
    }

    fn reopen(&self, endpoint: &mut Endpoint) -> Result<Port, Error> {
        let name = endpoint.name.to_string();
        let failed = |source| Error::Endpoint { name: name.clone(), source };
        let namespace = Namespace::open(endpoint.netns.as_path()).map_err(failed)?;
        let id = netns_id(&namespace);
        if !id.is(endpoint.netns_id) {
            return Err(Error::OtherNamespace { path: endpoint.netns.to_string() });
        }
        // An older switch may not have known all of it.
        endpoint.netns_id = id;
        let tap = wire::readopt_pod(endpoint, &namespace, self.crew.queues()).map_err(failed)?;
        wire::limit_queue(endpoint, &namespace, self.tables.neighbors.has_tunnels()).map_err(failed)?;
        self.pod_port(endpoint, tap, None).map_err(failed)
    }
}

fn drop_or_fail(damaged: bool, refusal: Refusal) -> Result<(), Error> {
    if !damaged {
        return Err(Error::State(refusal));
    }
    tracing::warn!("forgotten, since it does not fit what else is sound: {refusal}");
    Ok(())
}

/// Has the interface of a port go with its last descriptor.
fn discard(port: &Port) {
    if let Link::Tap(tap) = &port.link {
        // It is there: it was opened a moment ago.
        let _ = tap.set_persistent(false);
    }
}
