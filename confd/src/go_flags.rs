//! Command lines in Go's style: `-onetime`, `-interval 10`, `-watch=false`.
//!
//! Upstream's programs take long flags with one dash as well as with two; clap takes two. What begins with one dash
//! and a name of more than one letter gets its second dash here. Left as it is: everything after `--`, negative
//! numbers, single letters.

use std::ffi::OsString;

/// Gives long flags their second dash.
#[must_use]
pub fn normalize(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut only_values_follow = false;
    arguments
        .into_iter()
        .map(|argument| {
            if only_values_follow {
                return argument;
            }
            if argument == "--" {
                only_values_follow = true;
                return argument;
            }
            match argument.to_str() {
                Some(text) if is_long_with_one_dash(text) => OsString::from(format!("-{text}")),
                _ => argument,
            }
        })
        .collect()
}

fn is_long_with_one_dash(text: &str) -> bool {
    let Some(name) = text.strip_prefix('-').map(|rest| rest.split('=').next().unwrap_or(rest)) else {
        return false;
    };
    name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_flags_get_their_second_dash() {
        let given =
            ["x", "-onetime", "--watch", "-interval", "10", "-v", "-5", "-log-level=debug", "--", "-a-b"];
        let expected =
            ["x", "--onetime", "--watch", "--interval", "10", "-v", "-5", "--log-level=debug", "--", "-a-b"];
        assert_eq!(normalize(given.map(OsString::from)), expected.map(OsString::from));
    }
}
