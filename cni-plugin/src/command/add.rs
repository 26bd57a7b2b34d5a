//! ADD: a pod gets its interface, addresses, routes and endpoint.
//!
//! Order: (1) one read of everything that is known beforehand; (2) the pair of interfaces; (3) one batch with block,
//! handle and endpoint, so that there is never an address without a name to free it by; (4) addresses and routes. The
//! endpoint is closed until Felix opens it. A failure after (2) undoes what was done; a process that dies leaves what
//! DEL finds by the same names.
//!
//! Round trips on etcd with `calico-ipam`: two reads (the second for the host's blocks, which the first one names) and
//! one write.

use std::net::IpAddr;
use std::sync::Arc;

use libcalico_api::Resource;
use libcalico_api::ip_pool::AllowedUse;
use libcalico_datastore::{Datastore, DatastoreError, Found, Read, Write};
use libcalico_ipam::snapshot::Snapshot;
use libcalico_ipam::{AssignRequest, Assigned, IpamClient, IpamError, Moment, Owner};
use libcalico_model::{Key, KeyValue, Value};
use libcalico_net::cidr::IpNet;

use super::{OWN_IPAM, SharedNs, answer, cluster_key, kernel, mtu_file, ready};
use crate::delegate;
use crate::endpoint::{self, StoredEndpoint};
use crate::error::{CniError, Code};
use crate::gates;
use crate::network::netns::NetNs;
use crate::network::{configure, differences, make_pair, remove, remove_host};
use crate::plan::{self, NetworkPlan, mac_text, parse_mac};
use crate::request::{Command, Request};
use crate::result::{CniResult, Route};
use crate::store;
use crate::workload::Workload;

/// Times that ADD starts over when another writer changes the pod's endpoint meanwhile.
const ENDPOINT_CONFLICTS: usize = 5;

/// Serves ADD.
pub async fn add(request: &Request, stdin: &[u8]) -> Result<CniResult, CniError> {
    let conf = &request.conf;
    let node = store::node_name(conf)?;
    let mtu = plan::mtu(conf, mtu_file().as_deref())?;
    let workload = Workload::of(request, &node);
    let netns = request.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let ns = Arc::new(NetNs::open(netns)?);
    gates::wait_open(&conf.readiness_gates).await?;
    let store = store::open(conf).await?;
    let job = Job {
        request,
        stdin,
        plan: plan::pair(conf, &workload, mtu),
        sandbox: netns.display().to_string(),
        workload,
        ns,
        store,
    };
    let known = job.read().await?;
    if let Some(stands) = known.own_endpoint(&job.workload) {
        return job.repeat(stands).await;
    }
    if !known.profile {
        job.make_profile().await?;
    }
    let (plan, ns) = (job.plan.clone(), Arc::clone(&job.ns));
    let made = kernel(move || make_pair(&plan, &ns)).await;
    let outcome = match made {
        Ok(()) => job.connect(known).await,
        Err(e) => Err((e.into(), false)),
    };
    match outcome {
        Ok(result) => Ok(result),
        Err((e, written)) => Err(job.undo(e, written).await),
    }
}

/// What one ADD works with.
struct Job<'a> {
    request: &'a Request,
    stdin: &'a [u8],
    workload: Workload,
    /// Without addresses.
    plan: NetworkPlan,
    sandbox: String,
    ns: SharedNs,
    store: Arc<dyn Datastore>,
}

/// What the datastore said at the beginning.
struct Known {
    snapshot: Snapshot,
    endpoint: Option<StoredEndpoint>,
    profile: bool,
}

impl Known {
    /// The endpoint of this very container: ADD was called before.
    fn own_endpoint(&self, w: &Workload) -> Option<&StoredEndpoint> {
        self.endpoint.as_ref().filter(|e| e.endpoint.spec.container_id == w.container_id)
    }
}

/// An error, and whether the datastore has something of the pod.
type Failure = (CniError, bool);

