//! confd: from the datastore to the BGP daemon's configuration file.
//!
//! ```text
//!  source (datastore syncer or Typha) ──▶ state ──▶ peers, filters, context (pure)
//!                                                      │
//!              reload (control socket) ◀── output ◀── render (minijinja)
//! ```
//!
//! In come [`libcalico_model::SyncerEvent`]s with stored keys; out goes one file, `bird.cfg`, in BIRD 2 syntax for
//! both address families, and a `configure` on the daemon's control socket. Always holds: the text is a function of
//! the current state alone, nothing is written before the first snapshot is whole, the file is replaced by rename and
//! only by a text that the check command accepts.
//!
//! Left out: Kubernetes (Secrets for session passwords, Services to advertise): those rooms come with that datastore.

pub mod bird_text;
pub mod context;
pub mod control;
pub mod filters;
pub mod go_flags;
pub mod output;
pub mod peers;
pub mod render;
pub mod run;
pub mod settings;
pub mod source;
pub mod state;

pub use context::Context;
pub use settings::NodeSettings;
pub use state::State;
