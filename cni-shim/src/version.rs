//! Versions of the CNI specification, and what came with which.

use std::fmt;

use crate::error::Error;

/// A version that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// 0.1.0, also meant where none is given: one address of each family.
    V0_1_0,
    /// 0.2.0, the same with VERSION.
    V0_2_0,
    /// 0.3.0: interfaces, several addresses.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses do not tell their family any more.
    V1_0_0,
    /// 1.1.0: GC, STATUS, more about interfaces and routes.
    V1_1_0,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];
    /// The newest.
    pub const NEWEST: Version = Version::V1_1_0;

    /// As it stands in a configuration.
    pub fn text(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// The version of that text; none given is the oldest.
    ///
    /// # Errors
    /// [`Error::Version`].
    pub fn parse(text: &str) -> Result<Version, Error> {
        let text = if text.is_empty() { "0.1.0" } else { text };
        let known = Version::ALL.into_iter().find(|version| version.text() == text);
        known.ok_or_else(|| Error::Version { found: text.to_owned() })
    }

    pub(crate) fn list() -> String {
        Version::ALL.map(Version::text).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
