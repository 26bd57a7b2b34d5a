//! The command line, and two labs beside each other.

mod common;

use std::process::{Command, Output};

use common::{ETCD, becomes, bin_dir, can_run, config, deny_ingress_to, pod, up};
use e2e::{Expect, Lab, LabConfig};

fn lab(args: &[&str]) -> Output {
    Command::new(bin_dir().join("lab")).args(args).output().unwrap()
}

fn succeed(args: &[&str]) -> String {
    let output = lab(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "lab {args:?}: {out}{err}");
    out.into_owned()
}

/// Takes the lab down that the command line made, also when the test fails.
struct DownAtEnd(&'static str);

impl Drop for DownAtEnd {
    fn drop(&mut self) {
        let _ = Lab::down(self.0);
    }
}

#[test]
fn two_labs_stand_side_by_side_and_neither_feels_the_other() {
    if !can_run(&[ETCD]) {
        return;
    }
    let small = |name| LabConfig { nodes: 1, typha: 0, ..config(name) };
    let first = up(small("tl1"));
    let _down = DownAtEnd("tl2");
    let _ = config("tl2");
    succeed(&["up", "--name", "tl2", "--nodes", "1", "--typha", "0"]);

    // The same pods in both; in the first the server is closed.
    let (client, server) = (pod(&first, "client", "n1", &[]), pod(&first, "server", "n1", &[("app", "s")]));
    for (name, label) in [("default/client", "app=c"), ("default/server", "app=s")] {
        let printed = succeed(&[
            "pod", "run", "--name", "tl2", name, "--node", "n1", "--label", label, "--serve", "80",
        ]);
        assert!(printed.trim().parse::<std::net::IpAddr>().is_ok(), "{printed}");
    }
    first.calicoctl(&["apply", "-f", "-"], &deny_ingress_to("s")).unwrap();
    becomes(&first, &client, &server, Expect::Deny);
    let probe =
        |expect| lab(&["probe", "--name", "tl2", "default/client", "default/server", "--expect", expect]);
    assert!(probe("allow").status.success());
    assert!(!probe("deny").status.success());

    drop(first);
    assert!(probe("allow").status.success(), "the second lab suffered from the end of the first");
    assert!(lab(&["probe", "--name", "tl2", "default/client", "n1", "--udp"]).status.success());
    assert_eq!(
        lab(&["exec", "--name", "tl2", "default/client", "--", "sh", "-c", "exit 9"]).status.code(),
        Some(9)
    );
    let status = succeed(&["status", "--name", "tl2"]);
    assert!(status.contains("calico-node") && status.contains("default/server"), "{status}");
    succeed(&["pod", "delete", "--name", "tl2", "default/server"]);
    assert!(!lab(&["pod", "delete", "--name", "tl2", "default/server"]).status.success());
    let again = lab(&["up", "--name", "tl2"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("lab down --name tl2"));
    succeed(&["down", "--name", "tl2"]);
    assert!(e2e::kernel::netns::list("lab-tl2-").unwrap().is_empty());
}
