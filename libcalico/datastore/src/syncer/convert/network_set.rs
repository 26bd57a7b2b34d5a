//! `NetworkSet` and `GlobalNetworkSet` → sets of networks with labels. A namespaced set also has its namespace's label
//! and inherits the namespace's profile; what its own labels say of namespaces and accounts is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use libcalico_api::global_network_set::GlobalNetworkSet;
use libcalico_api::network_set::NetworkSet;
use libcalico_model::{Key, Value, backend};

use super::selector::{NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL, own_labels};
use super::{Outputs, parse_nets};

/// Profiles of Kubernetes namespaces begin with this.
const NAMESPACE_PROFILE_PREFIX: &str = "kns.";

pub fn network_set(set: &NetworkSet) -> Result<Outputs, String> {
    let namespace = &set.metadata.namespace;
    let mut labels = own_labels(&set.metadata.labels);
    // A set of networks has no account.
    labels.remove(SERVICE_ACCOUNT_LABEL);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_of_its_own_puts_a_namespaced_set_into_another_namespace_or_account() {
        let labels =
            r#"{"role":"x","pcns.env":"prod","pcsa.a":"b","projectcalico.org/serviceaccount":"root"}"#;
        let json =
            format!(r#"{{"metadata":{{"name":"s","namespace":"dev","labels":{labels}}},"spec":{{}}}}"#);
        let out = network_set(&serde_json::from_str(&json).unwrap()).unwrap();
        let Value::NetworkSet(value) = &out[0].1 else { panic!() };
        let labels: Vec<_> = value.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["projectcalico.org/namespace=dev", "role=x"]);
        // Who may make a global one says what it is.
        let out = global_network_set(&serde_json::from_str(&json).unwrap()).unwrap();
        let Value::NetworkSet(value) = &out[0].1 else { panic!() };
        assert_eq!(value.labels.len(), 4);
    }
}
