//! ADD's addresses: from Calico's own IPAM, from another plugin, or as the pod says; and the endpoint that has them.
//!
//! In comes what was read at the beginning, out come addresses that are the pod's, with its endpoint written, or an
//! error with the word whether anything was written. Where the datastore has transactions, addresses and endpoint are
//! one; where it has none, the endpoint comes last.

use std::net::IpAddr;

use libcalico_api::Resource;
use libcalico_api::ip_pool::AllowedUse;
use libcalico_datastore::Write;
use libcalico_ipam::release::ReleaseOptions;
use libcalico_ipam::snapshot::{Seen, Snapshot};
use libcalico_ipam::vm::OwnerChange;
use libcalico_ipam::{AssignRequest, Assigned, IpamClient, IpamError, Moment, Owner};
use libcalico_model::{KeyValue, Revision, Value};
use libcalico_net::cidr::IpNet;

use super::add::{Failure, Job, Known, changed};
use super::pod_gone;
use crate::delegate;
use crate::endpoint::{self, Gave};
use crate::error::{CniError, Code};
use crate::plan::mac_text;
use crate::request::{Command, Request};
use crate::result::Route;
use crate::store;
use crate::wishes::Wishes;
use crate::workload::{Workload, handle};

/// Times that ADD starts over when another writer changes the pod's endpoint meanwhile.
const ENDPOINT_CONFLICTS: usize = 5;

/// What IPAM gave.
pub(super) struct Given {
    pub(super) addresses: Vec<IpAddr>,
    /// Routes that the pod gets instead of the default ones.
    pub(super) pod_routes: Vec<Route>,
    pub(super) result_routes: Vec<Route>,
    pub(super) dns: Option<serde_json::Value>,
    /// Times that another writer of the block was faster.
    pub(super) conflicts: usize,
    /// The host takes the addresses' traffic. Not for a machine that is still elsewhere: Felix moves the routes.
    pub(super) host_routes: bool,
}

impl Given {
    /// Upstream's result for a container names each address with its block as a route; for a pod it does not.
    fn own(assigned: &[Assigned], conflicts: usize, pod: bool) -> Self {
        let route = |a: &Assigned| Route { dst: with_block_length(a).to_string(), gw: None };
        Self {
            result_routes: if pod { Vec::new() } else { assigned.iter().map(route).collect() },
            conflicts,
            ..Self::plain(assigned.iter().map(|a| a.addr).collect())
        }
    }

    fn plain(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            pod_routes: Vec::new(),
            result_routes: Vec::new(),
            dns: None,
            conflicts: 0,
            host_routes: true,
        }
    }
}

