//! One run of one stage: the face that the script host and the commands use.
//!
//! Declarations and questions are synchronous and take the graph's one lock for a moment; only waiting, `finalize` and
//! `destroy` are asynchronous. No lock is held across an await.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::task::TaskTracker;

use crate::{
    model::{Fqn, KindSchema, Map, Position, ResourceId, ScopePath, StagePath, Value},
    provider::{CheckContext, PropError, validate},
    secret::{KeyMaterial, Keyring},
    state::{
        Deployment, JournalEntry, KeyCheck, LockRequest, Record, Session, StageHeader, StageState,
        StateError,
    },
};

use super::{
    declaration::{AttributeState, Declaration, DeclareError, NodeId, NodeInfo},
    event::{Action, Event, Outcome, Summary},
    failure::{Failure, FailureCause, RunError},
    node::{Graph, Node, NodeState},
    options::{DeleteOptions, Phase, RunOptions, World},
    recover::close_open_intents,
    rename,
    resolve::{builtin, dependencies},
};

/// One run of one stage.
pub struct Run {
    pub(super) world: World,
    pub(super) stage: StagePath,
    pub(super) options: RunOptions,
    pub(super) keyring: Keyring,
    pub(super) session: Option<Box<dyn Session>>,
    pub(super) lineage: String,
    pub(super) serial: u64,
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
    header: StageHeader,
    /// What state holds of [`Run::facts`]. Held while it is made durable, so that no intent comes before its key.
    recorded: tokio::sync::Mutex<Facts>,
    started_at: jiff::Timestamp,
    deployment: String,
    begin: Duration,
    graph: Mutex<Graph>,
    finished: tokio::sync::Mutex<Option<Summary>>,
}

/// The part of a stage's header that must be durable before the first change that rests on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    target: Option<String>,
    script: Option<String>,
    key: Option<KeyCheck>,
}

impl Facts {
    fn of(header: &StageHeader) -> Self {
        Self {
            target: header.target.clone(),
            script: header.script.clone(),
            key: header.key.clone(),
        }
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// Takes the lock (phases `Up` and `Destroy`), loads state, resolves what a crashed run left.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn start(
        world: World,
        stage: StagePath,
        key: KeyMaterial,
        options: RunOptions,
    ) -> Result<Arc<Self>, RunError> {
        let begin = world.clock.monotonic();
        let started_at = world.clock.now();
        let deployment = world.ids.ulid(started_at);
        world.events.emit(Event::RunStarted {
            stage: stage.clone(),
            phase: options.phase,
            target: options.target.clone(),
            deployment: deployment.clone(),
        });
        let writes = matches!(options.phase, Phase::Up | Phase::Destroy);
        if options.phase == Phase::Destroy || options.phase == Phase::Read {
            require_stage(&world, &stage).await?;
        }
        let (session, mut state) = if writes {
            let session = open_session(&world, &stage, &options).await?;
            let state = session.take_state();
            (Some(session), state)
        } else {
            (None, world.store.load(&stage).await?.unwrap_or_default())
        };
        let prepared = prepare(
            &world,
            &stage,
            key,
            &options,
            session.as_deref(),
            &mut state,
        )
        .await;
        let keyring = match prepared {
            Ok(keyring) => keyring,
            Err(error) => {
                release(session.as_deref()).await?;
                return Err(error);
            }
        };
        let StageState {
            lineage,
            serial,
            header,
            records,
            ..
        } = state;
        let graph = Graph {
            prior: records,
            ..Graph::default()
        };
        Ok(Arc::new(Self {
            world,
            stage,
            options,
            keyring,
            session,
            lineage,
            serial,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            recorded: tokio::sync::Mutex::new(Facts::of(&header)),
            header,
            started_at,
            deployment,
            begin,
            graph: Mutex::new(graph),
            finished: tokio::sync::Mutex::new(None),
        }))
    }

    /// The graph. A panic while it was held has ended the run anyway, so poisoning is no further error.
    pub(super) fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stage.
    #[must_use]
    pub fn stage(&self) -> &StagePath {
        &self.stage
    }

