//! The end of a run: waiting for what still runs, deletes, checkpoint, deployment record, lock, summary. The end of a scope
//! that is to be cleaned up stands here too.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    model::{Fqn, ScopePath},
    state::{Deployment, JournalEntry, OldObject, Record, Session, StageState, Status},
};

use super::{
    declaration::NodeId,
    delete::Swept,
    event::{Action, Event, Outcome, Summary},
    failure::{Failure, FailureCause, RunError},
    node::{Graph, Node, NodeState},
    options::{DeleteOptions, Phase},
    run::{Run, release},
};

impl Run {
    /// Destroys what this run created in `scope` (`onFailure: "cleanup"`). Waits for what is still running there.
    ///
    /// # Errors
    /// [`RunError::Journal`] when that cannot be recorded.
    pub async fn cleanup_scope(self: &Arc<Self>, scope: &ScopePath) -> Result<(), RunError> {
        if self.options.phase != Phase::Up {
            return Ok(());
        }
        let members = self.members(scope);
        self.want(&members);
        for id in &members {
            if let Err(failure) = self.settle(*id).await {
                tracing::debug!(fqn = %failure.fqn, "failed before its scope was cleaned up");
            }
        }
        let (records, order) = {
            let graph = self.graph();
            let records: Vec<_> = members
                .iter()
                .rev()
                .filter(|id| graph.node(**id).action == Some(Action::Create))
                .filter_map(|id| match &graph.node(*id).state {
                    NodeState::Done(record) => Some((*id, Arc::clone(record))),
                    _ => None,
                })
                .collect();
            (
                records,
                graph
                    .nodes
                    .iter()
                    .map(|node| node.fqn.clone())
                    .collect::<Vec<_>>(),
            )
        };
        let swept = self
            .sweep(
                records
                    .iter()
                    .map(|(_, record)| Arc::clone(record))
                    .collect(),
                Vec::new(),
                &order,
            )
            .await;
        let mut graph = self.graph();
        for (id, record) in records {
            if !swept.left.contains(&record.fqn) {
                let state = self.failed(&graph, id, Action::Create, FailureCause::CleanedUp);
                graph.node_mut(id).state = state;
                graph.node_mut(id).action = None;
            }
        }
        match &graph.poisoned {
            Some(error) => Err(RunError::Journal(Arc::clone(error))),
            None => Ok(()),
        }
    }

    /// Waits for all that was declared in `scope`, and answers a failure there that the script has not been told of.
    pub async fn failure_in(self: &Arc<Self>, scope: &ScopePath) -> Option<Arc<Failure>> {
        let members = self.members(scope);
        self.want(&members);
        let mut failures = Vec::new();
        for id in members {
            if let Err(failure) = self.ended(id).await
                && !self.graph().node(id).told
                && !matches!(failure.cause, FailureCause::CleanedUp)
            {
                failures.push(failure);
            }
        }
        let own = failures
            .iter()
            .find(|failure| !matches!(failure.cause, FailureCause::Dependency(_)));
        own.or(failures.first()).cloned()
    }

    /// What was declared in a scope and in those within it.
    fn members(&self, scope: &ScopePath) -> Vec<NodeId> {
        let graph = self.graph();
        (0..graph.nodes.len())
            .filter_map(|index| u32::try_from(index).ok().map(NodeId))
            .filter(|id| scope.contains(&graph.node(*id).fqn.scope()))
            .collect()
    }

    /// A plan cannot follow the script everywhere: what is not declared may be declared all the same.
    pub fn set_partial(&self) {
        self.graph().partial = true;
    }

