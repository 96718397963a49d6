//! Records, stages and entries for the tests of this module.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Intent, JournalEntry, Operation, Record, Snapshot, StageState, Status};
use crate::model::{AppName, Fqn, Map, StageName, StagePath, Value};

pub(crate) fn stage(text: &str) -> StagePath {
    let (app, stage) = text.split_once('/').unwrap();
    StagePath::new(AppName::new(app).unwrap(), StageName::new(stage).unwrap())
}

pub(crate) fn record(fqn: &str, version: i64) -> Record {
    Record {
        fqn: Fqn::parse(fqn).unwrap(),
        kind: "test::Thing".into(),
        status: Status::Ready,
        physical_name: format!("{fqn}-physical"),
        instance: "i1".to_owned(),
        props: Map::from([
            ("size".to_owned(), Value::Int(version)),
            ("name".to_owned(), Value::string(fqn)),
        ]),
        props_hash: format!("{version:064x}"),
        reference_hashes: std::collections::BTreeMap::new(),
        outputs: Map::from([("id".to_owned(), Value::string(fqn))]),
        depends_on: Vec::new(),
        adopted: false,
        protect: false,
        retain: false,
        keeps_name: false,
        attempted: Map::new(),
        attempted_names: Vec::new(),
        old_objects: Vec::new(),
        position: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn put(fqn: &str, version: i64) -> JournalEntry {
    JournalEntry::Record(Arc::new(record(fqn, version)))
}

pub(crate) fn removed(fqn: &str) -> JournalEntry {
    JournalEntry::Removed {
        fqn: Fqn::parse(fqn).unwrap(),
    }
}

pub(crate) fn intent(fqn: &str) -> JournalEntry {
    JournalEntry::Intent(Arc::new(Intent {
        fqn: Fqn::parse(fqn).unwrap(),
        kind: "test::Thing".into(),
        operation: Operation::Create,
        physical_name: "p".to_owned(),
        instance: "i1".to_owned(),
        props_hash: String::new(),
        props: Map::new(),
        at: Timestamp::UNIX_EPOCH,
    }))
}

/// Everything of `stage` is replaced by these records.
pub(crate) fn replaced(stage: &StagePath, records: &[(&str, i64)]) -> JournalEntry {
    let mut state = StageState::default();
    for (name, version) in records {
        state.apply(&put(name, *version));
    }
    JournalEntry::Replaced(Arc::new(Snapshot::of(stage, &state)))
}