    /// What the run was asked to do.
    #[must_use]
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Registers a resource and starts its operation as soon as all it refers to is ready. Returns at once.
    ///
    /// # Errors
    /// [`DeclareError`].
    pub fn declare(self: &Arc<Self>, declaration: Declaration) -> Result<NodeId, DeclareError> {
        if self.world.cancel.soft.is_cancelled() {
            return Err(DeclareError::Cancelled);
        }
        let Declaration {
            scope,
            id,
            kind,
            props,
            options,
            position,
            conditional,
        } = declaration;
        let fqn = Fqn::new(&self.stage, &scope, &id);
        let provider = self
            .world
            .registry
            .get(&kind)
            .ok_or_else(|| DeclareError::UnknownKind { kind: kind.clone() })?;
        let schema = provider.schema();
        let (props, kept_name) = {
            let mut graph = self.graph();
            check_free(&graph, &fqn)?;
            let graph = &mut *graph;
            graph
                .spellings
                .claim(&fqn, position.as_ref(), &graph.prior)?;
            let record = graph.prior.get(&fqn).filter(|record| record.kind == kind);
            let kept_name = record
                .filter(|record| record.keeps_name)
                .map(|record| record.physical_name.clone());
            let props = validate::validate(schema, props, &|fqn| {
                graph.by_fqn.get(fqn).map(|id| graph.node(*id).kind.clone())
            })
            .map_err(|errors| DeclareError::Props {
                kind: kind.clone(),
                errors,
            })?;
            (props, kept_name)
        };
        let context = CheckContext {
            fqn: fqn.clone(),
            stage: self.stage.clone(),
            scope,
            id: id.as_str().to_owned(),
            folder: Arc::clone(&self.options.folder),
            access: Arc::clone(&self.options.access),
            kept_name,
        };
        for touch in provider.touches(&props) {
            self.options.access.check(&touch)?;
        }
        // Reads local files that props name, so it happens outside the lock.
        let checked = provider
            .check(&context, props)
            .map_err(|errors| DeclareError::Props {
                kind: kind.clone(),
                errors,
            })?;
        let node_id = {
            let mut graph = self.graph();
            let node_id = NodeId(u32::try_from(graph.nodes.len()).unwrap_or(u32::MAX));
            if self.options.phase == Phase::Read && !graph.prior.contains_key(&fqn) {
                return Err(DeclareError::NotInState { fqn });
            }
            if let Some(identity) = &checked.identity
                && let Some(other) = graph.identities.insert(identity.clone(), node_id)
            {
                let other_node = graph.node(other);
                let error = DeclareError::SameObject {
                    fqn,
                    other: other_node.fqn.clone(),
                    first: other_node.position.clone(),
                    physical_name: checked.physical_name,
                };
                graph.identities.insert(identity.clone(), other);
                return Err(error);
            }
            let dependencies = dependencies(&graph, &checked.props).map_err(|unknown| {
                let message = format!("`{unknown}` is not declared in this run");
                let error = PropError {
                    path: Vec::new(),
                    message,
                    help: None,
                    at_key: false,
                };
                DeclareError::Props {
                    kind: kind.clone(),
                    errors: vec![error],
                }
            })?;
            let waiting_on = dependencies
                .iter()
                .filter(|id| !graph.node(**id).is_settled())
                .count();
            for dependency in &dependencies {
                if !graph.node(*dependency).is_settled() {
                    graph.node_mut(*dependency).dependents.push(node_id);
                }
            }
            let reads_before = graph.reads.len();
            graph.by_fqn.insert(fqn.clone(), node_id);
            graph.nodes.push(Node {
                fqn,
                kind,
                provider,
                checked,
                options,
                position,
                conditional,
                dependencies,
                dependents: Vec::new(),
                waiting_on,
                reads_before,
                state: NodeState::Waiting,
                path: Duration::ZERO,
                height: 0,
                action: None,
                told: false,
                waiters: Vec::new(),
            });
            graph.unsettled += 1;
            if waiting_on > 0 {
                return Ok(node_id);
            }
            node_id
        };
        self.advance(node_id);
        Ok(node_id)
    }

