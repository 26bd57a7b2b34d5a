//! Routes, interfaces and addresses of the kernel, by rtnetlink.
//!
//! Always holds: a dump is returned whole or not at all; changes go out in batches, and each one that the kernel
//! refuses is reported with its prefix.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bird_core::{
    Interface, InterfaceAddress, KERNEL_PROTOCOL, KernelChange, KernelDest, KernelHop, KernelRoute,
};
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Changes in one write. Acknowledgements of a batch must fit the socket's receive buffer.
const BATCH: usize = 128;

/// How often a dump that changed while it was read is tried again.
const DUMP_TRIES: usize = 5;

/// A socket for requests.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_rx_buf_sz(1 << 20)?;
        // Lets the kernel filter dumps by table and family; older kernels go without.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 1 })
    }

    fn message(&mut self, payload: RouteNetlinkMessage, flags: u16, out: &mut Vec<u8>) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let start = out.len();
        out.resize(start + message.buffer_len(), 0);
        if let Some(room) = out.get_mut(start..) {
            message.serialize(room);
        }
        self.sequence
    }

    fn dump(&mut self, request: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_TRIES {
            if let Some(all) = self.dump_once(request.clone())? {
                return Ok(all);
            }
        }
        Err(io::Error::other("the kernel's tables change too fast to be read"))
    }

    /// `None` when the kernel says that the dump is not consistent.
    fn dump_once(&mut self, request: RouteNetlinkMessage) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut buffer = Vec::new();
        let sequence = self.message(request, NLM_F_DUMP, &mut buffer);
        self.socket.send(&buffer, 0)?;
        let mut out = Vec::new();
        let mut interrupted = false;
        loop {
            let (data, _) = self.socket.recv_from_full()?;
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let len = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(len.max(4)..).unwrap_or(&[]);
                if message.header.sequence_number != sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(out)),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => out.push(inner),
                    _ => {}
                }
            }
        }
    }

    /// All interfaces with their addresses.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let links = self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let addresses = self.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let mut out: Vec<Interface> = links
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewLink(link) => Some(interface(&link)),
                _ => None,
            })
            .collect();
        for message in addresses {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            let owner = out.iter_mut().find(|i| i.index == message.header.index);
            if let (Some(owner), Some(address)) = (owner, address(&message)) {
                owner.addresses.push(address);
            }
        }
        Ok(out)
    }

    /// All routes of a family in a table.
    pub fn routes(&mut self, table: u32, ipv6: bool) -> io::Result<Vec<KernelRoute>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(ipv6);
        set_table(&mut request, table);
        let all = self.dump(&RouteNetlinkMessage::GetRoute(request))?;
        Ok(all
            .into_iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewRoute(route) => kernel_route(&route, table, ipv6),
                _ => None,
            })
            .collect())
    }

    /// Carries out changes in order; returns those the kernel refused.
    pub fn apply(&mut self, table: u32, changes: &[KernelChange]) -> io::Result<Vec<(IpNet, String)>> {
        let mut failures = Vec::new();
        for batch in changes.chunks(BATCH) {
            let mut buffer = Vec::new();
            let mut waiting: HashMap<u32, &KernelChange> = HashMap::new();
            for change in batch {
                let (payload, flags) = request(change, table);
                waiting.insert(self.message(payload, flags | NLM_F_ACK, &mut buffer), change);
            }
            self.socket.send(&buffer, 0)?;
            while !waiting.is_empty() {
                let (data, _) = self.socket.recv_from_full()?;
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let message =
                        NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                    let len = (message.header.length as usize).next_multiple_of(4);
                    rest = rest.get(len.max(4)..).unwrap_or(&[]);
                    let Some(change) = waiting.remove(&message.header.sequence_number) else { continue };
                    let NetlinkPayload::Error(answer) = message.payload else { continue };
                    let Some(code) = answer.code else { continue };
                    // A route that is gone already is what a deletion wanted.
                    let gone = matches!(change, KernelChange::Delete(_)) && -code.get() == libc::ESRCH;
                    if !gone {
                        failures.push((change_route(change).prefix, crate::source::os_text(&answer.to_io())));
                    }
                }
            }
        }
        Ok(failures)
    }
}

