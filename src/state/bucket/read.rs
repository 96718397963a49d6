//! Reading a stage: its checkpoint, and the segments of the journal that go on from it.

use object_store::path::Path;

use super::{
    format::{LockRecord, LockState, Segment, StageStatus, StateRecord, corrupt, decode},
    keys::Keys,
    remote::{Expect, Remote, Seen},
};
use crate::{
    model::StagePath,
    state::{JournalEntry, Removed, StageState, StateError},
};

/// How often a reader without the lock starts again because a checkpoint came between.
const READ_TRIES: u32 = 20;

/// One stage of a bucket.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) remote: Remote,
    pub(super) keys: Keys,
    pub(super) stage: StagePath,
}

/// A checkpoint as it was read.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) record: StateRecord,
    pub(super) seen: Seen,
}

/// A lock and a checkpoint that were looked at.
pub(super) struct Look {
    pub(super) lock: Option<(LockRecord, Seen)>,
    pub(super) checkpoint: Result<Option<Checkpoint>, StateError>,
}

/// The generation of a stage that may never have been written.
pub(super) fn generation_of(checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint.map_or(0, |checkpoint| checkpoint.record.generation)
}

/// What the next write of the checkpoint must find.
pub(super) fn expectation(checkpoint: Option<&Checkpoint>) -> Expect {
    Expect::as_seen(checkpoint.map(|checkpoint| &checkpoint.seen))
}

impl Place {
    pub(super) fn lock_key(&self) -> Path {
        self.keys.lock(&self.stage)
    }

    pub(super) fn state_key(&self) -> Path {
        self.keys.state(&self.stage)
    }

    fn damaged(&self, key: &Path, problem: impl Into<String>) -> StateError {
        corrupt(&self.stage, &self.remote.place(key), problem)
    }

    pub(super) fn parse_lock(&self, seen: &Seen) -> Result<LockRecord, StateError> {
        let place = self.remote.place(&self.lock_key());
        decode(&seen.bytes, &self.stage.to_string(), &place)
    }

    pub(super) fn parse_checkpoint(&self, seen: Seen) -> Result<Checkpoint, StateError> {
        let key = self.state_key();
        let record: StateRecord = decode(
            &seen.bytes,
            &self.stage.to_string(),
            &self.remote.place(&key),
        )?;
        if record.stage != self.stage {
            let problem = format!("it is the record of stage {}", record.stage);
            return Err(self.damaged(&key, problem));
        }
        let records = record.records.iter().map(|record| &record.fqn);
        let intents = record.open_intents.iter().map(|intent| &intent.fqn);
        self.check_names(&key, records.chain(intents))?;
        Ok(Checkpoint { record, seen })
    }

    /// That a checkpoint is not the mark of a repair.
    pub(super) fn check_whole(&self, checkpoint: Checkpoint) -> Result<Checkpoint, StateError> {
        match checkpoint.record.status {
            StageStatus::Repairing => Err(self.damaged(
                &self.state_key(),
                "a repair of it is going on, or was cut short",
            )),
            StageStatus::Live | StageStatus::Removed => Ok(checkpoint),
        }
    }

