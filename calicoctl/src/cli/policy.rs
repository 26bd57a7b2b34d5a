//! Flags of `policy`.

use clap::{Args, Subcommand, ValueEnum};

use super::{ConfigArgs, InputArgs};

/// `policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What to ask about policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether traffic passes, and which tier, policy and rule decides
    #[command(
        after_help = "FROM and TO are NAMESPACE/POD, labels:KEY=VALUE[,KEY=VALUE]@NAMESPACE for a pod that does not \
exist yet, host:HOSTENDPOINT for a host's own traffic, an address, or `outside`; TO may also be svc:NAMESPACE/SERVICE, \
which means every pod behind it. TO may have a port and a protocol: default/web:80/tcp, 10.0.0.7:53/udp, [fd00::7]:80/tcp, \
default/web:icmp. Without a port the answer names the ports for which it holds.

Examples:
  calicoctl policy explain default/client default/web:80/tcp
  calicoctl policy explain labels:app=shop@prod prod/db:5432
  calicoctl policy explain prod/shop svc:prod/db:5432
  calicoctl policy explain outside host:node-a.eth0:22
  calicoctl policy explain outside default/web -o json
  calicoctl policy explain --all-pairs -n prod --port 80/tcp

The answer is calculated as calico-felix does, from the datastore alone. Address translation other than a service's, \
policy on forwarded traffic at a host's interface, what pods may do to their own node, and established connections are \
not looked at."
    )]
    Explain(PolicyExplainArgs),
    /// Show between which pods traffic would change if files were applied
    #[command(after_help = "Examples:
  calicoctl policy diff -f new.yaml
  calicoctl policy diff -f new.yaml -o json

Nothing is written. TCP, UDP and ICMP between all pods, and from and to an outside address, are compared.")]
    Diff(PolicyDiffArgs),
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AnswerFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `policy explain`
#[derive(Clone, Debug, Args)]
pub struct PolicyExplainArgs {
    /// Where the traffic comes from
    #[arg(required_unless_present = "all_pairs", conflicts_with = "all_pairs")]
    pub from: Option<String>,
    /// Where it goes to
    #[arg(required_unless_present = "all_pairs", conflicts_with = "all_pairs")]
    pub to: Option<String>,
    /// A matrix of all pods instead
    #[arg(long)]
    pub all_pairs: bool,
    /// Port and protocol of the matrix: 80/tcp, tcp, udp, icmp
    #[arg(long, value_name = "PORT/PROTOCOL", requires = "all_pairs", default_value = "tcp")]
    pub port: String,
    /// Only pods of this namespace in the matrix
    #[arg(short, long, requires = "all_pairs")]
    pub namespace: Option<String>,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: AnswerFormat,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `policy diff`
#[derive(Clone, Debug, Args)]
pub struct PolicyDiffArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: AnswerFormat,
    #[command(flatten)]
    pub config: ConfigArgs,
}
