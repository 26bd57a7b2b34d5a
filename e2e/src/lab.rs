//! One lab from `up` to `down`.
//!
//! In: a [`LabConfig`]. Out: a [`Lab`], a handle on what stands; several handles, also in several processes, may
//! be open at once. The order of `up`: namespaces and wires, etcd, Typha, calico-node on every node, servers,
//! then waiting until all of it is ready.
//! What always holds: [`Lab::down`] removes a lab whole from its name alone, whatever is missing or half made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::certificates::{self, Certificates};
use crate::error::Doing;
use crate::kernel::{links, netns};
use crate::place::FABRIC;
use crate::process::{self, Found, ProcessId};
use crate::state::{self, StateDir, write_json};
use crate::topology::{Encap, Machine, Role, Topology};
use crate::{LabConfig, LabError, Place, Result, names};

/// etcd's client port on `infra`.
pub const ETCD_PORT: u16 = 2379;
/// The first Typha's port on `infra`; the next has the next.
pub const TYPHA_PORT: u16 = 5473;
/// The first Typha's health port on `infra`.
const TYPHA_HEALTH_PORT: u16 = 9098;
/// Where the servers on nodes and `outside` answer.
pub const HOST_SERVE_PORT: u16 = 80;
/// The pool pods get their addresses from.
pub const POD_CIDR: &str = "10.65.0.0/16";
/// The pool pods get their IPv6 addresses from.
pub const POD_CIDR_V6: &str = "fd00:65::/48";

/// What a lab runs, besides Typha. Looked for before anything is made.
const PROGRAMS: [&str; 8] =
    ["lab", "calico-node", "calico-felix", "confd", "bird-rs", "calico", "calico-ipam", "calicoctl"];

/// How long a command waits for another one that makes or removes the same lab.
const LOCK_LIMIT: Duration = Duration::from_secs(120);
/// How long the processes of a lab may take to die after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// A handle on a lab that stands.
#[derive(Debug)]
pub struct Lab {
    config: LabConfig,
    topology: Topology,
    state: StateDir,
    bin_dir: PathBuf,
    /// Whether dropping the handle removes the lab: so that a failing test leaves nothing.
    owned: bool,
}

impl Drop for Lab {
    /// Takes an owned lab down. `LAB_KEEP=1` leaves it when a test failed, for a look at it.
    fn drop(&mut self) {
        if self.owned && std::thread::panicking() && std::env::var_os("LAB_KEEP").is_some() {
            eprintln!("lab {0} is kept: `lab down --name {0}` removes it", self.config.name);
            return;
        }
        if self.owned
            && let Err(e) = Self::down(self.name())
        {
            eprintln!("lab {}: {e}", self.config.name);
        }
    }
}

impl Lab {
    /// Makes a lab and waits until it is ready. The handle owns it: dropping it takes the lab down, unless
    /// [`Lab::keep`] was called. `progress` is told of every step.
    ///
    /// With an error, what was made so far stays for a look at its logs; [`Lab::down`] removes it.
    pub fn up(config: LabConfig, progress: &dyn Fn(&str)) -> Result<Self> {
        let mut lab = Self::begin(config)?;
        lab.build_all(progress)?;
        lab.owned = true;
        Ok(lab)
    }

    /// As [`Lab::up`], but a lab that failed to come up is removed before the error is returned.
    pub fn up_or_down(config: LabConfig, progress: &dyn Fn(&str)) -> Result<Self> {
        let name = config.name.clone();
        Self::up(config, progress).inspect_err(|e| {
            // The name may be another lab's, or in use: those are not ours to remove.
            if !matches!(e, LabError::Exists { .. } | LabError::Busy { .. } | LabError::NotRoot)
                && let Err(e) = Self::down(&name)
                && !matches!(e, LabError::NotFound { .. })
            {
                eprintln!("lab {name}: {e}");
            }
        })
    }

    /// Makes only machines and wires, with no Calico on them: for tests of the laboratory itself.
    pub fn bare(config: LabConfig) -> Result<Self> {
        let mut lab = Self::begin(config)?;
        lab.owned = true;
        let _lock = lab.state.lock(true, LOCK_LIMIT)?;
        lab.make_machines()?;
        lab.start_servers()?;
        Ok(lab)
    }

