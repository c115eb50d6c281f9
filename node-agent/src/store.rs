//! Where nodes read of each other: the network's configuration under the key `config`, leases under `subnets/`.
//!
//! A store keeps texts and knows nothing of what they say. All of it rests on two changes that cannot be torn: a key is created
//! only where there is none, and replaced only where it holds what one saw last.

#[cfg(feature = "etcd")]
mod etcd;
mod file;

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use crate::error::Error;
use crate::view::Update;

#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdSettings};
pub use file::Files;

/// A place that nodes share.
pub trait Store: Send {
    /// The network's configuration, if there is one.
    ///
    /// # Errors
    /// Here and below: the store cannot be asked. The same call may succeed later.
    fn network(&mut self) -> Result<Option<String>, Error>;

    /// Puts a network's configuration where there is none.
    fn offer_network(&mut self, text: &str) -> Result<(), Error>;

    /// All leases.
    fn leases(&mut self) -> Result<BTreeMap<String, String>, Error>;

    /// One lease.
    fn lease(&mut self, key: &str) -> Result<Option<String>, Error>;

    /// Creates a lease; false where there is one.
    fn create(&mut self, key: &str, text: &str) -> Result<bool, Error>;

    /// Replaces a lease that reads `before`, and renews it; false where it reads otherwise or is gone.
    fn replace(&mut self, key: &str, before: &str, text: &str) -> Result<bool, Error>;

    /// Says all leases, then every change, from a thread of its own, until nobody listens.
    fn watch(&self, listener: Listener) -> Result<(), Error>;
}

/// Takes updates; false when nobody wants them any more.
pub type Listener = Box<dyn Fn(Update) -> bool + Send>;

/// A listener that sends on.
pub fn listener<T: Send + 'static>(sender: Sender<T>, wrap: impl Fn(Update) -> T + Send + 'static) -> Listener {
    Box::new(move |update| sender.send(wrap(update)).is_ok())
}
