//! What a new user does first, step by step, with what must be true after each step and what is.
//!
//! In: a lab. Out: a table: step, what was applied, which pair, expected, seen, verdict.
//! The steps: nothing applied; default deny; egress for the client; ingress for the server; the client's egress
//! taken away again. The pairs: client and server on one node, on two nodes (when there are two), and the client
//! to `outside`, where the source must be the node's address, because nothing outside knows a pod's.
//! What always holds: pods and policies of a run are removed at its end, whatever it saw. The probes are sent one
//! second after the step; where they see something else than expected they are sent again for ten seconds.

use std::fmt;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use crate::probe::Protocol;
use crate::{Expect, Lab, LabError, PodSpec, ProbeReport, Result, Seen, Target};

const DEFAULT_DENY: &str = include_str!("../scenarios/quickstart/01-default-deny.yaml");
const ALLOW_EGRESS: &str = include_str!("../scenarios/quickstart/02-allow-busybox-egress.yaml");
const ALLOW_INGRESS: &str = include_str!("../scenarios/quickstart/03-allow-nginx-ingress.yaml");
/// Namespace of the pods, as the policies name it.
const NAMESPACE: &str = "quickstart";
/// How long a policy takes at most from the datastore to the packets.
const SETTLE: Duration = Duration::from_secs(1);
/// How long it may take on a busy machine.
const ACTS: Duration = Duration::from_secs(60);

/// One step and what must be true after it.
struct Step {
    action: &'static str,
    file: Option<&'static str>,
    label: &'static str,
    to_nginx: Expect,
    to_outside: Expect,
}

const STEPS: [Step; 5] = [
    Step { action: "", file: None, label: "nothing", to_nginx: Expect::Allow, to_outside: Expect::Allow },
    Step {
        action: "apply",
        file: Some(DEFAULT_DENY),
        label: "apply 01-default-deny",
        to_nginx: Expect::Deny,
        to_outside: Expect::Deny,
    },
    Step {
        action: "apply",
        file: Some(ALLOW_EGRESS),
        label: "apply 02-allow-busybox-egress",
        to_nginx: Expect::Deny,
        to_outside: Expect::Allow,
    },
    Step {
        action: "apply",
        file: Some(ALLOW_INGRESS),
        label: "apply 03-allow-nginx-ingress",
        to_nginx: Expect::Allow,
        to_outside: Expect::Allow,
    },
    Step {
        action: "delete",
        file: Some(ALLOW_EGRESS),
        label: "delete 02-allow-busybox-egress",
        to_nginx: Expect::Deny,
        to_outside: Expect::Deny,
    },
];

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub step: usize,
    pub applied: &'static str,
    pub pair: String,
    pub expected: Expect,
    pub seen: String,
    pub as_expected: bool,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether every row is as expected; a report without rows is not.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.as_expected)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_header(["step", "applied", "pair", "expected", "seen", "verdict"]);
        for row in &self.rows {
            table.add_row([
                row.step.to_string(),
                row.applied.to_owned(),
                row.pair.clone(),
                row.expected.to_string(),
                row.seen.clone(),
                if row.as_expected { "as expected" } else { "NOT AS EXPECTED" }.to_owned(),
            ]);
        }
        write!(f, "{table}")
    }
}

/// One line of traffic that is watched in every step.
struct Pair {
    label: String,
    target: Target,
    /// Set for `outside`: the source address it must see.
    source: Option<IpAddr>,
}

impl Lab {
    /// Runs the whole scenario; `progress` is told of every step.
    pub fn quickstart(&self, progress: &dyn Fn(&str)) -> Result<Report> {
        let mut pods = Vec::new();
        let result =
            self.quickstart_pods(&mut pods).and_then(|pairs| self.quickstart_steps(&pairs, progress));
        // Clean up in any case; the first failure is told, and a failure of the run itself comes first.
        let policies = [ALLOW_INGRESS, ALLOW_EGRESS, DEFAULT_DENY].map(|file| self.forget(file));
        let removed = pods.iter().map(|pod: &PodSpec| self.pod_delete(&pod.name));
        let cleaned: Result<()> = policies.into_iter().chain(removed).collect();
        let report = result?;
        cleaned?;
        Ok(report)
    }

    fn quickstart_pods(&self, made: &mut Vec<PodSpec>) -> Result<Vec<Pair>> {
        let nodes: Vec<_> = self.topology().nodes().collect();
        let first = nodes.first().ok_or(LabError::OutOfRange { what: "nodes", min: 1, max: 1 })?;
        let mut specs = vec![
            PodSpec::new(NAMESPACE, "access", &first.name)?.label("run", "access"),
            PodSpec::new(NAMESPACE, "nginx", &first.name)?.label("app", "nginx").serve(80),
        ];
        let target = |host: &str| Target { host: host.to_owned(), port: Some(80) };
        let nginx = |name: &str| target(&format!("{NAMESPACE}/{name}"));
        let mut pairs =
            vec![Pair {
                label: "access → nginx, one node".to_owned(), target: nginx("nginx"), source: None
            }];
        if let Some(second) = nodes.get(1) {
            specs.push(PodSpec::new(NAMESPACE, "nginx-2", &second.name)?.label("app", "nginx").serve(80));
            pairs.push(Pair {
                label: "access → nginx, two nodes".to_owned(),
                target: nginx("nginx-2"),
                source: None,
            });
        }
        pairs.push(Pair {
            label: "access → outside".to_owned(),
            target: target("outside"),
            source: Some(first.v4.into()),
        });
        for spec in specs {
            self.pod_run(spec.clone())?;
            made.push(spec);
        }
        Ok(pairs)
    }

