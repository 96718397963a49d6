//! When each operation starts: as soon as all it refers to has ended, longest waiting chain first, so many at once.
//!
//! All graph work is O(V + E): a node is looked at when it is declared, when its last dependency ends, and when it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use crate::state::{Record, Status};

use super::{
    decide::{Decision, decide, loses_data},
    declaration::NodeId,
    event::{Action, Event},
    failure::{Failure, FailureCause},
    node::{Decided, Graph, NodeState, ReadyNode},
    operate::{Done, Job},
    options::Phase,
    repair::keeps_dependencies,
    resolve::{ResolveError, props_hash, resolve_props},
    run::Run,
    stakes::Gate,
};

/// Most resources read by the script that a record names as dependencies; beyond it the order of declaration rules.
pub(super) const MAX_READ_DEPENDENCIES: usize = 64;

impl Run {
    /// Settles a node whose dependencies have ended, and all that can be settled without a call because of it; then fills
    /// free slots.
    pub(super) fn advance(self: &Arc<Self>, first: NodeId) {
        let mut events = Vec::new();
        {
            let mut graph = self.graph();
            self.release(&mut graph, vec![first], &mut events);
            self.fill(&mut graph, &mut events);
            self.emit_all(events);
        }
    }

    /// Hands events on. Called while the graph is held: whoever sees that a resource stands comes after the event that says so.
    pub(super) fn emit_all(&self, events: Vec<Event>) {
        for event in events {
            self.world.events.emit(event);
        }
    }

    /// Goes through nodes that wait for nothing any more. Those that need no call settle here, which may free others.
    fn release(&self, graph: &mut Graph, mut worklist: Vec<NodeId>, events: &mut Vec<Event>) {
        while let Some(id) = worklist.pop() {
            if !matches!(graph.node(id).state, NodeState::Waiting) {
                continue;
            }
            let failed = graph.node(id).dependencies.iter().find_map(|dependency| {
                let node = graph.node(*dependency);
                matches!(node.state, NodeState::Failed(_)).then(|| node.fqn.clone())
            });
            let state = match failed {
                Some(fqn) => self.failed(graph, id, Action::Create, FailureCause::Dependency(fqn)),
                None => self.consider(graph, id, events),
            };
            match state {
                NodeState::Ready(_) => {
                    let height = graph.node(id).height;
                    graph.node_mut(id).state = state;
                    graph.ready.push(ReadyNode {
                        height,
                        order: std::cmp::Reverse(id),
                    });
                }
                state => self.settle_node(graph, id, state, &mut worklist, events),
            }
        }
    }

    /// Decides on one node: `Ready` when it needs a call, its final state otherwise.
    fn consider(&self, graph: &mut Graph, id: NodeId, events: &mut Vec<Event>) -> NodeState {
        let node = graph.node(id);
        let prior = graph.prior.get(&node.fqn).cloned();
        if matches!(self.options.phase, Phase::Read | Phase::Destroy) {
            return match prior {
                Some(record) => NodeState::Done(record),
                None => NodeState::Planned {
                    known: node.checked.known.clone(),
                },
            };
        }
        if self.options.rebuild
            && let Some(record) = &prior
            && record.status != Status::Creating
        {
            graph.node_mut(id).action = Some(Action::Unchanged);
            return NodeState::Done(Arc::clone(record));
        }
        let verdict = props_hash(graph, &self.keyring, node).and_then(|hash| {
            let verdict = decide(
                node,
                prior.as_ref(),
                &hash,
                self.options.force,
                graph.seen.findings.get(&node.fqn).map(AsRef::as_ref),
                &self.keyring,
            )?;
            Ok((hash, verdict))
        });
        let (hash, mut verdict) = match verdict {
            Ok(both) => both,
            Err(error) => return self.failed(graph, id, Action::Update, error.into()),
        };
        if verdict.decision == Decision::Unchanged
            && let Some(record) = &prior
        {
            if let Some(cause) = self.missed_plan(node) {
                return self.failed(graph, id, Action::Unchanged, cause);
            }
            if self.options.phase == Phase::Plan {
                self.note_planned(
                    graph,
                    id,
                    Action::Unchanged,
                    &verdict,
                    prior.as_ref(),
                    &hash,
                    events,
                );
            }
            graph.node_mut(id).action = Some(Action::Unchanged);
            if self.world.events.wants_unchanged() {
                events.push(Event::Unchanged {
                    fqn: record.fqn.clone(),
                    kind: record.kind.clone(),
                });
            }
            return NodeState::Done(Arc::clone(record));
        }
        if let Some(record) = &prior
            && let Some(cause) = self.refusal(graph, id, record, &verdict.decision)
        {
            return self.failed(graph, id, verdict.decision.action(), cause);
        }
        if self.options.phase == Phase::Plan {
            if let Some(record) = &prior {
                let losses = self.losses(graph, graph.node(id), record, &verdict.decision);
                if !losses.is_empty() {
                    verdict.reason += &format!("; loses {}", losses.join(" and "));
                }
            }
            if self.may_adopt(graph.node(id), &verdict.decision) {
                graph.looked_for = true;
                return NodeState::Ready(Box::new(Decided {
                    hash,
                    decision: verdict.decision,
                }));
            }
            return self.plan_node(graph, id, &verdict, prior.as_ref(), &hash, events);
        }
        NodeState::Ready(Box::new(Decided {
            hash,
            decision: verdict.decision,
        }))
    }

