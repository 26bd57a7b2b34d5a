//! OPEN and its capabilities (RFC 4271 section 4.2, RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use bytes::BufMut;

use crate::aspath::AS_TRANS;
use crate::error::DecodeError;
use crate::nlri::Family;

/// What a speaker says about graceful restart (RFC 4724 section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestart {
    /// The speaker has restarted and does not wait for End-of-RIB of the other restarting side.
    pub restarting: bool,
    /// How long its routes may be kept after the session is lost, in seconds (12 bits).
    pub restart_time_secs: u16,
    /// The families it keeps forwarding for, each with whether the forwarding state was preserved.
    pub families: Vec<(Family, bool)>,
}

/// One capability. Families and codes this speaker does not carry stay in [`Capability::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Multiprotocol extensions (code 1).
    Multiprotocol(Family),
    /// Route refresh (code 2).
    RouteRefresh,
    /// Messages up to 65535 bytes (code 6).
    ExtendedMessage,
    /// Graceful restart (code 64).
    GracefulRestart(GracefulRestart),
    /// Four-octet AS numbers (code 65).
    As4(u32),
    /// Several paths for a prefix (code 69): family, whether it wants to receive them, whether to send.
    AddPath(Vec<(Family, bool, bool)>),
    /// Enhanced route refresh (code 70).
    EnhancedRefresh,
    /// Any other, kept for display.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        data: Vec<u8>,
    },
}

/// An OPEN message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS number as in the fixed field: [`AS_TRANS`] when it needs four octets.
    pub asn: u16,
    /// Proposed hold time, in seconds; 0 turns keepalives off.
    pub hold_time_secs: u16,
    /// BGP identifier.
    pub id: Ipv4Addr,
    /// Capabilities in the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// An OPEN for a speaker with this AS number; the AS4 capability is for the caller to add.
    #[must_use]
    pub fn new(asn: u32, hold_time_secs: u16, id: Ipv4Addr, capabilities: Vec<Capability>) -> Self {
        let asn = u16::try_from(asn).unwrap_or(AS_TRANS as u16);
        Self { asn, hold_time_secs, id, capabilities }
    }

    /// The sender's true AS number (RFC 6793 section 4.1).
    #[must_use]
    pub fn real_asn(&self) -> u32 {
        self.as4().unwrap_or(u32::from(self.asn))
    }

    /// The AS number of the four-octet capability, when the sender has it.
    #[must_use]
    pub fn as4(&self) -> Option<u32> {
        self.capabilities.iter().find_map(|c| match c {
            Capability::As4(asn) => Some(*asn),
            _ => None,
        })
    }

    /// The families announced; IPv4 alone when the sender has no multiprotocol capability (RFC 4760 section 8).
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let mut any = false;
        let mut out = Vec::new();
        for capability in &self.capabilities {
            match capability {
                Capability::Multiprotocol(family) => {
                    any = true;
                    if !out.contains(family) {
                        out.push(*family);
                    }
                }
                Capability::Unknown { code: 1, .. } => any = true,
                _ => {}
            }
        }
        if any { out } else { vec![Family::Ipv4] }
    }

    /// What it says about graceful restart.
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart(gr) => Some(gr),
            _ => None,
        })
    }

    /// Whether it has this capability, compared by kind for those without a value.
    #[must_use]
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether it wants to (receive, send) several paths of a family.
    #[must_use]
    pub fn add_path(&self, family: Family) -> (bool, bool) {
        self.capabilities
            .iter()
            .find_map(|c| match c {
                Capability::AddPath(list) => {
                    list.iter().find(|(f, ..)| *f == family).map(|&(_, rx, tx)| (rx, tx))
                }
                _ => None,
            })
            .unwrap_or((false, false))
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::new(2, 0, "OPEN is too short");
        let (&[version, as_hi, as_lo, hold_hi, hold_lo, i0, i1, i2, i3, len], rest) =
            body.split_first_chunk::<10>().ok_or_else(short)?;
        if version != 4 {
            return Err(DecodeError::with_data(2, 1, "not BGP version 4", &[0, 4]));
        }
        let (params, extended) = optional_parameters(len, rest).ok_or_else(short)?;
        Ok(Self {
            asn: u16::from_be_bytes([as_hi, as_lo]),
            hold_time_secs: u16::from_be_bytes([hold_hi, hold_lo]),
            id: Ipv4Addr::new(i0, i1, i2, i3),
            capabilities: capabilities(params, extended)?,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(4);
        out.put_u16(self.asn);
        out.put_u16(self.hold_time_secs);
        out.extend(self.id.octets());
        let mut params = Vec::new();
        for capability in &self.capabilities {
            // One parameter for each capability keeps each within 255 bytes, whatever their number.
            let value = encode_capability(capability);
            params.put_u8(2);
            params.put_u8(u8::try_from(value.len()).unwrap_or(u8::MAX));
            params.extend(value.iter().take(255));
        }
        // More than 255 bytes of parameters would need RFC 9072; this speaker's own never come near.
        params.truncate(255);
        out.put_u8(u8::try_from(params.len()).unwrap_or(u8::MAX));
        out.extend(params);
    }
}

/// The optional parameters, and whether their lengths take two octets (RFC 9072).
fn optional_parameters(len: u8, rest: &[u8]) -> Option<(&[u8], bool)> {
    if len == 255 && rest.first() == Some(&255) {
        let (&[_, hi, lo], rest) = rest.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_be_bytes([hi, lo]));
        return (rest.len() == len).then_some((rest, true));
    }
    (rest.len() == usize::from(len)).then_some((rest, false))
}

