//! What is wrong with a message, and what the speaker must do about it.
//!
//! Fatal errors are [`DecodeError`]s and hold the NOTIFICATION to send. Attribute errors that RFC 7606 lets a
//! session survive are [`AttributeError`]s with the action already taken on the decoded update.

use thiserror::Error;

use crate::notification::Notification;

/// A message that ends the session (RFC 7606 "session reset").
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {notification}")]
pub struct DecodeError {
    /// What stood in the message, for the log.
    pub what: &'static str,
    /// What to send before closing the connection.
    pub notification: Notification,
}

impl DecodeError {
    pub(crate) fn new(code: u8, subcode: u8, what: &'static str) -> Self {
        Self { what, notification: Notification::new(code, subcode) }
    }

    pub(crate) fn with_data(code: u8, subcode: u8, what: &'static str, data: &[u8]) -> Self {
        Self { what, notification: Notification { code, subcode, data: data.to_vec() } }
    }
}

/// What RFC 7606 asks for when one attribute is malformed, in growing order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeAction {
    /// The attribute is dropped, the routes are used without it.
    Discard,
    /// Every route announced by the message counts as withdrawn.
    TreatAsWithdraw,
}

/// A malformed attribute that the session survives.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("attribute {code}: {what}")]
pub struct AttributeError {
    /// Attribute type code.
    pub code: u8,
    /// What was wrong with it.
    pub what: &'static str,
    /// What was done about it.
    pub action: AttributeAction,
}
