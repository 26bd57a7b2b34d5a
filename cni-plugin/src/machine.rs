//! Virtual machines of KubeVirt: a `virt-launcher` pod runs one, and its addresses are the machine's.
//!
//! In comes a pod, out comes the machine that it runs, where it runs one and addresses of machines are kept
//! (`kubeVirtVMAddressPersistence`, on unless IPAMConfiguration says otherwise). Ordinary pods cost nothing: KubeVirt
//! names its pods, and only a pod of such a name is looked at. Left out: who has the addresses ([`libcalico_ipam::vm`]).

use libcalico_api::ObjectMeta;
use libcalico_api::common::EnabledDisabled;
use libcalico_datastore::{Found, KubernetesDatastore, Read};
use libcalico_ipam::vm::Tenant;
use libcalico_model::{Key, Value};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::error::{CniError, Code};
use crate::facts::{self, PodFacts};
use crate::store::Stores;
use crate::workload::Workload;

/// Before the name of every pod that runs a machine.
const POD_PREFIX: &str = "virt-launcher-";
const API_VERSION: &str = "kubevirt.io/v1";
const API: &str = "/apis/kubevirt.io/v1";
/// Label of a pod that a machine is moving to.
const MIGRATION_LABEL: &str = "kubevirt.io/migrationJobUID";

/// A machine that a pod runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    /// Of the running instance.
    pub instance_uid: String,
    /// Of the machine that the instance is of, where there is one.
    pub uid: String,
    /// The move that the pod is the target of.
    pub migration: Option<String>,
    /// The machine is being deleted: its addresses go with its last pod.
    pub deleting: bool,
}

/// The owner that makes a pod a machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRef {
    pub name: String,
    pub uid: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: ObjectMeta,
}

/// Which instance controls a pod.
#[must_use]
pub fn instance_of(meta: &ObjectMeta) -> Option<InstanceRef> {
    let owner = owner(meta, "VirtualMachineInstance")?;
    let controls = owner.get("controller").and_then(Json::as_bool) == Some(true);
    let text = |key: &str| owner.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    controls.then(|| InstanceRef { name: text("name"), uid: text("uid") })
}

fn owner<'a>(meta: &'a ObjectMeta, kind: &str) -> Option<&'a Json> {
    let is = |o: &&Json| {
        let has = |key: &str, value: &str| o.get(key).and_then(Json::as_str) == Some(value);
        has("apiVersion", API_VERSION) && has("kind", kind)
    };
    meta.other.get("ownerReferences")?.as_array()?.iter().find(is)
}

/// True where the pod may run a machine, by its name.
#[must_use]
pub fn may_run_one(w: &Workload) -> bool {
    w.is_pod() && w.pod.starts_with(POD_PREFIX)
}

/// The machine that the workload's pod runs and whose addresses are kept.
pub async fn of(stores: &Stores, w: &Workload) -> Result<Option<Machine>, CniError> {
    let Some(api) = stores.api.as_deref().filter(|_| may_run_one(w)) else { return Ok(None) };
    match facts::pod(api, w).await? {
        Some(pod) => of_pod(stores, api, w, &pod).await,
        None => Ok(None),
    }
}

async fn of_pod(
    stores: &Stores,
    api: &KubernetesDatastore,
    w: &Workload,
    pod: &PodFacts,
) -> Result<Option<Machine>, CniError> {
    let Some(instance) = &pod.instance else { return Ok(None) };
    let migration = pod.endpoint.metadata.labels.get(MIGRATION_LABEL).filter(|l| !l.is_empty()).cloned();
    if !kept(stores).await? {
        if migration.is_some() {
            return Err(CniError::new(
                Code::InvalidConfig,
                "a machine cannot move here: kubeVirtVMAddressPersistence is Disabled",
            )
            .with_details("set IPAMConfiguration default, spec.kubeVirtVMAddressPersistence: Enabled"));
        }
        return Ok(None);
    }
    let read = async |kind: &str, name: &str| {
        let path = format!("{API}/namespaces/{}/{kind}/{name}", w.namespace);
        let json = api.raw(&path).await?.ok_or_else(|| gone(kind, name))?;
        let head = serde_json::from_str::<Head>(&json);
        head.map(|h| h.metadata).map_err(|e| CniError::new(Code::Datastore, format!("{path}: {e}")))
    };
    let meta = read("virtualmachineinstances", &instance.name).await?;
    if meta.uid != instance.uid {
        return Err(gone("virtualmachineinstances", &instance.name));
    }
    let mut machine = Machine {
        name: instance.name.clone(),
        instance_uid: meta.uid.clone(),
        migration,
        deleting: meta.deletion_timestamp.is_some(),
        ..Machine::default()
    };
    if let Some(name) = owner(&meta, "VirtualMachine").and_then(|o| o.get("name")).and_then(Json::as_str) {
        let vm = read("virtualmachines", name).await?;
        (machine.uid, machine.deleting) = (vm.uid, vm.deletion_timestamp.is_some());
    }
    Ok(Some(machine))
}

fn gone(kind: &str, name: &str) -> CniError {
    CniError::new(Code::TryAgainLater, format!("the pod's machine is not in the API server: {kind} {name}"))
        .with_details("it was deleted or made anew meanwhile")
}

/// Whether machines keep their addresses.
async fn kept(stores: &Stores) -> Result<bool, CniError> {
    let found = stores.store.read_many(&[Read::Key(Key::IpamConfig)]).await?.into_iter().next();
    Ok(match found {
        Some(Found::Key(Some(kv))) => match kv.value {
            Value::IpamConfig(c) => c.kube_virt_vm_address_persistence != Some(EnabledDisabled::Disabled),
            _ => true,
        },
        _ => true,
    })
}

/// The pod as the owner of the machine's addresses.
#[must_use]
pub fn tenant(w: &Workload) -> Tenant {
    Tenant { namespace: w.namespace.clone(), pod: w.pod.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_instance_that_controls_the_pod_makes_it_a_machines() {
        let meta = |owner: Json| -> ObjectMeta {
            serde_json::from_value(serde_json::json!({"name": "p", "ownerReferences": [owner]})).unwrap()
        };
        let json = |api: &str, controls: bool| serde_json::json!({"apiVersion": api, "kind": "VirtualMachineInstance", "name": "vm1", "uid": "u", "controller": controls});
        let found = instance_of(&meta(json("kubevirt.io/v1", true))).unwrap();
        assert_eq!((found.name.as_str(), found.uid.as_str()), ("vm1", "u"));
        assert_eq!(instance_of(&meta(json("kubevirt.io/v1", false))), None);
        assert_eq!(instance_of(&meta(json("apps/v1", true))), None);
        assert_eq!(instance_of(&ObjectMeta::default()), None);
    }
}