fn capabilities(mut params: &[u8], extended: bool) -> Result<Vec<Capability>, DecodeError> {
    let malformed = || DecodeError::new(2, 0, "optional parameters of OPEN are cut short");
    let mut out = Vec::new();
    while let Some((&kind, rest)) = params.split_first() {
        let (len, rest) = if extended {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        } else {
            let (&len, rest) = rest.split_first().ok_or_else(malformed)?;
            (usize::from(len), rest)
        };
        let (mut value, rest) = rest.split_at_checked(len).ok_or_else(malformed)?;
        params = rest;
        if kind != 2 {
            return Err(DecodeError::new(2, 4, "unsupported optional parameter"));
        }
        while let Some((&[code, len], rest)) = value.split_first_chunk::<2>() {
            let (data, rest) = rest.split_at_checked(usize::from(len)).ok_or_else(malformed)?;
            value = rest;
            out.push(decode_capability(code, data));
        }
        if !value.is_empty() {
            return Err(malformed());
        }
    }
    Ok(out)
}

/// A capability of a known code with an impossible value is kept as unknown (RFC 5492 lets it be ignored).
fn decode_capability(code: u8, data: &[u8]) -> Capability {
    let known = match (code, data) {
        (1, &[hi, lo, _, safi]) => {
            Family::from_code(u16::from_be_bytes([hi, lo]), safi).map(Capability::Multiprotocol)
        }
        (2, []) => Some(Capability::RouteRefresh),
        (6, []) => Some(Capability::ExtendedMessage),
        (64, &[hi, lo, ref rest @ ..]) if rest.len() % 4 == 0 => {
            let flags = u16::from_be_bytes([hi, lo]);
            let families = rest.chunks_exact(4).filter_map(|c| match *c {
                [hi, lo, safi, flags] => {
                    Some((Family::from_code(u16::from_be_bytes([hi, lo]), safi)?, flags & 0x80 != 0))
                }
                _ => None,
            });
            Some(Capability::GracefulRestart(GracefulRestart {
                restarting: flags & 0x8000 != 0,
                restart_time_secs: flags & 0x0fff,
                families: families.collect(),
            }))
        }
        (65, &[a, b, c, d]) => Some(Capability::As4(u32::from_be_bytes([a, b, c, d]))),
        (69, rest) if !rest.is_empty() && rest.len() % 4 == 0 => {
            let list = rest.chunks_exact(4).filter_map(|c| match *c {
                [hi, lo, safi, mode] => {
                    let family = Family::from_code(u16::from_be_bytes([hi, lo]), safi)?;
                    (1..=3).contains(&mode).then_some((family, mode & 1 != 0, mode & 2 != 0))
                }
                _ => None,
            });
            Some(Capability::AddPath(list.collect()))
        }
        (70, []) => Some(Capability::EnhancedRefresh),
        _ => None,
    };
    known.unwrap_or_else(|| Capability::Unknown { code, data: data.to_vec() })
}

fn encode_capability(capability: &Capability) -> Vec<u8> {
    let mut value = Vec::new();
    let code = match capability {
        Capability::Multiprotocol(family) => {
            value.put_u16(family.afi());
            value.put_u8(0);
            value.put_u8(1);
            1
        }
        Capability::RouteRefresh => 2,
        Capability::ExtendedMessage => 6,
        Capability::GracefulRestart(gr) => {
            value.put_u16(u16::from(gr.restarting) << 15 | gr.restart_time_secs & 0x0fff);
            for &(family, preserved) in &gr.families {
                value.put_u16(family.afi());
                value.put_u8(1);
                value.put_u8(u8::from(preserved) << 7);
            }
            64
        }
        Capability::As4(asn) => {
            value.put_u32(*asn);
            65
        }
        Capability::AddPath(list) => {
            for &(family, receive, send) in list {
                value.put_u16(family.afi());
                value.put_u8(1);
                value.put_u8(u8::from(receive) | u8::from(send) << 1);
            }
            69
        }
        Capability::EnhancedRefresh => 70,
        Capability::Unknown { code, data } => {
            value.extend(data);
            *code
        }
    };
    let mut out = vec![code, u8::try_from(value.len()).unwrap_or(u8::MAX)];
    out.extend(value.iter().take(253));
    out
}
