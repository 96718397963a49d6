//! Deletes: orphans, objects that replacements left behind, whole stages. In reverse order of dependency, last.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    model::{Fqn, Map},
    provider::{FailureKind, Provider, ProviderError},
    state::{JournalEntry, OldObject, Record, Status},
};

use super::{
    event::{Action, Event},
    failure::{Failure, FailureCause},
    node::NodeState,
    options::{DeleteOptions, DeleteStrategy, Phase},
    run::Run,
    schedule::MAX_READ_DEPENDENCIES,
};

/// One object to delete.
pub(super) struct Item {
    /// The record of the object; for an old object one made up of what is known of it.
    pub(super) record: Arc<Record>,
    /// Whether it is an object that a replacement left behind: the resource itself stays.
    pub(super) old: bool,
    pub(super) action: Action,
    /// The resource that stands for the object now, where it is not this one.
    pub(super) heir: Option<Fqn>,
}

/// What a sweep did.
#[derive(Default)]
pub(super) struct Swept {
    /// Resources whose object is still there.
    pub(super) left: Vec<Fqn>,
    /// Longest chain of deletes.
    pub(super) path: Duration,
}

impl Run {
    /// Deletes the resources in `records` (in this order unless dependencies are free to overtake) and the old objects of
    /// `keepers`.
    pub(super) async fn sweep(
        self: &Arc<Self>,
        records: Vec<Arc<Record>>,
        keepers: Vec<Arc<Record>>,
        order: &[Fqn],
    ) -> Swept {
        let mut items = Vec::new();
        for record in keepers.iter().chain(&records) {
            for old in &record.old_objects {
                let record = Arc::new(record_of_old(record, old));
                items.push(Item {
                    record,
                    old: true,
                    action: Action::Delete,
                    heir: None,
                });
            }
        }
        for record in records {
            let kept = record.retain || (record.adopted && !self.options.delete_adopted);
            let action = if kept { Action::Forget } else { Action::Delete };
            items.push(Item {
                record,
                old: false,
                action,
                heir: None,
            });
        }
        let mut current: HashMap<Fqn, Arc<Record>> = keepers
            .into_iter()
            .map(|record| (record.fqn.clone(), record))
            .collect();
        for item in items.iter().filter(|item| !item.old) {
            current.insert(item.record.fqn.clone(), Arc::clone(&item.record));
        }
        let mut swept = Swept::default();
        self.spare_taken_over(&mut items, &mut swept.left);
        let options = self
            .graph()
            .delete_options
            .clone()
            .unwrap_or_else(|| self.options.delete.clone());
        if self.options.phase == Phase::Plan || options.dry_run {
            let partial = self.is_partial();
            for item in &items {
                let (reason, conditional) = match (item.old, partial) {
                    (true, _) if item.record.status == Status::Creating => {
                        ("a run that did not finish may have made it", false)
                    }
                    (true, _) => ("replaced", false),
                    _ if self.options.phase == Phase::Destroy => ("the stage goes", false),
                    (false, false) => ("no longer declared", false),
                    (false, true) => (
                        "not declared as far as the plan could follow the script",
                        true,
                    ),
                };
                let mut reason = match &item.heir {
                    Some(heir) => format!("its object is that of {}", heir.within_stage()),
                    None => reason.to_owned(),
                };
                let losses = self.losses_of_delete(item);
                if !losses.is_empty() {
                    reason += &format!("; loses {}", losses.join(" and "));
                }
                self.plan_delete(&item.record, item.action, &reason, conditional);
            }
            self.hint_renames(&items);
            if options.dry_run {
                let names = items.iter().map(|item| item.record.fqn.clone());
                swept.left.extend(names);
            }
            return swept;
        }
        if self.refuse_unplanned(&items) || self.refuse_losses(&items) {
            let names: BTreeSet<_> = items.iter().map(|item| item.record.fqn.clone()).collect();
            swept.left.extend(names);
            return swept;
        }
        let deleted = self.delete_all(items, current, &options, order).await;
        swept.left.extend(deleted.left);
        swept.path = deleted.path;
        swept
    }

    /// With a saved plan at hand: whether something would go that it does not foresee. Then nothing goes.
    fn refuse_unplanned(&self, items: &[Item]) -> bool {
        let Some(plan) = &self.options.expected_plan else {
            return false;
        };
        let changed: HashSet<&Fqn> = plan
            .actions
            .iter()
            .filter(|planned| planned.action != Action::Unchanged)
            .map(|planned| &planned.fqn)
            .collect();
        let mut refused = false;
        for item in items {
            let fqn = &item.record.fqn;
            if changed.contains(fqn) {
                continue;
            }
            refused = true;
            let reason = format!("it does not say that `{}` goes", fqn.within_stage());
            self.delete_failed(item, FailureCause::StalePlan(reason));
        }
        refused
    }