    fn begin(config: LabConfig) -> Result<Self> {
        config.check()?;
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let bin_dir = match &config.bin_dir {
            Some(dir) => std::path::absolute(dir).doing(|| format!("finding {}", dir.display()))?,
            None => default_bin_dir()?,
        };
        let topology = Topology::plan(&config);
        let state = StateDir::of(&config.name);
        if !netns::list(&names::netns_prefix(&config.name))?.is_empty() {
            return Err(LabError::Exists { name: config.name });
        }
        state.create()?;
        let lab = Self { config, topology, state, bin_dir, owned: false };
        write_json(
            &lab.state.config_file(),
            &LabConfig { bin_dir: Some(lab.bin_dir.clone()), ..lab.config.clone() },
        )?;
        Ok(lab)
    }

    fn build_all(&self, progress: &dyn Fn(&str)) -> Result<()> {
        let _lock = self.state.lock(true, LOCK_LIMIT)?;
        for program in PROGRAMS.into_iter().chain((self.config.typha > 0).then_some("calico-typha")) {
            self.program(program)?;
        }
        self.make_machines()?;
        progress(&format!(
            "{} machines on {} subnet(s) and a router",
            self.topology.machines.len(),
            self.config.subnets
        ));
        if self.config.subnets > 1 && self.config.encap == Encap::None {
            progress(
                "note: the router does not know pods' routes, so pods of different subnets cannot reach each other \
                 without encapsulation",
            );
        }
        self.start_etcd()?;
        progress("etcd answers");
        if self.config.typha_tls {
            self.install_certificates()?;
        }
        for instance in 0..self.config.typha {
            self.start_typha(instance)?;
        }
        for instance in 0..self.config.typha {
            self.wait_typha(instance)?;
            progress(&format!("typha {} of {} is ready", instance + 1, self.config.typha));
        }
        for (index, node) in self.topology.nodes().enumerate() {
            self.start_node(index, node)?;
        }
        self.start_servers()?;
        for node in self.topology.nodes() {
            self.wait_node(&node.name)?;
            progress(&format!("{} ({}) is ready", node.name, node.v4));
        }
        let sessions = self.wait_mesh()?;
        progress(&format!("BGP mesh: {sessions} sessions established"));
        Ok(())
    }

    /// A handle on a lab that was made before, perhaps by another process. Dropping it changes nothing.
    pub fn attach(name: &str) -> Result<Self> {
        names::check_lab_name(name)?;
        let state = StateDir::of(name);
        if !state.exists() {
            return Err(LabError::NotFound { name: name.to_owned() });
        }
        let config: LabConfig = state::read_json(&state.config_file())?;
        let bin_dir = match &config.bin_dir {
            Some(dir) => dir.clone(),
            None => default_bin_dir()?,
        };
        let topology = Topology::plan(&config);
        Ok(Self { config, topology, state, bin_dir, owned: false })
    }