impl Job<'_> {
    fn own_ipam(&self) -> bool {
        self.request.conf.ipam.type_ == OWN_IPAM
    }

    async fn read(&self) -> Result<Known, CniError> {
        let w = &self.workload;
        let handle = self.own_ipam().then(|| w.handle(&self.request.conf.name));
        let mut snapshot = Snapshot::new(Owner::host(&*w.node), handle);
        let node = Key::resource(libcalico_api::Kind::Node, "", &*w.node);
        let mut reads = if self.own_ipam() {
            snapshot.reads(&snapshot.first_needs())
        } else {
            vec![Read::Key(node.clone())]
        };
        let own = [cluster_key(), endpoint::key(w), endpoint::profile_key(w)];
        reads.extend(own.iter().cloned().map(Read::Key));
        let found = self.store.read_many(&reads).await?;
        ready(answer(&reads, &found, &own[0]))?;
        if !stands(answer(&reads, &found, &node)) {
            return Err(IpamError::NodeMissing(w.node.clone()).into());
        }
        let endpoint = match answer(&reads, &found, &own[1]) {
            Some(Found::Key(Some(kv))) => StoredEndpoint::read(kv),
            _ => None,
        };
        let profile = stands(answer(&reads, &found, &own[2]));
        snapshot.absorb(&reads, found);
        Ok(Known { snapshot, endpoint, profile })
    }

    /// The profile is made once in the life of a network or namespace.
    async fn make_profile(&self) -> Result<(), CniError> {
        let key = endpoint::profile_key(&self.workload);
        let profile: Value = endpoint::profile(&self.workload, Moment::now()).into();
        match self.store.create(&key, profile).await {
            Ok(_) => tracing::info!(profile = %self.workload.profile.name(), "made the profile"),
            Err(DatastoreError::AlreadyExists(_)) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// ADD of a container that has its endpoint: the same answer, and what is missing in the kernel is made again.
    async fn repeat(&self, stands: &StoredEndpoint) -> Result<CniResult, CniError> {
        let spec = &stands.endpoint.spec;
        let mut plan = self.plan.clone();
        plan.host_ifname.clone_from(&spec.interface_name);
        plan.pod_mac = parse_mac(&spec.mac).unwrap_or(plan.pod_mac);
        let plan = plan.with_addresses(&self.request.conf, &stands.addresses(), &[]);
        let (p, ns) = (plan.clone(), Arc::clone(&self.ns));
        kernel(move || {
            let wrong = differences(&p, &ns)?;
            if wrong.is_empty() {
                return Ok(());
            }
            tracing::warn!(differences = ?wrong, "ADD repeated: making what is missing");
            make_pair(&p, &ns)?;
            configure(&p, &ns)
        })
        .await?;
        Ok(plan::result(&plan, &spec.mac, &self.sandbox, Vec::new(), None))
    }

    /// Addresses, endpoint, and the rest of the network.
    async fn connect(&self, known: Known) -> Result<CniResult, Failure> {
        let given = if self.own_ipam() { self.assign(known).await? } else { self.delegate(known).await? };
        let plan = self.plan.clone().with_addresses(&self.request.conf, &given.addresses, &given.pod_routes);
        let (p, ns) = (plan.clone(), Arc::clone(&self.ns));
        kernel(move || configure(&p, &ns)).await.map_err(|e| (e.into(), true))?;
        tracing::info!(
            endpoint = %self.workload.endpoint_name(), interface = %plan.host_ifname, addresses = ?given.addresses,
            conflicts = given.conflicts,
            "the pod has its network"
        );
        Ok(plan::result(&plan, &mac_text(&plan.pod_mac), &self.sandbox, given.result_routes, given.dns))
    }

    /// Addresses from Calico's own IPAM, in one batch with the endpoint.
    async fn assign(&self, known: Known) -> Result<Given, Failure> {
        let before = |e: CniError| (e, false);
        let request = ipam_request(self.request, &self.workload).map_err(before)?;
        let client = IpamClient::new(Arc::clone(&self.store));
        let Known { mut snapshot, endpoint: mut stands, .. } = known;
        let mut fixed: Vec<Assigned> = Vec::new();
        let (last, others) = match self.request.args.ips.split_last() {
            Some((last, others)) => (Some(*last), others),
            None => (None, &[][..]),
        };
        for ip in others {
            let got = client.assign_ip(&request, *ip).await.map_err(|e| (e.into(), !fixed.is_empty()))?;
            fixed.extend(got.addresses);
            snapshot = Snapshot::new(request.owner.clone(), request.handle_id.clone());
        }
        for _ in 0..ENDPOINT_CONFLICTS {
            let extra = |a: &[Assigned]| {
                let all: Vec<IpAddr> = fixed.iter().chain(a).map(|a| a.addr).collect();
                vec![self.endpoint_write(&all, stands.as_ref())]
            };
            let outcome = match last {
                Some(ip) => client.assign_ip_with(&request, ip, snapshot, &extra).await,
                None => client.assign_with(&request, snapshot, &extra).await,
            };
            let key = endpoint::key(&self.workload);
            match outcome {
                Ok(got) => {
                    fixed.extend(got.addresses);
                    return Ok(Given::own(&fixed, got.conflicts, self.workload.is_pod()));
                }
                Err(IpamError::Datastore(e)) if changed(&e, &key) => {
                    tracing::info!(%key, "the endpoint was changed meanwhile, reading it again");
                    let known = self.read().await.map_err(|e| (e, !fixed.is_empty()))?;
                    (snapshot, stands) = (known.snapshot, known.endpoint);
                }
                // After a failed call the datastore may have the batch nevertheless: the undoing finds out.
                Err(e) => {
                    let perhaps = matches!(&e, IpamError::Datastore(_));
                    return Err((e.into(), perhaps || !fixed.is_empty()));
                }
            }
        }
        let e = CniError::new(Code::TryAgainLater, "the pod's endpoint is changed by others all the time");
        Err((e, !fixed.is_empty()))
    }

    /// Addresses from another plugin, then the endpoint.
    async fn delegate(&self, known: Known) -> Result<Given, Failure> {
        let result = delegate::call(self.request, self.stdin, Command::Add).await.map_err(|e| (e, false))?;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
        if addresses.is_empty() {
            let e = CniError::new(
                Code::Ipam,
                format!("IPAM plugin {} gave no address", self.request.conf.ipam.type_),
            );
            return Err((e, true));
        }
        let mut stands = known.endpoint;
        let key = endpoint::key(&self.workload);
        for _ in 0..ENDPOINT_CONFLICTS {
            let write = self.endpoint_write(&addresses, stands.as_ref());
            match self.store.write_all(vec![write]).await {
                Ok(_) => {
                    return Ok(Given {
                        addresses,
                        pod_routes: result.routes.clone(),
                        result_routes: result.routes,
                        dns: result.dns,
                        conflicts: 0,
                    });
                }
                Err(e) if changed(&e, &key) => {
                    stands = self.read().await.map_err(|e| (e, true))?.endpoint;
                }
                Err(e) => return Err((e.into(), true)),
            }
        }
        Err((
            CniError::new(Code::TryAgainLater, "the pod's endpoint is changed by others all the time"),
            true,
        ))
    }

    fn endpoint_write(&self, addresses: &[IpAddr], stands: Option<&StoredEndpoint>) -> Write {
        let mac = mac_text(&self.plan.pod_mac);
        let e = endpoint::endpoint(&self.workload, addresses, &mac, stands, Moment::now());
        let (key, value) = (endpoint::key(&self.workload), Value::from(Resource::from(e)));
        match stands {
            Some(s) => Write::Update(KeyValue { key, value, revision: s.revision.clone() }),
            None => Write::Create(key, value),
        }
    }

    /// Takes everything back. What cannot be taken back is told; DEL, which the runtime calls next, tries again.
    async fn undo(&self, e: CniError, written: bool) -> CniError {
        tracing::warn!(error = %e, "ADD failed, undoing it");
        let (plan, ns) = (self.plan.clone(), Arc::clone(&self.ns));
        let mut e = e;
        let removed = kernel(move || remove(&plan.pod_ifname, plan.pod_mac, &ns).map(|_| ()));
        if let Err(more) = removed.await {
            e = e.and(&format!("undoing: {more}"));
        }
        if written
            && let Err(more) =
                super::del::release(self.request, self.stdin, &self.workload, &self.store).await
        {
            e = e.and(&format!("undoing: {more}"));
        }
        e
    }
}

/// What IPAM gave.
struct Given {
    addresses: Vec<IpAddr>,
    /// Routes that the pod gets instead of the default ones.
    pod_routes: Vec<Route>,
    result_routes: Vec<Route>,
    dns: Option<serde_json::Value>,
    /// Times that another writer of the block was faster.
    conflicts: usize,
}

impl Given {
    /// Upstream's result for a container names each address with its block as a route; for a pod it does not.
    fn own(assigned: &[Assigned], conflicts: usize, pod: bool) -> Self {
        let route = |a: &Assigned| Route { dst: with_block_length(a).to_string(), gw: None };
        Self {
            addresses: assigned.iter().map(|a| a.addr).collect(),
            pod_routes: Vec::new(),
            result_routes: if pod { Vec::new() } else { assigned.iter().map(route).collect() },
            dns: None,
            conflicts,
        }
    }
}

/// The address with its block's prefix length.
pub(super) fn with_block_length(a: &Assigned) -> IpNet {
    IpNet::new(a.addr, a.block.prefix_len()).unwrap_or_else(|_| IpNet::from(a.addr))
}

fn stands(found: Option<&Found>) -> bool {
    matches!(found, Some(Found::Key(Some(_))))
}

/// True where someone else created, changed or removed that key meanwhile.
pub(super) fn changed(e: &DatastoreError, key: &Key) -> bool {
    matches!(e, DatastoreError::AlreadyExists(k) | DatastoreError::Conflict(k) | DatastoreError::NotFound(k) if k == key)
}

/// What the configuration wants of Calico's own IPAM for the workload.
pub(super) fn ipam_request(request: &Request, w: &Workload) -> Result<AssignRequest, CniError> {
    let ipam = &request.conf.ipam;
    let flag = |name: &str, text: &Option<String>, default: bool| match text.as_deref() {
        None | Some("") => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(CniError::new(
            Code::InvalidConfig,
            format!("ipam.{name} is {other:.40?}, not \"true\" or \"false\""),
        )),
    };
    let v4 = flag("assign_ipv4", &ipam.assign_ipv4, true)?;
    let v6 = flag("assign_ipv6", &ipam.assign_ipv6, false)?;
    if !v4 && !v6 {
        return Err(CniError::new(
            Code::InvalidConfig,
            "ipam.assign_ipv4 and ipam.assign_ipv6 are both \"false\"",
        )
        .with_details("a pod needs an address; set one of them to \"true\""));
    }
    Ok(AssignRequest {
        num_v4: usize::from(v4),
        num_v6: usize::from(v6),
        handle_id: Some(w.handle(&request.conf.name)),
        attributes: w.address_attributes(),
        pools_v4: ipam.ipv4_pools.clone(),
        pools_v6: ipam.ipv6_pools.clone(),
        intended_use: AllowedUse::Workload,
        namespace_labels: w.namespace_labels(),
        ..AssignRequest::workload(Owner::host(&*w.node))
    })
}

/// Removes a pod's pair by its host end.
pub(super) async fn remove_by_host(name: String) -> Result<bool, CniError> {
    kernel(move || remove_host(&name)).await.map_err(CniError::from)
}
