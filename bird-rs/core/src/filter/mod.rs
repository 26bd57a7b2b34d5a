//! The filter language: programs that look at a route, change it, and accept or reject it.
//!
//! In: a parsed [`Filter`] and a route ([`Draft`]). Out: a [`Verdict`], and the draft as the program left it. A
//! program that goes wrong at run time (an undefined attribute in arithmetic, say) rejects the route, as in BIRD.
//! Functions may only call functions defined before them, so every program ends.

mod ast;
mod eval;
mod eval_member;
mod glob;
mod parse;
mod parse_set;
mod set;
mod value;

pub use ast::{Expr, Filter, Function, Stmt};
pub use eval::{Draft, Outcome, Verdict, apply_statements, evaluate_constant, run};
pub use glob::glob_matches;
pub use set::{MaskItem, PrefixPattern, Set};
pub use value::{EnumKind, Value};
