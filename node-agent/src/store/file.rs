//! A folder: the file `config` and, in `subnets`, a file for each lease, named by its key.
//!
//! For one machine whose nodes share a folder, and for nodes that somebody lists by hand and copies to each of them. A file
//! appears whole: it is written beside and linked or renamed into place. Nothing expires. Changes are found by looking.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::{Listener, Store};
use crate::error::Error;
use crate::view::Update;

/// Leases in a folder.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// The store in `folder`, which is made where it is missing.
    pub fn new(folder: PathBuf) -> Result<Self, Error> {
        let subnets = folder.join(SUBNETS);
        fs::create_dir_all(&subnets).map_err(|source| Error::File { action: "make", path: subnets, source })?;
        Ok(Files { folder })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(SUBNETS).join(key)
    }

    /// Held by who changes a file, so that nobody does between another's look and its change.
    fn lock(&self) -> Result<Flock<File>, Error> {
        let path = self.folder.join("lock");
        let failed = |source| Error::File { action: "lock", path: path.clone(), source };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
    }

    /// Calls for `lock` to be held.
    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let beside = self.folder.join("written");
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
        written.map_err(|source| Error::File { action: "write", path: path.to_owned(), source })
    }
}

impl Store for Files {
    fn network(&mut self) -> Result<Option<String>, Error> {
        read(&self.folder.join(CONFIG))
    }

    fn offer_network(&mut self, text: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = self.folder.join(CONFIG);
        if read(&path)?.is_none() { self.write(&path, text) } else { Ok(()) }
    }

    fn leases(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let folder = self.folder.join(SUBNETS);
        let failed = |source| Error::File { action: "list", path: folder.clone(), source };
        let mut leases = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let key = entry.file_name().to_string_lossy().into_owned();
            if let Some(text) = read(&entry.path())? {
                leases.insert(key, text);
            }
        }
        Ok(leases)
    }

    fn lease(&mut self, key: &str) -> Result<Option<String>, Error> {
        read(&self.path(key))
    }

    fn create(&mut self, key: &str, text: &str) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let path = self.path(key);
        if read(&path)?.is_some() {
            return Ok(false);
        }
        self.write(&path, text).map(|()| true)
    }

    fn replace(&mut self, key: &str, before: &str, text: &str) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let path = self.path(key);
        match read(&path)? {
            Some(found) if found == before && before == text => Ok(true),
            Some(found) if found == before => self.write(&path, text).map(|()| true),
            _ => Ok(false),
        }
    }

    fn watch(&self, listener: Listener) -> Result<(), Error> {
        let mut store = self.clone();
        let look = move || {
            let mut said = None;
            loop {
                let update = store.leases().map_or_else(|error| Update::Trouble(error.report()), Update::All);
                if said.as_ref() != Some(&update) {
                    if !listener(update.clone()) {
                        return;
                    }
                    said = Some(update);
                }
                thread::sleep(LOOK_EVERY);
            }
        };
        let started = thread::Builder::new().name("store".to_owned()).spawn(look);
        started.map(drop).map_err(|source| Error::System { action: "start a thread", source })
    }
}

/// A file without the white space that editors leave at its end.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
    }
}

const CONFIG: &str = "config";
const SUBNETS: &str = "subnets";
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn store() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let store = Files::new(folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_lease_is_created_once_and_replaced_only_by_who_knows_it() {
        let (_folder, mut store) = store();
        assert!(store.create("10.5.1.0-24", "one").unwrap());
        assert!(!store.create("10.5.1.0-24", "two").unwrap());
        assert!(!store.replace("10.5.1.0-24", "two", "three").unwrap());
        assert!(store.replace("10.5.1.0-24", "one", "three").unwrap());
        assert!(!store.replace("10.5.2.0-24", "one", "three").unwrap());
        assert_eq!(store.leases().unwrap(), [("10.5.1.0-24".to_owned(), "three".to_owned())].into());
    }

    #[test]
    fn of_many_who_create_a_lease_one_does() {
        let (_folder, store) = store();
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let mut store = store.clone();
                thread::spawn(move || {
                    (0..50).filter(|key| store.create(&format!("{key}"), &format!("{racer}")).unwrap()).count()
                })
            })
            .collect();
        assert_eq!(racers.into_iter().map(|racer| racer.join().unwrap()).sum::<usize>(), 50);
    }

    #[test]
    fn a_network_is_offered_once() {
        let (_folder, mut store) = store();
        assert_eq!(store.network().unwrap(), None);
        store.offer_network("one").unwrap();
        store.offer_network("two").unwrap();
        assert_eq!(store.network().unwrap().as_deref(), Some("one"));
    }

    #[test]
    fn changes_are_told() {
        let (_folder, mut store) = store();
        let (sender, receiver) = mpsc::channel();
        store.watch(super::super::listener(sender, |update| update)).unwrap();
        let next = || receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(next(), Update::All(BTreeMap::new()));
        store.create("key", "value").unwrap();
        assert_eq!(next(), Update::All([("key".to_owned(), "value".to_owned())].into()));
    }
}
