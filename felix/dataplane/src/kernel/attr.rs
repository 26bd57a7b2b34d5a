//! Netlink messages as bytes: a builder of headers and attributes, and an iterator over attributes.
//!
//! In: numbers and bytes. Out: the kernel's layout (`struct nlmsghdr`, `struct nlattr`; lengths and types in host byte
//! order, all padded to four bytes). Always holds: reading never goes beyond the buffer, whatever the lengths say.

/// Attribute holds attributes.
pub const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;
/// Size of `struct nlmsghdr`.
pub const HEADER_LEN: usize = 16;

/// Bytes of one or several messages.
#[derive(Debug, Default)]
pub struct Builder {
    buf: Vec<u8>,
    message: usize,
}

impl Builder {
    /// Starts a message. `end_message` closes it.
    pub fn begin_message(&mut self, message_type: u16, flags: u16, seq: u32) {
        self.message = self.buf.len();
        self.buf.extend_from_slice(&0_u32.to_ne_bytes());
        self.buf.extend_from_slice(&message_type.to_ne_bytes());
        self.buf.extend_from_slice(&flags.to_ne_bytes());
        self.buf.extend_from_slice(&seq.to_ne_bytes());
        self.buf.extend_from_slice(&0_u32.to_ne_bytes());
    }

    /// Adds flags to the message that was begun last.
    pub fn add_flags(&mut self, flags: u16) {
        let at = self.message + 6;
        if let Some(bytes) = self.buf.get_mut(at..at + 2) {
            let old = u16::from_ne_bytes([bytes[0], bytes[1]]);
            bytes.copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// Writes the length of the message that was begun.
    pub fn end_message(&mut self) {
        let len = u32::try_from(self.buf.len() - self.message).unwrap_or(u32::MAX);
        if let Some(bytes) = self.buf.get_mut(self.message..self.message + 4) {
            bytes.copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Appends bytes as they are: a message's fixed part.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends an attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.pad();
    }

    /// A number in network byte order, as nf_tables has them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text with its closing zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        let len = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        self.pad();
    }

    /// An attribute that holds what `fill` appends.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        fill(self);
        let len = u16::try_from(self.buf.len() - at).unwrap_or(u16::MAX);
        self.buf[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.buf[at + 2..at + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.buf.len().is_multiple_of(4) {
            self.buf.push(0);
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// True where nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buf
    }
}

/// Iterates over attributes: type (flags removed) and value. Stops at the first that does not fit.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16::from_ne_bytes([*self.0.first()?, *self.0.get(1)?]));
        let kind = u16::from_ne_bytes([*self.0.get(2)?, *self.0.get(3)?]) & TYPE_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// A number in network byte order.
#[must_use]
pub fn be32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// A number in network byte order.
#[must_use]
pub fn be64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// A text up to its closing zero.
#[must_use]
pub fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// One message of a reply or notification.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    /// Port of the socket that the message answers, or that caused it.
    pub port: u32,
    pub payload: &'a [u8],
}

/// Iterates over the messages of a datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let word =
            |at: usize| self.0.get(at..at + 4).and_then(<[u8]>::first_chunk).map(|b| u32::from_ne_bytes(*b));
        let half =
            |at: usize| self.0.get(at..at + 2).and_then(<[u8]>::first_chunk).map(|b| u16::from_ne_bytes(*b));
        let len = usize::try_from(word(0)?).ok()?;
        let message = Message {
            kind: half(4)?,
            flags: half(6)?,
            seq: word(8)?,
            port: word(12)?,
            payload: self.0.get(HEADER_LEN..len)?,
        };
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut b = Builder::default();
        b.begin_message(7, 1, 9);
        b.raw(&[1, 2, 3, 4]);
        b.text(1, "name");
        b.nested(2, |b| b.be32(3, 5));
        b.end_message();
        let bytes = b.into_bytes();
        let m = Messages(&bytes).next().unwrap();
        assert_eq!((m.kind, m.flags, m.seq), (7, 1, 9));
        let attrs: Vec<_> = Attributes(&m.payload[4..]).collect();
        assert_eq!(text(attrs[0].1), Some("name"));
        assert_eq!(Attributes(attrs[1].1).next().and_then(|(k, v)| be32(v).map(|v| (k, v))), Some((3, 5)));
        assert!(Messages(&bytes).nth(1).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            for m in Messages(&bytes) {
                for (_, v) in Attributes(m.payload) {
                    let _ = (be32(v), be64(v), text(v), Attributes(v).count());
                }
            }
            prop_assert!(Attributes(&bytes).count() <= bytes.len());
        }
    }
}
