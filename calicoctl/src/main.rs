//! `calicoctl`: reads and writes Calico's objects, shows what IPAM and BGP do.
//!
//! The thin shell around [`calicoctl`], the library: it parses the command line and turns an error into a message and
//! exit code 1.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = calicoctl::cli::Cli::parse();
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

fn run(cli: calicoctl::cli::Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(calicoctl::run(cli))?)
}
