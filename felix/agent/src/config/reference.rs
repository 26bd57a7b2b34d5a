//! The reference page of parameters, in Markdown.
//!
//! In: the table, and a description for each field of `FelixConfiguration`. Out: the page. Always holds: the same table
//! gives the same page, so that a test can tell whether the page in the repository is fresh.

use std::fmt::Write as _;

use felix_dataplane::config::Marks;

use super::table::{EXIT, LOCAL, PARAMS, Param, USED};
use super::value::Kind;
use super::warnings;

/// The page. `describe`: what a field is for.
#[must_use]
pub fn page<'a>(describe: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::from(
        "# Felix's parameters\n\n\
         Written from the table of parameters in `felix/agent/src/config/table.rs`; a test tells when it is stale.\n\n\
         A parameter is read, first found first taken, from the environment (`FELIX_NAME`, whatever the case), the file \
         `/etc/calico/felix.cfg` (`Name = value`), the `FelixConfiguration` named `node.NODE`, the one whose `nodeSelector` \
         matches the node's labels (of several the one created first, then the first by name: a warning names them), \
         the one named `default`, or has its default. A bad value gives the default and a warning, not a lower source's \
         value; where the column says *ends*, Felix does not start with it. `none` is the zero value: off, empty, no \
         limit; where zero is no value, Felix does not start with it. Parameters without a field, and those \
         marked *local*, are not read from the datastore; an annotation `config.projectcalico.org/NAME` of a \
         `FelixConfiguration` sets any other. A change in the datastore is taken while Felix runs: the calculation and \
         the dataplane begin anew in place, and rules stand meanwhile.\n\n\
         Where one of `TyphaCAFile`, `TyphaCertFile`, `TyphaKeyFile`, `TyphaCN` and `TyphaURISAN` is set, all three \
         files and one of the names have to be, or Felix does not start.\n\n",
    );
    section(&mut out, "Parameters in use", true, &describe);
    out.push_str(
        "## Parameters without effect\n\n\
         Known by name, so that manifests for upstream are taken as they are. Setting one warns, in whatever \
         source: what it configures is not here. A value that asks for nothing (`false`, `0`, `none`, `Disabled`) does \
         not warn.\n\n",
    );
    let without: Vec<String> =
        PARAMS.iter().filter(|p| !p.is(USED)).map(|p| format!("`{}`", p.name)).collect();
    let _ = writeln!(out, "{}.", without.join(", "));
    for p in PARAMS.iter().filter(|p| !p.is(USED)) {
        if let Some(reason) = warnings::obsolete(p) {
            let _ = writeln!(out, "\n`{}`: {reason}.", p.name);
        }
    }
    out
}

fn section<'a>(out: &mut String, title: &str, used: bool, describe: &impl Fn(&str) -> Option<&'a str>) {
    let _ = write!(
        out,
        "## {title}\n\n| parameter | field | value | default | bad value | what |\n|---|---|---|---|---|---|\n"
    );
    for p in PARAMS.iter().filter(|p| p.is(USED) == used) {
        row(out, p, describe);
    }
    out.push('\n');
}

fn row<'a>(out: &mut String, p: &Param, describe: &impl Fn(&str) -> Option<&'a str>) {
    let cell = |text: &str| text.replace('|', "\\|");
    let field = if p.field.is_empty() { "local".to_owned() } else { format!("`{}`", p.field) };
    let field = if p.is(LOCAL) { "local".to_owned() } else { field };
    let default = if p.default.is_empty() { String::new() } else { format!("`{}`", cell(p.default)) };
    let bad = if p.is(EXIT) { "ends" } else { "default" };
    // The description names the parameter and its default again: they have columns.
    let what = describe(p.field).unwrap_or_default();
    let what = what.split(" Parameter `").next().unwrap_or(what);
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "| `{}` | {field} | {} | {default} | {bad} | {} |",
        p.name,
        cell(&form(p.kind)),
        cell(what)
    );
}

fn form(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Int(low, high) => match (low, high) {
            (i64::MIN, i64::MAX) => "number".to_owned(),
            (low, i64::MAX) => format!("number from {low}"),
            (low, high) => format!("number, {low} to {high}"),
        },
        Kind::Seconds => "seconds, such as `90` or `1.5`; in the field `1m30s`".to_owned(),
        Kind::Milliseconds => "milliseconds; in the field `50ms`".to_owned(),
        Kind::Durations => "`NAME=TIME,…`, each time like `1m30s`".to_owned(),
        Kind::OneOf(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        Kind::Ipv4 => "IPv4 address".to_owned(),
        Kind::Ipv6 => "IPv6 address".to_owned(),
        Kind::Mask => format!("32 bits, at least {} of them set, such as `0xffff0000`", Marks::COUNT),
        Kind::Ports => "`PROTOCOL:PORT` or `PROTOCOL:NET:PORT`, parted by commas".to_owned(),
        Kind::PortRange => "`FIRST:LAST`".to_owned(),
        Kind::Cidrs => "networks, parted by commas".to_owned(),
        Kind::Interfaces => {
            "names of interfaces, or `/patterns/`, parted by commas without spaces".to_owned()
        }
        Kind::Endpoints => "URLs, parted by commas".to_owned(),
        Kind::Matching(pattern) => format!("text like `{pattern}`"),
        Kind::ExistingFile => "path of a file".to_owned(),
        Kind::Regex => "regular expression".to_owned(),
        Kind::Text => "text".to_owned(),
    }
}
