//! What runs where, as a table for people.
//!
//! In: a lab. Out: text: machines with addresses and BGP, processes with their memory, pods.
//! What always holds: it shows what the kernel has now, not what was written down; a daemon that was started and
//! has ended is shown as such.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::process::{self, Found, ProcessId};
use crate::topology::Role;
use crate::{Lab, Result, names};

impl Lab {
    /// The three tables of `lab status`.
    pub fn status(&self) -> Result<String> {
        Ok(format!("{}\n\n{}\n\n{}\n", self.machines_table(), self.processes_table()?, self.pods_table()))
    }

    /// Whether every daemon runs and every node is ready: what `lab status` ends with.
    pub fn healthy(&self) -> Result<bool> {
        for machine in &self.topology().machines {
            for (_, daemon) in self.state().daemons(&machine.name)? {
                if !daemon.id.is_some_and(ProcessId::alive) {
                    return Ok(false);
                }
            }
            if machine.role == Role::Node && self.node_ready(&machine.name)?.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn machines_table(&self) -> String {
        let mut table = table(&["MACHINE", "IPV4", "IPV6", "SUBNET", "HEALTH", "BGP"]);
        for machine in &self.topology().machines {
            let (health, bgp) = if machine.role == Role::Node {
                let health = match self.node_ready(&machine.name) {
                    Ok(Ok(())) => "ready".to_owned(),
                    Ok(Err(why)) => format!("not ready: {}", first_line(&why)),
                    Err(e) => format!("unknown: {}", first_line(&e.to_string())),
                };
                let bgp = match self.bgp(&machine.name) {
                    Ok((up, all)) => format!("{up}/{all} established"),
                    Err(why) => why,
                };
                (health, bgp)
            } else {
                ("-".to_owned(), "-".to_owned())
            };
            table.add_row([
                machine.name.clone(),
                machine.v4.to_string(),
                machine.v6.to_string(),
                machine.bridge.clone(),
                health,
                bgp,
            ]);
        }
        table.trim_fmt()
    }

    fn processes_table(&self) -> Result<String> {
        let mut table = table(&["MACHINE", "PROCESS", "PID", "PARENT", "RSS", "LOG"]);
        for machine in &self.topology().machines {
            let ns = names::machine_netns(self.name(), &machine.name);
            let found = process::find_in(std::slice::from_ref(&ns))?.remove(&ns).unwrap_or_default();
            let daemons = self.state().daemons(&machine.name)?;
            for process in &found {
                let log = daemons.iter().find(|(_, d)| d.id == Some(process.id));
                let log = log.map_or_else(String::new, |(_, d)| d.log.display().to_string());
                table.add_row(process_row(&machine.name, process, log));
            }
            for (name, daemon) in daemons.iter().filter(|(_, d)| !d.id.is_some_and(ProcessId::alive)) {
                let log = daemon.log.display().to_string();
                table.add_row([&machine.name, name, "ended", "", "", &log]);
            }
        }
        Ok(table.trim_fmt())
    }

    fn pods_table(&self) -> String {
        let mut table = table(&["POD", "NODE", "ADDRESSES", "SERVES", "LABELS"]);
        for name in self.state().pods() {
            let Ok(pod) = self.pod(&name) else { continue };
            let addresses: Vec<String> = pod.addresses().iter().map(ToString::to_string).collect();
            let serves: Vec<String> = pod.serve.iter().map(ToString::to_string).collect();
            let labels: Vec<String> = pod.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            table.add_row([
                name.to_string(),
                pod.node.clone(),
                if addresses.is_empty() {
                    "none: half made, delete it".to_owned()
                } else {
                    addresses.join(",")
                },
                serves.join(","),
                labels.join(","),
            ]);
        }
        table.trim_fmt()
    }
}

fn process_row(machine: &str, process: &Found, log: String) -> [String; 6] {
    [
        machine.to_owned(),
        process.name.clone(),
        process.id.pid.to_string(),
        process.parent.to_string(),
        format!("{:.1} MiB", process.rss_bytes as f64 / f64::from(1 << 20)),
        log,
    ]
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header.iter().copied());
    table
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
