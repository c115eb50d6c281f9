//! etcd, version 3, with flannel's keys: the cluster may have nodes of flannel's too.
//!
//! ```text
//!  leases --at revision n--> Update::All      watch --from n + 1--> Update::Some, Update::Some, ...
//!    ^                                                                   |
//!    +------ compacted, leader lost, connection broken, etcd away -------+
//! ```
//!
//! A lease's key hangs on a lease of etcd's, which a renewal replaces by a new one in one transaction with the look at the
//! key. A key that hangs on none is a reservation, made by hand, and stays one. Calls are bounded in time; a connection that
//! failed is given up, and the next call makes another.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, Identity, KeyValue, PutOptions,
    TlsOptions, Txn, TxnOp, WatchOptions,
};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use super::{Listener, Store};
use crate::error::Error;
use crate::view::Update;

/// Where etcd is and who asks.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// URLs of its members.
    pub endpoints: Vec<String>,
    /// What all keys begin with, without a slash at its end.
    pub prefix: String,
    /// Who signed the members' certificates.
    pub ca: Option<PathBuf>,
    /// The agent's own certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User, and the file of the password.
    pub user: Option<(String, PathBuf)>,
    /// How long a lease lasts without renewal.
    pub lease: Duration,
}

/// Leases in etcd.
pub struct Etcd {
    settings: EtcdSettings,
    runtime: Runtime,
    client: Option<Client>,
}

impl Etcd {
    /// A store at these endpoints; nothing is asked yet.
    pub fn new(settings: EtcdSettings) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| Error::System { action: "start the runtime of etcd's client", source })?;
        Ok(Etcd { settings, runtime, client: None })
    }

    /// Does one thing, bounded in time.
    fn call<T>(
        &mut self,
        action: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Error> {
        let Etcd { settings, runtime, client } = self;
        let called = async {
            if client.is_none() {
                *client = Some(settings.connect().await?);
            }
            let client = client.as_mut().expect("it has just been made");
            work(client).await.map_err(|source| settings.failed(action, source))
        };
        // A timer is made inside of the runtime that keeps it.
        let called = runtime.block_on(async { timeout(CALL_TIMEOUT, called).await });
        let done = called.unwrap_or_else(|_| Err(settings.late(action)));
        if done.is_err() {
            self.client = None;
        }
        done
    }

    /// Puts a value if `condition` holds, on a lease of its own where it shall have one.
    fn put(&mut self, key: &str, text: &str, condition: Compare, leased: bool) -> Result<bool, Error> {
        let (key, seconds) = (self.settings.key(key), self.settings.lease.as_secs() as i64);
        self.call("write a lease", async |client| {
            let lease = if leased { client.lease_grant(seconds, None).await?.id() } else { 0 };
            let options = Some(PutOptions::new().with_lease(lease));
            let put = Txn::new().when([condition]).and_then([TxnOp::put(key, text, options)]);
            let done = client.txn(put).await?.succeeded();
            if !done && leased {
                client.lease_revoke(lease).await?;
            }
            Ok(done)
        })
    }

    fn get(&mut self, key: String) -> Result<Option<KeyValue>, Error> {
        self.call("read", async |client| Ok(client.get(key, None).await?.take_kvs().pop()))
    }
}

impl Store for Etcd {
    fn network(&mut self) -> Result<Option<String>, Error> {
        let found = self.get(format!("{}/config", self.settings.prefix))?;
        Ok(found.map(|found| text(found.value())))
    }

    fn offer_network(&mut self, text: &str) -> Result<(), Error> {
        let key = format!("{}/config", self.settings.prefix);
        self.call("write the network's configuration", async |client| {
            let absent = Compare::version(key.as_str(), CompareOp::Equal, 0);
            client.txn(Txn::new().when([absent]).and_then([TxnOp::put(key, text, None)])).await.map(drop)
        })
    }

    fn leases(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let settings = self.settings.clone();
        self.call("list the leases", async |client| settings.list(client).await.map(|(leases, _)| leases))
    }

    fn lease(&mut self, key: &str) -> Result<Option<String>, Error> {
        Ok(self.get(self.settings.key(key))?.map(|found| text(found.value())))
    }

    fn create(&mut self, key: &str, text: &str) -> Result<bool, Error> {
        let absent = Compare::version(self.settings.key(key), CompareOp::Equal, 0);
        self.put(key, text, absent, true)
    }

