//! Finding again what state lost: declared resources are looked for by their names and marks, and what is there is recorded.
//! Nothing is made, changed or deleted.
//!
//! The provider cannot tell the props that an object was last given, so the record says that its last update did not end
//! well: the next run sets the object to what the script says, whatever it is now.

use crate::state::Status;

use super::{
    event::Action,
    failure::FailureCause,
    operate::{Done, Job},
    run::Run,
};

impl Run {
    /// Looks for the object of a resource that state knows nothing of, or only that its creation was begun.
    pub(super) async fn find_again(&self, job: &Job) -> Result<Done, FailureCause> {
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
}
