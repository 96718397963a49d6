//! Rotation of a stage's key: every sealed value is opened with the old key and sealed with a new one.
//!
//! Hashes that rest on secrets change with the key, and a run compares hashes: so those that were true under the old key are made
//! anew, and a run after the rotation changes nothing. A hash that was not true (what it is of has changed since) is left as it
//! is, so that the next run still sees the change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    model::{Fqn, Map, Reference, StagePath, Value, value::Fingerprint},
    secret::{Keyring, Vault, VaultError},
    state::{Intent, JournalEntry, KeyCheck, Record, Session, Snapshot, StateError, Store},
};

use super::{
    rename::fingerprint_from_hex,
    resolve::{fingerprint, hash_props, reference_key, references},
};

/// A stage under another key.
#[derive(Debug)]
pub struct Rotation {
    /// The whole stage, to be written in one step.
    pub snapshot: Snapshot,
    /// How many values were sealed anew.
    pub values: usize,
}

/// Seals all secrets of a stage with the key of `new` instead of that of `old`. O(records and references).
///
/// # Errors
/// [`VaultError`] when the old key is not that of the stage, or a value does not open.
pub fn rotate(snapshot: Snapshot, old: &Keyring, new: &Keyring) -> Result<Rotation, VaultError> {
    let (from, to) = (old.vault()?, new.vault()?);
    let mut sealed = Resealing {
        from,
        to,
        values: 0,
    };
    let mut records = BTreeMap::new();
    for (fqn, record) in &snapshot.records {
        records.insert(fqn.clone(), sealed.record(record)?);
    }
    let mut open_intents = BTreeMap::new();
    for (fqn, intent) in &snapshot.open_intents {
        let props = sealed.map(&intent.props)?;
        let intent = Intent {
            props,
            ..intent.as_ref().clone()
        };
        open_intents.insert(fqn.clone(), Arc::new(intent));
    }
    let values = sealed.values;
    let mut rehashed = BTreeMap::new();
    for (fqn, record) in &records {
        let before = &snapshot.records[fqn];
        let record = rehash(new, before, record, &snapshot.records, &records)?;
        rehashed.insert(fqn.clone(), Arc::new(record));
    }
    let mut header = snapshot.header.clone();
    header.key = new.key_check();
    Ok(Rotation {
        snapshot: Snapshot {
            header,
            records: rehashed,
            open_intents,
            ..snapshot
        },
        values,
    })
}

/// Writes a rotation: one entry, so that whatever happens the stage has all of the old key or all of the new one.
///
/// # Errors
/// [`StateError`]; which of the two it has is seen when it is opened again.
pub async fn write(session: &dyn Session, rotation: Rotation) -> Result<(), StateError> {
    let header = rotation.snapshot.header.clone();
    let entry = JournalEntry::Replaced(Arc::new(rotation.snapshot));
    session.append(vec![entry]).await?;
    session.checkpoint(header).await
}

/// What became of the backups of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backups {
    /// How many are sealed with the new key now, and were not before.
    pub resealed: usize,
    /// How many stay as they were: damaged, or sealed with a key that is not given.
    pub left: usize,
}

