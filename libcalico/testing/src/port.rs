//! Ports of 127.0.0.1 for servers that are told theirs.
//!
//! Always holds: nobody else gets the port while this process lives. It is below the range that the kernel takes source
//! ports of connections from (`net.ipv4.ip_local_port_range`, Linux' default begins at 32768), so no connection of another
//! test sits on it when the server starts or comes back; and a file that this process has locked keeps other tests off.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

/// As many ports below the range of connections are tried.
const PORTS: u16 = 8000;

/// The ports that this process was given, and their locked files. They go with it.
static HELD: Mutex<Vec<(u16, File)>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on and that no other test is given before this process ends.
///
/// # Panics
/// Where all of them are taken.
#[must_use]
pub fn free_port() -> u16 {
    let end = connections_begin();
    let directory = std::env::temp_dir().join("calico-test-ports");
    std::fs::create_dir_all(&directory).expect("a directory for the locks of ports");
    // Processes begin at different ports, so that they seldom meet.
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or_default();
    for step in 0..PORTS {
        let port = end - 1 - (first + step) % PORTS;
        // Another user's file cannot be had, and neither can the port.
        let Ok(lock) = File::create(directory.join(port.to_string())) else { continue };
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((port, lock));
            return port;
        }
    }
    panic!("no port of 127.0.0.1 from {} to {} is free", end - PORTS, end - 1);
}

/// Where the source ports of connections begin.
fn connections_begin() -> u16 {
    let range =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the range of ports");
    let first = range.split_whitespace().next().and_then(|p| p.parse().ok()).expect("its begin");
    assert!(
        first > 2 * PORTS,
        "net.ipv4.ip_local_port_range begins at {first}: too few ports below are left for tests"
    );
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_none_is_of_those_for_connections() {
        let threads: Vec<_> =
            (0..8).map(|_| std::thread::spawn(|| (0..20).map(|_| free_port()).collect::<Vec<_>>())).collect();
        let mut ports: Vec<u16> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 160);
        assert!(ports.iter().all(|p| *p < connections_begin()));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_given() {
        let port = free_port();
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        // As by somebody who takes no locks.
        HELD.lock().unwrap().retain(|(held, _)| *held != port);
        assert!((0..100).all(|_| free_port() != port));
    }
}
