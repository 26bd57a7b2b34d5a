//! The pod's interface in the kernel, by netlink and sysctl, within this process.
//!
//! In come [`NetworkPlan`]s, out goes a kernel that looks like them. [`make_pair`] needs no address and can run while
//! the datastore is asked; [`configure`] does the rest; [`remove`] undoes both. Each may be repeated: what stands as
//! planned is left, a pair that an interrupted ADD left is replaced.
//!
//! Both ends of the pair are made by one message, the pod's end directly in its namespace, so no half of it ever
//! stands in the wrong place.

pub mod netlink;
pub mod netns;
pub mod sysctl;

use std::net::IpAddr;
use std::path::Path;

use libcalico_net::cidr::IpNet;

use self::netlink::{End, Link, Netlink, NetlinkError};
use self::netns::NetNs;
use crate::error::{CniError, Code};
use crate::plan::{HOST_MAC, NetworkPlan, mac_text};

/// What went wrong with an interface.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{what}: {source}")]
    Netlink { what: String, source: NetlinkError },
    #[error("sysctl {key}={value}: {source}")]
    Sysctl { key: String, value: &'static str, source: std::io::Error },
    #[error("network namespace {path}: {source}")]
    Namespace { path: String, source: std::io::Error },
    #[error(
        "interface {name} exists already in {place} and is not ours; remove it or choose another CNI_IFNAME"
    )]
    Exists { name: String, place: String },
    #[error("interface {name} is not in {place}")]
    Missing { name: String, place: String },
}

impl From<NetworkError> for CniError {
    fn from(e: NetworkError) -> Self {
        let code =
            if matches!(e, NetworkError::Namespace { .. }) { Code::UnknownContainer } else { Code::Network };
        Self::new(code, e.to_string())
    }
}

type Result<T> = std::result::Result<T, NetworkError>;

fn at<T>(r: std::result::Result<T, NetlinkError>, what: impl FnOnce() -> String) -> Result<T> {
    r.map_err(|source| NetworkError::Netlink { what: what(), source })
}

fn open() -> Result<Netlink> {
    at(Netlink::open(), || "opening a netlink socket".to_owned())
}

/// Makes the veth pair, both ends down, and sets the host end's sysctls while it is down (duplicate address detection
/// reads them when it comes up).
pub fn make_pair(plan: &NetworkPlan, ns: &NetNs) -> Result<()> {
    let mut host = open()?;
    let end = |name, mac| End { name, mac, mtu: plan.mtu, queues: plan.queues };
    let create = |host: &mut Netlink| {
        host.create_veth(end(&plan.host_ifname, HOST_MAC), end(&plan.pod_ifname, plan.pod_mac), ns.fd())
    };
    match create(&mut host) {
        Err(e) if e.exists() => {
            clear_way(plan, ns, &mut host)?;
            at(create(&mut host), || format!("making {}", plan.host_ifname))?;
        }
        done => at(done, || format!("making {}", plan.host_ifname))?,
    }
    for (key, value) in &plan.host_sysctls {
        sysctl::set(key, value)?;
    }
    Ok(())
}

/// Removes what an earlier ADD of the pod left under the names. Anything else under them is an error.
fn clear_way(plan: &NetworkPlan, ns: &NetNs, host: &mut Netlink) -> Result<()> {
    if let Some(link) = find(host, &plan.host_ifname)? {
        if !link.is_veth {
            return Err(NetworkError::Exists { name: link.name, place: "the host".to_owned() });
        }
        tracing::info!(interface = %link.name, "removing the interface of an earlier container");
        at(host.delete_link(link.index), || format!("removing {}", plan.host_ifname))?;
    }
    ns.run(|| {
        let mut pod = open()?;
        match find(&mut pod, &plan.pod_ifname)? {
            None => Ok(()),
            Some(l) if l.is_veth && l.mac == plan.pod_mac => {
                at(pod.delete_link(l.index), || format!("removing {}", plan.pod_ifname))
            }
            Some(l) => Err(NetworkError::Exists { name: l.name, place: ns.path().display().to_string() }),
        }
    })
}

/// Brings both ends up, without any address: enough to ask for one over the interface.
pub fn raise(plan: &NetworkPlan, ns: &NetNs) -> Result<()> {
    raise_end(&plan.host_ifname, "the host")?;
    ns.run(|| raise_end(&plan.pod_ifname, &ns.path().display().to_string()))
}

fn raise_end(name: &str, place: &str) -> Result<()> {
    let mut nl = open()?;
    let link = need(&mut nl, name, place)?;
    at(nl.set_up(link.index), || format!("bringing {name} up"))
}

