//! A node as a network namespace: an etcd of its own that waits for its disk, interfaces of workloads, two real pods.
//!
//! In: a [`Shape`]. Always holds: everything is gone when the value is dropped, the interfaces at once and not by the
//! kernel's later clean-up, which would be measured with whatever comes next.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::kernel::netns;
use e2e::process;
use libcalico_api::Resource;
use libcalico_datastore::{ClientConfig, Datastore, connect, resources};
use libcalico_testing::{EtcdOptions, RealEtcd};

use super::felix::{ip_batch, sysctl};
use super::shape::{Shape, address, interface};

/// The node's name.
pub const NODE: &str = "n1";
/// All interfaces of workloads are in it.
const GROUP: &str = "7";
/// Objects that are written at once.
const AT_ONCE: usize = 64;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Begins the names of all namespaces; the process's number and a counter follow.
const PREFIX: &str = "fbx";

/// Removes what a run that was killed has left.
pub fn sweep() -> Result<()> {
    let stale = |name: &String| {
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists())
    };
    let names: Vec<String> = netns::list(PREFIX)?.into_iter().filter(stale).collect();
    process::end_all_in(&names, Duration::from_secs(10))?;
    for name in &names {
        netns::delete(name)?;
    }
    Ok(())
}

/// See the module's text.
pub struct Machine {
    names: [String; 3],
    etcd: RealEtcd,
    store: Arc<dyn Datastore>,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Machine {
    /// Makes the namespaces and interfaces, starts etcd and writes the objects.
    pub fn new(shape: &Shape) -> Result<Self> {
        let id = format!("{PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let names = [id.clone(), format!("{id}-client"), format!("{id}-server")];
        let guard = Names(&names);
        for name in &names {
            netns::create(name)?;
        }
        links(&names, shape.endpoints)?;
        let options = EtcdOptions { durable: true, ..EtcdOptions::default() };
        let etcd = netns::within(&id, || Ok(RealEtcd::launch(options)))?.context("etcd is not installed")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = etcd.endpoint();
        let config = ClientConfig::from_lookup(|name| match name {
            "DATASTORE_TYPE" => Some("etcdv3".to_owned()),
            "ETCD_ENDPOINTS" => Some(endpoint.clone()),
            _ => None,
        })?;
        let store = inside(&id, || runtime.block_on(async { Ok(connect(&config).await?) }))?;
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("status"))?;
        std::mem::forget(guard);
        let machine = Self { names, etcd, store, runtime, dir };
        machine.fill(&shape.resources)?;
        Ok(machine)
    }

    fn fill(&self, resources: &[Resource]) -> Result<()> {
        let store = self.store.clone();
        self.with_store(async |_| {
            for chunk in resources.chunks(AT_ONCE) {
                let mut set = tokio::task::JoinSet::new();
                for resource in chunk.iter().cloned() {
                    let store = store.clone();
                    set.spawn(async move { resources::create(&*store, resource).await });
                }
                while let Some(done) = set.join_next().await {
                    done??;
                }
            }
            Ok(())
        })
    }

    /// Does something with the datastore, from inside.
    pub fn with_store<T: Send>(
        &self,
        work: impl AsyncFnOnce(&dyn Datastore) -> Result<T> + Send,
    ) -> Result<T> {
        inside(&self.names[0], || self.runtime.block_on(async { work(&*self.store).await }))
    }

    /// The node's network namespace.
    pub fn ns(&self) -> &str {
        &self.names[0]
    }

    /// The network namespaces of the first and second endpoint.
    pub fn pods(&self) -> [&str; 2] {
        [&self.names[1], &self.names[2]]
    }

    pub fn etcd(&self) -> String {
        self.etcd.endpoint()
    }

    /// A folder that is empty at first.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.etcd.kill();
        if std::env::var_os("KEEP").is_some() {
            eprintln!("  logs of Felix: {}", self.dir.path().display());
            self.dir.disable_cleanup(true);
        }
        drop(Names(&self.names));
    }
}

/// Removes the namespaces when it is dropped.
struct Names<'a>(&'a [String; 3]);

impl Drop for Names<'_> {
    fn drop(&mut self) {
        let gone = ["-n", &self.0[0], "link", "del", "group", GROUP];
        let _ = Command::new("ip").args(gone).stderr(Stdio::null()).status();
        for name in self.0 {
            let _ = netns::delete(name);
        }
    }
}

fn inside<T: Send>(ns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    netns::within(ns, || Ok(work()))?
}

/// A pair for every endpoint. The far ends of the first two are pods; the others stay beside their near ends.
fn links(names: &[String; 3], endpoints: usize) -> Result<()> {
    let [node, client, server] = names;
    // Addresses that interfaces give themselves would come late and disturb.
    for name in names {
        sysctl(name, Path::new("ipv6/conf/default/addr_gen_mode"), "1")?;
    }
    sysctl(node, Path::new("ipv4/ip_forward"), "1")?;
    // A way out: for what has no other the kernel answers pods' questions about their gateway.
    let mut batch = "link add name eth0 type veth peer name far\nlink set eth0 up\nlink set far up\n\
         address add 172.31.0.1/24 dev eth0\nroute add default via 172.31.0.254\n"
        .to_owned();
    for i in 0..endpoints {
        let near = interface(i);
        let far = match i {
            0 => format!("name eth0 netns {client}"),
            1 => format!("name eth0 netns {server}"),
            _ => format!("name pod{i}"),
        };
        writeln!(batch, "link add name {near} group {GROUP} type veth peer {far}")?;
        writeln!(batch, "link set {near} up")?;
        if i > 1 {
            writeln!(batch, "link set pod{i} up")?;
        }
    }
    ip_batch(node, &batch)?;
    for (i, name) in [(0, client), (1, server)] {
        let address: Ipv4Addr = address(i);
        let gateway = "169.254.1.1";
        ip_batch(
            name,
            &format!(
                "link set eth0 up\naddress add {address}/32 dev eth0\nroute add {gateway} dev eth0 scope link\n\
                 route add default via {gateway} dev eth0\n"
            ),
        )?;
    }
    Ok(())
}
