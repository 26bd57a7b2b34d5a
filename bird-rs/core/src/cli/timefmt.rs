//! Times as the configuration wants them printed.

use crate::config::TimeFormat;
use crate::time::Time;

/// Formats a moment; `now` decides between the two patterns of a format with an age limit.
pub(super) fn format(format: &TimeFormat, at: Time, now: Time, utc_offset_secs: i32) -> String {
    let age_secs = now.since(at) / 1_000_000;
    let pattern = match &format.limit {
        Some((limit, old)) if age_secs >= *limit => old,
        _ => &format.pattern,
    };
    strftime(pattern, at, utc_offset_secs)
}

fn strftime(pattern: &str, at: Time, utc_offset_secs: i32) -> String {
    let micros = at.0 % 1_000_000;
    let secs = i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX).saturating_add(i64::from(utc_offset_secs));
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, sec) = (second / 3600, second / 60 % 60, second % 60);
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('F') => out.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{sec:02}")),
            Some('R') => out.push_str(&format!("{hour:02}:{minute:02}")),
            Some('Y') => out.push_str(&format!("{year:04}")),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{sec:02}")),
            Some('s') => out.push_str(&secs.to_string()),
            Some('3') if chars.next() == Some('f') => out.push_str(&format!("{:03}", micros / 1000)),
            Some('6') if chars.next() == Some('f') => out.push_str(&format!("{micros:06}")),
            Some(other) => {
                out.push('%');
                out.push(other);
            }
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_moment_prints_as_a_calendar_says() {
        let at = Time(1_792_490_725_123_456);
        assert_eq!(strftime("%F %T.%3f", at, 0), "2026-10-20 10:05:25.123");
        assert_eq!(strftime("%T.%6f", at, 3600), "11:05:25.123456");
        assert_eq!(strftime("%F", Time(951_782_400_000_000), 0), "2000-02-29");
    }

    #[test]
    fn what_is_old_prints_by_its_date() {
        let short = TimeFormat::iso_short(".%3f");
        let at = Time(1_000_000_000_000_000);
        assert_eq!(format(&short, at, at.plus_secs(60), 0), "01:46:40.000");
        assert_eq!(format(&short, at, at.plus_secs(86_400), 0), "2001-09-09");
    }
}
