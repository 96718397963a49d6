//! The invariants of DESIGN section 9 as one checker, which runs after every step of every case.
//!
//! | | what it holds against what |
//! | --- | --- |
//! | I1 no orphan | every object that alch made or changed is named by a record, an old object or an open intent, or was to be kept |
//! | I2 no duplicate | a clean run leaves one object a resource, and nothing of its replacements |
//! | I3 no silent loss | state is readable, what was said to be finished is in it, serial and epoch never go back, protected objects stand |
//! | I4 convergence | one clean run brings cloud and state to what the program says, the next one calls and writes nothing |
//! | I5 plan fidelity | a run starts nothing that the plan before it does not say |
//! | I6 order | nothing starts before what it uses is finished; deletes go the other way |
//! | I7 mutual exclusion | see `races` |
//! | I8 secrets | no secret in any byte of the disk, in events or plans |
//! | I9 determinism | see `cases`: the same case gives the same log |
//! | I10 termination | no run takes longer than [`LONGEST_RUN`](super::harness::LONGEST_RUN), nor hangs |

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use alch::{
    engine::{Action, Event, FailureCause, Outcome, Plan, RunError},
    model::{Fqn, Value},
    provider::FailureKind,
    state::{OldObject, Operation, Record, StageState, Status},
};
use serde::de::IgnoredAny;

use super::{
    cloud::Object,
    harness::{Ended, Simulation, fqn, stage},
    scenario::{Blow, CloudFault, Command, Kind, Lost, Meddling, Program, Step, Thing},
};

/// What must hold, and does not.
pub(crate) type Verdict = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

/// What the checker remembers of a world from step to step.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    state: Option<StageState>,
    /// Ids of objects that a resource which keeps its object, or did not make it, has had.
    kept: BTreeSet<String>,
    /// Ids of the objects that stood after the last step.
    standing: BTreeSet<String>,
    /// Every secret that any program has held.
    secrets: BTreeSet<String>,
    /// The files that the last run which came to its end left whole.
    whole: BTreeSet<PathBuf>,
}

impl Memory {
    /// Checks what a step left behind.
    pub(crate) fn check(&mut self, simulation: &Simulation, step: &Step, ended: &Ended) -> Verdict {
        let secrets = step.program.things.iter();
        self.secrets
            .extend(secrets.filter_map(|thing| thing.secret.clone()));
        let state = simulation
            .load()
            .map_err(|error| format!("I3: state cannot be read: {error}"))?;
        let before = self.state.take();
        let (old, new) = (before.as_ref(), state.as_ref());
        no_way_back(old, new, step.command)?;
        let empty = StageState::default();
        let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
        nothing_finished_is_lost(new, ended)?;
        durable(simulation, step, ended)?;
        self.files_stay_whole(simulation, step, ended)?;
        self.note_kept(old);
        self.note_kept(new);
        let objects: Vec<Object> = simulation
            .cloud
            .stock
            .lock()
            .unwrap()
            .all()
            .cloned()
            .collect();
        self.no_orphan(new, &objects)?;
        // What somebody else made, and an adoption has begun to change, stays when the adoption is taken back.
        let changed = objects
            .iter()
            .filter(|object| object.maker.is_none() && object.touched);
        self.kept.extend(changed.map(|object| object.id.clone()));
        self.protected_stand(old, step, &objects)?;
        self.standing = objects.iter().map(|object| object.id.clone()).collect();
        order(old, step, ended)?;
        self.no_secret(simulation, ended)?;
        if let Some(result) = &ended.result {
            plausible(result, step)?;
        }
        self.state = state;
        Ok(())
    }

    /// Takes what is there now for what the last step left: others were at work.
    pub(crate) fn look(&mut self, simulation: &Simulation) -> Verdict {
        let state = simulation.load();
        let state = state.map_err(|error| format!("I3: state cannot be read: {error}"))?;
        if let Some(state) = &state {
            self.note_kept(state);
        }
        self.state = state;
        self.standing.clear();
        Ok(())
    }

