//! What every [`Store`] must do, run over all of them.

#[path = "../../tests/support/s3.rs"]
#[expect(
    clippy::disallowed_methods,
    reason = "shared with the tests of the built program"
)]
mod s3;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use object_store::ObjectStore;

use super::{
    BucketStore, Deployment, FileStore, LockRequest, MemoryStore, Retention, Session, SharedStore,
    StageHeader, StageState, StateError,
    bucket::{BucketConfig, BucketKeys},
    disk::RealDisk,
    file::{Process, Processes},
    tests_support::{intent, put, record, removed, replaced, stage},
};
use crate::{
    model::Fqn,
    state::JournalEntry,
    util::{
        clock::SystemClock,
        ids::{Ids as _, SystemIds},
    },
};

/// A store, and what makes it look as if the process that used it had died.
struct Subject {
    name: &'static str,
    reopen: Box<dyn Fn() -> SharedStore>,
    _folder: tempfile::TempDir,
}

/// Only the last process that was started lives.
struct OnlyNewest(Arc<std::sync::atomic::AtomicU32>);

impl Processes for OnlyNewest {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        Some(pid == self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

fn subjects() -> Vec<Subject> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join(".alchemy");
    let newest = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let files = move || -> SharedStore {
        let pid = newest.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        Arc::new(
            FileStore::over(
                &root,
                Arc::new(RealDisk),
                Arc::new(SystemClock),
                Arc::new(SystemIds),
                Process {
                    pid,
                    ..test_process()
                },
                Arc::new(OnlyNewest(Arc::clone(&newest))),
            )
            .with_retention(Retention { backups: 2 }),
        )
    };
    let memory = MemoryStore::new(Arc::new(SystemClock), Arc::new(SystemIds));
    let mut subjects = vec![
        Subject {
            name: "file",
            reopen: Box::new(files),
            _folder: folder,
        },
        Subject {
            name: "memory",
            reopen: Box::new(move || Arc::new(memory.clone())),
            _folder: tempfile::tempdir().unwrap(),
        },
        bucket(
            "bucket",
            Arc::new(object_store::memory::InMemory::new()),
            "",
        ),
    ];
    if let Some((store, prefix)) = server() {
        subjects.push(bucket("S3 server", store, &prefix));
    }
    subjects
}

fn bucket(name: &'static str, bucket: Arc<dyn ObjectStore>, prefix: &str) -> Subject {
    let newest = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let prefix = object_store::path::Path::parse(prefix).unwrap();
    let reopen = move || -> SharedStore {
        let pid = newest.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let store = BucketStore::over(
            Arc::clone(&bucket),
            "s3://test",
            prefix.clone(),
            Arc::new(SystemClock),
            Arc::new(SystemIds),
            Process {
                pid,
                ..test_process()
            },
            Arc::new(OnlyNewest(Arc::clone(&newest))),
        );
        Arc::new(store.with_retention(Retention { backups: 2 }))
    };
    Subject {
        name,
        reopen: Box::new(reopen),
        _folder: tempfile::tempdir().unwrap(),
    }
}

/// A fresh folder in a real S3-compatible server, where one is installed.
fn server() -> Option<(Arc<dyn ObjectStore>, String)> {
    let server = s3::server()?;
    let config = BucketConfig {
        bucket: s3::BUCKET.to_owned(),
        endpoint: Some(server.endpoint.clone()),
        ..BucketConfig::default()
    };
    let keys = BucketKeys {
        access_key_id: s3::ACCESS_KEY_ID.to_owned(),
        secret_access_key: s3::SECRET_ACCESS_KEY.to_owned().into(),
        session_token: None,
    };
    let folder = SystemIds.ulid(Timestamp::now());
    Some((
        config.client(&keys, super::bucket::DEFAULT_TTL).unwrap(),
        format!("conformance/{folder}"),
    ))
}

fn test_process() -> Process {
    Process {
        owner: "me".to_owned(),
        host: "here".to_owned(),
        boot_id: "boot".to_owned(),
        pid: 1,
        pid_start: 1,
    }
}

fn request() -> LockRequest {
    LockRequest {
        wait: Duration::ZERO,
        command: "alch run".to_owned(),
    }
}

async fn open(store: &SharedStore) -> Box<dyn Session> {
    store.open(&stage("app/dev"), request()).await.unwrap()
}

async fn load(store: &SharedStore) -> Option<StageState> {
    store.load(&stage("app/dev")).await.unwrap()
}

fn fqn(text: &str) -> Fqn {
    Fqn::parse(text).unwrap()
}

fn names(state: &StageState) -> Vec<&str> {
    state.records.keys().map(Fqn::as_str).collect()
}

fn header(order: &[&str]) -> StageHeader {
    StageHeader {
        order: order.iter().map(|name| fqn(name)).collect(),
        ..StageHeader::default()
    }
}

macro_rules! conformance {
    ($($name:ident => |$subject:ident| $body:block)*) => {$(
        #[tokio::test]
        async fn $name() {
            for $subject in subjects() {
                tracing::info!("{}", $subject.name);
                $body
            }
        }
    )*};
}

conformance! {
    a_stage_that_was_never_written_is_not_there => |subject| {
        let store = (subject.reopen)();
        assert!(load(&store).await.is_none());
        let session = open(&store).await;
        assert!(session.take_state().is_empty());
        session.checkpoint(StageHeader::default()).await.unwrap();
        session.release().await.unwrap();
        assert!(load(&store).await.is_none(), "{}", subject.name);
        assert!(store.apps().await.unwrap().is_empty());
    }

    what_was_appended_survives_a_death => |subject| {
        let session = open(&(subject.reopen)()).await;
        session.append(vec![intent("app/dev/a"), put("app/dev/a", 1)]).await.unwrap();
        session.append(vec![intent("app/dev/scope/b")]).await.unwrap();
        drop(session);

        let store = (subject.reopen)();
        let state = load(&store).await.unwrap();
        assert_eq!(names(&state), ["app/dev/a"], "{}", subject.name);
        let session = open(&store).await;
        let state = session.take_state();
        assert_eq!(*state.records[&fqn("app/dev/a")], record("app/dev/a", 1));
        assert!(state.open_intents.contains_key(&fqn("app/dev/scope/b")));
        assert!(session.take_state().is_empty(), "the state is handed out once");
        assert_eq!(session.epoch(), 2);
        assert!(!state.lineage.is_empty());
    }

    a_checkpoint_keeps_records_and_open_intents => |subject| {
        let session = open(&(subject.reopen)()).await;
        session.append(vec![put("app/dev/a", 1), put("app/dev/s/t/b", 1), put("app/dev/c", 1)]).await.unwrap();
        session.append(vec![intent("app/dev/d")]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.append(vec![put("app/dev/a", 2), removed("app/dev/s/t/b")]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();

        let store = (subject.reopen)();
        let state = load(&store).await.unwrap();
        assert_eq!(names(&state), ["app/dev/a", "app/dev/c"], "{}", subject.name);
        assert_eq!(*state.records[&fqn("app/dev/a")], record("app/dev/a", 2));
        assert_eq!(state.header, header(&["app/dev/a"]));
        assert!(state.open_intents.contains_key(&fqn("app/dev/d")));
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
        assert_eq!(store.stages(&stage("app/dev").app).await.unwrap(), [stage("app/dev")]);
    }

    the_stage_of_a_test_is_kept_but_not_listed => |subject| {
        let test = fqn("app/test:smoke:dev/a").stage();
        let session = (subject.reopen)().open(&test, request()).await.unwrap();
        session.append(vec![put("app/test:smoke:dev/a", 1)]).await.unwrap();
        session.checkpoint(header(&["app/test:smoke:dev/a"])).await.unwrap();
        session.release().await.unwrap();
        let store = (subject.reopen)();
        assert_eq!(names(&store.load(&test).await.unwrap().unwrap()), ["app/test:smoke:dev/a"]);
        assert!(load(&store).await.is_none());
        assert!(store.stages(&test.app).await.unwrap().is_empty());
        let all = store.all_stages(&test.app).await.unwrap();
        assert!(all.len() == 1 && all[0] == test, "{}: {all:?}", subject.name);
    }

    a_renamed_record_leaves_its_old_name => |subject| {
        let session = open(&(subject.reopen)()).await;
        session.append(vec![put("app/dev/old", 1)]).await.unwrap();
        session.checkpoint(header(&[])).await.unwrap();
        let moved = JournalEntry::Renamed { from: fqn("app/dev/old"), record: Arc::new(record("app/dev/s/new", 1)) };
        session.append(vec![moved]).await.unwrap();
        session.checkpoint(header(&["app/dev/s/new"])).await.unwrap();
        drop(session);
        let store = (subject.reopen)();
        assert_eq!(names(&load(&store).await.unwrap()), ["app/dev/s/new"], "{}", subject.name);
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
    }

    a_lock_excludes_names_its_holder_and_is_given_back => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        let error = store.open(&stage("app/dev"), request()).await.err().unwrap();
        assert!(matches!(&error, StateError::Locked { holder, .. } if holder.command == "alch run"), "{error}");
        let other = store.open(&stage("app/prod"), request()).await.unwrap();
        other.release().await.unwrap();
        let locks = store.locks(&stage("app/dev").app).await.unwrap();
        assert_eq!(locks.len(), 1);
        assert_eq!((locks[0].alive, &locks[0].stage), (Some(true), &stage("app/dev")));
        assert!(store.unlock(&stage("app/dev"), false).await.is_err());
        session.release().await.unwrap();
        assert!(store.locks(&stage("app/dev").app).await.unwrap().is_empty());
        assert!(!store.unlock(&stage("app/dev"), false).await.unwrap());
        open(&store).await.release().await.unwrap();
    }

    a_run_that_lost_its_lock_writes_nothing_more => |subject| {
        let store = (subject.reopen)();
        let zombie = open(&store).await;
        zombie.append(vec![put("app/dev/a", 1)]).await.unwrap();
        assert!(store.unlock(&stage("app/dev"), true).await.unwrap());
        let session = open(&store).await;
        assert!(session.epoch() > zombie.epoch());
        let error = zombie.append(vec![put("app/dev/b", 1)]).await.unwrap_err();
        assert!(matches!(error, StateError::Fenced { .. }), "{error}");
        assert!(zombie.checkpoint(header(&["app/dev/a"])).await.is_err());
        zombie.release().await.unwrap();
        session.append(vec![put("app/dev/c", 1)]).await.unwrap();
        session.release().await.unwrap();
        assert_eq!(names(&load(&store).await.unwrap()), ["app/dev/a", "app/dev/c"], "{}", subject.name);
    }

    a_backup_is_rewritten_and_all_of_them_removed => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        for size in 1..=3 {
            session.append(vec![put("app/dev/a", size)]).await.unwrap();
            session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        }
        let stage = stage("app/dev");
        let name = store.backups(&stage).await.unwrap()[0].name.clone();
        let mut backup = store.backup(&stage, &name).await.unwrap();
        backup.records.insert(fqn("app/dev/b"), Arc::new(record("app/dev/b", 7)));
        backup.header.script = Some("other.rhai".to_owned());
        session.rewrite_backup(&name, backup.clone()).await.unwrap();
        let written = store.backup(&stage, &name).await.unwrap();
        assert_eq!((&written.header, &written.records), (&backup.header, &backup.records), "{}", subject.name);
        assert_eq!(names(&load(&store).await.unwrap()), ["app/dev/a"], "the stage is as it was");
        assert!(store.validate(&stage).await.unwrap().is_empty());

        let count = store.backups(&stage).await.unwrap().len();
        assert_eq!(session.drop_backups().await.unwrap(), (count, 0), "{}", subject.name);
        assert!(store.backups(&stage).await.unwrap().is_empty());
        assert!(session.set_aside().await.unwrap().is_empty());
        session.append(vec![put("app/dev/a", 9)]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        assert_eq!(store.backups(&stage).await.unwrap().len(), 1, "{}", subject.name);
        let missing = session.rewrite_backup("state-2020.json", backup).await;
        assert!(missing.is_err(), "{}", subject.name);
        session.release().await.unwrap();
    }

    a_stage_that_was_brought_elsewhere_is_neither_read_nor_opened => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        session.append(vec![put("app/dev/a", 1)]).await.unwrap();
        let moved = StageHeader { moved_to: Some("s3://new".to_owned()), ..header(&["app/dev/a"]) };
        session.checkpoint(moved).await.unwrap();
        session.release().await.unwrap();
        let stage = stage("app/dev");
        for error in [store.load(&stage).await.err().unwrap(), store.open(&stage, request()).await.err().unwrap()] {
            assert!(matches!(&error, StateError::Moved { to, .. } if to == "s3://new"), "{}: {error}", subject.name);
        }
        assert!(store.stages(&stage.app).await.unwrap().contains(&stage));
        let salvaged = store.salvage(&stage).await.unwrap().snapshot;
        assert_eq!(names(&salvaged.clone().into_state()), ["app/dev/a"], "{}", subject.name);
        // It can be made the state again.
        let (session, _) = store.set_aside(&stage, &salvaged, request()).await.unwrap();
        let here = crate::state::Snapshot { header: header(&["app/dev/a"]), ..salvaged };
        session.append(vec![JournalEntry::Replaced(Arc::new(here))]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();
        assert_eq!(names(&load(&store).await.unwrap()), ["app/dev/a"], "{}", subject.name);
    }

    deployments_are_listed_newest_first => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        for id in ["01A", "01B", "01C"] {
            session.record_deployment(deployment(id)).await.unwrap();
        }
        session.release().await.unwrap();
        let listed = store.deployments(&stage("app/dev"), 2).await.unwrap();
        assert_eq!(listed, [deployment("01C"), deployment("01B")], "{}", subject.name);
        assert!(load(&store).await.is_none(), "history alone is no state");
    }

    a_removed_stage_leaves_its_history_only => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        session.append(vec![put("app/dev/s/a", 1)]).await.unwrap();
        session.checkpoint(header(&["app/dev/s/a"])).await.unwrap();
        session.record_deployment(deployment("01A")).await.unwrap();
        assert!(session.remove_stage().await.is_err(), "it has a resource");
        session.release().await.unwrap();

        let session = open(&store).await;
        session.append(vec![removed("app/dev/s/a")]).await.unwrap();
        session.remove_stage().await.unwrap();
        session.release().await.unwrap();
        assert!(load(&store).await.is_none(), "{}", subject.name);
        assert!(store.stages(&stage("app/dev").app).await.unwrap().is_empty());
        assert_eq!(store.deployments(&stage("app/dev"), 9).await.unwrap().len(), 1);

        let session = open(&store).await;
        session.append(vec![put("app/dev/b", 1)]).await.unwrap();
        drop(session);
        let store = (subject.reopen)();
        assert_eq!(names(&load(&store).await.unwrap()), ["app/dev/b"]);
    }