    /// Lets the lab stand after this handle is gone.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// Removes a lab: every process in its namespaces, the namespaces, its folder. It needs the name alone, so
    /// it also removes what a killed or failed `up` left.
    pub fn down(name: &str) -> Result<()> {
        names::check_lab_name(name)?;
        let state = StateDir::of(name);
        let lock = match state.lock(true, LOCK_LIMIT) {
            Ok(lock) => Some(lock),
            Err(LabError::NotFound { .. }) => None,
            Err(e) => return Err(e),
        };
        let namespaces = netns::list(&names::netns_prefix(name))?;
        if lock.is_none() && namespaces.is_empty() {
            return Err(LabError::NotFound { name: name.to_owned() });
        }
        process::end_all_in(&namespaces, KILL_LIMIT)?;
        // Everything is tried; the first failure is told.
        let removed: Vec<Result<()>> = namespaces.iter().map(|ns| netns::delete(ns)).collect();
        let forgotten = state.remove();
        removed.into_iter().chain([forgotten]).collect()
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    pub fn config(&self) -> &LabConfig {
        &self.config
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    pub fn state(&self) -> &StateDir {
        &self.state
    }

    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The path of one of the product's binaries.
    pub fn program(&self, program: &str) -> Result<PathBuf> {
        let path = self.bin_dir.join(program);
        if path.is_file() {
            return Ok(path);
        }
        Err(LabError::NoProgram { program: program.to_owned(), dir: self.bin_dir.clone() })
    }

    /// `infra`'s IPv4 address, where etcd and Typha are.
    pub fn infra_v4(&self) -> std::net::Ipv4Addr {
        self.topology.machine("infra").map_or(std::net::Ipv4Addr::UNSPECIFIED, |m| m.v4)
    }

    fn make_machines(&self) -> Result<()> {
        let fab = names::machine_netns(self.name(), FABRIC);
        netns::create(&fab)?;
        links::make_router(&fab)?;
        for bridge in &self.topology.bridges {
            links::add_bridge(&fab, bridge)?;
        }
        for machine in &self.topology.machines {
            let ns = names::machine_netns(self.name(), &machine.name);
            self.state.machine(&machine.name).prepare()?;
            netns::create(&ns)?;
            links::plug(&ns, &fab, machine)?;
        }
        Ok(())
    }

    fn start_etcd(&self) -> Result<()> {
        let etcd = ["/usr/bin/etcd", "/usr/local/bin/etcd"]
            .into_iter()
            .find(|path| Path::new(path).is_file())
            .ok_or(LabError::NotInstalled { program: "etcd", package: "etcd-server" })?;
        let client = format!("http://{}:{ETCD_PORT}", self.infra_v4());
        let argv = [
            etcd,
            "--name=lab",
            "--data-dir=/var/lib/etcd/lab",
            // Nobody needs a lab's objects after a power cut, and syncing every write slows all of it.
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--listen-peer-urls=http://127.0.0.1:2380",
            &format!("--listen-client-urls={client},http://127.0.0.1:{ETCD_PORT}"),
            &format!("--advertise-client-urls={client}"),
        ];
        let argv = argv.map(str::to_owned).into();
        self.start_daemon("infra", "etcd", argv, self.environment())?;
        self.wait_etcd()
    }

    fn start_typha(&self, instance: usize) -> Result<()> {
        let program = self.program("calico-typha")?.display().to_string();
        let mut env = self.environment();
        env.extend(
            [
                ("TYPHA_DATASTORETYPE", "etcdv3".to_owned()),
                ("TYPHA_SERVERPORT", port(TYPHA_PORT, instance).to_string()),
                ("TYPHA_HEALTHENABLED", "true".to_owned()),
                ("TYPHA_HEALTHHOST", "0.0.0.0".to_owned()),
                ("TYPHA_HEALTHPORT", port(TYPHA_HEALTH_PORT, instance).to_string()),
                ("TYPHA_LOGSEVERITYSCREEN", "info".to_owned()),
                ("TYPHA_LOGFILEPATH", "none".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if self.config.typha_tls {
            env.extend(typha_tls_env(["TYPHA_CAFILE", "TYPHA_SERVERCERTFILE", "TYPHA_SERVERKEYFILE"]));
            env.push(("TYPHA_CLIENTCN".to_owned(), certificates::CLIENT_NAME.to_owned()));
        }
        self.start_daemon("infra", &typha_name(instance), vec![program], env)
    }

    fn install_certificates(&self) -> Result<()> {
        let made = Certificates::make(self.infra_v4().into())?;
        for machine in &self.topology.machines {
            let identity = if machine.role == Role::Infra { &made.server } else { &made.client };
            let root = self.state.machine(&machine.name);
            certificates::install(&made.authority, identity, |file| root.outside(file))?;
        }
        Ok(())
    }

    fn wait_typha(&self, instance: usize) -> Result<()> {
        let address = (self.infra_v4(), port(TYPHA_HEALTH_PORT, instance)).into();
        self.wait_http("infra", &typha_name(instance), address, "/readiness")
    }

    fn start_node(&self, index: usize, node: &Machine) -> Result<()> {
        self.write_cni(node)?;
        let program = self.program("calico-node")?.display().to_string();
        let mut env = self.environment();
        env.extend(
            [
                ("NODENAME", node.name.as_str()),
                ("CALICO_NETWORKING_BACKEND", "bird"),
                ("CLUSTER_TYPE", "lab"),
                ("IP", "autodetect"),
                ("IP_AUTODETECTION_METHOD", "first-found"),
                ("IP6", if self.config.ipv6 { "autodetect" } else { "none" }),
                ("FELIX_IPV6SUPPORT", if self.config.ipv6 { "true" } else { "false" }),
                ("CALICO_IPV6POOL_CIDR", if self.config.ipv6 { POD_CIDR_V6 } else { "none" }),
                ("CALICO_IPV4POOL_CIDR", POD_CIDR),
                ("CALICO_IPV4POOL_IPIP", "Never"),
                ("CALICO_IPV4POOL_VXLAN", "Never"),
                ("CALICO_IPV4POOL_NAT_OUTGOING", "true"),
                ("CALICO_DISABLE_FILE_LOGGING", "true"),
                ("FELIX_NFTABLESMODE", "Enabled"),
                ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT"),
                ("FELIX_HEALTHENABLED", "true"),
                ("FELIX_LOGSEVERITYSCREEN", "info"),
                ("FELIX_LOGFILEPATH", "none"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        if self.config.typha > 0 {
            let port = port(TYPHA_PORT, index % self.config.typha);
            env.push(("FELIX_TYPHAADDR".to_owned(), format!("{}:{port}", self.infra_v4())));
            if self.config.typha_tls {
                env.extend(typha_tls_env(["FELIX_TYPHACAFILE", "FELIX_TYPHACERTFILE", "FELIX_TYPHAKEYFILE"]));
                env.push(("FELIX_TYPHACN".to_owned(), certificates::SERVER_NAME.to_owned()));
            }
        }
        env.extend(self.config.node_env.iter().cloned());
        self.start_daemon(&node.name, "calico-node", vec![program], env)
    }

    /// Puts a server on every node and on `outside`, so that a probe of them has an answer.
    fn start_servers(&self) -> Result<()> {
        let program = self.program("lab")?.display().to_string();
        for machine in self.topology.machines.iter().filter(|m| m.role != Role::Infra) {
            let argv = serve_argv(&program, &machine.name, &[HOST_SERVE_PORT]);
            self.start_daemon(&machine.name, "server", argv, Vec::new())?;
        }
        for machine in self.topology.machines.iter().filter(|m| m.role != Role::Infra) {
            let log = self.state.daemon_log(&machine.name, "server");
            self.wait_served(&Place::Machine(machine.name.clone()), HOST_SERVE_PORT, &log)?;
        }
        Ok(())
    }

    /// The processes of a kind on a machine, by the name the kernel has for them (`calico-felix`, `bird-rs`,
    /// `confd`, `calico-typha`, `calico-node`, `etcd`).
    pub fn processes(&self, machine: &str, name: &str) -> Result<Vec<Found>> {
        let ns = names::machine_netns(self.name(), machine);
        let mut found = process::find_in(std::slice::from_ref(&ns))?;
        let mut list = found.remove(&ns).unwrap_or_default();
        list.retain(|p| p.name == name);
        Ok(list)
    }

    /// Sends a signal to every process of a kind on a machine; an error when there is none. Returns who got it.
    pub fn kill_process(&self, machine: &str, name: &str, signal: Signal) -> Result<Vec<ProcessId>> {
        let found = self.processes(machine, name)?;
        if found.is_empty() {
            return Err(LabError::Timeout {
                what: format!("a process {name} on {machine} to signal"),
                seconds: 0,
                seen: "none".to_owned(),
            });
        }
        for process in &found {
            process.id.signal(signal)?;
        }
        Ok(found.into_iter().map(|p| p.id).collect())
    }

    /// Runs our calicoctl on `infra` and returns what it printed; anything but success is an error.
    pub fn calicoctl(&self, args: &[&str], input: &str) -> Result<String> {
        let program = self.program("calicoctl")?.display().to_string();
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(args.iter().copied()).collect();
        self.exec_ok(&Place::Machine("infra".to_owned()), &argv, input)
    }
}

/// The variables that name a machine's authority, certificate and key, in this order.
fn typha_tls_env(names: [&str; 3]) -> impl Iterator<Item = (String, String)> {
    let files = [certificates::AUTHORITY_FILE, certificates::CERTIFICATE_FILE, certificates::KEY_FILE];
    names.map(str::to_owned).into_iter().zip(files.map(str::to_owned))
}

/// The command line of a [`crate::serve`] process.
pub(crate) fn serve_argv(program: &str, name: &str, ports: &[u16]) -> Vec<String> {
    let mut argv = vec![program.to_owned(), "serve-internal".to_owned(), name.to_owned()];
    argv.extend(ports.iter().map(u16::to_string));
    argv
}

/// The name of a Typha instance's record and log.
pub fn typha_name(instance: usize) -> String {
    if instance == 0 { "typha".to_owned() } else { format!("typha-{}", instance + 1) }
}

/// The port of an instance: few enough by [`LabConfig::check`] that this never saturates.
fn port(first: u16, instance: usize) -> u16 {
    first.saturating_add(u16::try_from(instance).unwrap_or(u16::MAX))
}

/// The folder of the running program; for a test, which runs in `deps`, the folder above.
fn default_bin_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().doing(|| "finding the running program".to_owned())?;
    let dir = program.parent().unwrap_or(Path::new("/"));
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir }.to_owned())
}
