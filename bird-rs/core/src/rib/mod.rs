//! Routes, the tables that hold them, the choice among them, and next hops that follow from other routes.

mod attrs;
mod best;
mod route;
mod table;

pub use attrs::{Attrs, Interner};
pub use best::{mergeable, order};
pub use route::{BgpOrigin, Dest, Hop, Iface, ProtoId, Route, RouteOrigin, RouteSource};
pub use table::{Resolved, Table};

/// Interior cost of a next hop whose cost is not known.
pub const IGP_METRIC_UNKNOWN: u32 = 0x8000_0000;