/// Brings both ends up and gives the pod its addresses, routes and sysctls, the host its routes.
pub fn configure(plan: &NetworkPlan, ns: &NetNs) -> Result<()> {
    let mut host = open()?;
    let link = need(&mut host, &plan.host_ifname, "the host")?;
    at(host.set_up(link.index), || format!("bringing {} up", plan.host_ifname))?;
    ns.run(|| configure_pod(plan, ns.path()))?;
    for dst in &plan.host_routes {
        at(host.add_route(*dst, link.index, None), || format!("host route to {dst}"))?;
    }
    Ok(())
}

fn configure_pod(plan: &NetworkPlan, place: &Path) -> Result<()> {
    let mut pod = open()?;
    let link = need(&mut pod, &plan.pod_ifname, &place.display().to_string())?;
    for (key, value) in &plan.pod_sysctls {
        sysctl::set(key, value)?;
    }
    at(pod.set_up(link.index), || format!("bringing {} up", plan.pod_ifname))?;
    for address in &plan.addresses {
        at(pod.add_address(link.index, *address), || format!("address {address}"))?;
    }
    for r in &plan.pod_routes {
        at(pod.add_route(r.dst, link.index, r.gateway), || format!("route to {} in the pod", r.dst))?;
    }
    Ok(())
}

/// Takes the pod's end down where it is a veth with that MAC: from then on no packet leaves the pod. True where there is
/// one. Quick, unlike [`remove`], in which the kernel waits until nobody can hold the interface any more (an RCU grace
/// period: about 10 ms, on a busy machine several times that).
pub fn cut(pod_ifname: &str, mac: [u8; 6], ns: &NetNs) -> Result<bool> {
    ns.run(|| {
        let mut pod = open()?;
        match find(&mut pod, pod_ifname)? {
            Some(l) if l.is_veth && l.mac == mac => {
                at(pod.set_down(l.index), || format!("taking {pod_ifname} down"))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    })
}

/// Removes the pod's end, and with it the host's, where it is a veth with that MAC. What is not there is done.
pub fn remove(pod_ifname: &str, mac: [u8; 6], ns: &NetNs) -> Result<bool> {
    ns.run(|| {
        let mut pod = open()?;
        match find(&mut pod, pod_ifname)? {
            Some(l) if l.is_veth && l.mac == mac => {
                at(pod.delete_link(l.index), || format!("removing {pod_ifname}"))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    })
}

/// Removes a pair by its host end. What is not there, or no veth, is left.
pub fn remove_host(host_ifname: &str) -> Result<bool> {
    let mut host = open()?;
    match find(&mut host, host_ifname)? {
        Some(l) if l.is_veth => {
            at(host.delete_link(l.index), || format!("removing {host_ifname}"))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Says what is not as planned: the check of CHECK, and of an ADD that is repeated.
pub fn differences(plan: &NetworkPlan, ns: &NetNs) -> Result<Vec<String>> {
    let mut host = open()?;
    let mut wrong = Vec::new();
    match find(&mut host, &plan.host_ifname)? {
        None => wrong.push(format!("{} does not exist on the host", plan.host_ifname)),
        Some(l) => {
            if !l.up {
                wrong.push(format!("{} is down", plan.host_ifname));
            }
            let routes = at(host.routes_over(l.index), || "reading routes".to_owned())?;
            let missing = plan.host_routes.iter().filter(|dst| !routes.contains(&(**dst, None)));
            wrong.extend(missing.map(|dst| format!("there is no route to {dst} over {}", plan.host_ifname)));
        }
    }
    ns.run(|| {
        let mut pod = open()?;
        let Some(l) = find(&mut pod, &plan.pod_ifname)? else {
            wrong.push(format!("{} does not exist in the pod", plan.pod_ifname));
            return Ok(());
        };
        if !l.up {
            wrong.push(format!("{} is down in the pod", plan.pod_ifname));
        }
        if l.mac != plan.pod_mac {
            wrong.push(format!(
                "{} has the MAC {}, not {}",
                plan.pod_ifname,
                mac_text(&l.mac),
                mac_text(&plan.pod_mac)
            ));
        }
        let addresses = at(pod.addresses_of(l.index), || "reading addresses".to_owned())?;
        wrong.extend(
            plan.addresses.iter().filter(|a| !addresses.contains(a)).map(|a| format!("the pod lacks {a}")),
        );
        let routes: Vec<(IpNet, Option<IpAddr>)> =
            at(pod.routes_over(l.index), || "reading routes".to_owned())?;
        let missing = plan.pod_routes.iter().filter(|r| !routes.contains(&(r.dst, r.gateway)));
        wrong.extend(missing.map(|r| format!("the pod lacks the route to {}", r.dst)));
        Ok(())
    })?;
    Ok(wrong)
}

fn find(nl: &mut Netlink, name: &str) -> Result<Option<Link>> {
    at(nl.link_by_name(name), || format!("looking for {name}"))
}

fn need(nl: &mut Netlink, name: &str, place: &str) -> Result<Link> {
    find(nl, name)?.ok_or_else(|| NetworkError::Missing { name: name.to_owned(), place: place.to_owned() })
}
