//! IPAM's records as custom resources of `projectcalico.org/v3`: IPAMBlock, BlockAffinity, IPAMHandle and
//! IPAMConfiguration.
//!
//! In comes a record, out goes the `spec` and the object's name, and back. Always holds: a record survives the way there
//! and back, except fields that only very old writers set. A record marked as deleted is an absent one.

use std::net::IpAddr;

use ipnet::IpNet;
use libcalico_api::common::EnabledDisabled;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{malformed, read};
use crate::ipam::{AffinityState, AllocationBlock, BlockAffinity, Handle, IpamConfig};
use crate::{Key, ValueError};

/// The one IPAMConfiguration.
pub const CONFIG_NAME: &str = "default";
/// Longest name of a Kubernetes object.
const MAX_NAME: usize = 253;

/// A block's object name: `10-65-174-128-26`.
#[must_use]
pub fn block_name(cidr: &IpNet) -> String {
    let address = match cidr.addr() {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => a.to_string(),
    };
    // `::` at either end would be a name that no object can have.
    let address = match (address.starts_with(':'), address.ends_with(':')) {
        (true, true) => "0::0".to_owned(),
        (true, false) => format!("0{address}"),
        _ => address,
    };
    format!("{}-{}", address.replace(['.', ':'], "-"), cidr.prefix_len())
}

/// A block affinity's object name: `NODE-10-65-174-128-26`. Names that no object can have are cut and told apart by the
/// digits of a hash.
#[must_use]
pub fn affinity_name(host: &str, cidr: &IpNet) -> String {
    let name = format!("{host}-{}", block_name(cidr)).to_lowercase();
    if name.len() <= MAX_NAME {
        return name;
    }
    // FNV-1a: short, stable across builds; the spec holds the whole truth.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    let kept: String = name.chars().take(MAX_NAME - 17).collect();
    format!("{kept}-{hash:016x}")
}

/// A handle's object name: lower case, as Kubernetes wants it. The spec keeps the handle as written.
#[must_use]
pub fn handle_name(id: &str) -> String {
    id.to_lowercase()
}

#[derive(Deserialize)]
struct Object<T> {
    spec: T,
}

/// A block's spec.
#[must_use]
pub fn block_spec(block: &AllocationBlock) -> Value {
    let mut spec = match json!(block) {
        Value::Object(m) => m,
        _ => Map::new(),
    };
    spec.remove("hostAffinity");
    rename(&mut spec, "affinity_claim_time", "affinityClaimTime");
    Value::Object(spec)
}

/// The block of an IPAMBlock; none where it is marked as deleted.
pub fn block(json: &[u8]) -> Result<Option<AllocationBlock>, ValueError> {
    let mut spec: Map<String, Value> = read::<Object<_>>("IPAMBlock", json)?.spec;
    rename(&mut spec, "affinityClaimTime", "affinity_claim_time");
    let block: AllocationBlock =
        serde_json::from_value(Value::Object(spec)).map_err(|e| malformed("IPAMBlock", e.to_string()))?;
    Ok(Some(block).filter(|b| !b.deleted))
}

fn rename(spec: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(v) = spec.remove(from) {
        spec.insert(to.to_owned(), v);
    }
}

/// The kinds of records that say in their spec which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    Block,
    Affinity,
    Handle,
}

