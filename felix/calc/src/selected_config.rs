//! `FelixConfiguration` objects that select nodes by label: which of them is this node's.
//!
//! In come the objects and this node's labels, out go the parameters of the one that counts. Of several that match it is
//! the one created first, then the first by name, so that a new object never takes a node from one that works. Always
//! holds: a node that is not known has none; an object without a selector, or with one that cannot be read, matches no
//! node. Objects named `default` and `node.NAME` do not come here: the syncer makes single parameters of them.

use std::collections::BTreeMap;

use libcalico_api::felix_configuration::FelixConfiguration;
use libcalico_model::felix_configuration::texts;
use libcalico_selector::Selector;
use tracing::warn;

struct Entry {
    selector: Selector,
    /// RFC 3339 in UTC, with seconds: its text has the order of time. Empty, which is before all others, where unknown.
    created: String,
    texts: BTreeMap<String, String>,
}

/// See the module's text.
#[derive(Default)]
pub struct SelectedConfig {
    objects: BTreeMap<String, Entry>,
    /// Those that matched when last asked, the one that counts first: told once.
    matching: Vec<String>,
}

impl SelectedConfig {
    /// Sets or removes an object.
    pub fn set(&mut self, name: &str, object: Option<&FelixConfiguration>) {
        match object.and_then(|object| Entry::new(name, object)) {
            Some(entry) => self.objects.insert(name.to_owned(), entry),
            None => self.objects.remove(name),
        };
    }

    /// Parameters for a node with these labels; None is a node that is not known.
    pub fn of_node(&mut self, labels: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let matches = |e: &Entry| labels.is_some_and(|labels| e.selector.matches(labels));
        let mut found: Vec<(&String, &Entry)> = self.objects.iter().filter(|(_, e)| matches(e)).collect();
        // Names are in order already, and the sort keeps that.
        found.sort_by(|(_, a), (_, b)| a.created.cmp(&b.created));
        let matching: Vec<String> = found.iter().map(|(name, _)| (*name).clone()).collect();
        if let [first, _, ..] = &matching[..]
            && self.matching != matching
        {
            warn!(
                ?matching,
                used = first,
                "several FelixConfigurations select this node; the one created first is used"
            );
        }
        self.matching = matching;
        found.first().map(|(_, e)| e.texts.clone()).unwrap_or_default()
    }
}

impl Entry {
    fn new(name: &str, object: &FelixConfiguration) -> Option<Self> {
        let selector = object.spec.node_selector.as_deref().filter(|s| !s.is_empty())?;
        let invalid = |error: String| warn!(name, error, "FelixConfiguration is not valid: taken as absent");
        Some(Self {
            selector: Selector::parse(selector).map_err(|e| invalid(e.to_string())).ok()?,
            created: object.metadata.creation_timestamp.clone().unwrap_or_default(),
            texts: texts(object).map_err(invalid).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(selector: &str, created: &str, severity: &str) -> FelixConfiguration {
        let mut object = FelixConfiguration::default();
        object.spec.node_selector = Some(selector.to_owned());
        object.spec.log_severity_screen = Some(severity.to_owned());
        object.metadata.creation_timestamp = (!created.is_empty()).then(|| created.to_owned());
        object
    }

    /// Names of the objects' severities are the objects' names.
    fn used(objects: &[(&str, &str, &str)], labels: Option<&str>) -> String {
        let labels = labels.map(|role| BTreeMap::from([("role".to_owned(), role.to_owned())]));
        let given = |order: &mut dyn Iterator<Item = &(&str, &str, &str)>| {
            let mut config = SelectedConfig::default();
            order.for_each(|(name, s, created)| config.set(name, Some(&object(s, created, name))));
            config.of_node(labels.as_ref()).remove("LogSeverityScreen").unwrap_or_default()
        };
        let used = given(&mut objects.iter());
        assert_eq!(used, given(&mut objects.iter().rev()), "the order in which they come says nothing");
        used
    }

    #[test]
    fn of_several_that_match_the_oldest_counts_then_the_first_by_name() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        assert_eq!(used(&[("a", "all()", new), ("b", "role == 'edge'", old)], Some("edge")), "b");
        assert_eq!(used(&[("a", "all()", new), ("b", "role == 'edge'", old)], Some("core")), "a");
        assert_eq!(used(&[("b", "all()", old), ("a", "all()", old)], Some("edge")), "a");
        assert_eq!(used(&[("a", "all()", old), ("b", "all()", "")], Some("edge")), "b");
    }

    #[test]
    fn what_selects_nothing_is_for_nobody() {
        assert_eq!(used(&[("a", "", ""), ("b", "role ==", "")], Some("edge")), "");
        assert_eq!(used(&[("a", "all()", "")], None), "", "a node that is not known");
    }

    #[test]
    fn an_object_that_becomes_invalid_is_absent() {
        let mut config = SelectedConfig::default();
        let labels = BTreeMap::new();
        config.set("a", Some(&object("all()", "", "Debug")));
        assert_eq!(config.of_node(Some(&labels)).len(), 1);
        config.set("a", Some(&object("((", "", "Debug")));
        assert!(config.of_node(Some(&labels)).is_empty());
    }
}