    fn delete_failed(&self, item: &Item, cause: FailureCause) {
        let failure = Arc::new(Failure {
            fqn: item.record.fqn.clone(),
            kind: item.record.kind.clone(),
            action: Action::Delete,
            cause,
            // An orphan's place is one of a script that has changed since.
            position: item
                .record
                .position
                .clone()
                .filter(|_| self.options.phase == Phase::Destroy),
        });
        self.graph().failed.push(Arc::clone(&failure));
        self.world.events.emit(Event::Failed(failure));
    }

    async fn delete_all(
        self: &Arc<Self>,
        items: Vec<Item>,
        mut current: HashMap<Fqn, Arc<Record>>,
        options: &DeleteOptions,
        order: &[Fqn],
    ) -> Swept {
        let limit = match options.strategy {
            DeleteStrategy::Sequential => 1,
            DeleteStrategy::Parallel => self.options.concurrency.max(1),
            DeleteStrategy::Batched(size) => size.max(1),
        };
        let (mut waiting_on, blocks) = dependents(&items, order);
        let mut ready: BTreeSet<usize> = (0..items.len())
            .filter(|index| waiting_on[*index] == 0)
            .collect();
        let mut done = vec![false; items.len()];
        let mut started = vec![false; items.len()];
        let mut paths = vec![Duration::ZERO; items.len()];
        let mut running = FuturesUnordered::new();
        let (mut stopped, mut failed) = (false, false);
        loop {
            while !stopped && running.len() < limit && !self.is_stopped() {
                // Resources that changed places over several runs may wait for each other: then the one declared last goes.
                // After a failure those behind it wait rightly.
                let is_cycle = ready.is_empty() && running.is_empty() && !failed;
                let next = match is_cycle {
                    true => started.iter().position(|started| !started),
                    false => ready.pop_first(),
                };
                let Some(index) = next else {
                    break;
                };
                started[index] = true;
                let record = Arc::clone(&items[index].record);
                let action = items[index].action;
                running.push(async move {
                    let begin = self.world.clock.monotonic();
                    let result = self.delete_one(&record, action, options).await;
                    (
                        index,
                        result,
                        self.world.clock.monotonic().saturating_sub(begin),
                    )
                });
            }
            let Some((index, result, duration)) = running.next().await else {
                break;
            };
            let item = &items[index];
            let result = match result {
                Ok(()) => self.record_deleted(item, &mut current).await,
                Err(cause) => {
                    self.record_failed_delete(item, &mut current, &cause).await;
                    Err(cause)
                }
            };
            match result {
                Ok(()) => {
                    done[index] = true;
                    paths[index] += duration;
                    self.world.events.emit(Event::Finished {
                        fqn: item.record.fqn.clone(),
                        kind: item.record.kind.clone(),
                        action: item.action,
                        physical_name: item.record.physical_name.clone(),
                        duration,
                    });
                    self.count(item);
                    for &next in &blocks[index] {
                        waiting_on[next] -= 1;
                        paths[next] = paths[next].max(paths[index]);
                        if waiting_on[next] == 0 && !started[next] {
                            ready.insert(next);
                        }
                    }
                }
                Err(cause) => {
                    self.delete_failed(item, cause);
                    failed = true;
                    stopped = !options.continue_on_error;
                }
            }
        }
        let left = (0..items.len())
            .filter(|index| !done[*index])
            .map(|index| items[index].record.fqn.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        Swept {
            left,
            path: paths.into_iter().max().unwrap_or_default(),
        }
    }

    /// Counts what was done to an item; what a replacement of this run left behind is part of the replacement.
    fn count(&self, item: &Item) {
        let mut graph = self.graph();
        let owner = graph.by_fqn.get(&item.record.fqn);
        let replaced = owner.and_then(|id| graph.node(*id).action) == Some(Action::Replace);
        if !(item.old && replaced) {
            *graph.extra_counts.entry(item.action).or_default() += 1;
        }
    }

    fn is_stopped(&self) -> bool {
        self.world.cancel.soft.is_cancelled() || self.graph().poisoned.is_some()
    }

    /// Deletes one object, trying again as often as asked.
    async fn delete_one(
        &self,
        record: &Record,
        action: Action,
        options: &DeleteOptions,
    ) -> Result<(), FailureCause> {
        if action == Action::Forget {
            return Ok(());
        }
        if record.protect {
            return Err(FailureCause::Protected);
        }
        let provider = self.provider_of(record)?;
        self.world.events.emit(Event::Started {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            action,
        });
        let timeout = options.timeout.unwrap_or_else(|| provider.timeout());
        let mut tries = 0;
        loop {
            let result = self.delete_object(&provider, record, timeout).await;
            let retry = matches!(&result, Err(FailureCause::Provider(_)))
                && tries < options.max_retries
                && !self.is_stopped();
            if !retry {
                return result;
            }
            tries += 1;
            tokio::select! {
                () = self.world.clock.sleep(options.retry_delay) => {}
                () = self.world.cancel.soft.cancelled() => return result,
            }
        }
    }

    fn provider_of(&self, record: &Record) -> Result<Arc<dyn Provider>, FailureCause> {
        self.world.registry.get(&record.kind).ok_or_else(|| {
            let mut error = ProviderError::new(
                FailureKind::Refused,
                format!("no provider serves `{}`", record.kind),
            );
            error.help = Some(format!(
                "the kind is defined by a script: run `alch destroy` beside it, with its `resource(..)` before the first resource, or forget the record with `alch state rm {}`",
                record.fqn
            ));
            FailureCause::Provider(error)
        })
    }

    async fn record_deleted(
        &self,
        item: &Item,
        current: &mut HashMap<Fqn, Arc<Record>>,
    ) -> Result<(), FailureCause> {
        let fqn = &item.record.fqn;
        if !item.old {
            self.append(JournalEntry::Removed { fqn: fqn.clone() })
                .await?;
            let mut graph = self.graph();
            graph.prior.remove(fqn);
            return Ok(());
        }
        let Some(owner) = current.get(fqn) else {
            return Ok(());
        };
        let mut owner = owner.as_ref().clone();
        owner
            .old_objects
            .retain(|old| old.instance != item.record.instance);
        let owner = Arc::new(owner);
        self.append(JournalEntry::Record(Arc::clone(&owner)))
            .await?;
        current.insert(fqn.clone(), Arc::clone(&owner));
        let mut graph = self.graph();
        if let Some(id) = graph.by_fqn.get(fqn).copied()
            && matches!(graph.node(id).state, NodeState::Done(_))
        {
            graph.node_mut(id).state = NodeState::Done(owner);
        }
        Ok(())
    }

    /// A failed delete leaves its intent open; the record says so instead, because the checkpoint empties the journal.
    async fn record_failed_delete(
        &self,
        item: &Item,
        current: &mut HashMap<Fqn, Arc<Record>>,
        cause: &FailureCause,
    ) {
        if matches!(cause, FailureCause::Protected | FailureCause::State(_)) {
            return;
        }
        let Some(record) = current.get(&item.record.fqn) else {
            return;
        };
        let mut record = record.as_ref().clone();
        if !item.old && record.status != Status::Creating {
            record.status = Status::Deleting;
        }
        let record = Arc::new(record);
        current.insert(record.fqn.clone(), Arc::clone(&record));
        // A failure to append poisons the run, which `finalize` reports.
        if self.append(JournalEntry::Record(record)).await.is_err() {
            tracing::debug!("the journal refused the record of a failed delete");
        }
    }
}

/// For each item how many others must go first, and which items wait for it.
fn dependents(items: &[Item], order: &[Fqn]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let place: HashMap<&Fqn, usize> = order.iter().enumerate().map(|(i, fqn)| (fqn, i)).collect();
    let index: HashMap<&Fqn, usize> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| !item.old)
        .map(|(index, item)| (&item.record.fqn, index))
        .collect();
    let mut waiting_on = vec![0; items.len()];
    let mut blocks = vec![Vec::new(); items.len()];
    // A list of reads that was cut stands for all that was declared earlier. Each resource waits for the nearest such one
    // behind it, which waits for the next: one edge a resource instead of one for each pair.
    let mut declared: Vec<(usize, usize)> = index
        .iter()
        .filter_map(|(fqn, position)| place.get(*fqn).map(|place| (*place, *position)))
        .collect();
    declared.sort_unstable();
    let mut reader: Option<usize> = None;
    for (_, position) in declared.into_iter().rev() {
        if let Some(reader) = reader {
            waiting_on[position] += 1;
            blocks[reader].push(position);
        }
        if items[position].record.depends_on.len() >= MAX_READ_DEPENDENCIES {
            reader = Some(position);
        }
    }
    for (position, item) in items.iter().enumerate() {
        if item.old {
            // The resource goes after the objects that its replacements left behind.
            if let Some(&owner) = index.get(&item.record.fqn) {
                waiting_on[owner] += 1;
                blocks[position].push(owner);
            }
            continue;
        }
        for fqn in &item.record.depends_on {
            if let Some(&target) = index.get(fqn)
                && target != position
            {
                waiting_on[target] += 1;
                blocks[position].push(target);
            }
        }
    }
    (waiting_on, blocks)
}

/// What is known of an object that a replacement left behind, as a record of its own.
pub(super) fn record_of_old(record: &Record, old: &OldObject) -> Record {
    Record {
        kind: old.kind.clone(),
        physical_name: old.physical_name.clone(),
        instance: old.instance.clone(),
        props: old.props.clone(),
        outputs: old.outputs.clone(),
        // Without outputs it is not known whether the object was ever made.
        status: if old.outputs.is_empty() {
            Status::Creating
        } else {
            Status::Ready
        },
        attempted: Map::new(),
        attempted_names: Vec::new(),
        old_objects: Vec::new(),
        protect: false,
        created_at: old.begun_at.unwrap_or(record.created_at),
        updated_at: old.tried_at.unwrap_or(record.updated_at),
        ..record.clone()
    }
}
