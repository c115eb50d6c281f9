//! What fuzzers run: arbitrary bytes as a configuration or an environment, with what must hold whatever they are.

use std::str;

use crate::config::{Config, Ipam};
use crate::environment::Environment;
use crate::error::Error;

/// Reads a configuration.
pub fn configuration(bytes: &[u8]) {
    match Config::parse(bytes) {
        Ok(config) => {
            let Ipam::Switch { pools, .. } = config.ipam else { return };
            assert!(pools.iter().all(|pool| !pool.is_empty()), "a pool without a range can never give an address");
        }
        Err(error) => told(&error, bytes, &[1, 2, 6, 7]),
    }
}

/// Reads an environment: `VARIABLE=VALUE`, with zero bytes between.
pub fn environment(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let variable = |wanted: &str| {
        let mut pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
    };
    if let Err(error) = Environment::read(variable) {
        told(&error, b"{}", &[4, 8]);
    }
}

/// The runtime gets a code that is meant for such errors, and words.
fn told(error: &Error, input: &[u8], codes: &[u32]) {
    let refusal = error.refusal(Config::version_of(input));
    assert!(codes.contains(&refusal.code), "{refusal:?}");
    assert!(!refusal.msg.is_empty(), "{refusal:?}");
    assert!(serde_json::to_string(&refusal).is_ok());
}
