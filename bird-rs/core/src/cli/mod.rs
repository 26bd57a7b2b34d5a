//! The control socket's language: requests as words, replies as BIRD's numbered lines.
//!
//! In: a line of a client. Out: a [`Request`], and for those that only look, a [`Reply`] made from the engine's
//! state. Formats are BIRD 2.0's, which `birdc`, calicoctl and calico-node read. Requests that change something
//! are carried out by the daemon through events.

mod protocols;
mod request;
mod routes;
mod show;
mod timefmt;

pub use request::{Request, RouteFilter, RouteQuery, parse};

/// Version in the greeting: what it is compatible with, and what it is.
pub const VERSION: &str = concat!("2.0.12+bird-rs-", env!("CARGO_PKG_VERSION"));

/// A reply: numbered lines and the one that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    lines: Vec<(u16, String)>,
    end: (u16, String),
}

impl Reply {
    /// A reply of its last line alone.
    #[must_use]
    pub fn end(code: u16, text: impl Into<String>) -> Self {
        Self { lines: Vec::new(), end: (code, text.into()) }
    }

    /// Adds a line before the last.
    pub fn line(&mut self, code: u16, text: impl Into<String>) {
        self.lines.push((code, text.into()));
    }

    /// With a line before the last.
    #[must_use]
    pub fn with(mut self, code: u16, text: impl Into<String>) -> Self {
        self.line(code, text);
        self
    }

    /// The code of the last line: 8000 and above are errors.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.end.0
    }

    /// The bytes on the socket: `CODE-text` opens a run of lines of one code, a blank goes on, `CODE text` ends.
    #[must_use]
    pub fn encode(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let mut last = None;
        for (code, text) in &self.lines {
            let written = if last == Some(*code) {
                writeln!(out, " {text}")
            } else {
                writeln!(out, "{code:04}-{text}")
            };
            // Writing to a string cannot fail.
            debug_assert!(written.is_ok());
            last = Some(*code);
        }
        let written = writeln!(out, "{:04} {}", self.end.0, self.end.1);
        debug_assert!(written.is_ok());
        out
    }
}