    /// Why a decision may not be carried out.
    fn refusal(
        &self,
        graph: &Graph,
        id: NodeId,
        record: &Record,
        decision: &Decision,
    ) -> Option<FailureCause> {
        let node = graph.node(id);
        if *decision == Decision::Update
            && let Err(error) = node.provider.refuse(&record.props, &node.checked.props)
        {
            return Some(FailureCause::Provider(error));
        }
        // A plan shows what would be lost; only carrying it out needs consent.
        let losses = || {
            let asked = self.options.phase != Phase::Plan && !self.options.allow_data_loss;
            let losses = asked.then(|| self.losses(graph, node, record, decision))?;
            (!losses.is_empty()).then_some(FailureCause::Losses(losses))
        };
        let Decision::Replace { reasons, .. } = decision else {
            return losses();
        };
        if record.protect || node.options.protect == Some(true) {
            return Some(FailureCause::Protected);
        }
        let old = self
            .world
            .registry
            .get(&record.kind)
            .map_or(node.schema().delete, |provider| provider.schema().delete);
        if self.options.phase != Phase::Plan
            && !self.options.allow_data_loss
            && loses_data(old, record, decision)
        {
            return Some(FailureCause::DataLoss(reasons.clone()));
        }
        losses()
    }

    /// Puts a node into its final state and wakes all that waited for it.
    pub(super) fn settle_node(
        &self,
        graph: &mut Graph,
        id: NodeId,
        state: NodeState,
        worklist: &mut Vec<NodeId>,
        events: &mut Vec<Event>,
    ) {
        if let NodeState::Failed(failure) = &state {
            match &failure.cause {
                FailureCause::Dependency(because) => {
                    graph.skipped.push(failure.fqn.clone());
                    events.push(Event::Skipped {
                        fqn: failure.fqn.clone(),
                        because: because.clone(),
                    });
                }
                _ => {
                    graph.failed.push(Arc::clone(failure));
                    events.push(Event::Failed(Arc::clone(failure)));
                }
            }
        }
        let path = graph
            .node(id)
            .dependencies
            .iter()
            .map(|dependency| graph.node(*dependency).path)
            .max()
            .unwrap_or_default();
        let node = graph.node_mut(id);
        node.path += path;
        node.state = state;
        wake(std::mem::take(&mut node.waiters));
        for position in 0..graph.node(id).dependents.len() {
            let dependent = graph.node(id).dependents[position];
            let node = graph.node_mut(dependent);
            node.waiting_on = node.waiting_on.saturating_sub(1);
            if node.waiting_on == 0 {
                worklist.push(dependent);
            }
        }
        graph.unsettled -= 1;
        if graph.unsettled == 0 {
            wake(std::mem::take(&mut graph.idle_waiters));
        }
    }

