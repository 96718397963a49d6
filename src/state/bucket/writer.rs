//! What the holder of a stage writes: segments, checkpoints, and what recovery needs of both.
//!
//! Every write names what it expects to find, so that of two writers who believe to hold the stage one is refused by the
//! bucket. After a refusal nothing more is written.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use object_store::path::Path;

use super::{
    format::{AppRecord, Segment, StageStatus, StateRecord, corrupt, decode, encode},
    read::{Checkpoint, Place, apply, expectation, generation_of},
    remote::{Expect, Put, Seen},
};
use crate::{
    model::Fqn,
    state::{JournalEntry, Record, Removed, StageHeader, StageState, StateError, record::FORMAT},
};

/// How often recovery starts again because another writer came between.
const RECOVERY_TRIES: u32 = 20;

/// One hold, as its writes name it.
#[derive(Clone)]
pub(super) struct Hold {
    pub(super) place: Place,
    pub(super) epoch: u64,
    pub(super) session: String,
    /// How many backups are kept.
    pub(super) keep: usize,
}

/// Everything that a session knows of what is in the bucket.
pub(super) struct Writer {
    pub(super) hold: Hold,
    /// The last checkpoint, removed stages included.
    pub(super) checkpoint: Option<Checkpoint>,
    /// As of the last durable entry.
    pub(super) state: StageState,
    /// The number of the last segment that goes on from the checkpoint.
    pub(super) sequence: u64,
    /// Entries since the checkpoint.
    pub(super) entries: usize,
    /// Without state: how the stage was removed.
    removed: Option<Removed>,
    /// Segments that the next checkpoint makes superfluous.
    superfluous: Vec<Path>,
}

/// What goes into the seal, given the stage as it was left, the last segments and their generation.
pub(super) type Resolve<'a> =
    &'a (dyn Fn(&StageState, &[Segment], u64) -> Vec<JournalEntry> + Sync);

/// A backup that is to be written.
struct Backup {
    object: Option<(Path, Bytes)>,
    /// The names of all backups that are kept.
    names: Vec<String>,
    superfluous: Vec<Path>,
}

impl Backup {
    fn none(names: Vec<String>) -> Self {
        Self {
            object: None,
            names,
            superfluous: Vec::new(),
        }
    }
}

impl Hold {
    fn fenced(&self, theirs: u64) -> StateError {
        StateError::Fenced {
            stage: self.place.stage.clone(),
            ours: self.epoch,
            theirs: theirs.max(self.epoch + 1),
        }
    }
}

impl Writer {
    /// Goes on from a checkpoint that has no journal.
    pub(super) fn new(hold: Hold, checkpoint: Option<Checkpoint>) -> Self {
        let state = checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.record.to_state())
            .unwrap_or_default();
        let removed = checkpoint
            .as_ref()
            .and_then(|checkpoint| checkpoint.record.removed.clone());
        Self {
            hold,
            checkpoint,
            state,
            removed,
            sequence: 0,
            entries: 0,
            superfluous: Vec::new(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        generation_of(self.checkpoint.as_ref())
    }

    /// Whether the stage has state, or had a moment ago: then its object says so.
    pub(super) fn exists(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|checkpoint| checkpoint.record.status != StageStatus::Removed)
    }

