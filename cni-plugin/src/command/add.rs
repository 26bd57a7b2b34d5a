//! ADD: a pod gets its interface, addresses, routes and endpoint.
//!
//! Order: (1) everything that is known beforehand is read; (2) the pair of interfaces is made while handle, block and
//! endpoint are written, the handle first, so that there is never an address without a name to free it by; (3)
//! addresses and routes. The endpoint is closed until Felix opens it. A failure after (1) undoes what was done; a
//! process that dies leaves what DEL finds by the same names.
//!
//! Round trips with `calico-ipam`, the common case:
//!
//! | | reads | writes |
//! |---|---|---|
//! | etcd | 2: the host's claims; then all else and the blocks that they name | 1 transaction |
//! | Kubernetes | the same 2, the second one of nine requests at once over one connection | 3: handle, block, pod |
//!
//! On Kubernetes claims, pools and reservations come from the API server's cache, all else as it stands now (what may follow
//! from which: `libcalico_ipam::assign`). A new block costs two more reads at once and a write. Of several ADDs at once on a
//! node each waits for its turn to write the block (`libcalico_ipam::turns`), with its handle written and nothing locked.
//!
//! The claims come first because only they tell which blocks to read, and reading all blocks would grow with the
//! cluster. Kubernetes has no transactions, and its three writes keep their order: interrupted anywhere, what was
//! written leads DEL to the rest.

use std::sync::Arc;

use libcalico_datastore::{DatastoreError, Found, Read};
use libcalico_ipam::snapshot::{Need, Snapshot};
use libcalico_ipam::{IpamClient, IpamError, Moment, Owner};
use libcalico_model::{Key, Value};

use super::addresses::Given;
use super::{OWN_IPAM, SharedNs, answer, cluster_key, kernel, mtu_file, ready};
use crate::delegate;
use crate::endpoint::{self, StoredEndpoint};
use crate::error::CniError;
use crate::facts;
use crate::gates;
use crate::machine;
use crate::network::netns::NetNs;
use crate::network::{configure, differences, make_pair, raise, remove, remove_host};
use crate::plan::{self, NetworkPlan, mac_text, parse_mac};
use crate::policy_wait;
use crate::request::Request;
use crate::result::CniResult;
use crate::store::{self, Stores};
use crate::wishes::{self, Wishes};
use crate::workload::Workload;

/// Serves ADD.
pub async fn add(request: &Request, stdin: &[u8]) -> Result<CniResult, CniError> {
    let conf = &request.conf;
    let node = store::node_name(conf)?;
    let mtu = plan::mtu(conf, mtu_file().as_deref())?;
    let workload = Workload::of(request, &node);
    let netns = request.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let ns = Arc::new(NetNs::open(netns)?);
    gates::wait_open(&conf.readiness_gates).await?;
    let stores = store::open(conf).await?;
    if stores.kubernetes && !workload.is_pod() {
        return Err(super::no_pod());
    }
    let sandbox = netns.display().to_string();
    let job = Job { request, stdin, base: workload, mtu, sandbox, ns, stores };
    let known = job.read().await?;
    if let Some(stands) = job.own_endpoint(&known) {
        return job.repeat(&known, stands).await;
    }
    if !known.profile {
        job.make_profile().await?;
    }
    let plan = job.plan(&known);
    let workload = known.workload.clone();
    let outcome = match job.pair_and_addresses(&plan, known).await {
        Ok(given) => job.connect(&plan, &workload, given).await.map_err(|e| (e, true)),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(result) => {
            policy_wait::wait(conf, &workload).await;
            Ok(result)
        }
        Err((e, written)) => Err(job.undo(e, &plan, &workload, written).await),
    }
}

/// What one ADD works with.
pub(super) struct Job<'a> {
    pub(super) request: &'a Request,
    pub(super) stdin: &'a [u8],
    /// As far as the request tells.
    pub(super) base: Workload,
    mtu: u32,
    sandbox: String,
    ns: SharedNs,
    pub(super) stores: Stores,
}

/// What the datastore and the API server said at the beginning.
pub(super) struct Known {
    pub(super) workload: Workload,
    pub(super) wishes: Wishes,
    pub(super) snapshot: Snapshot,
    pub(super) endpoint: Option<StoredEndpoint>,
    profile: bool,
}

