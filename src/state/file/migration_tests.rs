//! A store of an older format goes through the table of steps: with a step from a format 0 put in front of it, files that say 0 are
//! read, gone on with, and written in this format, after a backup.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde_json::Value as Json;

use super::{
    envelope::{Checksum, seal, unseal},
    journal,
};
use crate::{
    model::Fqn,
    state::{
        Deployment, FileStore, LockRequest, Snapshot, StageHeader, StateError, Store as _,
        disk::Disk as _,
        migrate::older::{Older, rename, step},
        sim_disk::SimDisk,
        tests_support::{intent, put, stage},
    },
    util::{
        clock::{Clock, SystemClock},
        ids::SystemIds,
    },
};

fn request() -> LockRequest {
    LockRequest {
        wait: Duration::ZERO,
        command: "alch run".to_owned(),
    }
}

fn store(disk: &SimDisk) -> FileStore {
    let processes = super::SystemProcesses;
    FileStore::over(
        ".alchemy",
        Arc::new(disk.clone()),
        Arc::new(SystemClock),
        Arc::new(SystemIds),
        super::Process::current(),
        Arc::new(processes),
    )
}

fn header() -> StageHeader {
    StageHeader {
        order: vec![Fqn::parse("app/dev/a").unwrap()],
        ..StageHeader::default()
    }
}

fn deployment() -> Deployment {
    Deployment {
        id: "01A".to_owned(),
        stage: stage("app/dev"),
        command: "run".to_owned(),
        actor: "me".to_owned(),
        host: "here".to_owned(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: jiff::Timestamp::UNIX_EPOCH,
        result: "succeeded".to_owned(),
        counts: BTreeMap::new(),
        alch_version: "0".to_owned(),
    }
}

/// Rewrites a checked file as format 0 had it; answers its new checksum.
fn older_file(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Json)) -> Checksum {
    let bytes = disk.read(path).unwrap();
    let mut document: Json = serde_json::from_slice(unseal(&bytes).unwrap().0).unwrap();
    rename(&mut document, true);
    document["format"] = 0.into();
    change(&mut document);
    let (bytes, checksum) = seal(&document).unwrap();
    disk.write(path, &bytes).unwrap();
    checksum
}

/// A stage of format 0: records, a backup, a deployment, and a journal that a run left when it died.
async fn older_stage() -> SimDisk {
    let disk = SimDisk::new(Arc::new(SystemClock) as Arc<dyn Clock>);
    let writer = store(&disk);
    let session = writer.open(&stage("app/dev"), request()).await.unwrap();
    session
        .append(vec![put("app/dev/a", 1), put("app/dev/s/b", 1)])
        .await
        .unwrap();
    session.checkpoint(header()).await.unwrap();
    session.append(vec![put("app/dev/a", 2)]).await.unwrap();
    session.checkpoint(header()).await.unwrap();
    session.record_deployment(deployment()).await.unwrap();
    session
        .append(vec![put("app/dev/c", 1), intent("app/dev/d")])
        .await
        .unwrap();
    session.release().await.unwrap();
    let mut checksums = BTreeMap::new();
    for path in disk
        .files()
        .keys()
        .filter(|path| path.ends_with("state.json"))
    {
        if path
            .components()
            .any(|part| part.as_os_str() == "resources")
        {
            let text = path.display().to_string();
            let name = if text.contains("/s/") {
                "app/dev/s/b"
            } else {
                "app/dev/a"
            };
            let checksum = older_file(&disk, path, |_| {});
            checksums.insert(name, serde_json::to_value(checksum).unwrap());
        }
    }
    assert_eq!(checksums.len(), 2);
    for path in disk.files().keys() {
        let text = path.display().to_string();
        match text.strip_prefix(".alchemy/app/").unwrap_or_default() {
            "state.json" => {
                older_file(&disk, path, |_| {});
            }
            "dev/state.json" => {
                older_file(&disk, path, |document| {
                    for (name, checksum) in &checksums {
                        document["records"][name] = checksum.clone();
                    }
                });
            }
            name if name.starts_with("dev/backups/") || name.starts_with("dev/deployments/") => {
                older_file(&disk, path, |_| {});
            }
            "dev/journal.wal" => {
                let bytes = disk.read(path).unwrap();
                let older = journal::with_payloads(&bytes, |is_header, mut payload| {
                    rename(&mut payload, true);
                    if is_header {
                        payload["format"] = 0.into();
                    }
                    payload
                });
                disk.write(path, &older).unwrap();
            }
            _ => {}
        }
    }
    disk
}

fn formats(disk: &SimDisk) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (path, bytes) in disk.files() {
        let name = path.display().to_string();
        let text = String::from_utf8_lossy(&bytes);
        let format = match (text.contains("\"format\":0"), text.contains("\"format\":1")) {
            (true, _) => "0",
            (_, true) => "1",
            _ => "none",
        };
        if name.starts_with(".alchemy/app/") {
            out.insert(name, format.to_owned());
        }
    }
    out
}

