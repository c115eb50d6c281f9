//! The state on disk, so that a new process forwards on what the last one was asked for.
//!
//! ```text
//!  STATE_DIR          0700
//!    lock             flock(2) of the one switch that lives here; holds its pid
//!    state.journal    0600, one record for each change; written anew, by rename, at each start and when it has grown
//!    addresses.journal  who had which address before, see `ipam`
//!    state.damaged    what a start found in place of a sound journal, for whoever wants to know
//!    control.sock     the server's
//! ```
//!
//! Intent is kept before the effect, so a start finds what was half made. A damaged record is told and left out; every
//! other one counts, see `journal`. A state of another boot of the machine is void: its namespaces are gone.
//!
//! Formats: 1, one JSON document in `state.json`; 2, the journal; 3, the journal with neighbours and the underlay; 4, endpoints
//! that tell their network; 5, endpoints with limits; 6, pauses. Older ones are read and become the newest; newer ones are
//! refused rather than misread.

pub(crate) mod journal;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use control::{Name, Neighbor, Origin, Pause, Route};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use packet::Prefix;
use serde::{Deserialize, Serialize};

use crate::config::{Node, SOCKET};
use crate::state::{Effect, Endpoint, State};

pub use journal::Damage;
use journal::Journal;

/// The state directory of this process, locked while this lives.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    journal: Option<Journal>,
    /// Records at which the journal is written anew.
    full_at: usize,
    _lock: Flock<File>,
}

/// What an earlier process was asked for, under the settings it had.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Its settings; none where their record was damaged.
    pub node: Option<Node>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Its neighbours.
    pub neighbors: Vec<Neighbor>,
    /// Why it attached no pod.
    pub pauses: Vec<Pause>,
    /// What was no sound record.
    pub damages: Vec<Damage>,
}

