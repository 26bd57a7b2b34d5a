//! Figures under upstream's names.
//!
//! In: what loops report. Out: a registry that `/metrics` serves. Always holds: counters go on through sessions of one
//! process, as [`Metrics::renewed`] says; what another backend counts is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use felix_calc::Stats;
use felix_dataplane::apply::{Outcome, Stats as DataplaneStats};
use felix_dataplane::config::Backend;
use felix_dataplane::counters::{Count, RuleName};
use felix_dataplane::driver::Counts;
use felix_message::Message;
use libcalico_telemetry::Summary;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::rule_counters::RuleCounters;
use crate::tallies::Tallies;

/// All figures. Clones share.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Figures that last as long as the process.
    lasting: Registry,
    active_endpoints: IntGauge,
    active_policies: IntGauge,
    active_selectors: IntGauge,
    cluster: Cluster,
    labelled: IntGauge,
    ip_sets: IntGaugeVec,
    ip_sets_total: IntGauge,
    updates: IntCounterVec,
    output: IntCounter,
    update_time: Summary,
    resync_state: IntGauge,
    resyncs: IntCounter,
    apply_time: Summary,
    batch_size: Summary,
    messages: IntCounterVec,
    failures: IntCounter,
    initial: Gauge,
    backend: OfBackend,
    interfaces: IntGaugeVec,
    route_count: IntGaugeVec,
    endpoint_up: Summary,
    flows_cut: IntCounter,
    rules: RuleCounters,
}

/// How much there is in the cluster.
#[derive(Clone, Debug)]
struct Cluster {
    policies: IntGauge,
    /// Of these, those that are never enforced. Upstream has no such figure.
    staged: IntGauge,
    tiers: IntGauge,
    profiles: IntGauge,
    hosts: IntGauge,
    workload_endpoints: IntGauge,
    host_endpoints: IntGauge,
}

impl Cluster {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            policies: gauge(r, "felix_cluster_num_policies", "Policies in the cluster.")?,
            staged: gauge(r, "felix_cluster_num_staged_policies", "Of the policies, those that are staged.")?,
            tiers: gauge(r, "felix_cluster_num_tiers", "Tiers in the cluster.")?,
            profiles: gauge(r, "felix_cluster_num_profiles", "Profiles in the cluster.")?,
            hosts: gauge(r, "felix_cluster_num_hosts", "Nodes in the cluster.")?,
            workload_endpoints: gauge(
                r,
                "felix_cluster_num_workload_endpoints",
                "Workload endpoints in the cluster.",
            )?,
            host_endpoints: gauge(r, "felix_cluster_num_host_endpoints", "Host endpoints in the cluster.")?,
        })
    }
}

/// Figures of the backend in use, with a registry of their own.
#[derive(Clone, Debug)]
struct OfBackend {
    backend: Backend,
    registry: Registry,
    tables: Tables,
}

impl OfBackend {
    fn new(backend: Backend) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(Tallies::new(backend)?))?;
        let tables = match backend {
            Backend::Nftables => Tables::nft(&registry)?,
            Backend::IptablesNft | Backend::IptablesLegacy => Tables::iptables(&registry)?,
        };
        Ok(Self { backend, registry, tables })
    }
}

/// Figures of one kind of backend; the other kind's are not there.
#[derive(Clone, Debug)]
enum Tables {
    Nft { lists: IntCounter, chains: IntGaugeVec, rules: IntGaugeVec, sets: IntGaugeVec, maps: IntGaugeVec },
    Iptables { saves: IntCounter, chains: IntGaugeVec, rules: IntGaugeVec },
}

impl Tables {
    fn nft(r: &Registry) -> prometheus::Result<Self> {
        let version = "ip_version";
        Ok(Self::Nft {
            lists: counter(r, "felix_nft_list_calls", "Read-backs of nftables.")?,
            chains: gauges(r, "felix_nft_chains", "nftables chains.", version)?,
            rules: gauges(r, "felix_nft_rules", "nftables rules.", version)?,
            sets: gauges(r, "felix_nft_sets", "nftables sets, those of rules' own lists too.", version)?,
            maps: gauges(r, "felix_nft_maps", "nftables maps.", version)?,
        })
    }

    fn iptables(r: &Registry) -> prometheus::Result<Self> {
        let by_table = |name: &str, help: &str| {
            let g = IntGaugeVec::new(Opts::new(name, help), &["ip_version", "table"])?;
            r.register(Box::new(g.clone()))?;
            Ok::<_, prometheus::Error>(g)
        };
        Ok(Self::Iptables {
            saves: counter(r, "felix_iptables_save_calls", "Read-backs of iptables.")?,
            chains: by_table("felix_iptables_chains", "iptables chains.")?,
            rules: by_table("felix_iptables_rules", "iptables rules.")?,
        })
    }

