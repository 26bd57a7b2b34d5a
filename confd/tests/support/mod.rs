//! Reads a BIRD file, of 1.x (upstream's) or 2.x (ours), into what it means.
//!
//! The text becomes a tree of statements and blocks; from the tree the facts of one address family are taken. Both
//! syntaxes give the same [`Facts`] where they mean the same.

pub mod facts;
pub mod tree;
