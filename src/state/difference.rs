//! What differs between two states of a stage, by resource.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Record, StageState};
use crate::model::{Fqn, Map};

/// One resource that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind, as the later state has it where it has it.
    pub kind: String,
    /// How it differs.
    #[serde(flatten)]
    pub change: Change,
}

/// How a resource differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Only the later state has it.
    Added,
    /// Only the earlier state has it.
    Removed,
    /// Both have it.
    Changed {
        /// What differs: `status`, `physical_name`, `props.size`, `outputs.id`.
        paths: Vec<String>,
    },
}

/// Every resource that differs, by name.
#[must_use]
pub fn differences(from: &StageState, to: &StageState) -> Vec<Difference> {
    let names: BTreeSet<&Fqn> = from.records.keys().chain(to.records.keys()).collect();
    names
        .into_iter()
        .filter_map(|fqn| {
            let (kind, change) = match (from.records.get(fqn), to.records.get(fqn)) {
                (Some(before), Some(after)) => {
                    let paths = changed(before, after);
                    (!paths.is_empty()).then_some((&after.kind, Change::Changed { paths }))?
                }
                (Some(before), None) => (&before.kind, Change::Removed),
                (None, Some(after)) => (&after.kind, Change::Added),
                (None, None) => return None,
            };
            Some(Difference {
                fqn: fqn.clone(),
                kind: kind.to_string(),
                change,
            })
        })
        .collect()
}

fn changed(before: &Record, after: &Record) -> Vec<String> {
    let mut out: Vec<String> = [
        ("kind", before.kind != after.kind),
        ("status", before.status != after.status),
        ("physical_name", before.physical_name != after.physical_name),
        ("instance", before.instance != after.instance),
        ("adopted", before.adopted != after.adopted),
        ("protect", before.protect != after.protect),
        ("retain", before.retain != after.retain),
        ("depends_on", before.depends_on != after.depends_on),
        ("attempted", before.attempted != after.attempted),
        (
            "attempted_names",
            before.attempted_names != after.attempted_names,
        ),
        ("old_objects", before.old_objects != after.old_objects),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(name, _)| name.to_owned())
    .collect();
    out.extend(keys("props", &before.props, &after.props));
    out.extend(keys("outputs", &before.outputs, &after.outputs));
    out
}

fn keys(of: &str, before: &Map, after: &Map) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{of}.{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests_support::{put, removed};

    #[test]
    fn what_is_new_gone_and_other_is_named() {
        let mut from = StageState::default();
        for entry in [
            put("app/dev/a", 1),
            put("app/dev/b", 1),
            put("app/dev/c", 1),
        ] {
            from.apply(&entry);
        }
        let mut to = from.clone();
        assert!(differences(&from, &to).is_empty());
        for entry in [
            put("app/dev/a", 2),
            removed("app/dev/b"),
            put("app/dev/d", 1),
        ] {
            to.apply(&entry);
        }
        let found: Vec<(String, Change)> = differences(&from, &to)
            .into_iter()
            .map(|difference| (difference.fqn.within_stage().to_owned(), difference.change))
            .collect();
        let paths = vec!["props.size".to_owned()];
        assert_eq!(
            found,
            [
                ("a".to_owned(), Change::Changed { paths }),
                ("b".to_owned(), Change::Removed),
                ("d".to_owned(), Change::Added),
            ]
        );
    }
}
