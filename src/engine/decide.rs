//! The lifecycle as a pure function: what state knows and what is declared, to what must happen.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{DeletePolicy, Map, ReplaceOrder, Secret, SecretMac, Value, value::SealedSecret},
    provider::{Change, Provider},
    secret::{Keyring, VaultError},
    state::{Record, Status},
};

use super::{
    event::Action,
    look::{Drift, Finding},
    node::Node,
    resolve::{PropsHash, has_plain_secret},
};

/// Why an object is made again.
const VANISHED: &str = "vanished at the provider";

/// What must happen to a declared resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Unchanged,
    /// Only `protect` or `delete` changed: the record is rewritten, the provider is not called.
    Repolicy,
    /// No object exists.
    Create,
    /// A create did not end well: look for the object before making one.
    ResumeCreate {
        /// What is there was begun with props that no update changes: it goes, and the object is made anew.
        anew: bool,
    },
    /// A delete did not end well: look whether the object is still there.
    ResumeDelete,
    /// The object changes in place.
    Update,
    /// Another object takes its place.
    Replace {
        /// The props that ask for it.
        reasons: Vec<String>,
        /// Whether the old object must go first.
        delete_first: bool,
    },
}

impl Decision {
    pub(super) fn action(&self) -> Action {
        match self {
            Self::Unchanged | Self::Repolicy => Action::Unchanged,
            Self::Create | Self::ResumeCreate { .. } | Self::ResumeDelete => Action::Create,
            Self::Update => Action::Update,
            Self::Replace { .. } => Action::Replace,
        }
    }
}

/// A decision and why, in words.
pub(super) struct Verdict {
    pub(super) decision: Decision,
    pub(super) reason: String,
}

/// Decides for a node whose dependencies are settled.
pub(super) fn decide(
    node: &Node,
    prior: Option<&Arc<Record>>,
    hash: &PropsHash,
    force: bool,
    found: Option<&Finding>,
    keyring: &Keyring,
) -> Result<Verdict, VaultError> {
    let verdict = |decision: Decision, reason: &str| {
        Ok(Verdict {
            decision,
            reason: reason.to_owned(),
        })
    };
    let Some(record) = prior else {
        return verdict(Decision::Create, "not in state");
    };
    if record.kind != node.kind {
        let decision = Decision::Replace {
            reasons: vec!["kind".to_owned()],
            delete_first: false,
        };
        return verdict(decision, &format!("kind was {}", record.kind));
    }
    match record.status {
        Status::Creating => {
            let next = comparable(node, record, hash, keyring)?;
            let change = change_of(node.provider.as_ref(), node, record, &next);
            let anew = matches!(change, Change::Replace(_));
            return verdict(
                Decision::ResumeCreate { anew },
                "its creation did not finish",
            );
        }
        Status::Deleting => {
            let next = comparable(node, record, hash, keyring)?;
            return match change_of(node.provider.as_ref(), node, record, &next) {
                Change::Replace(reasons) => {
                    let reason = format!(
                        "its deletion did not finish, and {} changed",
                        reasons.join(", ")
                    );
                    // What was to go first still goes first.
                    let delete_first = true;
                    verdict(
                        Decision::Replace {
                            reasons,
                            delete_first,
                        },
                        &reason,
                    )
                }
                _ => verdict(Decision::ResumeDelete, "its deletion did not finish"),
            };
        }
        Status::Ready | Status::Updating => {}
    }
    let vanished = found.is_some_and(|found| found.drift == Drift::Vanished);
    if hash.whole.as_ref() == Some(&record.props_hash) {
        if let Some(found) = found {
            return match &found.drift {
                // Looked at once more, by itself: lists may lag behind.
                Drift::Vanished => verdict(Decision::ResumeDelete, VANISHED),
                Drift::Changed { differences, .. } => {
                    let paths: Vec<String> = differences
                        .iter()
                        .map(|difference| difference.path.join("."))
                        .collect();
                    let reason = format!("{} changed at the provider", paths.join(", "));
                    verdict(Decision::Update, &reason)
                }
            };
        }
        if record.status == Status::Updating {
            return verdict(Decision::Update, "its last update did not finish");
        }
        if force {
            return verdict(Decision::Update, "forced");
        }
        let protect = node.options.protect.unwrap_or(false);
        let retain = node.options.retain.unwrap_or(false);
        if record.protect != protect || record.retain != retain {
            return verdict(Decision::Repolicy, "protection changed");
        }
        return verdict(Decision::Unchanged, "unchanged");
    }
    let next = comparable(node, record, hash, keyring)?;
    let change = change_of(node.provider.as_ref(), node, record, &next);
    match change {
        Change::Replace(reasons) => {
            let name = &node.checked.physical_name;
            let same_name = record.physical_name == *name || record.attempted_names.contains(name);
            let delete_first = same_name || node.schema().replace == ReplaceOrder::DeleteFirst;
            let reason = format!("{} changed", reasons.join(", "));
            verdict(
                Decision::Replace {
                    reasons,
                    delete_first,
                },
                &reason,
            )
        }
        Change::None | Change::Update if vanished => verdict(Decision::ResumeDelete, VANISHED),
        Change::None | Change::Update => {
            let changed: Vec<&str> = node
                .checked
                .props
                .keys()
                .chain(record.props.keys())
                .filter(|key| record.props.get(*key) != next.get(*key))
                .map(String::as_str)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect();
            let reason = if changed.is_empty() {
                "a value it refers to changed".to_owned()
            } else {
                format!("{} changed", changed.join(", "))
            };
            verdict(Decision::Update, &reason)
        }
    }
}

