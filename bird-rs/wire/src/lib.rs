//! BGP-4 messages to and from bytes.
//!
//! In: the bytes of one message, with what the two ends agreed on ([`Context`]). Out: a [`Message`], or a
//! [`DecodeError`] holding the NOTIFICATION that RFC 4271 section 6 wants sent. An UPDATE whose attributes are
//! malformed in a way that RFC 7606 allows to survive is returned as an [`Update`] that says what was done
//! ([`Update::malformed`]), so a session is only reset where the RFC leaves no other way.
//!
//! Always holds: decoding never panics and never reads past the message; `decode(encode(m)) == m` for every
//! message this crate can build. Left out: state machines, timers, sockets and any decision about routes.

mod aspath;
mod attribute;
mod attribute_decode;
mod error;
mod message;
mod nlri;
mod notification;
mod open;
mod update;

pub use aspath::{AS_TRANS, AsPath, Segment, SegmentKind};
pub use attribute::{
    Aggregator, Attribute, LargeCommunity, NextHop, Origin, PathAttributes, UnknownAttribute,
};
pub use error::{AttributeAction, AttributeError, DecodeError};
pub use message::{
    Context, HEADER_LEN, MAX_EXTENDED_LEN, MAX_LEN, Message, RefreshKind, frame_len, keepalive,
};
pub use nlri::{Family, Nlri};
pub use notification::{Notification, cease, open_error};
pub use open::{Capability, GracefulRestart, Open};
pub use update::{Update, encode_announcements, encode_end_of_rib, encode_withdrawals};
