//! What operations write into the journal: intents, and records of how a resource stands. Here values are sealed and opened.

use std::sync::Arc;

use crate::{
    model::{Fqn, Map},
    provider::Existing,
    secret::{VaultError, map_has_secret},
    state::{Intent, JournalEntry, OldObject, Operation, Record, StateError, Status},
};

use super::{
    call::is_uncertain,
    failure::FailureCause,
    operate::Job,
    options::Phase,
    recorded,
    recover::{from_intent, maybe_given, with_intent},
    run::Run,
};

impl Run {
    /// A record of an object that is still to be made, with the objects that earlier replacements left behind.
    pub(super) fn unmade(
        &self,
        job: &Job,
        prior: &Record,
        instance: &str,
    ) -> Result<Record, VaultError> {
        let mut record = self.record(job, None, instance, &Map::new(), false)?;
        record.status = Status::Creating;
        record.props_hash = String::new();
        record.old_objects.clone_from(&prior.old_objects);
        Ok(record)
    }

    /// After a failed create: what the journal must say so that nothing is lost and nothing is invented.
    pub(super) async fn close_failed(
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
        // A repair that is refused leaves state saying what it said.
        let old = old
            .or(job.prior.as_deref().filter(|prior| {
                self.options.phase == Phase::Repair && prior.status == Status::Ready
            }));
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

    pub(super) async fn intend(
        &self,
        job: &Job,
        operation: Operation,
        instance: &str,
    ) -> Result<Arc<Intent>, FailureCause> {
        let now = self.world.clock.now();
        self.intend_since(job, operation, instance, now).await
    }

    /// An intent that goes on with what was begun at `at`.
    pub(super) async fn intend_since(
        &self,
        job: &Job,
        operation: Operation,
        instance: &str,
        at: jiff::Timestamp,
    ) -> Result<Arc<Intent>, FailureCause> {
        let intent = Arc::new(Intent {
            fqn: job.fqn.clone(),
            kind: job.kind.clone(),
            operation,
            physical_name: job.checked.physical_name.clone(),
            instance: instance.to_owned(),
            props_hash: job.props_hash.clone(),
            props: self.seal(&job.fqn, "props", &job.checked.props)?,
            at,
        });
        self.append(JournalEntry::Intent(Arc::clone(&intent)))
            .await?;
        Ok(intent)
    }

    pub(super) fn record(
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
                // It is looked for then, and must not be older than that.
                begun_at: (old.status == Status::Creating).then_some(old.created_at),
                tried_at: (old.status == Status::Creating).then_some(old.updated_at),
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
            attempted: Map::new(),
            attempted_names: Vec::new(),
            old_objects,
            position: job.position.clone(),
            created_at: now,
            updated_at: now,
        })
    }

    /// Makes a record durable.
    pub(super) async fn write(&self, record: Record) -> Result<Arc<Record>, FailureCause> {
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
            Err(error) => Err(self.poison(error)),
        }
    }

    /// Lets nothing more start: what it did could not be recorded, or is another run's business by now.
    pub(super) fn poison(&self, error: StateError) -> Arc<StateError> {
        let error = Arc::new(error);
        self.graph()
            .poisoned
            .get_or_insert_with(|| Arc::clone(&error));
        error
    }

    pub(super) fn seal(&self, fqn: &Fqn, section: &str, map: &Map) -> Result<Map, VaultError> {
        if map_has_secret(map) {
            self.keyring.vault()?.seal_map(fqn, section, map)
        } else {
            Ok(map.clone())
        }
    }

    pub(super) fn open(&self, map: &Map) -> Result<Map, VaultError> {
        self.keyring.open_map(map)
    }

    pub(super) fn existing(&self, record: &Record) -> Result<Existing, VaultError> {
        Ok(Existing {
            props: self.open(&record.props)?,
            outputs: self.open(&record.outputs)?,
            physical_name: record.physical_name.clone(),
            settled: record.status == Status::Ready && !self.options.force,
            attempted: match record.attempted.is_empty() {
                true => Map::new(),
                false => recorded::put_into(&record.attempted, &self.graph().prior),
            },
        })
    }
}

/// A record of an object that may or may not have been made, with those that earlier replacements left behind.
pub(super) fn begun(job: &Job, intent: &Intent, now: jiff::Timestamp) -> Record {
    let mut record = from_intent(intent, now);
    if let Some(prior) = &job.prior {
        record.old_objects.clone_from(&prior.old_objects);
        record.attempted = maybe_given(prior);
    }
    record
}
