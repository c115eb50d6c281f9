//! IPAM by another plugin: found in CNI_PATH, run with this call's environment and configuration.
//!
//! The plugin speaks the same protocol: ADD gives addresses without interfaces; whatever it refuses is passed on.
//!
//! Source: CNI specification 1.1.0, section 4.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::environment::Environment;
use crate::error::{Error, Refusal};
use crate::outcome::Outcome;

/// An IPAM plugin that was found.
#[derive(Debug)]
pub(crate) struct Delegate<'a> {
    plugin: &'a str,
    program: PathBuf,
    input: &'a [u8],
}

impl<'a> Delegate<'a> {
    /// Looks for `plugin`; `input` is the configuration as it came.
    pub(crate) fn find(plugin: &'a str, environment: &Environment, input: &'a [u8]) -> Result<Self, Error> {
        let program = environment.path.iter().map(|folder| folder.join(plugin)).find(|program| program.is_file());
        let program = program.ok_or_else(|| Error::DelegateMissing { plugin: plugin.to_owned() })?;
        Ok(Delegate { plugin, program, input })
    }

    /// Addresses for this attachment.
    pub(crate) fn add(&self) -> Result<Outcome, Error> {
        let output = self.run("ADD")?;
        let value: Value =
            serde_json::from_slice(&output).map_err(|error| self.broke(format!("gave no result: {error}")))?;
        Outcome::parse(&value).map_err(|error| self.broke(format!("gave no result: {error}")))
    }

    /// Any other verb, which answers nothing.
    pub(crate) fn tell(&self, verb: &str) -> Result<(), Error> {
        self.run(verb).map(drop)
    }

    fn run(&self, verb: &str) -> Result<Vec<u8>, Error> {
        let mut command = Command::new(&self.program);
        command.env("CNI_COMMAND", verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let failed = |error: std::io::Error| self.broke(format!("cannot be run: {error}"));
        let mut child = command.spawn().map_err(failed)?;
        // One that does not read its input says why by its status.
        let _ = child.stdin.take().expect("its input was asked for").write_all(self.input);
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        match serde_json::from_slice::<Refusal>(&output.stdout) {
            Ok(refusal) => Err(Error::DelegateRefused { plugin: self.plugin.to_owned(), refusal }),
            Err(_) => Err(self.broke(format!("ended with {}", output.status))),
        }
    }

    fn broke(&self, fault: String) -> Error {
        Error::Delegate { plugin: self.plugin.to_owned(), fault }
    }
}
