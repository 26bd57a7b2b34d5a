//! The log: lines on standard error, or in a file.

use std::path::Path;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// Sets the log up: `BIRD_LOG` (a tracing filter) wins over `-d`; the default is info.
///
/// # Errors
/// When the file cannot be opened.
pub fn init(debug: bool, file: Option<&Path>) -> Result<()> {
    let default = if debug || file.is_some() { "debug" } else { "info" };
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
