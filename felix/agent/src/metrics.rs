//! Figures under upstream's names.
//!
//! In: what loops report. Out: a registry that `/metrics` serves. A summary here has a sum and a count, no quantiles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use felix_calc::Stats;
use felix_dataplane::apply::{Outcome, Stats as DataplaneStats};
use felix_dataplane::counters::{Count, RuleName};
use felix_message::Message;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType, Summary as SummaryProto};
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::rule_counters::RuleCounters;

/// A sum and a count.
#[derive(Clone, Debug)]
struct Summary {
    desc: Desc,
    state: Arc<Mutex<(f64, u64)>>,
}

impl Summary {
    fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), Vec::new(), std::collections::HashMap::new())?;
        Ok(Self { desc, state: Arc::default() })
    }

    fn observe(&self, value: f64) {
        let mut s = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        s.0 += value;
        s.1 += 1;
    }
}

impl Collector for Summary {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (sum, count) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = SummaryProto::default();
        summary.set_sample_sum(sum);
        summary.set_sample_count(count);
        let mut metric = Metric::default();
        metric.set_summary(summary);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

/// All figures.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub registry: Registry,
    active_endpoints: IntGauge,
    active_policies: IntGauge,
    cluster_policies: IntGauge,
    cluster_tiers: IntGauge,
    ip_sets: IntGaugeVec,
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
    nft_calls: IntCounter,
    nft_errors: IntCounter,
    nft_list_calls: IntCounter,
    nft_chains: IntGaugeVec,
    nft_rules: IntGaugeVec,
    nft_sets: IntGaugeVec,
    nft_maps: IntGaugeVec,
    interfaces: IntGaugeVec,
    route_count: IntGaugeVec,
    endpoint_up: Summary,
    flows_cut: IntCounter,
    rules: RuleCounters,
}

impl Metrics {
    /// A registry with everything in it.
    ///
    /// # Errors
    /// A name is taken twice.
    pub fn new(hostname: &str) -> prometheus::Result<Self> {
        let registry = libcalico_telemetry::new_registry();
        let r = &registry;
        let host = IntGaugeVec::new(Opts::new("felix_host", "Configured Felix hostname."), &["host"])?;
        r.register(Box::new(host.clone()))?;
        host.with_label_values(&[hostname]).set(1);
        Ok(Self {
            active_endpoints: gauge(r, "felix_active_local_endpoints", "Active endpoints on this host.")?,
            active_policies: gauge(r, "felix_active_local_policies", "Active policies on this host.")?,
            cluster_policies: gauge(r, "felix_cluster_num_policies", "Policies in the cluster.")?,
            cluster_tiers: gauge(r, "felix_cluster_num_tiers", "Tiers in the cluster.")?,
            ip_sets: gauges(r, "felix_ipsets_calico", "Active Calico IP sets.", "ip_version")?,
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
            nft_calls: counter(r, "felix_nft_calls", "nftables transactions.")?,
            nft_errors: counter(r, "felix_nft_errors", "nftables transactions that failed.")?,
            nft_list_calls: counter(r, "felix_nft_list_calls", "Read-backs of nftables.")?,
            nft_chains: gauges(r, "felix_nft_chains", "nftables chains.", "ip_version")?,
            nft_rules: gauges(r, "felix_nft_rules", "nftables rules.", "ip_version")?,
            nft_sets: gauges(r, "felix_nft_sets", "nftables sets.", "ip_version")?,
            nft_maps: gauges(r, "felix_nft_maps", "nftables maps.", "ip_version")?,
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
            rules: {
                let rules = RuleCounters::new()?;
                r.register(Box::new(rules.clone()))?;
                rules
            },
            registry,
        })
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
        set(&self.cluster_policies, stats.policies);
        set(&self.cluster_tiers, stats.tiers);
    }

    /// An apply of the dataplane.
    pub fn applied(&self, outcome: &Outcome, stats: &DataplaneStats, took: Duration, messages: usize) {
        self.apply_time.observe(took.as_secs_f64());
        self.batch_size.observe(messages as f64);
        if outcome.tables.operations > 0 {
            self.nft_calls.inc();
        }
        if outcome.tables.resynced {
            self.nft_list_calls.inc();
        }
        let n = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (version, c) in ["4", "6"].iter().zip(&stats.tables) {
            self.nft_chains.with_label_values(&[version]).set(n(c.chains));
            self.nft_rules.with_label_values(&[version]).set(n(c.rules));
            self.nft_sets.with_label_values(&[version]).set(n(c.sets));
            self.nft_maps.with_label_values(&[version]).set(n(c.maps));
            self.ip_sets.with_label_values(&[version]).set(n(c.sets));
        }
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

    /// An apply failed.
    pub fn failed(&self) {
        self.failures.inc();
        self.nft_errors.inc();
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
