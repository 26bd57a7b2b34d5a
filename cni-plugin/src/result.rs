//! Results in the JSON of each CNI version, and reading those of other plugins.
//!
//! In comes a [`CniResult`], out goes text whose shape is the version's: `ip4`/`ip6` before 0.3.0, a list with the
//! family before 1.0.0, a list without it since. Indentation and order of keys are upstream's.

use std::net::IpAddr;

use libcalico_net::cidr::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{CniError, Code};
use crate::version::SpecVersion;

/// What ADD made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<IpConfig>,
    pub routes: Vec<Route>,
    /// As another IPAM plugin gave it.
    pub dns: Option<Value>,
}

/// An interface on the host (without sandbox) or in the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into the interfaces.
    pub interface: Option<usize>,
    /// With the prefix length that the interface has.
    pub address: IpNet,
    pub gateway: Option<IpAddr>,
}

/// A route of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// As written: upstream prints host bits here.
    pub dst: String,
    pub gw: Option<IpAddr>,
}

#[derive(Serialize)]
struct PrintedIp {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

#[derive(Serialize)]
struct PrintedRoute<'a> {
    dst: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

#[derive(Serialize)]
struct Printed<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    interfaces: &'a [Interface],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<PrintedIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<PrintedRoute<'a>>,
    dns: &'a Value,
}

#[derive(Serialize)]
struct OldIp<'a> {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<PrintedRoute<'a>>,
}

#[derive(Serialize)]
struct OldPrinted<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp<'a>>,
    dns: &'a Value,
}

impl CniResult {
    /// The text for standard output.
    #[must_use]
    pub fn to_json(&self, version: SpecVersion) -> String {
        let empty = Value::Object(serde_json::Map::new());
        let dns = self.dns.as_ref().unwrap_or(&empty);
        let cni_version = version.as_str();
        if version.old_result() {
            return pretty(&OldPrinted { cni_version, ip4: self.old_ip(true), ip6: self.old_ip(false), dns });
        }
        let family = |ip: &IpConfig| if ip.address.addr().is_ipv4() { "4" } else { "6" };
        pretty(&Printed {
            cni_version,
            interfaces: &self.interfaces,
            ips: self
                .ips
                .iter()
                .map(|ip| PrintedIp {
                    version: version.ips_have_version().then(|| family(ip)),
                    interface: ip.interface,
                    address: ip.address.to_string(),
                    gateway: ip.gateway,
                })
                .collect(),
            routes: self.routes.iter().map(|r| PrintedRoute { dst: &r.dst, gw: r.gw }).collect(),
            dns,
        })
    }

    fn old_ip(&self, v4: bool) -> Option<OldIp<'_>> {
        let ip = self.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4)?;
        let routes = self.routes.iter().filter(|r| r.dst.contains(':') != v4);
        Some(OldIp {
            ip: ip.address.to_string(),
            gateway: ip.gateway,
            routes: routes.map(|r| PrintedRoute { dst: &r.dst, gw: r.gw }).collect(),
        })
    }

    /// Reads a result of any version, as another plugin or the runtime gives it.
    pub fn parse(value: &Value) -> Result<Self, CniError> {
        let bad = |what: &str| CniError::new(Code::Decode, format!("a result cannot be read: {what}"));
        let mut result = Self { dns: value.get("dns").filter(|d| !d.is_null()).cloned(), ..Self::default() };
        let list = |key: &str| value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for i in list("interfaces") {
            result.interfaces.push(serde_json::from_value(i.clone()).map_err(|e| bad(&e.to_string()))?);
        }
        for ip in list("ips") {
            result.ips.push(parse_ip(ip, "address").ok_or_else(|| bad("ips"))?);
        }
        for r in list("routes") {
            result.routes.push(parse_route(r).ok_or_else(|| bad("routes"))?);
        }
        for key in ["ip4", "ip6"] {
            let Some(old) = value.get(key).filter(|v| !v.is_null()) else { continue };
            result.ips.push(parse_ip(old, "ip").ok_or_else(|| bad(key))?);
            for r in old.get("routes").and_then(Value::as_array).into_iter().flatten() {
                result.routes.push(parse_route(r).ok_or_else(|| bad("routes"))?);
            }
        }
        Ok(result)
    }
}

fn address(value: &Value, key: &str) -> Option<IpAddr> {
    value.get(key).and_then(Value::as_str).and_then(|s| s.parse().ok())
}

fn parse_ip(ip: &Value, key: &str) -> Option<IpConfig> {
    Some(IpConfig {
        interface: ip.get("interface").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        address: ip.get(key)?.as_str()?.parse().ok()?,
        gateway: address(ip, "gateway"),
    })
}

fn parse_route(r: &Value) -> Option<Route> {
    let dst = r.get("dst")?.as_str()?;
    dst.parse::<IpNet>().ok()?;
    Some(Route { dst: dst.to_owned(), gw: address(r, "gw") })
}

/// JSON with upstream's indentation: four spaces.
#[must_use]
pub fn pretty<T: Serialize>(value: &T) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Our types have string keys and no failing serialisers.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

/// The answer to VERSION.
#[must_use]
pub fn version_json() -> String {
    let list = SpecVersion::ALL.map(|v| format!("{:?}", v.as_str())).join(",");
    format!(r#"{{"cniVersion":"{}","supportedVersions":[{list}]}}"#, SpecVersion::CURRENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual_stack() -> CniResult {
        let ip = |a: &str| IpConfig { interface: Some(1), address: a.parse().unwrap(), gateway: None };
        let route = |d: &str| Route { dst: d.to_owned(), gw: None };
        CniResult {
            interfaces: vec![
                Interface { name: "caliv60000c0ffe".to_owned(), ..Default::default() },
                Interface {
                    name: "eth0".to_owned(),
                    mac: "4a:26:ce:04:68:8b".to_owned(),
                    sandbox: "/run/netns/pp-v6-0".to_owned(),
                },
            ],
            ips: vec![ip("10.65.174.190/32"), ip("fd00:65:0:6d15:74ba:80e:4835:8080/128")],
            routes: vec![route("10.65.174.190/26"), route("fd00:65:0:6d15:74ba:80e:4835:8080/122")],
            dns: None,
        }
    }

    #[test]
    fn the_text_is_upstreams_byte_by_byte() {
        let captured = include_str!("../tests/facts/etcd-dual-stack-add-result.json");
        assert_eq!(dual_stack().to_json(SpecVersion::V0_3_1), captured.trim_end());
    }

    #[test]
    fn every_version_reads_back_what_it_wrote() {
        for v in SpecVersion::ALL {
            let text = dual_stack().to_json(v);
            let mut back = CniResult::parse(&serde_json::from_str(&text).unwrap()).unwrap();
            back.dns = None;
            let mut want = dual_stack();
            if v.old_result() {
                want.interfaces.clear();
                want.ips.iter_mut().for_each(|ip| ip.interface = None);
            }
            assert_eq!(back, want, "{v}");
            assert_eq!(text.contains("\"version\""), !v.old_result() && v.ips_have_version());
        }
    }

    #[test]
    fn the_answer_to_version_names_all_that_upstream_speaks() {
        let ours: Value = serde_json::from_str(&version_json()).unwrap();
        let captured: Value = serde_json::from_str(include_str!("../tests/facts/etcd-version.json")).unwrap();
        assert_eq!(ours["cniVersion"], captured["cniVersion"]);
        let list = ours["supportedVersions"].as_array().unwrap();
        assert!(captured["supportedVersions"].as_array().unwrap().iter().all(|v| list.contains(v)));
    }
}
