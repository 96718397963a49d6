//! A stage that cannot be read: what of it can be saved, and setting it aside so that it can be made anew.
//!
//! While a stage is being made anew its checkpoint says so, and whoever reads it meanwhile, or after the repair was cut short, is
//! told: a half-made stage is never taken for an empty one. Nothing is deleted: the old objects are copied among the backups.

use object_store::path::Path;

use super::{
    format::{AppRecord, Segment, StageStatus, StateRecord, decode, encode},
    read::{Checkpoint, Place, apply},
    remote::{Expect, Put, Seen},
    writer::{Hold, Writer},
};
use crate::state::{Salvage, Snapshot, StageHeader, StageState, StateError, record::FORMAT};

/// How often an object may change under a repair.
const TRIES: u32 = 20;

/// How many records of finished runs a thorough cleaning keeps.
const HISTORY: usize = 50;

/// Damage counts as absence here; everything else is passed on.
fn if_whole<T>(result: Result<T, StateError>) -> Result<Option<T>, StateError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StateError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is there of a stage, whole or not.
struct Found {
    state: Option<Seen>,
    checkpoint: Option<Checkpoint>,
    /// The segments of the newest generation, as objects.
    journal: Vec<(Path, Seen)>,
    generation: u64,
    app: Option<Seen>,
    lineage: Option<String>,
}

impl Place {
    async fn find(&self) -> Result<Found, StateError> {
        let state = self.remote.get(&self.state_key()).await?;
        let checkpoint = match state.clone() {
            None => None,
            Some(seen) => if_whole(self.parse_checkpoint(seen))?,
        };
        let (folders, _) = self.remote.folders(&self.keys.journal(&self.stage)).await?;
        let newest = folders
            .iter()
            .filter_map(|key| key.filename()?.parse::<u64>().ok())
            .max();
        let generation = match &checkpoint {
            Some(found) => found.record.generation,
            None => newest.unwrap_or(0),
        };
        let folder = self.keys.generation(&self.stage, generation);
        let listed = self.remote.list(&folder).await?;
        let keys = listed.into_iter().map(|(key, _)| key).collect();
        let read = self.remote.get_all(keys).await?;
        let journal = read
            .into_iter()
            .filter_map(|(key, seen)| Some((key, seen?)))
            .collect();
        let app_key = self.keys.app_record(&self.stage.app);
        let app = self.remote.get(&app_key).await?;
        let lineage = match &app {
            None => None,
            Some(seen) => {
                let place = self.remote.place(&app_key);
                let record = decode::<AppRecord>(&seen.bytes, self.stage.app.as_str(), &place);
                if_whole(record)?
                    .filter(|record| record.app == self.stage.app)
                    .map(|record| record.lineage)
            }
        };
        Ok(Found {
            state,
            checkpoint,
            journal,
            generation: generation.max(newest.unwrap_or(0)),
            app,
            lineage,
        })
    }

    /// Everything of a stage that can be read.
    pub(super) async fn salvage(&self) -> Result<Salvage, StateError> {
        let found = self.find().await?;
        let mut state = found
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.record.to_state())
            .unwrap_or_default();
        for (key, seen) in &found.journal {
            // Segments tell the latest of every resource that they name, whatever is missing between them.
            if let Some(segment) = if_whole(self.parse_segment(key, seen))? {
                apply(&mut state, std::slice::from_ref(&segment));
            }
        }
        let lineage = found
            .lineage
            .or_else(|| (!state.lineage.is_empty()).then(|| state.lineage.clone()));
        Ok(Salvage {
            snapshot: Snapshot::of(&self.stage, &state),
            lineage,
            has_index: found
                .checkpoint
                .is_some_and(|found| found.record.status == StageStatus::Live),
            lost: Vec::new(),
        })
    }
}

