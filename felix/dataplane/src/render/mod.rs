//! Pure rendering: messages and configuration into chains of [`crate::rule`].
//!
//! In: policies, profiles, endpoints, configuration. Out: chains under upstream's names. Always holds: the same input
//! gives the same chains, rule by rule, so that a restart finds nothing to change; nothing here knows the kernel.
//! - [`names`]: names of chains and sets.
//! - [`base`]: the fixed chains and the kernel's entry points.
//! - [`policy`]: rules of policies and profiles.
//! - [`endpoint`]: chains of endpoints and their dispatch.
//! - [`identity`]: what a policy and its rules are called in logs and counters.
//! - [`lower`]: what nftables needs several rules for.
//! - [`text`]: a rule as `nft` would print it: identity of a rule, dumps, tests.

pub mod base;
pub mod endpoint;
pub mod identity;
pub mod lower;
pub mod names;
pub mod policy;
pub mod text;
