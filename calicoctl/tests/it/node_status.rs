//! `node status` asks the daemon on its control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// A daemon that answers one `show protocols all` with a reply of Debian's bird 2.
fn daemon(socket: &Path) -> std::thread::JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"0001 BIRD 2.17.1 ready.\n").unwrap();
        let mut command = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut command).unwrap();
        stream
            .write_all(
                b"2002-Name       Proto      Table      State  Since         Info\n\
                  1002-kernel1    Kernel     master4    up     10:13:20.001  \n\
                  1006-  Channel ipv4\n     State:          UP\n\n\
                  1002-Mesh_172_31_0_2 BGP        ---        up     10:13:24.527  Established   \n\
                  1006-  BGP state:          Established\n     Neighbor address: 172.31.0.2\n     Neighbor AS:      64512\n\n\
                  1002-Node_172_31_0_253 BGP        ---        start  10:13:22.011  Active        Socket: Connection refused\n\
                  1006-  BGP state:          Active\n     Neighbor address: 172.31.0.253\n\n\
                  0000 \n",
            )
            .unwrap();
        command
    })
}

fn node_status(socket: &Path) -> (i32, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .args(["node", "status"])
        .env("CALICO_BIRD_SOCKET", socket)
        .env("CALICO_BIRD6_SOCKET", "/nonexistent/bird6.ctl")
        .output()
        .unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[test]
fn the_sessions_are_shown_as_upstream_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bird.ctl");
    let daemon = daemon(&socket);
    let (code, stdout, stderr) = node_status(&socket);
    assert_eq!(daemon.join().unwrap(), "show protocols all\n");
    let expected = "\
Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+--------------+-----------------------------------+
| PEER ADDRESS | PEER TYPE         | STATE | SINCE        | INFO                              |
+--------------+-------------------+-------+--------------+-----------------------------------+
| 172.31.0.2   | node-to-node mesh | up    | 10:13:24.527 | Established                       |
| 172.31.0.253 | node specific     | start | 10:13:22.011 | Active Socket: Connection refused |
+--------------+-------------------+-------+--------------+-----------------------------------+

IPv6 BGP status
No IPv6 peers found.

";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, expected, ""));
}

#[test]
fn without_a_daemon_nothing_runs() {
    let (code, stdout, stderr) = node_status(Path::new("/nonexistent/bird.ctl"));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (1, "", "Error: Calico process is not running.\n"));
}

/// The real daemon of Debian's bird2, with one session that cannot come up. It touches no kernel route.
#[test]
fn debians_bird_is_understood() {
    if !Path::new("/usr/sbin/bird").exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "bird is missing: apt-get install bird2");
        eprintln!("skipped: needs /usr/sbin/bird");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (config, socket) = (dir.path().join("bird.conf"), dir.path().join("bird.ctl"));
    let port = libcalico_testing::free_port();
    let session = |name: &str, neighbor: &str, channel: &str| {
        format!(
            "protocol bgp {name} {{ local {} port {port} as 64512; neighbor {neighbor} as 64513; multihop; passive on; {channel} {{ import none; export none; }}; }}\n",
            if channel == "ipv4" { "127.0.0.1" } else { "::1" }
        )
    };
    let text = format!(
        "router id 10.0.0.1;\nprotocol device {{}}\n{}{}",
        session("Mesh_127_0_0_2", "127.0.0.2", "ipv4"),
        session("Global_fd00_31__2", "fd00:31::2", "ipv6")
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new("/usr/sbin/bird")
        .args(["-f", "-c", config.to_str().unwrap(), "-s", socket.to_str().unwrap()])
        .args(["-P", dir.path().join("bird.pid").to_str().unwrap()])
        .spawn()
        .unwrap();
    let guard = Stop(child);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(std::time::Instant::now() < deadline, "bird does not answer");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (code, stdout, stderr) = node_status(&socket);
    drop(guard);
    assert_eq!(code, 0, "{stderr}");
    let (v4, v6) = stdout.split_once("IPv6 BGP status").unwrap();
    assert!(v4.contains("| 127.0.0.2    | node-to-node mesh | start | "), "{stdout}");
    assert!(v4.contains("| Passive |"), "{stdout}");
    assert!(v6.contains("| fd00:31::2   | global    | start | "), "{stdout}");
}

/// Ends the daemon, also when the test fails.
struct Stop(std::process::Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