/// An error, and whether the datastore has something of the pod.
pub(super) type Failure = (CniError, bool);

impl Job<'_> {
    pub(super) fn own_ipam(&self) -> bool {
        self.request.conf.ipam.type_ == OWN_IPAM
    }

    /// The plan before the addresses are known.
    pub(super) fn plan(&self, known: &Known) -> NetworkPlan {
        let chosen = known.wishes.families(&self.request.args.ips);
        let mut plan = plan::pair(&self.request.conf, &known.workload, self.mtu, chosen);
        plan.pod_mac = known.wishes.mac.unwrap_or(plan.pod_mac);
        plan
    }

    /// The endpoint of this very container: ADD was called before.
    fn own_endpoint<'k>(&self, known: &'k Known) -> Option<&'k StoredEndpoint> {
        let own = |e: &&StoredEndpoint| {
            e.endpoint.spec.container_id == self.base.container_id && !e.endpoint.spec.ip_networks.is_empty()
        };
        known.endpoint.as_ref().filter(own)
    }

    pub(super) async fn read(&self) -> Result<Known, CniError> {
        // Of a machine's pod it must be known beforehand whose its addresses are.
        let early = match machine::may_run_one(&self.base) {
            true => Some(learn(&self.stores, &self.base).await?),
            false => None,
        };
        let w = early.as_ref().unwrap_or(&self.base);
        let client = IpamClient::new(Arc::clone(&self.stores.store));
        let id = self.own_ipam().then(|| w.handle(&self.request.conf.name));
        let mut snapshot = Snapshot::new(Owner::host(&*w.node), id).with_cached_lists();
        let node = Key::resource(libcalico_api::Kind::Node, "", &*w.node);
        let mut reads = if self.own_ipam() {
            client.fill(&mut snapshot, &[Need::Affinities]).await?;
            let blocks = snapshot.affinities().into_iter().flat_map(|a| a.keys()).map(|c| Need::Block(*c));
            let needs: Vec<Need> = [Need::Settings, Need::Handle].into_iter().chain(blocks).collect();
            snapshot.reads(&needs)
        } else {
            vec![Read::Key(node.clone())]
        };
        let own = [cluster_key(), endpoint::key(w), endpoint::profile_key(w)];
        let stored = if self.stores.kubernetes { 1 } else { 3 };
        reads.extend(own.iter().take(stored).cloned().map(Read::Key));
        let found = async { self.stores.store.read_many(&reads).await.map_err(CniError::from) };
        let learned = async {
            match &early {
                Some(w) => Ok(w.clone()),
                None => learn(&self.stores, w).await,
            }
        };
        let (found, workload) = tokio::try_join!(found, learned)?;
        ready(answer(&reads, &found, &own[0]))?;
        if !stands(answer(&reads, &found, &node)) {
            return Err(IpamError::NodeMissing(w.node.clone()).into());
        }
        let endpoint = match answer(&reads, &found, &own[1]) {
            Some(Found::Key(Some(kv))) => StoredEndpoint::read(kv),
            _ => workload.facts.as_ref().filter(|_| self.stores.kubernetes).map(StoredEndpoint::of_pod),
        };
        // Of a pod that Kubernetes knows, kube-controllers write the profiles.
        let profile = self.stores.pods_from_api && w.is_pod() || stands(answer(&reads, &found, &own[2]));
        snapshot.absorb(&reads, found);
        let wishes =
            wishes::read(&self.request.conf, workload.facts.as_ref(), workload.namespace_facts.as_ref())?;
        Ok(Known { workload, wishes, snapshot, endpoint, profile })
    }

    /// The pair of interfaces is made while addresses are asked for; where those come over the interface, before.
    async fn pair_and_addresses(&self, plan: &NetworkPlan, known: Known) -> Result<Given, Failure> {
        let (p, ns) = (plan.clone(), Arc::clone(&self.ns));
        if delegate::by_interface(self.request) {
            let made = kernel(move || make_pair(&p, &ns).and_then(|()| raise(&p, &ns)));
            made.await.map_err(|e| (e.into(), false))?;
            return self.addresses(known).await;
        }
        match tokio::join!(kernel(move || make_pair(&p, &ns)), self.addresses(known)) {
            (Ok(()), given) => given,
            (Err(e), Ok(_)) => Err((e.into(), true)),
            (Err(e), Err((_, written))) => Err((e.into(), written)),
        }
    }

    /// The profile is made once in the life of a network or namespace.
    async fn make_profile(&self) -> Result<(), CniError> {
        let key = endpoint::profile_key(&self.base);
        let profile: Value = endpoint::profile(&self.base, Moment::now()).into();
        match self.stores.store.create(&key, profile).await {
            Ok(_) => tracing::info!(profile = %self.base.profile.name(), "made the profile"),
            Err(DatastoreError::AlreadyExists(_)) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// ADD of a container that has its endpoint: the same answer, and what is missing in the kernel is made again.
    async fn repeat(&self, known: &Known, stands: &StoredEndpoint) -> Result<CniResult, CniError> {
        let spec = &stands.endpoint.spec;
        let mut plan = self.plan(known);
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
        Ok(plan::result(&plan, &mac_text(&plan.pod_mac), &self.sandbox, Vec::new(), None))
    }

    /// The rest of the network.
    async fn connect(&self, plan: &NetworkPlan, w: &Workload, given: Given) -> Result<CniResult, CniError> {
        let mut plan = plan.clone().with_addresses(&self.request.conf, &given.addresses, &given.pod_routes);
        if !given.host_routes {
            plan.host_routes.clear();
        }
        let (p, ns) = (plan.clone(), Arc::clone(&self.ns));
        kernel(move || configure(&p, &ns)).await?;
        tracing::info!(
            endpoint = %w.endpoint_name(), interface = %plan.host_ifname, addresses = ?given.addresses,
            conflicts = given.conflicts,
            "the pod has its network"
        );
        Ok(plan::result(&plan, &mac_text(&plan.pod_mac), &self.sandbox, given.result_routes, given.dns))
    }

    /// Takes everything back. What cannot be taken back is told; DEL, which the runtime calls next, tries again.
    async fn undo(&self, e: CniError, plan: &NetworkPlan, w: &Workload, written: bool) -> CniError {
        tracing::warn!(error = %e, "ADD failed, undoing it");
        let (plan, ns) = (plan.clone(), Arc::clone(&self.ns));
        let mut e = e;
        let removed = kernel(move || remove(&plan.pod_ifname, plan.pod_mac, &ns).map(|_| ()));
        if let Err(more) = removed.await {
            e = e.and(&format!("undoing: {more}"));
        }
        if written && let Err(more) = super::del::release(self.request, self.stdin, w, &self.stores).await {
            e = e.and(&format!("undoing: {more}"));
        }
        e
    }
}

/// Asks the API server for the pod and its namespace, where the configuration names one.
async fn learn(stores: &Stores, w: &Workload) -> Result<Workload, CniError> {
    let mut w = w.clone();
    let Some(api) = stores.api.as_deref().filter(|_| w.is_pod()) else { return Ok(w) };
    let pod = async {
        if !stores.pods_from_api {
            return Ok(None);
        }
        let pod = facts::pod(api, &w).await?.filter(|p| p.is(&w.pod_uid));
        pod.map(Some).ok_or_else(|| super::pod_gone(&w))
    };
    let (pod, namespace) = tokio::try_join!(pod, facts::namespace(api, &w))?;
    let machine = machine::of(stores, &w).await?;
    (w.facts, w.namespace_facts, w.machine) = (pod, Some(namespace), machine);
    Ok(w)
}

fn stands(found: Option<&Found>) -> bool {
    matches!(found, Some(Found::Key(Some(_))))
}

/// True where someone else created, changed or removed that key meanwhile.
pub(super) fn changed(e: &DatastoreError, key: &Key) -> bool {
    matches!(e, DatastoreError::AlreadyExists(k) | DatastoreError::Conflict(k) | DatastoreError::NotFound(k) if k == key)
}

/// Removes a pod's pair by its host end.
pub(super) async fn remove_by_host(name: String) -> Result<bool, CniError> {
    kernel(move || remove_host(&name)).await.map_err(CniError::from)
}
