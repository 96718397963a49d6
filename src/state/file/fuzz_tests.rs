//! Random and mutated bytes for everything that reads state: no panic, and nothing believed that was not written.
//!
//! `PROPTEST_CASES` says how many cases each target gets; `scripts/fuzz` runs many. Seeds are files as alch writes them.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    envelope::{seal, unseal},
    journal::{JournalHeader, Payloads, decode, encode_batch, encode_new, salvage},
};
use crate::state::{
    Record, Snapshot, StageState,
    record::{FORMAT, from_json},
    tests_support::{intent, put, record, removed, stage},
};

/// A change to bytes.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Copy(Index, Index, u8),
    Zero(Index, u16),
    Cut(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (index(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (index(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (index(), any::<u8>()).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (index(), index(), any::<u8>())
            .prop_map(|(from, to, length)| Mutation::Copy(from, to, length)),
        (index(), any::<u16>()).prop_map(|(at, length)| Mutation::Zero(at, length)),
        index().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
        Mutation::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Mutation::Insert(at, more) => {
            let at = at.index(length);
            bytes.splice(at..at, more.iter().copied());
        }
        Mutation::Remove(at, count) => {
            let at = at.index(length);
            bytes.drain(at..length.min(at + usize::from(*count)));
        }
        Mutation::Copy(from, to, count) => {
            let (from, to) = (from.index(length), to.index(length));
            let piece = bytes[from..length.min(from + usize::from(*count))].to_vec();
            bytes.splice(to..to, piece);
        }
        Mutation::Zero(at, count) => {
            let at = at.index(length);
            bytes[at..length.min(at + usize::from(*count))].fill(0);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(length)),
    }
}

fn mutated(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    vec(mutation(), 1..6).prop_map(move |mutations| {
        let mut bytes = seed.clone();
        for one in &mutations {
            mutate(&mut bytes, one);
        }
        bytes
    })
}

/// A journal of four batches, and its entries.
fn journal() -> (Vec<u8>, Vec<crate::state::JournalEntry>) {
    let header = JournalHeader {
        format: FORMAT,
        lineage: "lineage".to_owned(),
        serial: 3,
        epoch: 2,
    };
    let batches = [
        vec![intent("app/dev/a")],
        vec![put("app/dev/a", 1), put("app/dev/b", 2)],
        vec![removed("app/dev/b")],
        vec![put("app/dev/s/c", 3), intent("app/dev/d")],
    ];
    let mut bytes = encode_new(&header, &Payloads::default()).unwrap();
    for (index, batch) in batches.iter().enumerate() {
        let payloads = Payloads::of(batch).unwrap();
        let number = u32::try_from(index).unwrap() + 1;
        let length = bytes.len() as u64;
        bytes.extend(encode_batch(length, 2, number, std::iter::once(&payloads)));
    }
    (bytes, batches.concat())
}

fn snapshot() -> Snapshot {
    let mut state = StageState::default();
    for entry in [
        put("app/dev/a", 1),
        put("app/dev/s/b", 2),
        intent("app/dev/c"),
    ] {
        state.apply(&entry);
    }
    Snapshot::of(&stage("app/dev"), &state)
}

proptest! {
    #[test]
    fn fuzz_journal(bytes in mutated(journal().0)) {
        let (_, entries) = journal();
        // Entries that were never written are never read, whatever else became of the file.
        if let Ok(found) = decode(&bytes) {
            prop_assert!(found.entries.iter().all(|entry| entries.contains(entry)));
            prop_assert!(found.good_length <= bytes.len());
        }
        if let Ok(Some(found)) = salvage(&bytes) {
            prop_assert!(found.entries.iter().all(|entry| entries.contains(entry)));
        }
    }

    #[test]
    fn fuzz_journal_of_random_bytes(bytes in vec(any::<u8>(), 0..4096)) {
        prop_assert!(decode(&bytes).is_err());
        let mut file = journal().0;
        let length = file.len();
        file.extend(&bytes);
        // Whatever stands behind a whole journal is no entry of it.
        if let Ok(found) = decode(&file) {
            prop_assert_eq!(found.good_length, length);
            prop_assert_eq!(found.entries, journal().1);
        }
    }

    #[test]
    fn fuzz_record(bytes in mutated(seal(&record("app/dev/x", 1)).unwrap().0)) {
        let good = record("app/dev/x", 1);
        if let Ok((json, _)) = unseal(&bytes) {
            prop_assert_eq!(from_json::<Record>(json).unwrap(), good);
        }
    }

    /// Behind the checksum: a record that some other program wrote.
    #[test]
    fn fuzz_record_with_a_right_checksum(json in mutated(serde_json::to_vec(&record("app/dev/x", 1)).unwrap())) {
        if let Ok(text) = serde_json::from_slice::<&serde_json::value::RawValue>(&json) {
            let (bytes, _) = seal(&text).unwrap();
            let (json, _) = unseal(&bytes).unwrap();
            if let Ok(read) = from_json::<Record>(json) {
                let again = serde_json::to_vec(&read).unwrap();
                prop_assert_eq!(from_json::<Record>(&again).unwrap(), read);
            }
        }
    }

    #[test]
    fn fuzz_export(bytes in mutated(snapshot().to_file().unwrap())) {
        if let Ok(found) = Snapshot::from_file(&bytes) {
            prop_assert_eq!(found, snapshot());
        }
    }

    #[test]
    fn fuzz_export_of_random_bytes(bytes in vec(any::<u8>(), 0..2048)) {
        prop_assert!(Snapshot::from_file(&bytes).is_err());
    }

    /// Behind the checksum: an export that somebody edited, and signed again.
    #[test]
    fn fuzz_export_with_a_right_checksum(json in mutated(serde_json::to_vec(&snapshot()).unwrap())) {
        if let Ok(text) = serde_json::from_slice::<&serde_json::value::RawValue>(&json) {
            let (bytes, _) = seal(&text).unwrap();
            if let Ok(found) = Snapshot::from_file(&bytes) {
                prop_assert!(found.contradiction().is_none());
                prop_assert_eq!(Snapshot::from_file(&found.to_file().unwrap()).unwrap(), found);
            }
        }
    }
}
