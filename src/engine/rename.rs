//! Renames: a record under another FQN, and everything that refers to it, without touching an object.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::{Fqn, Map, Reference, TemplatePart, Value, value::Fingerprint},
    secret::{Keyring, VaultError, map_has_secret},
    state::{JournalEntry, Record, StageState},
};

use super::{
    resolve::{hash_props, reference_key},
    spelling::fold,
};

/// Why a rename is refused.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// State has nothing of the old name.
    #[error("`{0}` is not in state")]
    Missing(Fqn),
    /// The new name is taken.
    #[error("`{0}` is in state already")]
    Taken(Fqn),
    /// One of the two would be a resource and a scope at once.
    #[error(
        "`{to}` cannot be: `{other}` is in state, and a name is a resource or a scope, not both"
    )]
    InTheWay {
        /// The new name.
        to: Fqn,
        /// What is in state.
        other: Fqn,
    },
    /// A name in state differs from the new one only by case.
    #[error("`{0}` in state differs from `{1}` only by case")]
    Spelling(Fqn, Fqn),
    /// The two names belong to different stages.
    #[error("`{from}` and `{to}` are in different stages")]
    OtherStage {
        /// The old name.
        from: Fqn,
        /// The new name.
        to: Fqn,
    },
    /// A secret could not be sealed for its new place.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// The journal entries that rename `from`, a resource or a scope, to `to`: the records themselves and every record that
/// refers to them. O(records).
///
/// # Errors
/// [`RenameError`]; nothing has been changed then.
pub fn rename(
    state: &StageState,
    keyring: &Keyring,
    from: &Fqn,
    to: &Fqn,
) -> Result<Vec<JournalEntry>, RenameError> {
    if from.stage() != to.stage() {
        return Err(RenameError::OtherStage {
            from: from.clone(),
            to: to.clone(),
        });
    }
    let prefix = format!("{from}/");
    let mut names: BTreeMap<Fqn, Fqn> = BTreeMap::new();
    for fqn in state.records.keys() {
        let renamed = if fqn == from {
            to.as_str().to_owned()
        } else if let Some(rest) = fqn.as_str().strip_prefix(&prefix) {
            format!("{to}/{rest}")
        } else {
            continue;
        };
        let renamed = Fqn::parse(&renamed).map_err(|_| RenameError::Missing(from.clone()))?;
        if state.records.contains_key(&renamed) {
            return Err(RenameError::Taken(renamed));
        }
        names.insert(fqn.clone(), renamed);
    }
    // The folders of both would be one, for moments, where file systems do not tell case apart.
    let spellings: BTreeMap<String, &Fqn> = names.values().map(|fqn| (fold(fqn), fqn)).collect();
    for fqn in state.records.keys() {
        if let Some(renamed) = spellings.get(&fold(fqn))
            && *renamed != fqn
        {
            return Err(RenameError::Spelling(fqn.clone(), (*renamed).clone()));
        }
    }
    if names.is_empty() {
        return Err(RenameError::Missing(from.clone()));
    }
    check_nesting(state, &names)?;
    let mut entries = Vec::new();
    for record in state.records.values() {
        let refers = record.depends_on.iter().any(|fqn| names.contains_key(fqn))
            || record.props.values().any(|value| refers_to(value, &names));
        let renamed = names.get(&record.fqn);
        if renamed.is_none() && !refers {
            continue;
        }
        let changed = Arc::new(rewrite(record, renamed, &names, keyring)?);
        entries.push(match renamed {
            Some(_) => JournalEntry::Renamed {
                from: record.fqn.clone(),
                record: changed,
            },
            None => JournalEntry::Record(changed),
        });
    }
    Ok(entries)
}

