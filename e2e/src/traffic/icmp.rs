//! ICMP echo over raw sockets. Source: RFC 792, RFC 4443, RFC 1071.
//!
//! In: an address. Out: echo requests and the replies to them, recognised by identifier and sequence number.
//! Left out: other ICMP messages, which are skipped.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};

const HEADER: usize = 8;

/// A raw socket that sends echo requests to one address.
#[derive(Debug)]
pub struct EchoSocket {
    socket: Socket,
    v4: bool,
    id: u16,
}

impl EchoSocket {
    /// Opens a socket in the calling thread's namespace. `id` tells its replies from other sockets'.
    pub fn open(to: IpAddr, id: u16) -> io::Result<Self> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        // A reader that is kept waiting finds all replies.
        socket.set_recv_buffer_size(4 << 20)?;
        socket.connect(&SocketAddr::new(to, 0).into())?;
        Ok(Self { socket, v4: to.is_ipv4(), id })
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, v4: self.v4, id: self.id })
    }

    pub fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(limit))
    }

    pub fn send(&self, sequence: u16) -> io::Result<()> {
        self.socket.send(&request(self.v4, self.id, sequence)).map(drop)
    }

    /// The sequence number of the next reply; none when the message that came is something else.
    pub fn receive(&self) -> io::Result<Option<u16>> {
        let mut buffer = [0; 512];
        let length = (&self.socket).read(&mut buffer)?;
        Ok(reply_sequence(self.v4, self.id, buffer.get(..length).unwrap_or_default()))
    }
}

/// One echo; `TimedOut` when none came back.
pub fn ping(to: IpAddr, limit: Duration) -> io::Result<()> {
    let socket = EchoSocket::open(to, fresh_id())?;
    socket.send(1)?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_timeout(left)?;
        if socket.receive()? == Some(1) {
            return Ok(());
        }
    }
}

/// A new identifier for every echo: with one that was used before, connection tracking takes the request for part
/// of a conversation that was allowed earlier.
fn fresh_id() -> u16 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    u16::try_from((nanos >> 6) & 0xffff).unwrap_or(1)
}

fn request(v4: bool, id: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(*b"calico lab");
    // For ICMPv6 the kernel fills the checksum in: it needs the source address.
    if v4 {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

fn reply_sequence(v4: bool, id: u16, packet: &[u8]) -> Option<u16> {
    // Raw IPv4 sockets give the IP header too, its length in the low half of the first byte.
    let icmp = if v4 { packet.get(usize::from(packet.first()? & 0x0f) * 4..)? } else { packet };
    let header = icmp.get(..HEADER)?;
    let word = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let echo_reply = if v4 { 0 } else { 129 };
    (header.first() == Some(&echo_reply) && word(4)? == id).then(|| word(6)).flatten()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_checksum_makes_the_whole_sum_zero() {
        assert_eq!(checksum(&request(true, 0x1234, 7)), 0);
    }

    #[test]
    fn a_reply_is_recognised_behind_its_ip_header_and_by_its_identifier() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 7, b'x']);
        assert_eq!(reply_sequence(true, 0x1234, &packet), Some(7));
        assert_eq!(reply_sequence(true, 0x4321, &packet), None);
        assert_eq!(reply_sequence(false, 1, &[129, 0, 0, 0, 0, 1, 0, 9]), Some(9));
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_the_parser_panic(packet: Vec<u8>, v4: bool) {
            let _ = reply_sequence(v4, 1, &packet);
        }
    }
}