    fn applied(&self, outcome: &Outcome, counts: &[Counts; 2]) {
        let n = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let read = u64::from(outcome.tables.resynced);
        let families = || ["4", "6"].into_iter().zip(counts);
        match self {
            Self::Nft { lists, chains, rules, sets, maps } => {
                lists.inc_by(read);
                for (version, c) in families() {
                    chains.with_label_values(&[version]).set(n(c.chains()));
                    rules.with_label_values(&[version]).set(n(c.rules()));
                    sets.with_label_values(&[version]).set(n(c.sets + c.lists));
                    maps.with_label_values(&[version]).set(n(c.maps));
                }
            }
            Self::Iptables { saves, chains, rules } => {
                saves.inc_by(read);
                for (version, c) in families() {
                    for (table, size) in &c.tables {
                        chains.with_label_values(&[version, table.name()]).set(n(size.chains));
                        rules.with_label_values(&[version, table.name()]).set(n(size.rules));
                    }
                }
            }
        }
    }
}

impl Metrics {
    /// All figures, with counters at zero.
    ///
    /// # Errors
    /// A name is taken twice.
    pub fn new(hostname: &str, backend: Backend) -> prometheus::Result<Self> {
        let lasting = Registry::new();
        let r = &lasting;
        let host = IntGaugeVec::new(Opts::new("felix_host", "Configured Felix hostname."), &["host"])?;
        r.register(Box::new(host.clone()))?;
        host.with_label_values(&[hostname]).set(1);
        Ok(Self {
            active_endpoints: gauge(r, "felix_active_local_endpoints", "Active endpoints on this host.")?,
            active_policies: gauge(r, "felix_active_local_policies", "Active policies on this host.")?,
            active_selectors: gauge(
                r,
                "felix_active_local_selectors",
                "Selectors, named ports and services that rules active on this host look up.",
            )?,
            cluster: Cluster::new(r)?,
            labelled: gauge(
                r,
                "felix_label_index_num_endpoints",
                "Endpoints and network sets of the cluster with their labels.",
            )?,
            ip_sets: gauges(r, "felix_ipsets_calico", "Active Calico IP sets.", "ip_version")?,
            ip_sets_total: gauge(r, "felix_ipsets_total", "Active Calico IP sets of both families.")?,
            updates: counters(
                r,
                "felix_calc_graph_updates_processed",
                "Datastore updates, by kind.",
                "type",
            )?,
            output: counter(r, "felix_calc_graph_output_events", "Messages that the calculation sent.")?,
            update_time: summary(
                r,
                "felix_calc_graph_update_time_seconds",
                "Seconds that a batch of updates took to calculate.",
            )?,
            resync_state: gauge(r, "felix_resync_state", "Datastore: 1 waiting, 2 resync, 3 in sync.")?,
            resyncs: counter(r, "felix_resyncs_started", "Datastore resyncs that were started.")?,
            apply_time: summary(r, "felix_int_dataplane_apply_time_seconds", "Seconds that an apply took.")?,
            batch_size: summary(r, "felix_int_dataplane_msg_batch_size", "Messages in an apply.")?,
            messages: counters(
                r,
                "felix_int_dataplane_messages",
                "Messages to the dataplane, by kind.",
                "type",
            )?,
            failures: counter(
                r,
                "felix_int_dataplane_failures",
                "Applies that failed and were tried again.",
            )?,
            initial: {
                let help = "Seconds until the dataplane was in sync for the first time.";
                let g = Gauge::new("felix_int_dataplane_initial_resync_time_seconds", help)?;
                r.register(Box::new(g.clone()))?;
                g
            },
            backend: OfBackend::new(backend)?,
            interfaces: gauges(r, "felix_route_table_num_ifaces", "Workload interfaces.", "table")?,
            route_count: gauges(r, "felix_route_table_num_routes", "Routes to workloads.", "table")?,
            endpoint_up: summary(
                r,
                "felix_endpoint_programming_seconds",
                "Seconds from the first sight of a workload endpoint until its policy stands in the kernel.",
            )?,
            flows_cut: counter(
                r,
                "felix_conntrack_flows_cut",
                "Established flows that were cut because policy denies them by now.",
            )?,
            rules: RuleCounters::new()?,
            lasting,
        })
    }