/// Seals the backups of a stage with the key of `new`, one after the other, each in one step. `old` answers a keyring for the key of
/// a backup. Those that have the new key already are passed over, so that a rotation that was cut short goes on.
///
/// # Errors
/// [`StateError`] when a backup cannot be written, or the store cannot be read.
pub async fn backups(
    store: &dyn Store,
    stage: &StagePath,
    session: &dyn Session,
    old: &(dyn Fn(&KeyCheck) -> Option<Keyring> + Sync),
    new: &Keyring,
) -> Result<Backups, StateError> {
    let mut done = Backups::default();
    // Stretching a password takes long, and most backups have the same key.
    let mut known: Vec<(KeyCheck, Option<Keyring>)> = Vec::new();
    for backup in store.backups(stage).await? {
        let snapshot = match store.backup(stage, &backup.name).await {
            Ok(snapshot) => snapshot,
            Err(StateError::Corrupt { .. } | StateError::TooNew { .. }) => {
                done.left += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(check) = snapshot.header.key.clone() else {
            continue;
        };
        if new.key_check().as_ref() == Some(&check) {
            continue;
        }
        let place = match known.iter().position(|(known, _)| *known == check) {
            Some(place) => place,
            None => {
                let keyring = old(&check);
                known.push((check, keyring));
                known.len() - 1
            }
        };
        let rotated = known[place]
            .1
            .as_ref()
            .and_then(|old| rotate(snapshot, old, new).ok());
        match rotated {
            Some(rotation) => {
                session
                    .rewrite_backup(&backup.name, rotation.snapshot)
                    .await?;
                done.resealed += 1;
            }
            None => done.left += 1,
        }
    }
    Ok(done)
}

struct Resealing<'a> {
    from: &'a Vault,
    to: &'a Vault,
    values: usize,
}

impl Resealing<'_> {
    fn map(&mut self, map: &Map) -> Result<Map, VaultError> {
        self.to.reseal_map(self.from, map, &mut self.values)
    }

    fn record(&mut self, record: &Record) -> Result<Record, VaultError> {
        let mut record = record.clone();
        record.props = self.map(&record.props)?;
        record.outputs = self.map(&record.outputs)?;
        for object in &mut record.old_objects {
            object.props = self.map(&object.props)?;
            object.outputs = self.map(&object.outputs)?;
        }
        Ok(record)
    }
}

/// The record with the hashes that were true `before` made true again.
fn rehash(
    keyring: &Keyring,
    before: &Record,
    record: &Record,
    all_before: &BTreeMap<Fqn, Arc<Record>>,
    all: &BTreeMap<Fqn, Record>,
) -> Result<Record, VaultError> {
    let mut record = record.clone();
    let mut hashes_before: HashMap<Reference, Fingerprint> = HashMap::new();
    let mut hashes: HashMap<Reference, Fingerprint> = HashMap::new();
    for reference in references(&before.props) {
        let key = reference_key(&reference);
        let Some(recorded) = before
            .reference_hashes
            .get(&key)
            .and_then(|hash| fingerprint_from_hex(hash))
        else {
            continue;
        };
        let value_before = all_before
            .get(&reference.fqn)
            .and_then(|target| value_of(target, &reference));
        let value = all
            .get(&reference.fqn)
            .and_then(|target| value_of(target, &reference));
        let mut now = recorded;
        if let (Some(value_before), Some(value)) = (value_before, value)
            && hash_of(keyring, &value_before)? == recorded
        {
            now = hash_of(keyring, &value)?;
            record.reference_hashes.insert(key, now.to_hex());
        }
        hashes_before.insert(reference.clone(), recorded);
        hashes.insert(reference, now);
    }
    if !before.props_hash.is_empty()
        && hash_of_props(keyring, before, &hashes_before)? == before.props_hash
    {
        record.props_hash = hash_of_props(keyring, &record, &hashes)?;
    }
    Ok(record)
}

/// What a reference stands for, where secrets may be in it: an output, or all of them for a kind with open attributes.
fn value_of(target: &Record, reference: &Reference) -> Option<Value> {
    match reference.path.split_first() {
        Some((first, rest)) => target.outputs.get(first)?.at(rest).cloned(),
        None => Some(Value::Array(vec![
            Value::string(target.kind.as_ref()),
            Value::Map(target.outputs.clone()),
        ])),
    }
}

fn hash_of(keyring: &Keyring, value: &Value) -> Result<Fingerprint, VaultError> {
    fingerprint(keyring, value, &|_| Fingerprint([0; 32]))
}

fn hash_of_props(
    keyring: &Keyring,
    record: &Record,
    hashes: &HashMap<Reference, Fingerprint>,
) -> Result<String, VaultError> {
    hash_props(
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
    )
}

#[cfg(test)]
mod tests;
