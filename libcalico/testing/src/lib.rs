//! Real servers for tests: etcd (plain, with TLS, with users, three members), a Kubernetes API server with Calico's CRDs,
//! certificates, and a TCP proxy that can go silent.
//!
//! For `dev-dependencies` alone: it panics where something does not work. Each server has its own directory and ports of
//! 127.0.0.1, and is gone when its value is dropped, also when the test fails. Always holds: a test whose needs are not
//! met says `skipped: …` on standard error and returns, and fails where `CI=true` ([`needs`]). Depends on no other crate
//! of ours, so that any of them can use it.

mod api_server;
mod etcd;
mod https;
mod needs;
mod pki;
mod port;
mod program;
mod proxy;

pub use api_server::{RealApiServer, TokenTimes};
pub use etcd::{EtcdCluster, EtcdOptions, RealEtcd};
pub use https::Refused;
pub use needs::{Need, can_run, kubernetes_binary};
pub use pki::Pki;
pub use port::free_port;
pub use program::{copy_program, script};
pub use proxy::Proxy;

use std::time::{Duration, Instant};

/// Waits until something is true, or panics with what it waited for.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
