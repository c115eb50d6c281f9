//! What a monitoring system asks for, on the control socket and, where configured, over TCP on loopback:
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | everything counted, as OpenMetrics text |
//! | `/healthz` | 200 while the control thread answers and the worker turns or sleeps; otherwise 503 |
//! | `/readyz` | 200 while, beyond that, endpoints are taken up and the switch is not ending; otherwise 503 |
//!
//! `GET` and `HEAD` only. The control thread copies the numbers; the text of them, and the kernel's own drops, which have
//! to be asked for in every pod's namespace, for `show ports` too, are made on a thread beside the server's, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use control::wire::{HEALTHZ, METRICS, READYZ};
use control::{PortView, Refusal, Reply};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task;

use crate::kernel_drops::{KernelDrops, Place};
use crate::metrics::{CONTENT_TYPE, Metrics};

use super::{Call, Health, Visit};

/// The three pages.
pub(super) fn pages() -> Router<Visit> {
    Router::new().route(METRICS, get(metrics)).route(HEALTHZ, get(health)).route(READYZ, get(readiness))
}

/// The same where nothing else is served.
pub(super) fn alone() -> Router<Visit> {
    let there_are = format!("there are {METRICS}, {HEALTHZ} and {READYZ}\n");
    pages().fallback(async move || (StatusCode::NOT_FOUND, there_are))
}

/// The kernel's drops, as of when they were last asked for. Who has them is the one who may ask, so that no more than one
/// set of numbers waits for its text.
pub(super) type SharedDrops = Arc<Mutex<KernelDrops>>;

async fn metrics(State(Visit { engine, drops, said, .. }): State<Visit>) -> Response {
    said.all();
    let drops = drops.lock_owned().await;
    let metrics = match engine.ask(Call::Metrics, LOOK_TIMEOUT).await {
        Ok(metrics) => *metrics,
        Err(unanswered) => return unwell(unanswered.message()),
    };
    let text = task::spawn_blocking(move || with_kernel_drops(metrics, drops).text());
    // It is not cancelled; a panic has been reported by its own thread.
    let Ok(text) = text.await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

fn with_kernel_drops(mut metrics: Metrics, drops: OwnedMutexGuard<KernelDrops>) -> Metrics {
    let dropped = kernel_drops(metrics.ports.iter().map(|port| port.place.as_ref()), drops);
    for (port, dropped) in metrics.ports.iter_mut().zip(dropped) {
        port.kernel_dropped = dropped;
    }
    metrics
}

/// The answer with all `ports`, with what the kernel says of their `places`.
pub(super) async fn complete(
    mut ports: Vec<PortView>,
    places: Vec<Option<Place>>,
    drops: SharedDrops,
) -> Result<Reply, Refusal> {
    let drops = drops.lock_owned().await;
    let asking = task::spawn_blocking(move || kernel_drops(places.iter().map(Option::as_ref), drops));
    // It is not cancelled; a panic has been reported by its own thread, and leaves the drops unknown.
    for (port, dropped) in ports.iter_mut().zip(asking.await.unwrap_or_default()) {
        port.kernel_dropped = dropped;
    }
    Ok(Reply::Ports(ports))
}

fn kernel_drops<'a>(
    places: impl Iterator<Item = Option<&'a Place>>,
    mut drops: OwnedMutexGuard<KernelDrops>,
) -> Vec<Option<u64>> {
    drops.at(places, Instant::now(), Place::kernel_dropped)
}

async fn health(State(Visit { engine, said, .. }): State<Visit>) -> Response {
    said.all();
    match engine.ask(Call::Health, LOOK_TIMEOUT).await {
        Ok(Health { stalled: None, .. }) => "ok\n".into_response(),
        Ok(Health { stalled: Some(since), .. }) => unwell(&stalled(since)),
        Err(unanswered) => unwell(unanswered.message()),
    }
}

async fn readiness(State(Visit { engine, said, .. }): State<Visit>) -> Response {
    said.all();
    match engine.ask(Call::Health, LOOK_TIMEOUT).await {
        Ok(Health { forwarding: true, .. }) => "ready\n".into_response(),
        Ok(Health { stalled: Some(since), .. }) => unwell(&stalled(since)),
        Ok(Health { stalled: None, .. }) => unwell("the switch is stopping"),
        Err(unanswered) => unwell(unanswered.message()),
    }
}

fn stalled(since: Duration) -> String {
    format!("the worker has neither turned nor slept for {} seconds", since.as_secs())
}

fn unwell(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

/// How long the control thread may be busy with something else, such as an attach.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
