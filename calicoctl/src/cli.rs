//! The command line: upstream's commands and flags, with an example each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod datastore;
mod ipam;
mod node;
mod policy;

pub use datastore::{DatastoreArgs, DatastoreCommand, MigrateArgs, MigrateCommand, MigrateImportArgs};
pub use ipam::{
    IpamArgs, IpamCheckArgs, IpamCommand, IpamConfigureArgs, IpamReleaseArgs, IpamShowArgs, IpamSplitArgs,
};
pub use node::{
    ChecksystemArgs, ClusterArgs, ClusterCommand, ClusterDiagsArgs, NodeArgs, NodeCommand, NodeDiagsArgs,
    NodeRunArgs, NodeStatusArgs,
};
pub use policy::{AnswerFormat, PolicyArgs, PolicyCommand, PolicyDiffArgs, PolicyExplainArgs};

/// The configuration file that is read where it exists and no other is named.
pub const DEFAULT_CONFIG: &str = libcalico_datastore::config::DEFAULT_CONFIG_FILE;

/// The calicoctl command line tool is used to manage Calico network and security policy, to view and manage endpoint
/// configuration, and to manage a Calico node instance.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", version, disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Logs on standard error: panic, fatal, error, warn, info or debug
    #[arg(short = 'l', long, global = true, default_value = "panic")]
    pub log_level: String,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true, value_name = "CONTEXT", default_value = "", hide_default_value = true)]
    pub context: String,
    /// Go on where the cluster's version is another than this command's
    #[arg(long, global = true)]
    pub allow_version_mismatch: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or update resources, by file name, directory or standard input
    #[command(after_help = EXAMPLE_APPLY)]
    Apply(FileArgs),
    /// Create resources that do not exist, by file name, directory or standard input
    #[command(after_help = EXAMPLE_CREATE)]
    Create(CreateArgs),
    /// Replace existing resources, by file name, directory or standard input
    #[command(after_help = EXAMPLE_REPLACE)]
    Replace(FileArgs),
    /// Delete resources, by kind and name, file name, directory or standard input
    #[command(after_help = EXAMPLE_DELETE)]
    Delete(DeleteArgs),
    /// Show resources, as a table or as documents
    #[command(after_help = EXAMPLE_GET)]
    Get(GetArgs),
    /// Change fields of a resource
    #[command(after_help = EXAMPLE_PATCH)]
    Patch(PatchArgs),
    /// Add, change or remove a label of a resource
    #[command(after_help = EXAMPLE_LABEL)]
    Label(LabelArgs),
    /// Check resources in files without a datastore
    #[command(after_help = EXAMPLE_VALIDATE)]
    Validate(FileArgs),
    /// Print files as they would be stored: manifests of Calico's API v1 as v3, Kubernetes' policies in Calico's form
    #[command(after_help = EXAMPLE_CONVERT)]
    Convert(ConvertArgs),
    /// IP address management
    Ipam(IpamArgs),
    /// Who may talk to whom, and which policy says so
    Policy(PolicyArgs),
    /// The datastore as a whole
    Datastore(DatastoreArgs),
    /// The node that this command runs on
    Node(NodeArgs),
    /// The whole cluster
    Cluster(ClusterArgs),
    /// Show versions
    #[command(after_help = EXAMPLE_VERSION)]
    Version(VersionArgs),
    /// Print a shell's completion script
    #[command(after_help = "Examples:
  calicoctl completion bash > /etc/bash_completion.d/calicoctl
  calicoctl completion zsh > ~/.zfunc/_calicoctl
  calicoctl completion fish > ~/.config/fish/completions/calicoctl.fish")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each command
    #[command(
        hide = true,
        after_help = "Examples:
  calicoctl man /usr/local/share/man/man1"
    )]
    Man {
        /// Where to
        dir: PathBuf,
    },
}

const EXAMPLE_APPLY: &str = "Examples:
  calicoctl apply -f policy.yaml
  calicoctl apply -R -f policies/
  cat policy.yaml | calicoctl apply -f -

Besides the kinds of projectcalico.org/v3, files may hold NetworkPolicies and ClusterNetworkPolicies of Kubernetes and the \
operator's Installation. On the Kubernetes datastore they are written as they are. On etcd a NetworkPolicy becomes \
Calico's knp.default.NAME, an Installation its IPPools and MTU, and a ClusterNetworkPolicy is refused.";
const EXAMPLE_CREATE: &str = "Examples:
  calicoctl create -f pool.yaml
  calicoctl create --skip-exists -f defaults/";
const EXAMPLE_REPLACE: &str = "Examples:
  calicoctl replace -f policy.yaml";
const EXAMPLE_DELETE: &str = "Examples:
  calicoctl delete ippool old-pool
  calicoctl delete networkpolicy allow-web -n production
  calicoctl delete -f policy.yaml";
