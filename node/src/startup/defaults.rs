//! What the first node leaves for the cluster: pools, tiers and the objects named `default`. Pure, but for the random
//! parts of identifiers. Names and values are upstream's.

use libcalico_api::bgp_configuration::BGPConfiguration;
use libcalico_api::cluster_information::ClusterInformation;
use libcalico_api::common::EnabledDisabled;
use libcalico_api::felix_configuration::FelixConfiguration;
use libcalico_api::ip_pool::{IPPool, IPPoolSpec};
use libcalico_api::ipam_configuration::IPAMConfiguration;
use libcalico_api::meta::Object;
use libcalico_api::tier::Tier;
use libcalico_api::{CALICO_VERSION, ObjectMeta, Resource};
use libcalico_net::IpNet;
use libcalico_net::cidr::{Family, overlap, parse_network};
use tracing::warn;

use crate::autodetect::Interface;
use crate::environment::{DEFAULT_IPV4_POOL, PoolWish};

/// Asked in turn where the preferred pool is in use on the host.
const OTHER_IPV4_POOLS: [&str; 4] = ["172.16.0.0/16", "172.20.0.0/16", "172.24.0.0/16", "172.28.0.0/16"];

/// `default-ipv4-ippool` or `default-ipv6-ippool`.
#[must_use]
pub fn pool(wish: &PoolWish, family: Family, host: &[Interface]) -> Resource {
    let cidr = wish.cidr.unwrap_or_else(|| match family {
        Family::V4 => free_ipv4_pool(host),
        Family::V6 => random_ula(),
    });
    let spec = IPPoolSpec {
        cidr: Some(cidr.to_string()),
        ipip_mode: Some(wish.ipip),
        vxlan_mode: Some(wish.vxlan),
        nat_outgoing: wish.nat_outgoing.then_some(true),
        block_size: Some(i32::from(wish.block_size)),
        node_selector: wish.node_selector.clone(),
        disable_bgp_export: wish.disable_bgp_export.then_some(true),
        ..IPPoolSpec::default()
    };
    named::<IPPool>(&format!("default-ipv{}-ippool", family.version()), |p| p.spec = spec).into()
}

/// The preferred pool, or one that no interface of this host is in.
fn free_ipv4_pool(host: &[Interface]) -> IpNet {
    let networks: Vec<IpNet> = host.iter().flat_map(|i| &i.addresses).map(IpNet::trunc).collect();
    let free = |cidr: &IpNet| !networks.iter().any(|n| overlap(*n, *cidr));
    let candidates = std::iter::once(DEFAULT_IPV4_POOL).chain(OTHER_IPV4_POOLS);
    let mut parsed = candidates.filter_map(|c| parse_network(c).ok());
    parsed.find(free).unwrap_or_else(|| {
        warn!(
            pool = DEFAULT_IPV4_POOL,
            "every default pool overlaps a network of this host; set CALICO_IPV4POOL_CIDR"
        );
        IpNet::V4(libcalico_net::Ipv4Net::new_assert(std::net::Ipv4Addr::new(192, 168, 0, 0), 16))
    })
}

/// A random unique local /48 (RFC 4193).
fn random_ula() -> IpNet {
    let mut octets = [0u8; 16];
    let random: [u8; 5] = rand::random();
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&random);
    IpNet::V6(libcalico_net::Ipv6Net::new_assert(octets.into(), 48))
}

/// The cluster's identity. An identity that stands is never changed; version, type and readiness are brought up to date.
#[must_use]
pub fn cluster_information(
    current: Option<&ClusterInformation>,
    cluster_type: Option<&str>,
) -> Option<ClusterInformation> {
    let mut info = current.cloned().unwrap_or_else(|| named("default", |_| {}));
    let spec = &mut info.spec;
    spec.cluster_guid.get_or_insert_with(|| uuid::Uuid::new_v4().simple().to_string());
    spec.calico_version = Some(CALICO_VERSION.to_owned());
    spec.datastore_ready.get_or_insert(true);
    let mut words: Vec<String> = spec
        .cluster_type
        .iter()
        .flat_map(|t| t.split(','))
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect();
    for word in cluster_type.iter().flat_map(|t| t.split(',')).map(str::trim).filter(|w| !w.is_empty()) {
        if !words.iter().any(|w| w == word) {
            words.push(word.to_owned());
        }
    }
    spec.cluster_type = (!words.is_empty()).then(|| words.join(","));
    (current != Some(&info)).then_some(info)
}

