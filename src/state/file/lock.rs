//! The lock of a stage: a small JSON file with the lease of its holder.
//!
//! Every look at it that leads to a change, and every change, happens under the guard file, an operating-system lock that is
//! held for moments. So takers cannot race one another, a heartbeat cannot overwrite a lock that was taken over, and a state
//! write that checked its epoch under the guard ends before a taker can begin.

use std::{
    io::{self, ErrorKind},
    path::Path,
    time::Duration,
};

use serde::de::IgnoredAny;

use super::{
    envelope::io_error,
    layout::{self, StageLayout, temporary},
    process::{Process, Processes},
};
use crate::{
    model::{AppName, ResourceId, StageName, StagePath},
    state::{
        LockHolder, StateError,
        disk::{Disk, Guard},
    },
};

/// A lock file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its bytes: a taker watches whether they change.
    pub(crate) bytes: Vec<u8>,
    /// Its holder; a stand-in when it is not readable.
    pub(crate) holder: LockHolder,
    /// Whether it is not even JSON. Lock files are renamed into place whole, so only a power failure leaves one so, and no
    /// process outlives that. JSON of another shape may be the lock of a newer program, and lives.
    pub(crate) is_torn: bool,
}

impl Seen {
    /// Whether the holder lives, as far as `process` can tell.
    pub(crate) fn is_alive(&self, process: &Process, processes: &dyn Processes) -> Option<bool> {
        if self.is_torn {
            Some(false)
        } else {
            process.judge(&self.holder, processes)
        }
    }
}

/// What an attempt to take the lock came to.
pub(crate) enum Attempt {
    /// It is ours, under this provisional epoch.
    Taken(LockHolder),
    /// Somebody has it. `watch`: whether nothing is known of them, so that only the lease can tell.
    Held { seen: Seen, watch: bool },
}

/// The lease of a run that asks for no other, and of a lock without readable content.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// How long a write of ours waits for somebody who only looks at the lock.
const WRITER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a taker waits for a write of the holder, who is then known to live.
const TAKER_PATIENCE: Duration = Duration::from_millis(100);

fn try_guard(
    disk: &dyn Disk,
    layout: &StageLayout,
    patience: Duration,
) -> Result<Option<Box<dyn Guard>>, StateError> {
    let result = match disk.guard(&layout.guard, patience) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            disk.create_dir_all(&layout.locks_folder)
                .map_err(|error| io_error("create folder", &layout.locks_folder, error))?;
            disk.guard(&layout.guard, patience)
        }
        other => other,
    };
    match result {
        Ok(guard) => Ok(Some(guard)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(io_error("lock", &layout.guard, error)),
    }
}

/// Waits for the guard of a stage.
pub(crate) fn guard(disk: &dyn Disk, layout: &StageLayout) -> Result<Box<dyn Guard>, StateError> {
    try_guard(disk, layout, WRITER_PATIENCE)?.ok_or_else(|| {
        let problem = "another process keeps it; is one stopped in the middle of a write?";
        io_error(
            "lock",
            &layout.guard,
            io::Error::new(ErrorKind::WouldBlock, problem),
        )
    })
}

/// Reads the lock of a stage.
pub(crate) fn read(disk: &dyn Disk, layout: &StageLayout) -> Result<Option<Seen>, StateError> {
    let bytes = match disk.read(&layout.lock) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &layout.lock, error)),
    };
    let holder = serde_json::from_slice(&bytes);
    let is_torn = holder.is_err() && serde_json::from_slice::<IgnoredAny>(&bytes).is_err();
    Ok(Some(Seen {
        bytes,
        holder: holder.unwrap_or_else(|_| unreadable_holder()),
        is_torn,
    }))
}

/// Stands for a holder that cannot be read: nothing is known of it.
fn unreadable_holder() -> LockHolder {
    LockHolder {
        owner: "unknown".to_owned(),
        host: "unknown".to_owned(),
        boot_id: String::new(),
        pid: 0,
        pid_start: 0,
        command: "unreadable lock file".to_owned(),
        epoch: 0,
        ttl_ms: u64::try_from(DEFAULT_TTL.as_millis()).unwrap_or(u64::MAX),
        acquired_at: jiff::Timestamp::UNIX_EPOCH,
        heartbeat: 0,
    }
}

/// Takes the lock where it is free, its holder is dead, or it still reads as `expired`.
pub(crate) fn attempt(
    disk: &dyn Disk,
    layout: &StageLayout,
    process: &Process,
    processes: &dyn Processes,
    mut holder: LockHolder,
    expired: Option<&[u8]>,
) -> Result<Attempt, StateError> {
    let Some(_guard) = try_guard(disk, layout, TAKER_PATIENCE)? else {
        // Whoever holds the guard is writing at this moment.
        let seen = read(disk, layout)?.unwrap_or_else(|| Seen {
            bytes: Vec::new(),
            holder: unreadable_holder(),
            is_torn: false,
        });
        return Ok(Attempt::Held { seen, watch: false });
    };
    if let Some(seen) = read(disk, layout)? {
        let alive = seen.is_alive(process, processes);
        let expired = alive.is_none() && expired == Some(seen.bytes.as_slice());
        if alive != Some(false) && !expired {
            return Ok(Attempt::Held {
                seen,
                watch: alive.is_none(),
            });
        }
        holder.epoch = seen.holder.epoch;
    }
    holder.epoch += 1;
    write(disk, layout, &holder)?;
    Ok(Attempt::Taken(holder))
}