    pub(super) fn failed(
        &self,
        graph: &Graph,
        id: NodeId,
        action: Action,
        cause: FailureCause,
    ) -> NodeState {
        let node = graph.node(id);
        NodeState::Failed(Arc::new(Failure {
            fqn: node.fqn.clone(),
            kind: node.kind.clone(),
            action,
            cause,
            position: node.position.clone(),
        }))
    }

    /// Starts operations while slots are free.
    pub(super) fn fill(self: &Arc<Self>, graph: &mut Graph, events: &mut Vec<Event>) {
        while graph.running < self.options.concurrency.max(1) {
            let Some(ReadyNode {
                order: std::cmp::Reverse(id),
                ..
            }) = graph.ready.pop()
            else {
                return;
            };
            let gate = match self.stop_cause(graph) {
                Some(cause) => Gate::Refused(cause),
                None => self.gate(graph, id),
            };
            if matches!(gate, Gate::Held) {
                graph.held.push(id);
                continue;
            }
            let state = &mut graph.node_mut(id).state;
            let decided = match std::mem::replace(state, NodeState::Running) {
                NodeState::Ready(decided) => *decided,
                other => {
                    *state = other;
                    continue;
                }
            };
            let job = match gate {
                Gate::Refused(cause) => Err(cause),
                _ if self.options.phase == Phase::Plan => {
                    graph.running += 1;
                    let run = Arc::clone(self);
                    self.tasks.spawn_on(
                        async move { run.plan_to_make(id, decided).await },
                        &self.runtime,
                    );
                    continue;
                }
                Gate::Open | Gate::Held => self.job(graph, id, decided),
            };
            match job {
                Ok(job) => {
                    graph.running += 1;
                    let run = Arc::clone(self);
                    self.tasks
                        .spawn_on(async move { run.execute(id, job).await }, &self.runtime);
                }
                Err(cause) => {
                    let state = self.failed(graph, id, Action::Create, cause);
                    let mut worklist = Vec::new();
                    self.settle_node(graph, id, state, &mut worklist, events);
                    self.release(graph, worklist, events);
                }
            }
        }
    }

    /// Why nothing more may start.
    fn stop_cause(&self, graph: &Graph) -> Option<FailureCause> {
        if let Some(error) = &graph.poisoned {
            return Some(FailureCause::State(Arc::clone(error)));
        }
        self.world
            .cancel
            .soft
            .is_cancelled()
            .then_some(FailureCause::Cancelled)
    }

    /// Takes all that an operation needs out of the graph.
    pub(super) fn job(
        self: &Arc<Self>,
        graph: &Graph,
        id: NodeId,
        decided: Decided,
    ) -> Result<Job, FailureCause> {
        let Decided { hash, decision } = decided;
        let node = graph.node(id);
        let prior = graph.prior.get(&node.fqn).cloned();
        self.check_against_plan(node, prior.as_deref(), &hash, &decision)?;
        let resolved = resolve_props(graph, &self.keyring, &node.checked.props).map_err(
            |error| match error {
                ResolveError::Missing(name) => FailureCause::MissingOutput(name),
                ResolveError::Vault(error) => error.into(),
            },
        )?;
        let mut depends_on: Vec<_> = match &prior {
            Some(prior) if keeps_dependencies(self.options.phase) => prior.depends_on.clone(),
            _ => node
                .dependencies
                .iter()
                .map(|id| graph.node(*id).fqn.clone())
                .collect(),
        };
        let first = node.reads_before.saturating_sub(MAX_READ_DEPENDENCIES);
        for fqn in &graph.reads[first..node.reads_before] {
            if !depends_on.contains(fqn) {
                depends_on.push(fqn.clone());
            }
        }
        Ok(Job {
            fqn: node.fqn.clone(),
            kind: node.kind.clone(),
            provider: Arc::clone(&node.provider),
            decision,
            prior,
            checked: node.checked.clone(),
            options: node.options.clone(),
            position: node.position.clone(),
            depends_on,
            resolved,
            props_hash: hash.whole.unwrap_or_default(),
            reference_hashes: hash.references,
            found: graph.seen.findings.get(&node.fqn).cloned(),
            slot: Arc::new(Slot {
                run: Arc::clone(self),
                held: AtomicBool::new(true),
            }),
        })
    }

