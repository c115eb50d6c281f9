//! DEL: the interface goes, and its addresses are free again. What is gone already is no error.
//!
//! Without a switch the interface is removed here; a switch that starts later forgets the endpoint and with it the addresses.
//! A hung switch is code 11: runtimes ask again, and GC does.

use std::path::Path;

use control::{Code, Detach, InterfaceName, Origin};
use host::{Namespace, Netlink};

use super::Call;
use crate::error::Error;

impl Call {
    pub(super) fn del(&self) -> Result<(), Error> {
        let detached = self.detach();
        // The delegate is told whatever became of the interface: its addresses are free only when both are done.
        let told = self.delegate().and_then(|delegate| delegate.map_or(Ok(()), |delegate| delegate.tell("DEL")));
        detached.and(told)
    }

    fn detach(&self) -> Result<(), Error> {
        match self.ask() {
            Err(control::Error::Absent { .. }) => {}
            asked => return Ok(asked?),
        }
        if let Some(path) = self.environment.netns() {
            remove(path, self.environment.interface())?;
        }
        // A switch listens before it takes anything up. If it still does not, it will find the interface gone; if it does, it
        // may have taken up what was just removed.
        match self.ask() {
            Err(control::Error::Absent { .. }) => Ok(()),
            asked => Ok(asked?),
        }
    }

    fn ask(&self) -> Result<(), control::Error> {
        match self.client().detach(Detach { name: self.name(), origin: Origin::Cni, force: true }) {
            Err(control::Error::Refused(refusal)) if refusal.code == Code::NotFound => Ok(()),
            asked => asked.map(drop),
        }
    }
}

/// Removes an interface that a switch has left.
fn remove(path: &Path, interface: &InterfaceName) -> Result<(), Error> {
    // Without its namespace the interface is gone too.
    let Ok(namespace) = Namespace::open(path) else { return Ok(()) };
    let mut pod = Netlink::open_in(&namespace)?;
    let link = match pod.link(interface.as_str()) {
        Err(error) if error.is_missing() => return Ok(()),
        link => link?,
    };
    if link.kind != TAP_KIND {
        return Ok(());
    }
    // A TAP has a carrier while a process holds it: that is a switch which does not answer yet.
    if link.carrier {
        return Err(Error::Held(format!("{interface} of {}", path.display())));
    }
    match pod.delete_link(link.index) {
        Err(error) if !error.is_missing() => Err(error.into()),
        _ => Ok(()),
    }
}

const TAP_KIND: &str = "tun";
