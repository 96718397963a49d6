//! Declarations: a resource, a scope or a rename enters the graph. What then happens to a node is `schedule`'s business.

use std::{sync::Arc, time::Duration};

use crate::{
    model::{Fqn, Position, ResourceId, ScopePath},
    provider::{CheckContext, PropError, validate},
    state::StageState,
};

use super::{
    declaration::{Declaration, DeclareError, NodeId},
    failure::RunError,
    node::{Graph, Node, NodeState},
    options::Phase,
    rename,
    resolve::dependencies,
    run::Run,
};

impl Run {
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

    /// How many resources were declared.
    #[must_use]
    pub fn declared(&self) -> usize {
        self.graph().nodes.len()
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
