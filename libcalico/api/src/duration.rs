//! Durations as Go writes them: `1m30s`, `1.5h`, `250ms`.
//!
//! In comes text of a field, out goes a length of time and the one spelling that upstream stores for it
//! (`90s` is stored as `1m30s`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time in nanoseconds, negative where written so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 90s, 1m30s or 250ms (units h, m, s, ms, us, ns)")]
pub struct DurationError(String);

const SECOND: i64 = 1_000_000_000;

/// Units by descending length of their spelling, so that `ms` is not read as `m`.
const UNITS: [(&str, i64); 8] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
    ("h", 3600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
];

impl GoDuration {
    /// From whole seconds. Saturates at about 292 years.
    #[must_use]
    pub fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(SECOND))
    }

    /// Nanoseconds.
    #[must_use]
    pub fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded towards zero.
    #[must_use]
    pub fn as_secs(self) -> i64 {
        self.0 / SECOND
    }

    /// The same as `std` has it; `None` where it is negative.
    #[must_use]
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text).map(Self).ok_or_else(|| DurationError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    loop {
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at_checked(number_len)?;
        let (name, unit) = UNITS.iter().find(|(name, _)| tail.starts_with(name))?;
        total = total.checked_add(scaled(number, *unit)?)?;
        rest = tail.get(name.len()..)?;
        if rest.is_empty() {
            return Some(if negative { -total } else { total });
        }
    }
}

/// A decimal number times a unit, without floating point.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        value = value.checked_add(place.checked_mul(i64::from(digit - b'0'))?)?;
    }
    Some(value)
}

/// Go's spelling: `1h0m0s`, `1.5s`, `250ms`, `0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let second = SECOND.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < second {
            let (unit, name) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return decimal(f, nanos, unit, name);
        }
        let (hours, minutes) = (nanos / (3600 * second), nanos / (60 * second) % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        decimal(f, nanos % (60 * second), second, "s")
    }
}

fn decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", value / unit)?;
    let mut rest = value % unit;
    let mut place = unit / 10;
    if rest > 0 {
        f.write_str(".")?;
        while rest > 0 && place > 0 {
            write!(f, "{}", rest / place)?;
            rest %= place;
            place /= 10;
        }
    }
    f.write_str(name)
}

/// Brings a duration field into the spelling that upstream stores. Wrong text is left for validation to name.
pub(crate) fn normalise(field: &mut Option<String>) {
    if let Some(text) = field
        && let Ok(d) = text.parse::<GoDuration>()
    {
        *text = d.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_stored_as_go_spells_it() {
        for (text, stored) in [
            ("90s", "1m30s"),
            ("60s", "1m0s"),
            ("1h", "1h0m0s"),
            ("0", "0s"),
            ("1.5h", "1h30m0s"),
            ("1500ms", "1.5s"),
            ("250ms", "250ms"),
            (".5s", "500ms"),
            ("-3m", "-3m0s"),
            ("1h2m3s4ms", "1h2m3.004s"),
            ("10us", "10µs"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), stored, "{text}");
        }
        for text in ["", "1", "s", ".s", "1.2.3s", "1 s", "1d", "9999999999h", "-", "+"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(n in -i64::MAX..i64::MAX) {
            prop_assert_eq!(GoDuration(n).to_string().parse::<GoDuration>().unwrap(), GoDuration(n));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[0-9.hmsuµn+-]{0,30}|.{0,20}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