    /// I3: a process that dies leaves whole what was whole: the files of the last checkpoint can be read without its journal, and
    /// nothing looks damaged.
    fn files_stay_whole(&mut self, simulation: &Simulation, step: &Step, ended: &Ended) -> Verdict {
        let files = simulation.disk.files();
        let is_whole = |path: &PathBuf| {
            let read = |bytes: &Vec<u8>| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
            files.get(path).is_none_or(read)
        };
        let may_tear = |blow: &Blow| match blow {
            Blow::Power { lost, .. } | Blow::Outage { lost } => !matches!(lost, Lost::Nothing),
            Blow::Disk { .. } => true,
            Blow::Cloud { .. } | Blow::Stale { .. } => false,
        };
        if !step.blows.iter().any(may_tear) {
            if let Some(path) = self.whole.iter().find(|path| !is_whole(path)) {
                return Err(format!("I3: {} is torn", path.display()));
            }
            let problems = match ended.died() {
                true => simulation.problems(),
                false => Vec::new(),
            };
            ensure!(problems.is_empty(), "I3: after a death: {problems:?}");
        }
        if matches!(ended.result, Some(Ok(_))) {
            let records = files.keys().filter(|path| {
                let is_record = path.extension().is_some_and(|end| end == "json");
                is_record && is_whole(path)
            });
            self.whole = records.cloned().collect();
        } else {
            // What it may have written besides belongs to no checkpoint.
            let stands = |path: &PathBuf| files.contains_key(path) && is_whole(path);
            self.whole.retain(stands);
        }
        Ok(())
    }

    fn note_kept(&mut self, state: &StageState) {
        let records = state.records.values();
        let kept = records.filter(|record| record.retain || record.adopted);
        self.kept
            .extend(kept.filter_map(|record| id_of(&record.outputs)));
    }

    fn no_orphan(&self, state: &StageState, objects: &[Object]) -> Verdict {
        for object in objects {
            let is_foreign = object.maker.is_none() && !object.touched;
            ensure!(
                is_foreign || self.kept.contains(&object.id) || is_known(state, object),
                "I1: nothing in state knows of {object:?}\n{}",
                brief(state)
            );
        }
        Ok(())
    }

    /// I3: what is protected stands until the script lifts the protection, or somebody else removes it.
    fn protected_stand(&self, before: &StageState, step: &Step, objects: &[Object]) -> Verdict {
        let lifted = |record: &Record| {
            let things = &step.program.things;
            things
                .iter()
                .any(|thing| fqn(&thing.id) == record.fqn && !thing.protect)
        };
        let vanished = step.blows.iter().any(|blow| {
            let fault = CloudFault::Vanished;
            matches!(blow, Blow::Cloud { fault: struck, .. } if *struck == fault)
        });
        let removed = |record: &Record| {
            let by_hand = step
                .meddling
                .iter()
                .any(|act| matches!(act, Meddling::Remove { id } if fqn(id) == record.fqn));
            vanished || by_hand
        };
        let protected = before.records.values().filter(|record| record.protect);
        for record in protected.filter(|record| !lifted(record) && !removed(record)) {
            if let Some(id) = id_of(&record.outputs).filter(|id| self.standing.contains(id)) {
                ensure!(
                    objects.iter().any(|object| object.id == id),
                    "I3: the protected object of {} is gone",
                    record.fqn
                );
            }
        }
        Ok(())
    }

    /// I8.
    fn no_secret(&self, simulation: &Simulation, ended: &Ended) -> Verdict {
        if self.secrets.is_empty() {
            return Ok(());
        }
        let events = format!("{:?}", ended.events);
        let plan = ended.plan.to_file();
        let result = format!("{:?}", ended.result);
        let files = simulation.disk.files();
        for secret in &self.secrets {
            for (what, text) in [("events", &events), ("plan", &plan), ("result", &result)] {
                ensure!(
                    !text.contains(secret.as_str()),
                    "I8: {secret} in the {what}"
                );
            }
            for (path, bytes) in &files {
                let found = bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                ensure!(!found, "I8: {secret} in {}", path.display());
            }
        }
        Ok(())
    }