/// One line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record<'a> {
    Head(Head<'a>),
    Endpoint(Cow<'a, Endpoint>),
    EndpointGone(Cow<'a, Name>),
    Route(Cow<'a, Route>),
    RouteGone(Prefix),
    Neighbor(Cow<'a, Neighbor>),
    NeighborGone(Prefix),
    Pause(Cow<'a, Pause>),
    Resumed(Origin),
}

/// The first record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head<'a> {
    format: u32,
    /// Which run of the machine it was written in, as in `/proc/sys/kernel/random/boot_id`.
    boot: String,
    node: Cow<'a, Node>,
}

/// The part of the first record that every format has.
#[derive(Deserialize)]
struct AnyHead {
    head: Format,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// All of format 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "version")]
    _format: u32,
    node: Node,
    endpoints: Vec<Endpoint>,
    routes: Vec<Route>,
}

/// Why the state cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("others than this user may write to the state directory {}", dir.display())]
    Exposed { dir: PathBuf },
    #[error("another switch, process {pid}, keeps its state in {}", dir.display())]
    Locked { dir: PathBuf, pid: String },
    #[error("{} has format {found}, and this switch reads up to {FORMAT}", path.display())]
    Newer { path: PathBuf, found: u32 },
}

impl Store {
    /// Makes `dir` where it is missing and locks it for this process.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process holds it, [`Error::Exposed`] when others may write there.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))?;
        let owner = fs::metadata(dir).map_err(failed("look at", dir))?;
        if owner.uid() != geteuid().as_raw() || owner.mode() & 0o022 != 0 {
            return Err(Error::Exposed { dir: dir.to_owned() });
        }
        let path = dir.join(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(failed("open", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => Error::Locked { dir: dir.to_owned(), pid: holder(&path) },
            _ => failed("lock", &path)(errno.into()),
        })?;
        // For whoever is refused; without it the lock is one all the same.
        let _ = lock.set_len(0).and_then(|()| writeln!(&*lock, "{}", process::id()));
        Ok(Store { dir: dir.to_owned(), journal: None, full_at: 0, _lock: lock })
    }

    /// What was kept in this run of the machine, if anything.
    ///
    /// # Errors
    /// [`Error::Newer`], and [`Error::Io`] for a file that cannot be read. Damage is no error.
    pub fn load(&self) -> Result<Option<Kept>, Error> {
        let path = self.dir.join(JOURNAL);
        let Some(text) = read_if_present(&path)? else { return self.load_document() };
        let format = journal::first(&text).map_or(FORMAT, |AnyHead { head }| head.format);
        if format > FORMAT {
            return Err(Error::Newer { path, found: format });
        }
        let (records, damages) = journal::read(&text);
        Ok(fold(records).map(|kept| Kept { damages, ..kept }))
    }

    /// What a switch that knew format 1 has kept.
    fn load_document(&self) -> Result<Option<Kept>, Error> {
        let path = self.dir.join(DOCUMENT);
        let Some(text) = read_if_present(&path)? else { return Ok(None) };
        // That format was replaced as a whole: it is sound or it is nothing.
        let damages = vec![Damage { line: 1, cut_off: false }];
        Ok(Some(match serde_json::from_slice(&text) {
            Ok(Document { node, endpoints, routes, .. }) => {
                Kept { node: Some(node), endpoints, routes, ..Kept::default() }
            }
            Err(_) => Kept { damages, ..Kept::default() },
        }))
    }

    /// Puts what a start found damaged where it is not written over.
    pub fn set_damaged_aside(&self) -> Result<PathBuf, Error> {
        let to = self.dir.join(DAMAGED);
        let from = [JOURNAL, DOCUMENT].map(|name| self.dir.join(name)).into_iter().find(|path| path.exists());
        let copied = from.map_or(Ok(0), |from| fs::copy(from, &to));
        copied.map_err(|source| Error::Io { action: "write", path: to.clone(), source }).map(|_| to)
    }

    /// Keeps `state` in place of all that was kept before.
    pub fn begin(&mut self, state: &State) -> Result<(), Error> {
        let (endpoints, routes) = (state.endpoints().map(Record::endpoint), state.routes().map(Record::route));
        let pauses = state.pauses().map(|pause| Record::Pause(Cow::Owned(pause)));
        let neighbors = state.neighbors().map(Record::neighbor);
        self.write(state.node(), endpoints.chain(routes).chain(neighbors).chain(pauses))
    }

    /// Keeps what was kept before, under new settings.
    pub fn carry_over(&mut self, node: &Node, kept: &Kept) -> Result<(), Error> {
        let (endpoints, routes) = (kept.endpoints.iter().map(Record::endpoint), kept.routes.iter().map(Record::route));
        let pauses = kept.pauses.iter().map(|pause| Record::Pause(Cow::Borrowed(pause)));
        let neighbors = kept.neighbors.iter().map(Record::neighbor);
        self.write(node, endpoints.chain(routes).chain(neighbors).chain(pauses))
    }

    fn write<'a>(&mut self, node: &'a Node, records: impl Iterator<Item = Record<'a>>) -> Result<(), Error> {
        let path = self.dir.join(JOURNAL);
        let failed = |source| Error::Io { action: "write", path: path.clone(), source };
        let head = Head { format: FORMAT, boot: boot(), node: Cow::Borrowed(node) };
        let records = [Record::Head(head)].into_iter().chain(records);
        let journal = Journal::replace(&path, records).map_err(failed)?;
        self.full_at = 2 * journal.records() + RECORDS_SPARE;
        self.journal = Some(journal);
        let _ = fs::remove_file(self.dir.join(DOCUMENT));
        Ok(())
    }

    /// Says that the journal lacks a change: the next one writes all of it anew.
    pub fn distrust(&mut self) {
        self.journal = None;
    }

    /// Keeps the one change that made `state` what it is now; when this fails, nothing of it is kept.
    ///
    /// # Errors
    /// [`Error::Io`], most likely of a full disk.
    pub fn keep(&mut self, effect: &Effect, state: &State) -> Result<(), Error> {
        let Some(journal) = self.journal.as_mut() else { return self.begin(state) };
        let path = journal.path().to_owned();
        journal.append(&records(effect)).map_err(|source| Error::Io { action: "write", path, source })?;
        if journal.records() >= self.full_at
            && let Err(error) = self.begin(state)
        {
            tracing::warn!("{error}: it goes on growing");
            self.full_at *= 2;
        }
        Ok(())
    }
}

impl Record<'_> {
    fn endpoint(endpoint: &Endpoint) -> Record<'_> {
        Record::Endpoint(Cow::Borrowed(endpoint))
    }

    fn route(route: &Route) -> Record<'_> {
        Record::Route(Cow::Borrowed(route))
    }

    fn neighbor(neighbor: &Neighbor) -> Record<'_> {
        Record::Neighbor(Cow::Borrowed(neighbor))
    }
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run this as root".to_owned())
            }
            Error::Io { .. } => None,
            Error::Exposed { dir } => {
                Some(format!("`chown root {0} && chmod 700 {0}`, or another --state-dir", dir.display()))
            }
            Error::Locked { .. } => {
                Some("end it with `podswitch stop`, or give this one its own --state-dir".to_owned())
            }
            Error::Newer { .. } => Some("use the newer switch, or start afresh with its `podswitch purge`".to_owned()),
        }
    }
}

