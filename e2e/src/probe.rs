//! One question from one place to another, over the real data path, and what became of it.
//!
//! In: a place to ask from, a target, TCP, UDP or ICMP. Out: what was seen, and whether it is what was expected.
//! What always holds: "denied" means no answer at all. A refused connection has passed every policy, so it is
//! neither allowed nor denied; an answer by somebody else than the target is a failure too.

use std::fmt;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::kernel::netns;
use crate::lab::{HOST_SERVE_PORT, Lab};
use crate::traffic::icmp;
use crate::{LabError, Place, PodName, Result, serve};

/// How long one try waits for a connection or an answer.
const TRY_LIMIT: Duration = Duration::from_secs(1);
/// How often something is tried of which nobody knows whether it should work: a packet may be lost.
const TRIES: usize = 3;
/// How often something that should work is tried: on a busy machine an answer may take long.
const TRIES_TO_PASS: usize = 30;

/// What the asker wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Expect {
    Allow,
    Deny,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// Whom to ask, as a person writes it: `NS/NAME`, a machine or an address, with or without `:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: Option<u16>,
}

impl Target {
    /// Splits a port off; an IPv6 address with a port is written in brackets.
    pub fn parse(text: &str) -> Result<Self> {
        let bad =
            || LabError::BadName { name: text.to_owned(), why: "a target is written HOST or HOST:PORT" };
        if text.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: None });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port.parse().map_err(|_| bad())?),
                None if rest.is_empty() => None,
                None => return Err(bad()),
            };
            return Ok(Self { host: host.to_owned(), port });
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => {
                Ok(Self { host: host.to_owned(), port: Some(port.parse().map_err(|_| bad())?) })
            }
            Some(_) => Err(bad()),
            None if text.is_empty() => Err(bad()),
            None => Ok(Self { host: text.to_owned(), port: None }),
        }
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One of the lab's servers answered: who it is and from which address it saw the question come.
    Answered { by: String, source: IpAddr },
    /// Something answered that is not one of the lab's servers, or an echo came back.
    Reply(String),
    /// No answer within the limit.
    TimedOut,
    /// The target's host refused: it was reached, and nobody listens.
    Refused,
    /// Something else, such as no route.
    Failed(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { by, source } => write!(f, "{by} answered, asked from {source}"),
            Self::Reply(text) => write!(f, "{text}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Refused => f.write_str("refused: reached, but nobody listens"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// A question, its result and whether that was expected.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub seen: Seen,
    /// Who should answer, when the target is one of the lab's own.
    pub answerer: Option<String>,
    /// Tries made.
    pub tries: usize,
    /// How long the last try took.
    pub took: Duration,
}

impl ProbeReport {
    /// Whether the target itself answered.
    pub fn allowed(&self) -> bool {
        match (&self.seen, &self.answerer) {
            (Seen::Answered { by, .. }, Some(answerer)) => by == answerer,
            (Seen::Answered { .. } | Seen::Reply(_), _) => true,
            _ => false,
        }
    }

    /// Whether there was no answer of any kind.
    pub fn denied(&self) -> bool {
        matches!(self.seen, Seen::TimedOut)
    }

    pub fn matches(&self, expect: Expect) -> bool {
        match expect {
            Expect::Allow => self.allowed(),
            Expect::Deny => self.denied(),
        }
    }
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.address, self.port);
        match self.protocol {
            Protocol::Tcp => write!(f, "tcp {address}")?,
            Protocol::Udp => write!(f, "udp {address}")?,
            Protocol::Icmp => write!(f, "icmp {}", self.address)?,
        }
        write!(f, ": {} ({} ms, try {})", self.seen, self.took.as_millis(), self.tries)
    }
}

impl Lab {
    /// Asks once, or up to three times unless a denial is expected: one answer disproves a denial, one lost packet
    /// disproves nothing.
    pub fn probe(
        &self,
        from: &Place,
        to: &Target,
        protocol: Protocol,
        expect: Option<Expect>,
    ) -> Result<ProbeReport> {
        let (address, port, answerer) = self.resolve(to)?;
        let ns = self.netns_of(from);
        let limit = match expect {
            Some(Expect::Deny) => 1,
            Some(Expect::Allow) => TRIES_TO_PASS,
            None => TRIES,
        };
        netns::within(&ns, || {
            let mut report = ProbeReport {
                address,
                port,
                protocol,
                seen: Seen::TimedOut,
                answerer,
                tries: 0,
                took: Duration::ZERO,
            };
            while report.tries < limit && !report.allowed() {
                let start = Instant::now();
                report.seen = ask(SocketAddr::new(address, port), protocol, TRY_LIMIT);
                report.took = start.elapsed();
                report.tries += 1;
            }
            Ok(report)
        })
    }