    /// I2 and I4: what a clean run of `step` must have come to. Answers whether there is anything that the program asks for and
    /// protection forbids.
    pub(crate) fn settled(
        &self,
        simulation: &Simulation,
        step: &Step,
        ended: &Ended,
    ) -> Result<bool, String> {
        let state = simulation.load().map_err(|error| error.to_string())?;
        let state = state.unwrap_or_default();
        let blocked = blocked(&state, step, ended) || self.is_name_kept(simulation, step, ended);
        if step.command == Command::Plan {
            return Ok(blocked);
        }
        match &ended.result {
            Some(Ok(summary)) => ensure!(
                blocked || summary.outcome == Outcome::Succeeded,
                "I4: a clean run ends {:?}: {:?} {:?}",
                summary.outcome,
                ended.script_error,
                summary.failed
            ),
            Some(Err(RunError::NoSuchStage { .. }))
                if step.command == Command::Destroy && state.is_empty() => {}
            Some(Err(error)) => return Err(format!("I4: a clean run fails: {error}")),
            None => return Err("I4: a clean run died".to_owned()),
        }
        if blocked {
            return Ok(true);
        }
        let program = match step.command {
            Command::Destroy => Program::default(),
            _ => step.program.clone(),
        };
        self.stands(simulation, &state, &program)?;
        Ok(false)
    }

    /// Whether a thing is to have the name of an object that stays because somebody said so.
    fn is_name_kept(&self, simulation: &Simulation, step: &Step, ended: &Ended) -> bool {
        let Some(Ok(summary)) = &ended.result else {
            return false;
        };
        let stock = simulation.cloud.stock.lock().unwrap();
        summary.failed.iter().any(|failure| {
            let things = &step.program.things;
            let thing = things.iter().find(|thing| fqn(&thing.id) == failure.fqn);
            let holder = thing.and_then(|thing| stock.named(thing.kind, &thing.object_name()));
            matches!(&failure.cause, FailureCause::Provider(error) if error.kind == FailureKind::Conflict)
                && holder.is_some_and(|holder| self.kept.contains(&holder.id))
        })
    }

    /// Cloud and state are what a program says.
    fn stands(&self, simulation: &Simulation, state: &StageState, program: &Program) -> Verdict {
        let problems = simulation.problems();
        ensure!(problems.is_empty(), "I3: after a clean run: {problems:?}");
        ensure!(
            state.open_intents.is_empty(),
            "I4: open intents: {}",
            brief(state)
        );
        for record in state.records.values() {
            ensure!(
                record.status == Status::Ready && record.old_objects.is_empty(),
                "I4: a clean run leaves {} unsettled\n{}",
                record.fqn,
                brief(state)
            );
        }
        let declared: BTreeSet<Fqn> = program.things.iter().map(|thing| fqn(&thing.id)).collect();
        let recorded: BTreeSet<Fqn> = state.records.keys().cloned().collect();
        ensure!(
            declared == recorded,
            "I4: declared are {declared:?}, state has {recorded:?}"
        );
        let stock = simulation.cloud.stock.lock().unwrap();
        let mut used = BTreeSet::new();
        let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
        for thing in &program.things {
            let record = &state.records[&fqn(&thing.id)];
            let id = id_of(&record.outputs).unwrap_or_default();
            let object = stock.with_id(&id);
            let object = object.ok_or_else(|| format!("I4: there is no object of {}", thing.id))?;
            as_declared(thing, record, object, &ids)?;
            ensure!(used.insert(id), "I2: two resources have {object:?}");
            ids.insert(&thing.id, &object.id);
        }
        for object in stock.all().filter(|object| object.maker.is_some()) {
            ensure!(
                used.contains(&object.id) || self.kept.contains(&object.id),
                "I2: left over after a clean run: {object:?}"
            );
        }
        Ok(())
    }
}