impl Place {
    /// Deletes what nobody reads any more. The stage must be held, and have no journal.
    pub(super) async fn clean_up(&self, thorough: bool) -> Result<Vec<String>, StateError> {
        let current = self.checkpoint().await?;
        let current = super::read::generation_of(current.as_ref());
        let mut keys = Vec::new();
        let (generations, _) = self.remote.folders(&self.keys.journal(&self.stage)).await?;
        for folder in generations {
            let number = folder.filename().and_then(|name| name.parse::<u64>().ok());
            if number.is_none_or(|number| number >= current) {
                continue;
            }
            let listed = self.remote.list(&folder).await?;
            let segments = listed.into_iter().map(|(key, _)| key).collect();
            for (key, seen) in self.remote.get_all(segments).await? {
                let Some(seen) = seen else { continue };
                let segment = self.parse_segment(&key, &seen)?;
                if !segment.seal {
                    keys.push(key);
                } else if !segment.entries.is_empty() {
                    // Seals stand in the way of runs that may still wake up; what they said is in the checkpoint.
                    self.empty_seal(&key, segment).await?;
                }
            }
        }
        if thorough {
            keys.extend(self.what_may_be_of_use().await?);
        }
        let mut removed: Vec<String> = keys.iter().map(|key| self.remote.place(key)).collect();
        self.remote.delete(keys).await?;
        // Last: what a thorough clean-up removes is not kept.
        removed.extend(self.keep_damaged().await?);
        Ok(removed)
    }

    /// Moves damaged backups and records of finished runs to where repairs keep damaged objects: nothing else mends them.
    async fn keep_damaged(&self) -> Result<Vec<String>, StateError> {
        let mut damaged = Vec::new();
        let owner = self.stage.to_string();
        let backups = self.keys.backups(&self.stage);
        for folder in [&backups, &self.keys.deployments(&self.stage)] {
            let listed = self.remote.list(folder).await?;
            let keys = listed.into_iter().map(|(key, _)| key).collect();
            for (key, seen) in self.remote.get_all(keys).await? {
                let place = self.remote.place(&key);
                if let Some(seen) = seen
                    && if_whole(super::format::check(&seen.bytes, &owner, &place))?.is_none()
                {
                    damaged.push((key, seen));
                }
            }
        }
        let aside = aside_folder(self);
        let mut moved = Vec::new();
        let mut old = Vec::new();
        for (key, seen) in damaged {
            let Some(name) = key.filename() else {
                continue;
            };
            let kept = aside.clone().join(name);
            self.remote.overwrite(&kept, &seen.bytes).await?;
            let (from, to) = (self.remote.place(&key), self.remote.place(&kept));
            moved.push(format!("{from} (damaged; kept as {to})"));
            old.push(key);
        }
        self.remote.delete(old).await?;
        Ok(moved)
    }

    /// What repairs set aside, all backups but the newest that can be read, and old history.
    async fn what_may_be_of_use(&self) -> Result<Vec<Path>, StateError> {
        let (folders, backups) = self.remote.folders(&self.keys.backups(&self.stage)).await?;
        let mut keys = Vec::new();
        for folder in folders {
            let listed = self.remote.list(&folder).await?;
            keys.extend(listed.into_iter().map(|(key, _)| key));
        }
        let mut kept = false;
        for (key, _) in backups.into_iter().rev() {
            if !kept {
                let place = self.remote.place(&key);
                kept = self.remote.get(&key).await?.is_some_and(|seen| {
                    decode::<StateRecord>(&seen.bytes, &self.stage.to_string(), &place).is_ok()
                });
                // A damaged one that is newer is kept aside.
                continue;
            }
            keys.push(key);
        }
        let history = self
            .remote
            .list(&self.keys.deployments(&self.stage))
            .await?;
        let old = history.len().saturating_sub(HISTORY);
        keys.extend(history.into_iter().take(old).map(|(key, _)| key));
        Ok(keys)
    }
}

impl Writer {
    /// Puts what there is of a stage among the backups, and a record in its place that says that it is being made anew. Answers
    /// where the old objects are.
    pub(super) async fn set_aside(
        hold: &Hold,
        lineage: Option<String>,
        serial: u64,
    ) -> Result<(Self, Option<String>), StateError> {
        let place = &hold.place;
        for _ in 0..TRIES {
            let found = place.find().await?;
            let aside = copy_aside(hold, &found).await?;
            seal(hold, &found).await?;
            let lineage = settle_app(hold, &found, lineage.clone()).await?;
            let record = StateRecord {
                format: FORMAT,
                stage: place.stage.clone(),
                lineage,
                generation: found.generation + 1,
                serial,
                epoch: hold.epoch,
                session: hold.session.clone(),
                status: StageStatus::Repairing,
                header: StageHeader::default(),
                records: Vec::new(),
                open_intents: Vec::new(),
                backups: backup_names(hold).await?,
                removed: None,
            };
            let key = place.state_key();
            let bytes = encode(&place.remote.place(&key), &record)?;
            let expect = Expect::as_seen(found.state.as_ref());
            let Put::Done(tag) = place.remote.put(&key, &bytes, &expect).await? else {
                continue;
            };
            let state = StageState {
                lineage: record.lineage.clone(),
                serial,
                ..StageState::default()
            };
            let checkpoint = Checkpoint {
                record,
                seen: Seen {
                    bytes,
                    tag,
                    modified: place.remote.clock.now(),
                },
            };
            let mut writer = Self::new(hold.clone(), Some(checkpoint));
            writer.state = state;
            return Ok((writer, aside));
        }
        Err(super::format::corrupt(
            &place.stage,
            &place.remote.place(&place.state_key()),
            "it changes faster than it can be repaired",
        ))
    }
}

