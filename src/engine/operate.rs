//! One operation on one object: intent durable, provider called, result durable.
//!
//! Nothing here decides what to do (see `decide`) or when (see `schedule`). What is written is made in `entries`, what an earlier
//! run left in the way is dealt with in `reclaim`, and every call to a provider goes through `call`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    model::{Fqn, Map, Position},
    provider::{
        Checked, Existing, FailureKind, OperationContext, Provider, ProviderError, observe,
    },
    secret::VaultError,
    state::{Intent, JournalEntry, Operation, Record, StateError, Status},
};

use super::{
    call::is_uncertain,
    decide::Decision,
    entries::begun,
    event::Action,
    failure::FailureCause,
    look::{Drift, Finding},
    options::{Phase, ResourceOptions},
    reclaim::{Reclaimed, left_behind},
    recorded,
    recover::{attempt, is_ours, maybe_given, with_intent},
    renamed::moved_help,
    run::Run,
    schedule::Slot,
};

/// What to do about something that an update names and does not find.
const GONE_BESIDE: &str = "something that it names is not there: correct it, or let `alch run --refresh` make it again where state knows it";

/// Everything an operation needs, taken out of the graph so that no lock is held while it runs.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) fqn: Fqn,
    pub(super) kind: Arc<str>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) decision: Decision,
    pub(super) prior: Option<Arc<Record>>,
    pub(super) checked: Checked,
    pub(super) options: ResourceOptions,
    pub(super) position: Option<Position>,
    pub(super) depends_on: Vec<Fqn>,
    /// Props with references resolved and secrets opened.
    pub(super) resolved: Map,
    pub(super) props_hash: String,
    pub(super) reference_hashes: BTreeMap<String, String>,
    /// How the object was found to differ from what state says.
    pub(super) found: Option<Arc<Finding>>,
    pub(super) slot: Arc<Slot>,
}

/// A result: what was done and the record that says so, durable already.
pub(super) type Done = (Action, Arc<Record>);

impl From<VaultError> for FailureCause {
    fn from(error: VaultError) -> Self {
        Self::Vault(Arc::new(error))
    }
}

impl From<Arc<StateError>> for FailureCause {
    fn from(error: Arc<StateError>) -> Self {
        Self::State(error)
    }
}

impl Run {
    /// Carries out a job.
    pub(super) async fn operate(&self, job: &Job) -> Result<Done, FailureCause> {
        if self.options.rebuild {
            return self.find_again(job).await;
        }
        if !matches!(job.decision, Decision::Unchanged | Decision::Repolicy) {
            self.permit(&job.provider.touches(&job.resolved))?;
        }
        match &job.decision {
            Decision::Unchanged => Err(FailureCause::StalePlan("nothing to do".to_owned())),
            Decision::Repolicy => {
                let prior = prior(job)?;
                let mut record = prior.as_ref().clone();
                record.protect = job.options.protect.unwrap_or(false);
                record.retain = job.options.retain.unwrap_or(false);
                let record = self.write(record).await?;
                Ok((Action::Unchanged, record))
            }
            Decision::Create => self.create(job, None).await,
            Decision::ResumeCreate { anew } => self.resume_create(job, *anew).await,
            Decision::ResumeDelete => {
                let prior = prior(job)?;
                let context = self.context(&job.fqn, &prior.physical_name, &prior.instance);
                let existing = self.existing(prior)?;
                match self
                    .call(job, job.provider.read(&context, &existing))
                    .await?
                {
                    Some(outputs) => {
                        let existing = Existing {
                            outputs,
                            ..existing
                        };
                        self.update(job, prior, existing).await
                    }
                    None => self.create_again(job).await,
                }
            }
            Decision::Update => {
                // A change of name in place must find the name free.
                let freed = match left_behind(job) {
                    Some((prior, old)) if prior.physical_name != old.physical_name => {
                        Some(self.remove_left_behind(job, prior, old).await?)
                    }
                    _ => None,
                };
                let job = freed.as_ref().unwrap_or(job);
                let prior = prior(job)?;
                let existing = as_found(job, self.existing(prior)?);
                self.update(job, prior, existing).await
            }
            Decision::Replace { delete_first, .. } => self.replace(job, *delete_first).await,
        }
    }

