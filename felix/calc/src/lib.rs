//! Felix's calculation: from the objects of the whole cluster to what this node must program.
//!
//! In come [`libcalico_model::Update`]s in any order and batching, out go [`felix_message::Message`]s in an order that
//! the dataplane can apply one by one. [`graph`] wires the rooms and has the picture.
//!
//! Always holds: the result is a function of the current objects, not of the way there; a missing or invalid object
//! counts as absent. No runtime, no clock, no input or output here.

pub mod explain;
pub mod graph;
mod hosts;
mod intern;
mod ip_sets;
mod items;
mod labels;
mod local;
pub mod mirror;
pub mod outcome;
mod passed;
mod policies;
pub mod recording;
mod render;
pub mod replay;
mod routes;
mod rules;
mod selected_config;
mod selector_index;
mod slices;
pub mod strictness;
mod tier_lists;

pub use graph::{CalcGraph, Config, Stats};
pub use routes::RouteSource;
