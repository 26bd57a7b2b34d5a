//! The command line of `lab`.
//!
//! What always holds: every verb that works on a lab takes `--name` right after it; a value that is offered works.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use e2e::{Dataplane, Datastore, Encap, Expect, LabConfig};

/// Calico clusters made of network namespaces on this machine: machines, pods, routes and policy, all real.
///
/// Needs root and etcd. Nothing is added to the machine's own network or files.
#[derive(Debug, Parser)]
#[command(name = "lab", version, propagate_version = false)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// Which lab.
#[derive(Clone, Debug, Args)]
pub struct LabName {
    /// The lab's name; labs of different names stand side by side
    #[arg(long, default_value = "demo")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a lab and wait until it is ready
    Up(UpArgs),
    /// Show what runs where, addresses and health; exit code 1 when something is not healthy
    Status(LabName),
    /// Make and remove pods
    Pod {
        #[command(subcommand)]
        verb: PodVerb,
    },
    /// Ask from one place to another over the real data path
    ///
    /// Without --expect the exit code tells whether the target answered.
    Probe(ProbeArgs),
    /// Run a command inside a pod (NS/NAME), a node, `infra` or `outside`; its exit code is passed on
    Exec {
        #[command(flatten)]
        lab: LabName,
        /// NS/NAME, a node such as n1, infra, outside, or fab (the router)
        place: String,
        /// The command and its arguments, after `--`
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run the quickstart's steps and print what was expected and seen
    Quickstart(LabName),
    /// Remove a lab whole, also one that did not come up
    Down(LabName),
    /// Make a lab, run the quickstart, show the cluster, remove the lab
    Demo(UpArgs),
    /// Measure policy to traffic, CNI and memory; prints the method too
    ///
    /// In the lab of that name if it stands, else in one made for it and removed again.
    Bench {
        #[command(flatten)]
        lab: UpArgs,
        /// How often each thing is measured
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// Answer TCP and UDP until killed; started by the lab itself
    #[command(hide = true)]
    ServeInternal { name: String, ports: Vec<u16> },
}

#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub lab: LabName,
    /// Machines that run calico-node: n1, n2 …
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Subnets the nodes are spread over, behind one router
    #[arg(long, default_value_t = 1)]
    pub subnets: usize,
    /// How packets travel between nodes
    #[arg(long, value_enum, default_value_t = Encap::None)]
    pub encap: Encap,
    /// What policy is programmed into
    #[arg(long, value_enum, default_value_t = Dataplane::Nftables)]
    pub dataplane: Dataplane,
    /// Where the cluster's objects are kept
    #[arg(long, value_enum, default_value_t = Datastore::Etcd)]
    pub datastore: Datastore,
    /// Typha instances; with 0 every Felix watches the datastore itself
    #[arg(long, default_value_t = 1)]
    pub typha: usize,
    /// Nodes and pods have IPv6 addresses beside their IPv4 ones
    #[arg(long)]
    pub ipv6: bool,
    /// Mutual TLS between Typha and the nodes, with certificates made for this lab
    #[arg(long)]
    pub typha_tls: bool,
    /// Folder of the built binaries [default: where this program is]
    #[arg(long)]
    pub bin_dir: Option<PathBuf>,
}

impl From<UpArgs> for LabConfig {
    fn from(args: UpArgs) -> Self {
        Self {
            nodes: args.nodes,
            subnets: args.subnets,
            encap: args.encap,
            dataplane: args.dataplane,
            datastore: args.datastore,
            typha: args.typha,
            ipv6: args.ipv6,
            typha_tls: args.typha_tls,
            bin_dir: args.bin_dir,
            ..Self::named(&args.lab.name)
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum PodVerb {
    /// Make a pod on a node and print its addresses
    Run(RunArgs),
    /// Remove a pod
    Delete {
        #[command(flatten)]
        lab: LabName,
        /// NS/NAME
        pod: String,
    },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub lab: LabName,
    /// NS/NAME
    pub pod: String,
    /// The node it runs on: n2, or just 2
    #[arg(long)]
    pub node: String,
    /// A label; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Answer at this port on TCP and UDP with the pod's name; may be given again
    #[arg(long, value_name = "PORT")]
    pub serve: Vec<u16>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    #[command(flatten)]
    pub lab: LabName,
    /// NS/NAME, a node or `outside`
    pub from: String,
    /// NS/NAME, a node, `outside` or an address; with or without :PORT
    pub to: String,
    /// Ask by UDP instead of TCP
    #[arg(long)]
    pub udp: bool,
    /// Ask by ICMP echo instead of TCP
    #[arg(long, conflicts_with = "udp")]
    pub icmp: bool,
    /// What should happen; the exit code tells whether it did
    #[arg(long, value_enum)]
    pub expect: Option<Expect>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_commands_own_options_are_not_taken_for_ours() {
        let cli = Cli::parse_from(["lab", "exec", "--name", "t1", "n1", "--", "ls", "--name", "-l"]);
        let Verb::Exec { lab, place, command } = cli.verb else { panic!("{cli:?}") };
        assert_eq!((lab.name.as_str(), place.as_str()), ("t1", "n1"));
        assert_eq!(command, ["ls", "--name", "-l"]);
    }

    #[test]
    fn a_label_without_value_sign_is_refused() {
        assert!(label("run=access").is_ok() && label("run=").is_ok());
        assert!(label("run").is_err() && label("=x").is_err());
    }
}
