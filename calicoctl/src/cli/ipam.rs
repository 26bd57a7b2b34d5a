//! Flags of `ipam`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// `ipam`
#[derive(Debug, Args)]
pub struct IpamArgs {
    #[command(subcommand)]
    pub command: IpamCommand,
}

/// What to do with IPAM.
#[derive(Debug, Subcommand)]
pub enum IpamCommand {
    /// Compare IPAM's records with each other and with what uses addresses
    #[command(after_help = "Examples:
  calicoctl ipam check --show-problem-ips
  calicoctl datastore migrate lock
  calicoctl ipam check -o report.json
  calicoctl ipam release --from-report=report.json")]
    Check(IpamCheckArgs),
    /// Change IPAM's settings
    #[command(after_help = "Examples:
  calicoctl ipam configure --strictaffinity=true
  calicoctl ipam configure --strictaffinity=true --max-blocks-per-host=4")]
    Configure(IpamConfigureArgs),
    /// Free one address, or all that reports call leaked
    #[command(after_help = "Examples:
  calicoctl ipam release --ip=10.65.174.129
  calicoctl ipam release --from-report=hour-ago.json --from-report=now.json")]
    Release(IpamReleaseArgs),
    /// Show how full pools are, or who has an address
    #[command(after_help = "Examples:
  calicoctl ipam show
  calicoctl ipam show --show-blocks
  calicoctl ipam show --ip=10.65.174.129")]
    Show(IpamShowArgs),
    /// Split a pool into smaller ones of equal size
    #[command(after_help = "Examples:
  calicoctl datastore migrate lock
  calicoctl ipam split 4 --cidr=10.65.0.0/16
  calicoctl datastore migrate unlock")]
    Split(IpamSplitArgs),
}

/// `ipam check`
#[derive(Clone, Debug, Args)]
pub struct IpamCheckArgs {
    /// Print every address that is checked
    #[arg(long)]
    pub show_all_ips: bool,
    /// Print what is wrong, one problem a line
    #[arg(long)]
    pub show_problem_ips: bool,
    /// Write a report that `ipam release --from-report` takes
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Kubeconfig of the cluster whose pods are compared too; without, WorkloadEndpoints and Nodes are
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `ipam configure`
#[derive(Clone, Debug, Args)]
pub struct IpamConfigureArgs {
    /// true: nodes take addresses from their own blocks alone
    #[arg(long, value_name = "BOOL")]
    pub strictaffinity: Option<String>,
    /// Most blocks that a node may have; needs strict affinity
    #[arg(long, value_name = "NUMBER")]
    pub max_blocks_per_host: Option<String>,
    /// Enabled: KubeVirt machines keep their addresses
    #[arg(long, value_name = "Enabled|Disabled")]
    pub kubevirt_ip_persistence: Option<String>,
    /// Seconds for which a released address is not given out again; a negative number changes nothing
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_negative_numbers = true)]
    pub ip_cooldown_seconds: i64,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `ipam release`
#[derive(Clone, Debug, Args)]
pub struct IpamReleaseArgs {
    /// The address to free, whoever has it
    #[arg(long, value_name = "IP", required_unless_present = "from_report", conflicts_with = "from_report")]
    pub ip: Option<String>,
    /// Free what this report calls leaked; of several reports, what all of them do
    #[arg(long, value_name = "FILE")]
    pub from_report: Vec<PathBuf>,
    /// Go on where the datastore is not locked, or the report is another version's
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `ipam show`
#[derive(Clone, Debug, Args)]
pub struct IpamShowArgs {
    /// Show who has this address
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// Show the blocks of each pool
    #[arg(long)]
    pub show_blocks: bool,
    /// Show addresses that nodes use from others' blocks
    #[arg(long)]
    pub show_borrowed: bool,
    /// Show the settings
    #[arg(long)]
    pub show_configuration: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `ipam split`
#[derive(Clone, Debug, Args)]
pub struct IpamSplitArgs {
    /// How many pools to make: a power of two
    pub number: String,
    /// The pool's network
    #[arg(long, value_name = "CIDR", required_unless_present = "name")]
    pub cidr: Option<String>,
    /// The pool's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub config: ConfigArgs,
}
