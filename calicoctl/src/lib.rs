//! The command `calicoctl`, with upstream's verbs, flags, tables, messages and exit codes.
//!
//! In come a command line, files and a datastore, out go tables or documents on standard output and errors on standard
//! error.
//!
//! ```text
//! cli ──▶ command/<verb> ──▶ client (configuration, version check) ──▶ libcalico-datastore, libcalico-ipam
//!             │  ▲
//!             │  └── resource_file (files → documents → checked objects)
//!             ▼
//!          output (tables, YAML, JSON, columns)
//! ```
//!
//! What is left out: the objects' rules and defaults (`libcalico-api`), how they are stored (`libcalico-datastore`).

pub mod bird;
pub mod cli;
pub mod client;
pub mod command;
pub mod error;
pub mod foreign;
pub mod kinds;
pub mod output;
pub mod policy;
pub mod resource_file;
pub mod rules;
pub mod v1;

use cli::{Cli, Command};
pub use error::Error;
use tracing_subscriber::filter::LevelFilter;

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs one command.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Apply(args) => command::apply::run(&args, &cli.global).await,
        Command::Create(args) => command::create::run(&args, &cli.global).await,
        Command::Replace(args) => command::replace::run(&args, &cli.global).await,
        Command::Delete(args) => command::delete::run(&args, &cli.global).await,
        Command::Get(args) => command::get::run(&args, &cli.global).await,
        Command::Patch(args) => command::patch::run(&args, &cli.global).await,
        Command::Label(args) => command::label::run(&args, &cli.global).await,
        Command::Convert(args) => command::convert::run(&args),
        Command::Validate(args) => command::validate::run(&args),
        Command::Ipam(args) => match args.command {
            cli::IpamCommand::Check(args) => command::ipam_check::run(&args, &cli.global).await,
            cli::IpamCommand::Configure(args) => command::ipam_configure::run(&args, &cli.global).await,
            cli::IpamCommand::Release(args) => command::ipam_release::run(&args, &cli.global).await,
            cli::IpamCommand::Show(args) => command::ipam_show::run(&args, &cli.global).await,
            cli::IpamCommand::Split(args) => command::ipam_split::run(&args, &cli.global).await,
        },
        Command::Policy(args) => match args.command {
            cli::PolicyCommand::Explain(args) => command::policy_explain::run(&args, &cli.global).await,
            cli::PolicyCommand::Diff(args) => command::policy_diff::run(&args, &cli.global).await,
        },
        Command::Datastore(args) => match args.command {
            cli::DatastoreCommand::Migrate(args) => {
                command::datastore_migrate::run(args.command, &cli.global).await
            }
            cli::DatastoreCommand::MigratePolicyNames(config) => {
                command::policy_names::run(&config, &cli.global).await
            }
        },
        Command::Node(args) => match args.command {
            cli::NodeCommand::Checksystem(args) => command::node_checksystem::run(&args),
            cli::NodeCommand::Diags(args) => command::node_diags::run(&args),
            cli::NodeCommand::Run(args) => command::node_run::run(&args, &cli.global),
            cli::NodeCommand::Status(args) => command::node_status::run(&args),
        },
        Command::Cluster(args) => {
            let cli::ClusterCommand::Diags(args) = args.command;
            command::cluster_diags::run(&args, &cli.global).await
        }
        Command::Version(args) => command::version::run(&args, &cli.global).await,
        Command::Completion { shell } => command::manual::completion(shell),
        Command::Man { dir } => command::manual::man(&dir),
    }
}

/// Logs go to standard error, from the level that was asked for. `panic` and `fatal`, the usual, are silent.
pub fn start_logging(level: &str) {
    let filter = match level.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::OFF,
    };
    tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).init();
}
