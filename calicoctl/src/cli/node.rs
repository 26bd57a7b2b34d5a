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
    /// Collect the cluster's objects into an archive in the current directory
    #[command(after_help = "Examples:
  calicoctl cluster diags

Collected: every resource, IPAM's state and its check. Pods' logs and the nodes' own state are not: run `calicoctl \
node diags` on a node.")]
    Diags(ClusterDiagsArgs),
}

/// `cluster diags`
#[derive(Clone, Debug, Args)]
pub struct ClusterDiagsArgs {
    /// Nodes whose pods' logs come first; of pods, which this build does not collect
    #[arg(long, value_name = "NODES")]
    pub focus_nodes: Option<String>,
    /// Most logs of a kind of pod; of pods, which this build does not collect
    #[arg(long, value_name = "NUMBER")]
    pub max_logs: Option<u32>,
    /// Most collections at once; of pods, which this build does not collect
    #[arg(long, value_name = "NUMBER")]
    pub max_parallelism: Option<u32>,
    /// Age of the oldest logs; of pods, which this build does not collect
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Leave the collected files beside the archive
    #[arg(long)]
    pub skip_temp_dir_cleanup: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}