    pub(super) fn is_live(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|checkpoint| checkpoint.record.status == StageStatus::Live)
    }

    /// Writes one segment.
    pub(super) async fn append(
        &mut self,
        entries: Vec<JournalEntry>,
        seal: bool,
    ) -> Result<(), StateError> {
        match self.try_append(entries, seal).await? {
            None => Ok(()),
            Some(theirs) => Err(self.hold.fenced(theirs.epoch)),
        }
    }

    /// Writes one segment, or answers the one that somebody else wrote in its place.
    async fn try_append(
        &mut self,
        entries: Vec<JournalEntry>,
        seal: bool,
    ) -> Result<Option<Segment>, StateError> {
        let Hold { place, .. } = &self.hold;
        let (generation, sequence) = (self.generation(), self.sequence + 1);
        let key = place.keys.segment(&place.stage, generation, sequence);
        let segment = Segment {
            format: FORMAT,
            stage: place.stage.clone(),
            generation,
            sequence,
            epoch: self.hold.epoch,
            session: self.hold.session.clone(),
            seal,
            entries,
        };
        let bytes = encode(&place.remote.place(&key), &segment)?;
        match place.remote.put(&key, &bytes, &Expect::Absent).await? {
            Put::Done(_) => {
                self.note(&segment, key);
                Ok(None)
            }
            Put::Refused(Some(seen)) => Ok(Some(place.parse_segment(&key, &seen)?)),
            Put::Refused(None) => Err(self.hold.fenced(0)),
        }
    }

    /// Takes a segment that stands in the journal into account.
    fn note(&mut self, segment: &Segment, key: Path) {
        self.sequence = segment.sequence;
        self.entries += segment.entries.len();
        apply(&mut self.state, std::slice::from_ref(segment));
        if !segment.seal {
            self.superfluous.push(key);
        }
    }

    /// Makes the object of a stage that has none, before the first segment.
    pub(super) async fn create(&mut self) -> Result<(), StateError> {
        if self.exists() {
            return Ok(());
        }
        self.state.lineage = self.lineage().await?;
        let state = self.state.clone();
        self.write(state, StageStatus::Live, Vec::new()).await
    }

    /// The lineage of the application, made with its first stage.
    async fn lineage(&self) -> Result<String, StateError> {
        let Place {
            remote,
            keys,
            stage,
        } = &self.hold.place;
        let key = keys.app_record(&stage.app);
        let record = AppRecord {
            format: FORMAT,
            app: stage.app.clone(),
            lineage: match &self.removed {
                Some(removed) if !removed.lineage.is_empty() => removed.lineage.clone(),
                _ => remote.ids.ulid(remote.clock.now()),
            },
        };
        let place = remote.place(&key);
        let bytes = encode(&place, &record)?;
        match remote.put(&key, &bytes, &Expect::Absent).await? {
            Put::Done(_) => Ok(record.lineage),
            Put::Refused(Some(seen)) => {
                let found: AppRecord = decode(&seen.bytes, stage.app.as_str(), &place)?;
                if found.app == stage.app {
                    Ok(found.lineage)
                } else {
                    let problem = format!("it is the record of application `{}`", found.app);
                    Err(corrupt(&stage.app, &place, problem))
                }
            }
            Put::Refused(None) => Err(corrupt(&stage.app, &place, "it comes and goes")),
        }
    }

    /// Replaces the stage's object by `state`, and forgets the journal that it holds.
    pub(super) async fn write(
        &mut self,
        state: StageState,
        status: StageStatus,
        backups: Vec<String>,
    ) -> Result<(), StateError> {
        match self.try_write(state, status, backups).await? {
            true => Ok(()),
            false => {
                let theirs = self.hold.place.checkpoint().await?;
                let theirs = theirs.map_or(0, |checkpoint| checkpoint.record.epoch);
                Err(self.hold.fenced(theirs))
            }
        }
    }

    async fn try_write(
        &mut self,
        mut state: StageState,
        status: StageStatus,
        backups: Vec<String>,
    ) -> Result<bool, StateError> {
        let place = &self.hold.place;
        let key = place.state_key();
        state.epoch = self.hold.epoch;
        let record = StateRecord {
            format: FORMAT,
            stage: place.stage.clone(),
            lineage: state.lineage.clone(),
            generation: self.generation() + 1,
            serial: state.serial,
            epoch: state.epoch,
            session: self.hold.session.clone(),
            status,
            header: state.header.clone(),
            records: state.records.values().cloned().collect(),
            open_intents: state.open_intents.values().cloned().collect(),
            backups,
            removed: match status {
                StageStatus::Removed => self.removed.clone(),
                StageStatus::Live | StageStatus::Repairing => None,
            },
        };
        let bytes = encode(&place.remote.place(&key), &record)?;
        let expect = expectation(self.checkpoint.as_ref());
        match place.remote.put(&key, &bytes, &expect).await? {
            Put::Done(tag) => {
                self.removed.clone_from(&record.removed);
                self.checkpoint = Some(Checkpoint {
                    record,
                    seen: Seen {
                        bytes,
                        tag,
                        modified: place.remote.clock.now(),
                    },
                });
                self.state = state;
                self.sequence = 0;
                self.entries = 0;
                Ok(true)
            }
            Put::Refused(_) => Ok(false),
        }
    }

    /// Deletes the segments that a checkpoint has made superfluous, and `more`. What is left behind by a failure is never
    /// read again, so the run goes on.
    pub(super) async fn tidy(&mut self, more: Vec<Path>) {
        let mut keys = std::mem::take(&mut self.superfluous);
        keys.extend(more);
        if let Err(error) = self.hold.place.remote.delete(keys).await {
            tracing::warn!(%error, "objects that nobody reads any more could not be deleted");
        }
    }

    /// Takes a stage over from a hold that did not end well: seals its journal, so that whatever it still sends is refused
    /// by the bucket, and folds everything into a new checkpoint, so that a checkpoint of it is refused too. `more` is asked
    /// for what goes into the seal, given the stage as it was left and the last segments.
    pub(super) async fn recover(
        hold: &Hold,
        lock: Option<&super::format::LockRecord>,
        more: Resolve<'_>,
    ) -> Result<Self, StateError> {
        let place = &hold.place;
        for _ in 0..RECOVERY_TRIES {
            let checkpoint = place.checkpoint().await?;
            match (lock, &checkpoint) {
                (lock, None) => place.prove_absence(lock).await?,
                (Some(lock), Some(_)) => place.check_age(lock, checkpoint.as_ref())?,
                (None, Some(_)) => {}
            }
            let known = checkpoint.as_ref().map_or(0, |found| found.record.epoch);
            if known > hold.epoch {
                return Err(hold.fenced(known));
            }
            let mut writer = Self::new(hold.clone(), checkpoint);
            let Some(mut segments) = place.journal(writer.generation()).await? else {
                continue;
            };
            for segment in &segments {
                let key = place
                    .keys
                    .segment(&place.stage, segment.generation, segment.sequence);
                writer.note(segment, key);
            }
            // Somebody may write until the seal stands: what they wrote counts.
            let sealed = loop {
                if let Some(last) = segments.last()
                    && last.epoch > hold.epoch
                {
                    return Err(hold.fenced(last.epoch));
                }
                let entries = more(&writer.state, &segments, writer.generation());
                if !entries.is_empty() && !writer.exists() {
                    break false;
                }
                match writer.try_append(entries, true).await? {
                    None => break true,
                    Some(theirs) => {
                        let key =
                            place
                                .keys
                                .segment(&place.stage, theirs.generation, theirs.sequence);
                        writer.note(&theirs, key);
                        segments.push(theirs);
                    }
                }
            };
            if !sealed {
                writer.create().await?;
                continue;
            }
            let removed = !writer.exists() && writer.state.is_empty();
            let mut state = writer.state.clone();
            if !removed && writer.differs() {
                state.serial += 1;
            }
            let backup = writer.back_up();
            let status = match removed {
                true => StageStatus::Removed,
                false => StageStatus::Live,
            };
            let names = backup.names.clone();
            if writer.try_write(state, status, names).await? {
                writer.finish(backup).await?;
                return Ok(writer);
            }
        }
        Err(corrupt(
            &place.stage,
            &place.remote.place(&place.state_key()),
            "it changes faster than it can be taken over",
        ))
    }

    /// The names of the backups that there are.
    pub(super) fn backups(&self) -> Vec<String> {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or_else(Vec::new, |found| found.record.backups.clone())
    }

    /// Whether the records or the header are others than those of the checkpoint.
    pub(super) fn differs(&self) -> bool {
        let Some(checkpoint) = &self.checkpoint else {
            return true;
        };
        let before: BTreeMap<&Fqn, &Arc<Record>> = checkpoint
            .record
            .records
            .iter()
            .map(|record| (&record.fqn, record))
            .collect();
        let same = before.len() == self.state.records.len()
            && self.state.records.iter().all(|(fqn, record)| {
                before
                    .get(fqn)
                    .is_some_and(|old| Arc::ptr_eq(old, record) || ***old == **record)
            });
        !same || checkpoint.record.header != self.state.header
    }

    /// What the backup of the last checkpoint will be, unless that is empty. It is written when the checkpoint that replaces it
    /// was accepted, so that a run that was overtaken does not even leave a backup behind.
    fn back_up(&self) -> Backup {
        let mut names = self.backups();
        let Some(checkpoint) = &self.checkpoint else {
            return Backup::none(names);
        };
        if checkpoint.record.records.is_empty() || !self.is_live() {
            return Backup::none(names);
        }
        let place = &self.hold.place;
        let at = format!("{:.3}", place.remote.clock.now()).replace([':', '.'], "-");
        let mut name = format!("state-{at}");
        let mut number = 2;
        while names.contains(&name) {
            name = format!("state-{at}-{number}");
            number += 1;
        }
        let folder = place.keys.backups(&place.stage);
        let key = |name: &String| folder.clone().join(format!("{name}.json"));
        let object = Some((key(&name), checkpoint.seen.bytes.clone()));
        names.push(name);
        let surplus = names.len().saturating_sub(self.hold.keep);
        let superfluous = names.drain(..surplus).map(|name| key(&name)).collect();
        Backup {
            object,
            names,
            superfluous,
        }
    }

    /// Writes a backup, and deletes what is superfluous now.
    async fn finish(&mut self, backup: Backup) -> Result<(), StateError> {
        if let Some((key, bytes)) = &backup.object {
            self.hold.place.remote.overwrite(key, bytes).await?;
        }
        self.tidy(backup.superfluous).await;
        Ok(())
    }

    /// Folds the journal; see [`crate::state::Session::checkpoint`].
    pub(super) async fn fold(&mut self, header: StageHeader) -> Result<(), StateError> {
        let before = self.checkpoint.as_ref().map(|found| &found.record.header);
        let same_header = match before {
            Some(before) if self.is_live() => *before == header,
            _ if self.exists() => false,
            _ => header == StageHeader::default(),
        };
        if self.entries == 0 && same_header {
            return Ok(());
        }
        self.create().await?;
        let backup = self.back_up();
        let mut state = self.state.clone();
        state.header = header;
        self.state.header.clone_from(&state.header);
        // Where the journal came to nothing, as after a refused create, a plan of this state still fits.
        let is_new = state.serial == 0 || !self.is_live();
        if is_new || self.differs() {
            state.serial += 1;
        }
        self.write(state, StageStatus::Live, backup.names.clone())
            .await?;
        self.finish(backup).await
    }

    /// Leaves of the stage only that it was removed. The caller has seen that it is empty.
    pub(super) async fn remove(&mut self) -> Result<(), StateError> {
        if !self.exists() {
            return Ok(());
        }
        let at = self.hold.place.remote.clock.now();
        let removed = Removed::of(&self.state, at);
        self.end(Some(removed)).await
    }

    /// Leaves of the stage only that there is none.
    pub(super) async fn forget(&mut self) -> Result<(), StateError> {
        match self.exists() || self.removed.is_some() {
            true => self.end(None).await,
            false => Ok(()),
        }
    }

    async fn end(&mut self, removed: Option<Removed>) -> Result<(), StateError> {
        let place = &self.hold.place;
        let folder = place.keys.backups(&place.stage);
        let backups = self
            .backups()
            .into_iter()
            .map(|name| folder.clone().join(format!("{name}.json")))
            .collect();
        let state = StageState {
            lineage: self.state.lineage.clone(),
            serial: removed.as_ref().map_or(0, |removed| removed.serial),
            ..StageState::default()
        };
        self.removed = removed;
        self.write(state, StageStatus::Removed, Vec::new()).await?;
        self.tidy(backups).await;
        Ok(())
    }
}
