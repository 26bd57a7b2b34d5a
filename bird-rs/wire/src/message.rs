//! The message header, the five message types, and what both ends agreed on.

use bytes::{BufMut, Bytes};

use crate::error::DecodeError;
use crate::nlri::Family;
use crate::notification::Notification;
use crate::open::Open;
use crate::update::{self, Update};

/// Bytes of marker, length and type.
pub const HEADER_LEN: usize = 19;
/// Longest message without the extended-message capability.
pub const MAX_LEN: usize = 4096;
/// Longest message with it (RFC 8654).
pub const MAX_EXTENDED_LEN: usize = 65535;

/// What the OPENs of both ends settled, as far as the encoding of later messages depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// AS numbers take four octets in AS_PATH and AGGREGATOR.
    pub as4: bool,
    /// Path identifiers stand in received NLRI, by [`Family::index`].
    pub add_path_rx: [bool; 2],
    /// Path identifiers stand in sent NLRI, by [`Family::index`].
    pub add_path_tx: [bool; 2],
    /// Messages may be up to [`MAX_EXTENDED_LEN`] bytes.
    pub extended: bool,
    /// The session is external: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST are ignored (RFC 7606 7.5, 7.9, 7.10).
    pub external: bool,
}

impl Context {
    /// The longest message that may be sent.
    #[must_use]
    pub fn max_len(&self) -> usize {
        if self.extended { MAX_EXTENDED_LEN } else { MAX_LEN }
    }
}

/// What a ROUTE-REFRESH message means (RFC 2918, RFC 7313).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// Please send everything again.
    Request,
    /// What follows is everything.
    Begin,
    /// That was everything.
    End,
}

/// One BGP message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Opens the session.
    Open(Open),
    /// Announces and withdraws routes.
    Update(Box<Update>),
    /// Ends the session.
    Notification(Notification),
    /// Keeps the hold timer from running out.
    Keepalive,
    /// Asks for routes again, or marks their beginning and end. `None`: a family this speaker does not carry.
    RouteRefresh(Option<Family>, RefreshKind),
}

/// Length of the message that starts in `buf`, from its header; `None` while the header is incomplete.
///
/// # Errors
/// When the marker or length is impossible: nothing after it in the stream can be read.
pub fn frame_len(buf: &[u8], extended: bool) -> Result<Option<usize>, DecodeError> {
    let Some((header, _)) = buf.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let (marker, rest) = header.split_at(16);
    if marker.iter().any(|&b| b != 0xff) {
        return Err(DecodeError::new(1, 1, "the marker of a message is not all ones"));
    }
    let (len, kind) = match *rest {
        [hi, lo, kind] => (u16::from_be_bytes([hi, lo]), kind),
        _ => return Ok(None),
    };
    let max = if extended && kind != 1 && kind != 4 { MAX_EXTENDED_LEN } else { MAX_LEN };
    let minimum = match kind {
        1 => 29,
        2 => 23,
        3 => 21,
        5 => 23,
        _ => HEADER_LEN,
    };
    let size = usize::from(len);
    if size < minimum || size > max || (kind == 4 && size != HEADER_LEN) {
        return Err(DecodeError::with_data(1, 2, "bad message length", &len.to_be_bytes()));
    }
    Ok(Some(size))
}

impl Message {
    /// Decodes one whole message, header included.
    ///
    /// # Errors
    /// With the NOTIFICATION to send; attribute errors a session survives are inside [`Update::malformed`].
    pub fn decode(data: &[u8], ctx: &Context) -> Result<Self, DecodeError> {
        let short = || DecodeError::new(1, 2, "message shorter than its length");
        let len = frame_len(data, ctx.extended)?.ok_or_else(short)?;
        let (&kind, body) = data.get(18..len).and_then(<[u8]>::split_first).ok_or_else(short)?;
        match kind {
            1 => Open::decode(body).map(Self::Open),
            2 => update::decode(body, ctx).map(|u| Self::Update(Box::new(u))),
            3 => match *body {
                [code, subcode, ref data @ ..] => {
                    Ok(Self::Notification(Notification { code, subcode, data: data.to_vec() }))
                }
                _ => Err(short()),
            },
            4 => Ok(Self::Keepalive),
            5 => match *body {
                [hi, lo, subtype, safi] => {
                    let kind = match subtype {
                        0 => RefreshKind::Request,
                        1 => RefreshKind::Begin,
                        2 => RefreshKind::End,
                        // RFC 7313 section 5: an unknown subtype is ignored; so is an unknown family.
                        _ => return Ok(Self::RouteRefresh(None, RefreshKind::Request)),
                    };
                    Ok(Self::RouteRefresh(Family::from_code(u16::from_be_bytes([hi, lo]), safi), kind))
                }
                _ => Err(DecodeError::with_data(7, 1, "bad length of ROUTE-REFRESH", data)),
            },
            other => Err(DecodeError::with_data(1, 3, "unknown message type", &[other])),
        }
    }

    /// Encodes the message. An UPDATE longer than the session allows must be split before, which
    /// [`crate::encode_announcements`] does.
    #[must_use]
    pub fn encode(&self, ctx: &Context) -> Bytes {
        match self {
            Self::Open(open) => framed(1, |out| open.encode(out)),
            Self::Update(update) => framed(2, |out| update::encode(update, ctx, out)),
            Self::Notification(n) => framed(3, |out| {
                out.put_u8(n.code);
                out.put_u8(n.subcode);
                out.extend(n.data.iter().take(MAX_LEN - HEADER_LEN - 2));
            }),
            Self::Keepalive => keepalive(),
            Self::RouteRefresh(family, kind) => framed(5, |out| {
                out.put_u16(family.map_or(0, Family::afi));
                out.put_u8(match kind {
                    RefreshKind::Request => 0,
                    RefreshKind::Begin => 1,
                    RefreshKind::End => 2,
                });
                out.put_u8(1);
            }),
        }
    }
}

/// An encoded KEEPALIVE.
#[must_use]
pub fn keepalive() -> Bytes {
    const KEEPALIVE: [u8; HEADER_LEN] =
        [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 19, 4];
    Bytes::from_static(&KEEPALIVE)
}

/// Writes a header around what `body` writes.
pub(crate) fn framed(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = vec![0xff; 16];
    out.put_u16(0);
    out.put_u8(kind);
    body(&mut out);
    let len = u16::try_from(out.len()).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(16..18) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    Bytes::from(out)
}
