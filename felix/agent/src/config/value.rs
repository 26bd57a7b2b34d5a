//! Forms that a parameter's text may have, and what they are parsed into.
//!
//! In goes text from a file, the environment or the datastore, out comes a [`Value`] or a reason why not. Nothing here
//! panics on any text.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use felix_dataplane::config::{FailsafePort, Marks};
use felix_message::PortRange;
use ipnet::IpNet;

/// The form of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    /// Lowest and highest.
    Int(i64, i64),
    /// Seconds, also with a fraction; Go's notation (`1m30s`) too, since `FelixConfiguration` has it.
    Seconds,
    Milliseconds,
    /// `NAME=TIME,…`, each time in seconds or Go's notation.
    Durations,
    /// Whatever the case; the listed spelling is what counts.
    OneOf(&'static [&'static str]),
    Ipv4,
    Ipv6,
    /// 32 bits, with as many of them set as Felix has marks.
    Mask,
    Ports,
    PortRange,
    Cidrs,
    Endpoints,
    Matching(&'static str),
    ExistingFile,
    Regex,
    Text,
}

/// A parsed parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The zero value: empty text where nothing else is meant.
    Unset,
    Bool(bool),
    Int(i64),
    Duration(Duration),
    Addr(IpAddr),
    Marks(Marks),
    Ports(Vec<FailsafePort>),
    PortRange(PortRange),
    /// By name.
    Durations(BTreeMap<String, Duration>),
    Cidrs(Vec<IpNet>),
    List(Vec<String>),
    Text(String),
}

impl Kind {
    /// What `none` stands for: the zero value of upstream's type.
    #[must_use]
    pub fn zero(self) -> Value {
        match self {
            Self::Bool => Value::Bool(false),
            Self::Int(..) => Value::Int(0),
            Self::Seconds | Self::Milliseconds => Value::Duration(Duration::ZERO),
            Self::Durations => Value::Durations(BTreeMap::new()),
            Self::Ports => Value::Ports(Vec::new()),
            Self::Cidrs => Value::Cidrs(Vec::new()),
            Self::Endpoints => Value::List(Vec::new()),
            Self::OneOf(_)
            | Self::Ipv4
            | Self::Ipv6
            | Self::Mask
            | Self::PortRange
            | Self::Matching(_)
            | Self::ExistingFile
            | Self::Regex
            | Self::Text => Value::Unset,
        }
    }

    /// Parses text of this form. Empty text is [`Value::Unset`], but for plain text and lists of ports.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        if text.is_empty() && !matches!(self, Self::Text | Self::Ports) {
            return Ok(Value::Unset);
        }
        match self {
            Self::Bool => parse_bool(text).map(Value::Bool),
            Self::Int(low, high) => {
                let n = text.parse::<i64>().map_err(|_| "expected a whole number".to_owned())?;
                if (low..=high).contains(&n) {
                    Ok(Value::Int(n))
                } else {
                    Err(format!("expected a number in {low}..{high}"))
                }
            }
            Self::Seconds => duration(text, 1.0).map(Value::Duration),
            Self::Milliseconds => duration(text, 1e-3).map(Value::Duration),
            Self::Durations => list(text)
                .map(|pair| {
                    let (name, time) = pair.split_once('=').ok_or("expected NAME=TIME,…")?;
                    Ok((name.trim().to_owned(), duration(time.trim(), 1.0)?))
                })
                .collect::<Result<_, String>>()
                .map(Value::Durations),
            Self::OneOf(words) => words
                .iter()
                .find(|w| w.eq_ignore_ascii_case(text))
                .map(|w| Value::Text((*w).to_owned()))
                .ok_or_else(|| format!("expected one of {}", words.join(", "))),
            Self::Ipv4 => text
                .parse::<Ipv4Addr>()
                .map(|a| Value::Addr(a.into()))
                .map_err(|_| "expected an IPv4 address".into()),
            Self::Ipv6 => text
                .parse::<Ipv6Addr>()
                .map(|a| Value::Addr(a.into()))
                .map_err(|_| "expected an IPv6 address".into()),
            Self::Mask => mask(text).map(Value::Marks),
            Self::Ports => ports(text).map(Value::Ports),
            Self::PortRange => port_range(text).map(Value::PortRange),
            Self::Cidrs => list(text)
                .map(|c| c.parse().map_err(|_| format!("{c:?} is not a CIDR")))
                .collect::<Result<_, _>>()
                .map(Value::Cidrs),
            Self::Endpoints => list(text)
                .map(|e| {
                    let ok = e.starts_with("http://") || e.starts_with("https://");
                    if ok {
                        Ok(e.to_owned())
                    } else {
                        Err(format!("{e:?} does not begin with http:// or https://"))
                    }
                })
                .collect::<Result<_, _>>()
                .map(Value::List),
            Self::Matching(pattern) => match regex::Regex::new(pattern) {
                Ok(r) if !r.is_match(text) => Err(format!("expected text that matches {pattern}")),
                _ => Ok(Value::Text(text.to_owned())),
            },
            Self::ExistingFile if !Path::new(text).is_file() => Err("no such file".to_owned()),
            Self::Regex => match regex::Regex::new(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(e) => Err(format!("not a regular expression: {e}")),
            },
            Self::ExistingFile | Self::Text => Ok(Value::Text(text.to_owned())),
        }
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" | "enabled" => Ok(true),
        "false" | "0" | "no" | "n" | "f" | "disabled" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// `unit` is what a bare number counts, in seconds.
