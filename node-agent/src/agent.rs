//! The agent's one thread: it comes to a lease, keeps it, and has the switch know the other nodes.
//!
//! ```text
//!  network --> subnet --> files --> ready                       each waits for the store as long as it takes
//!  then, for ever:   updates of the store, routes of the host --> View --> Desired --> Switch
//!                    the lease: renewed in time; looked after at once when the store shows another text
//! ```
//!
//! Nothing that goes wrong ends it. Without the store it goes on with what it knows; a switch that is away is told all when it
//! is back. A lease that somebody else took is left to them, told, and taken again when it is free; the switch attaches no pod
//! meanwhile, and after some minutes the node takes another subnet. It may be killed at any moment: what counts is in the
//! store and in the switch.

use std::mem;
use std::net::IpAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use host::Route;
use sd_notify::NotifyState;
use tracing::{info, warn};

use crate::claim::{self, Held, Standing};
use crate::config::{Config, Kind};
use crate::desired::{Desired, Here, PassedOver};
use crate::error::Error;
use crate::host_routes;
use crate::lease::Attributes;
use crate::network::Network;
use crate::node::{self, Underlay};
use crate::pages;
use crate::status::Shared;
use crate::store::{Files, Store, listener};
use crate::switch::Switch;
use crate::view::{Update, View};

/// Runs until the process is ended.
///
/// # Errors
/// What is wrong with the configuration, or with this node, from the start.
pub fn run(config: &Config) -> Result<(), Error> {
    let shared = Shared::new();
    pages::serve(config.listen, shared.clone())?;
    let address = config.public_ip.map_or_else(node::own_address, Ok)?;
    let addresses: Vec<IpAddr> = [address.into()].into_iter().chain(config.public_ipv6.map(IpAddr::V6)).collect();
    let underlay = Underlay::of(&addresses)?;
    shared.update(|status| status.address = Some(address.to_string()));
    let mut store = open(config)?;
    let network = insist(&shared, || network(store.as_mut(), config));
    let said = Attributes::of(network.backend, address, config.public_ipv6);
    shared.update(|status| {
        status.network = Some(network.v4.network.to_string());
        status.backend = Some(network.backend.name());
    });
    let remembered = node::remembered(&config.remembered);
    let held = insist(&shared, || claim::acquire(store.as_mut(), &network, &said, remembered.as_ref()));
    let (config, import) = (config.clone(), config.import_routes);
    let renew_every = Duration::from_secs(config.lease_seconds.into()) / 3;
    let here = Here { own: held.subnets, addresses, links: underlay.links.clone() };
    let switch = Switch::new(config.socket.clone());
    let mut agent = Agent {
        config,
        store,
        network,
        said,
        held,
        underlay,
        here,
        view: None,
        routes: (!import).then(Vec::new),
        switch,
        lost: None,
        differs: None,
        shared,
    };
    agent.settle()?;
    let (sender, updates) = mpsc::channel();
    if import {
        host_routes::watch(&agent.network, sender.clone(), |routes| (Instant::now(), News::Routes(routes)))?;
    }
    agent.store.watch(listener(sender, |update| (Instant::now(), News::Store(update))))?;
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!("systemd could not be told that the agent is ready: {error}");
    }
    agent.turn_for_ever(&updates, renew_every);
    Ok(())
}

/// What it is told.
enum News {
    Store(Update),
    /// Routes of the host's, all that count.
    Routes(Vec<Route>),
}

/// What it knows, and whom it speaks to.
struct Agent {
    config: Config,
    store: Box<dyn Store>,
    network: Network,
    said: Attributes,
    held: Held,
    underlay: Underlay,
    here: Here,
    /// None until the store has said all.
    view: Option<View>,
    /// Of the host's table; none until they were listed, where they are asked for.
    routes: Option<Vec<Route>>,
    switch: Switch,
    /// Since when somebody else has the lease, and what that is called.
    lost: Option<(Instant, String)>,
    /// What of the switch does not fit the lease.
    differs: Option<String>,
    shared: Shared,
}

impl Agent {
    fn turn_for_ever(&mut self, updates: &Receiver<(Instant, News)>, renew_every: Duration) {
        let (mut renew_at, mut doubt_at) = (Instant::now() + renew_every, Instant::now() + DOUBT_EVERY);
        loop {
            let since = match updates.recv_timeout(LOOK_EVERY) {
                Ok(first) => self.take(first, updates),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the store's thread lasts while somebody listens"),
            };
            let now = Instant::now();
            if now >= doubt_at {
                self.switch.doubt();
                doubt_at = now + DOUBT_EVERY;
            }
            self.program(since);
            if now >= renew_at || self.is_in_doubt(since.is_some()) {
                let kept = self.keep();
                renew_at = now + if kept { renew_every } else { RETRY_EVERY.min(renew_every) };
            }
            self.take_another();
            self.pause();
        }
    }