    /// Makes the object anew after the one in state turned out to be gone: that it is gone is durable first, so that a crash
    /// from here on is the crash of an ordinary create. Objects that earlier replacements left behind stay known.
    async fn create_again(&self, job: &Job) -> Result<Done, FailureCause> {
        match self.reclaim(job).await? {
            Reclaimed::Nothing => self.create_anew(job).await,
            Reclaimed::Removed(job) => self.create_anew(&job).await,
            Reclaimed::Taken(taken) => self.go_on_with(&taken, None).await,
        }
    }

    async fn create_anew(&self, job: &Job) -> Result<Done, FailureCause> {
        let instance = self.world.ids.ulid(self.world.clock.now());
        match job.prior.as_deref() {
            // Without the script, state alone knows that there is to be an object.
            Some(prior) if !prior.old_objects.is_empty() || self.options.phase == Phase::Repair => {
                let record = self.unmade(job, prior, &instance)?;
                self.write(record).await?;
            }
            _ => {
                let fqn = job.fqn.clone();
                self.append(JournalEntry::Removed { fqn }).await?;
            }
        }
        self.create_instance(job, None, instance).await
    }

    /// Makes the object. `old` is the record of the object that it replaces.
    async fn create(&self, job: &Job, old: Option<&Record>) -> Result<Done, FailureCause> {
        let instance = self.world.ids.ulid(self.world.clock.now());
        self.create_instance(job, old, instance).await
    }

    pub(super) async fn create_instance(
        &self,
        job: &Job,
        old: Option<&Record>,
        instance: String,
    ) -> Result<Done, FailureCause> {
        let action = if old.is_some() {
            Action::Replace
        } else {
            Action::Create
        };
        let context = self.context(&job.fqn, &job.checked.physical_name, &instance);
        let adopt = job.options.adopt.unwrap_or(self.options.adopt);
        let found = match adopt {
            true => {
                self.call(job, job.provider.find(&context, &job.resolved))
                    .await?
            }
            false => None,
        };
        self.keep_to_adoption(job, adopt, found.as_ref()).await?;
        if let Some(found) = found {
            return self
                .take_over(job, old, &context, found.outputs, &instance, None)
                .await;
        }
        let intent = self.intend(job, Operation::Create, &instance).await?;
        let mut error = match self
            .call(job, job.provider.create(&context, &job.resolved))
            .await
        {
            Ok(outputs) => {
                job.slot.free();
                self.made.add(&job.checked.physical_name, &outputs);
                let record = self.record(job, old, &instance, &outputs, false)?;
                return Ok((action, self.write(record).await?));
            }
            Err(error) => error,
        };
        if is_uncertain(&error) && !self.world.cancel.soft.is_cancelled() {
            // The answer was lost, not necessarily the object: one look decides it now rather than at the next run.
            if let Ok(Some(found)) = job.provider.find(&context, &job.resolved).await
                && is_ours(&found, intent.at)
            {
                let begun = Some(intent.at);
                return self
                    .take_over(job, old, &context, found.outputs, &instance, begun)
                    .await;
            }
        }
        self.close_failed(job, old, &intent, &error).await?;
        if let FailureCause::Provider(error) = &mut error
            && error.kind == FailureKind::Conflict
            && let Some(held) = self.held_elsewhere(job)
        {
            let (from, to) = (held.fqn.within_stage(), job.fqn.within_stage());
            let help = format!("state holds it as `{from}`; {}", moved_help(from, to));
            error.help = Some(help);
        }
        Err(error)
    }

