//! Repair: brings objects back to what state says, without the script.
//!
//! The records of the stage are declared as they stand and go through the same decisions, operations and journal as declarations
//! of a script: what vanished is made again, what changed is updated, and what refers to an object that was made again follows.
//! Nothing is swept: there is no script that could have left something out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    model::{DeletePolicy, Fqn, KindSchema, Map, ReplaceOrder},
    provider::{
        CheckContext, Checked, Existing, FailureKind, Found, OperationContext, PropError, Provider,
        ProviderError,
    },
    state::{Record, Status},
};

use super::{
    declaration::NodeId,
    event::Summary,
    failure::RunError,
    node::{Graph, Node, NodeState},
    options::{Phase, ResourceOptions},
    resolve::references,
    run::Run,
};

impl Run {
    /// Phase `Repair`: brings every object that the look found gone or changed back to what state says. Later calls answer the
    /// same summary.
    ///
    /// # Errors
    /// [`RunError`] when state cannot be written.
    pub async fn repair(self: &Arc<Self>) -> Result<Summary, RunError> {
        let mut finished = self.finished.lock().await;
        if let Some(summary) = finished.as_ref() {
            return Ok(summary.clone());
        }
        let ready = {
            let mut graph = self.graph();
            let order = self.by_dependency(&graph);
            order
                .into_iter()
                .filter_map(|record| self.declare_record(&mut graph, &record))
                .collect::<Vec<NodeId>>()
        };
        self.graph().prioritise();
        for node in ready {
            self.advance(node);
        }
        let summary = self.conclude_unswept("drift --repair").await?;
        *finished = Some(summary.clone());
        Ok(summary)
    }

    /// Waits for all that was declared and ends the run without deleting anything.
    pub(super) async fn conclude_unswept(&self, command: &str) -> Result<Summary, RunError> {
        self.wait_until_idle().await;
        let summary = self.summarise(true, Vec::new(), Duration::ZERO);
        self.conclude(summary, command).await
    }

    /// Records so that each comes after those that its props refer to; in order of declaration otherwise.
    fn by_dependency(&self, graph: &Graph) -> Vec<Arc<Record>> {
        let mut declared: Vec<&Fqn> = self.header.order.iter().collect();
        let known: HashSet<&Fqn> = declared.iter().copied().collect();
        declared.extend(graph.prior.keys().filter(|fqn| !known.contains(fqn)));
        let mut out = Vec::with_capacity(graph.prior.len());
        let mut entered: HashMap<&Fqn, bool> = HashMap::new();
        // Depth first without recursion: a chain may be as long as a script can declare.
        let mut stack: Vec<(&Fqn, bool)> = declared.into_iter().rev().map(|f| (f, false)).collect();
        while let Some((fqn, below_done)) = stack.pop() {
            let Some((fqn, record)) = graph.prior.get_key_value(fqn) else {
                continue;
            };
            if below_done {
                out.push(Arc::clone(record));
                continue;
            }
            if entered.insert(fqn, true).is_some() {
                continue;
            }
            stack.push((fqn, true));
            for reference in references(&record.props) {
                if let Some((dependency, _)) = graph.prior.get_key_value(&reference.fqn)
                    && !entered.contains_key(dependency)
                {
                    stack.push((dependency, false));
                }
            }
        }
        out
    }

