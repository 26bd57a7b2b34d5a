//! The words for the two ends of a question: `NAMESPACE/POD`, `labels:K=V@NAMESPACE`, `host:HOSTENDPOINT`, an address,
//! `outside`; and for the destination `svc:NAMESPACE/SERVICE`, a port and a protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::num_or_string::Protocol;

use crate::policy::world::{EndKey, HostInterface, OUTSIDE, World};
use crate::{Error, Result};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// An end as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Pod {
        namespace: String,
        name: String,
    },
    Imagined {
        namespace: String,
        labels: BTreeMap<String, String>,
    },
    /// A HostEndpoint by its name.
    Host(String),
    /// A Service of Kubernetes.
    Service {
        namespace: String,
        name: String,
    },
    Address(IpAddr),
    Outside,
}

/// What the traffic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// IANA number. ICMP stands for ICMPv6 where the addresses are IPv6.
    pub protocol: u8,
    /// `None`: every port.
    pub port: Option<u16>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { protocol: TCP, port: None }
    }
}

impl Traffic {
    /// True where ports mean something.
    #[must_use]
    pub fn has_ports(self) -> bool {
        // TCP, UDP, DCCP, SCTP, UDP-Lite
        matches!(self.protocol, 6 | 17 | 33 | 132 | 136)
    }

    /// The protocol's number among addresses of a family.
    #[must_use]
    pub fn protocol_for(self, v4: bool) -> u8 {
        match self.protocol {
            ICMP | ICMPV6 => {
                if v4 {
                    ICMP
                } else {
                    ICMPV6
                }
            }
            other => other,
        }
    }

    /// `TCP`
    #[must_use]
    pub fn protocol_name(self) -> String {
        match self.protocol {
            1 | 58 => "ICMP echo request".to_owned(),
            6 => "TCP".to_owned(),
            17 => "UDP".to_owned(),
            132 => "SCTP".to_owned(),
            136 => "UDPLite".to_owned(),
            n => format!("protocol {n}"),
        }
    }

    /// `80/tcp`, `80`, `udp`
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::Usage(format!("{text:?}: {what}; write PORT/PROTOCOL such as 80/tcp, or udp"))
        };
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (Some(port), Some(protocol)),
            None if text.chars().all(|c| c.is_ascii_digit()) => (Some(text), None),
            None => (None, Some(text)),
        };
        let protocol = match protocol {
            None => TCP,
            Some(name) => {
                let all = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"];
                let known = all.iter().find(|p| p.eq_ignore_ascii_case(name));
                let parsed = match known {
                    Some(name) => serde_json::from_value::<Protocol>(serde_json::json!(name)).ok(),
                    None => name.parse::<u8>().ok().and_then(|n| serde_json::from_value(n.into()).ok()),
                };
                parsed.and_then(|p| p.number()).ok_or_else(|| wrong("unknown protocol"))?
            }
        };
        let port = port.map(|p| p.parse::<u16>().map_err(|_| wrong("not a port"))).transpose()?;
        let traffic = Self { protocol, port };
        if port.is_some() && !traffic.has_ports() {
            return Err(wrong("this protocol has no ports"));
        }
        Ok(traffic)
    }
}

/// Reads FROM.
pub fn parse(text: &str) -> Result<Named> {
    let hint = "write NAMESPACE/POD, labels:KEY=VALUE@NAMESPACE, host:HOSTENDPOINT, svc:NAMESPACE/SERVICE, an address or `outside`";
    let wrong = |what: &str| Error::Usage(format!("{text:?}: {what}; {hint}"));
    if text == "outside" {
        return Ok(Named::Outside);
    }
    if let Some(rest) = text.strip_prefix("labels:") {
        let (pairs, namespace) = rest.rsplit_once('@').unwrap_or((rest, "default"));
        let mut labels = BTreeMap::new();
        for pair in pairs.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| wrong("a label without ="))?;
            labels.insert(key.to_owned(), value.to_owned());
        }
        return Ok(Named::Imagined { namespace: namespace.to_owned(), labels });
    }
    match text.strip_prefix("host:") {
        Some("") => return Err(wrong("no HostEndpoint is named")),
        Some(name) => return Ok(Named::Host(name.to_owned())),
        None => {}
    }
    if let Some(rest) = text.strip_prefix("svc:") {
        return match rest.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Named::Service { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(wrong("not a service")),
        };
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(addr) = bare.parse() {
        return Ok(Named::Address(addr));
    }
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Named::Pod { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(wrong("not an end of traffic")),
    }
}

/// Reads TO: as FROM, with `:PORT`, `:PORT/PROTOCOL` or `:PROTOCOL` behind.
pub fn parse_destination(text: &str) -> Result<(Named, Traffic)> {
    // An IPv6 address without brackets has colons of its own.
    if text.parse::<IpAddr>().is_ok() {
        return Ok((parse(text)?, Traffic::default()));
    }
    let words = ["labels:", "host:", "svc:"];
    let skip = words.iter().find(|w| text.starts_with(**w)).map_or(0, |w| w.len());
    let tail = text.get(skip..).unwrap_or_default();
    match tail.rsplit_once(':') {
        Some((head, traffic)) if !traffic.ends_with(']') => {
            let end = text.get(..skip + head.len()).unwrap_or_default();
            Ok((parse(end)?, Traffic::parse(traffic)?))
        }
        _ => Ok((parse(text)?, Traffic::default())),
    }
}

