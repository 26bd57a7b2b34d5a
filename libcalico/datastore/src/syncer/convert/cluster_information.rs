//! `ClusterInformation` `default` → readiness of the datastore and global configuration.

use libcalico_api::cluster_information::ClusterInformation;
use libcalico_model::{Key, Value};

use super::Outputs;

pub fn convert(info: &ClusterInformation) -> Outputs {
    let mut out = Vec::new();
    if info.metadata.name != "default" {
        return out;
    }
    let spec = &info.spec;
    if let Some(ready) = spec.datastore_ready {
        out.push((Key::Ready, Value::Ready(ready)));
    }
    let texts = [
        ("ClusterGUID", &spec.cluster_guid),
        ("ClusterType", &spec.cluster_type),
        ("CalicoVersion", &spec.calico_version),
    ];
    for (name, text) in texts {
        if let Some(text) = text.as_ref().filter(|t| !t.is_empty()) {
            out.push((Key::GlobalConfig(name.to_owned()), Value::Text(text.clone())));
        }
    }
    out
}