    /// Brings an object that is there already to the declared props and records it: one that this resource began to make at
    /// `begun`, or adopts. Until that is done state keeps saying since when it may be there, or a recovery from here would
    /// take it for an older one of somebody else's.
    pub(super) async fn take_over(
        &self,
        job: &Job,
        old: Option<&Record>,
        context: &OperationContext,
        outputs: Map,
        instance: &str,
        begun_at: Option<Timestamp>,
    ) -> Result<Done, FailureCause> {
        let adopted = begun_at.is_none();
        let operation = if adopted {
            Operation::Adopt
        } else {
            Operation::Create
        };
        let existing = Existing {
            props: Map::new(),
            outputs,
            physical_name: job.checked.physical_name.clone(),
            settled: false,
            // What it was begun with may not be what is asked for any more.
            attempted: match &job.prior {
                Some(prior) if prior.instance == instance => {
                    recorded::put_into(&maybe_given(prior), &self.graph().prior)
                }
                _ => Map::new(),
            },
        };
        self.consent(job, &existing)?;
        let at = begun_at.unwrap_or_else(|| self.world.clock.now());
        let intent = self.intend_since(job, operation, instance, at).await?;
        match self
            .call(job, job.provider.update(context, &job.resolved, &existing))
            .await
        {
            Ok(outputs) => {
                job.slot.free();
                if !adopted {
                    self.made.add(&job.checked.physical_name, &outputs);
                }
                // An object that a renamed resource made stays one of ours, to be deleted with its resource.
                let foreign = adopted && self.held_elsewhere(job).is_none_or(|held| held.adopted);
                let record = self.record(job, old, instance, &outputs, foreign)?;
                let action = match (adopted, old) {
                    (true, _) => Action::Adopt,
                    (false, Some(_)) => Action::Replace,
                    (false, None) => Action::Create,
                };
                Ok((action, self.write(record).await?))
            }
            Err(error) => {
                // The object is there whatever the error says, so the record must keep it in sight.
                let now = self.world.clock.now();
                let record = match old {
                    Some(old) => with_intent(old, &intent, now),
                    None => begun(job, &intent, now),
                };
                self.write(record).await?;
                Err(error)
            }
        }
    }

    /// A create that a crash or a lost answer left open: look first. With `anew` what is there cannot become what the script
    /// asks for now.
    async fn resume_create(&self, job: &Job, anew: bool) -> Result<Done, FailureCause> {
        let prior = prior(job)?;
        let anew = anew || prior.physical_name != job.checked.physical_name;
        let context = self.context(&job.fqn, &prior.physical_name, &prior.instance);
        let (provider, timeout) = (job.provider.as_ref(), job.provider.timeout());
        let begun = prior.created_at;
        let times = (begun, prior.updated_at);
        let found = if !anew {
            self.find_begun(provider, timeout, &context, &job.resolved, times)
                .await?
        } else {
            // It is looked for as it was asked for then, and removed.
            let props = self.open(&prior.props)?;
            let found = self
                .find_begun(provider, timeout, &context, &props, times)
                .await?;
            if let Some(found) = found
                && (prior.adopted || is_ours(&found, prior.created_at))
                && !prior.adopted
            {
                let existing = Existing {
                    props,
                    outputs: found.outputs,
                    physical_name: prior.physical_name.clone(),
                    settled: false,
                    attempted: Map::new(),
                };
                self.permit(&job.provider.touches_on_delete(&existing))?;
                self.call(job, job.provider.delete(&context, &existing))
                    .await?;
            }
            None
        };
        match found {
            Some(found) if prior.adopted || is_ours(&found, prior.created_at) => {
                let begun = (!prior.adopted).then_some(begun);
                self.take_over(job, None, &context, found.outputs, &prior.instance, begun)
                    .await
            }
            // The same object as before, as far as recovery is concerned: another crash finds it by the same name and mark.
            _ if !anew => {
                self.create_instance(job, None, prior.instance.clone())
                    .await
            }
            _ => self.create_again(job).await,
        }
    }

