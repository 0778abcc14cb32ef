//! Errors, in the form in which Wazo's daemons answer them.

use std::collections::BTreeMap;
use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of an error. Each has its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorId {
    /// The request has a form that the daemon does not know.
    InvalidRequest,
    /// The request is understood and refused for what it asks.
    Refused,
    /// Over TCP: there is no valid token or login.
    Unauthorized,
    /// The user may not send it.
    Forbidden,
    /// There is nothing at this path. A daemon of another version may have it.
    NoSuchEndpoint,
    /// There is no such ban, jail or allowed network.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The request did not arrive in time.
    TooSlow,
    /// It is refused because of what the address is; `force` overrides some of these refusals.
    Conflict,
    /// The body is too long.
    TooLong,
    /// The kernel or the store has failed.
    Failed,
    /// The daemon is stopping, or has too many clients.
    Unavailable,
}

impl ErrorId {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::InvalidRequest,
        Self::Refused,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NoSuchEndpoint,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooSlow,
        Self::Conflict,
        Self::TooLong,
        Self::Failed,
        Self::Unavailable,
    ];

    /// Its HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::Refused => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NoSuchEndpoint | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::Conflict => 409,
            Self::TooLong => 413,
            Self::Failed => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub id: ErrorId,
    /// The problem and the remedy, as text.
    pub message: String,
}

impl Refusal {
    /// A refusal of a kind.
    pub fn new(id: ErrorId, message: impl Into<String>) -> Self {
        Self { id, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::new(ErrorId::Refused, message)
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::new(ErrorId::Refused, message)
    }
}

/// The body of a reply without an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Problem {
    /// The kind of the error.
    pub error_id: ErrorId,
    /// The problem and the remedy, as text.
    pub message: String,
    /// The part of the API, such as `bans`; null if the path has none.
    pub resource: Option<String>,
    /// The network, address or jail in the path; null if the path has none.
    pub resource_id: Option<String>,
    /// When it happened, in seconds since 1970.
    pub timestamp: f64,
    /// More about it. Always empty at present.
    pub details: BTreeMap<String, String>,
}
