//! What pods and people do with a network: addresses, Services, probes, kubectl's own connections, host ports, policy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::k8s::Cluster;
use e2e::kernel::netns;

use crate::support::{Space, two_nodes, wait};

/// The control plane's namespace, which is no node.
const CONTROL_PLANE: &str = "kcp";

pub fn nodes(cluster: &Cluster) {
    for node in cluster.nodes().unwrap() {
        let of =
            |path: &str| cluster.kubectl(&["get", "node", &node, "-o", &format!("jsonpath={path}")]).unwrap();
        let internal = of("{.status.addresses[?(@.type==\"InternalIP\")].address}");
        assert_eq!(of("{.metadata.annotations.projectcalico\\.org/IPv4Address}"), format!("{internal}/24"));
        let condition = |name: &str| of(&format!("{{.status.conditions[?(@.type==\"{name}\")].status}}"));
        assert_eq!(condition("Ready"), "True");
        assert_eq!(condition("NetworkUnavailable"), "False");
        wait(&format!("calico-node to be ready on {node}"), || {
            let asked = cluster.on(&node, &["calico-node", "-felix-ready", "-bird-ready"]);
            asked.map(drop).map_err(|e| e.to_string())
        });
    }
}

pub fn by_address(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-address");
    for (name, node) in [("a", &one), ("b", &one), ("c", &two)] {
        space.server(name, node);
    }
    space.ready(&["a", "b", "c"]);
    for (from, to) in [("a", "b"), ("a", "c"), ("c", "a")] {
        space.reaches(from, &format!("{}:8080", space.seen(to).address));
    }
    // The node and what is no node at all.
    let address = space.seen("c").address;
    for place in [two.as_str(), CONTROL_PLANE] {
        wait(&format!("{place} to reach the pod"), || http(place, &format!("{address}:8080")).map(drop));
    }
}

pub fn by_service(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-service");
    space.server("web", &one);
    space.server("client", &two);
    space.ready(&["web", "client"]);
    space.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort"]);
    let address = space.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let port = space.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    space.reaches("client", &format!("{address}:80"));
    space.reaches("web", &format!("{address}:80"));
    for node in [&one, &two] {
        let of =
            ["get", "node", node, "-o", "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}"];
        let node = cluster.kubectl(&of).unwrap();
        space.reaches("client", &format!("{node}:{port}"));
        wait("the node's port to answer from outside", || {
            http(CONTROL_PLANE, &format!("{node}:{port}")).map(drop)
        });
    }
}

pub fn readiness(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-ready");
    let probe = ", readinessProbe: {periodSeconds: 1, exec: {command: [ls, /tmp/ready]}}";
    space.pod("web", &one, "[netexec, --http-port=8080]", probe);
    let live =
        ", livenessProbe: {periodSeconds: 1, failureThreshold: 2, httpGet: {path: /hostname, port: 8080}}";
    space.pod("client", &two, "[netexec, --http-port=8080]", live);
    space.ready(&["client"]);
    space.kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080"]);
    let address = space.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    assert!(space.connects("client", &format!("{address}:80")).is_err(), "a pod that is not ready is served");
    wait("the pod to run", || {
        cluster.exec(space.name, "web", &["touch", "/tmp/ready"]).map(drop).map_err(|e| e.to_string())
    });
    space.ready(&["web"]);
    space.reaches("client", &format!("{address}:80"));
    let restarts = space.kubectl(&[
        "get",
        "pod",
        "client",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ]);
    assert_eq!(restarts, "0", "the kubelet's HTTP probe must reach its pod");
}

pub fn exec_logs_forward(cluster: &Cluster) {
    let [one, _] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-kubectl");
    space.server("web", &one);
    space.ready(&["web"]);
    assert_eq!(cluster.exec(space.name, "web", &["hostname"]).unwrap().trim(), "web");
    wait("the server's log", || {
        let log = space.kubectl(&["logs", "web"]);
        if log.contains("8080") { Ok(()) } else { Err(log) }
    });
    let mut forward =
        cluster.kubectl_background(&["-n", space.name, "port-forward", "pod/web", "18080:8080"]).unwrap();
    let answer = e2e::k8s::eventually("the forwarded port", Duration::from_secs(60), || {
        let body = http(CONTROL_PLANE, "127.0.0.1:18080")?;
        if body.contains("web") { Ok(()) } else { Err(body) }
    });
    let _ = forward.kill();
    let _ = forward.wait();
    answer.unwrap();
}

pub fn host_port(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-hostport");
    space.pod(
        "web",
        &one,
        "[netexec, --http-port=8080]",
        ", ports: [{containerPort: 8080, hostPort: 18081}]",
    );
    space.server("client", &two);
    space.ready(&["web", "client"]);
    let of = ["get", "node", &one, "-o", "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}"];
    let node = cluster.kubectl(&of).unwrap();
    space.reaches("client", &format!("{node}:18081"));
    wait("the host port to answer from outside", || http(CONTROL_PLANE, &format!("{node}:18081")).map(drop));
}

pub fn policy(cluster: &Cluster) {
    let [one, two] = two_nodes(cluster);
    let space = Space::new(cluster, "k8s-policy");
    for (name, node) in [("web", &one), ("friend", &two), ("stranger", &two)] {
        space.server(name, node);
    }
    space.ready(&["web", "friend", "stranger"]);
    let web = format!("{}:8080", space.seen("web").address);
    space.reaches("friend", &web);
    space.reaches("stranger", &web);
    let manifest = |from: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: web, namespace: {}}}, \
             spec: {{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Ingress], ingress: [{from}]}}}}",
            space.name
        )
    };
    cluster.apply(&manifest("")).unwrap();
    space.is_cut_off("friend", &web);
    space.is_cut_off("stranger", &web);
    cluster.apply(&manifest("{from: [{podSelector: {matchLabels: {app: friend}}}]}")).unwrap();
    space.reaches("friend", &web);
    assert!(space.connects("stranger", &web).is_err());
    space.kubectl(&["label", "pod", "stranger", "--overwrite", "app=friend"]);
    space.reaches("stranger", &web);
    space.kubectl(&["delete", "networkpolicy", "web"]);
    space.reaches("web", &web);
}

/// The body that a server answers with `/hostname`, asked from a machine's namespace.
fn http(place: &str, address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let limit = Duration::from_secs(1);
    let stream = netns::within(place, || Ok(TcpStream::connect_timeout(&address, limit)))
        .map_err(|e| e.to_string())?;
    let ask = || -> std::io::Result<String> {
        let mut stream = stream?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET /hostname HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e| format!("{address}: {e}"))?;
    if answer.contains(" 200 ") { Ok(answer) } else { Err(answer) }
}
