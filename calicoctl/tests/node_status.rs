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
