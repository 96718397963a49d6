//! One operation on one object: intent durable, provider called, result durable.
//!
//! Nothing here decides what to do (see `decide`) or when (see `schedule`).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Fqn, Map, Position},
    provider::{
        Change, Checked, Existing, FailureKind, Meter, OperationContext, Provider, ProviderError,
        Touch,
    },
    secret::VaultError,
    state::{Intent, JournalEntry, OldObject, Operation, Record, StateError, Status},
};

use super::{
    decide::Decision,
    delete::record_of_old,
    event::{Action, Event},
    failure::FailureCause,
    options::{ResourceOptions, World},
    recover::{from_intent, is_ours, with_intent},
    renamed::moved_help,
    resolve::map_has_secret,
    run::Run,
};

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
}

/// What became of an object that stands under the name that is wanted.
enum Reclaimed {
    /// There is none.
    Nothing,
    /// It had to go. The job no longer knows of it.
    Removed(Box<Job>),
    /// It is the resource's object again.
    Taken(Box<Taken>),
}

struct Taken {
    /// The job, in whose record it is no old object any more.
    job: Job,
    context: OperationContext,
    instance: String,
    /// Its outputs, if it is there.
    outputs: Option<Map>,
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
                let prior = prior(job)?;
                let existing = self.existing(prior)?;
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
            Some(prior) if !prior.old_objects.is_empty() => {
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

    /// A record of an object that is still to be made, with the objects that earlier replacements left behind.
    fn unmade(&self, job: &Job, prior: &Record, instance: &str) -> Result<Record, VaultError> {
        let mut record = self.record(job, None, instance, &Map::new(), false)?;
        record.status = Status::Creating;
        record.props_hash = String::new();
        record.old_objects.clone_from(&prior.old_objects);
        Ok(record)
    }

    /// Makes the object. `old` is the record of the object that it replaces.
    async fn create(&self, job: &Job, old: Option<&Record>) -> Result<Done, FailureCause> {
        let instance = self.world.ids.ulid(self.world.clock.now());
        self.create_instance(job, old, instance).await
    }

    async fn create_instance(
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
        if adopt {
            let found = self
                .call(job, job.provider.find(&context, &job.resolved))
                .await?;
            if let Some(found) = found {
                return self
                    .take_over(job, old, &context, found.outputs, &instance, true)
                    .await;
            }
        }
        let intent = self.intend(job, Operation::Create, &instance).await?;
        let mut error = match self
            .call(job, job.provider.create(&context, &job.resolved))
            .await
        {
            Ok(outputs) => {
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
                return self
                    .take_over(job, old, &context, found.outputs, &instance, false)
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

    /// Brings an object that is there already to the declared props and records it.
    async fn take_over(
        &self,
        job: &Job,
        old: Option<&Record>,
        context: &OperationContext,
        outputs: Map,
        instance: &str,
        adopted: bool,
    ) -> Result<Done, FailureCause> {
        let operation = if adopted {
            Operation::Adopt
        } else {
            Operation::Create
        };
        let intent = self.intend(job, operation, instance).await?;
        let existing = Existing {
            props: Map::new(),
            outputs,
            physical_name: job.checked.physical_name.clone(),
        };
        match self
            .call(job, job.provider.update(context, &job.resolved, &existing))
            .await
        {
            Ok(outputs) => {
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
        let found = if !anew {
            self.call(job, job.provider.find(&context, &job.resolved))
                .await?
        } else {
            // It is looked for as it was asked for then, and removed.
            let props = self.open(&prior.props)?;
            let found = self.call(job, job.provider.find(&context, &props)).await?;
            if let Some(found) = found
                && (prior.adopted || is_ours(&found, prior.created_at))
                && !prior.adopted
            {
                let existing = Existing {
                    props,
                    outputs: found.outputs,
                    physical_name: prior.physical_name.clone(),
                };
                self.permit(&job.provider.touches_on_delete(&existing))?;
                self.call(job, job.provider.delete(&context, &existing))
                    .await?;
            }
            None
        };
        match found {
            Some(found) if prior.adopted || is_ours(&found, prior.created_at) => {
                let adopted = prior.adopted;
                self.take_over(job, None, &context, found.outputs, &prior.instance, adopted)
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
        self.intend(job, Operation::Update, &prior.instance).await?;
        match self
            .call(job, job.provider.update(&context, &job.resolved, &existing))
            .await
        {
            Ok(outputs) => {
                let mut record =
                    self.record(job, None, &prior.instance, &outputs, prior.adopted)?;
                record.created_at = prior.created_at;
                Ok((Action::Update, self.write(record).await?))
            }
            Err(FailureCause::Provider(error)) if error.kind == FailureKind::NotFound => {
                // Deleted behind our back: the declared state needs it, so it is made again.
                self.create_again(job).await
            }
            Err(error) => {
                let mut record = prior.clone();
                record.status = Status::Updating;
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

    /// What an earlier run left behind under the name that is wanted now stops being an old object, or the sweep would delete
    /// what the script asks for. It is taken back, unless it was begun with props that no update changes: then it goes.
    async fn reclaim(&self, job: &Job) -> Result<Reclaimed, FailureCause> {
        let left = job.prior.as_ref().and_then(|prior| {
            let mut old_objects = prior.old_objects.iter();
            let old = old_objects.find(|old| {
                old.physical_name == job.checked.physical_name && old.kind == job.kind
            })?;
            Some((prior, old))
        });
        let Some((prior, old)) = left else {
            return Ok(Reclaimed::Nothing);
        };
        let mut record = prior.as_ref().clone();
        record
            .old_objects
            .retain(|object| object.instance != old.instance);
        let job_with = |record| Job {
            prior: Some(record),
            ..job.clone()
        };
        if let Change::Replace(_) = job.provider.diff(&old.props, &job.checked.props) {
            let old = record_of_old(prior, old);
            self.delete_object(&job.provider, &old, job.provider.timeout())
                .await?;
            return Ok(Reclaimed::Removed(Box::new(job_with(
                self.write(record).await?,
            ))));
        }
        let context = self.context(&job.fqn, &old.physical_name, &old.instance);
        let found = self
            .call(job, job.provider.find(&context, &job.resolved))
            .await?;
        Ok(Reclaimed::Taken(Box::new(Taken {
            job: job_with(Arc::new(record)),
            context,
            instance: old.instance.clone(),
            outputs: found.map(|found| found.outputs),
        })))
    }

    async fn go_on_with(
        &self,
        taken: &Taken,
        old: Option<&Arc<Record>>,
    ) -> Result<Done, FailureCause> {
        let Taken {
            job,
            context,
            instance,
            outputs,
        } = taken;
        let old = old.map(Arc::as_ref);
        match outputs {
            Some(outputs) => {
                self.take_over(job, old, context, outputs.clone(), instance, false)
                    .await
            }
            None => self.create_instance(job, old, instance.clone()).await,
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
            let find = provider.find(&context, &props);
            match self.guarded(&record.fqn, timeout, find).await? {
                Some(found) if is_ours(&found, record.created_at) => Existing {
                    props,
                    outputs: found.outputs,
                    physical_name: record.physical_name.clone(),
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

    /// After a failed create: what the journal must say so that nothing is lost and nothing is invented.
    async fn close_failed(
        &self,
        job: &Job,
        old: Option<&Record>,
        intent: &Intent,
        error: &FailureCause,
    ) -> Result<(), FailureCause> {
        if matches!(error, FailureCause::State(_)) {
            return Ok(());
        }
        let now = self.world.clock.now();
        let leaves = job
            .prior
            .as_ref()
            .is_some_and(|prior| !prior.old_objects.is_empty());
        let entry = match (old, is_uncertain(error)) {
            (None, false) if !leaves => JournalEntry::Removed {
                fqn: intent.fqn.clone(),
            },
            (None, _) => JournalEntry::Record(Arc::new(begun(job, intent, now))),
            (Some(old), false) => JournalEntry::Record(Arc::new(old.clone())),
            (Some(old), true) => JournalEntry::Record(Arc::new(with_intent(old, intent, now))),
        };
        Ok(self.append(entry).await?)
    }

    async fn intend(
        &self,
        job: &Job,
        operation: Operation,
        instance: &str,
    ) -> Result<Arc<Intent>, FailureCause> {
        let intent = Arc::new(Intent {
            fqn: job.fqn.clone(),
            kind: job.kind.clone(),
            operation,
            physical_name: job.checked.physical_name.clone(),
            instance: instance.to_owned(),
            props_hash: job.props_hash.clone(),
            props: self.seal(&job.fqn, "props", &job.checked.props)?,
            at: self.world.clock.now(),
        });
        self.append(JournalEntry::Intent(Arc::clone(&intent)))
            .await?;
        Ok(intent)
    }

    fn record(
        &self,
        job: &Job,
        old: Option<&Record>,
        instance: &str,
        outputs: &Map,
        adopted: bool,
    ) -> Result<Record, VaultError> {
        let now = self.world.clock.now();
        let mut old_objects = old
            .or(job.prior.as_deref())
            .map(|old| old.old_objects.clone())
            .unwrap_or_default();
        // An object that was adopted, or that the script asked to keep, stays when another takes its place.
        if let Some(old) = old
            && !old.retain
            && (!old.adopted || self.options.delete_adopted)
        {
            old_objects.push(OldObject {
                kind: old.kind.clone(),
                physical_name: old.physical_name.clone(),
                instance: old.instance.clone(),
                props: old.props.clone(),
                outputs: old.outputs.clone(),
                begun_at: None,
            });
        }
        // One that is found by its name only, and whose name the object has now, is the object.
        old_objects.retain(|old| {
            !(old.outputs.is_empty()
                && old.kind == job.kind
                && old.physical_name == job.checked.physical_name)
        });
        Ok(Record {
            fqn: job.fqn.clone(),
            kind: job.kind.clone(),
            status: Status::Ready,
            physical_name: job.checked.physical_name.clone(),
            instance: instance.to_owned(),
            props: self.seal(&job.fqn, "props", &job.checked.props)?,
            props_hash: job.props_hash.clone(),
            reference_hashes: job.reference_hashes.clone(),
            outputs: self.seal(&job.fqn, "outputs", outputs)?,
            depends_on: job.depends_on.clone(),
            adopted,
            protect: job.options.protect.unwrap_or(false),
            retain: job.options.retain.unwrap_or(false),
            keeps_name: job
                .prior
                .as_ref()
                .is_some_and(|prior| prior.keeps_name && !job.checked.explicit_name),
            old_objects,
            position: job.position.clone(),
            created_at: now,
            updated_at: now,
        })
    }

    /// Makes a record durable.
    async fn write(&self, record: Record) -> Result<Arc<Record>, FailureCause> {
        let record = Arc::new(record);
        self.append(JournalEntry::Record(Arc::clone(&record)))
            .await?;
        Ok(record)
    }

    /// Appends one entry; a failure stops the whole run, because nothing may start that could not be recorded.
    pub(super) async fn append(&self, entry: JournalEntry) -> Result<(), Arc<StateError>> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        match self.write_entry(session.as_ref(), entry.clone()).await {
            Ok(()) => {
                let mut graph = self.graph();
                graph.dirty = true;
                graph.note_written(&entry);
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.graph()
                    .poisoned
                    .get_or_insert_with(|| Arc::clone(&error));
                Err(error)
            }
        }
    }

    fn seal(&self, fqn: &Fqn, section: &str, map: &Map) -> Result<Map, VaultError> {
        if map_has_secret(map) {
            self.keyring.vault()?.seal_map(fqn, section, map)
        } else {
            Ok(map.clone())
        }
    }

    pub(super) fn open(&self, map: &Map) -> Result<Map, VaultError> {
        if map_has_secret(map) {
            self.keyring.vault()?.open_map(map)
        } else {
            Ok(map.clone())
        }
    }

    pub(super) fn existing(&self, record: &Record) -> Result<Existing, VaultError> {
        Ok(Existing {
            props: self.open(&record.props)?,
            outputs: self.open(&record.outputs)?,
            physical_name: record.physical_name.clone(),
        })
    }

    pub(super) fn context(
        &self,
        fqn: &Fqn,
        physical_name: &str,
        instance: &str,
    ) -> OperationContext {
        let World {
            meter,
            events,
            cancel,
            redact,
            ..
        } = &self.world;
        let (events, name) = (Arc::clone(events), fqn.clone());
        OperationContext {
            fqn: fqn.clone(),
            physical_name: physical_name.to_owned(),
            idempotency_key: format!("{}-{instance}", self.stage),
            folder: Arc::clone(&self.options.folder),
            access: Arc::clone(&self.options.access),
            meter: Meter::clone(meter),
            cancel: cancel.hard.clone(),
            progress: Arc::new(move |message| {
                events.emit(Event::Progress {
                    fqn: name.clone(),
                    message: message.to_owned(),
                });
            }),
            redact: Arc::clone(redact),
        }
    }

    /// Refuses what the user did not allow, before anything is written or called.
    fn permit(&self, touches: &[Touch]) -> Result<(), FailureCause> {
        for touch in touches {
            self.options.access.check(touch).map_err(|denied| {
                let error = ProviderError::new(FailureKind::Refused, denied.message);
                FailureCause::Provider(error.with_help(denied.help))
            })?;
        }
        Ok(())
    }

    async fn call<T>(
        &self,
        job: &Job,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, FailureCause> {
        self.guarded(&job.fqn, job.provider.timeout(), future).await
    }

    /// Runs a provider call under the operation's time limit and the second Ctrl-C.
    pub(super) async fn guarded<T>(
        &self,
        fqn: &Fqn,
        timeout: std::time::Duration,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, FailureCause> {
        tokio::select! {
            biased;
            () = self.world.cancel.hard.cancelled() => Err(FailureCause::Cancelled),
            result = future => result.map_err(FailureCause::Provider),
            () = self.world.clock.sleep(timeout) => {
                Err(FailureCause::Provider(ProviderError::new(
                    FailureKind::Timeout,
                    format!(
                        "`{}` did not finish within {}",
                        fqn.within_stage(),
                        crate::util::text::duration(timeout)
                    ),
                )))
            }
        }
    }
}

/// Whether the object may be there in spite of the failure.
fn is_uncertain(error: &FailureCause) -> bool {
    match error {
        FailureCause::Provider(error) => matches!(
            error.kind,
            FailureKind::Ambiguous | FailureKind::Timeout | FailureKind::Cancelled
        ),
        FailureCause::Cancelled => true,
        _ => false,
    }
}

/// A record of an object that may or may not have been made, with those that earlier replacements left behind.
fn begun(job: &Job, intent: &Intent, now: jiff::Timestamp) -> Record {
    let mut record = from_intent(intent, now);
    if let Some(prior) = &job.prior {
        record.old_objects.clone_from(&prior.old_objects);
    }
    record
}

fn prior(job: &Job) -> Result<&Arc<Record>, FailureCause> {
    job.prior.as_ref().ok_or_else(|| {
        FailureCause::StalePlan(format!("`{}` has no record to start from", job.fqn))
    })
}
