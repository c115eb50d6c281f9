//! The state on disk, so that a new process forwards on what the last one was asked for.
//!
//! ```text
//!  STATE_DIR          0700
//!    lock             flock(2) of the one switch that lives here; holds its pid
//!    state.json       0600, replaced by rename: whole and old, or whole and new
//!    control.sock     the server's
//! ```
//!
//! Nothing is synced: the page cache survives the death of the process, and a reboot clears `/run` as it clears the
//! namespaces. A file of a newer format is refused rather than misread.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use control::Route;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::config::{Node, SOCKET};
use crate::state::{Endpoint, State};

/// The state directory of this process, locked while this lives.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: Flock<File>,
}

/// What an earlier process was asked for, under the settings it had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: u32,
    /// Its settings.
    pub node: Node,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its routes.
    pub routes: Vec<Route>,
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
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
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
        lock.set_len(0).and_then(|()| writeln!(&*lock, "{}", process::id())).map_err(failed("write", &path))?;
        Ok(Store { dir: dir.to_owned(), _lock: lock })
    }

    /// What was kept, if anything.
    ///
    /// # Errors
    /// [`Error::Newer`] and [`Error::Damaged`].
    pub fn load(&self) -> Result<Option<Kept>, Error> {
        let path = self.dir.join(STATE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        let damaged = |source| Error::Damaged { path: path.clone(), source };
        let Format { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > FORMAT {
            return Err(Error::Newer { path, found: version });
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Keeps `state` in place of what was kept before.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let kept = Kept {
            version: FORMAT,
            node: state.node().clone(),
            endpoints: state.endpoints().cloned().collect(),
            routes: state.routes().cloned().collect(),
        };
        let (new, path) = (self.dir.join(STATE_NEW), self.dir.join(STATE));
        let write = || {
            let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, &kept)?;
            file.flush()?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| Error::Io { action: "write", path: path.clone(), source })
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
            Error::Damaged { .. } => Some("start afresh: `podswitch purge` removes all that was made".to_owned()),
        }
    }
}

/// The one field every format has.
#[derive(Deserialize)]
struct Format {
    version: u32,
}

fn holder(lock: &Path) -> String {
    let pid = fs::read_to_string(lock).unwrap_or_default();
    if pid.trim().is_empty() { "just starting".to_owned() } else { pid.trim().to_owned() }
}

/// Every file of a state directory; all but the first two are gone when no switch runs.
pub const FILES: [&str; 4] = [LOCK, STATE, STATE_NEW, SOCKET];
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::state::tests::populated;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        (dir, store)
    }

    #[test]
    fn a_state_survives_its_process() {
        let (dir, store) = store();
        assert_eq!(store.load().unwrap(), None);
        let state = populated();
        store.save(&state).unwrap();
        drop(store);
        let Kept { node, endpoints, routes, .. } =
            Store::open(&dir.path().join("state")).unwrap().load().unwrap().unwrap();
        assert_eq!(State::restore(node, endpoints, routes).unwrap(), state);
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let (_dir, store) = store();
        store.save(&populated()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&store.dir), 0o700);
        assert_eq!([STATE, LOCK].map(|file| mode(&store.dir.join(file))), [0o600; 2]);
        assert!(!store.dir.join(STATE_NEW).exists());
    }

    #[test]
    fn a_second_switch_is_refused_by_the_firsts_pid() {
        let (_dir, store) = store();
        let error = Store::open(&store.dir).unwrap_err();
        assert!(error.to_string().contains(&process::id().to_string()), "{error}");
    }

    #[test]
    fn a_directory_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(Error::Exposed { .. })));
    }

    #[test]
    fn newer_and_damaged_files_are_told_apart() {
        let (_dir, store) = store();
        let path = store.dir.join(STATE);
        fs::write(&path, r#"{"version":2,"clusters":[]}"#).unwrap();
        assert!(matches!(store.load(), Err(Error::Newer { found: 2, .. })));
        for text in ["", "{", r#"{"version":1}"#, "[]"] {
            fs::write(&path, text).unwrap();
            let error = store.load().unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{text}: {error}");
            assert!(error.hint().unwrap().contains("podswitch purge"));
        }
    }
}
