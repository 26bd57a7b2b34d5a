//! What a pod asks for by annotations: its own and its namespace's.
//!
//! In come annotations and the network configuration, out come [`Wishes`] or the error that names the annotation.
//! Pure. Names, precedence and refusals are upstream's: the pod's annotation wins over its namespace's, which wins over
//! the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::workload_endpoint::IpNat;
use libcalico_net::cidr::IpNet;

use crate::error::{CniError, Code};
use crate::facts::{NamespaceFacts, PodFacts};
use crate::netconf::NetConf;
use crate::plan::parse_mac;

const PREFIX: &str = "cni.projectcalico.org/";

/// A pod's wishes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Pools by CIDR or name; none: the configuration's.
    pub pools_v4: Option<Vec<String>>,
    pub pools_v6: Option<Vec<String>>,
    /// Families, IPv4 and IPv6; none: the configuration's.
    pub families: Option<(bool, bool)>,
    /// Addresses that IPAM shall give.
    pub addresses: Vec<IpAddr>,
    /// Addresses that IPAM has nothing to do with.
    pub foreign_addresses: Vec<IpAddr>,
    /// Of the pod's interface.
    pub mac: Option<[u8; 6]>,
    /// Addresses that are translated to the pod's.
    pub floating: Vec<IpAddr>,
    /// Sources, besides its own addresses, that the pod may send from.
    pub source_prefixes: Vec<String>,
}

fn wrong(name: &str, why: impl std::fmt::Display) -> CniError {
    CniError::new(Code::InvalidConfig, format!("annotation {PREFIX}{name}: {why}"))
        .with_details("correct it on the pod (or its namespace) and delete the pod, so that it is made anew")
}

fn refused(name: &str, feature: &str) -> CniError {
    CniError::new(
        Code::UnsupportedField,
        format!("annotation {PREFIX}{name}: requested feature is not enabled: {feature}"),
    )
    .with_details(format!("set \"feature_control\": {{\"{feature}\": true}} in the network configuration"))
}

/// Reads the annotations of a pod and of its namespace.
pub fn read(
    conf: &NetConf,
    pod: Option<&PodFacts>,
    namespace: Option<&NamespaceFacts>,
) -> Result<Wishes, CniError> {
    let Some(pod) = pod else { return Ok(Wishes::default()) };
    let own_ipam = conf.ipam.type_ == "calico-ipam";
    let of_pod = |name: &str| text(&pod.annotations, name);
    let of_both = |name: &str| of_pod(name).or_else(|| text(&namespace?.annotations, name));
    let mut wishes = Wishes::default();
    if own_ipam {
        wishes.pools_v4 = of_both("ipv4pools").map(|t| list("ipv4pools", t)).transpose()?;
        wishes.pools_v6 = of_both("ipv6pools").map(|t| list("ipv6pools", t)).transpose()?;
        wishes.families = of_both("ipFamilies").map(families).transpose()?;
    }
    let (asked, foreign) = (of_pod("ipAddrs"), of_pod("ipAddrsNoIpam"));
    if asked.is_some() && foreign.is_some() {
        return Err(wrong("ipAddrs", "cannot be used together with ipAddrsNoIpam"));
    }
    for (name, value) in [("ipAddrs", asked), ("ipAddrsNoIpam", foreign)] {
        if value.is_some() && !own_ipam {
            return Err(wrong(name, format!("is not compatible with IPAM plugin {:?}", conf.ipam.type_)));
        }
    }
    if foreign.is_some() && !conf.feature_control.ip_addrs_no_ipam {
        return Err(refused("ipAddrsNoIpam", "ip_addrs_no_ipam"));
    }
    wishes.addresses = asked.map(|t| one_of_each("ipAddrs", t)).transpose()?.unwrap_or_default();
    wishes.foreign_addresses =
        foreign.map(|t| one_of_each("ipAddrsNoIpam", t)).transpose()?.unwrap_or_default();
    wishes.mac = of_pod("hwAddr")
        .map(|t| {
            parse_mac(t)
                .filter(unicast)
                .ok_or_else(|| wrong("hwAddr", format!("{t:.40?} is no MAC of an interface")))
        })
        .transpose()?;
    if let Some(t) = of_pod("floatingIPs") {
        if !conf.feature_control.floating_ips {
            return Err(refused("floatingIPs", "floating_ips"));
        }
        wishes.floating = addresses("floatingIPs", t)?;
    }
    if let Some(t) = of_pod("allowedSourcePrefixes") {
        let name = "allowedSourcePrefixes";
        for p in list(name, t)? {
            let net: IpNet = p.parse().map_err(|_| wrong(name, format!("{p:.60?} is no network")))?;
            wishes.source_prefixes.push(net.trunc().to_string());
        }
    }
    Ok(wishes)
}

