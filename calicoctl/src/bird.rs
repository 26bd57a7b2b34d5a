//! BIRD's control socket, as far as `node status` asks it.
//!
//! In comes the path of a socket, out come the BGP sessions. The protocol is lines of `CODE-text` (more follows), `CODE
//! text` (end of a reply where the code starts with 0, 8 or 9) and ` text` (goes with the code before). What is left
//! out: everything else `birdc` can ask.

use std::io::{BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for the daemon's next line.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reply that is read, in bytes.
const MAX_REPLY: u64 = 16 << 20;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BirdError {
    /// Nobody listens: the daemon does not run.
    #[error("the BGP daemon does not answer on {socket}: {reason}")]
    NoAnswer { socket: String, reason: String },
    #[error("the BGP daemon on {socket} answered: {reply}")]
    Refused { socket: String, reply: String },
}

/// A line of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub code: u16,
    pub text: String,
}

/// How a session came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerType {
    Mesh,
    Node,
    Global,
}

impl PeerType {
    /// As the table shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "node-to-node mesh",
            Self::Node => "node specific",
            Self::Global => "global",
        }
    }
}

/// One BGP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub address: IpAddr,
    pub peer_type: PeerType,
    /// `up`, `start`, `down`
    pub state: String,
    pub since: String,
    /// BGP's own state and the last error: `Established`, `Active        Socket: Connection refused`.
    pub info: String,
}

/// The daemon's sessions.
pub fn sessions(socket: &Path) -> Result<Vec<Session>, BirdError> {
    let reply = ask(socket, "show protocols all")?;
    Ok(parse_sessions(&reply))
}

/// Sends one command and reads its reply.
pub fn ask(socket: &Path, command: &str) -> Result<Vec<Line>, BirdError> {
    let failed = |e: std::io::Error| BirdError::NoAnswer {
        socket: socket.display().to_string(),
        reason: e.to_string(),
    };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
    let mut reader = BufReader::new(stream.try_clone().map_err(failed)?.take(MAX_REPLY));
    let refused = |reply: String| BirdError::Refused { socket: socket.display().to_string(), reply };
    // The greeting is a reply of its own.
    read_reply(&mut reader).map_err(failed)?;
    stream.write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
    let reply = read_reply(&mut reader).map_err(failed)?;
    match reply.last() {
        Some(line) if line.code >= 8000 => Err(refused(line.text.clone())),
        _ => Ok(reply),
    }
}

fn read_reply(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let mut raw = Vec::new();
        if reader.read_until(b'\n', &mut raw)? == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection ended early"));
        }
        let text = String::from_utf8_lossy(&raw);
        let (line, last) =
            parse_line(text.trim_end_matches(['\r', '\n']), lines.last().map_or(0, |l| l.code));
        lines.push(line);
        if last {
            return Ok(lines);
        }
    }
}

/// Reads a line; the second result is true for the last of a reply.
fn parse_line(text: &str, code_before: u16) -> (Line, bool) {
    let numbered =
        text.get(..4).and_then(|c| c.parse::<u16>().ok()).filter(|_| !text.starts_with([' ', '+']));
    match (numbered, text.as_bytes().get(4)) {
        (Some(code), Some(separator @ (b' ' | b'-'))) => {
            let rest = text.get(5..).unwrap_or_default().to_owned();
            (Line { code, text: rest }, *separator == b' ')
        }
        _ => {
            let rest = text.strip_prefix([' ', '+']).unwrap_or(text).to_owned();
            (Line { code: code_before, text: rest }, false)
        }
    }
}

/// Finds Calico's sessions in the reply to `show protocols all`.
#[must_use]
pub fn parse_sessions(lines: &[Line]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut inside = false;
    for line in lines {
        match line.code {
            1002 => {
                inside = false;
                if let Some(session) = session_of(&line.text) {
                    sessions.push(session);
                    inside = true;
                }
            }
            // The address in the details is the true one; the name is only made from it.
            1006 if inside => {
                let neighbor = line.text.trim().strip_prefix("Neighbor address:").map(str::trim);
                let address = neighbor.and_then(|a| a.split('%').next().unwrap_or(a).parse().ok());
                if let (Some(address), Some(session)) = (address, sessions.last_mut()) {
                    session.address = address;
                }
            }
            _ => {}
        }
    }
    sessions
}

/// `Mesh_172_17_8_102 BGP --- up 10:13:24.123 Established`
fn session_of(text: &str) -> Option<Session> {
    let mut words = text.split_whitespace();
    let (name, protocol, _table) = (words.next()?, words.next()?, words.next()?);
    if protocol != "BGP" {
        return None;
    }
    let (state, since) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut info: Vec<&str> = words.collect();
    let mut since = since;
    // With the ISO formats the time is two words.
    if since.len() == 10 && since.contains('-') && info.first().is_some_and(|w| w.contains(':')) {
        since = format!("{since} {}", info.remove(0));
    }
    let (kind, rest) = name.split_once('_')?;
    let peer_type = match kind {
        "Mesh" => PeerType::Mesh,
        "Node" => PeerType::Node,
        "Global" => PeerType::Global,
        _ => return None,
    };
    let address = rest.replace('_', ".").parse().or_else(|_| rest.replace('_', ":").parse());
    let address = address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    Some(Session { address, peer_type, state, since, info: info.join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str) -> Vec<Line> {
        read_reply(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn sessions_are_read_from_birds_reply() {
        let reply = lines(
            "2002-Name       Proto      Table      State  Since         Info\n\
             1002-device1    Device     ---        up     10:00:00.000  \n\
             1006-\n\
             1002-Mesh_172_17_8_102 BGP        ---        up     23:30:04.123  Established   \n\
             1006-  BGP state:          Established\n\
             \x20    Neighbor address: 172.17.8.102\n\
             \x20    Neighbor AS:      64512\n\
             1002-Global_fd00__1 BGP        ---        start  2026-11-21 23:30:04  Active        Socket: Connection refused\n\
             1006-    Neighbor address: fd00::1\n\
             0000 \n",
        );
        let found = parse_sessions(&reply);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].address, "172.17.8.102".parse::<IpAddr>().unwrap());
        assert_eq!((found[0].state.as_str(), found[0].info.as_str()), ("up", "Established"));
        assert_eq!(found[1].peer_type, PeerType::Global);
        assert_eq!(found[1].address, "fd00::1".parse::<IpAddr>().unwrap());
        assert_eq!(found[1].since, "2026-11-21 23:30:04");
        assert_eq!(found[1].info, "Active Socket: Connection refused");
    }

    #[test]
    fn a_missing_socket_says_so() {
        let e = sessions(Path::new("/nonexistent/bird.ctl")).unwrap_err();
        assert!(matches!(e, BirdError::NoAnswer { .. }), "{e}");
    }

    proptest! {
        #[test]
        fn arbitrary_replies_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(reply) = read_reply(&mut bytes.as_slice()) {
                let _ = parse_sessions(&reply);
            }
        }
    }
}
