//! `apply`: makes objects what the files say, whether or not they exist.
//!
//! Goes on after an object that fails; the report names what was applied and what was not.

use libcalico_datastore::resources;

use crate::cli::{FileArgs, Global};
use crate::command::outcome::{Outcome, Verb, label};
use crate::error::datastore_message;
use crate::resource_file::{Purpose, load};
use crate::{Result, client, rules};

const VERB: Verb = Verb { past: "applied", bracketed: true, failed: "failed to apply" };

/// Runs the command.
pub async fn run(args: &FileArgs, global: &Global) -> Result<()> {
    let loaded = load(&args.input, Purpose::Write)?;
    let store = client::open(&args.config, global).await?;
    client::ensure_initialized(store.as_ref()).await?;
    let mut outcome = Outcome::of(&loaded);
    for item in loaded {
        let name = label(&item.resource);
        let result = match rules::check_write(store.as_ref(), &item.resource).await {
            Ok(()) => resources::apply(store.as_ref(), item.resource)
                .await
                .map(|_| ())
                .map_err(|e| datastore_message(&e)),
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(()) => outcome.done(name),
            Err(e) => outcome.failed_at(&item.place, e),
        }
    }
    println!("{}", outcome.finish(&VERB)?);
    Ok(())
}
