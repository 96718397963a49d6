//! Finding again what state lost: what a backup has of a declared resource, and else its object by name and mark. Nothing is made,
//! changed or deleted.
//!
//! A backup has the record as it was: outputs, secrets that no provider gives out again, and who made the object. It is believed
//! where the provider still has that object. The provider alone cannot tell the props that an object was last given, and a
//! backup may be older than the object is; so the record says that its last update did not end well: the next run sets the object to what the script
//! says, whatever it is now.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::Fqn,
    state::{Record, StateError, Status},
};

use super::{
    event::Action,
    failure::FailureCause,
    operate::{Done, Job},
    run::Run,
};

/// The newest record of every resource that a backup has.
pub(super) type BackedUp = BTreeMap<Fqn, Arc<Record>>;

impl Run {
    /// Looks for the object of a resource that state knows nothing of, or only that its creation was begun.
    pub(super) async fn find_again(&self, job: &Job) -> Result<Done, FailureCause> {
        if job.prior.is_none()
            && let Some(record) = self.find_in_backups(job).await?
        {
            return Ok((Action::Adopt, self.write(record).await?));
        }
        let instance = match &job.prior {
            Some(begun) => begun.instance.clone(),
            None => self.world.ids.ulid(self.world.clock.now()),
        };
        let context = self.context(&job.fqn, &job.checked.physical_name, &instance);
        let found = self
            .call(job, job.provider.find(&context, &job.resolved))
            .await?;
        let Some(found) = found else {
            return Err(FailureCause::NotThere(job.checked.physical_name.clone()));
        };
        // A name that the program made up is nobody else's; one that the script chose may well be.
        let adopted = job.checked.explicit_name && found.ours != Some(true);
        let mut record = self.record(job, None, &instance, &found.outputs, adopted)?;
        record.status = Status::Updating;
        record.created_at = found.created_at.unwrap_or(record.created_at);
        Ok((Action::Adopt, self.write(record).await?))
    }

    /// What a backup has of the resource, if its object is still there.
    async fn find_in_backups(&self, job: &Job) -> Result<Option<Record>, FailureCause> {
        let backed_up = self.backed_up.get_or_try_init(|| self.read_backups());
        let record = match backed_up.await {
            Ok(records) => records.get(&job.fqn).cloned(),
            Err(error) => return Err(Arc::new(error).into()),
        };
        let Some(record) = record.filter(|record| record.kind == job.kind) else {
            return Ok(None);
        };
        let context = self.context(&job.fqn, &record.physical_name, &record.instance);
        let existing = self.existing(&record)?;
        let read = job.provider.read(&context, &existing);
        let is_there = self.call(job, read).await?.is_some();
        Ok(is_there.then(|| Record {
            status: Status::Updating,
            ..Record::clone(&record)
        }))
    }

    async fn read_backups(&self) -> Result<BackedUp, StateError> {
        let store = &self.world.store;
        let mut out = BackedUp::new();
        for backup in store.backups(&self.stage).await? {
            let snapshot = match store.backup(&self.stage, &backup.name).await {
                Ok(snapshot) => snapshot,
                // A damaged one hides no other.
                Err(StateError::Corrupt { .. } | StateError::TooNew { .. }) => continue,
                Err(error) => return Err(error),
            };
            let opens = snapshot.header.key.is_none() || snapshot.header.key == self.header.key;
            if !opens || snapshot.lineage != self.lineage {
                continue;
            }
            for (fqn, record) in snapshot.records {
                // Newest first. Whether the object of one that was being made or deleted is there, only its name tells.
                if matches!(record.status, Status::Ready | Status::Updating) {
                    out.entry(fqn).or_insert(record);
                }
            }
        }
        Ok(out)
    }
}