/// The tiers that every cluster has.
#[must_use]
pub fn tiers() -> [Tier; 3] {
    [
        ("default", 1_000_000.0, "Deny"),
        ("kube-admin", 1000.0, "Pass"),
        ("kube-baseline", 10_000_000.0, "Pass"),
    ]
    .map(|(name, order, action)| {
        named(name, |t: &mut Tier| {
            t.spec.order = Some(order);
            t.spec.default_action = Some(action.to_owned());
        })
    })
}

/// Felix' global configuration, completed where a field is not set.
#[must_use]
pub fn felix_configuration(current: Option<&FelixConfiguration>) -> Option<FelixConfiguration> {
    let mut felix = current.cloned().unwrap_or_else(|| named("default", |_| {}));
    felix.spec.reporting_interval.get_or_insert_with(|| "0s".to_owned());
    felix.spec.log_severity_screen.get_or_insert_with(|| "Info".to_owned());
    (current != Some(&felix)).then_some(felix)
}

/// Felix' configuration on this node: workloads may reach the host unless someone said otherwise.
#[must_use]
pub fn node_felix_configuration(
    current: Option<&FelixConfiguration>,
    name: &str,
) -> Option<FelixConfiguration> {
    let mut felix = current.cloned().unwrap_or_else(|| named(name, |_| {}));
    felix.spec.default_endpoint_to_host_action.get_or_insert_with(|| "Return".to_owned());
    (current != Some(&felix)).then_some(felix)
}

/// BGP's global configuration: its defaults.
#[must_use]
pub fn bgp_configuration() -> BGPConfiguration {
    named("default", |_| {})
}

/// IPAM's global configuration.
#[must_use]
pub fn ipam_configuration() -> IPAMConfiguration {
    named("default", |c: &mut IPAMConfiguration| {
        c.spec.strict_affinity = Some(false);
        c.spec.auto_allocate_blocks = Some(true);
        c.spec.kube_virt_vm_address_persistence = Some(EnabledDisabled::Enabled);
    })
}

fn named<O: Named>(name: &str, fill: impl FnOnce(&mut O)) -> O {
    let mut object = O::default();
    name.clone_into(&mut object.meta().name);
    fill(&mut object);
    object
}

trait Named: Default {
    fn meta(&mut self) -> &mut ObjectMeta;
}

impl<S: Default, T: Default> Named for Object<S, T> {
    fn meta(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> PoolWish {
        crate::environment::Environment::from_lookup(|_| None, Some("n")).unwrap().ipv4_pool.unwrap()
    }

    fn cidr_on(host: &[&str]) -> String {
        let host = [Interface {
            name: "eth0".to_owned(),
            addresses: host.iter().map(|a| a.parse().unwrap()).collect(),
        }];
        let pool = pool(&wish(), Family::V4, &host);
        <&IPPool>::try_from(&pool).unwrap().spec.cidr.clone().unwrap()
    }

    #[test]
    fn the_default_pool_avoids_the_hosts_networks() {
        assert_eq!(cidr_on(&["10.0.0.1/24"]), "192.168.0.0/16");
        assert_eq!(cidr_on(&["192.168.1.7/24"]), "172.16.0.0/16");
        assert_eq!(cidr_on(&["192.168.1.7/24", "172.16.0.1/12"]), "192.168.0.0/16");
    }

    #[test]
    fn the_ipv6_pool_is_a_random_unique_local_network() {
        let (a, b) = (random_ula(), random_ula());
        assert_ne!(a, b);
        assert!(a.to_string().starts_with("fd") && a.prefix_len() == 48, "{a}");
    }

    #[test]
    fn a_cluster_keeps_its_identity() {
        let first = cluster_information(None, Some("lab")).unwrap();
        assert_eq!(first.spec.cluster_guid.as_ref().unwrap().len(), 32);
        assert!(cluster_information(Some(&first), Some("lab")).is_none());
        let second = cluster_information(Some(&first), Some("k8s,lab")).unwrap();
        assert_eq!(second.spec.cluster_guid, first.spec.cluster_guid);
        assert_eq!(second.spec.cluster_type.as_deref(), Some("lab,k8s"));
    }

    #[test]
    fn a_cluster_that_was_locked_stays_locked() {
        let mut info = cluster_information(None, None).unwrap();
        info.spec.datastore_ready = Some(false);
        assert!(cluster_information(Some(&info), None).is_none());
    }

    #[test]
    fn felix_settings_that_someone_made_stay() {
        let mut felix = felix_configuration(None).unwrap();
        assert_eq!(felix.spec.reporting_interval.as_deref(), Some("0s"));
        felix.spec.reporting_interval = Some("30s".to_owned());
        assert!(felix_configuration(Some(&felix)).is_none());
    }
}
