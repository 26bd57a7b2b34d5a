//! What the engine is told, and what it wants done.
//!
//! Events can be written to a file and read back (architecture rule 9): every type in here is plain data.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::Source;
use crate::interface::Interface;
use crate::rib::ProtoId;
use crate::session::TimerKind;
use crate::time::Time;

/// A TCP connection. The engine numbers those it opens; the daemon those it accepts, from [`ConnId::ACCEPTED`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

impl ConnId {
    /// First number of accepted connections.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// A timer; setting it again replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Timer {
    /// Of a BGP session.
    Session(ProtoId, TimerKind),
    /// Next look at the interfaces.
    InterfaceScan,
    /// Next look at a kernel protocol's table.
    KernelScan(ProtoId),
    /// The wait of graceful restart is over.
    Recovery,
    /// A neighbour that restarts itself has had time to send its routes.
    RecoverySettle,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// The daemon is ready; the first event.
    Start,
    /// A timer ran out.
    Timer(Timer),
    /// All interfaces with their addresses, as they are now.
    Interfaces(Vec<Interface>),
    /// All routes of one family in a kernel table, as they are now.
    KernelRoutes {
        /// Kernel table.
        table: u32,
        /// IPv6 rather than IPv4.
        ipv6: bool,
        /// The routes.
        routes: Vec<KernelRoute>,
    },
    /// Changes the kernel refused: the route that was to stand there, and why.
    KernelFailed {
        /// Kernel table.
        table: u32,
        /// Each failure.
        failures: Vec<(IpNet, String)>,
    },
    /// A neighbour connected.
    Incoming {
        /// The connection.
        conn: ConnId,
        /// Our address.
        local: IpAddr,
        /// Our port.
        port: u16,
        /// The neighbour's address.
        remote: IpAddr,
    },
    /// A connection we asked for stands.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Our address.
        local: IpAddr,
    },
    /// A connection failed or ended.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, in the system's words.
        reason: String,
    },
    /// One BGP message, header included; after a broken header just that.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        message: Vec<u8>,
    },
    /// Everything written to a connection is out.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// A new configuration.
    Configure {
        /// Its text.
        source: Source,
        /// Let filters apply to new routes only.
        soft: bool,
    },
    /// A command on protocols.
    Command(Command),
    /// Stop.
    Shutdown {
        /// Neighbours are to keep our routes.
        graceful: bool,
    },
}

/// What to do with a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtoAction {
    /// Start it.
    Enable,
    /// Stop it.
    Disable,
    /// Stop and start it.
    Restart,
    /// Send and ask for all routes again.
    Reload,
    /// Ask for all routes again.
    ReloadIn,
    /// Send all routes again.
    ReloadOut,
}

/// A command that changes state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What to do.
    pub action: ProtoAction,
    /// With which protocols: a name, a shell pattern, or `all`.
    pub target: String,
}

/// A socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// Address; unspecified means all of its family.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Neighbours with their MD5 passwords.
    pub passwords: Vec<(IpAddr, String)>,
}

/// How to open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The neighbour.
    pub remote: IpAddr,
    /// Its port.
    pub port: u16,
    /// Our address.
    pub local: Option<IpAddr>,
    /// Interface of a link-local neighbour.
    pub interface: Option<String>,
    /// Time to live of our packets; 255 with TTL security.
    pub ttl: u8,
    /// Least TTL of packets taken, for TTL security.
    pub min_ttl: Option<u8>,
    /// MD5 password.
    pub password: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Listen on exactly these sockets.
    Listen(Vec<Listen>),
    /// Open a connection.
    Connect(ConnId, Box<Connect>),
    /// Settings of an accepted connection: (TTL, least TTL taken).
    Tune(ConnId, u8, Option<u8>),
    /// Write.
    Send(ConnId, Bytes),
    /// Tell [`Event::Writable`] once all written so far is out.
    NotifyWritable(ConnId),
    /// Close, once everything written is out.
    Close(ConnId),
    /// Start a timer.
    SetTimer(Timer, Time),
    /// Stop a timer.
    ClearTimer(Timer),
    /// Look at the interfaces.
    ScanInterfaces,
    /// Look at the routes of a kernel table.
    ScanKernel {
        /// Kernel table.
        table: u32,
        /// IPv6 rather than IPv4.
        ipv6: bool,
    },
    /// Change routes of a kernel table, in order.
    Kernel {
        /// Kernel table.
        table: u32,
        /// The changes.
        changes: Vec<KernelChange>,
    },
    /// The engine is done.
    Exit,
}

/// Where a kernel route leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KernelDest {
    /// Next hops.
    Unicast(Vec<KernelHop>),
    /// Drop.
    Blackhole,
    /// Answer "unreachable".
    Unreachable,
    /// Answer "prohibited".
    Prohibit,
}

/// A next hop in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelHop {
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Interface index.
    pub ifindex: u32,
    /// The gateway counts as on the link.
    pub onlink: bool,
    /// Share among several, from 1.
    pub weight: u16,
}

/// A route in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelRoute {
    /// Prefix.
    pub prefix: IpNet,
    /// Metric (priority).
    pub metric: u32,
    /// Who made it; [`crate::KERNEL_PROTOCOL`] for ours.
    pub protocol: u8,
    /// Where it leads.
    pub dest: KernelDest,
}

/// A change in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelChange {
    /// A new route.
    Add(KernelRoute),
    /// Another destination for a route of ours, without a gap.
    Replace(KernelRoute),
    /// Remove a route of ours.
    Delete(KernelRoute),
}