impl Wishes {
    /// The families, IPv4 and IPv6, that the pod gets whatever the configuration says; `asked` are the addresses that
    /// the runtime asks for.
    #[must_use]
    pub fn families(&self, asked: &[IpAddr]) -> Option<(bool, bool)> {
        let lists = [&*self.foreign_addresses, &*self.addresses, asked];
        match lists.into_iter().find(|l| !l.is_empty()) {
            Some(list) => Some((list.iter().any(IpAddr::is_ipv4), list.iter().any(IpAddr::is_ipv6))),
            None => self.families,
        }
    }

    /// Floating addresses with the pod's addresses that they stand for. One without an address of its family is left out.
    #[must_use]
    pub fn nats(&self, addresses: &[IpAddr]) -> Vec<IpNat> {
        let pair = |external: &IpAddr| {
            let own = addresses.iter().find(|a| a.is_ipv4() == external.is_ipv4())?;
            Some(IpNat { internal_ip: own.to_string(), external_ip: external.to_string() })
        };
        self.floating.iter().filter_map(pair).collect()
    }
}

fn text<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    annotations.get(&format!("{PREFIX}{name}")).map(String::as_str).filter(|t| !t.is_empty())
}

fn unicast(mac: &[u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac.iter().any(|b| *b != 0)
}

fn list(name: &str, json: &str) -> Result<Vec<String>, CniError> {
    serde_json::from_str(json).map_err(|e| wrong(name, format!("{json:.200?} is no JSON list of texts: {e}")))
}

fn addresses(name: &str, json: &str) -> Result<Vec<IpAddr>, CniError> {
    let parse = |t: &String| t.parse().map_err(|_| wrong(name, format!("{t:.60?} is no address")));
    list(name, json)?.iter().map(parse).collect()
}

fn one_of_each(name: &str, json: &str) -> Result<Vec<IpAddr>, CniError> {
    let all = addresses(name, json)?;
    if all.is_empty() {
        return Err(wrong(name, "is an empty list"));
    }
    for (v4, family) in [(true, "IPv4"), (false, "IPv6")] {
        if all.iter().filter(|a| a.is_ipv4() == v4).count() > 1 {
            return Err(wrong(name, format!("names more than one {family} address")));
        }
    }
    Ok(all)
}

fn families(json: &str) -> Result<(bool, bool), CniError> {
    let name = "ipFamilies";
    let mut chosen = (false, false);
    for f in list(name, json)? {
        match f.as_str() {
            "IPv4" => chosen.0 = true,
            "IPv6" => chosen.1 = true,
            other => return Err(wrong(name, format!("{other:.40?} is not \"IPv4\" or \"IPv6\""))),
        }
    }
    if chosen == (false, false) {
        return Err(wrong(name, "is an empty list"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pod(annotations: &[(&str, &str)]) -> PodFacts {
        let annotations: BTreeMap<String, String> =
            annotations.iter().map(|(k, v)| (format!("{PREFIX}{k}"), (*v).to_owned())).collect();
        PodFacts {
            endpoint: libcalico_api::workload_endpoint::WorkloadEndpoint::default(),
            annotations,
            instance: None,
        }
    }

    fn conf(features: bool) -> NetConf {
        let json = serde_json::json!({"ipam": {"type": "calico-ipam"},
            "feature_control": {"ip_addrs_no_ipam": features, "floating_ips": features}});
        NetConf::parse(json.to_string().as_bytes()).unwrap()
    }

    fn wishes(annotations: &[(&str, &str)]) -> Result<Wishes, String> {
        read(&conf(true), Some(&pod(annotations)), None).map_err(|e| e.to_string())
    }

    #[test]
    fn the_pods_pools_win_over_its_namespaces() {
        let ns = NamespaceFacts {
            annotations: pod(&[("ipv4pools", r#"["ns"]"#), ("ipv6pools", r#"["six"]"#)]).annotations,
            ..NamespaceFacts::default()
        };
        let pod = pod(&[("ipv4pools", r#"["a","10.0.0.0/16"]"#), ("ipFamilies", r#"["IPv6"]"#)]);
        let w = read(&conf(false), Some(&pod), Some(&ns)).unwrap();
        assert_eq!(w.pools_v4.unwrap(), ["a", "10.0.0.0/16"]);
        assert_eq!(w.pools_v6.unwrap(), ["six"]);
        assert_eq!(w.families, Some((false, true)));
    }

    #[test]
    fn addresses_are_at_most_one_of_each_family() {
        let w = wishes(&[("ipAddrs", r#"["10.0.0.9","fd00::9"]"#)]).unwrap();
        assert_eq!(w.addresses.len(), 2);
        for bad in ["[]", r#"["10.0.0.1","10.0.0.2"]"#, r#"["x"]"#, "10.0.0.1"] {
            let e = wishes(&[("ipAddrs", bad)]).unwrap_err();
            assert!(e.contains("cni.projectcalico.org/ipAddrs"), "{e}");
        }
        let both = wishes(&[("ipAddrs", r#"["10.0.0.1"]"#), ("ipAddrsNoIpam", r#"["10.0.0.1"]"#)]);
        assert!(both.unwrap_err().contains("together"));
    }

    #[test]
    fn features_that_are_not_enabled_are_refused_with_the_key_to_set() {
        for (name, value, feature) in [
            ("ipAddrsNoIpam", r#"["10.0.0.1"]"#, "ip_addrs_no_ipam"),
            ("floatingIPs", r#"["192.0.2.1"]"#, "floating_ips"),
        ] {
            let e = read(&conf(false), Some(&pod(&[(name, value)])), None).unwrap_err();
            assert_eq!(e.code, Code::UnsupportedField);
            assert!(e.to_string().contains(feature), "{e}");
            assert!(wishes(&[(name, value)]).is_ok());
        }
    }

    #[test]
    fn floating_addresses_stand_for_the_pods_address_of_their_family() {
        let w = wishes(&[("floatingIPs", r#"["192.0.2.1","2001:db8::1"]"#)]).unwrap();
        let nats = w.nats(&["10.0.0.7".parse().unwrap()]);
        assert_eq!(nats.len(), 1);
        assert_eq!((nats[0].internal_ip.as_str(), nats[0].external_ip.as_str()), ("10.0.0.7", "192.0.2.1"));
    }

    #[test]
    fn a_mac_must_be_one_of_an_interface() {
        assert_eq!(wishes(&[("hwAddr", "1c:0c:0a:c0:ff:ee")]).unwrap().mac.unwrap()[0], 0x1c);
        for bad in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "1c:0c", "nonsense"] {
            assert!(wishes(&[("hwAddr", bad)]).unwrap_err().contains("hwAddr"), "{bad}");
        }
    }

    #[test]
    fn other_ipam_plugins_cannot_give_certain_addresses() {
        let conf = NetConf::parse(br#"{"ipam":{"type":"host-local"}}"#).unwrap();
        let e = read(&conf, Some(&pod(&[("ipAddrs", r#"["10.0.0.1"]"#)])), None).unwrap_err();
        assert!(e.to_string().contains("host-local"), "{e}");
        let pools = read(&conf, Some(&pod(&[("ipv4pools", "nonsense")])), None).unwrap();
        assert_eq!(pools, Wishes::default());
    }

    proptest! {
        #[test]
        fn no_annotation_makes_it_panic(values in proptest::collection::vec(".{0,40}", 8)) {
            let names = ["ipv4pools", "ipv6pools", "ipFamilies", "ipAddrs", "ipAddrsNoIpam", "hwAddr", "floatingIPs", "allowedSourcePrefixes"];
            let all: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let _ = wishes(&all);
            for one in &all {
                let _ = wishes(&[*one]);
            }
        }
    }
}
