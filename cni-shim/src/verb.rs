//! The six verbs, and the frame around them: read, do, answer.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::io;
use std::time::Duration;

use control::{Client, Name};
use serde::Serialize;
use serde_json::{Value, json};

use crate::attachment;
use crate::config::{Config, Ipam};
use crate::delegate::Delegate;
use crate::environment::{Environment, Verb};
use crate::error::Error;
use crate::version::Version;

/// What goes to standard output: a result or nothing, or an error's JSON.
///
/// # Errors
/// The error's JSON; the exit code is 1 then.
pub fn answer(
    variable: impl Fn(&str) -> Option<String>,
    input: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<String, String> {
    let mut version = Version::NEWEST;
    let done = || {
        let environment = Environment::read(variable)?;
        let input = input().map_err(Error::Input)?;
        version = Config::version_of(&input);
        if environment.verb == Verb::Version {
            return versions(&input);
        }
        let config = Config::parse(&input)?;
        since(environment.verb, config.version)?;
        Call { environment, config, input }.execute()
    };
    match done() {
        Ok(Value::Null) => Ok(String::new()),
        Ok(value) => Ok(text(&value)),
        Err(error) => Err(text(&error.refusal(version))),
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("results and errors have a JSON form: their maps have text keys") + "\n"
}

/// VERSION: its configuration is a version and nothing more.
fn versions(input: &[u8]) -> Result<Value, Error> {
    let asked: Value = serde_json::from_slice(input)
        .map_err(|error| Error::Decode { field: "standard input".to_owned(), fault: error.to_string() })?;
    let version = Version::parse(asked["cniVersion"].as_str().unwrap_or_default())?;
    Ok(json!({ "cniVersion": version.text(), "supportedVersions": Version::ALL.map(Version::text) }))
}

fn since(verb: Verb, version: Version) -> Result<(), Error> {
    let (verb, since) = match verb {
        Verb::Check => ("CHECK", Version::V0_4_0),
        Verb::Gc => ("GC", Version::V1_1_0),
        Verb::Status => ("STATUS", Version::V1_1_0),
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if version < since { Err(Error::VerbVersion { verb, since, version }) } else { Ok(()) }
}

/// One call of the plugin.
struct Call {
    environment: Environment,
    config: Config,
    /// The configuration as it came, for a delegate.
    input: Vec<u8>,
}

impl Call {
    fn execute(&self) -> Result<Value, Error> {
        match self.environment.verb {
            Verb::Add => self.add(),
            Verb::Del => self.del().map(|()| Value::Null),
            Verb::Check => self.check().map(|()| Value::Null),
            Verb::Gc => self.gc().map(|()| Value::Null),
            Verb::Status => self.status().map(|()| Value::Null),
            Verb::Version => unreachable!("it was answered without a look at the configuration"),
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.config.socket).timeout(PATIENCE)
    }

    /// What the switch calls this attachment.
    fn name(&self) -> Name {
        let name = attachment::name(self.environment.container(), self.environment.interface());
        name.expect("no longer id is read")
    }

    /// The IPAM plugin, where the switch does not choose addresses itself.
    fn delegate(&self) -> Result<Option<Delegate<'_>>, Error> {
        match &self.config.ipam {
            Ipam::Switch { .. } => Ok(None),
            Ipam::Plugin(plugin) => Delegate::find(plugin, &self.environment, &self.input).map(Some),
        }
    }
}

/// How long a switch is waited for: many times what it takes when hundreds of pods come at once.
const PATIENCE: Duration = Duration::from_secs(10);
