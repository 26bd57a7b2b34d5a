//! Clean-up against a real kernel, in a network namespace.

mod support;

use std::process::Command;

use calico_node::cleanup;
use support::{has, in_namespace, root};

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_calicos_goes_and_what_is_not_stays() {
    if !root() || !has("nft") {
        return;
    }
    let commands = [
        "link set lo up",
        "link add eth0 type veth peer name veth-eth0",
        "addr add 10.7.0.5/24 dev eth0",
        "link set eth0 up",
        "link set veth-eth0 up",
        "link add cali123 type veth peer name pod0",
        "link set cali123 up",
        "link set pod0 up",
        "route add 10.65.0.9 dev cali123",
        "route add blackhole 10.65.0.0/26 proto 12",
        "route add 10.66.0.0/26 via 10.7.0.1 proto 12",
        "route add 10.99.0.0/16 via 10.7.0.1",
    ];
    in_namespace(&commands, || {
        output("nft", &["add", "table", "ip", "calico"]);
        output("nft", &["add", "table", "ip", "others"]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bird.cfg");
        std::fs::write(&file, "").unwrap();
        for _ in 0..2 {
            cleanup::run(&file).unwrap();
        }
        assert!(!file.exists());
        let tables = output("nft", &["list", "tables"]);
        assert!(!tables.contains("calico") && tables.contains("others"), "{tables}");
        let routes = output("ip", &["-4", "route"]);
        for gone in ["10.65.0.9", "blackhole", "10.66.0.0"] {
            assert!(!routes.contains(gone), "{routes}");
        }
        assert!(routes.contains("10.99.0.0/16") && routes.contains("10.7.0.0/24"), "{routes}");
    });
}