fn change_of(provider: &dyn Provider, node: &Node, record: &Record, next: &Map) -> Change {
    match provider.diff(&record.props, next) {
        // The name is part of no prop of the kind, and yet it is another object.
        Change::None if record.physical_name != node.checked.physical_name => {
            Change::Replace(vec!["name".to_owned()])
        }
        change => change,
    }
}

/// The declared props in the form in which a record's props can be compared with them: secrets by their keyed hash, and a
/// reference whose value is not the recorded one as something that equals nothing.
pub(super) fn comparable(
    node: &Node,
    record: &Record,
    hash: &PropsHash,
    keyring: &Keyring,
) -> Result<Map, VaultError> {
    let mut out = Map::new();
    for (key, value) in &node.checked.props {
        let vault = if has_plain_secret(value) {
            Some(keyring.vault()?)
        } else {
            None
        };
        let value = value.try_map_leaves::<VaultError>(&mut Vec::new(), &mut |_, leaf| {
            Ok(match leaf {
                Value::Secret(Secret::Plain(text)) => match vault {
                    Some(vault) => Value::Secret(Secret::Sealed(Arc::new(SealedSecret {
                        mac: vault.mac(text),
                        nonce: Vec::new(),
                        ciphertext: Vec::new(),
                        context: String::new(),
                    }))),
                    None => leaf.clone(),
                },
                Value::Ref(_) | Value::Template(_) => {
                    if references_changed(leaf, &hash.references, &record.reference_hashes) {
                        Value::Array(vec![Value::string("changed"), leaf.clone()])
                    } else {
                        leaf.clone()
                    }
                }
                other => other.clone(),
            })
        })?;
        out.insert(key.clone(), value);
    }
    Ok(out)
}

fn references_changed(
    value: &Value,
    now: &BTreeMap<String, String>,
    recorded: &BTreeMap<String, String>,
) -> bool {
    let mut changed = false;
    value.visit_references(&mut |reference| {
        let key = super::resolve::reference_key(reference);
        changed |= now.get(&key).is_none() || now.get(&key) != recorded.get(&key);
    });
    changed
}

/// Whether a replacement would lose data that nobody consented to lose. `old` says what deleting the old object costs.
pub(super) fn loses_data(old: DeletePolicy, record: &Record, decision: &Decision) -> bool {
    matches!(decision, Decision::Replace { .. }) && old == DeletePolicy::HoldsData && !record.retain
}
