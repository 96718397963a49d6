//! Stores of several processes on one real folder at the same time.

use std::{path::Path, sync::Arc, time::Duration};

use super::{FileStore, Process, Processes};
use crate::{
    state::{
        LockRequest, Session, StageHeader, StateError, Store,
        disk::RealDisk,
        tests_support::{intent, put, removed, stage},
    },
    util::{clock::SystemClock, ids::SystemIds},
};

/// Processes from this id on live.
const FIRST_ALIVE: u32 = 100;

struct FromFirst;

impl Processes for FromFirst {
    fn is_alive(&self, pid: u32, _start: u64) -> Option<bool> {
        Some(pid >= FIRST_ALIVE)
    }
}

fn store(root: &Path, pid: u32) -> FileStore {
    FileStore::over(
        root,
        Arc::new(RealDisk),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
        Process {
            owner: "me".to_owned(),
            host: "here".to_owned(),
            boot_id: "boot".to_owned(),
            pid,
            pid_start: 1,
        },
        Arc::new(FromFirst),
    )
}

fn request(wait: Duration) -> LockRequest {
    LockRequest {
        wait,
        command: "alch run".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_takers_of_a_dead_lock_one_gets_it() {
    let dev = stage("app/dev");
    for round in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let dead = store(folder.path(), 1);
        let session = dead.open(&dev, request(Duration::ZERO)).await.unwrap();
        session.append(vec![put("app/dev/a", 1)]).await.unwrap();
        drop(session);
        let takers: Vec<_> = (0..8)
            .map(|index| {
                let (store, dev) = (store(folder.path(), FIRST_ALIVE + index), dev.clone());
                tokio::spawn(async move { store.open(&dev, request(Duration::ZERO)).await })
            })
            .collect();
        let mut winners = Vec::new();
        for taker in takers {
            match taker.await.unwrap() {
                Ok(session) => winners.push(session),
                Err(StateError::Locked { .. }) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(winners[0].epoch(), 2);
        winners[0].append(vec![put("app/dev/b", 1)]).await.unwrap();
        winners[0].release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn runs_that_wait_come_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let dev = stage("app/dev");
    let runs: Vec<_> = (0..4)
        .map(|index| {
            let (store, dev) = (store(folder.path(), FIRST_ALIVE + index), dev.clone());
            tokio::spawn(async move {
                let wait = request(Duration::from_secs(60));
                let session = store.open(&dev, wait).await.unwrap();
                let name = format!("app/dev/r{index}");
                session
                    .append(vec![intent(&name), put(&name, 1)])
                    .await
                    .unwrap();
                let header = StageHeader {
                    script: Some(name),
                    ..session.take_state().header
                };
                session.checkpoint(header).await.unwrap();
                session.release().await.unwrap();
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    let state = store(folder.path(), 1).load(&dev).await.unwrap().unwrap();
    assert_eq!((state.records.len(), state.serial), (4, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_never_sees_a_half_made_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let dev = stage("app/dev");
    let writer = store(folder.path(), FIRST_ALIVE);
    let session = writer.open(&dev, request(Duration::ZERO)).await.unwrap();
    session.append(vec![put("app/dev/kept", 1)]).await.unwrap();
    let writing = {
        let session: Arc<dyn Session> = session.into();
        tokio::spawn(async move {
            for version in 0..25 {
                let entries = vec![put("app/dev/s/a", version), removed("app/dev/t/b")];
                session.append(entries).await.unwrap();
                session.checkpoint(StageHeader::default()).await.unwrap();
                session
                    .append(vec![put("app/dev/t/b", version)])
                    .await
                    .unwrap();
                session.checkpoint(StageHeader::default()).await.unwrap();
            }
        })
    };
    let reader = store(folder.path(), FIRST_ALIVE + 1);
    let mut serial = 0;
    while !writing.is_finished() {
        let state = reader.load(&dev).await.unwrap().unwrap();
        assert!(state.serial >= serial && !state.records.is_empty());
        serial = state.serial;
    }
    writing.await.unwrap();
}
