//! A second opinion about policy: small random worlds, and a naive evaluator written from the documentation.
//!
//! ```text
//! proptest ─▶ world (few pods, sets, services, tiers, policies of  ─┬─▶ resources: projectcalico.org/v3 objects, YAML
//!             Calico's and Kubernetes' kinds, a host)               └─▶ naive: does this packet pass?
//! ```
//!
//! Always holds: the evaluator reads the world's own small types with its own selectors, addresses and ordering. It
//! shares no code with the selector language, the conversion, the calculation or the dataplane, which are what it
//! judges. It decides about a connection's first packet and, where nothing is tracked, about the answer to it.
//!
//! Left out: natting. Of two endpoints of one node with one address: which of them gets its packets.

pub mod naive;
pub mod resources;
pub mod selector;
pub mod strategy;
pub mod world;
