//! `replace`: changes objects that exist. Stops at the first that fails.

use crate::Result;
use crate::cli::{FileArgs, Global};
use crate::command::write::{self, How};

/// Runs the command.
pub async fn run(args: &FileArgs, global: &Global) -> Result<()> {
    write::run(&args.input, &args.config, global, How::Replace).await
}
