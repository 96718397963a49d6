//! What a crashed run left: open intents become records that say what is not certain, and objects are looked up by name or
//! mark before anything is made or deleted.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    model::{Fqn, Map, Value},
    provider::{Found, OperationContext, Provider, overlay},
    state::{Intent, JournalEntry, OldObject, Operation, Record, StageState, Status},
};

use super::{failure::FailureCause, run::Run};

/// How far apart looks for an object are that may not be visible yet.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// How much older than its intent an object may look and still be ours: the provider's clock is not this machine's.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

impl Run {
    /// Looks for an object whose making was begun at `since` and last tried at `last`. Where the target shows what was made only after a while, one that
    /// is not there yet is looked for again until it would be; so is one behind an older object of its name, which may be gone.
    pub(super) async fn find_begun(
        &self,
        provider: &dyn Provider,
        timeout: Duration,
        context: &OperationContext,
        props: &Map,
        (since, last): (Timestamp, Timestamp),
    ) -> Result<Option<Found>, FailureCause> {
        let fqn: &Fqn = &context.fqn;
        let begin = self.world.clock.monotonic();
        let age = self.world.clock.now().duration_since(last);
        // An intent of a machine whose clock is ahead is taken for one of this moment.
        let age = Duration::try_from(age).unwrap_or_default();
        let patience = self.world.registry.lag().saturating_sub(age);
        loop {
            let find = provider.find(context, props);
            let found = self.guarded(fqn, timeout, find).await?;
            let waited = self.world.clock.monotonic().saturating_sub(begin);
            let is_it = found.as_ref().is_some_and(|found| is_ours(found, since));
            if is_it || waited >= patience {
                return Ok(found);
            }
            let pause = LOOK_PAUSE.min(patience.saturating_sub(waited));
            tokio::select! {
                biased;
                () = self.world.cancel.soft.cancelled() => return Err(FailureCause::Cancelled),
                () = self.world.clock.sleep(pause) => {}
            }
        }
    }
}

/// Turns every open intent into a record with a status, so that the rest of the engine has one thing to look at, and the
/// checkpoint can empty the journal without forgetting anything. Answers the entries to append.
pub(super) fn close_open_intents(state: &mut StageState, now: Timestamp) -> Vec<JournalEntry> {
    let intents: Vec<Arc<Intent>> = state.open_intents.values().cloned().collect();
    let mut entries = Vec::with_capacity(intents.len());
    for intent in intents {
        // What may not be visible yet was made after its intent, however late it is recovered.
        let now = match intent.operation {
            Operation::Create | Operation::Adopt => intent.at,
            Operation::Update | Operation::Delete => now,
        };
        let entry = match state.records.get(&intent.fqn) {
            Some(record) => JournalEntry::Record(Arc::new(with_intent(record, &intent, now))),
            None if intent.operation == Operation::Delete => JournalEntry::Removed {
                fqn: intent.fqn.clone(),
            },
            None => JournalEntry::Record(Arc::new(from_intent(&intent, now))),
        };
        state.apply(&entry);
        entries.push(entry);
    }
    entries
}

/// A record for an object that may or may not have been made.
pub(super) fn from_intent(intent: &Intent, now: Timestamp) -> Record {
    Record {
        fqn: intent.fqn.clone(),
        kind: intent.kind.clone(),
        status: Status::Creating,
        physical_name: intent.physical_name.clone(),
        instance: intent.instance.clone(),
        props: intent.props.clone(),
        props_hash: String::new(),
        reference_hashes: std::collections::BTreeMap::new(),
        outputs: Map::new(),
        depends_on: Vec::new(),
        adopted: intent.operation == Operation::Adopt,
        protect: false,
        retain: false,
        keeps_name: false,
        attempted: Map::new(),
        attempted_names: Vec::new(),
        old_objects: Vec::new(),
        position: None,
        created_at: intent.at,
        updated_at: now,
    }
}

/// A record with the uncertainty that an unfinished operation brings.
pub(super) fn with_intent(record: &Record, intent: &Intent, now: Timestamp) -> Record {
    let mut record = record.clone();
    record.updated_at = now;
    let same_object = record.instance == intent.instance;
    match intent.operation {
        Operation::Create | Operation::Adopt if same_object => {
            record.status = Status::Creating;
            overlay(&mut record.attempted, &without_secrets(&intent.props));
        }
        Operation::Create | Operation::Adopt => {
            // A replacement: the old object stands, if it was ever made, and a new one may stand beside it.
            if record.status != Status::Creating {
                record.status = Status::Updating;
            }
            let mut olds = record.old_objects.iter_mut();
            match olds.find(|old| old.instance == intent.instance) {
                // Tried again: it may stay unseen for as long from now on.
                Some(old) => old.tried_at = old.tried_at.max(Some(intent.at)),
                None => record.old_objects.push(OldObject {
                    kind: intent.kind.clone(),
                    physical_name: intent.physical_name.clone(),
                    instance: intent.instance.clone(),
                    props: intent.props.clone(),
                    outputs: Map::new(),
                    begun_at: Some(intent.at),
                    tried_at: None,
                }),
            }
        }
        Operation::Update => attempt(&mut record, &intent.physical_name, &intent.props),
        // Of an object that may never have been made, that is all that is known: it has to be looked for.
        Operation::Delete if same_object && record.status != Status::Creating => {
            record.status = Status::Deleting;
        }
        Operation::Delete => {}
    }
    record
}

