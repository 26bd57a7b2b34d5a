//! Logs, metrics and health: one way for every component.
//!
//! - [`logging`]: one line an event, in upstream's form, with a level that can change while the process runs.
//! - [`health`]: parts of a process report; the aggregator says whether all of it is live and ready.
//! - [`metrics`]: a Prometheus registry with the process's own figures.
//! - [`summary`]: a metric with quantiles, as upstream's.
//! - [`http`]: serves health and metrics on `/liveness`, `/readiness` and `/metrics`.
//! - [`tls`], [`pem`]: certificates for metrics; reading them is shared with Typha.
//!
//! Left out: what a component reports or counts.

mod handshake;
pub mod health;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod pem;
pub mod summary;
pub mod tls;

pub use health::{HealthAggregator, HealthReport, Reporter};
pub use http::{HttpServer, serve_health, serve_metrics};
pub use logging::{LogHandle, Severity, init_logging, init_logging_to};
pub use metrics::new_registry;
pub use summary::{Distribution, Summary};
pub use tls::{ClientAuth, MetricsTls};
