//! CHECK: is the pod's network still what ADD made?
//!
//! In comes the result of ADD (`prevResult`), out goes nothing, or an error that lists every difference between it and
//! the endpoint, the addresses and the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use libcalico_datastore::{Found, Read};
use libcalico_ipam::IpamClient;

use super::{OWN_IPAM, kernel, mtu_file};
use crate::delegate;
use crate::endpoint::{self, StoredEndpoint};
use crate::error::{CniError, Code};
use crate::facts;
use crate::network::differences;
use crate::network::netns::NetNs;
use crate::plan::{self, parse_mac};
use crate::request::{Command, Request};
use crate::result::{CniResult, Route};
use crate::store;
use crate::wishes;
use crate::workload::Workload;

/// Serves CHECK.
pub async fn check(request: &Request, stdin: &[u8]) -> Result<(), CniError> {
    let conf = &request.conf;
    let previous = conf.prev_result.as_ref().ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "CHECK needs prevResult, the result of ADD, in the configuration")
    })?;
    let previous = CniResult::parse(previous)?;
    let w = Workload::of(request, &store::node_name(conf)?);
    let netns = request.netns.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let ns = Arc::new(NetNs::open(netns)?);
    let stores = store::open(conf).await?;
    let store = &stores.store;
    let mut wrong = Vec::new();
    if stores.kubernetes && !w.is_pod() {
        return Err(super::no_pod());
    }
    let pod = match stores.api.as_deref().filter(|_| stores.kubernetes) {
        Some(api) => facts::pod(api, &w).await?,
        None => None,
    };
    let Some(stands) = (match &pod {
        Some(pod) => Some(StoredEndpoint::of_pod(pod)).filter(|e| !e.endpoint.spec.ip_networks.is_empty()),
        None if stores.kubernetes => None,
        None => match store.read_many(&[Read::Key(endpoint::key(&w))]).await?.into_iter().next() {
            Some(Found::Key(Some(kv))) => StoredEndpoint::read(&kv),
            _ => None,
        },
    }) else {
        return Err(failed(&[format!("endpoint {} is not in the datastore", w.endpoint_name())]));
    };
    let spec = &stands.endpoint.spec;
    if spec.container_id != w.container_id {
        wrong.push(format!("endpoint {} belongs to container {:?}", w.endpoint_name(), spec.container_id));
    }
    // A chained plugin may have added addresses of its own interfaces; only ours are compared.
    let ours = previous.ips.iter().filter(|ip| match ip.interface.and_then(|i| previous.interfaces.get(i)) {
        Some(i) => i.name == w.endpoint,
        None => true,
    });
    let addresses: Vec<IpAddr> = ours.map(|ip| ip.address.addr()).collect();
    let stored = stands.addresses();
    wrong.extend(addresses.iter().filter(|a| !stored.contains(a)).map(|a| format!("the endpoint lacks {a}")));
    if conf.ipam.type_ == OWN_IPAM {
        let client = IpamClient::new(Arc::clone(store));
        let has = client.ips_by_handle(&w.handle(&conf.name)).await?;
        let missing = stored.iter().filter(|a| !has.iter().any(|h| h.addr == **a));
        wrong.extend(missing.map(|a| format!("{a} is not assigned to the container in IPAM")));
    } else {
        delegate::call(request, &delegate::stdin_for_del(request, stdin)?, Command::Check).await?;
    }
    let mut plan = plan::pair(conf, &w, plan::mtu(conf, mtu_file().as_deref())?, None);
    plan.host_ifname.clone_from(&spec.interface_name);
    let wished = wishes::read(conf, pod.as_ref(), None)?.mac;
    plan.pod_mac = parse_mac(&spec.mac).or(wished).unwrap_or(plan.pod_mac);
    let given: Vec<Route> = if conf.ipam.type_ == OWN_IPAM { Vec::new() } else { previous.routes };
    let plan = plan.with_addresses(conf, &stored, &given);
    wrong.extend(kernel(move || differences(&plan, &ns)).await?);
    if wrong.is_empty() { Ok(()) } else { Err(failed(&wrong)) }
}

fn failed(wrong: &[String]) -> CniError {
    CniError::new(Code::CheckFailed, "the pod's network is not as ADD left it").with_details(wrong.join("; "))
}
