//! Flags of `node` and `cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// `node`
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What to do with this node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Check that the kernel has what Calico needs
    #[command(after_help = "Examples:
  calicoctl node checksystem
  calicoctl node checksystem --kernel-config=/boot/config-6.1.0")]
    Checksystem(ChecksystemArgs),
    /// Collect the node's state and logs into an archive
    #[command(after_help = "Examples:
  sudo calicoctl node diags
  sudo calicoctl node diags --log-dir=/var/log/calico")]
    Diags(NodeDiagsArgs),
    /// Start calico-node on this host: as a container, or as a program where there is no container runtime
    #[command(after_help = "Examples:
  sudo calicoctl node run --node-image=calico/node:latest
  sudo calicoctl node run --ip=autodetect --ip-autodetection-method=interface=eth.*
  calicoctl node run --dryrun --init-system

The datastore must be etcd; on Kubernetes a DaemonSet runs calico-node. docker, podman or nerdctl is used, whichever is \
found first; without any of them the program calico-node, from beside calicoctl or from the PATH.")]
    Run(Box<NodeRunArgs>),
    /// Show the node's BGP sessions
    #[command(after_help = "Examples:
  calicoctl node status")]
    Status(NodeStatusArgs),
}

/// `node checksystem`
#[derive(Clone, Debug, Args)]
pub struct ChecksystemArgs {
    /// The kernel's configuration, where it is not in the usual place
    #[arg(short = 'f', long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,
}

/// `node diags`
#[derive(Clone, Debug, Args)]
pub struct NodeDiagsArgs {
    /// Where the logs are
    #[arg(long, value_name = "DIR", default_value = "/var/log/calico")]
    pub log_dir: PathBuf,
    /// Control socket of the BGP daemon
    #[arg(long, hide = true, env = "CALICO_BIRD_SOCKET", default_value = "/var/run/calico/bird.ctl")]
    pub bird_socket: PathBuf,
}

/// `node run`
#[derive(Clone, Debug, Args)]
pub struct NodeRunArgs {
    /// The node's name; the host's unless given
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// AS number of the node; the cluster's unless given
    #[arg(long = "as", value_name = "AS_NUM", default_value = "", hide_default_value = true)]
    pub as_number: String,
    /// IPv4 address for BGP, or autodetect
    #[arg(long, default_value = "", hide_default_value = true)]
    pub ip: String,
    /// IPv6 address for BGP, or autodetect
    #[arg(long, default_value = "", hide_default_value = true)]
    pub ip6: String,
    /// How the IPv4 address is found: first-found, can-reach=DESTINATION, interface=REGEX[,REGEX...],
    /// skip-interface=REGEX[,REGEX...]
    #[arg(long, value_name = "METHOD", default_value = "first-found")]
    pub ip_autodetection_method: String,
    /// How the IPv6 address is found
    #[arg(long, value_name = "METHOD", default_value = "first-found")]
    pub ip6_autodetection_method: String,
    /// Where the logs go
    #[arg(long, value_name = "DIR", default_value = "/var/log/calico")]
    pub log_dir: PathBuf,
    /// The container's image
    #[arg(long, value_name = "IMAGE", default_value = "calico/node:latest")]
    pub node_image: String,
    /// Who routes between nodes: bird or none
    #[arg(long, default_value = "bird")]
    pub backend: String,
    /// Felix's configuration file, mounted into the container
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub felix_config: String,
    /// Print what would be run, and run nothing
    #[arg(long)]
    pub dryrun: bool,
    /// Run in the foreground, for a service manager that restarts it
    #[arg(long)]
    pub init_system: bool,
    /// Make no pools
    #[arg(long)]
    pub no_default_ippools: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `node status`
#[derive(Clone, Debug, Args)]
pub struct NodeStatusArgs {
    /// Control socket of the BGP daemon
    #[arg(long, hide = true, env = "CALICO_BIRD_SOCKET", default_value = "/var/run/calico/bird.ctl")]
    pub bird_socket: PathBuf,
    /// Control socket of a second daemon for IPv6, where there is one
    #[arg(long, hide = true, env = "CALICO_BIRD6_SOCKET", default_value = "/var/run/calico/bird6.ctl")]
    pub bird6_socket: PathBuf,
}

/// `cluster`
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    pub command: ClusterCommand,
}

/// What to do with the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Collect the cluster's objects and Calico's logs into an archive in the current directory
    #[command(after_help = "Examples:
  calicoctl cluster diags
  calicoctl cluster diags --since=1h --focus-nodes=node-a,node-b

Collected: every Calico resource, IPAM's state, and on Kubernetes its nodes, pods, services and policies and the logs of \
Calico's pods. Secrets are not. The nodes' own state is not either: run `calicoctl node diags` on a node.")]
    Diags(ClusterDiagsArgs),
}

/// `cluster diags`
#[derive(Clone, Debug, Args)]
pub struct ClusterDiagsArgs {
    /// Nodes whose pods' logs come first, joined by commas
    #[arg(long, value_name = "NODES")]
    pub focus_nodes: Option<String>,
    /// Most pods of a DaemonSet or Deployment whose logs are collected
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub max_logs: usize,
    /// Most logs that are read at once
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub max_parallelism: usize,
    /// Age of the oldest lines: 5s, 2m or 3h; all unless given
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Leave the collected files beside the archive
    #[arg(long)]
    pub skip_temp_dir_cleanup: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}