impl Simulation {
    /// Cloud and state are what these things say, and nothing else is there.
    pub(crate) fn assert_settled(&self, things: &[Thing], context: &str) {
        let memory = Memory::default();
        let stands = memory.stands(self, &self.state(), &Program::of(things));
        stands.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
}

/// I4, the second half: a run after a clean one does nothing.
pub(crate) fn idle(before: u64, simulation: &Simulation, ended: &Ended) -> Verdict {
    let state = simulation.state();
    ensure!(
        ended.calls == 0,
        "I4: the run after a clean one calls {} times: {:?}",
        ended.calls,
        ended.lines()
    );
    ensure!(
        state.serial == before,
        "I4: the run after a clean one writes"
    );
    Ok(())
}

/// I5: what a run starts, its plan says.
pub(crate) fn follows(plan: &Plan, ended: &Ended) -> Verdict {
    let says: BTreeSet<(&Fqn, Action)> = plan
        .actions
        .iter()
        .map(|planned| (&planned.fqn, planned.action))
        .collect();
    for event in &ended.events {
        if let Event::Started { fqn, action, .. } = event {
            // The old object of a replacement goes with it.
            let replaced = *action == Action::Delete && says.contains(&(fqn, Action::Replace));
            // What state is not sure of may turn out to be gone, or there; and a run that may adopt looks when it has begun.
            let said = |action| says.contains(&(fqn, action));
            let made = matches!(action, Action::Create | Action::Adopt)
                && [Action::Create, Action::Adopt, Action::Update]
                    .into_iter()
                    .any(said);
            ensure!(
                replaced || made || says.contains(&(fqn, *action)),
                "I5: {} {fqn} is not in the plan {says:?}",
                action.progressive()
            );
        }
    }
    Ok(())
}

fn id_of(outputs: &alch::model::Map) -> Option<String> {
    Some(outputs.get("id")?.as_str()?.to_owned())
}

/// Whether a record, an old object or an intent leads to the object.
fn is_known(state: &StageState, object: &Object) -> bool {
    let kind = object.kind.name();
    let by_name = |name: &str, instance: &str| {
        let mark = format!("{}-{instance}", stage());
        // What somebody else made has no mark of ours.
        let is_marked = object.kind == Kind::Note && object.maker.is_some();
        object.name == name && (!is_marked || object.mark.as_deref() == Some(mark.as_str()))
    };
    let of_record = |record: &Record| {
        *record.kind == *kind
            && match id_of(&record.outputs) {
                Some(id) => id == object.id,
                None => by_name(&record.physical_name, &record.instance),
            }
    };
    let of_old = |old: &OldObject| {
        *old.kind == *kind
            && match id_of(&old.outputs) {
                Some(id) => id == object.id,
                None => by_name(&old.physical_name, &old.instance),
            }
    };
    state
        .records
        .values()
        .any(|record| of_record(record) || record.old_objects.iter().any(of_old))
        || state.open_intents.values().any(|intent| {
            *intent.kind == *kind
                && intent.operation != Operation::Delete
                && by_name(&intent.physical_name, &intent.instance)
        })
}

/// I3: serial and epoch never go back, and state does not vanish but by a destroy.
fn no_way_back(
    before: Option<&StageState>,
    after: Option<&StageState>,
    command: Command,
) -> Verdict {
    let Some(before) = before.filter(|state| !state.is_empty()) else {
        return Ok(());
    };
    match after {
        None => ensure!(
            command == Command::Destroy,
            "I3: there is no state any more\n{}",
            brief(before)
        ),
        Some(after) => ensure!(
            after.serial >= before.serial && after.epoch >= before.epoch,
            "I3: state went back from serial {} epoch {} to serial {} epoch {}",
            before.serial,
            before.epoch,
            after.serial,
            after.epoch
        ),
    }
    Ok(())
}

/// I3: what was said to be finished is durable, whatever came after.
fn nothing_finished_is_lost(state: &StageState, ended: &Ended) -> Verdict {
    let mut last: HashMap<&Fqn, (Action, &str)> = HashMap::new();
    let mut failed: BTreeSet<&Fqn> = BTreeSet::new();
    for event in &ended.events {
        match event {
            Event::Finished {
                fqn,
                action,
                physical_name,
                ..
            } => {
                // The old object of a replacement: the resource itself stands.
                let of_old = *action == Action::Delete
                    && last
                        .get(fqn)
                        .is_some_and(|(earlier, _)| *earlier != Action::Delete);
                let on_the_way = *action == Action::Delete && state.records.contains_key(fqn);
                if !of_old && !on_the_way {
                    last.insert(fqn, (*action, physical_name));
                }
            }
            Event::Failed(failure) => {
                failed.insert(&failure.fqn);
            }
            _ => {}
        }
    }
    for (fqn, (action, name)) in last {
        let record = state.records.get(fqn);
        match action {
            Action::Delete | Action::Forget => {
                ensure!(
                    record.is_none(),
                    "I3: {fqn} was {} and is in state",
                    action.past()
                );
            }
            _ => {
                let kept = record.is_some_and(|record| {
                    record.physical_name == name && record.status != Status::Creating
                });
                ensure!(
                    kept || failed.contains(fqn),
                    "I3: {fqn} was {} as {name}, state says {record:?}",
                    action.past()
                );
            }
        }
    }
    Ok(())
}

/// I3: what a run left on the disk when it said that it was through is there, whatever the power does; and a checkpoint never
/// without the backup of the one before.
fn durable(simulation: &Simulation, step: &Step, ended: &Ended) -> Verdict {
    // Where the disk itself said no, the run may have gone on without what it could not do.
    if has_disk_fault(step) {
        return Ok(());
    }
    let files = simulation.disk.files();
    let promised = &ended.promised;
    if matches!(ended.result, Some(Ok(_))) {
        for (path, bytes) in &promised.files {
            ensure!(
                files.get(path) == Some(bytes),
                "I3: {} is not as the run left it",
                path.display()
            );
        }
    }
    if let Some((record, backups)) = &promised.checkpoint
        && files.values().any(|bytes| bytes == record)
    {
        for (path, bytes) in backups {
            ensure!(
                files.get(path) == Some(bytes),
                "I3: a checkpoint stands without its backup {}",
                path.display()
            );
        }
    }
    Ok(())
}

/// I6: what a resource uses ends before it starts, and goes after it.
fn order(before: &StageState, step: &Step, ended: &Ended) -> Verdict {
    let mut done: BTreeSet<&Fqn> = BTreeSet::new();
    let uses: HashMap<Fqn, Vec<Fqn>> = step
        .program
        .things
        .iter()
        .map(|thing| {
            (
                fqn(&thing.id),
                thing.uses.iter().map(|id| fqn(id)).collect(),
            )
        })
        .collect();
    let mut deleted: BTreeSet<&Fqn> = BTreeSet::new();
    for event in &ended.events {
        match event {
            Event::Finished {
                fqn,
                action: Action::Delete | Action::Forget,
                ..
            } => {
                deleted.insert(fqn);
            }
            Event::Finished { fqn, .. } | Event::Unchanged { fqn, .. } => {
                done.insert(fqn);
            }
            Event::Started {
                fqn,
                action: Action::Delete,
                ..
            } => {
                // An old object of something that stands waits for nobody.
                let stands = uses.contains_key(fqn) && step.command != Command::Destroy;
                let users = before.records.values().filter(|record| {
                    record.depends_on.contains(fqn) && !uses.contains_key(&record.fqn)
                });
                // After a rename the names of before are not those of the events.
                let same_names = step.program.moved.is_empty();
                for user in users.filter(|_| !stands && same_names) {
                    let circle = before
                        .records
                        .get(fqn)
                        .is_some_and(|record| reaches(before, &record.fqn, &user.fqn));
                    // It may be an object of a replacement, which nobody uses.
                    let old_only = before.open_intents.contains_key(fqn)
                        || before
                            .records
                            .get(fqn)
                            .is_some_and(|record| !record.old_objects.is_empty());
                    ensure!(
                        circle || old_only || deleted.contains(&user.fqn),
                        "I6: {fqn} is deleted before {}, which uses it",
                        user.fqn
                    );
                }
            }
            Event::Started { fqn, .. } if step.command != Command::Repair => {
                for used in uses.get(fqn).into_iter().flatten() {
                    // Nothing is told of one whose protection alone changes.
                    let quiet = before.records.get(used).is_some_and(|record| {
                        let things = &step.program.things;
                        things.iter().any(|thing| {
                            record.fqn == super::harness::fqn(&thing.id)
                                && (record.protect, record.retain) != (thing.protect, thing.retain)
                        })
                    });
                    ensure!(
                        quiet || done.contains(used),
                        "I6: {fqn} starts before {used} ends"
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether `from` depends on `to`, directly or not.
fn reaches(state: &StageState, from: &Fqn, to: &Fqn) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(fqn) = next.pop() {
        if fqn == to {
            return true;
        }
        if seen.insert(fqn)
            && let Some(record) = state.records.get(fqn)
        {
            next.extend(&record.depends_on);
        }
    }
    false
}

/// A run fails in ways that a person can be told of.
fn plausible(result: &Result<alch::engine::Summary, RunError>, step: &Step) -> Verdict {
    match result {
        Err(RunError::State(error)) => {
            ensure!(!step.blows.is_empty(), "I3: without any fault: {error}");
            ensure!(
                !matches!(
                    error,
                    alch::state::StateError::Corrupt { .. }
                        | alch::state::StateError::TooNew { .. }
                ) || has_disk_fault(step),
                "I3: {error}"
            );
        }
        Err(RunError::Journal(error)) => {
            ensure!(
                has_disk_fault(step),
                "I3: without any fault of the disk: {error}"
            );
        }
        _ => {}
    }
    Ok(())
}

fn has_disk_fault(step: &Step) -> bool {
    step.blows
        .iter()
        .any(|blow| matches!(blow, Blow::Disk { .. }))
}

/// Whether protection forbids what the program asks for.
fn blocked(state: &StageState, step: &Step, ended: &Ended) -> bool {
    let Some(Ok(summary)) = &ended.result else {
        return false;
    };
    let is_protected = |name: &Fqn| {
        let things = &step.program.things;
        state.records.get(name).is_some_and(|record| record.protect)
            || things
                .iter()
                .any(|thing| thing.protect && fqn(&thing.id) == *name)
    };
    summary.failed.iter().any(|failure| {
        matches!(failure.cause, FailureCause::Protected) && is_protected(&failure.fqn)
    })
}

/// I4: an object is as its thing says.
fn as_declared(
    thing: &Thing,
    record: &Record,
    object: &Object,
    ids: &BTreeMap<&str, &str>,
) -> Verdict {
    let uses: Vec<String> = thing
        .uses
        .iter()
        .enumerate()
        .map(|(index, id)| match index % 3 {
            2 => format!("id is {}", ids[id.as_str()]),
            _ => ids[id.as_str()].to_owned(),
        })
        .collect();
    let name = if record.keeps_name {
        record.physical_name.clone()
    } else {
        thing.object_name()
    };
    // What was taken over stands where it stands.
    let soil = record.adopted || object.soil == Value::string(thing.soil.clone());
    ensure!(
        object.kind == thing.kind
            && object.name == name
            && record.physical_name == name
            && object.value == Value::Int(thing.value)
            && object.secret == thing.secret
            && object.uses == uses
            && soil,
        "I4: {thing:?} uses {uses:?}, but the object is {object:?}"
    );
    ensure!(
        record.protect == thing.protect && record.retain == thing.retain,
        "I4: protection or retention of {} is not as declared",
        thing.id
    );
    Ok(())
}

/// State in a few lines.
fn brief(state: &StageState) -> String {
    let records = state.records.values().map(|record| {
        let old: Vec<_> = record
            .old_objects
            .iter()
            .map(|old| format!("{} {:?}", old.physical_name, id_of(&old.outputs)))
            .collect();
        format!(
            "  {} {} {} {:?} old {old:?}",
            record.fqn,
            record.status,
            record.physical_name,
            id_of(&record.outputs)
        )
    });
    let intents = state.open_intents.values().map(|intent| {
        format!(
            "  intent {} {:?} {}",
            intent.fqn, intent.operation, intent.physical_name
        )
    });
    records.chain(intents).collect::<Vec<_>>().join("\n")
}