    /// Registers the id of a nested scope, so that no resource takes it. The same scope may be entered again.
    ///
    /// # Errors
    /// [`DeclareError::Duplicate`] when a resource has that id.
    pub fn enter_scope(
        &self,
        parent: &ScopePath,
        id: &ResourceId,
        position: Option<Position>,
    ) -> Result<ScopePath, DeclareError> {
        let fqn = Fqn::new(&self.stage, parent, id);
        let mut graph = self.graph();
        if let Some(node) = graph.by_fqn.get(&fqn) {
            let first = graph.node(*node).position.clone();
            return Err(DeclareError::Duplicate { fqn, first });
        }
        let graph = &mut *graph;
        graph
            .spellings
            .claim(&fqn, position.as_ref(), &graph.prior)?;
        graph.scopes.entry(fqn).or_insert(position);
        Ok(parent.child(id.clone()))
    }

    /// Whether `id` was declared in `scope`.
    #[must_use]
    pub fn has_resource(&self, scope: &ScopePath, id: &str) -> bool {
        ResourceId::new(id).is_ok_and(|id| {
            self.graph()
                .by_fqn
                .contains_key(&Fqn::new(&self.stage, scope, &id))
        })
    }

    /// What is known of a resource at once.
    #[must_use]
    pub fn info(&self, node: NodeId) -> NodeInfo {
        let graph = self.graph();
        let node = graph.node(node);
        NodeInfo {
            fqn: node.fqn.clone(),
            kind: node.kind.clone(),
            physical_name: node.checked.physical_name.clone(),
            position: node.position.clone(),
        }
    }

    /// Whether another stage of this script would ask for the very same object: the script names it, the name does not tell
    /// stages apart, and state does not have the object yet. Who adopts it means to share it.
    #[must_use]
    pub fn could_collide(&self, node: NodeId) -> bool {
        let graph = self.graph();
        let node = graph.node(node);
        let name = &node.checked.physical_name;
        let ours = graph
            .prior
            .get(&node.fqn)
            .is_some_and(|record| record.physical_name == *name);
        node.checked.explicit_name
            && !ours
            && !self.options.adopt
            && node.options.adopt != Some(true)
            && !name.contains(self.stage.stage.as_str())
    }

    /// The schema of a resource's kind.
    #[must_use]
    pub fn schema(&self, node: NodeId) -> KindSchema {
        self.graph().node(node).schema().clone()
    }

    /// An attribute without waiting. `fqn`, `kind`, `stage` and `name` are always known. Either spelling is accepted.
    /// In `Up` a failed resource's attributes are `Pending`: [`Run::settle`] then gives the failure.
    #[must_use]
    pub fn attribute(&self, node: NodeId, name: &str) -> AttributeState {
        let mut graph = self.graph();
        let entry = graph.node(node);
        let schema = entry.schema();
        let name = match schema.attribute(name) {
            Some(attribute) => attribute.name.to_owned(),
            None if schema.open_attributes => name.to_owned(),
            None if builtin(entry, name).is_some() => name.to_owned(),
            None => return AttributeState::NoSuchAttribute,
        };
        if matches!(entry.state, NodeState::Failed(_))
            && !matches!(name.as_str(), "fqn" | "kind" | "stage" | "name")
        {
            return AttributeState::Pending;
        }
        if let Some(value) = builtin(entry, &name).or_else(|| entry.output(&name).cloned()) {
            let opened = self.open(&Map::from([(name.clone(), value)]));
            return match opened {
                Ok(mut map) => AttributeState::Known(map.remove(&name).unwrap_or_default()),
                Err(error) => {
                    // Waiting for the resource then tells the script why.
                    let state = self.failed(&graph, node, Action::Unchanged, error.into());
                    graph.node_mut(node).state = state;
                    AttributeState::Pending
                }
            };
        }
        match (&entry.state, self.options.phase) {
            (NodeState::Done(_), _) => AttributeState::Known(Value::Null),
            (NodeState::Planned { .. }, _) | (_, Phase::Plan) => AttributeState::Unknown,
            _ => AttributeState::Pending,
        }
    }

