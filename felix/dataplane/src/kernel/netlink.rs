//! A blocking netlink socket: requests with acknowledgement, dumps, transactions, notifications.
//!
//! In: messages as bytes. Out: answers, each handed to the caller as it is read. Always holds: answers of an earlier
//! request never count for a later one (sequence numbers); a dump that the kernel interrupted is repeated. Left out:
//! what messages mean.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::attr::{Message, Messages};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
/// How often an interrupted dump is begun again.
const DUMP_TRIES: usize = 20;
/// Room for one transaction, bytes. The kernel counts twice.
const SEND_BUFFER: usize = 256 << 20;
const RECEIVE_BUFFER: usize = 32 << 20;

/// Flags of requests.
pub mod flags {
    pub const REQUEST: u16 = 1;
    pub const ACK: u16 = 4;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// A socket of one netlink protocol.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    seq: u32,
    buf: Vec<u8>,
}

/// The kernel's answer to one message that failed.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub seq: u32,
    /// Positive errno.
    pub errno: i32,
    /// The kernel's own words, where it has some.
    pub detail: String,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open(protocol: i32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol as isize)?;
        let port = socket.bind_auto()?.port_number();
        // Old kernels know neither; both only improve errors.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = setsockopt(&socket.as_fd(), sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Self { socket, port, seq: 0, buf: vec![0; 128 << 10] })
    }

    /// With a longest wait for an answer (zero: without). Another one is asked for by trying again.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn with_timeout(self, longest: Duration) -> io::Result<Self> {
        let time = TimeVal::microseconds(i64::try_from(longest.as_micros()).unwrap_or(i64::MAX));
        setsockopt(&self.socket.as_fd(), sockopt::ReceiveTimeout, &time)?;
        Ok(self)
    }

    /// Opens a socket that receives a multicast group's notifications and never blocks.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn open_monitor(protocol: i32, groups: &[u32]) -> io::Result<Self> {
        let me = Self::open(protocol)?;
        for g in groups {
            me.socket.add_membership(*g)?;
        }
        me.socket.set_non_blocking(true)?;
        Ok(me)
    }

    /// Address of this socket, as it stands in notifications that it caused.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The next sequence number.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Takes sequence numbers up to this one as used.
    pub fn used_up_to(&mut self, seq: u32) {
        self.seq = self.seq.max(seq);
    }

    /// Hands every pending notification to `each`.
    ///
    /// # Errors
    /// `ENOBUFS`: notifications were lost.
    pub fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        while let Some(len) = self.receive(libc::MSG_DONTWAIT)? {
            Messages(&self.buf[..len]).for_each(&mut each);
        }
        Ok(())
    }

    fn receive(&mut self, flags: i32) -> io::Result<Option<usize>> {
        loop {
            // MSG_TRUNC: the true length even where the buffer was too small.
            let mut target: &mut [u8] = &mut self.buf;
            return match self.socket.recv(&mut target, flags | libc::MSG_TRUNC) {
                Ok(n) if n > self.buf.len() => {
                    Err(io::Error::other(format!("a netlink datagram of {n} bytes was cut off")))
                }
                Ok(n) => Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
        }
    }

    /// Sends one request and waits for its acknowledgement.
    ///
    /// # Errors
    /// The kernel's refusal, or no answer within the socket's time.
    pub fn request(&mut self, bytes: &[u8], seq: u32) -> io::Result<()> {
        self.query(bytes, seq, |_| {})
    }

    /// Sends one request, hands what answers it to `each` and waits for the acknowledgement.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn query(&mut self, bytes: &[u8], seq: u32, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        loop {
            let len = self.receive(0)?.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
            for m in Messages(&self.buf[..len]).filter(|m| m.seq == seq) {
                if m.kind == ERROR {
                    let r = refusal(&m);
                    return if r.errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(r.errno)) };
                }
                each(m);
            }
        }
    }

    /// Sends a dump request and hands every answer to `each`; begins again (with `restart`) where the kernel says
    /// that the answer was torn. `build` makes the request for a sequence number.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error.
    pub fn dump(
        &mut self,
        build: impl Fn(u32) -> Vec<u8>,
        mut restart: impl FnMut(),
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        for _ in 0..DUMP_TRIES {
            restart();
            let seq = self.next_seq();
            self.socket.send_to(&build(seq), &SocketAddr::new(0, 0), 0)?;
            if self.read_dump(seq, &mut each)? {
                return Ok(());
            }
        }
        Err(io::Error::other("the kernel's tables changed during every try to read them"))
    }

    /// Like [`Self::dump`], but takes a torn answer as it is.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error.
    pub fn dump_once(
        &mut self,
        build: impl Fn(u32) -> Vec<u8>,
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        let seq = self.next_seq();
        self.socket.send_to(&build(seq), &SocketAddr::new(0, 0), 0)?;
        self.read_dump(seq, &mut each).map(drop)
    }

    /// True where the dump was whole.
    fn read_dump(&mut self, seq: u32, each: &mut impl FnMut(Message<'_>)) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let len = self.receive(0)?.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
            for m in Messages(&self.buf[..len]) {
                if m.seq != seq {
                    continue;
                }
                whole &= m.flags & DUMP_INTERRUPTED == 0;
                match m.kind {
                    DONE => return Ok(whole),
                    ERROR => {
                        let r = refusal(&m);
                        // A dump of a single object ends in an acknowledgement.
                        return match r.errno {
                            0 => Ok(whole),
                            libc::EINTR => Ok(false),
                            e => Err(io::Error::from_raw_os_error(e)),
                        };
                    }
                    _ => each(m),
                }
            }
        }
    }

    /// Sends a batch and returns what the kernel refused; empty: all is done. The kernel works before `send` returns,
    /// so all answers are there. `last` is the sequence number whose acknowledgement proves the commit.
    ///
    /// # Errors
    /// Sending failed, or the kernel gave no answer.
    pub fn transact(&mut self, bytes: &[u8], last: u32) -> io::Result<Vec<Refusal>> {
        // Answers to earlier requests that nobody waited for.
        self.drain(|_| {})?;
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        let mut refused = Vec::new();
        let mut acknowledged = false;
        while let Some(len) = self.receive(libc::MSG_DONTWAIT)? {
            for m in Messages(&self.buf[..len]) {
                if m.kind != ERROR {
                    continue;
                }
                let r = refusal(&m);
                if r.errno != 0 {
                    refused.push(r);
                } else if r.seq == last {
                    acknowledged = true;
                }
            }
        }
        if refused.is_empty() && !acknowledged {
            return Err(io::Error::other("the kernel did not acknowledge the transaction"));
        }
        Ok(refused)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads `struct nlmsgerr` with its extended attributes.
fn refusal(m: &Message<'_>) -> Refusal {
    const CAPPED: u16 = 0x100;
    const ACK_TLVS: u16 = 0x200;
    const MSG: u16 = 1;
    let errno = m.payload.first_chunk().map_or(libc::EIO, |b| -i32::from_ne_bytes(*b));
    let mut detail = String::new();
    if m.flags & ACK_TLVS != 0 {
        let echoed = m.payload.get(4..8).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b));
        let skip = if m.flags & CAPPED != 0 {
            20
        } else {
            4 + usize::try_from(echoed).unwrap_or(usize::MAX - 8).next_multiple_of(4)
        };
        let attrs = m.payload.get(skip..).unwrap_or(&[]);
        if let Some((_, v)) = super::attr::Attributes(attrs).find(|(k, _)| *k == MSG) {
            detail = super::attr::text(v).unwrap_or_default().to_owned();
        }
    }
    Refusal { seq: m.seq, errno, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::attr::Builder;

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for_without_end() {
        const NOOP: u16 = 1;
        const ROUTE: i32 = 0;
        let mut socket = Netlink::open(ROUTE).unwrap().with_timeout(Duration::from_millis(50)).unwrap();
        let seq = socket.next_seq();
        let mut b = Builder::default();
        // Without a wish for an acknowledgement the kernel says nothing to it.
        b.begin_message(NOOP, flags::REQUEST, seq);
        b.end_message();
        let error = socket.request(&b.into_bytes(), seq).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
