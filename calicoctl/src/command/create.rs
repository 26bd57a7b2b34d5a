//! `create`: makes objects that do not exist yet. With `--skip-exists` what exists counts as done.

use crate::Result;
use crate::cli::{CreateArgs, Global};
use crate::command::write::{self, How};

/// Runs the command.
pub async fn run(args: &CreateArgs, global: &Global) -> Result<()> {
    write::run(&args.input, &args.config, global, How::Create { skip_exists: args.skip_exists }).await
}