#[tokio::test(start_paused = true)]
async fn state_of_an_older_format_is_read_gone_on_with_and_written_in_this_one() {
    let disk = older_stage().await;
    let path = stage("app/dev");
    // Without the step nobody knows that format.
    let unknown = store(&disk).load(&path).await.unwrap_err();
    assert!(
        matches!(&unknown, StateError::Corrupt { problem, .. } if problem.contains("which no program wrote")),
        "{unknown}"
    );
    let before = disk.files();

    let _older = Older::with(step);
    let reader = store(&disk);
    let state = reader.load(&path).await.unwrap().unwrap();
    let names: Vec<&str> = state.records.keys().map(Fqn::as_str).collect();
    assert_eq!(names, ["app/dev/a", "app/dev/c", "app/dev/s/b"]);
    assert_eq!(
        state.records[&Fqn::parse("app/dev/a").unwrap()].physical_name,
        "app/dev/a-physical"
    );
    assert!(
        state
            .open_intents
            .contains_key(&Fqn::parse("app/dev/d").unwrap())
    );
    assert_eq!(state.serial, 2);
    assert!(reader.validate(&path).await.unwrap().is_empty());
    assert_eq!(reader.deployments(&path, 9).await.unwrap(), [deployment()]);
    let backup = reader.backups(&path).await.unwrap()[0].name.clone();
    let backup = reader.backup(&path, &backup).await.unwrap();
    assert_eq!(backup.records.len(), 2);
    assert_eq!(disk.files(), before, "reading changes nothing");

    // A run goes on from it. Its entries go into a journal of this format, whatever comes then.
    let session = reader.open(&path, request()).await.unwrap();
    session.append(vec![put("app/dev/e", 1)]).await.unwrap();
    drop(session);
    reader.unlock(&path, true).await.unwrap();
    let again = store(&disk).load(&path).await.unwrap().unwrap();
    assert_eq!(again.records.len(), 4);
    assert_eq!(formats(&disk)[".alchemy/app/dev/journal.wal"], "1");

    let session = reader.open(&path, request()).await.unwrap();
    session.checkpoint(header()).await.unwrap();
    session.release().await.unwrap();
    let after = formats(&disk);
    assert_eq!(after[".alchemy/app/dev/state.json"], "1");
    // What did not change is as it was, and says so.
    assert_eq!(after[".alchemy/app/dev/resources/a/state.json"], "0");
    let kept = reader.backups(&path).await.unwrap();
    assert_eq!(
        kept.len(),
        2,
        "the last state of the older format is a backup"
    );
    let kept = reader.backup(&path, &kept[0].name).await.unwrap();
    assert_eq!((kept.serial, kept.records.len()), (2, 2));
    assert!(reader.validate(&path).await.unwrap().is_empty());
    assert_eq!(reader.load(&path).await.unwrap().unwrap().records.len(), 4);

    // An export of that time is read, too.
    let export = Snapshot::of(&path, &state).to_file().unwrap();
    let mut document: Json = serde_json::from_slice(unseal(&export).unwrap().0).unwrap();
    rename(&mut document, true);
    document["format"] = 0.into();
    let (export, _) = seal(&document).unwrap();
    assert_eq!(
        Snapshot::from_file(&export).unwrap(),
        Snapshot::of(&path, &state)
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_a_run_or_an_entry_of_a_newer_format_is_refused() {
    let disk = SimDisk::new(Arc::new(SystemClock) as Arc<dyn Clock>);
    let path = stage("app/dev");
    let writer = store(&disk);
    let session = writer.open(&path, request()).await.unwrap();
    session.append(vec![put("app/dev/a", 1)]).await.unwrap();
    session.checkpoint(header()).await.unwrap();
    session.record_deployment(deployment()).await.unwrap();
    session.append(vec![put("app/dev/b", 1)]).await.unwrap();
    session.release().await.unwrap();
    let newer = |error: StateError| {
        assert!(
            matches!(error, StateError::TooNew { found: 2, .. }),
            "{error}"
        );
    };
    let journal_path = Path::new(".alchemy/app/dev/journal.wal");
    let journal_bytes = disk.read(journal_path).unwrap();
    let changed = journal::with_payloads(&journal_bytes, |is_header, mut payload| {
        if !is_header {
            payload["format"] = 2.into();
            payload["new"] = true.into();
        }
        payload
    });
    disk.write(journal_path, &changed).unwrap();
    newer(writer.load(&path).await.unwrap_err());
    disk.write(journal_path, &journal_bytes).unwrap();

    let to_newer = |file: &str| {
        let file = Path::new(file);
        let bytes = disk.read(file).unwrap();
        let mut document: Json = serde_json::from_slice(unseal(&bytes).unwrap().0).unwrap();
        document["format"] = 2.into();
        document["new"] = true.into();
        let (bytes, checksum) = seal(&document).unwrap();
        disk.write(file, &bytes).unwrap();
        checksum
    };
    to_newer(".alchemy/app/dev/deployments/01A.json");
    newer(writer.deployments(&path, 9).await.unwrap_err());
    let checksum = to_newer(".alchemy/app/dev/resources/a/state.json");
    let index = Path::new(".alchemy/app/dev/state.json");
    let bytes = disk.read(index).unwrap();
    let mut document: Json = serde_json::from_slice(unseal(&bytes).unwrap().0).unwrap();
    document["records"]["app/dev/a"] = serde_json::to_value(checksum).unwrap();
    disk.write(index, &seal(&document).unwrap().0).unwrap();
    newer(writer.load(&path).await.unwrap_err());
}
