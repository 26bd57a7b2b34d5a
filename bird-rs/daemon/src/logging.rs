//! The log: lines on standard error, or in a file.

use std::path::Path;

use anyhow::{Context, Result};
use bird_core::config::LogTarget;
use tracing_subscriber::EnvFilter;

use crate::cli::Args;

/// Sets the log up: `BIRD_LOG` (a tracing filter) wins over `-d`; the default is info. It goes to the file of `-D`,
/// else with `-d` to standard error, else to the first file that the configuration names in `log`, else (as with
/// `log stderr` and `log syslog`, which a supervisor collects) to standard error.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn init(args: &Args, targets: &[LogTarget]) -> Result<()> {
    let debug = args.debug || args.debug_file.is_some();
    let configured = targets.iter().find_map(|t| match t {
        LogTarget::File(name) if !debug => Some(Path::new(name)),
        _ => None,
    });
    let file = args.debug_file.as_deref().or(configured);
    let default = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("BIRD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match file {
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open log file {}", path.display()))?;
            builder.with_ansi(false).with_writer(file).init();
        }
        None => builder.with_ansi(false).with_writer(std::io::stderr).init(),
    }
    Ok(())
}
