//! Who had which address before, so that it is given again late, and to the same pod if that comes back.
//!
//! It is a help, not part of what was asked for: without it addresses are still right, only chosen with less care. It lies
//! in a journal of its own beside the state, written when an address is left and read at a start.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use control::Name;
use serde::{Deserialize, Serialize};

use crate::state::Endpoint;
use crate::store::journal::{self, Journal};

/// The addresses that were left last.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    left: VecDeque<Left>,
    addresses: HashSet<IpAddr>,
    journal: Option<Journal>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Left {
    address: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Name>,
}

impl Memory {
    /// What is remembered in `dir`; unreadable records are left out.
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub(crate) fn open(dir: &Path) -> io::Result<Memory> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let mut memory = Memory::default();
        let (records, _) = journal::read::<Left>(&text);
        records.into_iter().for_each(|left| memory.take(left));
        memory.journal = Some(Journal::replace(&path, memory.left.iter())?);
        Ok(memory)
    }

    /// Remembers the addresses of an endpoint that is gone.
    pub(crate) fn remember(&mut self, endpoint: &Endpoint) {
        let left = |address: IpAddr| Left { address, owner: endpoint.keep_for.clone() };
        let left: Vec<Left> = endpoint.addresses.iter().map(|address| left(address.get())).collect();
        left.iter().cloned().for_each(|one| self.take(one));
        let Some(journal) = &mut self.journal else { return };
        let full = journal.records() > 2 * LEFT_MAX;
        let path = journal.path().to_owned();
        let kept = if full {
            Journal::replace(&path, self.left.iter()).map(|anew| *journal = anew)
        } else {
            journal.append(&left)
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "{} was not written: who had which address may be forgotten", path.display());
        }
    }

    /// True when the address was left lately.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// What `owner` had, the last first.
    pub(super) fn addresses_of(&self, owner: &Name) -> impl Iterator<Item = IpAddr> {
        self.left.iter().rev().filter(move |left| left.owner.as_ref() == Some(owner)).map(|left| left.address)
    }

    /// All of them.
    pub(super) fn longest_left_first(&self) -> impl Iterator<Item = IpAddr> {
        self.left.iter().map(|left| left.address)
    }

    fn take(&mut self, left: Left) {
        if !self.addresses.insert(left.address) {
            self.left.retain(|earlier| earlier.address != left.address);
        }
        self.left.push_back(left);
        if self.left.len() > LEFT_MAX
            && let Some(oldest) = self.left.pop_front()
        {
            self.addresses.remove(&oldest.address);
        }
    }
}

/// The journal's name in the state directory.
pub(crate) const FILE: &str = "addresses.journal";
/// Addresses remembered: as many as there can be pods.
const LEFT_MAX: usize = 4096;
