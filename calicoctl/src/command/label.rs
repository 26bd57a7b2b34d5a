//! `label`: adds, changes or removes one label of one object.

use libcalico_datastore::{DatastoreError, resources};

use crate::cli::{Global, LabelArgs};
use crate::error::datastore_message;
use crate::{Error, Result, client, kinds};

/// Times that the change is tried again after someone else's.
const ATTEMPTS: usize = 5;

/// Runs the command.
pub async fn run(args: &LabelArgs, global: &Global) -> Result<()> {
    let kind = kinds::find(&args.kind)?;
    let (key, value) = match args.label.split_once('=') {
        Some((key, value)) if !args.remove => (key, value),
        None if args.remove => (args.label.as_str(), ""),
        Some(_) => return Err(Error::Usage("with --remove give the label's KEY alone".to_owned())),
        None => return Err(Error::Usage("give the label as KEY=VALUE".to_owned())),
    };
    let subject = format!("{} {}", args.kind, args.name);
    let failed = |reason: String| Error::Action(format!("failed to label {subject}: {reason}"));
    let store = client::open(&args.config, global).await?;
    let namespace = if kind.namespaced() { args.namespace.as_str() } else { "" };
    for attempt in 1.. {
        let mut resource = resources::get(store.as_ref(), kind, namespace, &args.name)
            .await
            .map_err(|e| failed(datastore_message(&e)))?;
        let labels = &mut resource.metadata_mut().labels;
        let done = if args.remove {
            labels.remove(key).ok_or_else(|| failed(format!("there is no label {key}")))?;
            "removed"
        } else {
            match labels.insert(key.to_owned(), value.to_owned()) {
                None => "set",
                Some(_) if args.overwrite => "updated",
                Some(old) => {
                    let hint = "use --overwrite to change it";
                    return Err(failed(format!("label {key} is present with value {old:?}; {hint}")));
                }
            }
        };
        match resources::replace(store.as_ref(), resource).await {
            Err(DatastoreError::Conflict(_)) if attempt < ATTEMPTS => {}
            Err(e) => return Err(failed(datastore_message(&e))),
            Ok(_) => {
                let preposition = if args.remove { "from" } else { "on" };
                println!("Successfully {done} label {key} {preposition} {subject}");
                break;
            }
        }
    }
    Ok(())
}
