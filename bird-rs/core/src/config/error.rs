//! What is wrong with a configuration, and where.

use thiserror::Error;

use super::lexer::Place;

/// An error in a configuration file; prints as `FILE:LINE:COLUMN message`, as BIRD does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place} {message}")]
pub struct ConfigError {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(place: &Place, message: String) -> Self {
        Self { place: place.clone(), message }
    }
}