    /// For the next session: counters go on. Those of the backend begin anew with another backend; those of rules always
    /// do, since their first reading is what the kernel counted so far.
    ///
    /// # Errors
    /// None that can happen with these names.
    pub fn renewed(&self, backend: Backend) -> prometheus::Result<Self> {
        let mut next = Self { rules: RuleCounters::new()?, ..self.clone() };
        if backend != next.backend.backend {
            next.backend = OfBackend::new(backend)?;
        }
        Ok(next)
    }

    /// What `/metrics` serves. `process`: figures of the process (`process_…`) too.
    ///
    /// # Errors
    /// None that can happen with these names.
    pub fn registry(&self, process: bool) -> prometheus::Result<Registry> {
        let served = if process { libcalico_telemetry::new_registry() } else { Registry::new() };
        served.register(Box::new(self.rules.clone()))?;
        served.register(Box::new(Gathered(vec![self.lasting.clone(), self.backend.registry.clone()])))?;
        Ok(served)
    }

    /// An update came in.
    pub fn update(&self, kind: &str) {
        self.updates.with_label_values(&[kind]).inc();
    }

    /// The datastore's state: 1 waiting, 2 resync, 3 in sync.
    pub fn status(&self, state: i64) {
        if state == 2 && self.resync_state.get() != 2 {
            self.resyncs.inc();
        }
        self.resync_state.set(state);
    }

    /// A flush of the calculation.
    pub fn calculated(&self, took: Duration, messages: &[Message], stats: Stats) {
        self.update_time.observe(took.as_secs_f64());
        self.output.inc_by(messages.len() as u64);
        for m in messages {
            self.messages.with_label_values(&[kind_of(m)]).inc();
        }
        let set = |g: &IntGauge, n: usize| g.set(i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.active_endpoints, stats.local_endpoints);
        set(&self.active_policies, stats.active_policies);
        set(&self.active_selectors, stats.ip_sets);
        set(&self.labelled, stats.items);
        set(&self.cluster.policies, stats.policies);
        set(&self.cluster.staged, stats.staged_policies);
        set(&self.cluster.tiers, stats.tiers);
        set(&self.cluster.profiles, stats.profiles);
        set(&self.cluster.hosts, stats.hosts);
        set(&self.cluster.workload_endpoints, stats.workload_endpoints);
        set(&self.cluster.host_endpoints, stats.host_endpoints);
    }

    /// An apply of the dataplane.
    pub fn applied(&self, outcome: &Outcome, stats: &DataplaneStats, took: Duration, messages: usize) {
        self.apply_time.observe(took.as_secs_f64());
        self.batch_size.observe(messages as f64);
        self.backend.tables.applied(outcome, &stats.tables);
        let n = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (version, c) in ["4", "6"].iter().zip(&stats.tables) {
            self.ip_sets.with_label_values(&[version]).set(n(c.sets));
        }
        self.ip_sets_total.set(n(stats.tables.iter().map(|c| c.sets).sum()));
        self.interfaces.with_label_values(&["main"]).set(n(stats.interfaces));
        self.route_count.with_label_values(&["main"]).set(n(stats.routes));
    }

    /// An endpoint is up for the first time, so long after it was first seen.
    pub fn endpoint_up(&self, took: Duration) {
        self.endpoint_up.observe(took.as_secs_f64());
    }

    /// So many flows were cut.
    pub fn flows_cut(&self, flows: usize) {
        self.flows_cut.inc_by(flows as u64);
    }

    /// What rules counted since the last reading.
    pub fn rules(&self, reading: BTreeMap<RuleName, Count>) {
        self.rules.add(reading);
    }

    /// The first apply in sync.
    pub fn first_sync(&self, since_start: Duration) {
        self.initial.set(since_start.as_secs_f64());
    }

    /// An apply failed, whatever in it: those who write tables count their own failures.
    pub fn failed(&self) {
        self.failures.inc();
    }
}

/// Registries as one collector of another. Each of them sees to its own names.
struct Gathered(Vec<Registry>);

impl Collector for Gathered {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.iter().flat_map(Registry::gather).collect()
    }
}

fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let g = IntGauge::new(name, help)?;
    r.register(Box::new(g.clone()))?;
    Ok(g)
}