fn duration(text: &str, unit: f64) -> Result<Duration, String> {
    let bad = || "expected seconds, such as 30 or 1.5, or a duration such as 1m30s".to_owned();
    if let Ok(n) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(n * unit).map_err(|_| bad());
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let n: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let units =
            [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (name, secs) = units.into_iter().find(|(u, _)| rest.starts_with(u)).ok_or_else(bad)?;
        total += n * secs;
        rest = &rest[name.len()..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// Upstream takes two bits here, and ends later where it finds none for a mark.
fn mask(text: &str) -> Result<Marks, String> {
    let bits = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let bits = bits.map_err(|_| "expected 32 bits, such as 0xffff0000".to_owned())?;
    Marks::from_mask(bits).ok_or_else(|| {
        format!(
            "needs {} bits, has {}; expected 32 bits, such as 0xffff0000",
            Marks::COUNT,
            bits.count_ones()
        )
    })
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let bad = || "expected a port or a range such as 1024:2048".to_owned();
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let range =
        PortRange { first: first.parse().map_err(|_| bad())?, last: last.parse().map_err(|_| bad())? };
    if range.first <= range.last { Ok(range) } else { Err(bad()) }
}

/// `tcp:10.0.0.0/8:22`, `udp:[fd00::/8]:53`, `tcp:22`, `22`; `none` is the empty list.
fn ports(text: &str) -> Result<Vec<FailsafePort>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    list(text).map(failsafe_port).collect()
}

fn failsafe_port(text: &str) -> Result<FailsafePort, String> {
    let bad = || format!("{text:?} is not PORT, PROTOCOL:PORT or PROTOCOL:CIDR:PORT");
    let (rest, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().map_err(|_| bad())?;
    let (protocol, net) = match rest.split_once(':') {
        Some((p, net)) => {
            let net = net.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(net);
            let parsed = net.parse::<IpNet>().or_else(|_| net.parse::<IpAddr>().map(IpNet::from));
            (p, Some(parsed.map_err(|_| bad())?))
        }
        None => (rest, None),
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        _ => return Err(bad()),
    };
    Ok(FailsafePort { protocol, port, net })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_seconds_or_gos_notation() {
        for (text, ms) in
            [("90", 90_000), ("1.5", 1500), ("1m30s", 90_000), ("250ms", 250), ("1h", 3_600_000)]
        {
            assert_eq!(Kind::Seconds.parse(text), Ok(Value::Duration(Duration::from_millis(ms))), "{text}");
        }
        for text in ["-1", "1x", "m", "1m2", "nan"] {
            assert!(Kind::Seconds.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn failsafe_ports_have_protocol_and_net() {
        let Ok(Value::Ports(ports)) = Kind::Ports.parse("22, udp:68,tcp:10.0.0.0/8:443,udp:[fd00::/8]:53")
        else {
            panic!("not parsed")
        };
        assert_eq!(ports.len(), 4);
        assert_eq!((ports[0].protocol, ports[0].port), (6, 22));
        assert_eq!((ports[1].protocol, ports[1].port), (17, 68));
        assert_eq!(ports[2].net, Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!((ports[3].protocol, ports[3].net), (17, Some("fd00::/8".parse().unwrap())));
        assert_eq!(Kind::Ports.parse("none"), Ok(Value::Ports(Vec::new())));
    }

    #[test]
    fn a_word_counts_whatever_its_case() {
        assert_eq!(Kind::OneOf(&["Auto", "Enabled"]).parse("ENABLED"), Ok(Value::Text("Enabled".into())));
        assert!(Kind::OneOf(&["Auto"]).parse("maybe").is_err());
    }

    #[test]
    fn a_mask_has_a_bit_for_every_mark_and_no_mark_lies_outside_it() {
        for few in ["0x0", "0x1", "0xf0000000", "3"] {
            let reason = Kind::Mask.parse(few).unwrap_err();
            assert!(reason.contains("needs 5 bits"), "{few}: {reason}");
        }
        for (text, mask) in [("0x1f", 0x1f), ("0xffff0000", 0xffff_0000), ("31", 31_u32)] {
            let Ok(Value::Marks(m)) = Kind::Mask.parse(text) else { panic!("{text}") };
            let all = m.accept | m.pass | m.drop | m.scratch0 | m.scratch1;
            assert_eq!((all & !mask, all.count_ones()), (0, 5), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            for param in crate::config::table::PARAMS {
                let _ = param.kind.parse(&text);
            }
        }
    }
}
