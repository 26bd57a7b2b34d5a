//! With a kube-proxy in IPVS mode. The kernel here need not have IPVS: what matters is the interface that kube-proxy
//! makes, and packets that leave by OUTPUT with somebody else's source, as those do that IPVS sends on.

mod lab;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use felix_dataplane::Config;
use felix_dataplane::config::Backend;
use lab::{Felix, Namespace, Pod, allow, deny, eventually, policy, ready, tier};
use socket2::{Domain, Socket, Type};

const PORT: u16 = 8080;

/// Sends one packet; with a mark, and from an address that this host does not have, where they are given.
fn send(to: SocketAddr, from: Option<IpAddr>, mark: u32, text: u64) {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).unwrap();
    socket.set_mark(mark).unwrap();
    if let Some(from) = from {
        if from.is_ipv4() {
            socket.set_ip_transparent_v4(true).unwrap();
        } else {
            socket.set_freebind_v6(true).unwrap();
        }
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    }
    socket.send_to(&text.to_be_bytes(), &to.into()).ok();
}

/// What arrives at a pod's port.
struct Arrivals<'a> {
    host: &'a Namespace,
    /// One of each family, with the address to send to and one of elsewhere.
    sockets: Vec<(UdpSocket, SocketAddr, IpAddr)>,
}

impl<'a> Arrivals<'a> {
    fn at(host: &'a Namespace, pod: &Pod) -> Self {
        let elsewhere = ["198.51.100.9", "2001:db8:9::9"].map(|a| a.parse().unwrap());
        let ends = [pod.v4, pod.v6].map(|a| SocketAddr::new(a, PORT));
        let sockets = ends.into_iter().zip(elsewhere).map(|(end, elsewhere)| {
            let socket = pod.ns.inside(move || UdpSocket::bind(end).unwrap()).join().unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            (socket, end, elsewhere)
        });
        Self { host, sockets: sockets.collect() }
    }

    /// Whether a packet that came from elsewhere goes on to the pod, in each family.
    fn pass_from_elsewhere(&self, mark: u32) -> Vec<bool> {
        self.sockets
            .iter()
            .map(|(socket, to, elsewhere)| {
                let (to, elsewhere, number) = (*to, *elsewhere, rand::random::<u64>() & !1);
                let mut arrived = [false; 2];
                // The host's own comes behind it, always: then the other came before, or does not come.
                eventually("the host's own packet", || {
                    let sent = self.host.inside(move || {
                        send(to, Some(elsewhere), mark, number);
                        send(to, None, 0, number | 1);
                    });
                    sent.join().unwrap();
                    let mut text = [0; 8];
                    while !arrived[1] && socket.recv(&mut text).is_ok() {
                        let text = u64::from_be_bytes(text);
                        if text & !1 == number {
                            arrived[usize::from(text & 1 == 1)] = true;
                        }
                    }
                    arrived[1]
                });
                arrived[0]
            })
            .collect()
    }
}

#[test]
fn what_ipvs_sends_on_to_a_pod_meets_its_policy_and_what_it_sends_on_for_a_pod_is_denied() {
    if !ready() {
        return;
    }
    for backend in [Backend::Nftables, Backend::IptablesNft, Backend::IptablesLegacy] {
        let host = Namespace::host();
        let pod = Pod::new(&host, 2);
        let config = Config { backend, ..Config::default() };
        let from_workload = config.marks.scratch0;
        let felix = Felix::among(&host, config, vec![]);
        let follow = |rule| {
            felix.apply(vec![
                policy("p", vec![rule], vec![]),
                pod.endpoint(vec![tier(&["p"], &[])], &["open"]),
            ]);
        };
        let arrivals = Arrivals::at(&host, &pod);
        let is = |marked, what| {
            eventually(&format!("{what} on {backend:?}"), || {
                let mark = if marked { from_workload } else { 0 };
                arrivals.pass_from_elsewhere(mark) == [what == "open"; 2]
            });
        };
        follow(deny());
        is(false, "open"); // A program here that takes another's address, as proxies do.

        host.must("ip link add kube-ipvs0 type veth peer name ipvs-peer");
        is(false, "closed");
        follow(allow());
        is(false, "open");
        is(true, "closed");
        follow(deny());
        is(false, "closed");

        host.must("ip link del kube-ipvs0");
        is(false, "open");
    }
}
