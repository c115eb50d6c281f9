//! VXLAN network identifiers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which VXLAN segment a frame belongs to: 24 bits (RFC 7348, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// What flannel uses unless told otherwise.
    pub const FLANNEL: Vni = Vni(1);
    /// What Calico uses unless told otherwise.
    pub const CALICO: Vni = Vni(4096);
    /// The greatest there is.
    pub const MAX: Vni = Vni(0xff_ffff);
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(number: u32) -> Result<Self, VniError> {
        let vni = Vni(number);
        if vni <= Vni::MAX { Ok(vni) } else { Err(VniError { text: number.to_string() }) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

/// Why a text or a number is not a VNI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a VXLAN network identifier: write a number from 0 to {max}", max = Vni::MAX)]
pub struct VniError {
    text: String,
}

impl FromStr for Vni {
    type Err = VniError;

    fn from_str(text: &str) -> Result<Self, VniError> {
        let number: u32 = text.parse().map_err(|_| VniError { text: text.to_owned() })?;
        number.try_into()
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_more_than_24_bits_is_refused_by_name() {
        assert_eq!(Vni::try_from(0xff_ffff), Ok(Vni::MAX));
        assert_eq!("4096".parse(), Ok(Vni::CALICO));
        assert_eq!(u32::from(Vni::FLANNEL), 1);
        for text in ["16777216", "-1", "0x1", ""] {
            assert!(text.parse::<Vni>().unwrap_err().to_string().contains(&format!("'{text}'")));
        }
        assert!(Vni::try_from(1 << 24).unwrap_err().to_string().contains("0 to 16777215"));
    }
}
