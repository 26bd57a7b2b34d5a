//! `calicoctl`: reads and writes Calico's objects, shows what IPAM and BGP do.
//!
//! The thin shell around [`calicoctl`], the library: it parses the command line and turns an error into a message and
//! exit code 1.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    let cli = parse();
    calicoctl::start_logging(&cli.global.log_level);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Messages carry their causes.
            eprintln!("Error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line. As `kubectl-calico`, found by kubectl, it calls itself `kubectl calico`.
fn parse() -> calicoctl::cli::Cli {
    let mut command = calicoctl::cli::Cli::command();
    let called = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|n| n.to_string_lossy().starts_with("kubectl-calico")) {
        command = command.bin_name("kubectl calico");
    }
    let matches = command.get_matches();
    calicoctl::cli::Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit())
}

fn run(cli: calicoctl::cli::Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(calicoctl::run(cli))?)
}