    /// Writes down which subnet this node has, for itself, the switch and flannel's programs.
    fn settle(&mut self) -> Result<(), Error> {
        let Agent { config, network, said, held, underlay, .. } = self;
        node::remember(&config.remembered, held)?;
        node::write(&config.subnet_env, &node::subnet_env(network, held, said, underlay))?;
        node::write(&config.switch_config, &node::switch_config(network, held, said))?;
        self.here.own = held.subnets;
        self.shared.update(|status| status.subnets = Some(held.subnets.to_string()));
        info!("this node has {}", held.subnets);
        Ok(())
    }

    /// Takes another subnet where the lease has been somebody else's for long. The switch has to be started with it.
    fn take_another(&mut self) {
        let patience = Duration::from_secs(self.config.lost_seconds_max.into());
        if patience.is_zero() || self.lost.as_ref().is_none_or(|(since, _)| since.elapsed() < patience) {
            return;
        }
        let taken = claim::acquire(self.store.as_mut(), &self.network, &self.said, None).and_then(|held| {
            self.held = held;
            self.settle()
        });
        if let Err(error) = taken {
            self.shared.counts.store_troubles.inc();
            let trouble = warn_once(self.shared.status().store_trouble.as_deref(), &error);
            return self.shared.update(|status| status.store_trouble = Some(trouble));
        }
        self.lost = None;
        self.switch.doubt();
        self.shared.update(|status| (status.lease_trouble, status.store_trouble) = (None, None));
    }

    /// Has the switch attach no pod while the lease is somebody else's, or while it has another subnet than the lease.
    fn pause(&mut self) {
        let why = self.lost.as_ref().map(|(_, why)| why).or(self.differs.as_ref());
        // While it is not known whether the switch fits, things stay as they are.
        if (why.is_some() || !self.switch.is_doubted()) && self.switch.pause(why.map(String::as_str)).is_err() {
            self.shared.counts.switch_troubles.inc();
        }
    }

    /// Takes all news there are; when the first came that changed something.
    fn take(&mut self, first: (Instant, News), more: &Receiver<(Instant, News)>) -> Option<Instant> {
        let mut since = None;
        for (at, news) in [first].into_iter().chain(more.try_iter()) {
            let update = match news {
                News::Store(update) => update,
                News::Routes(routes) => {
                    self.routes = Some(routes);
                    since = since.or(Some(at));
                    continue;
                }
            };
            let trouble = match &update {
                Update::Trouble(trouble) => Some(trouble.clone()),
                _ => None,
            };
            if let Some(trouble) = &trouble {
                if self.shared.status().store_trouble.as_ref() != Some(trouble) {
                    warn!("{trouble}");
                }
                self.shared.counts.store_troubles.inc();
            } else {
                since = since.or(Some(at));
            }
            if matches!(update, Update::All(_)) {
                self.shared.counts.resyncs.inc();
                self.view.get_or_insert_default();
            }
            if let Some(view) = &mut self.view {
                view.apply(update);
            }
            self.shared.update(|status| status.store_trouble = trouble);
        }
        since
    }

    /// Has the switch know what it should.
    fn program(&mut self, since: Option<Instant>) {
        let told = self.tell(since.is_some());
        match &told {
            Ok(_) => self.differs = None,
            Err(error @ Error::Differs { .. }) => self.differs = Some(error.report()),
            Err(_) => {}
        }
        let trouble = told.as_ref().err().map(|error| {
            self.shared.counts.switch_troubles.inc();
            warn_once(self.shared.status().switch_trouble.as_deref(), error)
        });
        if let (Some(since), None) = (since, &trouble) {
            self.shared.counts.programmed.observe(since.elapsed().as_secs_f64());
        }
        let leases = self.view.as_ref().map_or(0, |view| view.entries().len());
        let (neighbors, routes, refused) = (self.switch.known(), self.switch.routes(), self.switch.refused());
        self.shared.update(|status| {
            (status.leases, status.switch_trouble) = (leases, trouble);
            if let Ok(passed_over) = told {
                (status.neighbors, status.routes, status.refused) = (neighbors, routes, refused);
                status.passed_over = passed_over.unwrap_or_else(|| mem::take(&mut status.passed_over));
            }
        });
    }

