//! Ctrl-C and SIGTERM as a flag, so that every topology is taken down by unwinding.
//!
//! The handler stores `true` and does nothing else. Every loop of this crate that may last longer than a
//! moment asks [`check`] and returns [`Error::Interrupted`]; the namespaces and processes then go in `Drop`.
//! Children share the terminal's process group and get a Ctrl-C of their own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::{Error, Result};

/// Takes over SIGINT and SIGTERM for the rest of the process.
pub fn install() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(remember), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: `remember` only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.map_err(Error::system(format!("handle {signal}")))?;
    }
    Ok(())
}

/// Fails with [`Error::Interrupted`] once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Sleeps until `instant`, or fails soon after a signal.
pub fn sleep_until(instant: Instant) -> Result<()> {
    loop {
        check()?;
        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

extern "C" fn remember(_signal: i32) {
    // Relaxed: the flag carries no other data.
    INTERRUPTED.store(true, Relaxed);
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
