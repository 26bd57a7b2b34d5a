//! `FelixConfiguration` → parameters as text. Names and texts are those that Felix reads from its file and environment
//! too, so that one parser serves all sources.
//!
//! In comes the object, out go its parameters, whatever its name: which nodes they are for is the reader's to say. An
//! annotation `config.projectcalico.org/NAME` sets a parameter that has no field, as upstream allows. Always holds: a
//! value that cannot be written as text makes the whole object an error, never a part of it.

use std::collections::BTreeMap;

use libcalico_api::duration::GoDuration;
use libcalico_api::felix_configuration::FelixConfiguration;
use serde_json::Value as Json;

use crate::felix_parameters::PARAMETERS;

const ANNOTATION_PREFIX: &str = "config.projectcalico.org/";

/// What a parameter's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Not a duration.
    Plain,
    Seconds,
    Millis,
}

/// Text of every parameter that an object sets, by the parameter's name.
///
/// # Errors
/// The field whose value is none, and why.
pub fn texts(object: &FelixConfiguration) -> Result<BTreeMap<String, String>, String> {
    let mut texts = BTreeMap::new();
    let Ok(Json::Object(spec)) = serde_json::to_value(&object.spec) else {
        return Err("its spec is not an object".to_owned());
    };
    for (field, value) in &spec {
        let Ok(i) = PARAMETERS.binary_search_by(|(f, _, _)| (*f).cmp(field)) else { continue };
        let Some((_, parameter, unit)) = PARAMETERS.get(i) else { continue };
        let text = match value {
            // Felix knows the timeouts by their names in upstream's code.
            Json::Object(map) if *parameter == "BPFConntrackTimeouts" => map
                .iter()
                .map(|(k, v)| format!("{}={}", exported(k), scalar(v)))
                .collect::<Vec<_>>()
                .join(","),
            _ => text(value, *unit).map_err(|e| format!("spec.{field}: {e}"))?,
        };
        texts.insert((*parameter).to_owned(), text);
    }
    for (annotation, value) in &object.metadata.annotations {
        if let Some(parameter) = annotation.strip_prefix(ANNOTATION_PREFIX) {
            texts.insert(parameter.to_owned(), value.clone());
        }
    }
    Ok(texts)
}

fn text(value: &Json, unit: Unit) -> Result<String, String> {
    match (value, unit) {
        (Json::String(s), Unit::Seconds) => Ok(number(duration(s)? / 1e9)),
        (Json::String(s), Unit::Millis) => Ok(number(duration(s)? / 1e6)),
        // An empty list is not the same as none: no failsafe ports at all.
        (Json::Array(items), _) if items.is_empty() => Ok("none".to_owned()),
        (Json::Array(items), _) => Ok(items.iter().map(item).collect::<Vec<_>>().join(",")),
        (value, _) => Ok(item(value)),
    }
}

fn duration(text: &str) -> Result<f64, String> {
    let d: GoDuration = text.parse().map_err(|e| format!("{e}"))?;
    Ok(d.as_nanos() as f64)
}

/// Without a fraction where there is none: `90`, not `90.0`.
fn number(n: f64) -> String {
    n.to_string()
}

/// One value, or one element of a list.
fn item(value: &Json) -> String {
    let Json::Object(map) = value else { return scalar(value) };
    let field = |name: &str| map.get(name).map(scalar).filter(|s| !s.is_empty());
    if let (Some(min), Some(max)) = (field("min"), field("max")) {
        return format!("{min}-{max}");
    }
    if let Some(port) = field("port") {
        // `tcp:22`, or `tcp:10.0.0.0/8:22`; IPv6 networks in brackets.
        let protocol = field("protocol").unwrap_or_else(|| "tcp".to_owned()).to_ascii_lowercase();
        return match field("net") {
            Some(net) if net.contains(':') => format!("{protocol}:[{net}]:{port}"),
            Some(net) => format!("{protocol}:{net}:{port}"),
            None => format!("{protocol}:{port}"),
        };
    }
    if let (Some(name), Some(timeout)) = (field("name"), field("timeout")) {
        return format!("{name}={timeout}");
    }
    map.iter().map(|(k, v)| format!("{k}={}", scalar(v))).collect::<Vec<_>>().join(",")
}

/// A field's name as Go exports it: `tcpSynSent` as `TCPSynSent`, `genericTimeout` as `GenericTimeout`.
fn exported(field: &str) -> String {
    for word in ["tcp", "udp", "icmp"] {
        if let Some(rest) = field.strip_prefix(word).filter(|r| r.starts_with(char::is_uppercase)) {
            return word.to_ascii_uppercase() + rest;
        }
    }
    let mut chars = field.chars();
    chars.next().map_or_else(String::new, |c| c.to_ascii_uppercase().to_string() + chars.as_str())
}

fn scalar(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(s) => s.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_field() {
        assert!(PARAMETERS.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn fields_become_parameters_in_their_own_units() {
        let json = r#"{"metadata":{},"spec":{"routeRefreshInterval":"1m30s","iptablesLockProbeInterval":"50ms","netlinkTimeout":"1500ms","ipipMTU":1440,
                "bpfEnabled":true,"interfacePrefix":"cali","failsafeInboundHostPorts":[],
                "failsafeOutboundHostPorts":[{"protocol":"UDP","port":53},{"protocol":"TCP","port":443,"net":"fd00::/8"}],
                "routeTableRanges":[{"min":10,"max":20},{"min":30,"max":40}],"routeTableRange":{"min":1,"max":250},
                "kubeNodePortRanges":[80,"8080:8089"]}}"#;
        let t = texts(&serde_json::from_str(json).unwrap()).unwrap();
        let at = |n: &str| t[n].as_str();
        assert_eq!(at("RouteRefreshInterval"), "90");
        assert_eq!(at("IptablesLockProbeIntervalMillis"), "50");
        assert_eq!(at("NetlinkTimeoutSecs"), "1.5");
        assert_eq!(at("IpInIpMtu"), "1440");
        assert_eq!(at("BPFEnabled"), "true");
        assert_eq!(at("FailsafeInboundHostPorts"), "none");
        assert_eq!(at("FailsafeOutboundHostPorts"), "udp:53,tcp:[fd00::/8]:443");
        assert_eq!(at("RouteTableRanges"), "10-20,30-40");
        assert_eq!(at("RouteTableRange"), "1-250");
        assert_eq!(at("KubeNodePortRanges"), "80,8080:8089");
    }
}