fn gauges(r: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntGaugeVec> {
    let g = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    r.register(Box::new(g.clone()))?;
    Ok(g)
}

fn counter(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let c = IntCounter::new(name, help)?;
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn counters(r: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    let c = IntCounterVec::new(Opts::new(name, help), &[label])?;
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn summary(r: &Registry, name: &str, help: &str) -> prometheus::Result<Summary> {
    let s = Summary::new(name, help)?;
    r.register(Box::new(s.clone()))?;
    Ok(s)
}

/// A message's kind as a label.
fn kind_of(m: &Message) -> &'static str {
    match m {
        Message::ConfigUpdate(_) => "ConfigUpdate",
        Message::InSync => "InSync",
        Message::IpSetUpdate(_) => "IPSetUpdate",
        Message::IpSetDelta(_) => "IPSetDeltaUpdate",
        Message::IpSetRemove(_) => "IPSetRemove",
        Message::PolicyUpdate(..) => "ActivePolicyUpdate",
        Message::PolicyRemove(_) => "ActivePolicyRemove",
        Message::ProfileUpdate(..) => "ActiveProfileUpdate",
        Message::ProfileRemove(_) => "ActiveProfileRemove",
        Message::WorkloadEndpointUpdate(..) => "WorkloadEndpointUpdate",
        Message::WorkloadEndpointRemove(_) => "WorkloadEndpointRemove",
        Message::HostEndpointUpdate(..) => "HostEndpointUpdate",
        Message::HostEndpointRemove(_) => "HostEndpointRemove",
        Message::HostMetadataUpdate(_) => "HostMetadataUpdate",
        Message::HostMetadataRemove(_) => "HostMetadataRemove",
        Message::PoolUpdate(..) => "IPAMPoolUpdate",
        Message::PoolRemove(_) => "IPAMPoolRemove",
        Message::RouteUpdate(_) => "RouteUpdate",
        Message::RouteRemove(_) => "RouteRemove",
        Message::VtepUpdate(_) => "VXLANTunnelEndpointUpdate",
        Message::VtepRemove(_) => "VXLANTunnelEndpointRemove",
        Message::EncapsulationUpdate(_) => "Encapsulation",
        Message::ServiceUpdate(_) => "ServiceUpdate",
        Message::ServiceRemove(_) => "ServiceRemove",
        Message::GlobalBgpConfigUpdate(_) => "GlobalBGPConfigUpdate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(m: &Metrics, process: bool) -> String {
        prometheus::TextEncoder::new().encode_to_string(&m.registry(process).unwrap().gather()).unwrap()
    }

    #[test]
    fn counters_go_on_in_the_next_session() {
        let first = Metrics::new("n1", Backend::Nftables).unwrap();
        first.failed();
        first.status(2);
        let second = first.renewed(Backend::Nftables).unwrap();
        second.failed();
        let now = text(&second, false);
        for series in
            ["felix_int_dataplane_failures 2", "felix_resyncs_started 1", "felix_host{host=\"n1\"} 1"]
        {
            assert!(now.contains(series), "{series}: {now}");
        }
    }

    #[test]
    fn with_another_backend_its_figures_replace_those_of_the_one_before() {
        let m = Metrics::new("n1", Backend::Nftables).unwrap();
        m.failed();
        let m = m.renewed(Backend::IptablesLegacy).unwrap();
        m.failed();
        let now = text(&m, false);
        assert!(now.contains("felix_int_dataplane_failures 2"), "{now}");
        assert!(now.contains("felix_iptables_restore_errors ") && !now.contains("felix_nft_"), "{now}");
    }

    #[test]
    fn an_apply_that_failed_or_wrote_elsewhere_is_none_of_the_tables() {
        for (backend, names) in [
            (Backend::Nftables, ["felix_nft_calls 0", "felix_nft_errors 0"]),
            (Backend::IptablesNft, ["felix_iptables_restore_calls 0", "felix_iptables_restore_errors 0"]),
        ] {
            let m = Metrics::new("n1", backend).unwrap();
            // IP sets alone.
            let tables = felix_dataplane::driver::Written { operations: 3, ..Default::default() };
            let outcome = Outcome { tables, ..Outcome::default() };
            m.applied(&outcome, &DataplaneStats::default(), Duration::from_millis(1), 1);
            // A route.
            m.failed();
            let now = text(&m, false);
            assert!(now.contains("felix_int_dataplane_failures 1"), "{now}");
            names.iter().for_each(|n| assert!(now.contains(n), "{n}: {now}"));
        }
    }

    #[test]
    fn figures_of_the_process_are_served_where_they_are_wanted() {
        let m = Metrics::new("n1", Backend::Nftables).unwrap();
        let has = |text: &str| (text.contains("\nprocess_"), text.contains("felix_host"));
        assert_eq!(has(&text(&m, true)), (true, true));
        assert_eq!(has(&text(&m, false)), (false, true));
    }
}