const EXAMPLE_GET: &str = "Examples:
  calicoctl get nodes -o wide
  calicoctl get networkpolicy -A
  calicoctl get ippool pool-v4 -o yaml
  calicoctl get ippool -o custom-columns=NAME,CIDR";
const EXAMPLE_PATCH: &str = "Examples:
  calicoctl patch node node-a --patch '{\"spec\":{\"bgp\":{\"routeReflectorClusterID\":\"1.0.0.1\"}}}'
  calicoctl patch ippool pool-v4 -t json -p '[{\"op\":\"add\",\"path\":\"/spec/disabled\",\"value\":true}]'";
const EXAMPLE_LABEL: &str = "Examples:
  calicoctl label nodes node-a rack=r1
  calicoctl label nodes node-a rack=r2 --overwrite
  calicoctl label nodes node-a rack --remove";
const EXAMPLE_VALIDATE: &str = "Examples:
  calicoctl validate -f policy.yaml";
const EXAMPLE_CONVERT: &str = "Examples:
  calicoctl convert -f kubernetes-policy.yaml
  calicoctl convert -f kubernetes-policy.yaml -o json
  calicoctl convert -f calico-v1-manifests/ > v3.yaml";
const EXAMPLE_VERSION: &str = "Examples:
  calicoctl version
  calicoctl version --client";

/// Where the configuration of the datastore's client is.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Path to the file with connection configuration
    #[arg(short, long, value_name = "PATH", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Where resources are read from.
#[derive(Clone, Debug, Args)]
pub struct InputArgs {
    /// File or directory to read; `-` is standard input
    #[arg(short, long = "filename", value_name = "PATH")]
    pub filename: Option<PathBuf>,
    /// Read subdirectories too
    #[arg(short = 'R', long, requires = "filename")]
    pub recursive: bool,
    /// A file or directory without resources is no error
    #[arg(long, requires = "filename")]
    pub skip_empty: bool,
    /// Namespace of resources that name none
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub namespace: String,
}

/// `apply`, `replace`, `validate`
#[derive(Clone, Debug, Args)]
pub struct FileArgs {
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `convert`
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// yaml or json
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml", value_parser = ["yaml", "json"])]
    pub output: String,
}

/// `create`
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Leave resources alone that exist
    #[arg(long)]
    pub skip_exists: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `delete`
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// Kind of the resources
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub kind: Option<String>,
    /// Names of the resources
    #[arg(conflicts_with = "filename")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub input: InputArgs,
    /// A resource that does not exist is no error
    #[arg(short, long)]
    pub skip_not_exists: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `get`
#[derive(Clone, Debug, Args)]
pub struct GetArgs {
    /// Kind of the resources; several are joined by commas
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub kind: Option<String>,
    /// Names of the resources; all where none is given
    #[arg(conflicts_with = "filename")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub input: InputArgs,
    /// Resources of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// ps, wide, yaml, json, name, custom-columns=COLUMN[,COLUMN...], go-template=TEMPLATE, go-template-file=FILE or
    /// jsonpath=PATH
    #[arg(short, long, value_name = "FORMAT", default_value = "ps")]
    pub output: String,
    /// Leave out what belongs to this cluster alone: uid, resourceVersion, creationTimestamp
    #[arg(long)]
    pub export: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchType {
    /// Fields are set, objects merged, lists replaced, null removes
    Strategic,
    /// The same (RFC 7386)
    Merge,
    /// A list of operations (RFC 6902)
    Json,
}

/// `patch`
#[derive(Clone, Debug, Args)]
pub struct PatchArgs {
    /// Kind of the resource
    pub kind: String,
    /// Name of the resource
    pub name: String,
    /// The patch, JSON or YAML
    #[arg(short, long)]
    pub patch: String,
    /// How the patch is written
    #[arg(short = 't', long = "type", value_enum, default_value = "strategic")]
    pub patch_type: PatchType,
    /// Namespace of the resource
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `label`
#[derive(Clone, Debug, Args)]
pub struct LabelArgs {
    /// Kind of the resource
    pub kind: String,
    /// Name of the resource
    pub name: String,
    /// KEY=VALUE, or KEY with --remove
    pub label: String,
    /// Change the label where it exists
    #[arg(long, conflicts_with = "remove")]
    pub overwrite: bool,
    /// Remove the label
    #[arg(long)]
    pub remove: bool,
    /// Namespace of the resource
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `version`
#[derive(Clone, Debug, Args)]
pub struct VersionArgs {
    /// This command's version alone, without asking the datastore
    #[arg(long)]
    pub client: bool,
    /// Show the cluster's version again after each interval, such as 10s
    #[arg(long, value_name = "INTERVAL")]
    pub poll: Option<String>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