    /// The address and port of a target, and who will answer there. Without a port: a pod's first served one, else
    /// 80.
    pub fn resolve(&self, target: &Target) -> Result<(IpAddr, u16, Option<String>)> {
        let port = target.port.unwrap_or(HOST_SERVE_PORT);
        if let Ok(address) = target.host.parse::<IpAddr>() {
            return Ok((address, port, None));
        }
        if target.host.contains('/') {
            let name: PodName = target.host.parse()?;
            let pod = self.pod(&name)?;
            let address = pod.address().ok_or_else(|| LabError::NoSuchPod { pod: name.to_string() })?;
            let port = target.port.or(pod.serve.first().copied()).unwrap_or(HOST_SERVE_PORT);
            return Ok((address, port, pod.serve.contains(&port).then(|| name.to_string())));
        }
        let place = self.place(&target.host)?;
        let machine = self.topology().machine(&target.host).ok_or_else(|| LabError::UnknownPlace {
            place: place.to_string(),
            known: "machines with an address".to_owned(),
        })?;
        let answerer = (port == HOST_SERVE_PORT).then(|| machine.name.clone());
        Ok((machine.v4.into(), port, answerer))
    }
}

/// One try from the calling thread's namespace.
pub(crate) fn ask(address: SocketAddr, protocol: Protocol, limit: Duration) -> Seen {
    let result = match protocol {
        Protocol::Tcp => ask_tcp(address, limit),
        Protocol::Udp => ask_udp(address, limit),
        Protocol::Icmp => icmp::ping(address.ip(), limit).map(|()| Seen::Reply("echo came back".to_owned())),
    };
    result.unwrap_or_else(|e| match e.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::TimedOut,
        io::ErrorKind::ConnectionRefused => Seen::Refused,
        _ => Seen::Failed(e.to_string()),
    })
}

fn ask_tcp(address: SocketAddr, limit: Duration) -> io::Result<Seen> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut text = Vec::new();
    match (&stream).take(4096).read_to_end(&mut text) {
        Ok(_) => {}
        // Connected: whatever listens there waits for us to speak first.
        Err(e) if text.is_empty() && e.kind() == io::ErrorKind::WouldBlock => {
            return Ok(Seen::Reply("connected, nothing said".to_owned()));
        }
        Err(e) => return Ok(Seen::Failed(format!("connected, then: {e}"))),
    }
    Ok(understand(&text))
}

fn ask_udp(address: SocketAddr, limit: Duration) -> io::Result<Seen> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(b"who is there?\n")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(understand(buffer.get(..length).unwrap_or_default()))
}

fn understand(text: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(text);
    match serve::parse_reply(&text) {
        Some((by, source)) => Seen::Answered { by, source },
        None => Seen::Reply(format!("answered {:?}", text.chars().take(60).collect::<String>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seen: Seen) -> ProbeReport {
        ProbeReport {
            address: [10, 65, 0, 1].into(),
            port: 80,
            protocol: Protocol::Tcp,
            seen,
            answerer: Some("ns/web".to_owned()),
            tries: 1,
            took: Duration::ZERO,
        }
    }

    fn answered(by: &str) -> Seen {
        Seen::Answered { by: by.to_owned(), source: [10, 65, 0, 2].into() }
    }

    #[test]
    fn only_the_targets_own_answer_counts_as_allowed() {
        assert!(report(answered("ns/web")).matches(Expect::Allow));
        let other = report(answered("ns/other"));
        assert!(!other.matches(Expect::Allow) && !other.matches(Expect::Deny));
    }

    #[test]
    fn a_refused_connection_is_neither_allowed_nor_denied() {
        let refused = report(Seen::Refused);
        assert!(!refused.matches(Expect::Allow) && !refused.matches(Expect::Deny));
        assert!(report(Seen::TimedOut).matches(Expect::Deny));
    }

    #[test]
    fn targets_are_pods_machines_and_addresses_with_and_without_port() {
        let parsed = |text: &str| Target::parse(text).map(|t| (t.host, t.port)).unwrap();
        assert_eq!(parsed("ns/web"), ("ns/web".to_owned(), None));
        assert_eq!(parsed("ns/web:8080"), ("ns/web".to_owned(), Some(8080)));
        assert_eq!(parsed("10.65.0.1:80"), ("10.65.0.1".to_owned(), Some(80)));
        assert_eq!(parsed("fd00::1"), ("fd00::1".to_owned(), None));
        assert_eq!(parsed("[fd00::1]:80"), ("fd00::1".to_owned(), Some(80)));
        assert_eq!(parsed("[fd00::1]"), ("fd00::1".to_owned(), None));
        for bad in ["", ":80", "n1:", "n1:99999", "[fd00::1", "[fd00::1]80"] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Target::parse(&text);
        }
    }
}