/// An end that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// `NAMESPACE/POD`, the address, or `outside`.
    pub name: String,
    /// None: no end of this cluster's that policy applies to.
    pub endpoint: Option<EndKey>,
    pub addresses: Vec<IpAddr>,
}

impl Party {
    /// Somewhere outside of the cluster.
    #[must_use]
    pub fn outside() -> Self {
        Self { name: "outside".to_owned(), endpoint: None, addresses: OUTSIDE.to_vec() }
    }

    /// An endpoint of the world.
    #[must_use]
    pub fn of(e: &crate::policy::world::Endpoint) -> Self {
        let endpoint = Some(EndKey::Workload(e.key.clone()));
        Self { name: e.name.clone(), endpoint, addresses: e.addresses.clone() }
    }

    /// A host's interface.
    #[must_use]
    pub fn of_host(h: &HostInterface) -> Self {
        let endpoint = Some(EndKey::Host { node: h.node.clone(), name: h.name.clone() });
        Self { name: format!("host:{}", h.name), endpoint, addresses: h.addresses.clone() }
    }
}

/// Finds an end in the world; a pod that does not exist yet is added to it.
pub fn find(world: &mut World, named: Named) -> Result<Party> {
    match named {
        Named::Outside => Ok(Party::outside()),
        Named::Address(addr) => Ok(at_address(world, addr)),
        Named::Host(name) => {
            let hint = "`calicoctl get hostendpoints` lists what there is";
            let found = world.hosts.get(&name).map(Party::of_host);
            let found =
                found.ok_or_else(|| Error::Usage(format!("there is no host endpoint {name}; {hint}")))?;
            if found.addresses.is_empty() {
                return Err(Error::Usage(format!(
                    "host endpoint {name} names no expectedIPs and its node has no address; name the end by an address"
                )));
            }
            Ok(found)
        }
        Named::Service { namespace, name } => Err(Error::Usage(format!(
            "svc:{namespace}/{name}: a service can be where traffic goes to, not where it comes from"
        ))),
        Named::Pod { namespace, name } => {
            let full = format!("{namespace}/{name}");
            let mut found = world.endpoints.values().filter(|e| e.name == full);
            let hint = "`calicoctl get workloadendpoints -A` lists what there is";
            let first = found
                .next()
                .ok_or_else(|| Error::Usage(format!("there is no pod {full} with a network; {hint}")))?;
            match found.next() {
                None => Ok(Party::of(first)),
                Some(_) => {
                    Err(Error::Usage(format!("{full} has several interfaces; name it by its address")))
                }
            }
        }
        Named::Imagined { namespace, labels } => {
            let shown: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let name = format!("labels:{}@{namespace}", shown.join(","));
            let key = world.imagine(&namespace, labels);
            let addresses = world.endpoints.get(&key).map(|e| e.addresses.clone()).unwrap_or_default();
            Ok(Party { name, endpoint: Some(EndKey::Workload(key)), addresses })
        }
    }
}

/// Whoever has an address.
#[must_use]
pub fn at_address(world: &World, addr: IpAddr) -> Party {
    let own = world.endpoint_at(addr).map(Party::of).or_else(|| world.host_at(addr).map(Party::of_host));
    let own = own.unwrap_or_else(|| Party { name: addr.to_string(), endpoint: None, addresses: Vec::new() });
    Party { addresses: vec![addr], ..own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_are_read_with_and_without_ports() {
        let pod = |ns: &str, n: &str| Named::Pod { namespace: ns.to_owned(), name: n.to_owned() };
        let to = |t: &str| parse_destination(t).unwrap();
        let traffic = |protocol, port| Traffic { protocol, port };
        assert_eq!(to("default/web"), (pod("default", "web"), traffic(6, None)));
        assert_eq!(to("default/web:80"), (pod("default", "web"), traffic(6, Some(80))));
        assert_eq!(to("default/web:53/UDP"), (pod("default", "web"), traffic(17, Some(53))));
        assert_eq!(to("default/web:icmp"), (pod("default", "web"), traffic(1, None)));
        let v6 = Named::Address("fd00::7".parse().unwrap());
        assert_eq!(to("fd00::7"), (v6.clone(), traffic(6, None)));
        assert_eq!(to("[fd00::7]:80/tcp"), (v6.clone(), traffic(6, Some(80))));
        assert_eq!(to("[fd00::7]"), (v6, traffic(6, None)));
        let labels = BTreeMap::from([("app".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())]);
        let imagined = Named::Imagined { namespace: "prod".to_owned(), labels };
        assert_eq!(to("labels:app=x,b=y@prod:80/tcp"), (imagined.clone(), traffic(6, Some(80))));
        assert_eq!(parse("labels:app=x,b=y@prod").unwrap(), imagined);
        assert_eq!(parse("outside").unwrap(), Named::Outside);
        assert_eq!(to("host:node-a.eth0:22"), (Named::Host("node-a.eth0".to_owned()), traffic(6, Some(22))));
        let service = Named::Service { namespace: "prod".to_owned(), name: "db".to_owned() };
        assert_eq!(to("svc:prod/db:5432/tcp"), (service, traffic(6, Some(5432))));
        for wrong in [
            "",
            "web",
            "a/",
            "host:",
            "svc:db",
            "labels:x@ns",
            "default/web:http",
            "default/web:80/icmp",
            "default/web:99999",
        ] {
            assert!(parse_destination(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ -~é]{0,40}") {
            let _ = parse_destination(&text);
            let _ = Traffic::parse(&text);
        }
    }
}
