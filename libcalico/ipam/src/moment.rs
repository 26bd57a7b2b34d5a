//! A point in time, given to the pure code as an argument, and the two texts that IPAM's records use for it.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

/// Nanoseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The machine's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    /// `2026-11-21T07:27:42Z`, as in `affinity_claim_time` and `creationTimestamp`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// Reads what [`Self::rfc3339`] writes, and fractions of a second too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()?;
        u64::try_from(nanos).ok().map(Self)
    }

    /// So many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(u64::from(seconds) * 1_000_000_000))
    }

    /// `2026-11-21 07:30:32.208675393 +0000 UTC`, as in the attribute `timestamp`: trailing zeros are left out.
    #[must_use]
    pub fn attribute(self) -> String {
        let t = self.utc();
        let nanos = format!("{:09}", t.timestamp_subsec_nanos());
        let nanos = nanos.trim_end_matches('0');
        let dot = if nanos.is_empty() { "" } else { "." };
        format!("{}{dot}{nanos} +0000 UTC", t.format("%Y-%m-%d %H:%M:%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        let m = Moment(1_795_246_232_208_675_393);
        assert_eq!(m.attribute(), "2026-11-21 07:30:32.208675393 +0000 UTC");
        assert_eq!(m.rfc3339(), "2026-11-21T07:30:32Z");
        assert_eq!(Moment(1_795_246_232_200_000_000).attribute(), "2026-11-21 07:30:32.2 +0000 UTC");
        assert_eq!(Moment(1_795_246_232_000_000_000).attribute(), "2026-11-21 07:30:32 +0000 UTC");
    }
}
