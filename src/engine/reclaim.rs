//! Objects that stand under the name that is wanted because an earlier run stopped half-way: taken back, or removed.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    model::Map,
    provider::{Change, OperationContext},
    state::{OldObject, Record},
};

use super::{
    delete::record_of_old,
    failure::FailureCause,
    operate::{Done, Job},
    run::Run,
};

/// What became of an object that stands under the name that is wanted.
pub(super) enum Reclaimed {
    /// There is none.
    Nothing,
    /// It had to go. The job no longer knows of it.
    Removed(Box<Job>),
    /// It is the resource's object again.
    Taken(Box<Taken>),
}

pub(super) struct Taken {
    /// The job, in whose record it is no old object any more.
    pub(super) job: Job,
    pub(super) context: OperationContext,
    pub(super) instance: String,
    /// When its making was begun.
    pub(super) begun: Timestamp,
    /// Its outputs, if it is there.
    pub(super) outputs: Option<Map>,
}

impl Run {
    /// What an earlier run left behind under the name that is wanted now stops being an old object, or the sweep would delete
    /// what the script asks for. It is taken back, unless it was begun with props that no update changes: then it goes.
    pub(super) async fn reclaim(&self, job: &Job) -> Result<Reclaimed, FailureCause> {
        let Some((prior, old)) = left_behind(job) else {
            return Ok(Reclaimed::Nothing);
        };
        if let Change::Replace(_) = job.provider.diff(&old.props, &job.checked.props) {
            let job = self.remove_left_behind(job, prior, old).await?;
            return Ok(Reclaimed::Removed(Box::new(job)));
        }
        let context = self.context(&job.fqn, &old.physical_name, &old.instance);
        let (provider, timeout) = (job.provider.as_ref(), job.provider.timeout());
        // What was recorded whole is ours however old it is.
        let begun = match old.begun_at {
            Some(begun) => begun,
            None if old.outputs.is_empty() => prior.created_at,
            None => Timestamp::UNIX_EPOCH,
        };
        let times = (begun, old.tried_at.unwrap_or(begun));
        let found = self
            .find_begun(provider, timeout, &context, &job.resolved, times)
            .await?;
        Ok(Reclaimed::Taken(Box::new(Taken {
            job: without(job, prior, old),
            context,
            instance: old.instance.clone(),
            begun,
            outputs: found.map(|found| found.outputs),
        })))
    }

    /// Deletes an object that stands under the name that is wanted. Answers the job without it.
    pub(super) async fn remove_left_behind(
        &self,
        job: &Job,
        prior: &Record,
        old: &OldObject,
    ) -> Result<Job, FailureCause> {
        let record = record_of_old(prior, old);
        self.delete_object(&job.provider, &record, job.provider.timeout())
            .await?;
        let job = without(job, prior, old);
        if let Some(prior) = &job.prior {
            self.write(prior.as_ref().clone()).await?;
        }
        Ok(job)
    }

    pub(super) async fn go_on_with(
        &self,
        taken: &Taken,
        old: Option<&Arc<Record>>,
    ) -> Result<Done, FailureCause> {
        let Taken {
            job,
            context,
            instance,
            begun,
            outputs,
        } = taken;
        let old = old.map(Arc::as_ref);
        match outputs {
            Some(outputs) => {
                self.take_over(job, old, context, outputs.clone(), instance, Some(*begun))
                    .await
            }
            None => self.create_instance(job, old, instance.clone()).await,
        }
    }
}

/// What an earlier run left behind under the name that is wanted now: the record that knows of it, and the object.
pub(super) fn left_behind(job: &Job) -> Option<(&Record, &OldObject)> {
    let prior = job.prior.as_deref()?;
    let name = &job.checked.physical_name;
    let old = prior.old_objects.iter().find(|old| {
        old.physical_name == *name && old.kind == job.kind && old.instance != prior.instance
    })?;
    Some((prior, old))
}

/// The job with a record that does not know of `old` any more.
pub(super) fn without(job: &Job, prior: &Record, old: &OldObject) -> Job {
    let mut record = prior.clone();
    record
        .old_objects
        .retain(|object| object.instance != old.instance);
    Job {
        prior: Some(Arc::new(record)),
        ..job.clone()
    }
}
