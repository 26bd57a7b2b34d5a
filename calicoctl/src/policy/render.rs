//! Answers as text for people.

use std::fmt::Write as _;

use crate::output::grid;
use crate::policy::decide::{Answer, Half, Part};

/// One answer with its steps.
#[must_use]
pub fn answer(a: &Answer) -> String {
    let mut t = format!("{} ({}) -> {} ({}), {}\n", a.from, a.from_address, a.to, a.to_address, a.protocol);
    for p in &a.parts {
        let _ = writeln!(t, "{}{}", ports(p.ports), word(p.allowed));
        end_text(&mut t, "egress", p.egress.as_ref());
        for passage in &p.forwarded {
            half_text(&mut t, &format!("forwarded {}", passage.direction), &passage.half);
        }
        end_text(&mut t, "ingress", p.ingress.as_ref());
    }
    t
}

fn end_text(t: &mut String, name: &str, half: Option<&Half>) {
    match half {
        Some(h) => half_text(t, name, h),
        None => {
            let _ =
                writeln!(t, "  {name}: no workload or host endpoint of this cluster, nothing decides here");
        }
    }
}

fn half_text(t: &mut String, name: &str, h: &Half) {
    let _ = writeln!(
        t,
        "  {name} of {} on {}: {} by {}",
        h.endpoint,
        h.node,
        word(h.allowed).to_lowercase(),
        h.decided_by
    );
    for s in &h.steps {
        let tier = s.tier.as_ref().map(|t| format!("tier {t}: ")).unwrap_or_default();
        let _ = writeln!(t, "    {tier}{}: {}", s.subject, s.outcome);
    }
}

/// `Allowed`
#[must_use]
pub fn word(allowed: bool) -> &'static str {
    if allowed { "Allowed" } else { "Denied" }
}

/// `Ports 80-90: `, `Port 80: `, `All ports: `, or nothing where there are no ports.
#[must_use]
pub fn ports(range: Option<(u16, u16)>) -> String {
    match range {
        None => String::new(),
        Some((1, u16::MAX)) => "All ports: ".to_owned(),
        Some((a, b)) if a == b => format!("Port {a}: "),
        Some((a, b)) => format!("Ports {a}-{b}: "),
    }
}

/// What a cell of the matrix says: `allow`, `deny`, or which ports pass.
#[must_use]
pub fn cell(parts: &[Part]) -> String {
    let allowed = merged(parts);
    if parts.iter().all(|p| p.allowed) {
        return "allow".to_owned();
    }
    if allowed.is_empty() {
        return "deny".to_owned();
    }
    let texts: Vec<String> =
        allowed.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    texts.join(",")
}

/// Ranges of allowed ports, adjacent ones joined whatever allows them. A protocol without ports counts as port 0.
#[must_use]
pub fn merged(parts: &[Part]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (first, last) in parts.iter().filter(|p| p.allowed).map(|p| p.ports.unwrap_or((0, 0))) {
        match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

/// A matrix: rows are sources, columns destinations.
#[must_use]
pub fn matrix(names: &[String], cells: &[Vec<String>]) -> String {
    let mut heading = vec!["FROM \\ TO"];
    heading.extend(names.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = names
        .iter()
        .zip(cells)
        .map(|(name, row)| std::iter::once(name.clone()).chain(row.iter().cloned()).collect())
        .collect();
    grid::render(&heading, &rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ports: (u16, u16), allowed: bool) -> Part {
        Part { ports: Some(ports), allowed, ..Part::default() }
    }

    #[test]
    fn a_cell_names_the_ports_that_pass() {
        assert_eq!(cell(&[part((1, 79), true), part((80, 65535), true)]), "allow");
        assert_eq!(cell(&[part((1, 65535), false)]), "deny");
        let parts =
            [part((1, 79), false), part((80, 80), true), part((81, 90), true), part((91, 65535), false)];
        assert_eq!(cell(&parts), "80-90");
    }
}