impl Job<'_> {
    /// Addresses and the endpoint with them.
    pub(super) async fn addresses(&self, known: Known) -> Result<Given, Failure> {
        if !known.wishes.foreign_addresses.is_empty() {
            let addresses = known.wishes.foreign_addresses.clone();
            self.write_endpoint(known, &addresses).await?;
            return Ok(Given::plain(addresses));
        }
        if self.own_ipam() { self.assign(known).await } else { self.delegate(known).await }
    }

    /// Addresses from Calico's own IPAM, in one batch with the endpoint.
    async fn assign(&self, mut known: Known) -> Result<Given, Failure> {
        let request = ipam_request(self.request, &known.workload, &known.wishes).map_err(|e| (e, false))?;
        let client = store::ipam(&self.stores, &self.base.node);
        let machine = known.workload.machine.clone();
        let moving = machine.as_ref().is_some_and(|m| m.migration.is_some());
        if moving && !matches!(known.snapshot.handle(), Seen::Present(_)) {
            let msg = "a machine moves here that has no address yet";
            return Err((CniError::new(Code::TryAgainLater, msg), false));
        }
        let asked = &known.wishes.addresses;
        let wanted = if asked.is_empty() { self.request.args.ips.clone() } else { asked.clone() };
        let mut fixed: Vec<Assigned> = Vec::new();
        if let Some((_, others)) = wanted.split_last() {
            self.free_earlier(&client, &known, &wanted).await.map_err(|e| (e, false))?;
            for ip in others {
                let got = client.assign_ip(&request, *ip).await.map_err(|e| (e.into(), true))?;
                fixed.extend(got.addresses);
            }
            let id = request.handle_id.clone();
            known.snapshot = Snapshot::new(request.owner.clone(), id).with_cached_lists();
        }
        let atomic = self.stores.store.atomic();
        let key = endpoint::key(&self.base);
        for _ in 0..ENDPOINT_CONFLICTS {
            let extra = |a: &[Assigned]| {
                let all: Vec<IpAddr> = fixed.iter().chain(a).map(|a| a.addr).collect();
                vec![self.endpoint_write(&known, &all)]
            };
            let snapshot = known.snapshot.clone();
            let outcome = match wanted.last() {
                Some(ip) => client.assign_ip_with(&request, *ip, snapshot, &extra).await,
                None => client.assign_with(&request, snapshot, &extra).await,
            };
            match outcome {
                Ok(got) => {
                    fixed.extend(got.addresses);
                    if machine.is_some() {
                        let mut owner = request.attributes.clone();
                        owner.insert("timestamp".to_owned(), Moment::now().attribute());
                        let change = if moving { OwnerChange::Alternate } else { OwnerChange::Active }(owner);
                        let handle = request.handle_id.clone().unwrap_or_default();
                        client.set_owners(&handle, &change).await.map_err(|e| (e.into(), true))?;
                    }
                    let given = Given::own(&fixed, got.conflicts, self.base.is_pod());
                    return Ok(Given { host_routes: !moving, ..given });
                }
                Err(IpamError::Datastore(e)) if changed(&e, &key) => {
                    if !atomic {
                        return Err((pod_gone(&self.base), true));
                    }
                    tracing::info!(%key, "the endpoint was changed meanwhile, reading it again");
                    known = self.read().await.map_err(|e| (e, !fixed.is_empty()))?;
                }
                // After a failed call the datastore may have the batch nevertheless, and without transactions a part
                // of it: the undoing finds out.
                Err(e) => {
                    let perhaps = !atomic || matches!(&e, IpamError::Datastore(_)) || !fixed.is_empty();
                    return Err((e.into(), perhaps));
                }
            }
        }
        Err((endless(), !fixed.is_empty()))
    }

    /// An address that the pod asks for by name may still be an earlier container's of the same pod.
    async fn free_earlier(
        &self,
        client: &IpamClient,
        known: &Known,
        wanted: &[IpAddr],
    ) -> Result<(), CniError> {
        let Some(stands) = &known.endpoint else { return Ok(()) };
        let id = &stands.endpoint.spec.container_id;
        if id.is_empty() || *id == self.base.container_id {
            return Ok(());
        }
        let earlier = handle(&self.request.conf.name, id);
        let has = stands.addresses();
        let options: Vec<ReleaseOptions> = wanted
            .iter()
            .filter(|a| has.contains(a))
            .map(|a| ReleaseOptions { handle: Some(earlier.clone()), ..ReleaseOptions::any(*a) })
            .collect();
        if !options.is_empty() {
            let freed = client.release_ips(&options).await?.freed;
            tracing::info!(container = %id, ?freed, "freed what the pod's earlier container had");
        }
        Ok(())
    }

    /// Addresses from another plugin, then the endpoint.
    async fn delegate(&self, known: Known) -> Result<Given, Failure> {
        let stdin = delegate::stdin_for_add(self.request, self.stdin, &self.stores, &self.base)
            .await
            .map_err(|e| (e, false))?;
        let result = delegate::call(self.request, &stdin, Command::Add).await.map_err(|e| (e, false))?;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
        if addresses.is_empty() {
            let e = CniError::new(
                Code::Ipam,
                format!("IPAM plugin {} gave no address", self.request.conf.ipam.type_),
            );
            return Err((e, true));
        }
        self.write_endpoint(known, &addresses).await?;
        Ok(Given {
            addresses,
            pod_routes: result.routes.clone(),
            result_routes: result.routes,
            dns: result.dns,
            conflicts: 0,
            host_routes: true,
        })
    }

    /// The endpoint by itself.
    async fn write_endpoint(&self, mut known: Known, addresses: &[IpAddr]) -> Result<(), Failure> {
        let key = endpoint::key(&self.base);
        for _ in 0..ENDPOINT_CONFLICTS {
            let write = self.endpoint_write(&known, addresses);
            match self.stores.store.write_all(vec![write]).await {
                Ok(_) => return Ok(()),
                Err(e) if changed(&e, &key) && self.stores.kubernetes => {
                    return Err((pod_gone(&self.base), true));
                }
                Err(e) if changed(&e, &key) => known = self.read().await.map_err(|e| (e, true))?,
                Err(e) => return Err((e.into(), true)),
            }
        }
        Err((endless(), true))
    }

    fn endpoint_write(&self, known: &Known, addresses: &[IpAddr]) -> Write {
        let mac = mac_text(&self.plan(known).pod_mac);
        let stands = known.endpoint.as_ref();
        let gave = Gave { addresses, mac: &mac, wishes: &known.wishes };
        let e = endpoint::endpoint(&known.workload, gave, stands, Moment::now());
        let (key, value) = (endpoint::key(&self.base), Value::from(Resource::from(e)));
        match stands {
            // A pod's revision changes with every word of kubelet's; its identity, which is compared, does not.
            Some(_) if self.stores.kubernetes => {
                Write::Update(KeyValue { key, value, revision: Revision::default() })
            }
            Some(s) => Write::Update(KeyValue { key, value, revision: s.revision.clone() }),
            None => Write::Create(key, value),
        }
    }
}

fn endless() -> CniError {
    CniError::new(Code::TryAgainLater, "the pod's endpoint is changed by others all the time")
}

/// The address with its block's prefix length.
pub(super) fn with_block_length(a: &Assigned) -> IpNet {
    IpNet::new(a.addr, a.block.prefix_len()).unwrap_or_else(|_| IpNet::from(a.addr))
}

/// What configuration and pod want of Calico's own IPAM.
pub(super) fn ipam_request(
    request: &Request,
    w: &Workload,
    wishes: &Wishes,
) -> Result<AssignRequest, CniError> {
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
    let configured =
        (flag("assign_ipv4", &ipam.assign_ipv4, true)?, flag("assign_ipv6", &ipam.assign_ipv6, false)?);
    let (v4, v6) = wishes.families.unwrap_or(configured);
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
        pools_v4: wishes.pools_v4.clone().unwrap_or_else(|| ipam.ipv4_pools.clone()),
        pools_v6: wishes.pools_v6.clone().unwrap_or_else(|| ipam.ipv6_pools.clone()),
        intended_use: AllowedUse::Workload,
        namespace_labels: w.namespace_labels(),
        once: true,
        ..AssignRequest::workload(Owner::host(&*w.node))
    })
}
