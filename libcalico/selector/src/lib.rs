//! Calico's selector language: text → tokens → tree → canonical text, identifier, matches.
//!
//! In comes the text of a selector (`role == "db" && has(zone)`), out comes a [`Selector`] that answers whether a set
//! of labels matches. Two texts that mean the same tree have one canonical text and one identifier; both are
//! upstream's, because kernel set names and felix' messages are made from them. Always holds: parsing and matching
//! never panic and use a bounded stack, whatever the input. What is left out: indexes over many selectors and many
//! endpoints (`felix-calc`), and the limit of 1,024 characters (`libcalico-api`).

pub mod ast;
mod labels;
mod lexer;
mod parser;
mod selector;

pub use labels::Labels;
pub use parser::{MAX_DEPTH, ParseError};
pub use selector::Selector;
