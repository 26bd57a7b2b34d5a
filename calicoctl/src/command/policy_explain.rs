//! `policy explain`: whether traffic passes and what decides, for one pair or for all.

use serde::Serialize;

use crate::cli::{AnswerFormat, Global, PolicyExplainArgs};
use crate::policy::decide::{Answer, Detail, ask};
use crate::policy::party::{Named, Party, Traffic, at_address, find, parse, parse_destination};
use crate::policy::render;
use crate::policy::world::{World, read};
use crate::{Error, Result, client};

/// Runs the command.
pub async fn run(args: &PolicyExplainArgs, global: &Global) -> Result<()> {
    // Wrong words are told before the datastore is asked.
    let question = match (&args.from, &args.to) {
        (Some(from), Some(to)) => Some((parse(from)?, parse_destination(to)?)),
        _ => None,
    };
    let matrix_traffic = Traffic::parse(&args.port)?;
    let store = client::open(&args.config, global).await?;
    let mut world = World::new(read(store.as_ref()).await?);
    warn_unusable(&world);
    let Some((from, (to, traffic))) = question else {
        return all_pairs(&mut world, args, matrix_traffic);
    };
    let from = find(&mut world, from)?;
    let answers = match to {
        Named::Service { namespace, name } => to_service(&mut world, &from, &namespace, &name, traffic)?,
        to => {
            let to = find(&mut world, to)?;
            ask(&mut world, &from, &to, traffic, Detail::Full)?
        }
    };
    match args.output {
        AnswerFormat::Json => print_json(&answers),
        AnswerFormat::Text => {
            print!("{}", answers.iter().map(render::answer).collect::<Vec<_>>().join("\n"));
            Ok(())
        }
    }
}

/// Answers for everything behind a service: its address is translated before policy is asked.
fn to_service(
    world: &mut World,
    from: &Party,
    namespace: &str,
    name: &str,
    traffic: Traffic,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for backend in world.backends(namespace, name, traffic)? {
        let mut to = at_address(world, backend.addr);
        to.name = format!("svc:{namespace}/{name} at {}", to.name);
        let traffic = Traffic { port: Some(backend.port), ..traffic };
        // A backend of a family that the source does not have is never chosen for it.
        if from.addresses.iter().any(|a| a.is_ipv4() == backend.addr.is_ipv4()) {
            answers.extend(ask(world, from, &to, traffic, Detail::Full)?);
        }
    }
    Ok(answers)
}

/// Says on standard error which objects count as absent because Felix cannot use them.
pub fn warn_unusable(world: &World) {
    for text in &world.unusable {
        eprintln!("Warning: left out, as calico-felix would: {text}");
    }
}

/// Prints a value for programs.
pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::Action(e.to_string()))?;
    println!("{text}");
    Ok(())
}

/// Every endpoint of the world, in order of names, and the outside.
#[must_use]
pub fn parties(world: &World, namespace: Option<&str>) -> Vec<Party> {
    let wanted = world.endpoints.values().filter(|e| namespace.is_none_or(|n| n == e.namespace));
    let mut parties: Vec<Party> = wanted.map(Party::of).collect();
    parties.sort_by(|a, b| a.name.cmp(&b.name));
    parties.push(Party::outside());
    parties
}

/// True for pairs that are worth a question: not with oneself, not past the cluster, with a family in common.
#[must_use]
pub fn worth_asking(from: &Party, to: &Party) -> bool {
    let common = from.addresses.iter().any(|a| to.addresses.iter().any(|b| a.is_ipv4() == b.is_ipv4()));
    from != to && (from.endpoint.is_some() || to.endpoint.is_some()) && common
}

fn all_pairs(world: &mut World, args: &PolicyExplainArgs, traffic: Traffic) -> Result<()> {
    let parties = parties(world, args.namespace.as_deref());
    let detail = if args.output == AnswerFormat::Json { Detail::Full } else { Detail::Verdict };
    let mut answers: Vec<Answer> = Vec::new();
    let mut cells = Vec::new();
    for from in &parties {
        let mut row = Vec::new();
        for to in &parties {
            if !worth_asking(from, to) {
                row.push("-".to_owned());
                continue;
            }
            let found = ask(world, from, to, traffic, detail)?;
            let mut texts: Vec<String> = found.iter().map(|a| render::cell(&a.parts)).collect();
            texts.dedup();
            row.push(match texts.as_slice() {
                [v4, v6] => format!("{v4} (IPv6: {v6})"),
                _ => texts.concat(),
            });
            if detail == Detail::Full {
                answers.extend(found);
            }
        }
        cells.push(row);
    }
    match args.output {
        AnswerFormat::Json => print_json(&answers),
        AnswerFormat::Text => {
            let names: Vec<String> = parties.iter().map(|p| p.name.clone()).collect();
            let port = traffic.port.map(|p| format!(" port {p}")).unwrap_or_default();
            println!("{}{port}", traffic.protocol_name());
            print!("{}", render::matrix(&names, &cells));
            Ok(())
        }
    }
}