    /// Whether [`Run::set_partial`] was called.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.graph().partial
    }

    /// Overrides how deletes go about it, from `finalize(#{ .. })`.
    pub fn set_delete_options(&self, options: DeleteOptions) {
        self.graph().delete_options = Some(options);
    }

    /// Whether [`Run::set_delete_options`] was called.
    #[must_use]
    pub fn has_delete_options(&self) -> bool {
        self.graph().delete_options.is_some()
    }

    /// Waits for everything, deletes orphans and old objects if the script ended well and nothing failed, writes the
    /// checkpoint, gives the lock back. Later calls answer the same summary.
    ///
    /// # Errors
    /// [`RunError`] when state cannot be written.
    pub async fn finalize(self: &Arc<Self>, script_succeeded: bool) -> Result<Summary, RunError> {
        let mut finished = self.finished.lock().await;
        if let Some(summary) = finished.as_ref() {
            return Ok(summary.clone());
        }
        self.graph().prioritise();
        self.open_gate(script_succeeded);
        self.wait_until_idle().await;
        self.tell_planned();
        let kept_to_plan = !script_succeeded || self.refuse_undeclared();
        let (orphans, keepers, order, clean) = {
            let graph = self.graph();
            let unhandled = graph.nodes.iter().any(|node| {
                matches!(&node.state, NodeState::Failed(failure)
                    if !node.told && !matches!(failure.cause, FailureCause::CleanedUp))
            });
            let clean = script_succeeded
                && kept_to_plan
                && !unhandled
                && graph.poisoned.is_none()
                && !self.world.cancel.soft.is_cancelled();
            (
                self.orphans(&graph),
                keepers(&graph),
                self.header.order.clone(),
                clean,
            )
        };
        let mut unreached = 0;
        let swept = match self.options.phase {
            Phase::Up | Phase::Plan if clean && !self.options.rebuild => {
                self.sweep(orphans, keepers, &order).await
            }
            // Where the script did not come to its end, nobody knows what it would have declared still.
            Phase::Up | Phase::Plan | Phase::Destroy if !script_succeeded => {
                unreached = orphans.len();
                self.doubt_contested().await;
                Swept::default()
            }
            _ => Swept {
                left: orphans.iter().map(|record| record.fqn.clone()).collect(),
                path: Duration::ZERO,
            },
        };
        let left = if self.options.phase == Phase::Read {
            Vec::new()
        } else {
            swept.left
        };
        let mut summary = self.summarise(script_succeeded, left, swept.path);
        summary.unreached = unreached;
        let summary = self.conclude(summary, "run").await?;
        *finished = Some(summary.clone());
        Ok(summary)
    }

    /// Phase `Destroy`: deletes everything in state, in reverse order, without declarations. Later calls answer the same
    /// summary.
    ///
    /// # Errors
    /// [`RunError`] when state cannot be written.
    pub async fn destroy(self: &Arc<Self>) -> Result<Summary, RunError> {
        let mut finished = self.finished.lock().await;
        if let Some(summary) = finished.as_ref() {
            return Ok(summary.clone());
        }
        self.wait_until_idle().await;
        let state = StageState {
            header: self.header.clone(),
            records: self.graph().prior.clone(),
            ..StageState::default()
        };
        let records = state
            .deletion_order()
            .iter()
            .filter_map(|fqn| state.records.get(fqn).cloned())
            .collect();
        let swept = self.sweep(records, Vec::new(), &state.header.order).await;
        let summary = self.summarise(true, swept.left, swept.path);
        let summary = self.conclude(summary, "destroy").await?;
        *finished = Some(summary.clone());
        Ok(summary)
    }

    /// Has the next run set what was contested anew: the resource that was declared first may have taken from the one that
    /// was refused what that one is to keep.
    async fn doubt_contested(&self) {
        let doubtful: Vec<Arc<Record>> = {
            let mut graph = self.graph();
            let contested = std::mem::take(&mut graph.contested);
            let records = contested.iter().filter_map(|fqn| graph.prior.get(fqn));
            records
                .filter(|record| record.status == Status::Ready)
                .map(Arc::clone)
                .collect()
        };
        if self.options.phase != Phase::Up {
            return;
        }
        for record in doubtful {
            let mut record = record.as_ref().clone();
            record.status = Status::Updating;
            // A failure to append poisons the run, which its end reports.
            if self
                .append(JournalEntry::Record(Arc::new(record)))
                .await
                .is_err()
            {
                tracing::debug!("the journal refused the record of a contested resource");
            }
        }
    }

    /// What state has and this run did not declare, last declared first.
    fn orphans(&self, graph: &Graph) -> Vec<Arc<Record>> {
        let state = StageState {
            header: self.header.clone(),
            records: graph
                .prior
                .iter()
                .filter(|(fqn, _)| !graph.by_fqn.contains_key(*fqn))
                .map(|(fqn, record)| (fqn.clone(), Arc::clone(record)))
                .collect(),
            ..StageState::default()
        };
        state
            .deletion_order()
            .iter()
            .filter_map(|fqn| state.records.get(fqn).cloned())
            .collect()
    }

    pub(super) async fn wait_until_idle(&self) {
        loop {
            let waiter = {
                let mut graph = self.graph();
                if graph.unsettled == 0 {
                    break;
                }
                let (sender, receiver) = oneshot::channel();
                graph.idle_waiters.push(sender);
                receiver
            };
            self.wait_or_abandon(waiter).await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Checkpoint, deployment record, lock; says that the run is over.
    pub(super) async fn conclude(
        &self,
        summary: Summary,
        command: &str,
    ) -> Result<Summary, RunError> {
        if let Some(session) = self.session.as_deref() {
            let written = self.write_end(session, &summary, command).await;
            let released = release(&self.world, Some(session)).await;
            written?;
            released?;
        }
        self.world
            .events
            .emit(Event::RunFinished(Box::new(summary.clone())));
        Ok(summary)
    }

    async fn write_end(
        &self,
        session: &dyn Session,
        summary: &Summary,
        command: &str,
    ) -> Result<(), RunError> {
        let (attempted, changed, declared, in_state, empty) = {
            let graph = self.graph();
            if let Some(error) = &graph.poisoned {
                return Err(RunError::Journal(Arc::clone(error)));
            }
            let mut in_state: HashSet<Fqn> = graph.prior.keys().cloned().collect();
            for (fqn, written) in &graph.written {
                match &written.now {
                    Some(_) => in_state.insert(fqn.clone()),
                    None => in_state.remove(fqn),
                };
            }
            let declared: Vec<Fqn> = graph.nodes.iter().map(|node| node.fqn.clone()).collect();
            let changed = graph
                .written
                .values()
                .any(|written| written.now != written.before);
            let empty = in_state.is_empty();
            (graph.dirty, changed, declared, in_state, empty)
        };
        // A dropped call after the second signal leaves its intent in the journal; the next run resolves it from there.
        if self.world.cancel.hard.is_cancelled() {
            return Ok(());
        }
        let mut header = self.header_with(self.facts());
        if matches!(self.options.phase, Phase::Up | Phase::Import) {
            let is_declared: HashSet<&Fqn> = declared.iter().collect();
            header
                .order
                .retain(|fqn| !is_declared.contains(fqn) && in_state.contains(fqn));
            // What has no record yet has no place either: a run that made nothing leaves the stage as it was.
            let recorded = declared.into_iter().filter(|fqn| in_state.contains(fqn));
            header.order.extend(recorded);
        }
        if changed {
            header.deployment = Some(self.deployment.clone());
        }
        session.checkpoint(header).await?;
        if attempted {
            session
                .record_deployment(self.deployment_record(summary, command))
                .await?;
        }
        if self.options.phase == Phase::Destroy && empty && summary.left.is_empty() {
            session.remove_stage().await?;
        }
        Ok(())
    }

    fn deployment_record(&self, summary: &Summary, command: &str) -> Deployment {
        let mut counts: BTreeMap<String, u64> = summary
            .counts
            .iter()
            .map(|(action, count)| (action.past().to_owned(), *count as u64))
            .collect();
        counts.insert("failed".to_owned(), summary.failed.len() as u64);
        counts.insert("skipped".to_owned(), summary.skipped.len() as u64);
        let result = match summary.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Partial => "failed",
            Outcome::Cancelled => "cancelled",
        };
        Deployment {
            id: self.deployment.clone(),
            stage: self.stage.clone(),
            command: command.to_owned(),
            actor: self.options.actor.clone(),
            host: self.options.host.clone(),
            started_at: self.started_at,
            finished_at: self.world.clock.now(),
            result: result.to_owned(),
            counts,
            alch_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn summarise(
        &self,
        script_succeeded: bool,
        left: Vec<Fqn>,
        delete_path: Duration,
    ) -> Summary {
        let graph = self.graph();
        let mut counts = graph.extra_counts.clone();
        for action in graph.nodes.iter().filter_map(|node| node.action) {
            *counts.entry(action).or_default() += 1;
        }
        if self.options.phase == Phase::Plan {
            for planned in graph
                .planned
                .iter()
                .filter(|planned| matches!(planned.action, Action::Delete | Action::Forget))
            {
                *counts.entry(planned.action).or_default() += 1;
            }
        }
        let handled = graph
            .nodes
            .iter()
            .filter(|node| node.told && matches!(node.state, NodeState::Failed(_)))
            .count();
        let unhandled = (graph.failed.len() + graph.skipped.len()).saturating_sub(handled);
        let outcome = if self.world.cancel.soft.is_cancelled() {
            Outcome::Cancelled
        } else if unhandled > 0 || !script_succeeded {
            Outcome::Partial
        } else {
            Outcome::Succeeded
        };
        let path = graph
            .nodes
            .iter()
            .map(|node| node.path)
            .max()
            .unwrap_or_default();
        Summary {
            stage: self.stage.clone(),
            phase: self.options.phase,
            outcome,
            counts,
            failed: graph.failed.clone(),
            handled,
            skipped: graph.skipped.clone(),
            left,
            unreached: 0,
            elapsed: self.world.clock.monotonic().saturating_sub(self.begin),
            critical_path: path + delete_path,
            calls: self.world.meter.total(),
        }
    }
}

/// Resources that stay, while objects that their replacements left behind are still to be deleted.
fn keepers(graph: &Graph) -> Vec<Arc<Record>> {
    let keeper = |node: &Node| match &node.state {
        NodeState::Done(record) => Some(Arc::clone(record)),
        NodeState::Planned { .. } => {
            let mut record = Record::clone(graph.prior.get(&node.fqn)?);
            // Whoever makes an object takes back what stands under the name that is wanted, where that can be.
            let wanted = &node.checked.physical_name;
            let goes = |old: &OldObject| {
                node.action == Some(Action::Update)
                    || old.kind != node.kind
                    || old.physical_name != *wanted
            };
            record.old_objects.retain(goes);
            Some(Arc::new(record))
        }
        _ => None,
    };
    let all = graph.nodes.iter().filter_map(keeper);
    all.filter(|record| !record.old_objects.is_empty())
        .collect()
}
