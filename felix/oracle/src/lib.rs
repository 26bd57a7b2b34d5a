//! A second opinion about policy: small random worlds, and a naive evaluator written from the documentation.
//!
//! ```text
//! proptest ─▶ world (few pods, sets, tiers, policies, a host) ─┬─▶ resources: projectcalico.org/v3 objects, YAML
//!                                                             └─▶ naive: does this first packet pass?
//! ```
//!
//! Always holds: the evaluator reads the world's own small types with its own selectors, addresses and ordering. It
//! shares no code with the selector language, the conversion, the calculation or the dataplane, which are what it
//! judges. It decides about a connection's first packet.
//!
//! Left out: untracked policy (replies would need a judgement of their own), services, HTTP, natting.

pub mod naive;
pub mod resources;
pub mod selector;
pub mod strategy;
pub mod world;