    fn check_names<'a>(
        &self,
        key: &Path,
        mut names: impl Iterator<Item = &'a crate::model::Fqn>,
    ) -> Result<(), StateError> {
        let prefix = format!("{}/", self.stage);
        match names.find(|fqn| !fqn.as_str().starts_with(&prefix)) {
            None => Ok(()),
            Some(foreign) => {
                let problem = format!("it names `{foreign}`, which is not of this stage");
                Err(self.damaged(key, problem))
            }
        }
    }

    /// The lock and the checkpoint, read at the same time.
    pub(super) async fn look(&self) -> Result<Look, StateError> {
        let (lock_key, state_key) = (self.lock_key(), self.state_key());
        // Where both fail, it is the lock's failure that is told.
        let (lock, state) = futures::join!(self.remote.get(&lock_key), self.remote.get(&state_key));
        let (lock, state) = (lock?, state?);
        let lock = match lock {
            None => None,
            Some(seen) => Some((self.parse_lock(&seen)?, seen)),
        };
        let checkpoint = state.map(|seen| self.parse_whole(seen)).transpose();
        Ok(Look { lock, checkpoint })
    }

    fn parse_whole(&self, seen: Seen) -> Result<Checkpoint, StateError> {
        self.check_whole(self.parse_checkpoint(seen)?)
    }

    /// Reads the checkpoint alone.
    pub(super) async fn checkpoint(&self) -> Result<Option<Checkpoint>, StateError> {
        let seen = self.remote.get(&self.state_key()).await?;
        seen.map(|seen| self.parse_whole(seen)).transpose()
    }

    pub(super) fn parse_segment(&self, key: &Path, seen: &Seen) -> Result<Segment, StateError> {
        let place = self.remote.place(key);
        let segment: Segment = decode(&seen.bytes, &self.stage.to_string(), &place)?;
        let own_key = self
            .keys
            .segment(&self.stage, segment.generation, segment.sequence);
        if segment.stage != self.stage || own_key != *key {
            let problem = format!(
                "it is segment {} of generation {} of stage {}",
                segment.sequence, segment.generation, segment.stage
            );
            return Err(self.damaged(key, problem));
        }
        let touched = segment.entries.iter().filter_map(JournalEntry::fqn);
        self.check_names(key, touched)?;
        for entry in &segment.entries {
            if let JournalEntry::Replaced(snapshot) = entry
                && let Some(problem) = snapshot.contradiction()
            {
                return Err(self.damaged(key, problem));
            }
        }
        Ok(segment)
    }

    /// The segments that go on from a checkpoint; `None` when some were deleted meanwhile, which a newer checkpoint does.
    pub(super) async fn journal(
        &self,
        generation: u64,
    ) -> Result<Option<Vec<Segment>>, StateError> {
        let folder = self.keys.generation(&self.stage, generation);
        let listed = self.remote.list(&folder).await?;
        let keys: Vec<Path> = listed.into_iter().map(|(key, _)| key).collect();
        let mut segments = Vec::with_capacity(keys.len());
        for (key, seen) in self.remote.get_all(keys).await? {
            let Some(seen) = seen else {
                return Ok(None);
            };
            segments.push(self.parse_segment(&key, &seen)?);
        }
        let mut epoch = 0;
        for (segment, expected) in segments.iter().zip(1..) {
            if segment.sequence != expected {
                let key = self.keys.segment(&self.stage, generation, expected);
                return Err(self.damaged(&key, "it is missing"));
            }
            if segment.epoch < epoch {
                let key = self.keys.segment(&self.stage, generation, expected);
                let problem = format!(
                    "it was written under epoch {}, after epoch {epoch}",
                    segment.epoch
                );
                return Err(self.damaged(&key, problem));
            }
            epoch = segment.epoch;
        }
        Ok(Some(segments))
    }

    /// Without a checkpoint there must be no other trace of one.
    pub(super) async fn prove_absence(&self, lock: Option<&LockRecord>) -> Result<(), StateError> {
        let missing = || self.damaged(&self.state_key(), "it is missing");
        if lock.is_some_and(|lock| lock.generation > 0) {
            return Err(missing());
        }
        let (folders, _) = self.remote.folders(&self.keys.journal(&self.stage)).await?;
        let mut generations = folders.iter().filter_map(|key| key.filename());
        if !generations.all(|name| name.parse::<u64>() == Ok(0)) {
            return Err(missing());
        }
        // They are of checkpoints, and whoever removes a stage leaves an object that says so.
        let (asides, backups) = self.remote.folders(&self.keys.backups(&self.stage)).await?;
        match asides.is_empty() && backups.is_empty() {
            true => Ok(()),
            false => Err(missing()),
        }
    }

    /// That a checkpoint is not older than what the lock knows of.
    pub(super) fn check_age(
        &self,
        lock: &LockRecord,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        let found = generation_of(checkpoint);
        if found >= lock.generation {
            return Ok(());
        }
        let problem = match checkpoint {
            None => "it is missing".to_owned(),
            Some(_) => format!(
                "it is version {found}, but version {} was written: an old copy was put back",
                lock.generation
            ),
        };
        Err(self.damaged(&self.state_key(), problem))
    }

    /// How the stage was removed, where it was.
    pub(super) async fn removed(&self) -> Result<Option<Removed>, StateError> {
        if self.load().await?.is_some() {
            return Ok(None);
        }
        let record = self.checkpoint().await?.map(|found| found.record);
        Ok(record
            .filter(|record| record.status == StageStatus::Removed)
            .and_then(|record| record.removed))
    }

    /// Reads the stage without the lock.
    pub(super) async fn load(&self) -> Result<Option<StageState>, StateError> {
        let mut last_error = None;
        for _ in 0..READ_TRIES {
            let Look { lock, checkpoint } = self.look().await?;
            let checkpoint = checkpoint?;
            let lock = lock.map(|(lock, _)| lock);
            let aged = match &lock {
                Some(lock) => self.check_age(lock, checkpoint.as_ref()),
                None => Ok(()),
            };
            if let Err(error) = aged {
                // The checkpoint may have been read just before a run wrote it and gave the lock back.
                match last_error {
                    Some(_) => return Err(error),
                    None => last_error = Some(error),
                }
                continue;
            }
            let Some(checkpoint) = checkpoint else {
                self.prove_absence(lock.as_ref()).await?;
                return Ok(None);
            };
            let free = lock.as_ref().is_some_and(|lock| {
                lock.status == LockState::Free && lock.generation == checkpoint.record.generation
            });
            let mut state = checkpoint.record.to_state();
            if !free {
                let Some(segments) = self.journal(checkpoint.record.generation).await? else {
                    continue;
                };
                apply(&mut state, &segments);
                // Segments go away after a newer checkpoint holds them.
                let now = self.checkpoint().await?;
                if now.as_ref().map(|now| &now.seen.tag) != Some(&checkpoint.seen.tag) {
                    continue;
                }
            }
            let gone = checkpoint.record.status == StageStatus::Removed && state.is_empty();
            return Ok((!gone).then_some(state));
        }
        Err(self.damaged(&self.state_key(), "it changes faster than it can be read"))
    }
}

/// Applies segments to the checkpoint that they go on from.
pub(super) fn apply(state: &mut StageState, segments: &[Segment]) {
    for segment in segments {
        state.epoch = state.epoch.max(segment.epoch);
        for entry in &segment.entries {
            state.apply(entry);
        }
    }
}
