//! `felix_policy_rule_packets_total` and `felix_policy_rule_bytes_total`: how often each rule of a policy matched.
//!
//! In: what was counted since the last reading, for every rule that stands in the kernel. Out: two families of counters
//! with labels `tier`, `kind`, `namespace`, `policy`, `direction`, `rule` (place in the policy, from zero) and `action`.
//! Always holds: a rule that no longer stands in the kernel has no series.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use felix_dataplane::counters::{Count, RuleName};
use felix_dataplane::render::names::Direction;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

const LABELS: [&str; 7] = ["tier", "kind", "namespace", "policy", "direction", "rule", "action"];

/// The collector. Clones share.
#[derive(Clone, Debug)]
pub struct RuleCounters {
    packets: Desc,
    bytes: Desc,
    counts: Arc<Mutex<BTreeMap<RuleName, Count>>>,
}

impl RuleCounters {
    /// Without any rule.
    ///
    /// # Errors
    /// None that can happen with these names.
    pub fn new() -> prometheus::Result<Self> {
        let desc = |name: &str, help: &str| {
            let labels = LABELS.iter().map(|l| (*l).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
        };
        Ok(Self {
            packets: desc("felix_policy_rule_packets_total", "Packets that matched a rule of a policy.")?,
            bytes: desc(
                "felix_policy_rule_bytes_total",
                "Bytes of packets that matched a rule of a policy.",
            )?,
            counts: Arc::default(),
        })
    }

    /// Adds a reading.
    pub fn add(&self, reading: BTreeMap<RuleName, Count>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|rule, _| reading.contains_key(rule));
        for (rule, n) in reading {
            let sum = counts.entry(rule).or_default();
            sum.packets += n.packets;
            sum.bytes += n.bytes;
        }
    }

    fn family(
        desc: &Desc,
        counts: &BTreeMap<RuleName, Count>,
        value: impl Fn(&Count) -> u64,
    ) -> MetricFamily {
        let metrics = counts.iter().map(|(rule, count)| {
            let (namespace, name) = rule.owner.namespace_and_name();
            let index = rule.index.to_string();
            let direction = match rule.direction {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            };
            let values =
                [rule.owner.tier(), rule.owner.kind(), namespace, name, direction, &index, rule.action];
            let mut pairs: Vec<LabelPair> = LABELS
                .iter()
                .zip(values)
                .map(|(label, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name((*label).to_owned());
                    pair.set_value(value.to_owned());
                    pair
                })
                .collect();
            pairs.sort_by(|a, b| a.name().cmp(b.name()));
            let mut counter = Counter::default();
            counter.set_value(value(count) as f64);
            let mut metric = Metric::default();
            metric.set_label(pairs);
            metric.set_counter(counter);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(desc.fq_name.clone());
        family.set_help(desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(metrics.collect());
        family
    }
}

impl Collector for RuleCounters {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.packets, &self.bytes]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // A family without a series is none.
        if counts.is_empty() {
            return Vec::new();
        }
        vec![
            Self::family(&self.packets, &counts, |c| c.packets),
            Self::family(&self.bytes, &counts, |c| c.bytes),
        ]
    }
}

#[cfg(test)]
mod tests {
    use felix_dataplane::render::identity::Owner;

    use super::*;

    fn rule(index: usize) -> RuleName {
        RuleName {
            owner: Owner::Profile("kns.default".into()),
            direction: Direction::Ingress,
            index,
            action: "allow",
        }
    }

    #[test]
    fn readings_add_up_and_rules_that_are_gone_have_no_series() {
        let c = RuleCounters::new().unwrap();
        let n = |packets| Count { packets, bytes: packets * 100 };
        c.add([(rule(0), n(3)), (rule(1), n(0))].into());
        c.add([(rule(0), n(4)), (rule(2), n(1))].into());
        let families = c.collect();
        let values: Vec<(String, f64)> = families[0]
            .get_metric()
            .iter()
            .map(|m| {
                let rule = m.get_label().iter().find(|l| l.name() == "rule").unwrap();
                (rule.value().to_owned(), m.get_counter().get_value())
            })
            .collect();
        assert_eq!(values, [("0".to_owned(), 7.0), ("2".to_owned(), 1.0)]);
        assert_eq!(families[1].get_metric()[0].get_counter().get_value(), 700.0);
    }
}