fn change_route(change: &KernelChange) -> &KernelRoute {
    match change {
        KernelChange::Add(r) | KernelChange::Replace(r) | KernelChange::Delete(r) => r,
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn set_table(message: &mut RouteMessage, table: u32) {
    match u8::try_from(table) {
        Ok(table) => message.header.table = table,
        Err(_) => message.attributes.push(RouteAttribute::Table(table)),
    }
}

// --- to the kernel ---

fn request(change: &KernelChange, table: u32) -> (RouteNetlinkMessage, u16) {
    match change {
        KernelChange::Add(r) => (RouteNetlinkMessage::NewRoute(message(r, table)), NLM_F_CREATE | NLM_F_EXCL),
        KernelChange::Replace(r) => {
            (RouteNetlinkMessage::NewRoute(message(r, table)), NLM_F_CREATE | NLM_F_REPLACE)
        }
        KernelChange::Delete(r) => {
            // Prefix, metric and our protocol number say which one is meant; scope NOWHERE matches all scopes.
            let mut message =
                message(&KernelRoute { dest: KernelDest::Unicast(Vec::new()), ..r.clone() }, table);
            message.header.scope = RouteScope::NoWhere;
            message.header.kind = RouteType::Unspec;
            (RouteNetlinkMessage::DelRoute(message), 0)
        }
    }
}

fn message(route: &KernelRoute, table: u32) -> RouteMessage {
    let ipv6 = matches!(route.prefix, IpNet::V6(_));
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(ipv6),
        destination_prefix_length: route.prefix.prefix_len(),
        protocol: RouteProtocol::from(KERNEL_PROTOCOL),
        scope: RouteScope::Universe,
        kind: match &route.dest {
            KernelDest::Unicast(_) => RouteType::Unicast,
            KernelDest::Blackhole => RouteType::BlackHole,
            KernelDest::Unreachable => RouteType::Unreachable,
            KernelDest::Prohibit => RouteType::Prohibit,
        },
        ..RouteHeader::default()
    };
    set_table(&mut message, table);
    message.attributes.push(RouteAttribute::Destination(route_address(route.prefix.network())));
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    match &route.dest {
        KernelDest::Unicast(hops) => match hops.as_slice() {
            [] => {}
            [hop] => {
                message.attributes.push(RouteAttribute::Oif(hop.ifindex));
                match hop.gateway {
                    Some(gateway) => message.attributes.push(RouteAttribute::Gateway(route_address(gateway))),
                    None if !ipv6 => message.header.scope = RouteScope::Link,
                    None => {}
                }
                if hop.onlink {
                    message.header.flags |= RouteFlags::Onlink;
                }
            }
            hops => {
                message.attributes.push(RouteAttribute::MultiPath(hops.iter().map(next_hop).collect()));
            }
        },
        KernelDest::Blackhole | KernelDest::Unreachable | KernelDest::Prohibit => {}
    }
    message
}

fn next_hop(hop: &KernelHop) -> RouteNextHop {
    let mut out = RouteNextHop::default();
    out.interface_index = hop.ifindex;
    out.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    if hop.onlink {
        out.flags = RouteNextHopFlags::Onlink;
    }
    out.attributes.extend(hop.gateway.map(|g| RouteAttribute::Gateway(route_address(g))));
    out
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

// --- from the kernel ---

/// A route this daemon can say something about: of the table, and of a kind that it writes or learns.
fn kernel_route(message: &RouteMessage, table: u32, ipv6: bool) -> Option<KernelRoute> {
    let header = &message.header;
    if header.address_family != family(ipv6) || header.flags.contains(RouteFlags::Cloned) || header.tos != 0 {
        return None;
    }
    let unspecified =
        if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let (mut destination, mut number, mut metric) = (unspecified, u32::from(header.table), 0);
    let mut single =
        KernelHop { gateway: None, ifindex: 0, onlink: header.flags.contains(RouteFlags::Onlink), weight: 1 };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address)?,
            RouteAttribute::Table(table) => number = *table,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(address) => single.gateway = address_of(address),
            RouteAttribute::Oif(index) => single.ifindex = *index,
            RouteAttribute::MultiPath(list) => hops.extend(list.iter().map(hop_of)),
            _ => {}
        }
    }
    if number != table {
        return None;
    }
    let dest = match header.kind {
        RouteType::Unicast => {
            if hops.is_empty() {
                hops.push(single);
            }
            hops.sort();
            KernelDest::Unicast(hops)
        }
        RouteType::BlackHole => KernelDest::Blackhole,
        RouteType::Unreachable => KernelDest::Unreachable,
        RouteType::Prohibit => KernelDest::Prohibit,
        _ => return None,
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?.trunc();
    Some(KernelRoute { prefix, metric, protocol: header.protocol.into(), dest })
}

fn hop_of(hop: &RouteNextHop) -> KernelHop {
    let gateway = hop.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => address_of(address),
        _ => None,
    });
    KernelHop {
        gateway,
        ifindex: hop.interface_index,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        weight: u16::from(hop.hops) + 1,
    }
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}

fn interface(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut out = Interface {
        index: link.header.index,
        name: String::new(),
        admin_up: flags.contains(LinkFlags::Up),
        link_up: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        broadcast: flags.contains(LinkFlags::Broadcast),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        multicast: flags.contains(LinkFlags::Multicast),
        mtu_bytes: 0,
        master: None,
        addresses: Vec::new(),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => out.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => out.mtu_bytes = *mtu,
            LinkAttribute::Controller(index) => out.master = Some(*index),
            _ => {}
        }
    }
    out
}

fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(*a),
            AddressAttribute::Address(a) => remote = Some(*a),
            _ => {}
        }
    }
    // IFA_LOCAL is ours; IFA_ADDRESS is the other end when it differs, and ours where there is no IFA_LOCAL.
    let own = local.or(remote)?;
    let peer = remote.filter(|a| *a != own);
    let net = IpNet::new(own, message.header.prefix_len).ok()?;
    Some(InterfaceAddress { net, peer })
}
