//! Datastores over real servers, and the lists of behaviours that all of them share.
#![allow(dead_code)] // each test binary uses its own part

pub mod contract;
pub mod faults;

use std::sync::Arc;

use libcalico_datastore::etcd::EtcdDatastore;
use libcalico_datastore::{Datastore, EtcdConfig};
use libcalico_model::Revision;
use libcalico_testing::RealEtcd;

/// A server that holds a datastore, and what can befall it.
pub trait Backend {
    fn store(&self) -> Arc<dyn Datastore> {
        self.store_at(self.port())
    }

    /// A client that reaches the server by another port.
    fn store_at(&self, port: u16) -> Arc<dyn Datastore>;

    fn port(&self) -> u16;

    /// So many objects that a listing has three pages.
    fn three_pages(&self) -> usize;

    /// SIGKILL.
    fn kill(&mut self);

    /// Starts again what was killed; returns when it serves.
    fn run(&mut self);

    /// Makes the store under the server forget what was before a revision.
    fn compact(&self, at: &Revision);

    /// Makes the server forget it too.
    fn forget(&mut self, at: &Revision);
}

/// A client of an etcd.
pub fn config(etcd: &RealEtcd) -> EtcdConfig {
    EtcdConfig { endpoints: vec![etcd.endpoint()], ..EtcdConfig::default() }
}

impl Backend for RealEtcd {
    fn store_at(&self, port: u16) -> Arc<dyn Datastore> {
        let endpoints = vec![format!("http://127.0.0.1:{port}")];
        Arc::new(EtcdDatastore::new(EtcdConfig { endpoints, ..EtcdConfig::default() }))
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn three_pages(&self) -> usize {
        3_020
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn run(&mut self) {
        self.run();
    }

    fn compact(&self, at: &Revision) {
        let said = self.etcdctl(&["compact", &at.0]);
        assert!(said.contains("compacted revision"), "{said}");
    }

    fn forget(&mut self, at: &Revision) {
        self.compact(at);
    }
}
