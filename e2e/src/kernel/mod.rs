//! The only place of the lab that changes the kernel: namespaces, links, mounts.
//!
//! Everything runs in short-lived threads that enter a namespace, do their work and end: namespaces are a
//! property of a thread, so the calling thread always stays where it was.

pub mod links;
pub mod mounts;
pub mod netns;
pub mod session;
