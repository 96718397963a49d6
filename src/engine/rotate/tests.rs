//! A rotation that is cut short at any of its effects leaves the stage with the old key or with the new one.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    model::{AppName, Secret, StageName, StagePath},
    secret::KeyMaterial,
    state::{
        FileStore, JournalEntry, KeyCheck, LockRequest, Operation, StageState, StateError, Status,
        file::{Process, Processes},
        sim_disk::{Fault, Loss, SimDisk},
    },
    util::{
        clock::{Clock, SystemClock},
        ids::SystemIds,
    },
};

/// Only the process that was started last lives.
struct Newest(Arc<AtomicU32>);

impl Processes for Newest {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        Some(pid == self.0.load(Ordering::SeqCst))
    }
}

fn stage() -> StagePath {
    StagePath::new(AppName::new("app").unwrap(), StageName::new("dev").unwrap())
}

fn fqn(id: &str) -> Fqn {
    Fqn::parse(&format!("app/dev/{id}")).unwrap()
}

/// A process on the disk, the last one that was started.
fn start(disk: &SimDisk, newest: &Arc<AtomicU32>) -> FileStore {
    let pid = newest.fetch_add(1, Ordering::SeqCst) + 1;
    FileStore::over(
        ".alchemy",
        Arc::new(disk.clone()),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
        Process {
            owner: "me".to_owned(),
            host: "here".to_owned(),
            boot_id: "boot".to_owned(),
            pid,
            pid_start: 1,
        },
        Arc::new(Newest(Arc::clone(newest))),
    )
}

/// The keys of the test: files, so that nothing has to be stretched.
struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    fn ring(&self, name: &str, check: Option<KeyCheck>) -> Keyring {
        let path: &Path = self.folder.path();
        Keyring::new(
            stage(),
            check,
            KeyMaterial::File(path.join(name)),
            Arc::new(SystemIds),
        )
    }
}

fn secret(text: &str) -> Map {
    Map::from([
        ("key".to_owned(), Value::Secret(Secret::plain(text))),
        ("open".to_owned(), Value::string("visible")),
    ])
}