    fn replace(&mut self, key: &str, before: &str, text: &str) -> Result<bool, Error> {
        let Some(found) = self.get(self.settings.key(key))? else { return Ok(false) };
        if found.value() != before.as_bytes() {
            return Ok(false);
        }
        let unchanged = Compare::mod_revision(found.key(), CompareOp::Equal, found.mod_revision());
        self.put(key, text, unchanged, found.lease() != 0)
    }

    fn watch(&self, listener: Listener) -> Result<(), Error> {
        let mut watcher = Etcd::new(self.settings.clone())?;
        let watch = move || {
            let mut pause = PAUSE_MIN;
            loop {
                let followed = watcher.follow(&listener);
                watcher.client = None;
                pause = if followed.is_ok() { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                if !followed.unwrap_or_else(|error| listener(Update::Trouble(error.report()))) {
                    return;
                }
                thread::sleep(pause);
            }
        };
        let started = thread::Builder::new().name("store".to_owned()).spawn(watch);
        started.map(drop).map_err(|source| Error::System { action: "start a thread", source })
    }
}

impl Etcd {
    /// Says all leases and then changes, until etcd has to be asked anew; false when nobody listens any more.
    fn follow(&mut self, listener: &Listener) -> Result<bool, Error> {
        let settings = self.settings.clone();
        let (leases, revision) = self.call("list the leases", async |client| settings.list(client).await)?;
        if !listener(Update::All(leases)) {
            return Ok(false);
        }
        let prefix = settings.subnets();
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut stream =
            self.call("watch the leases", async |client| client.watch(prefix.as_str(), Some(options)).await)?;
        let failed = |source| settings.failed("watch the leases", source);
        loop {
            let message = self.runtime.block_on(stream.message()).map_err(failed)?;
            let Some(message) = message.filter(|message| !message.canceled()) else {
                return Ok(true);
            };
            let change = |event: &etcd_client::Event| {
                let pair = event.kv()?;
                let there = event.event_type() == EventType::Put;
                Some((settings.name(pair.key())?, there.then(|| text(pair.value()))))
            };
            let changes: Vec<_> = message.events().iter().filter_map(change).collect();
            if !changes.is_empty() && !listener(Update::Some(changes)) {
                return Ok(false);
            }
        }
    }
}

impl EtcdSettings {
    async fn connect(&self) -> Result<Client, Error> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| Error::File { action: "read", path: path.clone(), source })
        };
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_EVERY, CONNECT_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if self.ca.is_some() || self.identity.is_some() {
            let mut tls = TlsOptions::new();
            if let Some(ca) = &self.ca {
                tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
            }
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        if let Some((user, file)) = &self.user {
            options = options.with_user(user, text(&read(file)?).trim_end());
        }
        Client::connect(&self.endpoints, Some(options)).await.map_err(|source| self.failed("connect", source))
    }

    /// All leases, and the revision at which they were so.
    async fn list(&self, client: &mut Client) -> Result<(BTreeMap<String, String>, i64), etcd_client::Error> {
        let mut client = client.kv_client().max_decoding_message_size(ANSWER_LEN_MAX);
        let found = client.get(self.subnets(), Some(GetOptions::new().with_prefix())).await?;
        let revision = found.header().map_or(0, etcd_client::ResponseHeader::revision);
        let named = |pair: &KeyValue| Some((self.name(pair.key())?, text(pair.value())));
        Ok((found.kvs().iter().filter_map(named).collect(), revision))
    }

    fn subnets(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    fn key(&self, name: &str) -> String {
        self.subnets() + name
    }

    fn name(&self, key: &[u8]) -> Option<String> {
        text(key).strip_prefix(&self.subnets()).map(str::to_owned)
    }

    fn failed(&self, action: &'static str, source: etcd_client::Error) -> Error {
        Error::Etcd { endpoints: self.endpoints.join(", "), action, source: source.into() }
    }

    fn late(&self, action: &'static str) -> Error {
        Error::Late { endpoints: self.endpoints.join(", "), action, seconds: CALL_TIMEOUT.as_secs() }
    }
}

/// What is no UTF-8 cannot be read later either, and is shown with replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// etcd takes it amiss if this is below 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Leases of twenty thousand nodes are a tenth of it.
const ANSWER_LEN_MAX: usize = 64 << 20;
