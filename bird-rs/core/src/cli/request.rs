//! What a client asks for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reply;
use crate::event::{Command, ProtoAction};

/// A parsed request.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `show status`.
    Status,
    /// `show protocols [all] [pattern]`.
    Protocols {
        /// With details.
        all: bool,
        /// Which ones.
        pattern: Option<String>,
    },
    /// `show route …`.
    Route(Box<RouteQuery>),
    /// `show interfaces [summary]`.
    Interfaces {
        /// One line each.
        summary: bool,
    },
    /// `show memory`.
    Memory,
    /// `show symbols`.
    Symbols,
    /// `show static`.
    Static,
    /// `configure [check] [soft] ["file"]`.
    Configure {
        /// Only look whether it is valid.
        check: bool,
        /// Filters apply to new routes only.
        soft: bool,
        /// Another file than the one at start.
        file: Option<String>,
    },
    /// A command on protocols.
    Protocol(Command),
    /// `graceful restart`.
    GracefulRestart,
    /// `down`.
    Down,
    /// `restrict`.
    Restrict,
    /// `debug …`, `mrtdump …`, `echo …`: accepted without effect, as output goes to the daemon's log.
    Ignored,
}

/// Which routes to show.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteQuery {
    /// Attributes too.
    pub all: bool,
    /// Numbers alone.
    pub count: bool,
    /// The best of each prefix alone.
    pub primary: bool,
    /// Only rejected ones.
    pub filtered: bool,
    /// The longest prefix for an address.
    pub lookup: Option<IpNet>,
    /// This prefix exactly.
    pub prefix: Option<IpNet>,
    /// Prefixes within this one.
    pub within: Option<IpNet>,
    /// Tables by name; all when empty.
    pub tables: Vec<String>,
    /// Routes of this protocol.
    pub protocol: Option<String>,
    /// As they pass the export filter of this protocol.
    pub export: Option<RouteFilter>,
    /// Those a filter accepts: its name, or a `where` expression's text.
    pub filter: Option<String>,
    /// See `filter`.
    pub condition: Option<String>,
}

/// One of the ways to see routes as a protocol gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFilter {
    /// The protocol.
    pub protocol: String,
    /// Show what it does not get.
    pub negated: bool,
}

/// Parses a line.
///
/// # Errors
/// The reply that says what is wrong.
pub fn parse(line: &str) -> Result<Request, Reply> {
    let words = split(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["show", rest @ ..] => show(rest, line),
        ["configure", rest @ ..] => configure(rest),
        ["enable", target] => Ok(command(ProtoAction::Enable, target)),
        ["disable", target] => Ok(command(ProtoAction::Disable, target)),
        ["restart", target] => Ok(command(ProtoAction::Restart, target)),
        ["reload", "in", target] => Ok(command(ProtoAction::ReloadIn, target)),
        ["reload", "out", target] => Ok(command(ProtoAction::ReloadOut, target)),
        ["reload", target] => Ok(command(ProtoAction::Reload, target)),
        ["graceful", "restart"] => Ok(Request::GracefulRestart),
        ["down"] => Ok(Request::Down),
        ["restrict"] => Ok(Request::Restrict),
        ["debug" | "mrtdump" | "echo" | "timeformat", ..] => Ok(Request::Ignored),
        [] => Err(Reply::end(9001, "syntax error, unexpected end of line")),
        [word, ..] => Err(unexpected(word)),
    }
}

fn unexpected(word: &str) -> Reply {
    Reply::end(9001, format!("syntax error, unexpected `{word}`"))
}

fn command(action: ProtoAction, target: &str) -> Request {
    Request::Protocol(Command { action, target: target.to_owned() })
}

/// Words, quoted strings as one without their quotes.
fn split(line: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first == '"' || first == '\'' {
            let body = rest.get(1..).unwrap_or("");
            body.split_once(first).unwrap_or((body, ""))
        } else {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        };
        out.push(word.to_owned());
        rest = after.trim_start();
    }
    out
}

fn show(words: &[&str], line: &str) -> Result<Request, Reply> {
    match words {
        ["status"] => Ok(Request::Status),
        ["protocols", rest @ ..] => match rest {
            [] => Ok(Request::Protocols { all: false, pattern: None }),
            ["all"] => Ok(Request::Protocols { all: true, pattern: None }),
            ["all", pattern] | [pattern, "all"] => {
                Ok(Request::Protocols { all: true, pattern: Some((*pattern).to_owned()) })
            }
            [pattern] => Ok(Request::Protocols { all: false, pattern: Some((*pattern).to_owned()) }),
            [_, word, ..] => Err(unexpected(word)),
        },
        ["route", rest @ ..] => route(rest, line).map(|q| Request::Route(Box::new(q))),
        ["interfaces"] => Ok(Request::Interfaces { summary: false }),
        ["interfaces", "summary"] => Ok(Request::Interfaces { summary: true }),
        ["memory"] => Ok(Request::Memory),
        ["symbols", ..] => Ok(Request::Symbols),
        ["static", ..] => Ok(Request::Static),
        [word, ..] => Err(unexpected(word)),
        [] => Err(Reply::end(9001, "syntax error, unexpected end of line")),
    }
}

fn route(mut words: &[&str], line: &str) -> Result<RouteQuery, Reply> {
    let mut query = RouteQuery::default();
    while let Some((word, rest)) = words.split_first() {
        let argument = rest.first().copied();
        let named = || argument.map(str::to_owned).ok_or_else(|| unexpected("end of line"));
        let mut used = 1;
        match *word {
            "all" => query.all = true,
            "count" => query.count = true,
            "primary" => query.primary = true,
            "filtered" => query.filtered = true,
            "stats" => {}
            "for" => {
                query.lookup = Some(address(argument.unwrap_or(""))?);
                used = 2;
            }
            "in" => {
                query.within = Some(address(argument.unwrap_or(""))?);
                used = 2;
            }
            "table" => {
                let name = named()?;
                if name != "all" {
                    query.tables.push(name);
                }
                used = 2;
            }
            "protocol" => {
                query.protocol = Some(named()?);
                used = 2;
            }
            "export" | "preexport" => {
                query.export = Some(RouteFilter { protocol: named()?, negated: false });
                used = 2;
            }
            "noexport" => {
                query.export = Some(RouteFilter { protocol: named()?, negated: true });
                used = 2;
            }
            "filter" => {
                query.filter = Some(named()?);
                used = 2;
            }
            "where" => {
                // An expression may hold quotes and brackets: take it as it was written.
                query.condition = line.split_once("where").map(|(_, text)| text.trim().to_owned());
                return Ok(query);
            }
            word => query.prefix = Some(address(word)?),
        }
        words = words.get(used..).unwrap_or(&[]);
    }
    Ok(query)
}

fn address(word: &str) -> Result<IpNet, Reply> {
    if let Ok(net) = word.parse::<IpNet>() {
        return Ok(net.trunc());
    }
    word.parse::<IpAddr>().map(IpNet::from).map_err(|_| unexpected(word))
}

fn configure(words: &[&str]) -> Result<Request, Reply> {
    let (mut check, mut soft, mut file) = (false, false, None);
    for word in words {
        match *word {
            "check" => check = true,
            "soft" => soft = true,
            "undo" | "confirm" | "timeout" => {
                return Err(Reply::end(9001, format!("configure {word} is not supported")));
            }
            name => file = Some(name.to_owned()),
        }
    }
    Ok(Request::Configure { check, soft, file })
}