/// Writes the lock file, whole. Not synced: no lock outlives the boot of its host.
fn write(disk: &dyn Disk, layout: &StageLayout, holder: &LockHolder) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(holder)
        .map_err(|error| io_error("serialise", &layout.lock, io::Error::other(error)))?;
    let temporary = temporary(&layout.lock);
    disk.write(&temporary, &bytes)
        .map_err(|error| io_error("write", &temporary, error))?;
    disk.rename(&temporary, &layout.lock)
        .map_err(|error| io_error("rename", &layout.lock, error))
}

/// Whether two holders are one run. Two runs may share an epoch when neither wrote anything.
fn is_same(a: &LockHolder, b: &LockHolder) -> bool {
    a.epoch == b.epoch
        && a.pid == b.pid
        && a.pid_start == b.pid_start
        && a.host == b.host
        && a.boot_id == b.boot_id
        && a.acquired_at == b.acquired_at
}

/// Refuses with [`StateError::Fenced`] unless the lock is still held by `ours`. The guard must be held.
pub(crate) fn check(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    ours: &LockHolder,
) -> Result<(), StateError> {
    let theirs = match read(disk, layout)? {
        Some(seen) if is_same(&seen.holder, ours) => return Ok(()),
        Some(seen) => seen.holder.epoch,
        // Removed by force: whoever comes next is in charge.
        None => ours.epoch + 1,
    };
    Err(StateError::Fenced {
        stage: stage.clone(),
        ours: ours.epoch,
        theirs,
    })
}

/// Replaces our own lock file, for a heartbeat or a higher epoch.
pub(crate) fn renew(
    disk: &dyn Disk,
    layout: &StageLayout,
    stage: &StagePath,
    ours: &LockHolder,
    renewed: &LockHolder,
) -> Result<(), StateError> {
    let _guard = guard(disk, layout)?;
    check(disk, layout, stage, ours)?;
    write(disk, layout, renewed)
}

/// Gives the lock back. One that was taken over is left alone.
pub(crate) fn release(
    disk: &dyn Disk,
    layout: &StageLayout,
    ours: &LockHolder,
) -> Result<(), StateError> {
    let _guard = guard(disk, layout)?;
    match read(disk, layout)? {
        Some(seen) if is_same(&seen.holder, ours) => remove(disk, layout),
        _ => Ok(()),
    }
}

/// Like [`release`], for a run that failed while it settled its epoch.
pub(crate) fn release_any_epoch(
    disk: &dyn Disk,
    layout: &StageLayout,
    ours: &LockHolder,
) -> Result<(), StateError> {
    let _guard = guard(disk, layout)?;
    match read(disk, layout)? {
        Some(seen) => {
            let ours = LockHolder {
                epoch: seen.holder.epoch,
                ..ours.clone()
            };
            if is_same(&seen.holder, &ours) {
                remove(disk, layout)?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Removes the lock file. The guard must be held.
pub(crate) fn remove(disk: &dyn Disk, layout: &StageLayout) -> Result<(), StateError> {
    disk.remove_file(&layout.lock)
        .map_err(|error| io_error("remove", &layout.lock, error))
}

/// The stages of an application, tests among them, that have a lock file.
///
/// # Errors
/// [`StateError::Io`] when a folder cannot be listed.
pub(crate) fn locked_stages(
    disk: &dyn Disk,
    root: &Path,
    app: &AppName,
) -> Result<Vec<StageName>, StateError> {
    let list = |folder: &Path| {
        disk.list(folder)
            .map_err(|error| io_error("list", folder, error))
    };
    let locked = |folder: &Path| -> Result<Vec<StageName>, StateError> {
        Ok(list(folder)?
            .iter()
            .filter_map(|entry| entry.text()?.strip_suffix(".lock"))
            .filter_map(|name| StageName::new(layout::unescape(name)).ok())
            .collect())
    };
    let folder = layout::locks_folder(root, app);
    let mut stages = locked(&folder)?;
    let tests = folder.join(layout::TESTS);
    for entry in list(&tests)?.iter().filter(|entry| entry.is_folder) {
        let Some(id) = entry
            .text()
            .and_then(|id| ResourceId::new(layout::unescape(id)).ok())
        else {
            continue;
        };
        let of = locked(&tests.join(&entry.name))?;
        stages.extend(of.iter().filter_map(|of| StageName::test(&id, of)));
    }
    Ok(stages)
}
