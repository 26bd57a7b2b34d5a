//! The host's interfaces as the kernel has them: those that are up, in the order of their indexes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_net::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

/// An interface and its addresses with their networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<IpNet>,
}

/// Reads the interfaces of the current network namespace.
pub fn interfaces() -> nix::Result<Vec<Interface>> {
    let mut found: BTreeMap<(u32, String), Vec<IpNet>> = BTreeMap::new();
    for entry in getifaddrs()? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let index = if_nametoindex(entry.interface_name.as_str()).unwrap_or(u32::MAX);
        let addresses = found.entry((index, entry.interface_name.clone())).or_default();
        addresses.extend(network(&entry));
    }
    Ok(found.into_iter().map(|((_, name), addresses)| Interface { name, addresses }).collect())
}

fn network(entry: &InterfaceAddress) -> Option<IpNet> {
    let address = ip(entry.address.as_ref()?)?;
    let mask = ip(entry.netmask.as_ref()?)?;
    IpNet::with_netmask(address, mask).ok()
}

fn ip(socket: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = socket.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
    v4.or_else(|| socket.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip())))
}
