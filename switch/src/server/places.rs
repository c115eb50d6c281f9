//! Who may be connected at a time, so that clients which say nothing do not keep out those which do.
//!
//! A connection has a place until it ends. When every place is taken, the client that has been silent longest gives up
//! its own, but not before [`GRACE`] is over: a client that says at once what it wants is never sent away, however many
//! silent ones come with it. Who has said everything and waits for the engine keeps its place.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// The places, and who may have to leave.
pub(super) struct Places {
    all: All,
    /// Those that were silent when last looked at, the oldest first.
    silent: VecDeque<Silent>,
}

/// Every place, to wait until they are free.
#[derive(Clone)]
pub(super) struct All {
    free: Arc<Semaphore>,
    count: u32,
}

/// Whether a client has said all it wants.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<OnceLock<()>>);

struct Silent {
    since: Instant,
    said: Said,
    task: AbortHandle,
}

impl Places {
    /// So many, all free.
    pub(super) fn new(count: usize) -> Self {
        let count = u32::try_from(count).expect("a small number");
        Places { all: All { free: Arc::new(Semaphore::new(count as usize)), count }, silent: VecDeque::new() }
    }

    /// Every place.
    pub(super) fn all(&self) -> All {
        self.all.clone()
    }

    /// Waits for a place and starts the conversation there.
    pub(super) async fn admit<F>(&mut self, converse: impl FnOnce(Said) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let place = self.place().await;
        let said = Said::default();
        let conversation = converse(said.clone());
        let task = tokio::spawn(async move {
            conversation.await;
            drop(place);
        });
        self.silent.push_back(Silent { since: Instant::now(), said, task: task.abort_handle() });
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        self.silent.retain(Silent::is_silent);
        while let Some(oldest) = self.silent.pop_front() {
            match timeout_at(oldest.since + GRACE, self.all.one()).await {
                Ok(place) => {
                    self.silent.push_front(oldest);
                    return place;
                }
                Err(_) if oldest.is_silent() => {
                    oldest.task.abort();
                    break;
                }
                Err(_) => {}
            }
        }
        self.all.one().await
    }
}

impl All {
    /// Waits until nobody has a place.
    pub(super) async fn free(&self) {
        let _ = self.free.acquire_many(self.count).await;
    }

    async fn one(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Said {
    /// Notes that it has.
    pub(super) fn all(&self) {
        // A second time changes nothing.
        let _ = self.0.set(());
    }
}

impl Silent {
    fn is_silent(&self) -> bool {
        self.said.0.get().is_none() && !self.task.is_finished()
    }
}

/// How long a client may always be silent: many times what one needs that means to speak.
const GRACE: Duration = Duration::from_millis(100);
