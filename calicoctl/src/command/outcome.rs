//! What a verb over several objects reports: upstream's sentences for success, partial success and failure.

use crate::resource_file::{Loaded, Place};
use crate::{Error, Result};

/// The words of a verb, and how its failures are put.
pub struct Verb {
    /// `applied`
    pub past: &'static str,
    /// Upstream lists the errors of writes in brackets, but not those of `delete`.
    pub bracketed: bool,
    /// `failed to create` or `Failed to delete`.
    pub failed: &'static str,
}

/// Counts what was done and collects what went wrong.
#[derive(Debug, Default)]
pub struct Outcome {
    kinds: Vec<&'static str>,
    done: Vec<String>,
    errors: Vec<String>,
}

impl Outcome {
    /// Nothing done yet of objects from files.
    #[must_use]
    pub fn of(loaded: &[Loaded]) -> Self {
        Self { kinds: loaded.iter().map(|l| l.item.kind()).collect(), ..Self::default() }
    }

    /// Notes an object that the verb is for.
    pub fn expect(&mut self, kind: &'static str) {
        self.kinds.push(kind);
    }

    /// Notes an object that was done.
    pub fn done(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }

    /// Notes an object that was not.
    pub fn failed(&mut self, error: impl Into<String>) {
        self.errors.push(error.into());
    }

    /// Notes an object of a file that was not. The place is told where there are several.
    pub fn failed_at(&mut self, place: &Place, error: String) {
        self.errors.push(if self.kinds.len() > 1 { format!("{place}: {error}") } else { error });
    }

    /// The kind where all objects are of one.
    fn single_kind(&self) -> Option<&'static str> {
        let first = *self.kinds.first()?;
        self.kinds.iter().all(|k| *k == first).then_some(first)
    }

    /// The sentence for standard output, or the error.
    pub fn finish(self, verb: &Verb) -> Result<String> {
        let total = self.kinds.len();
        let kind = self.single_kind();
        if total == 0 {
            return Ok("No resources specified".to_owned());
        }
        let of_kind = kind.map_or_else(String::new, |k| format!("'{k}' "));
        if self.errors.is_empty() {
            return Ok(format!("Successfully {} {} {of_kind}resource(s)", verb.past, self.done.len()));
        }
        let errors = self.errors.join(", ");
        let errors = if verb.bracketed { format!("[{errors}]") } else { errors };
        if !self.done.is_empty() {
            return Err(Error::Action(format!(
                "Partial success: {} {} out of {total} {of_kind}resources: {}\nHit error: {errors}",
                verb.past,
                self.done.len(),
                self.done.join(", ")
            )));
        }
        Err(Error::Action(match (total, kind) {
            (1, _) => format!("{} {of_kind}resource: {errors}", verb.failed),
            (_, Some(_)) => format!("{} any {of_kind}resources: {errors}", verb.failed),
            (_, None) => format!("{} any resources: {errors}", verb.failed),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: Verb = Verb { past: "created", bracketed: true, failed: "failed to create" };

    fn outcome(kinds: &[&'static str], done: usize, errors: &[&str]) -> Outcome {
        Outcome {
            kinds: kinds.to_vec(),
            done: (0..done).map(|i| format!("x{i}")).collect(),
            errors: errors.iter().map(|e| (*e).to_owned()).collect(),
        }
    }

    #[test]
    fn success_names_the_kind_where_there_is_one() {
        let text = outcome(&["Tier"], 1, &[]).finish(&CREATE).unwrap();
        assert_eq!(text, "Successfully created 1 'Tier' resource(s)");
        let text = outcome(&["Tier", "Node"], 2, &[]).finish(&CREATE).unwrap();
        assert_eq!(text, "Successfully created 2 resource(s)");
    }

    #[test]
    fn failure_says_what_was_done_before() {
        let e = outcome(&["Tier"], 0, &["e"]).finish(&CREATE).unwrap_err();
        assert_eq!(e.to_string(), "failed to create 'Tier' resource: [e]");
        let e = outcome(&["Tier", "Tier"], 1, &["e"]).finish(&CREATE).unwrap_err();
        assert_eq!(e.to_string(), "Partial success: created 1 out of 2 'Tier' resources: x0\nHit error: [e]");
    }
}