    /// Puts a record into the graph as a declaration of itself. Answers the node when it waits for nothing and is to be
    /// decided on.
    fn declare_record(&self, graph: &mut Graph, record: &Arc<Record>) -> Option<NodeId> {
        let provider = self.world.registry.get(&record.kind);
        let known = provider
            .as_ref()
            .is_some_and(|provider| !provider.needs_script());
        let drifted = graph.seen.findings.contains_key(&record.fqn);
        let refers_to = references(&record.props);
        let complete = refers_to.iter().all(|reference| {
            graph
                .by_fqn
                .get(&reference.fqn)
                .is_some_and(|id| !graph.node(*id).provider.needs_script())
        });
        // What was being deleted, and what rests on a kind that only the script knows, stays as it is.
        let decided = known && (drifted || (record.status != Status::Deleting && complete));
        let mut dependencies: Vec<NodeId> = Vec::new();
        for reference in &refers_to {
            if let Some(id) = graph.by_fqn.get(&reference.fqn)
                && !dependencies.contains(id)
            {
                dependencies.push(*id);
            }
        }
        let id = NodeId(u32::try_from(graph.nodes.len()).unwrap_or(u32::MAX));
        let waiting_on = dependencies
            .iter()
            .filter(|dependency| !graph.node(**dependency).is_settled())
            .count();
        if decided {
            for dependency in &dependencies {
                if !graph.node(*dependency).is_settled() {
                    graph.node_mut(*dependency).dependents.push(id);
                }
            }
            graph.unsettled += 1;
        }
        graph.by_fqn.insert(record.fqn.clone(), id);
        let provider = match provider {
            Some(provider) if known => provider,
            _ => Arc::new(StandIn::new(Arc::clone(&record.kind))),
        };
        graph.nodes.push(Node {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            provider,
            checked: Checked {
                props: record.props.clone(),
                physical_name: record.physical_name.clone(),
                explicit_name: false,
                known: Map::new(),
                identity: None,
            },
            options: ResourceOptions {
                adopt: None,
                protect: Some(record.protect),
                retain: Some(record.retain),
            },
            position: record.position.clone(),
            conditional: false,
            dependencies,
            dependents: Vec::new(),
            waiting_on: if decided { waiting_on } else { 0 },
            reads_before: 0,
            state: if decided {
                NodeState::Waiting
            } else {
                NodeState::Done(Arc::clone(record))
            },
            path: Duration::ZERO,
            height: 0,
            action: None,
            wanted: false,
            told: false,
            waiters: Vec::new(),
        });
        (decided && waiting_on == 0).then_some(id)
    }
}

/// Whether a phase works from records alone, so that what they depend on is not declared anew.
pub(super) fn keeps_dependencies(phase: Phase) -> bool {
    phase == Phase::Repair
}

/// Stands for a kind that only the script knows: nothing is ever asked of it.
struct StandIn(KindSchema);

impl StandIn {
    fn new(kind: Arc<str>) -> Self {
        Self(KindSchema {
            kind,
            doc: String::new(),
            props: Vec::new(),
            open_props: true,
            attributes: Vec::new(),
            open_attributes: true,
            replace: ReplaceOrder::CreateFirst,
            delete: DeletePolicy::Disposable,
            name_limit: usize::MAX,
        })
    }

    fn refusal(&self) -> ProviderError {
        let message = format!("`{}` is defined by the script", self.0.kind);
        ProviderError::new(FailureKind::Refused, message).with_help("`alch run` runs the script")
    }
}

#[async_trait]
impl Provider for StandIn {
    fn schema(&self) -> &KindSchema {
        &self.0
    }

    fn check(&self, _: &CheckContext, _: Map) -> Result<Checked, Vec<PropError>> {
        Err(Vec::new())
    }

    async fn read(&self, _: &OperationContext, _: &Existing) -> Result<Option<Map>, ProviderError> {
        Err(self.refusal())
    }

    async fn create(&self, _: &OperationContext, _: &Map) -> Result<Map, ProviderError> {
        Err(self.refusal())
    }

    async fn update(
        &self,
        _: &OperationContext,
        _: &Map,
        _: &Existing,
    ) -> Result<Map, ProviderError> {
        Err(self.refusal())
    }

    async fn delete(&self, _: &OperationContext, _: &Existing) -> Result<(), ProviderError> {
        Err(self.refusal())
    }

    async fn find(&self, _: &OperationContext, _: &Map) -> Result<Option<Found>, ProviderError> {
        Err(self.refusal())
    }

    fn needs_script(&self) -> bool {
        true
    }
}
