//! `datastore migrate`: everything of one datastore as text, and that text into another.
//!
//! The text has upstream's shape: the resources as YAML documents, the cluster's description and IPAM's records as
//! JSON, with `===` between. While a datastore is locked, the agents on the nodes take no changes. `import` fills an
//! empty datastore and leaves it locked: whoever migrates points the nodes at it first and unlocks it then.
//!
//! Left out, as upstream leaves them out: workload endpoints and profiles, which the orchestrator's side makes again.

use std::io::Write as _;
use std::sync::Arc;

use libcalico_api::cluster_information::ClusterInformation;
use libcalico_api::tier::BUILT_IN;
use libcalico_api::{Kind, Resource};
use libcalico_datastore::{Datastore, DatastoreError, DatastoreType, Scope, resources};
use libcalico_model::kubernetes::network_policy;
use libcalico_model::{Key, KeyValue, Value};
use serde::{Deserialize, Serialize};

use crate::cli::{ConfigArgs, Global, InputArgs, MigrateCommand, MigrateImportArgs};
use crate::command::get::forget_cluster;
use crate::command::migrate_names::NodeNames;
use crate::error::datastore_message;
use crate::output::{Context, Format, Listing, render};
use crate::resource_file::{Purpose, load_texts, read_text};
use crate::{Error, Result, client};

/// Between the three parts.
const SEPARATOR: &str = "===\n";

/// What is exported, in an order in which it can be written again: tiers before their policies.
const KINDS: [Kind; 17] = [
    Kind::IPPool,
    Kind::BGPPeer,
    Kind::Tier,
    Kind::GlobalNetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::GlobalNetworkSet,
    Kind::HostEndpoint,
    Kind::KubeControllersConfiguration,
    Kind::NetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
    Kind::NetworkSet,
    Kind::Node,
    Kind::BGPConfiguration,
    Kind::FelixConfiguration,
    Kind::IPReservation,
    Kind::BGPFilter,
];

/// IPAM's part. JSON names are upstream's.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct IpamRecords {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    block_affinities: Vec<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handles: Vec<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Record>,
}

/// A key and its value as they stand in etcd.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    key: String,
    value: serde_json::Value,
    /// Seconds until etcd forgets the key; IPAM's never have one.
    #[serde(rename = "TTL", default)]
    ttl: u64,
}

/// Runs the command.
pub async fn run(command: MigrateCommand, global: &Global) -> Result<()> {
    match command {
        MigrateCommand::Export(config) => export(&config, global).await,
        MigrateCommand::Import(args) => import(&args, global).await,
        MigrateCommand::Lock(config) => set_ready(&config, global, false).await,
        MigrateCommand::Unlock(config) => set_ready(&config, global, true).await,
    }
}

async fn set_ready(config: &ConfigArgs, global: &Global, ready: bool) -> Result<()> {
    let store = client::open(config, global).await?;
    client::ensure_initialized(store.as_ref()).await?;
    write_ready(store.as_ref(), ready, |_| {}).await?;
    println!("Datastore {}.", if ready { "unlocked" } else { "locked" });
    Ok(())
}

async fn write_ready(
    store: &dyn Datastore,
    ready: bool,
    change: impl FnOnce(&mut ClusterInformation),
) -> Result<()> {
    let mut info = client::cluster_information(store).await?.unwrap_or_default();
    info.spec.datastore_ready = Some(ready);
    change(&mut info);
    resources::replace(store, info.into()).await?;
    Ok(())
}

