//! Felix as a whole beside upstream's: a generated cluster in a real etcd, a network namespace with real interfaces, and
//! what stands in the kernel.
//!
//! ```text
//! PEER=DIR      a directory with another `calico-felix`, measured after ours on the same objects; without it a line says so
//! ROUNDS=N      changes of each kind (20)
//! KEEP=1        leave the last log and say where it is
//! cargo bench -p calico-felix --bench felix -- scale-1000/nftables     only parts whose name has that word
//! ```
//!
//! | part | world |
//! |---|---|
//! | `scale-100`, `scale-1000` | as many policies as local endpoints, see [`shape::scale`] |
//! | `traffic` | the same with 10 |
//! | `member` | 2,000 policies with an address set each, see [`shape::members`] |
//! | `rules` | 10,000 rules in 100 policies, see [`shape::rules`] |
//!
//! Each part runs for each backend. How every figure is taken: [`part`]. Left out: tests; whatever fails ends the part
//! and is printed in its rows.

mod felix;
mod kernel;
mod machine;
mod part;
mod shape;
mod table;

use std::path::PathBuf;

use libcalico_testing::{Need, can_run};

use felix::{Backend, Program};
use part::Part;
use table::Table;

fn main() {
    let needs = [
        Need::Root,
        Need::Etcd,
        Need::Program("ip", "iproute2"),
        Need::Program("nft", "nftables"),
        Need::Program("iptables-nft", "iptables"),
        Need::Program("ipset", "ipset"),
    ];
    if !can_run(&needs) {
        return;
    }
    if let Err(e) = machine::sweep() {
        eprintln!("what an earlier run left cannot be removed: {e:#}");
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Under `cargo test` it only shows that it runs.
    let full = arguments.iter().any(|a| a == "--bench");
    let words: Vec<&str> = arguments.iter().filter(|a| !a.starts_with('-')).map(String::as_str).collect();
    let rounds =
        std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(if full { 20 } else { 2 });
    let mut programs = vec![Program::ours(PathBuf::from(env!("CARGO_BIN_EXE_calico-felix")))];
    match std::env::var_os("PEER") {
        Some(dir) => programs.push(Program::peer(PathBuf::from(dir).join("calico-felix"))),
        None => println!("skipped: the peer; PEER=DIR names the directory of its calico-felix"),
    }
    let load = table::warn_of_load();
    let mut table = Table::default();
    for (part, backend) in wanted(&words, full) {
        let title = title(part, backend);
        for program in &programs {
            eprintln!("{title}: {}", program.name());
            part.measure(program, backend, rounds, &mut |figure| table.add(&title, program, figure));
        }
    }
    println!("{table}");
    if load {
        table::warn_of_load();
    }
}

fn title(part: Part, backend: Backend) -> String {
    format!("{}/{}", part.name(), backend.name())
}

fn wanted(words: &[&str], full: bool) -> Vec<(Part, Backend)> {
    let all = Part::ALL.into_iter().flat_map(|p| Backend::ALL.map(|b| (p, b)));
    all.filter(|(part, backend)| {
        let title = title(*part, *backend);
        match words {
            [] if full => part.by_default(*backend),
            [] => title == "scale-100/nftables",
            words => words.iter().any(|w| title.contains(w)),
        }
    })
    .collect()
}