    /// Tells the switch what it should know, if that or the switch is another; which leases were passed over then.
    fn tell(&mut self, news: bool) -> Result<Option<Vec<PassedOver>>, Error> {
        let Some((view, routes)) = self.view.as_ref().zip(self.routes.as_ref()) else { return Ok(None) };
        if !news && !self.switch.restarted()? && !self.switch.is_doubted() {
            return Ok(None);
        }
        let mut desired = Desired::new(view, &self.network, &self.here);
        desired.import(routes, &self.here);
        self.switch.tell(&desired, &self.network, (self.held.subnets, &self.said))?;
        Ok(Some(desired.passed_over))
    }

    /// The store shows something else than what this node wrote.
    fn is_in_doubt(&self, news: bool) -> bool {
        let differs = |view: &View| view.get(&self.held.subnets.to_string()) != Some(&self.held.text);
        news && self.view.as_ref().is_some_and(differs)
    }

    /// Renews the lease or takes it again; false where it is not held.
    fn keep(&mut self) -> bool {
        let (kept, trouble) = match claim::keep(self.store.as_mut(), &self.held, &self.said) {
            Ok(Standing::Kept) => (true, None),
            Ok(Standing::Regained) => {
                warn!("the lease of {} was gone or changed, and is held again", self.held.subnets);
                self.shared.counts.conflicts.inc();
                (true, None)
            }
            Ok(Standing::Lost(why)) => {
                if self.shared.status().lease_trouble.as_ref() != Some(&why) {
                    warn!("{why}: pods that are here go on, and the node is not ready");
                    self.shared.counts.conflicts.inc();
                }
                (false, Some(why))
            }
            // It is not known to be lost: what was true last holds.
            Err(error) => {
                self.shared.counts.store_troubles.inc();
                let trouble = warn_once(self.shared.status().store_trouble.as_deref(), &error);
                self.shared.update(|status| status.store_trouble = Some(trouble));
                return false;
            }
        };
        let since = self.lost.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        self.lost = trouble.clone().map(|why| (since, why));
        self.shared.update(|status| (status.lease_trouble, status.store_trouble) = (trouble, None));
        kept
    }
}

fn open(config: &Config) -> Result<Box<dyn Store>, Error> {
    match config.store {
        Kind::File => Ok(Box::new(Files::new(config.folder.clone())?)),
        #[cfg(feature = "etcd")]
        Kind::Etcd => Ok(Box::new(crate::store::Etcd::new(crate::store::EtcdSettings {
            endpoints: config.etcd_endpoints.clone(),
            prefix: config.etcd_prefix.trim_end_matches('/').to_owned(),
            ca: config.etcd_ca.clone(),
            identity: config.etcd_certificate.clone().zip(config.etcd_key.clone()),
            user: config.etcd_user.clone().zip(config.etcd_password_file.clone()),
            lease: Duration::from_secs(config.lease_seconds.into()),
        })?)),
        #[cfg(not(feature = "etcd"))]
        Kind::Etcd => Err(Error::Setting { key: "store", fault: "this agent was built without etcd".to_owned() }),
    }
}

fn network(store: &mut dyn Store, config: &Config) -> Result<Network, Error> {
    if let Some(text) = store.network()? {
        return Ok(text.parse()?);
    }
    let offer = config.network_text().ok_or(Error::NoNetwork)?;
    store.offer_network(&offer)?;
    Ok(store.network()?.ok_or(Error::NoNetwork)?.parse()?)
}

/// Tries until it is done, and says once of each new trouble what keeps it.
fn insist<T>(shared: &Shared, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        let error = match attempt() {
            Ok(done) => {
                shared.update(|status| status.store_trouble = None);
                return done;
            }
            Err(error) => error,
        };
        shared.counts.store_troubles.inc();
        let trouble = warn_once(shared.status().store_trouble.as_deref(), &error);
        shared.update(|status| status.store_trouble = Some(trouble));
        thread::sleep(RETRY_EVERY);
    }
}

/// Logs a trouble unless it is the one known already; its report.
fn warn_once(known: Option<&str>, error: &Error) -> String {
    let report = error.report();
    if known != Some(&report) {
        warn!("{report}{}", error.hint().map_or(String::new(), |hint| format!("; {hint}")));
    }
    report
}

/// How long a restart of the switch may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a neighbour that somebody deleted by force may be missing.
const DOUBT_EVERY: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_secs(1);