async fn export(config: &ConfigArgs, global: &Global) -> Result<()> {
    let store = client::open(config, global).await?;
    if !client::locked(store.as_ref()).await? {
        return Err(Error::Action(
            "datastore is not locked. Run the `calicoctl datastore migrate lock` command in order to begin migration"
                .to_owned(),
        ));
    }
    let mut text = String::new();
    let (nodes, _) = resources::list(store.as_ref(), Kind::Node, None).await?;
    let names = NodeNames::of(&nodes);
    for kind in KINDS {
        let (mut items, revision) = resources::list(store.as_ref(), kind, None).await?;
        items.retain(|r| !of_kubernetes(r));
        items.iter_mut().for_each(forget_cluster);
        items.iter_mut().for_each(|r| names.resource(r));
        let listing = Listing { kind, items, revision: Some(revision.to_string()) };
        text.push_str(&render(&[listing], &Format::Yaml, &Context::default())?);
        text.push_str("---\n");
    }
    let info = client::cluster_information(store.as_ref()).await?.unwrap_or_default();
    let json = |e: serde_json::Error| Error::Action(e.to_string());
    text.push_str(SEPARATOR);
    text.push_str(&serde_json::to_string_pretty(&Resource::from(info)).map_err(json)?);
    text.push('\n');
    text.push_str(SEPARATOR);
    text.push_str(&serde_json::to_string_pretty(&ipam_records(store.as_ref(), &names).await?).map_err(json)?);
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// What stands for a NetworkPolicy of Kubernetes comes from Kubernetes again.
fn of_kubernetes(r: &Resource) -> bool {
    r.kind() == Kind::NetworkPolicy && r.metadata().name.starts_with(network_policy::NAME_PREFIX)
}

async fn ipam_records(store: &dyn Datastore, names: &NodeNames) -> Result<IpamRecords> {
    let record = |kv: &KeyValue| -> Result<Record> {
        let (mut key, mut value) = (kv.key.clone(), kv.value.clone());
        names.record(&mut key, &mut value);
        let value = serde_json::from_slice(&value.to_bytes()).map_err(|e| Error::Action(e.to_string()))?;
        Ok(Record { key: key.path(), value, ttl: 0 })
    };
    let mut parts = Vec::new();
    for scope in [Scope::BlockAffinities { host: None }, Scope::Blocks, Scope::Handles, Scope::IpamConfig] {
        let listing = store.list(&scope).await?;
        parts.push(listing.items.iter().map(record).collect::<Result<Vec<_>>>()?);
    }
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    Ok(IpamRecords {
        block_affinities: next(),
        blocks: next(),
        handles: next(),
        config: next().into_iter().next(),
    })
}

async fn import(args: &MigrateImportArgs, global: &Global) -> Result<()> {
    let (name, text) = read_text(&args.filename)?;
    let parts: Vec<&str> = text.split(SEPARATOR).collect();
    let [resources_text, info_text, ipam_text] = parts.as_slice() else {
        return Err(Error::Usage(format!(
            "{name} is not an export: it has {} parts instead of 3; make it again with `calicoctl datastore migrate export`",
            parts.len()
        )));
    };
    // All of it is read and checked before anything is written.
    let input = InputArgs {
        filename: Some(args.filename.clone()),
        recursive: false,
        skip_empty: true,
        namespace: String::new(),
    };
    let texts = [(name.clone(), (*resources_text).to_owned())];
    let loaded = load_texts(&texts, &name, &input, Purpose::Write)?;
    let wrong = |e: serde_json::Error| Error::Usage(format!("{name}: {e}"));
    let info: ClusterInformation = serde_json::from_str(info_text).map_err(wrong)?;
    let ipam: IpamRecords = serde_json::from_str(ipam_text).map_err(wrong)?;
    let ipam = parse_records(&name, ipam)?;

    let on_kubernetes = client::settings(&args.config, global)?.datastore_type == DatastoreType::Kubernetes;
    let store = client::open_unchecked(&args.config, global).await?;
    check_empty(&store, on_kubernetes).await?;
    client::ensure_initialized(store.as_ref()).await?;
    write_ready(store.as_ref(), false, |own| {
        own.spec.cluster_guid = info.spec.cluster_guid.or(own.spec.cluster_guid.take());
        own.spec.calico_version = info.spec.calico_version.or(own.spec.calico_version.take());
    })
    .await?;
    let mut count = 0;
    for item in loaded {
        let place = item.place.clone();
        for resource in item.into_calico()? {
            if on_kubernetes && resource.kind() == Kind::Node && !exists(store.as_ref(), &resource).await? {
                let name = &resource.metadata().name;
                eprintln!("Warning: Node({name}) is left out: the cluster has no node of this name");
                continue;
            }
            let written = resources::apply(store.as_ref(), resource).await;
            written.map_err(|e| Error::Action(format!("{place}: {}", datastore_message(&e))))?;
            count += 1;
        }
    }
    println!("Successfully applied {count} resource(s)");
    println!("Importing IPAM resources");
    let count = ipam.len();
    for (key, value) in ipam {
        store.create(&key, value).await?;
    }
    println!("Successfully applied {count} IPAM resource(s)");
    println!(
        "The datastore holds what was exported and is locked. Point the nodes at it, then run `calicoctl datastore migrate unlock`."
    );
    Ok(())
}

async fn exists(store: &dyn Datastore, resource: &Resource) -> Result<bool> {
    match store.get(&resources::key_of(resource)).await {
        Ok(_) => Ok(true),
        Err(DatastoreError::NotFound(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn parse_records(name: &str, ipam: IpamRecords) -> Result<Vec<(Key, Value)>> {
    let all = ipam.block_affinities.into_iter().chain(ipam.blocks).chain(ipam.handles).chain(ipam.config);
    all.map(|r| {
        let wrong = |e: String| Error::Usage(format!("{name}: {e}"));
        let key: Key = r.key.parse().map_err(|e: libcalico_model::key::KeyError| wrong(e.to_string()))?;
        let value = Value::parse(&key, r.value.to_string().as_bytes()).map_err(|e| wrong(e.to_string()))?;
        Ok((key, value))
    })
    .collect()
}

/// Refuses a datastore that has something already: nothing is overwritten.
async fn check_empty(store: &Arc<dyn Datastore>, on_kubernetes: bool) -> Result<()> {
    let taken = |what: String| {
        Err(Error::Action(format!(
            "the datastore already has Calico resources: {what}; import into an empty one"
        )))
    };
    // The nodes of Kubernetes are there before Calico is, and its policies are its own.
    for kind in KINDS.into_iter().filter(|k| !(on_kubernetes && *k == Kind::Node)) {
        let (mut items, _) = resources::list(store.as_ref(), kind, None).await?;
        items.retain(|r| !of_kubernetes(r));
        let built_in = |r: &&Resource| {
            kind == Kind::Tier && BUILT_IN.iter().any(|(name, ..)| *name == r.metadata().name)
        };
        if let Some(r) = items.iter().find(|r| !built_in(r)) {
            return taken(resources::key_of(r).to_string());
        }
    }
    for scope in [Scope::Blocks, Scope::Handles, Scope::BlockAffinities { host: None }] {
        if let Some(kv) = store.list(&scope).await?.items.first() {
            return taken(kv.key.to_string());
        }
    }
    match store.get(&Key::IpamConfig).await {
        Err(DatastoreError::NotFound(_)) => Ok(()),
        Ok(_) => taken(Key::IpamConfig.to_string()),
        Err(e) => Err(e.into()),
    }
}