/// The names of the backups that there are: the checkpoint that knew them may not be readable any more.
async fn backup_names(hold: &Hold) -> Result<Vec<String>, StateError> {
    let place = &hold.place;
    let listed = place.remote.list(&place.keys.backups(&place.stage)).await?;
    let names = listed.iter().filter_map(|(key, _)| super::keys::stem(key));
    Ok(names.map(str::to_owned).collect())
}

/// The folder among the backups that damaged objects are kept in from now.
fn aside_folder(place: &Place) -> Path {
    let at = format!("{:.3}", place.remote.clock.now()).replace([':', '.'], "-");
    place
        .keys
        .backups(&place.stage)
        .join(format!("damaged-{at}"))
}

async fn copy_aside(hold: &Hold, found: &Found) -> Result<Option<String>, StateError> {
    let place = &hold.place;
    let mut objects: Vec<(&str, &Seen)> = Vec::new();
    if let Some(seen) = &found.state {
        objects.push(("state.json", seen));
    }
    if found.lineage.is_none()
        && let Some(seen) = &found.app
    {
        objects.push(("app.json", seen));
    }
    for (key, seen) in &found.journal {
        objects.push((key.filename().unwrap_or("segment.json"), seen));
    }
    if objects.is_empty() {
        return Ok(None);
    }
    let folder = aside_folder(place);
    for (name, seen) in objects {
        let key = folder.clone().join(name);
        place.remote.overwrite(&key, &seen.bytes).await?;
    }
    Ok(Some(place.remote.place(&folder)))
}

/// Stands in the way of whoever still writes behind what there is.
async fn seal(hold: &Hold, found: &Found) -> Result<(), StateError> {
    let place = &hold.place;
    let generation = found
        .checkpoint
        .as_ref()
        .map_or(found.generation, |found| found.record.generation);
    let last = found
        .journal
        .iter()
        .filter_map(|(key, _)| super::keys::stem(key)?.parse::<u64>().ok())
        .max();
    let mut sequence = last.unwrap_or(0);
    for _ in 0..TRIES {
        sequence += 1;
        let key = place.keys.segment(&place.stage, generation, sequence);
        let segment = Segment {
            format: FORMAT,
            stage: place.stage.clone(),
            generation,
            sequence,
            epoch: hold.epoch,
            session: hold.session.clone(),
            seal: true,
            entries: Vec::new(),
        };
        let bytes = encode(&place.remote.place(&key), &segment)?;
        if let Put::Done(_) = place.remote.put(&key, &bytes, &Expect::Absent).await? {
            return Ok(());
        }
    }
    Err(super::format::corrupt(
        &place.stage,
        &place.remote.place(&place.keys.journal(&place.stage)),
        "it grows faster than it can be closed",
    ))
}

/// The lineage of the application: that of its record, or of `lineage` where it cannot be read.
async fn settle_app(
    hold: &Hold,
    found: &Found,
    lineage: Option<String>,
) -> Result<String, StateError> {
    if let Some(lineage) = &found.lineage {
        return Ok(lineage.clone());
    }
    let remote = &hold.place.remote;
    let app = &hold.place.stage.app;
    let key = hold.place.keys.app_record(app);
    let record = AppRecord {
        format: FORMAT,
        app: app.clone(),
        lineage: lineage.unwrap_or_else(|| remote.ids.ulid(remote.clock.now())),
    };
    let place = remote.place(&key);
    let bytes = encode(&place, &record)?;
    match remote
        .put(&key, &bytes, &Expect::as_seen(found.app.as_ref()))
        .await?
    {
        Put::Done(_) => Ok(record.lineage),
        Put::Refused(Some(seen)) => {
            Ok(decode::<AppRecord>(&seen.bytes, app.as_str(), &place)?.lineage)
        }
        Put::Refused(None) => Err(super::format::corrupt(app, &place, "it comes and goes")),
    }
}