    async fn execute(self: Arc<Self>, id: NodeId, job: Job) {
        let action = if self.options.rebuild {
            Action::Adopt
        } else {
            job.decision.action()
        };
        let quiet = job.decision == Decision::Repolicy;
        if !quiet {
            self.world.events.emit(Event::Started {
                fqn: job.fqn.clone(),
                kind: job.kind.clone(),
                action,
            });
        }
        let begin = self.world.clock.monotonic();
        let result = self.operate(&job).await;
        let duration = self.world.clock.monotonic().saturating_sub(begin);
        self.complete(id, &job.slot, action, result, duration, quiet);
    }

    /// Records the end of an operation and starts what waited for it.
    fn complete(
        self: &Arc<Self>,
        id: NodeId,
        slot: &Slot,
        action: Action,
        result: Result<Done, FailureCause>,
        duration: Duration,
        quiet: bool,
    ) {
        let mut events = Vec::new();
        {
            let mut graph = self.graph();
            slot.give_back(&mut graph);
            graph.node_mut(id).path = duration;
            let state = match result {
                Ok((action, record)) => {
                    graph.node_mut(id).action = Some(action);
                    if !quiet {
                        events.push(Event::Finished {
                            fqn: record.fqn.clone(),
                            kind: record.kind.clone(),
                            action,
                            physical_name: record.physical_name.clone(),
                            duration,
                        });
                    }
                    NodeState::Done(record)
                }
                Err(cause) => self.failed(&graph, id, action, cause),
            };
            retire(self, &mut graph, id, state, &mut events);
            self.emit_all(events);
        }
    }

    /// After the first Ctrl-C or a dead journal: everything that has not started fails now; what runs goes on to its end.
    pub(super) fn abandon_unstarted(&self) {
        let mut events = Vec::new();
        {
            let mut graph = self.graph();
            let Some(cause) = self.stop_cause(&graph) else {
                return;
            };
            for index in 0..graph.nodes.len() {
                let id = NodeId(u32::try_from(index).unwrap_or(u32::MAX));
                if matches!(
                    graph.node(id).state,
                    NodeState::Waiting | NodeState::Ready(_)
                ) {
                    let state = self.failed(&graph, id, Action::Create, cause.clone());
                    // Dependents are visited by this same loop, so the list of freed nodes is not needed.
                    self.settle_node(&mut graph, id, state, &mut Vec::new(), &mut events);
                }
            }
            graph.ready.clear();
            graph.held.clear();
            self.emit_all(events);
        }
    }
}

/// Settles a node whose call has ended, and starts what waited for it.
pub(super) fn retire(
    run: &Arc<Run>,
    graph: &mut Graph,
    id: NodeId,
    state: NodeState,
    events: &mut Vec<Event>,
) {
    let mut worklist = Vec::new();
    run.settle_node(graph, id, state, &mut worklist, events);
    run.release(graph, worklist, events);
    run.fill(graph, events);
}

/// One of the places that `--concurrency` counts: held from an operation's start until the provider has given its last answer.
/// The result is made durable without one, so that it shares a sync with what starts next; only where operations run one by one
/// each is complete before the next starts.
pub(super) struct Slot {
    run: Arc<Run>,
    held: AtomicBool,
}

impl Slot {
    /// The provider has answered: the next operation may start.
    pub(super) fn free(&self) {
        if self.run.options.concurrency == 1 {
            return;
        }
        let mut events = Vec::new();
        let mut graph = self.run.graph();
        self.give_back(&mut graph);
        self.run.fill(&mut graph, &mut events);
        self.run.emit_all(events);
    }

    fn give_back(&self, graph: &mut Graph) {
        if self.held.swap(false, Ordering::Relaxed) {
            graph.running -= 1;
        }
    }
}

/// Wakes everyone who waits.
fn wake(waiters: Vec<oneshot::Sender<()>>) {
    for waiter in waiters {
        if waiter.send(()).is_err() {
            tracing::trace!("a waiter had gone away");
        }
    }
}
