//! `FelixConfiguration` while Felix runs, with a real etcd and the real kernel: objects that select nodes by label, and a
//! folder that is given up.

mod support;

use support::{BASE, World, ready};

fn put_node(w: &World, role: &str) {
    let node = format!(
        r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"n1","labels":{{"role":"{role}"}}}},"spec":{{}}}}"#
    );
    w.put("nodes/n1", &node);
}

fn put_configuration(w: &World, name: &str, created: &str, spec: &str) {
    let object = format!(
        r#"{{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","creationTimestamp":"{created}"}},"spec":{spec}}}"#
    );
    w.put(&format!("felixconfigurations/{name}"), &object);
}

#[test]
fn a_configuration_is_for_the_nodes_that_it_selects() {
    if !ready() {
        return;
    }
    let mut w = World::new(&["a"], &[]);
    let action = |action: &str| format!(r#""defaultEndpointToHostAction":"{action}""#);
    let accepts = |w: &World| w.exec("nft list chain ip calico filter-cali-wl-to-host").1.contains("accept");
    put_node(&w, "core");
    put_configuration(&w, "default", "2026-01-01T00:00:00Z", &format!("{{{}}}", action("Drop")));
    let edge = format!(r#"{{"nodeSelector":"role == \"edge\"",{}}}"#, action("Accept"));
    put_configuration(&w, "edge", "2026-01-02T00:00:00Z", &edge);
    w.start();
    w.eventually("ready", || w.ready());
    assert!(!accepts(&w), "it does not select this node");

    put_node(&w, "edge");
    w.eventually("the node's new label has it selected: before default", || accepts(&w));
    // Of two that select the node the older one counts.
    put_configuration(
        &w,
        "all",
        "2026-01-01T00:00:00Z",
        &format!(r#"{{"nodeSelector":"all()",{}}}"#, action("Drop")),
    );
    w.eventually("the older one counts", || !accepts(&w));
    assert!(w.exec(&format!("etcdctl del {BASE}/felixconfigurations/all")).0);
    w.eventually("the other counts again", || accepts(&w));
    // The node's own object comes before.
    put_configuration(&w, "node.n1", "2026-01-03T00:00:00Z", &format!("{{{}}}", action("Drop")));
    w.eventually("the node's own object counts", || !accepts(&w));
    assert!(w.exec(&format!("etcdctl del {BASE}/felixconfigurations/node.n1")).0);
    w.eventually("the selected one counts again", || accepts(&w));

    put_node(&w, "core");
    w.eventually("the node's label is another: default counts", || !accepts(&w));
    // One that is for nobody is said to be.
    put_configuration(&w, "nobody", "2026-01-03T00:00:00Z", "{}");
    w.eventually("a warning", || {
        std::fs::read_to_string(w.dir.path().join("log")).is_ok_and(|log| log.contains("has no nodeSelector"))
    });
}

#[test]
fn files_of_endpoint_status_do_not_stay_where_nobody_keeps_them() {
    if !ready() {
        return;
    }
    let mut w = World::new(&["a"], &[]);
    let (old, new) = (w.dir.path().join("old"), w.dir.path().join("new"));
    let below = |prefix: &std::path::Path| {
        let prefix = prefix.display();
        format!(r#"{{"endpointStatusPathPrefix":"{prefix}"}}"#)
    };
    let files = |prefix: &std::path::Path| {
        std::fs::read_dir(prefix.join("endpoint-status")).map_or(0, std::iter::Iterator::count)
    };
    // What the environment says would come first.
    w.environment.push(("FELIX_ENDPOINTSTATUSPATHPREFIX".to_owned(), String::new()));
    put_configuration(&w, "default", "2026-01-01T00:00:00Z", &below(&old));
    w.start();
    w.eventually("the pod is up in the old folder", || files(&old) == 1);
    put_configuration(&w, "default", "2026-01-01T00:00:00Z", &below(&new));
    w.eventually("the pod is up in the new folder alone", || (files(&old), files(&new)) == (0, 1));
    put_configuration(&w, "default", "2026-01-01T00:00:00Z", r#"{"endpointStatusPathPrefix":"none"}"#);
    w.eventually("the pod is up nowhere", || (files(&old), files(&new)) == (0, 0));
}
