//! Earlier states of a stage in the bucket: backups, and what repairs set aside.

use object_store::path::Path;

use super::{
    format::{Segment, StageStatus, StateRecord, decode, encode},
    read::Place,
    writer::Writer,
};
use crate::state::{Snapshot, StateError};

impl Place {
    /// The folders that repairs made, and the backups.
    pub(super) async fn backups(&self) -> Result<(Vec<Path>, Vec<Path>), StateError> {
        let (folders, objects) = self.remote.folders(&self.keys.backups(&self.stage)).await?;
        Ok((folders, objects.into_iter().map(|(key, _)| key).collect()))
    }

    /// Gives a backup other contents. A backup is one object, so whoever reads it finds the old or the new ones.
    pub(super) async fn rewrite_backup(
        &self,
        name: &str,
        backup: &Snapshot,
    ) -> Result<(), StateError> {
        let key = self.keys.backups(&self.stage).join(name);
        let place = self.remote.place(&key);
        let Some(seen) = self.remote.get(&key).await? else {
            return Err(StateError::Io {
                operation: "write",
                place,
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let mut record: StateRecord = decode(&seen.bytes, &self.stage.to_string(), &place)?;
        record.header = backup.header.clone();
        record.records = backup.records.values().cloned().collect();
        record.open_intents = backup.open_intents.values().cloned().collect();
        self.remote.overwrite(&key, &encode(&place, &record)?).await
    }

    /// Takes the entries out of a seal of a journal that was closed: it has to stand where it stands, but nobody reads it.
    pub(super) async fn empty_seal(&self, key: &Path, segment: Segment) -> Result<(), StateError> {
        let empty = Segment {
            entries: Vec::new(),
            ..segment
        };
        let bytes = encode(&self.remote.place(key), &empty)?;
        self.remote.overwrite(key, &bytes).await
    }
}

impl Writer {
    /// Deletes all backups and all that repairs set aside. Answers how many of each.
    pub(super) async fn drop_backups(&mut self) -> Result<(usize, usize), StateError> {
        let place = self.hold.place.clone();
        let (folders, mut keys) = place.backups().await?;
        let count = (keys.len(), folders.len());
        for folder in folders {
            let listed = place.remote.list(&folder).await?;
            keys.extend(listed.into_iter().map(|(key, _)| key));
        }
        // First nobody knows of them any more, then they go.
        if self.is_live() && !self.backups().is_empty() {
            let state = self.state.clone();
            self.write(state, StageStatus::Live, Vec::new()).await?;
        }
        place.remote.delete(keys).await?;
        Ok(count)
    }
}
