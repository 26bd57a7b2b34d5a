//! `NetworkSet` and `GlobalNetworkSet` → sets of networks with labels. A namespaced set also has its namespace's label
//! and inherits the namespace's profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use libcalico_api::global_network_set::GlobalNetworkSet;
use libcalico_api::network_set::NetworkSet;
use libcalico_model::{Key, Value, backend};

use super::selector::NAMESPACE_LABEL;
use super::{Outputs, parse_nets};

/// Profiles of Kubernetes namespaces begin with this.
const NAMESPACE_PROFILE_PREFIX: &str = "kns.";

pub fn network_set(set: &NetworkSet) -> Result<Outputs, String> {
    let namespace = &set.metadata.namespace;
    let mut labels = set.metadata.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    let profiles = vec![format!("{NAMESPACE_PROFILE_PREFIX}{namespace}")];
    output(format!("{namespace}/{}", set.metadata.name), &set.spec.nets, labels, profiles)
}

pub fn global_network_set(set: &GlobalNetworkSet) -> Result<Outputs, String> {
    output(set.metadata.name.clone(), &set.spec.nets, set.metadata.labels.clone(), Vec::new())
}

fn output(
    name: String,
    nets: &[String],
    labels: BTreeMap<String, String>,
    profile_ids: Vec<String>,
) -> Result<Outputs, String> {
    let value = backend::NetworkSet { nets: parse_nets(nets)?, labels, profile_ids };
    Ok(vec![(Key::NetworkSet(name), Value::NetworkSet(Arc::new(value)))])
}
