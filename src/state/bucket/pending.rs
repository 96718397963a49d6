//! Results that could not be brought into the bucket, kept on this machine until the next run.
//!
//! When the network goes away in the middle of a run, what the provider has done already is written here, durably, one file a
//! batch: `.alchemy/pending/<app>/<stage>/<epoch>-<number>.json`. The next run of the stage from this folder brings it into the
//! bucket before anything else, in the write that seals the journal of the run that was cut off. Where somebody else has
//! worked on the stage meanwhile, their records stand, and what they do not know of is handed to recovery as an open
//! operation, which looks the object up.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    format::{Segment, decode, encode},
    keys::escape,
};
use crate::{
    model::StagePath,
    state::{
        Intent, JournalEntry, Operation, StageState, StateError,
        migrate::{Role, Versioned},
        record::FORMAT,
    },
    util::fs,
};

/// One batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    format: u32,
    stage: StagePath,
    /// The bucket and prefix that it belongs to.
    store: String,
    /// Where in the journal it was to stand.
    pub(super) generation: u64,
    pub(super) sequence: u64,
    /// Who was to write it.
    pub(super) epoch: u64,
    pub(super) session: String,
    /// Counts what was kept: 0 may be in the bucket all the same.
    pub(super) number: u32,
    pub(super) entries: Vec<JournalEntry>,
}

impl Versioned for Kept {
    const ROLE: Role = Role::Kept;
}

/// Where in the journal a batch was to stand, and who was to write it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) session: String,
}

/// The folder of what is kept.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    root: PathBuf,
    store: String,
}

impl Pending {
    /// In the `.alchemy` folder `root`, for one bucket and prefix.
    pub(super) fn new(root: &Path, store: &str) -> Self {
        Self {
            root: root.join("pending"),
            store: store.to_owned(),
        }
    }

    /// The folder of a stage.
    pub(super) fn folder(&self, stage: &StagePath) -> PathBuf {
        self.root
            .join(escape(stage.app.as_str()))
            .join(escape(stage.stage.as_str()))
    }

    /// Keeps a batch, durably. Operations that were not begun, and replacements of the whole state, which ended with
    /// their command, are left out; answers whether anything was left to keep.
    pub(super) fn keep(
        &self,
        stage: &StagePath,
        place: &Place,
        number: u32,
        entries: Vec<JournalEntry>,
    ) -> Result<bool, StateError> {
        let entries: Vec<JournalEntry> = entries
            .into_iter()
            .filter(|entry| !matches!(entry, JournalEntry::Intent(_) | JournalEntry::Replaced(_)))
            .collect();
        if entries
            .iter()
            .all(|entry| matches!(entry, JournalEntry::Header(_)))
        {
            return Ok(false);
        }
        let folder = self.folder(stage);
        let path = folder.join(format!("{:08}-{number:06}.json", place.epoch));
        let kept = Kept {
            format: FORMAT,
            stage: stage.clone(),
            store: self.store.clone(),
            generation: place.generation,
            sequence: place.sequence,
            epoch: place.epoch,
            session: place.session.clone(),
            number,
            entries,
        };
        let bytes = encode(&path.display().to_string(), &kept)?;
        fs::create_dir_all(&folder)?;
        fs::write_atomic(&path, &bytes)?;
        // The folders may be new: a file in a folder that a power failure takes away is not kept.
        for folder in folder.ancestors().take(4) {
            fs::sync_dir(folder)?;
        }
        Ok(true)
    }

    /// What is kept for a stage, in order, with the files that it stands in.
    pub(super) fn read(&self, stage: &StagePath) -> Result<Vec<(PathBuf, Kept)>, StateError> {
        let folder = self.folder(stage);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut files: Vec<PathBuf> = fs::list(&folder)?
            .into_iter()
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        files.sort();
        let mut out = Vec::with_capacity(files.len());
        for path in files {
            let bytes = fs::read(&path)?;
            let kept: Kept = decode(&bytes, &stage.to_string(), &path.display().to_string())?;
            if kept.store == self.store && kept.stage == *stage {
                out.push((path, kept));
            }
        }
        Ok(out)
    }

    /// Forgets what is in the bucket now.
    pub(super) fn forget(&self, files: &[PathBuf]) -> Result<(), StateError> {
        for path in files {
            fs::remove_file(path)?;
        }
        if let Some(folder) = files.first().and_then(|path| path.parent()) {
            fs::sync_dir(folder)?;
        }
        Ok(())
    }
}

/// What is to be done about what was kept.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// To be written.
    pub(super) entries: Vec<JournalEntry>,
    /// Whether somebody else has worked on the stage since.
    pub(super) moved_on: bool,
}

/// Compares what was kept with the stage as it is now: its records, and the segments since its checkpoint.
pub(super) fn resolve(
    kept: &[(PathBuf, Kept)],
    state: &StageState,
    segments: &[Segment],
    generation: u64,
) -> Plan {
    let mut plan = Plan::default();
    for (_, kept) in kept {
        let next = segments.len() as u64 + 1;
        let lost = kept.generation == generation && kept.sequence == next;
        let arrived = kept.generation == generation
            && kept.sequence + 1 == next
            && segments
                .last()
                .is_some_and(|segment| segment.session == kept.session);
        match (lost, arrived) {
            (true, _) => plan.entries.extend(kept.entries.iter().cloned()),
            (_, true) if kept.number == 0 => {}
            (_, true) => plan.entries.extend(kept.entries.iter().cloned()),
            (false, false) => {
                plan.moved_on = true;
                plan.entries.extend(superseded(&kept.entries, state));
            }
        }
    }
    plan
}

/// What is left of a batch where somebody else has worked on the stage since: nothing where they know the resource, and else
/// an open operation, so that recovery looks for the object.
fn superseded(entries: &[JournalEntry], state: &StageState) -> Vec<JournalEntry> {
    let records = entries.iter().filter_map(|entry| match entry {
        JournalEntry::Record(record) | JournalEntry::Renamed { record, .. } => Some(record),
        _ => None,
    });
    records
        .filter(|record| {
            !state.records.contains_key(&record.fqn)
                && !state.open_intents.contains_key(&record.fqn)
        })
        .map(|record| {
            JournalEntry::Intent(std::sync::Arc::new(Intent {
                fqn: record.fqn.clone(),
                kind: record.kind.clone(),
                operation: Operation::Create,
                physical_name: record.physical_name.clone(),
                instance: record.instance.clone(),
                props_hash: record.props_hash.clone(),
                props: record.props.clone(),
                at: record.created_at,
            }))
        })
        .collect()
}
