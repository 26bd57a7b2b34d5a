//! What the environment says of this node, apart from the datastore. Names are upstream's.

use std::net::Ipv4Addr;

use libcalico_api::duration::GoDuration;
use libcalico_net::IpNet;
use sha2::{Digest, Sha256};

/// Settings that shape the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// `CALICO_ROUTER_ID`.
    pub router_id: RouterId,
    /// `BGP_LOGSEVERITYSCREEN`: wins over the datastore's `logSeverityScreen`.
    pub log_severity: Option<String>,
}

/// Where the BGP identifier comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterId {
    /// The node's IPv4 address, or the hash of its name where it has none.
    #[default]
    NodeAddress,
    /// The first four bytes of the SHA-256 of the node's name, as upstream does.
    Hash,
    Fixed(Ipv4Addr),
}

/// A value that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("CALICO_ROUTER_ID={0:?} is neither an IPv4 address nor \"hash\"")]
    RouterId(String),
}

impl NodeSettings {
    /// Reads the settings by asking for each variable's value; empty counts as absent.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let router_id = match get("CALICO_ROUTER_ID") {
            None => RouterId::NodeAddress,
            Some(v) if v == "hash" => RouterId::Hash,
            Some(v) => RouterId::Fixed(v.parse().map_err(|_| SettingsError::RouterId(v))?),
        };
        Ok(Self { router_id, log_severity: get("BGP_LOGSEVERITYSCREEN") })
    }
}

impl RouterId {
    /// The identifier of a node.
    #[must_use]
    pub fn resolve(self, node_name: &str, address: Option<Ipv4Addr>) -> Ipv4Addr {
        match (self, address) {
            (Self::Fixed(id), _) => id,
            (Self::NodeAddress, Some(a)) => a,
            (Self::Hash, _) | (Self::NodeAddress, None) => {
                let digest = Sha256::digest(node_name.as_bytes());
                let mut octets = [0u8; 4];
                octets.iter_mut().zip(digest.iter()).for_each(|(o, d)| *o = *d);
                Ipv4Addr::from(octets)
            }
        }
    }
}

/// A duration field in whole seconds, rounded; `None` where it is absent, negative or no duration.
#[must_use]
pub fn duration_secs(text: Option<&str>) -> Option<u64> {
    let duration = text?.parse::<GoDuration>().ok()?.to_std()?;
    Some(duration.as_secs() + u64::from(duration.subsec_millis() >= 500))
}

/// The address of a node's `10.0.0.1/24`, with the network it stands in.
#[must_use]
pub fn parse_interface_address(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().ok().map(libcalico_net::cidr::host_net))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_node_name_is_the_router_id() {
        assert_eq!(RouterId::Hash.resolve("kube-master", None), Ipv4Addr::new(25, 79, 212, 8));
        assert_eq!(
            RouterId::NodeAddress.resolve("kube-master", Some(Ipv4Addr::new(10, 0, 0, 1))),
            Ipv4Addr::new(10, 0, 0, 1)
        );
    }

    #[test]
    fn a_router_id_that_is_no_address_is_an_error() {
        let settings = |v: &'static str| NodeSettings::from_lookup(move |_| Some(v.to_owned()));
        assert!(settings("10.0.0").is_err());
        assert_eq!(settings("hash").unwrap().router_id, RouterId::Hash);
    }

    #[test]
    fn durations_are_rounded_to_seconds() {
        assert_eq!(duration_secs(Some("1m0s")), Some(60));
        assert_eq!(duration_secs(Some("600ms")), Some(1));
        assert_eq!(duration_secs(Some("soon")), None);
        assert_eq!(duration_secs(None), None);
    }
}
