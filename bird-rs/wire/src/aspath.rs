//! AS_PATH: sequences and sets of AS numbers (RFC 4271 section 5.1.2), in four and in two octets (RFC 6793).

use std::fmt;

use bytes::BufMut;

/// Stands for an AS number above 65535 towards a peer that knows only two octets.
pub const AS_TRANS: u32 = 23456;

/// Kinds of path segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Unordered set, from aggregation.
    Set,
    /// Ordered sequence.
    Sequence,
    /// Sequence within a confederation (RFC 5065).
    ConfedSequence,
    /// Set within a confederation.
    ConfedSet,
}

impl SegmentKind {
    fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }
}

/// One segment; never empty, never longer than 255.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its kind.
    pub kind: SegmentKind,
    /// Its AS numbers, the nearest first.
    pub asns: Vec<u32>,
}

/// A whole AS path; the nearest AS comes first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AsPath {
    segments: Vec<Segment>,
}

impl AsPath {
    /// A path of one sequence.
    #[must_use]
    pub fn from_sequence(asns: &[u32]) -> Self {
        let segments = asns
            .chunks(255)
            .map(|part| Segment { kind: SegmentKind::Sequence, asns: part.to_vec() })
            .collect();
        Self { segments }
    }

    /// A path of these segments; empty ones are dropped, long ones split.
    #[must_use]
    pub fn from_segments(segments: Vec<Segment>) -> Self {
        let mut out = Self::default();
        for segment in segments {
            for part in segment.asns.chunks(255) {
                out.segments.push(Segment { kind: segment.kind, asns: part.to_vec() });
            }
        }
        out
    }

    /// The segments, nearest first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether no AS stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Length for path selection: a set counts as one, confederation segments as nothing (RFC 4271 9.1.2.2,
    /// RFC 5065 5.3).
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments
            .iter()
            .map(|s| match s.kind {
                SegmentKind::Sequence => s.asns.len(),
                SegmentKind::Set => 1,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
            })
            .sum()
    }

    /// All AS numbers in order, sets included.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.segments.iter().flat_map(|s| s.asns.iter().copied())
    }

    /// Whether an AS number stands anywhere in the path.
    #[must_use]
    pub fn contains(&self, asn: u32) -> bool {
        self.iter().any(|a| a == asn)
    }

    /// How many times an AS number stands in the path.
    #[must_use]
    pub fn count(&self, asn: u32) -> usize {
        self.iter().filter(|&a| a == asn).count()
    }

    /// The neighbouring AS: the first one, unless the path starts with a set.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        let segment =
            self.segments.iter().find(|s| matches!(s.kind, SegmentKind::Sequence | SegmentKind::Set))?;
        (segment.kind == SegmentKind::Sequence).then(|| segment.asns.first().copied())?
    }

    /// The originating AS: the last one, unless the path ends with a set.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        let segment = self.segments.last()?;
        (segment.kind == SegmentKind::Sequence).then(|| segment.asns.last().copied())?
    }

    /// The same path with an AS number put in front.
    #[must_use]
    pub fn prepended(&self, asn: u32) -> Self {
        let mut segments = self.segments.clone();
        match segments.first_mut() {
            Some(first) if first.kind == SegmentKind::Sequence && first.asns.len() < 255 => {
                first.asns.insert(0, asn);
            }
            _ => segments.insert(0, Segment { kind: SegmentKind::Sequence, asns: vec![asn] }),
        }
        Self { segments }
    }

    /// The same path without the AS numbers for which `drop` says so; emptied segments vanish.
    #[must_use]
    pub fn without(&self, drop: impl Fn(u32) -> bool) -> Self {
        let segments = self
            .segments
            .iter()
            .map(|s| Segment { kind: s.kind, asns: s.asns.iter().copied().filter(|&a| !drop(a)).collect() })
            .filter(|s| !s.asns.is_empty())
            .collect();
        Self { segments }
    }

    /// The same path without confederation segments, as it leaves a confederation.
    #[must_use]
    pub fn without_confederation(&self) -> Self {
        let keep = |s: &&Segment| matches!(s.kind, SegmentKind::Sequence | SegmentKind::Set);
        Self { segments: self.segments.iter().filter(keep).cloned().collect() }
    }

    /// Reads the value of an AS_PATH (or AS4_PATH) attribute; `None` when it is malformed (RFC 7606 7.2).
    pub(crate) fn decode(mut data: &[u8], as4: bool) -> Option<Self> {
        let width = if as4 { 4 } else { 2 };
        let mut segments = Vec::new();
        while !data.is_empty() {
            let (&[kind, count], rest) = data.split_first_chunk::<2>()?;
            if count == 0 {
                return None;
            }
            let (values, rest) = rest.split_at_checked(usize::from(count) * width)?;
            let asns = values.chunks_exact(width).map(|c| c.iter().fold(0, |n, &b| n << 8 | u32::from(b)));
            segments.push(Segment { kind: SegmentKind::from_code(kind)?, asns: asns.collect() });
            data = rest;
        }
        Some(Self { segments })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>, as4: bool) {
        for segment in &self.segments {
            out.put_u8(segment.kind.code());
            out.put_u8(u8::try_from(segment.asns.len()).unwrap_or(u8::MAX));
            for &asn in segment.asns.iter().take(255) {
                if as4 {
                    out.put_u32(asn);
                } else {
                    out.put_u16(u16::try_from(asn).unwrap_or(AS_TRANS as u16));
                }
            }
        }
    }

    /// Whether some AS number needs four octets.
    pub(crate) fn needs_as4(&self) -> bool {
        self.iter().any(|asn| asn > 65535)
    }

    /// Puts the four-octet path behind the part of the two-octet path that is longer (RFC 6793 4.2.3).
    pub(crate) fn merge_as4(&self, as4: &Self) -> Self {
        let (have, wide) = (self.len(), as4.len());
        if have < wide {
            return self.clone();
        }
        let mut lead = have - wide;
        let mut segments = Vec::new();
        for segment in &self.segments {
            if lead == 0 {
                break;
            }
            let mut part = segment.clone();
            match segment.kind {
                SegmentKind::Sequence => {
                    part.asns.truncate(lead);
                    lead -= part.asns.len();
                }
                SegmentKind::Set => lead -= 1,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => {}
            }
            segments.push(part);
        }
        let mut tail = as4.segments.as_slice();
        // A sequence that was cut where the old part ends is one sequence again.
        if let (Some(last), Some((first, rest))) = (segments.last_mut(), tail.split_first()) {
            let sequences = last.kind == SegmentKind::Sequence && first.kind == SegmentKind::Sequence;
            if sequences && last.asns.len() + first.asns.len() <= 255 {
                last.asns.extend(&first.asns);
                tail = rest;
            }
        }
        segments.extend_from_slice(tail);
        Self { segments }
    }
}

impl fmt::Display for AsPath {
    /// As BIRD prints a path: numbers apart by spaces, sets in braces, confederations in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            let (open, close) = match segment.kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::Set => ("{", "}"),
                SegmentKind::ConfedSequence => ("(", ")"),
                SegmentKind::ConfedSet => ("({", "})"),
            };
            f.write_str(open)?;
            for (j, asn) in segment.asns.iter().enumerate() {
                if j > 0 {
                    f.write_str(" ")?;
                }
                write!(f, "{asn}")?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}
