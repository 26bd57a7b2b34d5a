//! `create`: makes objects that do not exist yet.
//!
//! Goes on after an object that fails, as `apply` does. With `--skip-exists` what exists counts as done.

use libcalico_api::Resource;
use libcalico_datastore::{Datastore, DatastoreError, resources};

use crate::cli::{CreateArgs, Global};
use crate::command::outcome::{Outcome, Verb, label};
use crate::error::datastore_message;
use crate::resource_file::{Purpose, load};
use crate::{Result, client, rules};

const VERB: Verb = Verb { past: "created", bracketed: true, failed: "failed to create" };

/// Runs the command.
pub async fn run(args: &CreateArgs, global: &Global) -> Result<()> {
    let loaded = load(&args.input, Purpose::Write)?;
    let store = client::open(&args.config, global).await?;
    client::ensure_initialized(store.as_ref()).await?;
    let mut outcome = Outcome::of(&loaded);
    for item in loaded {
        let name = label(&item.resource);
        match create(store.as_ref(), item.resource).await {
            Ok(()) => outcome.done(name),
            Err(Refused::Exists(_)) if args.skip_exists => outcome.done(name),
            Err(Refused::Exists(e) | Refused::Other(e)) => outcome.failed_at(&item.place, e),
        }
    }
    println!("{}", outcome.finish(&VERB)?);
    Ok(())
}

enum Refused {
    Exists(String),
    Other(String),
}

async fn create(store: &dyn Datastore, resource: Resource) -> Result<(), Refused> {
    let meta = resource.metadata();
    // What exists is told as such, whatever else is wrong with a second object of its name.
    if let Ok(old) = resources::get(store, resource.kind(), &meta.namespace, &meta.name).await {
        let e = DatastoreError::AlreadyExists(resources::key_of(&old));
        return Err(Refused::Exists(datastore_message(&e)));
    }
    rules::check_write(store, &resource).await.map_err(Refused::Other)?;
    match resources::create(store, resource).await {
        Ok(_) => Ok(()),
        Err(e @ DatastoreError::AlreadyExists(_)) => Err(Refused::Exists(datastore_message(&e))),
        Err(e) => Err(Refused::Other(datastore_message(&e))),
    }
}