    fn quickstart_steps(&self, pairs: &[Pair], progress: &dyn Fn(&str)) -> Result<Report> {
        let mut report = Report::default();
        for (index, step) in STEPS.iter().enumerate() {
            progress(&format!("step {}: {}", index + 1, step.label));
            if let Some(file) = step.file {
                self.calicoctl(&[step.action, "-f", "-"], file)?;
            }
            thread::sleep(SETTLE);
            // On a busy machine a policy takes a moment more to act.
            let until = Instant::now() + ACTS;
            let rows = loop {
                let rows = self.rows(index + 1, step, pairs)?;
                if rows.iter().all(|r| r.as_expected) || Instant::now() > until {
                    break rows;
                }
            };
            report.rows.extend(rows);
        }
        Ok(report)
    }

    fn rows(&self, number: usize, step: &Step, pairs: &[Pair]) -> Result<Vec<Row>> {
        let probes = self.probe_pairs(pairs, step)?.into_iter();
        Ok(probes
            .map(|(pair, expected, probe)| Row {
                step: number,
                applied: step.label,
                pair: pair.label.clone(),
                expected,
                as_expected: as_expected(pair, expected, &probe),
                seen: describe(&probe),
            })
            .collect())
    }

    /// Probes all pairs of a step at the same time, so that all see the same moment.
    fn probe_pairs<'a>(
        &self,
        pairs: &'a [Pair],
        step: &Step,
    ) -> Result<Vec<(&'a Pair, Expect, ProbeReport)>> {
        let from = self.place(&format!("{NAMESPACE}/access"))?;
        thread::scope(|scope| {
            let probes: Vec<_> = pairs
                .iter()
                .map(|pair| {
                    let expected = if pair.source.is_some() { step.to_outside } else { step.to_nginx };
                    let from = &from;
                    let probe =
                        scope.spawn(move || self.probe(from, &pair.target, Protocol::Tcp, Some(expected)));
                    (pair, expected, probe)
                })
                .collect();
            probes
                .into_iter()
                .map(|(pair, expected, probe)| {
                    let probe = probe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                    Ok((pair, expected, probe))
                })
                .collect()
        })
    }

    /// Deletes what a file holds; that it is not there is no failure.
    fn forget(&self, file: &str) -> Result<()> {
        self.calicoctl(&["delete", "--skip-not-exists", "-f", "-"], file).map(drop)
    }
}

/// Besides the answer itself, what leaves the cluster must leave with the node's address.
fn as_expected(pair: &Pair, expected: Expect, probe: &ProbeReport) -> bool {
    let source_right = match (&probe.seen, pair.source) {
        (Seen::Answered { source, .. }, Some(wanted)) => *source == wanted,
        _ => true,
    };
    probe.matches(expected) && source_right
}

fn describe(probe: &ProbeReport) -> String {
    match &probe.seen {
        Seen::Answered { source, .. } if probe.allowed() => format!("works, from {source}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: Option<&str>) -> Pair {
        Pair {
            label: "access → outside".to_owned(),
            target: Target { host: "outside".to_owned(), port: None },
            source: source.map(|s| s.parse().unwrap()),
        }
    }

    fn answered(source: &str) -> ProbeReport {
        ProbeReport {
            address: [192, 0, 2, 2].into(),
            port: 80,
            protocol: Protocol::Tcp,
            seen: Seen::Answered { by: "outside".to_owned(), source: source.parse().unwrap() },
            answerer: Some("outside".to_owned()),
            tries: 1,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn an_answer_from_outside_counts_only_with_the_nodes_address_as_its_source() {
        let outside = pair(Some("172.31.0.1"));
        assert!(as_expected(&outside, Expect::Allow, &answered("172.31.0.1")));
        assert!(!as_expected(&outside, Expect::Allow, &answered("10.65.0.1")));
        assert!(!as_expected(&outside, Expect::Deny, &answered("172.31.0.1")));
    }

    #[test]
    fn a_report_fails_with_one_wrong_row_and_without_any() {
        let row = Row {
            step: 1,
            applied: "nothing",
            pair: String::new(),
            expected: Expect::Allow,
            seen: String::new(),
            as_expected: true,
        };
        let wrong = Row { as_expected: false, ..row.clone() };
        assert!(Report { rows: vec![row.clone()] }.passed());
        assert!(!Report { rows: vec![row, wrong] }.passed());
        assert!(!Report::default().passed());
    }
}