    a_removed_stage_leaves_its_place_in_its_history => |subject| {
        let store = (subject.reopen)();
        assert!(store.removed(&stage("app/dev")).await.unwrap().is_none());
        let session = open(&store).await;
        session.append(vec![put("app/dev/s/a", 1)]).await.unwrap();
        session.checkpoint(header(&["app/dev/s/a"])).await.unwrap();
        assert!(store.removed(&stage("app/dev")).await.unwrap().is_none(), "{}", subject.name);
        session.append(vec![removed("app/dev/s/a")]).await.unwrap();
        let last = StageHeader { deployment: Some("01B".to_owned()), ..header(&[]) };
        session.checkpoint(last).await.unwrap();
        let before = load(&store).await.unwrap();
        session.remove_stage().await.unwrap();
        session.release().await.unwrap();

        let store = (subject.reopen)();
        let left = store.removed(&stage("app/dev")).await.unwrap().unwrap();
        assert_eq!((&left.lineage, left.deployment.as_deref()), (&before.lineage, Some("01B")), "{}", subject.name);
        assert!(left.serial > before.serial, "{}", subject.name);
        assert!(load(&store).await.is_none());
        assert!(store.stages(&stage("app/dev").app).await.unwrap().is_empty());
        assert_eq!(store.all_stages(&stage("app/dev").app).await.unwrap(), [stage("app/dev")]);
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
        // Neither a run that comes to nothing nor one that only looks changes that.
        let session = open(&store).await;
        assert!(session.take_state().is_empty());
        session.checkpoint(StageHeader::default()).await.unwrap();
        session.release().await.unwrap();
        assert!(store.clean_up(&stage("app/dev"), true, request()).await.unwrap().is_empty(), "{}", subject.name);
        assert_eq!(store.removed(&stage("app/dev")).await.unwrap(), Some(left.clone()), "{}", subject.name);

        // What is made anew goes on after it, in the same history.
        let session = open(&store).await;
        session.append(vec![put("app/dev/b", 1)]).await.unwrap();
        drop(session);
        let store = (subject.reopen)();
        let session = open(&store).await;
        session.checkpoint(header(&["app/dev/b"])).await.unwrap();
        session.release().await.unwrap();
        let anew = load(&store).await.unwrap();
        assert_eq!(anew.lineage, left.lineage, "{}", subject.name);
        assert!(anew.serial > left.serial, "{}: {} after {}", subject.name, anew.serial, left.serial);
        assert!(store.removed(&stage("app/dev")).await.unwrap().is_none());
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty(), "{}", subject.name);
    }

    that_a_stage_was_removed_is_taken_over_and_forgotten => |subject| {
        let lineage = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
        let store = (subject.reopen)();
        for serial in [1, 7] {
            let session = store.receive(&stage("app/dev"), lineage.clone(), serial, request()).await.unwrap();
            session.append(vec![replaced(&stage("app/dev"), &[])]).await.unwrap();
            session.checkpoint(StageHeader::default()).await.unwrap();
            session.remove_stage().await.unwrap();
            session.release().await.unwrap();
            let left = store.removed(&stage("app/dev")).await.unwrap().unwrap();
            assert_eq!((&left.lineage, left.serial), (&lineage, serial + 1), "{}", subject.name);
            assert!(load(&store).await.is_none(), "{}", subject.name);
            assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty(), "{}", subject.name);
        }
        // A repair of what is not there goes on after it too.
        let nothing = store.salvage(&stage("app/dev")).await.unwrap().snapshot;
        let (session, _) = store.set_aside(&stage("app/dev"), &nothing, request()).await.unwrap();
        session.append(vec![replaced(&stage("app/dev"), &[("app/dev/a", 1)])]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        session.release().await.unwrap();
        assert!(load(&store).await.unwrap().serial > 8, "{}", subject.name);
        let session = open(&store).await;
        session.append(vec![removed("app/dev/a")]).await.unwrap();
        assert!(session.forget_stage().await.is_ok(), "{}", subject.name);
        session.release().await.unwrap();
        assert!(store.removed(&stage("app/dev")).await.unwrap().is_none(), "{}", subject.name);
        assert!(load(&store).await.is_none(), "{}", subject.name);
    }

    a_backup_is_read_and_put_back_in_one_step => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        session.append(vec![put("app/dev/a", 1), put("app/dev/s/gone", 1)]).await.unwrap();
        session.checkpoint(header(&["app/dev/a"])).await.unwrap();
        assert!(store.backups(&stage("app/dev")).await.unwrap().is_empty(), "{}", subject.name);
        session.append(vec![put("app/dev/a", 2), removed("app/dev/s/gone"), put("app/dev/b", 1), intent("app/dev/c")]).await.unwrap();
        session.checkpoint(header(&["app/dev/b"])).await.unwrap();
        let backups = store.backups(&stage("app/dev")).await.unwrap();
        assert_eq!(backups.len(), 1, "{}", subject.name);
        let backup = store.backup(&stage("app/dev"), &backups[0].name).await.unwrap();
        assert_eq!(backup.records.keys().map(Fqn::as_str).collect::<Vec<_>>(), ["app/dev/a", "app/dev/s/gone"]);
        assert!(store.backup(&stage("app/dev"), "state-none.json").await.is_err());
        let serial = load(&store).await.unwrap().serial;
        session.append(vec![JournalEntry::Replaced(Arc::new(backup.clone()))]).await.unwrap();
        drop(session);

        // Durable from the first step on, and whole.
        let store = (subject.reopen)();
        let session = open(&store).await;
        let state = session.take_state();
        assert_eq!((&state.records, &state.header), (&backup.records, &backup.header), "{}", subject.name);
        assert!(state.open_intents.is_empty());
        session.checkpoint(state.header.clone()).await.unwrap();
        session.release().await.unwrap();
        let state = load(&store).await.unwrap();
        assert_eq!(state.records, backup.records);
        assert!(state.serial > serial, "{}: a plan of before is stale", subject.name);
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
        let newest = &store.backups(&stage("app/dev")).await.unwrap()[0].name;
        let newest = store.backup(&stage("app/dev"), newest).await.unwrap();
        assert_eq!(newest.records.keys().map(Fqn::as_str).collect::<Vec<_>>(), ["app/dev/a", "app/dev/b"]);
    }

    a_stage_that_was_set_aside_is_made_anew => |subject| {
        let store = (subject.reopen)();
        let session = open(&store).await;
        session.append(vec![put("app/dev/a", 1), put("app/dev/s/b", 1)]).await.unwrap();
        session.checkpoint(header(&[])).await.unwrap();
        session.append(vec![put("app/dev/a", 2), intent("app/dev/c")]).await.unwrap();
        drop(session);

        let store = (subject.reopen)();
        let salvage = store.salvage(&stage("app/dev")).await.unwrap();
        assert_eq!(salvage.snapshot.records[&fqn("app/dev/a")].as_ref(), &record("app/dev/a", 2), "{}", subject.name);
        assert!(salvage.snapshot.open_intents.contains_key(&fqn("app/dev/c")));
        assert!(salvage.lost.is_empty() && salvage.has_index);
        let (session, aside) = store.set_aside(&stage("app/dev"), &salvage.snapshot, request()).await.unwrap();
        assert!(aside.is_some());
        assert!(session.take_state().is_empty());
        assert!(store.open(&stage("app/dev"), request()).await.is_err(), "it is locked");
        session.append(vec![replaced(&stage("app/dev"), &[("app/dev/s/b", 7)])]).await.unwrap();
        session.checkpoint(header(&["app/dev/s/b"])).await.unwrap();
        session.release().await.unwrap();
        let state = load(&store).await.unwrap();
        assert_eq!(names(&state), ["app/dev/s/b"], "{}", subject.name);
        assert_eq!(Some(state.lineage), salvage.lineage);
        assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty(), "{}", subject.name);
        open(&store).await.release().await.unwrap();
    }

    a_stage_takes_the_state_of_another_store_with_its_serial => |subject| {
        let lineage = "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned();
        for serial in [7, 9] {
            let store = (subject.reopen)();
            let session = store.receive(&stage("app/dev"), lineage.clone(), serial, request()).await.unwrap();
            assert!(session.take_state().is_empty());
            session.append(vec![replaced(&stage("app/dev"), &[("app/dev/s/b", 7)])]).await.unwrap();
            session.checkpoint(header(&["app/dev/s/b"])).await.unwrap();
            session.release().await.unwrap();
            let state = load(&store).await.unwrap();
            assert_eq!(names(&state), ["app/dev/s/b"], "{}", subject.name);
            assert_eq!((&state.lineage, state.serial), (&lineage, serial), "{}", subject.name);
            assert!(store.validate(&stage("app/dev")).await.unwrap().is_empty());
        }
        let session = open(&(subject.reopen)()).await;
        session.append(vec![put("app/dev/a", 1)]).await.unwrap();
        session.checkpoint(header(&[])).await.unwrap();
        drop(session);
        assert_eq!(load(&(subject.reopen)()).await.unwrap().serial, 10, "{}", subject.name);
    }

    appends_at_the_same_time_are_all_kept => |subject| {
        let session: Arc<dyn Session> = open(&(subject.reopen)()).await.into();
        let tasks: Vec<_> = (0..50)
            .map(|index| {
                let session = Arc::clone(&session);
                tokio::spawn(async move {
                    let name = format!("app/dev/r{index:02}");
                    session.append(vec![intent(&name)]).await.unwrap();
                    session.append(vec![put(&name, index)]).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        drop(session);
        let state = load(&(subject.reopen)()).await.unwrap();
        assert_eq!(state.records.len(), 50, "{}", subject.name);
        assert!(state.open_intents.is_empty());
    }
}

fn deployment(id: &str) -> Deployment {
    Deployment {
        id: id.to_owned(),
        stage: stage("app/dev"),
        command: "run".to_owned(),
        actor: "me".to_owned(),
        host: "here".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        result: "succeeded".to_owned(),
        counts: BTreeMap::from([("created".to_owned(), 1)]),
        alch_version: "0.1.0".to_owned(),
    }
}