    async fn update(
        &self,
        job: &Job,
        prior: &Record,
        existing: Existing,
    ) -> Result<Done, FailureCause> {
        let context = self.context(&job.fqn, &job.checked.physical_name, &prior.instance);
        // An update that changes nothing may need no call, and then nobody would notice that the object is gone.
        if self.options.force
            && self
                .call(job, job.provider.read(&context, &existing))
                .await?
                .is_none()
        {
            return self.create_again(job).await;
        }
        self.consent(job, &existing)?;
        self.intend(job, Operation::Update, &prior.instance).await?;
        match self
            .call(job, job.provider.update(&context, &job.resolved, &existing))
            .await
        {
            Ok(outputs) => {
                job.slot.free();
                let mut record =
                    self.record(job, None, &prior.instance, &outputs, prior.adopted)?;
                record.created_at = prior.created_at;
                Ok((Action::Update, self.write(record).await?))
            }
            Err(mut error) => {
                // Deleted behind our back, the declared state needs it, so it is made again. But what is missing may be
                // something else that the update names: only a look at the object itself tells.
                if matches!(&error, FailureCause::Provider(error) if error.kind == FailureKind::NotFound)
                    && let Ok(None) = self.call(job, job.provider.read(&context, &existing)).await
                {
                    return self.create_again(job).await;
                }
                if let FailureCause::Provider(error) = &mut error
                    && error.kind == FailureKind::NotFound
                {
                    error.help.get_or_insert_with(|| GONE_BESIDE.to_owned());
                }
                let mut record = prior.clone();
                attempt(&mut record, &job.checked.physical_name, &job.checked.props);
                record.updated_at = self.world.clock.now();
                self.write(record).await?;
                Err(error)
            }
        }
    }

    async fn replace(&self, job: &Job, delete_first: bool) -> Result<Done, FailureCause> {
        match self.reclaim(job).await? {
            Reclaimed::Nothing => self.replace_prior(job, delete_first).await,
            Reclaimed::Removed(job) => self.replace_prior(&job, delete_first).await,
            Reclaimed::Taken(taken) => {
                let old = prior(&taken.job)?;
                self.go_on_with(&taken, Some(old)).await
            }
        }
    }

    async fn replace_prior(&self, job: &Job, delete_first: bool) -> Result<Done, FailureCause> {
        let prior = prior(job)?;
        if !delete_first {
            return self.create(job, Some(prior)).await;
        }
        let provider = self.world.registry.get(&prior.kind).ok_or_else(|| {
            FailureCause::Provider(ProviderError::new(
                FailureKind::Refused,
                format!(
                    "no provider serves `{}`, the kind of the old object",
                    prior.kind
                ),
            ))
        })?;
        self.delete_object(&provider, prior, job.provider.timeout())
            .await?;
        let (_, record) = self.create_again(job).await?;
        Ok((Action::Replace, record))
    }

    /// Deletes the object of a record: intent, call. The caller writes what follows from it.
    pub(super) async fn delete_object(
        &self,
        provider: &Arc<dyn Provider>,
        record: &Record,
        timeout: std::time::Duration,
    ) -> Result<(), FailureCause> {
        self.permit(&provider.touches_on_delete(&self.existing(record)?))?;
        let intent = Intent {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            operation: Operation::Delete,
            physical_name: record.physical_name.clone(),
            instance: record.instance.clone(),
            props_hash: String::new(),
            props: Map::new(),
            at: self.world.clock.now(),
        };
        self.append(JournalEntry::Intent(Arc::new(intent))).await?;
        let context = self.context(&record.fqn, &record.physical_name, &record.instance);
        let existing = if record.status == Status::Creating {
            // It is not known whether there is an object at all.
            let props = self.open(&record.props)?;
            let found = self
                .find_begun(
                    provider.as_ref(),
                    timeout,
                    &context,
                    &props,
                    (record.created_at, record.updated_at),
                )
                .await?;
            match found {
                Some(found) if is_ours(&found, record.created_at) => Existing {
                    props,
                    outputs: found.outputs,
                    physical_name: record.physical_name.clone(),
                    settled: false,
                    attempted: Map::new(),
                },
                _ => return Ok(()),
            }
        } else {
            self.existing(record)?
        };
        match self
            .guarded(&record.fqn, timeout, provider.delete(&context, &existing))
            .await
        {
            Err(FailureCause::Provider(error)) if error.kind == FailureKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn prior(job: &Job) -> Result<&Arc<Record>, FailureCause> {
    job.prior.as_ref().ok_or_else(|| {
        FailureCause::StalePlan(format!("`{}` has no record to start from", job.fqn))
    })
}

/// What an update starts from: what state says, and what was found to be otherwise.
fn as_found(job: &Job, mut existing: Existing) -> Existing {
    if let Some(found) = &job.found
        && let Drift::Changed {
            differences,
            outputs,
        } = &found.drift
    {
        existing.settled = false;
        existing.props = observe::as_found(&existing.props, differences);
        existing.outputs.extend(outputs.clone());
    }
    existing
}
