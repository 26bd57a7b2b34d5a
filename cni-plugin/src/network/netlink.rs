//! The few rtnetlink requests that a pod's interface needs, each sent and answered at once.
//!
//! In come names, addresses and routes, out go kernel objects. A socket belongs to the namespace of the thread that
//! opened it. Blocking on purpose: the kernel answers within the call, and one request after the other needs no event
//! loop.

use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;

use libcalico_net::cidr::IpNet;
use libcalico_net::interface_name::MAX_LEN;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Larger than any message the kernel sends for these requests.
const BUFFER: usize = 64 * 1024;

/// A request that the kernel refused, or an answer that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("answer of the kernel cannot be read: {0}")]
    Decode(String),
}

impl NetlinkError {
    fn errno(&self) -> Option<i32> {
        if let Self::Io(e) = self { e.raw_os_error() } else { None }
    }

    /// True where the object exists already.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }
}

type Result<T> = std::result::Result<T, NetlinkError>;

/// What is of interest in an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub up: bool,
    pub is_veth: bool,
}

/// One end of a pair that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub name: &'a str,
    pub mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    pub queues: u32,
}

impl End<'_> {
    fn message(self) -> LinkMessage {
        let mut m = LinkMessage::default();
        m.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::Address(self.mac.to_vec()),
            LinkAttribute::NumTxQueues(self.queues),
            LinkAttribute::NumRxQueues(self.queues),
        ];
        m
    }
}

/// A socket to the kernel.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(BUFFER);
            self.socket.recv(&mut buffer, 0)?;
            let mut rest = &buffer[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|e| NetlinkError::Decode(e.to_string()))?;
                let length =
                    (answer.header.length as usize).next_multiple_of(4).clamp(16, rest.len().max(16));
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(m) => {
                        answers.push(m);
                        // Neither a dump nor acknowledged: this is the whole answer.
                        if flags & (NLM_F_ACK | NLM_F_DUMP) == 0 {
                            return Ok(answers);
                        }
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(e) => return Err(e.to_io().into()),
                    _ => {}
                }
            }
        }
    }

    /// Makes a pair, both ends down: one here, one in the namespace `peer_ns`.
    pub fn create_veth(&mut self, end: End<'_>, peer: End<'_>, peer_ns: RawFd) -> Result<()> {
        let mut peer = peer.message();
        peer.attributes.push(LinkAttribute::NetNsFd(peer_ns));
        let mut link = end.message();
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// The interface of that name, if there is one. What cannot be a name is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        if name.is_empty() || name.len() > MAX_LEN {
            return Ok(None);
        }
        let mut m = LinkMessage::default();
        m.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.request(RouteNetlinkMessage::GetLink(m), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|a| match a {
                RouteNetlinkMessage::NewLink(l) => Some(read_link(&l)),
                _ => None,
            })),
            Err(e) if e.errno() == Some(nix::libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.set_flags(index, LinkFlags::Up)
    }

    /// Takes an interface down.
    pub fn set_down(&mut self, index: u32) -> Result<()> {
        self.set_flags(index, LinkFlags::empty())
    }

    fn set_flags(&mut self, index: u32, flags: LinkFlags) -> Result<()> {
        let mut m = LinkMessage::default();
        m.header.index = index;
        m.header.flags = flags;
        m.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(m), NLM_F_ACK).map(|_| ())
    }

    /// Removes an interface. One that is gone already is no error.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        let mut m = LinkMessage::default();
        m.header.index = index;
        match self.request(RouteNetlinkMessage::DelLink(m), NLM_F_ACK) {
            Err(e) if e.errno() == Some(nix::libc::ENODEV) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// Gives an interface an address. One that it has already is no error.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> Result<()> {
        let mut m = AddressMessage::default();
        m.header.family = family(address);
        m.header.prefix_len = address.prefix_len();
        m.header.index = index;
        m.attributes =
            vec![AddressAttribute::Address(address.addr()), AddressAttribute::Local(address.addr())];
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewAddress(m), flags).map(|_| ())
    }

    /// Adds a route over an interface, or replaces the one that stands.
    pub fn add_route(&mut self, dst: IpNet, index: u32, gateway: Option<IpAddr>) -> Result<()> {
        let mut m = RouteMessage::default();
        m.header.address_family = family(dst);
        m.header.destination_prefix_length = dst.prefix_len();
        m.header.table = RouteHeader::RT_TABLE_MAIN;
        m.header.protocol = RouteProtocol::Boot;
        m.header.kind = RouteType::Unicast;
        m.header.scope = if gateway.is_none() { RouteScope::Link } else { RouteScope::Universe };
        if dst.prefix_len() > 0 {
            m.attributes.push(RouteAttribute::Destination(route_address(dst.addr())));
        }
        if let Some(gateway) = gateway {
            m.attributes.push(RouteAttribute::Gateway(route_address(gateway)));
        }
        m.attributes.push(RouteAttribute::Oif(index));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(RouteNetlinkMessage::NewRoute(m), flags).map(|_| ())
    }

    /// Addresses of an interface.
    pub fn addresses_of(&mut self, index: u32) -> Result<Vec<IpNet>> {
        let answers = self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|a| match a {
                RouteNetlinkMessage::NewAddress(m) if m.header.index == index => {
                    let find = |local: bool| {
                        m.attributes.iter().find_map(|a| match a {
                            AddressAttribute::Local(ip) if local => Some(*ip),
                            AddressAttribute::Address(ip) if !local => Some(*ip),
                            _ => None,
                        })
                    };
                    IpNet::new(find(true).or_else(|| find(false))?, m.header.prefix_len).ok()
                }
                _ => None,
            })
            .collect())
    }

    /// Destinations and next hops of the routes of the main table over an interface.
    pub fn routes_over(&mut self, index: u32) -> Result<Vec<(IpNet, Option<IpAddr>)>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut m = RouteMessage::default();
            m.header.address_family = family;
            for answer in self.request(RouteNetlinkMessage::GetRoute(m), NLM_F_DUMP)? {
                if let RouteNetlinkMessage::NewRoute(r) = answer {
                    routes.extend(read_route(&r, index));
                }
            }
        }
        Ok(routes)
    }
}

fn family(net: IpNet) -> AddressFamily {
    if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_address(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

fn ip(a: &RouteAddress) -> Option<IpAddr> {
    match a {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}

fn read_route(r: &RouteMessage, index: u32) -> Option<(IpNet, Option<IpAddr>)> {
    let (mut dst, mut gateway, mut oif) = (None, None, None);
    for a in &r.attributes {
        match a {
            RouteAttribute::Destination(d) => dst = ip(d),
            RouteAttribute::Gateway(g) => gateway = ip(g),
            RouteAttribute::Oif(i) => oif = Some(*i),
            _ => {}
        }
    }
    if oif != Some(index) || r.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let unspecified = match r.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let net = IpNet::new(dst.unwrap_or(unspecified), r.header.destination_prefix_length).ok()?;
    Some((net, gateway))
}

fn read_link(m: &LinkMessage) -> Link {
    let mut link = Link {
        index: m.header.index,
        name: String::new(),
        mac: [0; 6],
        up: m.header.flags.contains(LinkFlags::Up),
        is_veth: false,
    };
    for a in &m.attributes {
        match a {
            LinkAttribute::IfName(n) => link.name.clone_from(n),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                link.is_veth = infos.iter().any(|i| matches!(i, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    link
}