/// What the records come to, unless they are of another run of the machine.
fn fold(records: Vec<Record<'_>>) -> Option<Kept> {
    let (mut node, mut endpoints) = (None, BTreeMap::<Name, Endpoint>::new());
    let (mut routes, mut neighbors, mut pauses) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for record in records {
        match record {
            Record::Head(head) if head.boot != boot() => return None,
            Record::Head(head) => node = Some(head.node.into_owned()),
            Record::Endpoint(endpoint) => {
                // Where the record of its end was damaged, an earlier one would have the same interface.
                endpoints.retain(|_, earlier| !is_same_interface(earlier, &endpoint));
                endpoints.insert(endpoint.name.clone(), endpoint.into_owned());
            }
            Record::EndpointGone(name) => drop(endpoints.remove(name.as_ref())),
            Record::Route(route) => drop(routes.insert(route.prefix, route.into_owned())),
            Record::RouteGone(prefix) => drop(routes.remove(&prefix)),
            Record::Neighbor(neighbor) => drop(neighbors.insert(neighbor.subnet, neighbor.into_owned())),
            Record::NeighborGone(subnet) => drop(neighbors.remove(&subnet)),
            Record::Pause(pause) => drop(pauses.insert(pause.origin, pause.into_owned())),
            Record::Resumed(origin) => drop(pauses.remove(&origin)),
        }
    }
    let (endpoints, routes) = (endpoints.into_values().collect(), routes.into_values().collect());
    let (neighbors, pauses) = (neighbors.into_values().collect(), pauses.into_values().collect());
    Some(Kept { node, endpoints, routes, neighbors, pauses, damages: Vec::new() })
}

fn is_same_interface(one: &Endpoint, other: &Endpoint) -> bool {
    one.interface == other.interface && one.netns_id.is(other.netns_id)
}

fn records(effect: &Effect) -> Vec<Record<'_>> {
    match effect {
        Effect::Attached(endpoint) => vec![Record::endpoint(endpoint)],
        Effect::Detached(endpoint, routes) => {
            let gone = routes.iter().map(|route| Record::RouteGone(route.prefix));
            gone.chain([Record::EndpointGone(Cow::Borrowed(&endpoint.name))]).collect()
        }
        Effect::RouteAdded { route, .. } => vec![Record::route(route)],
        Effect::RouteDeleted(route) => vec![Record::RouteGone(route.prefix)],
        Effect::NeighborsChanged { before, after } => {
            let gone = before.iter().map(|neighbor| Record::NeighborGone(neighbor.subnet));
            gone.chain(after.iter().map(Record::neighbor)).collect()
        }
        Effect::PauseChanged { origin, after: Some(why), .. } => {
            vec![Record::Pause(Cow::Owned(Pause { why: why.clone(), origin: *origin }))]
        }
        Effect::PauseChanged { origin, after: None, .. } => vec![Record::Resumed(*origin)],
    }
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// Names this run of the machine; empty where the kernel does not tell.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn holder(lock: &Path) -> String {
    let pid = fs::read_to_string(lock).unwrap_or_default();
    if pid.trim().is_empty() { "just starting".to_owned() } else { pid.trim().to_owned() }
}

/// Every file of a state directory; the socket is gone when no switch runs.
pub const FILES: [&str; 8] = [LOCK, JOURNAL, JOURNAL_NEW, DAMAGED, DOCUMENT, SOCKET, ADDRESSES, ADDRESSES_NEW];
const ADDRESSES: &str = crate::ipam::ADDRESSES;
const ADDRESSES_NEW: &str = "addresses.new";
const LOCK: &str = "lock";
const JOURNAL: &str = "state.journal";
const JOURNAL_NEW: &str = "state.new";
const DAMAGED: &str = "state.damaged";
const DOCUMENT: &str = "state.json";
const FORMAT: u32 = 6;
/// Overtaken records a journal may hold beside as many as there are sound ones.
const RECORDS_SPARE: usize = 4096;

#[cfg(test)]
mod tests;
