//! The tiny server that runs in pods, on nodes and on `outside`, so that a probe has somebody to talk to.
//!
//! In: a TCP connection or a UDP datagram. Out: two lines: who answers, and from which address it saw the
//! question come (`from 10.65.0.1`), which shows whether the source was translated.
//! What always holds: at most [`MAX_CONNECTIONS`] connections at a time; more are closed at once.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;
use crate::error::Doing;

const MAX_CONNECTIONS: usize = 256;
/// How long a client that sent something may take to close, before we do.
const LINGER: Duration = Duration::from_millis(200);

/// Answers on TCP and UDP at every port, IPv4 and IPv6, until the process ends.
pub fn serve(name: &str, ports: &[u16]) -> Result<()> {
    let name: Arc<str> = name.into();
    let connections = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for &port in ports {
        let tcp: TcpListener = bind(Type::STREAM, port).doing(|| format!("listening on TCP {port}"))?.into();
        let udp: UdpSocket = bind(Type::DGRAM, port).doing(|| format!("listening on UDP {port}"))?.into();
        let (tcp_name, udp_name) = (Arc::clone(&name), Arc::clone(&name));
        let connections = Arc::clone(&connections);
        workers.push(thread::spawn(move || serve_tcp(&tcp, &tcp_name, &connections)));
        workers.push(thread::spawn(move || serve_udp(&udp, &udp_name)));
    }
    for worker in workers {
        // A worker only ends by a panic, which it has printed itself.
        let _ = worker.join();
    }
    Ok(())
}

/// A socket for both address families, or for IPv4 alone where the kernel has no IPv6.
fn bind(kind: Type, port: u16) -> std::io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let both = Socket::new(Domain::IPV6, kind, Some(protocol)).and_then(|socket| {
        socket.set_only_v6(false)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    });
    let socket = both.or_else(|_| {
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok::<_, std::io::Error>(socket)
    })?;
    if kind == Type::STREAM {
        socket.listen(128)?;
    }
    Ok(socket)
}

fn serve_tcp(listener: &TcpListener, name: &Arc<str>, connections: &Arc<AtomicUsize>) {
    for stream in listener.incoming().flatten() {
        if connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (name, connections) = (Arc::clone(name), Arc::clone(connections));
        thread::spawn(move || {
            // The client may be gone already; there is nobody to tell.
            let _ = answer(stream, &name);
            connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let text = reply(name, stream.peer_addr()?.ip());
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    // Closing with unread input would reset the connection and lose the answer.
    stream.set_read_timeout(Some(LINGER))?;
    let mut sink = [0; 1024];
    while stream.read(&mut sink)? > 0 {}
    Ok(())
}

fn serve_udp(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
        // Lost like any datagram; the client asks again.
        let _ = socket.send_to(reply(name, peer.ip()).as_bytes(), peer);
    }
}

fn reply(name: &str, peer: IpAddr) -> String {
    format!("{name}\nfrom {}\n", peer.to_canonical())
}

/// Reads an answer: who answered and which source address it saw.
pub fn parse_reply(text: &str) -> Option<(String, IpAddr)> {
    let mut lines = text.lines();
    let name = lines.next()?.to_owned();
    let peer = lines.next()?.strip_prefix("from ")?.parse().ok()?;
    Some((name, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_who_and_from_where_with_mapped_addresses_as_ipv4() {
        let text = reply("ns/web", "::ffff:10.65.0.1".parse().unwrap());
        assert_eq!(text, "ns/web\nfrom 10.65.0.1\n");
        assert_eq!(parse_reply(&text), Some(("ns/web".to_owned(), "10.65.0.1".parse().unwrap())));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for text in ["", "x", "x\ny\n", "x\nfrom nowhere\n", "HTTP/1.1 200 OK\n\n"] {
            assert_eq!(parse_reply(text), None, "{text:?}");
        }
    }
}