/// Notes an update that did not end well: the object may have what it was to be given, and the name.
pub(super) fn attempt(record: &mut Record, physical_name: &str, props: &Map) {
    record.status = Status::Updating;
    overlay(&mut record.attempted, &without_secrets(props));
    let names = &mut record.attempted_names;
    if record.physical_name != physical_name && !names.iter().any(|name| name == physical_name) {
        names.push(physical_name.to_owned());
    }
}

/// What an object whose making or change was begun may have been given, as far as the record tells.
pub(super) fn maybe_given(record: &Record) -> Map {
    let mut given = match record.status {
        Status::Creating => without_secrets(&record.props),
        _ => Map::new(),
    };
    overlay(&mut given, &record.attempted);
    given
}

/// Props in which nothing stands for a secret: what was attempted says which settings there may be, not what they hold.
pub(super) fn without_secrets(props: &Map) -> Map {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Secret(_) => Value::Null,
            Value::Map(map) => Value::Map(without_secrets(map)),
            Value::Array(items) => items.iter().map(plain).collect(),
            other => other.clone(),
        }
    }
    let plain = |(key, value): (&String, &Value)| (key.clone(), plain(value));
    props.iter().map(plain).collect()
}

/// Whether an object that was found is one that an unfinished creation of ours, begun at `since`, made.
pub(super) fn is_ours(found: &Found, since: Timestamp) -> bool {
    match (found.ours, found.created_at) {
        (Some(ours), _) => ours,
        (None, Some(created_at)) => created_at
            .saturating_add(CLOCK_SLACK)
            .is_ok_and(|latest| latest >= since),
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fqn;

    fn intent(operation: Operation, instance: &str) -> Arc<Intent> {
        Arc::new(Intent {
            fqn: Fqn::parse("a/b/c").unwrap(),
            kind: "test::Thing".into(),
            operation,
            physical_name: "c-b".to_owned(),
            instance: instance.to_owned(),
            props_hash: "h".to_owned(),
            props: Map::new(),
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn state_with(operation: Operation, instance: &str, record: Option<Record>) -> StageState {
        let mut state = StageState::default();
        if let Some(record) = record {
            state.records.insert(record.fqn.clone(), Arc::new(record));
        }
        let intent = intent(operation, instance);
        state.open_intents.insert(intent.fqn.clone(), intent);
        state
    }

    fn ready() -> Record {
        Record {
            status: Status::Ready,
            ..from_intent(&intent(Operation::Create, "one"), Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn an_open_create_becomes_a_creating_record() {
        let mut state = state_with(Operation::Create, "one", None);
        close_open_intents(&mut state, Timestamp::UNIX_EPOCH);
        let record = state.records.values().next().unwrap();
        assert_eq!(record.status, Status::Creating);
        assert!(state.open_intents.is_empty());
    }

    #[test]
    fn an_open_update_leaves_what_it_may_have_set_without_secrets() {
        let open = |props: Map, record: Record| {
            let open = Intent::clone(&intent(Operation::Update, "one"));
            with_intent(&record, &Intent { props, ..open }, Timestamp::UNIX_EPOCH)
        };
        let map = |json: serde_json::Value| match Value::from_plain_json(json) {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        };
        let mut first = map(serde_json::json!({ "settings": { "delay": 5 }, "list": ["a"] }));
        let secret = crate::model::Secret::plain("hidden");
        first.insert("password".to_owned(), Value::Secret(secret));
        let once = open(first, ready());
        assert_eq!(once.status, Status::Updating);
        let twice = open(
            map(serde_json::json!({ "settings": { "paused": true }, "list": ["b"] })),
            once,
        );
        assert_eq!(
            twice.attempted,
            map(
                serde_json::json!({ "settings": { "delay": 5, "paused": true }, "list": ["a", "b"], "password": null })
            )
        );
        assert_eq!(twice.props, ready().props);
    }

    #[test]
    fn an_open_replacement_keeps_the_old_object_and_notes_the_new_one() {
        let mut state = state_with(Operation::Create, "two", Some(ready()));
        close_open_intents(&mut state, Timestamp::UNIX_EPOCH);
        let record = state.records.values().next().unwrap();
        assert_eq!(record.status, Status::Updating);
        assert_eq!(record.instance, "one");
        assert_eq!(record.old_objects[0].instance, "two");
    }

    #[test]
    fn closing_twice_is_closing_once() {
        let mut state = state_with(Operation::Delete, "one", Some(ready()));
        close_open_intents(&mut state, Timestamp::UNIX_EPOCH);
        let entries = close_open_intents(&mut state, Timestamp::UNIX_EPOCH);
        assert!(entries.is_empty());
        assert_eq!(
            state.records.values().next().unwrap().status,
            Status::Deleting
        );
    }

    #[test]
    fn a_delete_of_what_may_never_have_been_made_leaves_it_to_be_looked_for() {
        let record = Record {
            status: Status::Creating,
            ..ready()
        };
        let mut state = state_with(Operation::Delete, "one", Some(record));
        close_open_intents(&mut state, Timestamp::UNIX_EPOCH);
        assert_eq!(
            state.records.values().next().unwrap().status,
            Status::Creating
        );
    }

    #[test]
    fn an_object_older_than_the_intent_is_not_ours() {
        let since = Timestamp::from_second(10_000).unwrap();
        let mut found = Found {
            outputs: Map::new(),
            created_at: None,
            ours: None,
        };
        assert!(is_ours(&found, since));
        found.created_at = Some(Timestamp::from_second(9_000).unwrap());
        assert!(!is_ours(&found, since));
        found.created_at = Some(Timestamp::from_second(9_900).unwrap());
        assert!(is_ours(&found, since));
        found.ours = Some(false);
        assert!(!is_ours(&found, since));
    }
}