/// Which record an object is, where the object can say even that.
#[must_use]
pub fn key_of(record: Record, json: &[u8]) -> Option<Key> {
    let spec: Map<String, Value> = read::<Object<_>>("record", json).ok()?.spec;
    let text = |field: &str| spec.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
    let cidr = || text("cidr").and_then(|t| t.parse().ok());
    Some(match record {
        Record::Block => Key::Block(cidr()?),
        Record::Affinity => Key::BlockAffinity {
            affinity_type: text("type").unwrap_or("host").to_owned(),
            host: text("node")?.to_owned(),
            cidr: cidr()?,
        },
        Record::Handle => Key::Handle(text("handleID")?.to_owned()),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AffinitySpec {
    state: AffinityState,
    node: String,
    #[serde(rename = "type")]
    kind: String,
    cidr: Option<IpNet>,
    /// A truth value, or its text as older versions of the resource have it.
    deleted: Value,
}

/// An affinity's spec.
#[must_use]
pub fn affinity_spec(kind: &str, host: &str, cidr: &IpNet, affinity: &BlockAffinity) -> Value {
    json!({
        "state": affinity.state, "node": host, "type": kind, "cidr": cidr, "deleted": affinity.deleted,
    })
}

/// Type, host and block of a BlockAffinity with its state.
pub type Affinity = (String, String, IpNet, BlockAffinity);

/// The affinity of a BlockAffinity; none where it is marked as deleted.
pub fn affinity(json: &[u8]) -> Result<Option<Affinity>, ValueError> {
    let spec: AffinitySpec = read::<Object<_>>("BlockAffinity", json)?.spec;
    let cidr = spec.cidr.ok_or_else(|| malformed("BlockAffinity", "spec.cidr is missing"))?;
    if spec.node.is_empty() {
        return Err(malformed("BlockAffinity", "spec.node is missing"));
    }
    if spec.deleted == Value::Bool(true) || spec.deleted == "true" {
        return Ok(None);
    }
    let kind = if spec.kind.is_empty() { "host".to_owned() } else { spec.kind };
    Ok(Some((kind, spec.node, cidr, BlockAffinity { state: spec.state, deleted: false })))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HandleSpec {
    #[serde(rename = "handleID")]
    handle_id: String,
    #[serde(flatten)]
    handle: Handle,
}

/// A handle's spec.
#[must_use]
pub fn handle_spec(id: &str, handle: &Handle) -> Value {
    json!({ "handleID": id, "block": handle.block, "deleted": handle.deleted })
}

/// Identifier and handle of an IPAMHandle; none where it is marked as deleted.
pub fn handle(json: &[u8]) -> Result<Option<(String, Handle)>, ValueError> {
    let spec: HandleSpec = read::<Object<_>>("IPAMHandle", json)?.spec;
    if spec.handle_id.is_empty() {
        return Err(malformed("IPAMHandle", "spec.handleID is missing"));
    }
    Ok(Some((spec.handle_id, spec.handle)).filter(|(_, h)| !h.deleted))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigSpec {
    strict_affinity: bool,
    auto_allocate_blocks: bool,
    max_blocks_per_host: u32,
    #[serde(rename = "kubeVirtVMAddressPersistence")]
    kube_virt_vm_address_persistence: Option<EnabledDisabled>,
    ip_cooldown_seconds: Option<u32>,
}

impl Default for ConfigSpec {
    fn default() -> Self {
        let c = IpamConfig::default();
        Self {
            strict_affinity: c.strict_affinity,
            auto_allocate_blocks: c.auto_allocate_blocks,
            max_blocks_per_host: c.max_blocks_per_host,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: None,
        }
    }
}

/// The settings' spec.
#[must_use]
pub fn config_spec(config: &IpamConfig) -> Value {
    let mut spec = json!({
        "strictAffinity": config.strict_affinity,
        "autoAllocateBlocks": config.auto_allocate_blocks,
        "maxBlocksPerHost": config.max_blocks_per_host,
    });
    if let Some(v) = config.kube_virt_vm_address_persistence {
        spec["kubeVirtVMAddressPersistence"] = json!(v);
    }
    if let Some(v) = config.ip_cooldown_seconds {
        spec["ipCooldownSeconds"] = json!(v);
    }
    spec
}

/// The settings of an IPAMConfiguration.
pub fn config(json: &[u8]) -> Result<IpamConfig, ValueError> {
    let s: ConfigSpec = read::<Object<_>>("IPAMConfiguration", json)?.spec;
    Ok(IpamConfig {
        strict_affinity: s.strict_affinity,
        auto_allocate_blocks: s.auto_allocate_blocks,
        max_blocks_per_host: s.max_blocks_per_host,
        kube_virt_vm_address_persistence: s.kube_virt_vm_address_persistence,
        ip_cooldown_seconds: s.ip_cooldown_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &Value) -> Vec<u8> {
        json!({ "metadata": { "name": "x" }, "spec": spec }).to_string().into_bytes()
    }

    #[test]
    fn names_are_upstreams() {
        let name = |c: &str| block_name(&c.parse().unwrap());
        assert_eq!(name("10.65.174.128/26"), "10-65-174-128-26");
        assert_eq!(name("fd00:65:0:6d15:74ba:80e:4835:8080/122"), "fd00-65-0-6d15-74ba-80e-4835-8080-122");
        assert_eq!(name("::/122"), "0--0-122");
        let cidr = "10.0.0.0/26".parse().unwrap();
        assert_eq!(affinity_name("node-a", &cidr), "node-a-10-0-0-0-26");
        let (a, b) = ("a".repeat(250), "a".repeat(251));
        assert!(affinity_name(&a, &cidr).len() <= MAX_NAME);
        assert_ne!(affinity_name(&a, &cidr), affinity_name(&b, &cidr));
        assert_eq!(handle_name("k8s-pod-network.ABC"), "k8s-pod-network.abc");
    }

    #[test]
    fn a_block_survives_the_way_there_and_back() {
        let text = r#"{"cidr":"10.0.1.0/30","affinity":"host:h","affinity_claim_time":"2026-01-01T00:00:00Z","allocations":[null,0,null,null],
            "unallocated":[0,2,3],"attributes":[{"handle_id":"x","secondary":{"pod":"p"}}],"sequenceNumber":7,
            "sequenceNumberForAllocation":{"1":3},"deleted":false}"#;
        let b: AllocationBlock = serde_json::from_str(text).unwrap();
        let spec = block_spec(&b);
        assert_eq!(spec["affinityClaimTime"], "2026-01-01T00:00:00Z");
        assert_eq!(block(&object(&spec)).unwrap().unwrap(), b);
        let mut deleted = spec;
        deleted["deleted"] = json!(true);
        assert_eq!(key_of(Record::Block, &object(&deleted)), Some(Key::Block(b.cidr)));
        assert_eq!(key_of(Record::Block, b"{}"), None);
        assert_eq!(block(&object(&deleted)).unwrap(), None);
    }

    #[test]
    fn affinities_handles_and_settings_survive_it_too() {
        let cidr: IpNet = "10.0.1.0/26".parse().unwrap();
        let a = BlockAffinity { state: AffinityState::Pending, deleted: false };
        let spec = affinity_spec("host", "n1", &cidr, &a);
        assert_eq!(affinity(&object(&spec)).unwrap().unwrap(), ("host".into(), "n1".into(), cidr, a));
        for deleted in [json!(true), json!("true")] {
            let mut spec = spec.clone();
            spec["deleted"] = deleted;
            assert_eq!(affinity(&object(&spec)).unwrap(), None);
        }
        let h = Handle { block: [("10.0.1.0/26".to_owned(), 2)].into(), deleted: false };
        let spec = handle_spec("Net.A", &h);
        assert_eq!(handle(&object(&spec)).unwrap().unwrap(), ("Net.A".into(), h));
        let c = IpamConfig {
            strict_affinity: true,
            max_blocks_per_host: 3,
            ip_cooldown_seconds: Some(5),
            ..IpamConfig::default()
        };
        assert_eq!(config(&object(&config_spec(&c))).unwrap(), c);
        assert!(config(&object(&json!({}))).unwrap().auto_allocate_blocks);
    }

    #[test]
    fn what_is_missing_is_told() {
        for (text, word) in [
            (affinity(b"{\"spec\":{\"node\":\"n\"}}").unwrap_err().to_string(), "cidr"),
            (handle(b"{\"spec\":{}}").unwrap_err().to_string(), "handleID"),
            (block(b"{}").unwrap_err().to_string(), "spec"),
        ] {
            assert!(text.contains(word), "{text}");
        }
    }
}
