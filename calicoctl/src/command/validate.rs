//! `validate`: reads files as `apply` would and writes nothing.

use crate::Result;
use crate::cli::FileArgs;
use crate::command::outcome::{Outcome, Verb};
use crate::resource_file::{Purpose, load};

const VERB: Verb = Verb { past: "validated", bracketed: true, failed: "failed to validate" };

/// Runs the command.
pub fn run(args: &FileArgs) -> Result<()> {
    let loaded = load(&args.input, Purpose::Write)?;
    let mut outcome = Outcome::of(&loaded);
    for item in loaded {
        outcome.done(item.item.label());
    }
    println!("{}", outcome.finish(&VERB)?);
    Ok(())
}
