//! Links, addresses and routes inside named namespaces, by rtnetlink.
//!
//! In: a [`Topology`]. Out: its bridges and wires in the kernel.
//! What always holds: no link is ever made in the root namespace: a wire is made inside the machine's namespace
//! and its far end moved straight into the fabric's.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::Builder;

use super::netns;
use crate::error::Doing;
use crate::topology::{Bridge, Machine, PREFIX_V4, PREFIX_V6};
use crate::{LabError, Result};

/// Makes a link carry packets.
pub fn set_up(ns: &str, link: &str) -> Result<()> {
    request(ns, &format!("setting {link} up in {ns}"), async |handle| {
        let index = index_of(&handle, link).await?;
        handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
    })
}

/// Makes one subnet's switch with the router's addresses, in the fabric's namespace.
pub fn add_bridge(fab: &str, bridge: &Bridge) -> Result<()> {
    request(fab, &format!("making bridge {} in {fab}", bridge.name), async |handle| {
        handle.link().add(LinkBridge::new(&bridge.name).up().build()).execute().await?;
        let index = index_of(&handle, &bridge.name).await?;
        handle.address().add(index, bridge.v4.into(), PREFIX_V4).execute().await?;
        handle.address().add(index, bridge.v6.into(), PREFIX_V6).execute().await
    })
}

/// Lets the fabric's namespace pass packets between its bridges.
pub fn make_router(fab: &str) -> Result<()> {
    netns::within(fab, || {
        for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
            fs::write(file, "1").doing(|| format!("writing {file} in {fab}"))?;
        }
        Ok(())
    })
}

/// Plugs a machine in: `eth0` with its addresses and default routes, the other end on its bridge.
pub fn plug(ns: &str, fab: &str, machine: &Machine) -> Result<()> {
    let far_end = format!("p-{}", machine.name);
    let fab_file = fs::File::open(netns::path(fab)).doing(|| format!("opening network namespace {fab}"))?;
    let fab_fd = fab_file.as_raw_fd();
    request(ns, &format!("plugging {} in", machine.name), async |handle| {
        handle.link().add(LinkVeth::new("eth0", &far_end).build()).execute().await?;
        let far = index_of(&handle, &far_end).await?;
        handle.link().set(LinkUnspec::new_with_index(far).setns_by_fd(fab_fd).build()).execute().await
    })?;
    request(fab, &format!("plugging {} into {}", machine.name, machine.bridge), async |handle| {
        let bridge = index_of(&handle, &machine.bridge).await?;
        let far = index_of(&handle, &far_end).await?;
        handle.link().set(LinkUnspec::new_with_index(far).controller(bridge).up().build()).execute().await
    })?;
    request(ns, &format!("addressing {}", machine.name), async |handle| {
        let index = index_of(&handle, "eth0").await?;
        handle.address().add(index, machine.v4.into(), PREFIX_V4).execute().await?;
        handle.address().add(index, machine.v6.into(), PREFIX_V6).execute().await?;
        handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
        for gateway in [IpAddr::V4(machine.gateway_v4), IpAddr::V6(machine.gateway_v6)] {
            let route = match gateway {
                IpAddr::V4(v4) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(v4).build(),
                IpAddr::V6(v6) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(v6).build(),
            };
            handle.route().add(route).execute().await?;
        }
        Ok(())
    })
}

/// Asks the kernel for the index of a link by its name.
async fn index_of(handle: &Handle, name: &str) -> std::result::Result<u32, rtnetlink::Error> {
    use futures::TryStreamExt as _;
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await? {
        Some(link) => Ok(link.header.index),
        None => Err(rtnetlink::Error::RequestFailed),
    }
}

/// The names of all links in a namespace, `lo` included.
pub fn names(ns: &str) -> Result<Vec<String>> {
    use futures::TryStreamExt as _;
    request(ns, &format!("listing links in {ns}"), async |handle| {
        let mut names = Vec::new();
        let mut links = handle.link().get().execute();
        while let Some(link) = links.try_next().await? {
            names.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            }));
        }
        Ok(names)
    })
}

/// Runs netlink requests inside a namespace on a thread and runtime of their own.
fn request<T: Send>(
    ns: &str,
    what: &str,
    work: impl AsyncFnOnce(Handle) -> std::result::Result<T, rtnetlink::Error> + Send,
) -> Result<T> {
    netns::within(ns, || {
        let runtime = Builder::new_current_thread().enable_io().build().doing(|| what.to_owned())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().doing(|| what.to_owned())?;
            let connection = tokio::spawn(connection);
            let result = work(handle).await;
            connection.abort();
            result.map_err(|source| LabError::Netlink { what: what.to_owned(), source })
        })
    })
}
