//! Addresses of a node's own tunnel devices.
//!
//! In come the node and the kind of tunnel, out comes the address that the device should have. Handle and attributes
//! are upstream's, so that `ipam check` and the garbage collector know whose the address is. Asked again it gives the
//! same address as long as that lies in a pool for tunnels of this node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use libcalico_api::ip_pool::AllowedUse;
use libcalico_net::cidr::Family;

use crate::assign::AssignRequest;
use crate::client::IpamClient;
use crate::error::IpamError;
use crate::owner::Owner;

/// A device of the node that needs an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tunnel {
    Ipip,
    Vxlan,
    VxlanV6,
    Wireguard,
    WireguardV6,
}

impl Tunnel {
    /// Family of the address.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Ipip | Self::Vxlan | Self::Wireguard => Family::V4,
            Self::VxlanV6 | Self::WireguardV6 => Family::V6,
        }
    }

    /// Name under which the address is released.
    #[must_use]
    pub fn handle(self, node: &str) -> String {
        let kind = match self {
            Self::Ipip => "ipip-tunnel-addr",
            Self::Vxlan => "vxlan-tunnel-addr",
            Self::VxlanV6 => "vxlan-v6-tunnel-addr",
            Self::Wireguard => "wireguard-tunnel-addr",
            Self::WireguardV6 => "wireguard-v6-tunnel-addr",
        };
        format!("{kind}-{node}")
    }

    /// The attribute `type`.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Ipip => "ipipTunnelAddress",
            Self::Vxlan => "vxlanTunnelAddress",
            Self::VxlanV6 => "vxlanV6TunnelAddress",
            Self::Wireguard => "wireguardTunnelAddress",
            Self::WireguardV6 => "wireguardV6TunnelAddress",
        }
    }
}

impl IpamClient {
    /// The tunnel's address on the node: the one it has, or a new one from the pools (CIDRs or names) that use this
    /// kind of tunnel.
    pub async fn claim_tunnel_address(
        &self,
        node: &str,
        tunnel: Tunnel,
        pools: &[String],
    ) -> Result<IpAddr, IpamError> {
        let handle = tunnel.handle(node);
        let has = self.ips_by_handle(&handle).await?;
        let in_pools = |addr: IpAddr| {
            pools.is_empty()
                || pools
                    .iter()
                    .any(|p| p.parse::<libcalico_net::cidr::IpNet>().is_ok_and(|n| n.contains(&addr)))
        };
        if let Some(a) = has.iter().find(|a| in_pools(a.addr)) {
            return Ok(a.addr);
        }
        if !has.is_empty() {
            self.release_by_handle(&handle, Vec::new()).await?;
        }
        let v4 = tunnel.family() == Family::V4;
        let request = AssignRequest {
            num_v4: usize::from(v4),
            num_v6: usize::from(!v4),
            handle_id: Some(handle),
            attributes: BTreeMap::from([
                ("node".to_owned(), node.to_owned()),
                ("type".to_owned(), tunnel.attribute().to_owned()),
            ]),
            pools_v4: if v4 { pools.to_vec() } else { Vec::new() },
            pools_v6: if v4 { Vec::new() } else { pools.to_vec() },
            intended_use: AllowedUse::Tunnel,
            ..AssignRequest::workload(Owner::host(node))
        };
        let got = self.assign(&request).await?;
        got.addresses.first().map(|a| a.addr).ok_or_else(|| IpamError::Exhausted {
            node: node.to_owned(),
            family: tunnel.family(),
            wanted: 1,
            available: 0,
            reason: "no address was assigned".to_owned(),
        })
    }

    /// Frees the tunnel's address on the node.
    pub async fn release_tunnel_address(&self, node: &str, tunnel: Tunnel) -> Result<(), IpamError> {
        self.release_by_handle(&tunnel.handle(node), Vec::new()).await.map(|_| ())
    }
}
