//! `patch`: changes fields of one object.
//!
//! `strategic` is what upstream has for its kinds: none of their lists has a merge key, so lists are replaced and it
//! is the same as `merge`. The patched object is read strictly and checked like one from a file.

use libcalico_api::Resource;
use libcalico_datastore::resources;
use serde_json::Value;

use crate::cli::{Global, PatchArgs, PatchType};
use crate::error::datastore_message;
use crate::resource_file::parse_value;
use crate::{Error, Result, client, kinds, rules};

/// Runs the command.
pub async fn run(args: &PatchArgs, global: &Global) -> Result<()> {
    let kind = kinds::find(&args.kind)?;
    let failed = |reason: String| Error::Action(format!("failed to patch '{kind}' resource: [{reason}]"));
    let patch =
        parse_value(&args.patch).map_err(|e| failed(format!("the patch is not JSON or YAML: {e}")))?;
    let store = client::open(&args.config, global).await?;
    let namespace = if kind.namespaced() { args.namespace.as_str() } else { "" };
    let stored = resources::get(store.as_ref(), kind, namespace, &args.name).await;
    let stored = stored.map_err(|e| failed(datastore_message(&e)))?;
    let mut value = serde_json::to_value(&stored).map_err(|e| failed(e.to_string()))?;
    apply(&mut value, &patch, args.patch_type).map_err(failed)?;
    let patched = Resource::from_value_strict(kind, &value)
        .map_err(|found| failed(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    rules::check_write(store.as_ref(), &patched).await.map_err(failed)?;
    // The revision that was read is compared: a change in between is not lost.
    resources::replace(store.as_ref(), patched).await.map_err(|e| failed(datastore_message(&e)))?;
    println!("Successfully patched 1 '{kind}' resource");
    Ok(())
}

fn apply(value: &mut Value, patch: &Value, patch_type: PatchType) -> Result<(), String> {
    match patch_type {
        PatchType::Strategic | PatchType::Merge => {
            if !patch.is_object() {
                return Err("the patch is not an object".to_owned());
            }
            json_patch::merge(value, patch);
            Ok(())
        }
        PatchType::Json => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|e| format!("the patch is not a list of operations: {e}"))?;
            json_patch::patch(value, &operations).map_err(|e| e.to_string())
        }
    }
}
