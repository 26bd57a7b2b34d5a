//! bird-rs: reads the command line and runs the daemon.

use anyhow::{Context, Result};
use bird_rs::cli::{Args, Command};
use clap::Parser;

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Command::Replay { file }) = &args.command {
        return bird_rs::replay(file, &mut std::io::stdout().lock())
            .with_context(|| format!("cannot replay {}", file.display()));
    }
    if args.parse_only {
        if let Err(error) = bird_rs::check(&args.config) {
            eprintln!("bird: {error}");
            std::process::exit(1);
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bird_rs::run(&args))
}
