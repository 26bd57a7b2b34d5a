//! Answers about policy from the datastore alone: who may talk to whom, and which rule says so.
//!
//! ```text
//! stored objects ─▶ world (Felix's converter and calculation, once for each node asked about) ─▶ Mirror
//! FROM, TO ───────▶ party (which endpoint or address) ─▶ stations (where something decides) ─┐     │
//!                                                                decide (felix_calc::explain)─┴─────┴─▶ render
//! ```
//!
//! Always holds: the verdict is that of `felix_calc::explain` on what `CalcGraph` gives, never a second opinion. The
//! steps shown beside it are read from the same messages. Pure except for the reading in `world::read`.

pub mod decide;
pub mod party;
pub mod render;
pub mod rule_text;
mod stations;
pub mod world;
