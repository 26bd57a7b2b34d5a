//! `policy diff`: between which pairs traffic would change if files were applied. Nothing is written.

use std::collections::BTreeMap;

use libcalico_api::Resource;
use serde::Serialize;

use crate::cli::{AnswerFormat, Global, PolicyDiffArgs};
use crate::command::policy_explain::{parties, print_json, warn_unusable, worth_asking};
use crate::policy::decide::{Answer, Detail, Part, ask};
use crate::policy::party::{Party, Traffic};
use crate::policy::render;
use crate::policy::world::{World, read};
use crate::resource_file::{Loaded, Purpose, load};
use crate::{Result, client};

/// Traffic that is compared: TCP, UDP, ICMP echo.
const PROTOCOLS: [u8; 3] = [6, 17, 1];

/// Ports of a pair whose verdict would be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub from: String,
    pub to: String,
    pub protocol: String,
    /// First and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
    /// Absent: the pair does not exist before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<bool>,
    pub after: bool,
    /// What decides afterwards.
    pub decided_by: String,
}

/// Runs the command.
pub async fn run(args: &PolicyDiffArgs, global: &Global) -> Result<()> {
    let loaded = load(&args.input, Purpose::Write)?;
    let store = client::open(&args.config, global).await?;
    let mut before = World::new(read(store.as_ref()).await?);
    let changes: Vec<Vec<Resource>> =
        loaded.into_iter().map(Loaded::into_calico).collect::<Result<_, _>>()?;
    let mut after = before.with(changes.into_iter().flatten());
    warn_unusable(&after);
    let changes = compare(&mut before, &mut after)?;
    match args.output {
        AnswerFormat::Json => print_json(&changes)?,
        AnswerFormat::Text if changes.is_empty() => println!("No pair would change."),
        AnswerFormat::Text => {
            for c in &changes {
                let was = c.before.map_or("(new)", render::word);
                let ports = render::ports(c.ports);
                let ports = ports.trim_end_matches(": ");
                let space = if ports.is_empty() { "" } else { " " };
                println!(
                    "{} -> {}, {}{space}{ports}: {was} -> {} by {}",
                    c.from,
                    c.to,
                    c.protocol,
                    render::word(c.after),
                    c.decided_by
                );
            }
        }
    }
    Ok(())
}

/// What would change, in order of the pairs.
pub fn compare(before: &mut World, after: &mut World) -> Result<Vec<Change>> {
    let old: BTreeMap<String, Party> =
        parties(before, None).into_iter().map(|p| (p.name.clone(), p)).collect();
    let new = parties(after, None);
    let mut changes = Vec::new();
    for from in &new {
        for to in new.iter().filter(|to| worth_asking(from, to)) {
            for protocol in PROTOCOLS {
                let traffic = Traffic { protocol, port: None };
                let then = ask(after, from, to, traffic, Detail::Full)?;
                let was = match (old.get(&from.name), old.get(&to.name)) {
                    (Some(f), Some(t)) if worth_asking(f, t) => ask(before, f, t, traffic, Detail::Verdict)?,
                    _ => Vec::new(),
                };
                for answer in &then {
                    let same_family = |a: &&Answer| a.to_address.is_ipv4() == answer.to_address.is_ipv4();
                    pair(was.iter().find(same_family), answer, &mut changes);
                }
            }
        }
    }
    changes.dedup();
    Ok(changes)
}

/// The ranges of one pair that differ.
fn pair(was: Option<&Answer>, then: &Answer, changes: &mut Vec<Change>) {
    for part in &then.parts {
        let (first, last) = part.ports.unwrap_or((0, 0));
        let pieces: Vec<(u16, u16, Option<bool>)> = match was {
            None => vec![(first, last, None)],
            Some(was) => was
                .parts
                .iter()
                .filter_map(|w| {
                    let (a, b) = w.ports.unwrap_or((0, 0));
                    let (a, b) = (a.max(first), b.min(last));
                    (a <= b).then_some((a, b, Some(w.allowed)))
                })
                .collect(),
        };
        for (a, b, before) in pieces.into_iter().filter(|(.., before)| *before != Some(part.allowed)) {
            let change = Change {
                from: then.from.clone(),
                to: then.to.clone(),
                protocol: then.protocol.clone(),
                ports: part.ports.map(|_| (a, b)),
                before,
                after: part.allowed,
                decided_by: reason(part),
            };
            match changes.last_mut() {
                // Ranges that were parted only by what decided before.
                Some(c)
                    if c.ports.is_some_and(|(_, end)| end.checked_add(1) == Some(a))
                        && Change { ports: change.ports, ..c.clone() } == change =>
                {
                    c.ports = c.ports.map(|(start, _)| (start, b));
                }
                _ => changes.push(change),
            }
        }
    }
}

/// What decides about a part: the end that denies it, else both.
fn reason(part: &Part) -> String {
    let deciding: Vec<String> =
        part.halves().filter(|h| h.allowed == part.allowed).map(|h| h.decided_by.clone()).collect();
    deciding.join("; ")
}
