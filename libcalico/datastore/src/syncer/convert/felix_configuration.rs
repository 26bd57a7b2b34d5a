//! `FelixConfiguration` → parameters as text: `default` for every host, `node.NAME` for one.
//!
//! An object of another name is for the nodes whose labels its `nodeSelector` matches: it goes on as it is, since only
//! the reader knows which node it is. Without a selector, or with one that cannot be read, it is for nobody.

use libcalico_api::Resource;
use libcalico_api::felix_configuration::FelixConfiguration;
use libcalico_model::felix_configuration::texts;
use libcalico_model::{Key, Value};
use libcalico_selector::Selector;

use super::Outputs;

pub fn convert(object: &FelixConfiguration) -> Result<Outputs, String> {
    let name = &object.metadata.name;
    let texts = texts(object)?;
    let key: Box<dyn Fn(String) -> Key> = match name.strip_prefix("node.") {
        Some(host) => Box::new(|parameter| Key::HostConfig { host: host.to_owned(), name: parameter }),
        None if name == "default" => Box::new(Key::GlobalConfig),
        None => return selected(object),
    };
    Ok(texts.into_iter().map(|(parameter, text)| (key(parameter), Value::Text(text))).collect())
}

fn selected(object: &FelixConfiguration) -> Result<Outputs, String> {
    let Some(selector) = object.spec.node_selector.as_deref().filter(|s| !s.is_empty()) else {
        return Err(
            "its name is neither default nor node.NAME, and it has no nodeSelector: it is for no node"
                .to_owned(),
        );
    };
    Selector::parse(selector).map_err(|e| format!("spec.nodeSelector: {e}"))?;
    let resource = Resource::from(object.clone());
    let key = Key::resource(resource.kind(), "", &object.metadata.name);
    Ok(vec![(key, Value::from(resource))])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn converted(name: &str, spec: &str) -> Result<BTreeMap<String, String>, String> {
        let json = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
        let outputs = convert(&serde_json::from_str(&json).unwrap())?;
        Ok(outputs.into_iter().map(|(k, v)| (k.path(), String::from_utf8(v.to_bytes()).unwrap())).collect())
    }

    #[test]
    fn one_is_for_every_host_and_a_nodes_for_that_host_alone() {
        let debug = r#"{"logSeverityScreen":"Debug"}"#;
        let all = converted("default", debug).unwrap();
        assert_eq!(all["/calico/v1/config/LogSeverityScreen"], "Debug");
        let one = converted("node.n1", debug).unwrap();
        assert_eq!(one["/calico/v1/host/n1/config/LogSeverityScreen"], "Debug");
        assert_eq!((all.len(), one.len()), (1, 1));
    }

    #[test]
    fn one_with_a_selector_goes_on_as_it_is() {
        let all =
            converted("edge", r#"{"nodeSelector":"role == 'edge'","logSeverityScreen":"Debug"}"#).unwrap();
        let [(path, json)] = &all.iter().collect::<Vec<_>>()[..] else { panic!("{all:?}") };
        assert!(path.ends_with("/felixconfigurations/edge"), "{path}");
        assert!(json.contains("role == 'edge'") && json.contains("Debug"), "{json}");
    }

    #[test]
    fn one_that_is_for_nobody_is_named_with_the_reason() {
        for (spec, why) in [
            ("{}", "has no nodeSelector"),
            (r#"{"nodeSelector":""}"#, "has no nodeSelector"),
            (r#"{"nodeSelector":"role =="}"#, "spec.nodeSelector"),
            (r#"{"nodeSelector":"all()","routeRefreshInterval":"soon"}"#, "spec.routeRefreshInterval"),
        ] {
            let error = converted("edge", spec).unwrap_err();
            assert!(error.contains(why), "{spec}: {error}");
        }
    }
}
