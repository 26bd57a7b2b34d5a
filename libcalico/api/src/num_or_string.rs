//! Values that the API takes as a number or as a string: protocols, ports, AS numbers.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A rule's protocol: a name (`TCP`) or an IP protocol number. The text is kept as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Number(u8),
    Name(String),
}

/// Protocols that the API knows by name, with their IANA numbers.
const PROTOCOLS: [(&str, u8); 6] =
    [("ICMP", 1), ("TCP", 6), ("UDP", 17), ("ICMPv6", 58), ("SCTP", 132), ("UDPLite", 136)];

impl Protocol {
    /// The IANA number, `None` for a name that the API does not know.
    #[must_use]
    pub fn number(&self) -> Option<u8> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Name(s) => PROTOCOLS.iter().find(|(n, _)| n.eq_ignore_ascii_case(s)).map(|(_, n)| *n),
        }
    }

    /// True where rules with this protocol may name ports (TCP, UDP, SCTP).
    #[must_use]
    pub fn supports_ports(&self) -> bool {
        matches!(self.number(), Some(6 | 17 | 132))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Name(s) => f.write_str(s),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => s.serialize_u8(*n),
            Self::Name(n) => s.serialize_str(n),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match NumOrString::deserialize(d)? {
            NumOrString::Num(n) => u8::try_from(n)
                .map(Self::Number)
                .map_err(|_| D::Error::custom(format!("protocol {n} is not in 0..255"))),
            NumOrString::String(s) => Ok(s.parse::<u8>().map_or_else(|_| Self::Name(s), Self::Number)),
        }
    }
}

/// A rule's port: a number, a range `min:max`, or the name of an endpoint's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    Number(u16),
    Range(u16, u16),
    Named(String),
}

impl Port {
    /// First and last port of a number or range.
    #[must_use]
    pub fn range(&self) -> Option<(u16, u16)> {
        match self {
            Self::Number(n) => Some((*n, *n)),
            Self::Range(a, b) => Some((*a, *b)),
            Self::Named(_) => None,
        }
    }
}

/// True where a rule of this protocol may name these ports: a name stands for ports with their protocols, a number
/// needs one that has ports.
#[must_use]
pub fn ports_fit(protocol: Option<&Protocol>, ports: &[Port]) -> bool {
    match protocol {
        Some(protocol) => ports.is_empty() || protocol.supports_ports(),
        None => ports.iter().all(|p| matches!(p, Port::Named(_))),
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Ok(n) = s.parse::<u16>() {
            return Ok(Self::Number(n));
        }
        if let Some((a, b)) = s.split_once(':') {
            let bad = || format!("port range {s:?} is not MIN:MAX with numbers in 0..65535");
            let (a, b) = (a.parse::<u16>().map_err(|_| bad())?, b.parse::<u16>().map_err(|_| bad())?);
            if a > b {
                return Err(format!("port range {s:?} has its minimum above its maximum"));
            }
            return Ok(if a == b { Self::Number(a) } else { Self::Range(a, b) });
        }
        let named = (1..=128).contains(&s.len())
            && s.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
            && !s.bytes().all(|c| c.is_ascii_digit());
        if named {
            Ok(Self::Named(s.to_owned()))
        } else {
            Err(format!("port {s:?} is not a number in 0..65535, a range MIN:MAX or a port name"))
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Range(a, b) => write!(f, "{a}:{b}"),
            Self::Named(n) => f.write_str(n),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(n) => s.serialize_u16(*n),
            other => s.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match NumOrString::deserialize(d)? {
            NumOrString::Num(n) => u16::try_from(n)
                .map(Self::Number)
                .map_err(|_| D::Error::custom(format!("port {n} is not in 0..65535"))),
            NumOrString::String(s) => s.parse().map_err(D::Error::custom),
        }
    }
}

/// A BGP autonomous system number: a number, or `high.low` as text (RFC 5396 asdot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AsNumber(pub u32);

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AsNumber {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("AS number {s:?} is not a number in 0..4294967295 or HIGH.LOW");
        if let Some((high, low)) = s.split_once('.') {
            let (h, l) = (high.parse::<u16>().map_err(|_| bad())?, low.parse::<u16>().map_err(|_| bad())?);
            return Ok(Self((u32::from(h) << 16) | u32::from(l)));
        }
        s.parse().map(Self).map_err(|_| bad())
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match NumOrString::deserialize(d)? {
            NumOrString::Num(n) => u32::try_from(n)
                .map(Self)
                .map_err(|_| D::Error::custom(format!("AS number {n} is not in 0..4294967295"))),
            NumOrString::String(s) => s.parse().map_err(D::Error::custom),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumOrString {
    Num(i64),
    String(String),
}

/// Schemas in the Kubernetes API's terms: a number or a text, within what the parsers above take.
#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{AsNumber, Port, Protocol};

    impl JsonSchema for Protocol {
        fn schema_name() -> Cow<'static, str> {
            "Protocol".into()
        }
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "x-kubernetes-int-or-string": true,
                "pattern": "^(?i)(TCP|UDP|ICMP|ICMPv6|SCTP|UDPLite|[0-9]{1,3})$",
                "minimum": 1,
                "maximum": 255,
                "maxLength": 16,
            })
        }
    }

    impl JsonSchema for Port {
        fn schema_name() -> Cow<'static, str> {
            "Port".into()
        }
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "x-kubernetes-int-or-string": true,
                "pattern": "^([0-9]{1,5}(:[0-9]{1,5})?|[A-Za-z0-9_.-]{1,128})$",
                "minimum": 0,
                "maximum": 65535,
                "maxLength": 128,
            })
        }
    }

    impl JsonSchema for AsNumber {
        fn schema_name() -> Cow<'static, str> {
            "AsNumber".into()
        }
        /// Objects in the Kubernetes API hold the number: upstream's clients write nothing else.
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
        }
    }
}
