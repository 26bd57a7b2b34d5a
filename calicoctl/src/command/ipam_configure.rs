//! `ipam configure`: changes IPAM's settings, all that were given at once or none.

use std::sync::Arc;

use libcalico_api::common::EnabledDisabled;
use libcalico_datastore::{Datastore, DatastoreError};
use libcalico_model::ipam::IpamConfig;
use libcalico_model::{Key, KeyValue, Value};

use crate::cli::{Global, IpamConfigureArgs};
use crate::{Error, Result, client};

/// Times that the change is tried again where somebody else changed the settings.
const ATTEMPTS: usize = 5;

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changes {
    strict_affinity: Option<bool>,
    max_blocks_per_host: Option<u32>,
    persistence: Option<EnabledDisabled>,
    cooldown_seconds: Option<u32>,
}

/// Runs the command.
pub async fn run(args: &IpamConfigureArgs, global: &Global) -> Result<()> {
    let changes = read(args)?;
    let store = client::open(&args.config, global).await?;
    for attempt in 1.. {
        match write(&store, changes).await {
            Err(Error::Datastore(DatastoreError::Conflict(_) | DatastoreError::AlreadyExists(_)))
                if attempt < ATTEMPTS => {}
            done => {
                done?;
                break;
            }
        }
    }
    for line in told(changes) {
        println!("Successfully set {line}");
    }
    Ok(())
}

fn read(args: &IpamConfigureArgs) -> Result<Changes> {
    let usage = |text: &str| Error::Usage(text.to_owned());
    let boolean = |text: &String| match text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(usage("invalid value. Use true or false to set strictaffinity")),
    };
    let persistence = |text: &String| match text.as_str() {
        "Enabled" => Ok(EnabledDisabled::Enabled),
        "Disabled" => Ok(EnabledDisabled::Disabled),
        _ => Err(usage("invalid value for --kubevirt-ip-persistence. Use Enabled or Disabled")),
    };
    let number = |text: &String| {
        text.parse::<u32>().map_err(|_| usage("invalid value for --max-blocks-per-host. Use a valid number"))
    };
    let cooldown = (args.ip_cooldown_seconds >= 0).then(|| u32::try_from(args.ip_cooldown_seconds));
    let changes = Changes {
        strict_affinity: args.strictaffinity.as_ref().map(boolean).transpose()?,
        max_blocks_per_host: args.max_blocks_per_host.as_ref().map(number).transpose()?,
        persistence: args.kubevirt_ip_persistence.as_ref().map(persistence).transpose()?,
        cooldown_seconds: cooldown.transpose().map_err(|_| usage("--ip-cooldown-seconds is too large"))?,
    };
    if changes == Changes::default() {
        return Err(usage("at least one configuration option must be specified"));
    }
    Ok(changes)
}

fn told(c: Changes) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(c.strict_affinity.map(|v| format!("StrictAffinity to: {v}")));
    lines.extend(c.max_blocks_per_host.map(|v| format!("MaxBlocksPerHost to: {v}")));
    lines.extend(c.persistence.map(|v| format!("KubeVirtVMAddressPersistence to: {v:?}")));
    lines.extend(c.cooldown_seconds.map(|v| format!("IPCooldownSeconds to: {v}")));
    lines
}

async fn write(store: &Arc<dyn Datastore>, changes: Changes) -> Result<()> {
    let stored = match store.get(&Key::IpamConfig).await {
        Ok(kv) => Some(kv),
        Err(DatastoreError::NotFound(_)) => None,
        Err(e) => return Err(e.into()),
    };
    let old = stored.as_ref().and_then(|kv| match &kv.value {
        Value::IpamConfig(c) => Some(c.clone()),
        _ => None,
    });
    let next = changed(old.unwrap_or_default(), changes)?;
    match stored {
        Some(kv) => store.update(KeyValue { value: Value::IpamConfig(next), ..kv }).await?,
        None => store.create(&Key::IpamConfig, Value::IpamConfig(next)).await?,
    };
    Ok(())
}

/// The settings with the changes, or why they do not go together.
fn changed(mut c: IpamConfig, changes: Changes) -> Result<IpamConfig> {
    c.strict_affinity = changes.strict_affinity.unwrap_or(c.strict_affinity);
    c.max_blocks_per_host = changes.max_blocks_per_host.unwrap_or(c.max_blocks_per_host);
    c.kube_virt_vm_address_persistence = changes.persistence.or(c.kube_virt_vm_address_persistence);
    c.ip_cooldown_seconds = changes.cooldown_seconds.or(c.ip_cooldown_seconds);
    let refuse = |text: &str| Err(Error::Action(format!("error: {text}")));
    if c.max_blocks_per_host > 0 && !c.strict_affinity {
        return refuse("MaxBlocksPerHost requires StrictAffinity to be enabled");
    }
    if !c.strict_affinity && !c.auto_allocate_blocks {
        return refuse("StrictAffinity must stay enabled while AutoAllocateBlocks is disabled");
    }
    Ok(c)
}