/// Refuses a rename that would make a scope of a resource, or the other way round. O(records * depth).
fn check_nesting(state: &StageState, names: &BTreeMap<Fqn, Fqn>) -> Result<(), RenameError> {
    let stays = || state.records.keys().filter(|fqn| !names.contains_key(fqn));
    let staying: HashSet<&str> = stays().map(Fqn::as_str).collect();
    let coming: HashMap<&str, &Fqn> = names.values().map(|fqn| (fqn.as_str(), fqn)).collect();
    let in_the_way = |to: &Fqn, other: &str| RenameError::InTheWay {
        to: to.clone(),
        other: Fqn::parse(other).unwrap_or_else(|_| to.clone()),
    };
    for to in names.values() {
        if let Some(other) = above(to).find(|name| staying.contains(name)) {
            return Err(in_the_way(to, other));
        }
    }
    for fqn in stays() {
        if let Some(to) = above(fqn).find_map(|name| coming.get(name)) {
            return Err(in_the_way(to, fqn.as_str()));
        }
    }
    Ok(())
}

/// The names of the scopes around a resource, innermost first.
fn above(fqn: &Fqn) -> impl Iterator<Item = &str> {
    let text = fqn.as_str();
    text.rmatch_indices('/').map(|(at, _)| &text[..at])
}

fn refers_to(value: &Value, names: &BTreeMap<Fqn, Fqn>) -> bool {
    let mut found = false;
    value.visit_references(&mut |reference| found |= names.contains_key(&reference.fqn));
    found
}

fn rewrite(
    record: &Record,
    renamed: Option<&Fqn>,
    names: &BTreeMap<Fqn, Fqn>,
    keyring: &Keyring,
) -> Result<Record, VaultError> {
    let mut record = record.clone();
    let mut reference_hashes = BTreeMap::new();
    let mut hashes: BTreeMap<Reference, Fingerprint> = BTreeMap::new();
    for value in record.props.values() {
        value.visit_references(&mut |reference| {
            if let Some(hash) = record.reference_hashes.get(&reference_key(reference)) {
                let moved = move_reference(reference, names);
                reference_hashes.insert(reference_key(&moved), hash.clone());
                if let Some(fingerprint) = fingerprint_from_hex(hash) {
                    hashes.insert(moved, fingerprint);
                }
            }
        });
    }
    record.reference_hashes = reference_hashes;
    record.props = move_map(&record.props, names);
    for fqn in &mut record.depends_on {
        if let Some(name) = names.get(fqn) {
            *fqn = name.clone();
        }
    }
    if let Some(name) = renamed {
        record.fqn = name.clone();
        // The object is still called after the old id, and a kind that makes names from ids must not replace it for that.
        record.keeps_name = true;
        if map_has_secret(&record.props) || map_has_secret(&record.outputs) {
            let vault = keyring.vault()?;
            record.props = vault.seal_map(name, "props", &record.props)?;
            record.outputs = vault.seal_map(name, "outputs", &record.outputs)?;
        }
    }
    if !record.props_hash.is_empty() {
        record.props_hash = hash_props(
            keyring,
            &record.kind,
            &record.physical_name,
            &record.props,
            &|reference| {
                hashes
                    .get(reference)
                    .copied()
                    .unwrap_or(Fingerprint([0; 32]))
            },
        )?;
    }
    Ok(record)
}

pub(super) fn fingerprint_from_hex(text: &str) -> Option<Fingerprint> {
    let bytes = hex::decode(text).ok()?;
    Some(Fingerprint(bytes.try_into().ok()?))
}

fn move_reference(reference: &Reference, names: &BTreeMap<Fqn, Fqn>) -> Reference {
    Reference {
        fqn: names.get(&reference.fqn).unwrap_or(&reference.fqn).clone(),
        path: reference.path.clone(),
    }
}

fn move_map(map: &Map, names: &BTreeMap<Fqn, Fqn>) -> Map {
    map.iter()
        .map(|(key, value)| (key.clone(), move_value(value, names)))
        .collect()
}

fn move_value(value: &Value, names: &BTreeMap<Fqn, Fqn>) -> Value {
    match value {
        Value::Ref(reference) => Value::Ref(move_reference(reference, names)),
        Value::Template(parts) => Value::Template(
            parts
                .iter()
                .map(|part| match part {
                    TemplatePart::Ref(reference) => {
                        TemplatePart::Ref(move_reference(reference, names))
                    }
                    text @ TemplatePart::Text(_) => text.clone(),
                })
                .collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| move_value(item, names)).collect())
        }
        Value::Map(map) => Value::Map(move_map(map, names)),
        leaf => leaf.clone(),
    }
}
