//! How a switch says no.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::words;

/// A refused request: nothing of it was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind of no.
    pub code: Code,
    /// What is wrong with what, in one sentence without a full stop.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

words! {
    /// Kinds of refusal, one for each HTTP status that says no.
    Code, "refusal code" {
        /// 400: the request itself is wrong.
        Invalid => "invalid",
        /// 403: the asker may not ask.
        Forbidden => "forbidden",
        /// 404: what is spoken of does not exist.
        NotFound => "not-found",
        /// 409: the request contradicts what was asked for before.
        Conflict => "conflict",
        /// 413: the request is too large.
        TooLarge => "too-large",
        /// 500: the switch could not do what it should.
        Internal => "internal",
        /// 503: not now: a limit is reached or the switch is busy or stopping.
        Unavailable => "unavailable",
    }
}

impl Code {
    /// The HTTP status (RFC 9110, section 15).
    pub const fn status(self) -> u16 {
        match self {
            Code::Invalid => 400,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::Conflict => 409,
            Code::TooLarge => 413,
            Code::Internal => 500,
            Code::Unavailable => 503,
        }
    }
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), hint: None }
    }

    /// The same with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
