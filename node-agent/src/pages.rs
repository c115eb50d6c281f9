//! The agent's pages, over HTTP on loopback, and the question for one of them.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 while the agent turns; otherwise 503 |
//! | `/readyz` | 200 while its lease is held and the switch is told; otherwise 503 and why |
//! | `/metrics` | what is counted, as OpenMetrics text |
//! | `/status` | [`Status`](crate::status::Status) as JSON |

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime;
use tokio::time::timeout;

use crate::error::Error;
use crate::status::Shared;

/// Serves the pages from a thread of its own, as long as the process lasts.
///
/// # Errors
/// [`Error::Listen`]
pub fn serve(address: SocketAddr, shared: Shared) -> Result<(), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let pages = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/status", get(async |State(shared): State<Shared>| Json(shared.status())))
        .with_state(shared);
    let serve = move || {
        let served = runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, pages).await });
        if let Err(error) = served {
            tracing::error!("health and metrics are no longer served: {error}");
        }
    };
    thread::Builder::new().name("pages".to_owned()).spawn(serve).map(drop).map_err(failed)
}

/// The status of the agent that serves its pages at `address`.
///
/// # Errors
/// [`Error::NoAgent`]
pub fn ask(address: SocketAddr) -> Result<serde_json::Value, Error> {
    let failed = |source| Error::NoAgent { address, source };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let asked = runtime.block_on(async { timeout(ASK_TIMEOUT, exchange(address)).await });
    let body = asked.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    serde_json::from_slice(&body).map_err(|error| failed(error.into()))
}

async fn exchange(address: SocketAddr) -> io::Result<Bytes> {
    let line = TokioIo::new(tokio::net::TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(line).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = hyper::Request::get("/status").header("host", "podswitch-agent").body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.expect("the request is well-formed")).await.map_err(io::Error::other)?;
    Ok(answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes())
}

async fn health(State(shared): State<Shared>) -> Response {
    let still = shared.beat().elapsed();
    if still < STILL_MAX {
        return "ok\n".into_response();
    }
    unwell(&format!("the agent has not turned for {} seconds", still.as_secs()))
}

async fn readiness(State(shared): State<Shared>) -> Response {
    shared.status().unready().map_or_else(|| "ready\n".into_response(), unwell)
}

async fn metrics(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shared.metrics()).into_response()
}

fn unwell(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than calls of the store and the switch may take together.
const STILL_MAX: Duration = Duration::from_secs(60);
