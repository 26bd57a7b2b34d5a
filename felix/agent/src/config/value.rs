//! Forms that a parameter's text may have, and what they are parsed into.
//!
//! In goes text from a file, the environment or the datastore, out comes a [`Value`] or a reason why not. What is taken
//! is what upstream takes. Nothing here panics on any text.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use felix_dataplane::config::{Exclude, FailsafePort, Marks};
use felix_message::PortRange;
use ipnet::IpNet;

/// The form of a parameter.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    /// Lowest and highest. Go's notations: `0x1f`, `0b11`, `0o17` or `017` too.
    Int(i64, i64),
    /// Also with a fraction; less than zero is zero. A field of `FelixConfiguration` has Go's notation (`1m30s`) instead,
    /// which is turned into seconds where it is read.
    Seconds,
    Milliseconds,
    /// `NAME=TIME,…`, each time in Go's notation.
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
    /// Interfaces' names, or patterns between slashes, parted by commas alone.
    Interfaces,
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
    Interfaces(Vec<Exclude>),
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
            Self::Interfaces => Value::Interfaces(Vec::new()),
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
                let n = whole(text).ok_or("expected a whole number")?;
                if (low..=high).contains(&n) {
                    Ok(Value::Int(n))
                } else {
                    Err(format!("expected a number in {low}..{high}"))
                }
            }
            Self::Seconds => number_of(text, 1.0).map(Value::Duration),
            Self::Milliseconds => number_of(text, 1e-3).map(Value::Duration),
            Self::Durations => list(text)
                .map(|pair| {
                    let (name, time) = pair.split_once('=').ok_or("expected NAME=TIME,…")?;
                    Ok((name.trim().to_owned(), duration(time.trim())?))
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
                .map(|c| net(c).ok_or_else(|| format!("{c:?} is neither a CIDR nor an address")))
                .collect::<Result<_, _>>()
                .map(Value::Cidrs),
            Self::Interfaces => {
                text.split(',').map(interface).collect::<Result<_, _>>().map(Value::Interfaces)
            }
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
        "true" | "1" | "yes" | "y" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "f" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// A whole number as Go reads it with base 0.
fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let n = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -n } else { n }).ok()
}

/// The same without a sign.
fn unsigned(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&*lower, 10),
    };
    // A sign is none of the digits.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, base).ok() }
}

/// Go's durations end here, 292 years after their beginning.
const LONGEST_SECS: f64 = i64::MAX as f64 / 1e9;

fn of_secs(secs: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(secs.max(0.0)).ok().filter(|_| secs <= LONGEST_SECS)
}

/// `unit` is what the number counts, in seconds.
fn number_of(text: &str, unit: f64) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
    number.and_then(|n| of_secs(n * unit)).ok_or_else(|| "expected a number, such as 30 or 1.5".to_owned())
}

/// Go's notation; `0` needs no unit.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration such as 1m30s");
    let (mut rest, mut total) = (text, 0.0);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(bad());
    }
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
    of_secs(total).ok_or_else(bad)
}

/// A network, or an address as the network of it alone.
fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// One word of `InterfaceExclude`. A space beside a comma is none of a name's letters: upstream does not take it.
fn interface(word: &str) -> Result<Exclude, String> {
    let pattern = word.strip_prefix('/').and_then(|w| w.strip_suffix('/')).filter(|p| !p.is_empty());
    match pattern.filter(|p| !p.contains(char::is_whitespace)).map(regex::Regex::new) {
        Some(Ok(pattern)) => Ok(Exclude::Pattern(pattern)),
        Some(Err(e)) => Err(format!("{word:?} is not a regular expression: {e}")),
        None => {
            let letters = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            if letters && (1..=15).contains(&word.len()) {
                Ok(Exclude::Name(word.to_owned()))
            } else {
                Err(format!("{word:?} is neither an interface's name nor a pattern between slashes"))
            }
        }
    }
}

/// Upstream takes two bits here, and ends later where it finds none for a mark.
fn mask(text: &str) -> Result<Marks, String> {
    let bits = unsigned(text).and_then(|n| u32::try_from(n).ok());
    let bits = bits.ok_or("expected 32 bits, such as 0xffff0000")?;
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
        Some((p, text)) => {
            let text = text.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(text);
            (p, Some(net(text).ok_or_else(bad)?))
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
    fn seconds_are_numbers_and_less_than_none_is_none() {
        let taken = [("90", 90_000), ("1.5", 1500), ("+2", 2000), ("1e1", 10_000), ("-1", 0), ("0", 0)];
        for (text, ms) in taken {
            let d = Duration::from_millis(ms);
            assert_eq!(Kind::Seconds.parse(text), Ok(Value::Duration(d)), "{text}");
            assert_eq!(Kind::Milliseconds.parse(text), Ok(Value::Duration(d / 1000)), "{text}");
        }
        for text in ["1m30s", "90s", "1x", "nan", "inf", "1e300", "9300000000"] {
            assert!(Kind::Seconds.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_by_name_are_in_gos_notation() {
        let taken =
            [("1m30s", 90_000), ("250ms", 250), ("1h", 3_600_000), ("1.5s", 1500), ("0", 0), (" 2s ", 2000)];
        for (text, ms) in taken {
            let want = Value::Durations([("a".to_owned(), Duration::from_millis(ms))].into());
            assert_eq!(Kind::Durations.parse(&format!("a={text}")), Ok(want), "{text}");
        }
        for text in ["10", "", "m", "1m2", "1x"] {
            assert!(Kind::Durations.parse(&format!("a={text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn truth_values_are_upstreams_words_in_any_case() {
        for (words, value) in
            [(["true", "1", "Yes", "y", "T"], true), (["False", "0", "no", "N", "f"], false)]
        {
            for word in words {
                assert_eq!(Kind::Bool.parse(word), Ok(Value::Bool(value)), "{word}");
            }
        }
        for word in ["enabled", "disabled", "on", "off", "2"] {
            assert!(Kind::Bool.parse(word).is_err(), "{word}");
        }
    }

    #[test]
    fn whole_numbers_have_gos_bases() {
        let taken = [
            ("12", 12),
            ("-3", -3),
            ("+4", 4),
            ("0x1F", 31),
            ("0b11", 3),
            ("017", 15),
            ("0o17", 15),
            ("0", 0),
        ];
        for (text, n) in taken {
            assert_eq!(Kind::Int(-5, 40).parse(text), Ok(Value::Int(n)), "{text}");
        }
        for text in ["1.5", "08", "0x", "0x+1", "--1", "+-1", "x", "99999999999999999999"] {
            assert!(Kind::Int(i64::MIN, i64::MAX).parse(text).is_err(), "{text}");
        }
        assert!(Kind::Int(0, 9).parse("10").is_err());
    }

    #[test]
    fn one_bad_word_of_a_list_of_interfaces_spoils_it() {
        let Ok(Value::Interfaces(list)) = Kind::Interfaces.parse("kube-ipvs0,/^veth[0-9]+$/,/dummy/") else {
            panic!("not parsed")
        };
        let out = |name: &str| list.iter().any(|e| e.holds(name));
        assert!(out("kube-ipvs0") && out("veth12") && out("mydummy0") && !out("veth") && !out("eth0"));
        for bad in ["a,/(/", "a, b", "a,", "//", "/a b/", "averyverylongname", "a/b"] {
            assert!(Kind::Interfaces.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_may_be_addresses() {
        let Ok(Value::Cidrs(nets)) = Kind::Cidrs.parse("10.0.0.1, fd00::/8") else { panic!("not parsed") };
        assert_eq!(nets, ["10.0.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()]);
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