    /// All outputs at this moment, secrets sealed, or `None` while they are not known.
    #[must_use]
    pub fn outputs(&self, node: NodeId) -> Option<Map> {
        match &self.graph().node(node).state {
            NodeState::Done(record) => Some(record.outputs.clone()),
            _ => None,
        }
    }

    /// Waits for one resource. A failure that was answered here has been handed to the script: if the script goes on in
    /// spite of it, the run counts it as handled.
    ///
    /// # Errors
    /// The resource's [`Failure`].
    pub async fn settle(&self, node: NodeId) -> Result<(), Arc<Failure>> {
        loop {
            let waiter = {
                let mut graph = self.graph();
                let entry = graph.node_mut(node);
                match &entry.state {
                    NodeState::Done(_) | NodeState::Planned { .. } => return Ok(()),
                    NodeState::Failed(failure) => {
                        let failure = Arc::clone(failure);
                        entry.told = true;
                        return Err(failure);
                    }
                    _ => {
                        let (sender, receiver) = oneshot::channel();
                        entry.waiters.push(sender);
                        receiver
                    }
                }
            };
            self.wait_or_abandon(waiter).await;
        }
    }

    /// Waits for a wake-up; when the user stops the run, lets go of everything that has not started.
    async fn wait_or_abandon(&self, mut waiter: oneshot::Receiver<()>) {
        let soft = &self.world.cancel.soft;
        tokio::select! {
            biased;
            _ = &mut waiter => return,
            () = soft.cancelled() => {}
        }
        self.abandon_unstarted();
        // What runs ends by itself, or at the second signal; the sender lives in the graph, so this cannot wait for ever.
        drop(waiter.await);
    }

    /// Notes that the script has read an output of `node`: what it declares from now on is deleted before `node`.
    pub fn note_read(&self, node: NodeId) {
        let mut graph = self.graph();
        let fqn = graph.node(node).fqn.clone();
        if graph.read_set.insert(fqn.clone()) {
            graph.reads.push(fqn);
        }
    }

    /// Takes a resource or scope that was renamed in the script: state moves, nothing is replaced. Names are within the
    /// stage. Answers whether anything moved; `false` when state has nothing of the old name.
    ///
    /// # Errors
    /// [`RunError::Journal`] when the records cannot be written; [`RunError::Rename`] when the new name is taken.
    pub async fn moved(&self, from: &str, to: &str) -> Result<bool, RunError> {
        let name = |within: &str| {
            Fqn::parse(&format!("{}/{within}", self.stage))
                .map_err(|error| RunError::Name(error.to_string()))
        };
        let (from, to) = (name(from)?, name(to)?);
        let mut state = StageState {
            records: self.graph().prior.clone(),
            ..StageState::default()
        };
        let entries = match rename::rename(&state, &self.keyring, &from, &to) {
            Ok(entries) => entries,
            Err(rename::RenameError::Missing(_)) => return Ok(false),
            Err(error) => return Err(RunError::Rename(error)),
        };
        for entry in entries {
            state.apply(&entry);
            if self.options.phase == Phase::Up {
                self.append(entry).await.map_err(RunError::Journal)?;
            }
        }
        self.graph().prior = state.records;
        Ok(true)
    }

