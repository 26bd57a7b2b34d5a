//! `completion` and `man`: what shells and `man` know of the commands, made from the command line's own description.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::{Error, Result};

/// Prints a shell's completion script.
pub fn completion(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "calicoctl", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// Writes a page for each command into a directory.
pub fn man(dir: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::Action(format!("{}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}
