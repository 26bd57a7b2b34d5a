//! Shell patterns of interface names: `*` and `?`.

/// Whether `text` matches `pattern` as a whole. Linear in both: no pattern is slow.
#[must_use]
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go back to when a literal fails: behind the last star, one character further in the text.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&q) if q == b'?' || q == c => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        assert!(glob_matches("cali*", "cali1234"));
        assert!(glob_matches("*.cali", "bpf.cali"));
        assert!(glob_matches("*", ""));
        assert!(glob_matches("bpf*.cali", "bpfout.cali"));
        assert!(!glob_matches("bpf*.cali", "bpfout.calico"));
        assert!(!glob_matches("eth?", "eth"));
        assert!(glob_matches("a*b*c", "aXbYbZc"));
    }
}
