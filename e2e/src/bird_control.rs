//! A client of BIRD's control socket, as far as the lab looks at BGP.
//!
//! In: the socket's path and a command. Out: the reply's lines; for `show protocols`, what each BGP session does.
//! Source: BIRD's client protocol: each line starts with a four-digit code and `-` (more follow) or a space
//! (last of its kind); lines that start with a space continue; codes 0xxx end a reply, 8xxx and 9xxx are errors.
//! Left out: everything interactive; that is `birdc`'s.

use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// One BGP session as `show protocols` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpSession {
    pub protocol: String,
    /// The last column: `Established`, `Connect`, `Idle` …
    pub state: String,
}

/// Sends one command and returns the reply's lines without their codes.
pub fn command(socket: &Path, command: &str) -> io::Result<Vec<String>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    read_reply(&mut reader)?;
    (&stream).write_all(format!("{command}\n").as_bytes())?;
    read_reply(&mut reader)
}

/// The BGP sessions of the daemon behind a control socket.
pub fn bgp_sessions(socket: &Path) -> io::Result<Vec<BgpSession>> {
    Ok(command(socket, "show protocols")?.iter().filter_map(|line| bgp_session(line)).collect())
}

fn read_reply(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let code = line.get(..4).filter(|c| c.bytes().all(|b| b.is_ascii_digit()));
        let Some(code) = code else {
            lines.push(line.trim_start().to_owned());
            continue;
        };
        let text = line.get(5..).unwrap_or_default().to_owned();
        match (code.as_bytes().first(), line.as_bytes().get(4)) {
            (Some(b'8' | b'9'), _) => return Err(io::Error::other(text)),
            // 0001 is the greeting; every other 0xxx ends a reply.
            (Some(b'0'), None | Some(b' ')) => {
                if !text.is_empty() {
                    lines.push(text);
                }
                return Ok(lines);
            }
            _ => lines.push(text),
        }
    }
}

/// Reads `name BGP table state since info…`.
fn bgp_session(line: &str) -> Option<BgpSession> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if *words.get(1)? != "BGP" {
        return None;
    }
    // `since` is a time or a date and a time; the state of the session is the first word after it.
    let state = words.iter().skip(4).find(|w| w.starts_with(|c: char| c.is_ascii_alphabetic()));
    Some(BgpSession {
        protocol: (*words.first()?).to_owned(),
        state: state.map_or_else(|| (*words.get(3).unwrap_or(&"")).to_owned(), |s| (*s).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From BIRD 2.0.12.
    const REPLY: &str = "2002-Name       Proto      Table      State  Since         Info\n\
        1002-device1    Device     ---        up     09:45:09.511  \n\
        \x20direct1    Direct     ---        up     09:45:09.511  \n\
        \x20Mesh_172_31_0_2 BGP        ---        up     09:45:12.120  Established   \n\
        \x20Mesh_172_31_0_3 BGP        ---        start  2026-11-21 09:45:12  Connect       Socket: Connection refused\n\
        \x20Node_x BGP        ---        down   09:45:12.120\n\
        0000 \n";

    #[test]
    fn sessions_are_read_from_the_table() {
        let lines = read_reply(&mut REPLY.as_bytes()).unwrap();
        let sessions: Vec<_> = lines.iter().filter_map(|l| bgp_session(l)).collect();
        let expected =
            [("Mesh_172_31_0_2", "Established"), ("Mesh_172_31_0_3", "Connect"), ("Node_x", "down")]
                .map(|(p, s)| BgpSession { protocol: p.to_owned(), state: s.to_owned() });
        assert_eq!(sessions, expected);
    }

    #[test]
    fn a_greeting_ends_at_once_and_an_error_is_an_error() {
        let greeting = read_reply(&mut &b"0001 BIRD 2.0.12 ready.\n"[..]).unwrap();
        assert_eq!(greeting, ["BIRD 2.0.12 ready."]);
        let error = read_reply(&mut &b"9001 syntax error\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "syntax error");
        assert!(read_reply(&mut &b"1002-half"[..]).is_err());
    }
}
