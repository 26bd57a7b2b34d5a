//! bird.cfg in BIRD 2 syntax: text in, a typed [`Config`] out, or an error with file, line and column.
//!
//! Always holds: the same text gives the same configuration, and a configuration with an error gives none. Options
//! of BIRD 2 that this daemon does not carry out are errors, not silence, except those that change nothing here.

mod bgp;
mod error;
mod lexer;
mod parser;
mod protocols;
mod types;

pub use error::ConfigError;
pub use lexer::{Load, Place, Source};
pub use types::*;

pub(crate) use lexer::Kind;
pub(crate) use parser::{Parser, Symbol};

/// Parses a configuration.
///
/// # Errors
/// The first error in the text.
pub fn parse(source: &Source) -> Result<Config, ConfigError> {
    Parser::new(source)?.config()
}