fn record(vault: &Vault, id: &str) -> Record {
    let name = fqn(id);
    let text = format!("secret of {id}");
    Record {
        fqn: name.clone(),
        kind: "test::Thing".into(),
        status: Status::Ready,
        physical_name: format!("{id}-dev"),
        instance: "i1".to_owned(),
        props: vault.seal_map(&name, "props", &secret(&text)).unwrap(),
        props_hash: String::new(),
        reference_hashes: BTreeMap::new(),
        outputs: vault.seal_map(&name, "outputs", &secret(&text)).unwrap(),
        depends_on: Vec::new(),
        adopted: false,
        protect: false,
        retain: false,
        keeps_name: false,
        attempted: crate::model::Map::new(),
        attempted_names: Vec::new(),
        old_objects: Vec::new(),
        position: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        updated_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// A stage with secrets in records, in a record with hashes that rest on them, and in an open intent.
fn sealed_stage(keys: &Keys) -> StageState {
    let keyring = keys.ring("old", None);
    let vault = keyring.vault().unwrap();
    let mut state = StageState::default();
    let one = record(vault, "one");
    let mut two = record(vault, "two");
    let reference = Reference {
        fqn: fqn("one"),
        path: vec!["key".to_owned()],
    };
    let value = one.outputs["key"].clone();
    let hash = hash_of(&keyring, &value).unwrap();
    two.props
        .insert("of".to_owned(), Value::Ref(reference.clone()));
    two.reference_hashes
        .insert(reference_key(&reference), hash.to_hex());
    two.props_hash = hash_of_props(&keyring, &two, &HashMap::from([(reference, hash)])).unwrap();
    let mut changed = record(vault, "changed");
    changed.props_hash = "0".repeat(64);
    for record in [one, two, changed] {
        state.records.insert(record.fqn.clone(), Arc::new(record));
    }
    let name = fqn("begun");
    let intent = Intent {
        fqn: name.clone(),
        kind: "test::Thing".into(),
        operation: Operation::Create,
        physical_name: "begun-dev".to_owned(),
        instance: "i2".to_owned(),
        props_hash: String::new(),
        props: vault
            .seal_map(&name, "props", &secret("secret of begun"))
            .unwrap(),
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    state.open_intents.insert(name, Arc::new(intent));
    state.header.key = keyring.key_check();
    state
}

/// Opens everything with the one key that the stage names; answers which of the two it is.
fn opens_with(keys: &Keys, state: &StageState) -> &'static str {
    let check = state.header.key.clone();
    let names = ["old", "new"];
    let fitting: Vec<_> = names
        .into_iter()
        .filter(|name| keys.ring(name, check.clone()).vault().is_ok())
        .collect();
    let [name] = fitting[..] else {
        panic!("keys that fit: {fitting:?}");
    };
    let keyring = keys.ring(name, check);
    let vault = keyring.vault().unwrap();
    for record in state.records.values() {
        let text = format!("secret of {}", record.fqn.id());
        for map in [&record.props, &record.outputs] {
            let opened = vault.open_map(map).unwrap();
            assert_eq!(opened["key"], secret(&text)["key"], "{}", record.fqn);
        }
    }
    assert_eq!(state.records.len(), 3);
    let intent = &state.open_intents[&fqn("begun")];
    let opened = vault.open_map(&intent.props).unwrap();
    assert_eq!(opened["key"], secret("secret of begun")["key"]);
    let (one, two) = (&state.records[&fqn("one")], &state.records[&fqn("two")]);
    let hash = hash_of(&keyring, &one.outputs["key"]).unwrap();
    assert_eq!(two.reference_hashes["app/dev/one.key"], hash.to_hex());
    let reference = references(&two.props)[0].clone();
    let whole = hash_of_props(&keyring, two, &HashMap::from([(reference, hash)])).unwrap();
    assert_eq!(two.props_hash, whole, "a run would see a change");
    // What was not what the script said before is not taken for it now.
    assert_eq!(state.records[&fqn("changed")].props_hash, "0".repeat(64));
    name
}

fn request() -> LockRequest {
    LockRequest {
        wait: Duration::ZERO,
        command: "alch secrets rotate".to_owned(),
    }
}

/// A disk with the stage on it.
async fn prepared(keys: &Keys, state: &StageState) -> (SimDisk, Arc<AtomicU32>) {
    let disk = SimDisk::new(Arc::new(SystemClock) as Arc<dyn Clock>);
    let newest = Arc::new(AtomicU32::new(0));
    let session = start(&disk, &newest)
        .open(&stage(), request())
        .await
        .unwrap();
    let whole = Snapshot::of(&stage(), state);
    session
        .append(vec![JournalEntry::Replaced(Arc::new(whole))])
        .await
        .unwrap();
    session.checkpoint(state.header.clone()).await.unwrap();
    session.release().await.unwrap();
    let loaded = start(&disk, &newest).load(&stage()).await.unwrap();
    assert_eq!(opens_with(keys, &loaded.unwrap()), "old");
    (disk, newest)
}

async fn rotate_once(
    disk: &SimDisk,
    newest: &Arc<AtomicU32>,
    keys: &Keys,
) -> Result<(), StateError> {
    let store = start(disk, newest);
    let session = store.open(&stage(), request()).await?;
    let state = session.take_state();
    let check = state.header.key.clone();
    let old = keys.ring("old", check.clone());
    let new = match old.vault() {
        Ok(_) => {
            let new = keys.ring("new", None);
            let rotation = rotate(Snapshot::of(&stage(), &state), &old, &new).unwrap();
            // Two maps of each of three records, and the intent.
            assert_eq!(rotation.values, 7);
            write(session.as_ref(), rotation).await?;
            new
        }
        // An earlier one was cut short when the stage had the new key, but not its backups.
        Err(_) => {
            session.checkpoint(state.header.clone()).await?;
            keys.ring("new", check)
        }
    };
    let old = |check: &KeyCheck| Some(keys.ring("old", Some(check.clone())));
    let done = backups(&store, &stage(), session.as_ref(), &old, &new).await?;
    assert_eq!(done.left, 0);
    session.release().await
}

/// That nothing of the stage opens with the old key any more.
async fn all_new(keys: &Keys, disk: &SimDisk, newest: &Arc<AtomicU32>, case: &str) {
    let store = start(disk, newest);
    let last = store.load(&stage()).await.unwrap().unwrap();
    assert_eq!(opens_with(keys, &last), "new", "{case}");
    let found = store.backups(&stage()).await.unwrap();
    // A checkpoint that dies between its backup and its first record leaves the next one to make the same again.
    assert!(matches!(found.len(), 1 | 2), "{case}: {found:?}");
    for backup in found {
        let snapshot = store.backup(&stage(), &backup.name).await.unwrap();
        assert_eq!(snapshot.records.len(), 3, "{case}");
        let keyring = keys.ring("new", snapshot.header.key.clone());
        let vault = keyring
            .vault()
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        for record in snapshot.records.values() {
            let text = format!("secret of {}", record.fqn.id());
            let opened = vault.open_map(&record.props).unwrap();
            assert_eq!(opened["key"], secret(&text)["key"], "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_a_rotation_is_cut_short_one_key_opens_all() {
    let keys = Keys {
        folder: tempfile::tempdir().unwrap(),
    };
    let state = sealed_stage(&keys);
    // Both key files are there before, so that which one fits is all there is to tell.
    keys.ring("new", None).vault().unwrap();
    let (disk, newest) = prepared(&keys, &state).await;
    let before = disk.effects();
    rotate_once(&disk, &newest, &keys).await.unwrap();
    let effects = disk.effects() - before;
    all_new(&keys, &disk, &newest, "undisturbed").await;
    assert!(effects > 14, "{effects}");

    let mut kept = [0, 0];
    for at in 1..=effects {
        for fault in [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter] {
            for loss in [Loss::Nothing, Loss::Everything, Loss::Some(at)] {
                let (disk, newest) = prepared(&keys, &state).await;
                disk.strike(at, fault);
                let cut = rotate_once(&disk, &newest, &keys).await;
                disk.reboot(loss);
                let case = format!("{fault:?} at {at}, {loss:?}: {cut:?}");
                let session = start(&disk, &newest)
                    .open(&stage(), request())
                    .await
                    .unwrap_or_else(|error| panic!("{case}: {error}"));
                let found = session.take_state();
                session.release().await.unwrap();
                match opens_with(&keys, &found) {
                    "old" => {
                        kept[0] += 1;
                        assert!(cut.is_err(), "{case}: said to be done");
                    }
                    _ => kept[1] += 1,
                }
                rotate_once(&disk, &newest, &keys).await.unwrap();
                all_new(&keys, &disk, &newest, &case).await;
            }
        }
    }
    // Both must have been met, or the faults did not strike where they should.
    assert!(kept[0] > 0 && kept[1] > 0, "{kept:?}");
}

#[tokio::test]
async fn what_does_not_open_is_told_before_anything_is_written() {
    let keys = Keys {
        folder: tempfile::tempdir().unwrap(),
    };
    let state = sealed_stage(&keys);
    keys.ring("other", None).vault().unwrap();
    let wrong = keys.ring("other", state.header.key.clone());
    let new = keys.ring("new", None);
    let error = rotate(Snapshot::of(&stage(), &state), &wrong, &new).unwrap_err();
    assert!(matches!(error, VaultError::WrongKeyFile { .. }), "{error}");
}