    /// Destroys what this run created in `scope` (`onFailure: "cleanup"`). Waits for what is still running there.
    ///
    /// # Errors
    /// [`RunError::Journal`] when that cannot be recorded.
    pub async fn cleanup_scope(self: &Arc<Self>, scope: &ScopePath) -> Result<(), RunError> {
        if self.options.phase != Phase::Up {
            return Ok(());
        }
        let members: Vec<NodeId> = {
            let graph = self.graph();
            (0..graph.nodes.len())
                .filter_map(|index| u32::try_from(index).ok().map(NodeId))
                .filter(|id| scope.contains(&graph.node(*id).fqn.scope()))
                .collect()
        };
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
        self.wait_until_idle().await;
        let (orphans, keepers, order, clean) = {
            let graph = self.graph();
            let unhandled = graph.nodes.iter().any(|node| {
                matches!(&node.state, NodeState::Failed(failure)
                    if !node.told && !matches!(failure.cause, FailureCause::CleanedUp))
            });
            let clean = script_succeeded
                && !unhandled
                && graph.poisoned.is_none()
                && !self.world.cancel.soft.is_cancelled();
            let keepers: Vec<_> = graph
                .nodes
                .iter()
                .filter_map(|node| match &node.state {
                    NodeState::Done(record) if !record.old_objects.is_empty() => {
                        Some(Arc::clone(record))
                    }
                    _ => None,
                })
                .collect();
            (
                self.orphans(&graph),
                keepers,
                self.header.order.clone(),
                clean,
            )
        };
        let swept = match self.options.phase {
            Phase::Up | Phase::Plan if clean => self.sweep(orphans, keepers, &order).await,
            _ => super::delete::Swept {
                left: orphans.iter().map(|record| record.fqn.clone()).collect(),
                path: Duration::ZERO,
            },
        };
        let left = if self.options.phase == Phase::Read {
            Vec::new()
        } else {
            swept.left
        };
        let summary = self
            .conclude(script_succeeded, left, swept.path, "run")
            .await?;
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
        let summary = self
            .conclude(true, swept.left, swept.path, "destroy")
            .await?;
        *finished = Some(summary.clone());
        Ok(summary)
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

    async fn wait_until_idle(&self) {
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

    /// Checkpoint, deployment record, lock, summary.
    async fn conclude(
        &self,
        script_succeeded: bool,
        left: Vec<Fqn>,
        delete_path: Duration,
        command: &str,
    ) -> Result<Summary, RunError> {
        let summary = self.summarise(script_succeeded, left, delete_path);
        if let Some(session) = self.session.as_deref() {
            let written = self.write_end(session, &summary, command).await;
            let released = session.release().await;
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
        let (dirty, declared, empty) = {
            let graph = self.graph();
            if let Some(error) = &graph.poisoned {
                return Err(RunError::Journal(Arc::clone(error)));
            }
            let declared: Vec<Fqn> = graph.nodes.iter().map(|node| node.fqn.clone()).collect();
            let kept = graph
                .nodes
                .iter()
                .any(|node| matches!(node.state, NodeState::Done(_)));
            (graph.dirty, declared, graph.prior.is_empty() && !kept)
        };
        // A dropped call after the second signal leaves its intent in the journal; the next run resolves it from there.
        if self.world.cancel.hard.is_cancelled() {
            return Ok(());
        }
        let mut header = self.header_with(self.facts());
        if self.options.phase == Phase::Up {
            let is_declared: std::collections::HashSet<&Fqn> = declared.iter().collect();
            header
                .order
                .retain(|fqn| !is_declared.contains(fqn) && summary.left.contains(fqn));
            header.order.extend(declared);
        }
        if dirty {
            header.deployment = Some(self.deployment.clone());
        }
        session.checkpoint(header).await?;
        if dirty {
            session
                .record_deployment(self.deployment_record(summary, command))
                .await?;
        }
        if self.options.phase == Phase::Destroy && empty && summary.left.is_empty() {
            session.remove_stage().await?;
        }
        Ok(())
    }

    /// Where this run deploys to, from which script, and with which key as far as it met a secret.
    fn facts(&self) -> Facts {
        let mut facts = Facts {
            key: self.keyring.key_check(),
            ..Facts::of(&self.header)
        };
        if self.options.phase == Phase::Up {
            facts.script.clone_from(&self.options.script);
            facts.target = Some(self.options.target.clone());
        }
        facts
    }

    fn header_with(&self, facts: Facts) -> StageHeader {
        StageHeader {
            target: facts.target,
            script: facts.script,
            key: facts.key,
            ..self.header.clone()
        }
    }

    /// Makes an entry durable, after the facts that it rests on. Those are written once or twice in the life of a stage.
    pub(super) async fn write_entry(
        &self,
        session: &dyn Session,
        entry: JournalEntry,
    ) -> Result<(), StateError> {
        let mut recorded = self.recorded.lock().await;
        let facts = self.facts();
        if *recorded == facts {
            drop(recorded);
            return session.append(vec![entry]).await;
        }
        *recorded = self.facts();
        let header = Arc::new(self.header_with(facts));
        session
            .append(vec![JournalEntry::Header(header), entry])
            .await
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

    fn summarise(&self, script_succeeded: bool, left: Vec<Fqn>, delete_path: Duration) -> Summary {
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
            .filter(|_| script_succeeded)
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
            elapsed: self.world.clock.monotonic().saturating_sub(self.begin),
            critical_path: path + delete_path,
            calls: self.world.meter.total(),
        }
    }
}

fn check_free(graph: &Graph, fqn: &Fqn) -> Result<(), DeclareError> {
    let first = match (graph.by_fqn.get(fqn), graph.scopes.get(fqn)) {
        (Some(node), _) => graph.node(*node).position.clone(),
        (None, Some(position)) => position.clone(),
        (None, None) => return Ok(()),
    };
    Err(DeclareError::Duplicate {
        fqn: fqn.clone(),
        first,
    })
}

async fn require_stage(world: &World, stage: &StagePath) -> Result<(), RunError> {
    let others = world.store.stages(&stage.app).await?;
    if others.contains(stage) {
        return Ok(());
    }
    Err(RunError::NoSuchStage {
        stage: stage.clone(),
        others,
    })
}

/// Opens the stage; says so when it has to wait for another run.
async fn open_session(
    world: &World,
    stage: &StagePath,
    options: &RunOptions,
) -> Result<Box<dyn Session>, RunError> {
    let request = LockRequest {
        wait: Duration::ZERO,
        command: options.command.clone(),
    };
    match world.store.open(stage, request).await {
        Err(StateError::Locked { .. }) if !options.lock_wait.is_zero() => {
            world.events.emit(Event::WaitingForLock {
                stage: stage.clone(),
            });
            let request = LockRequest {
                wait: options.lock_wait,
                command: options.command.clone(),
            };
            tokio::select! {
                session = world.store.open(stage, request) => Ok(session?),
                () = world.cancel.soft.cancelled() => Err(RunError::Cancelled),
            }
        }
        other => Ok(other?),
    }
}

/// What must be in order before the first declaration: target, plan, key, and what a crashed run left.
async fn prepare(
    world: &World,
    stage: &StagePath,
    key: KeyMaterial,
    options: &RunOptions,
    session: Option<&dyn Session>,
    state: &mut StageState,
) -> Result<Keyring, RunError> {
    if let Some(deployed) = &state.header.target
        && *deployed != options.target
        && !state.is_empty()
    {
        return Err(RunError::OtherTarget {
            stage: stage.clone(),
            deployed: deployed.clone(),
            asked: options.target.clone(),
        });
    }
    if let Some(plan) = &options.expected_plan
        && (plan.lineage != state.lineage || plan.serial != state.serial)
        && !(plan.lineage.is_empty() && state.records.is_empty())
    {
        return Err(RunError::StalePlan {
            reason: format!(
                "it was made from state {} and the stage is at {}",
                plan.serial, state.serial
            ),
        });
    }
    let keyring = Keyring::new(
        stage.clone(),
        state.header.key.clone(),
        key,
        Arc::clone(&world.ids),
    );
    let keyring = if session.is_some() {
        keyring
    } else {
        keyring.without_writing()
    };
    // A wrong password is told before anything is touched, not at the first secret. Deletes need no secret of the script's.
    if state.header.key.is_some() {
        keyring.vault()?;
    }
    let entries = close_open_intents(state, world.clock.now());
    if let Some(session) = session
        && !entries.is_empty()
    {
        session.append(entries).await?;
    }
    Ok(keyring)
}

async fn release(session: Option<&dyn Session>) -> Result<(), StateError> {
    match session {
        Some(session) => session.release().await,
        None => Ok(()),
    }
}
