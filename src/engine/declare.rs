//! Declarations: a resource, a scope or a rename enters the graph. What then happens to a node is `schedule`'s business.

use std::{sync::Arc, time::Duration};

use crate::{
    model::{Fqn, Position, ResourceId, ScopePath},
    provider::{CheckContext, Claim, PropError, validate},
    state::{JournalEntry, StageState},
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
        let (node_id, ready) = self.register(declaration)?;
        self.weigh(node_id);
        if ready {
            self.advance(node_id);
        }
        Ok(node_id)
    }

    /// Puts a declaration into the graph and starts nothing. Answers whether it waits for nothing.
    pub(super) fn register(
        &self,
        declaration: Declaration,
    ) -> Result<(NodeId, bool), DeclareError> {
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
        {
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
            let claims = provider.claims(&checked, &|fqn| {
                let node = graph.node(*graph.by_fqn.get(fqn)?);
                Some((&*node.kind, &node.checked))
            });
            claim(&mut graph, &fqn, node_id, claims)?;
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
                wanted: false,
                told: false,
                waiters: Vec::new(),
            });
            graph.unsettled += 1;
            Ok((node_id, waiting_on == 0))
        }
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

    /// Takes a resource or scope that was renamed in the script: state moves, nothing is replaced. The names are within
    /// `scope`, or within the stage where state has nothing of that name in the scope.
    ///
    /// # Errors
    /// [`RunError::Journal`] when the records cannot be written; [`RunError::Rename`] when the new name is taken;
    /// [`RunError::MovedLate`] when one of the two is declared already.
    pub async fn moved(&self, scope: &ScopePath, from: &str, to: &str) -> Result<Moved, RunError> {
        let within = |scope: &ScopePath, name: &str| {
            let mut text = self.stage.to_string();
            for part in scope.parts().iter().map(ResourceId::as_str).chain([name]) {
                text.push('/');
                text.push_str(part);
            }
            Fqn::parse(&text).map_err(|error| RunError::Name(error.to_string()))
        };
        let mut pairs = vec![(within(scope, from)?, within(scope, to)?)];
        if !scope.parts().is_empty() {
            let root = ScopePath::root();
            pairs.push((within(&root, from)?, within(&root, to)?));
        }
        let names: Vec<Fqn> = pairs.iter().map(|(_, to)| to.clone()).collect();
        // A destroy takes everything under the name that it has.
        if self.options.phase == Phase::Destroy {
            return Ok(Moved {
                moved: false,
                names,
            });
        }
        let (mut state, chosen) = {
            let graph = self.graph();
            let known = pairs
                .iter()
                .find(|(from, _)| graph.prior.keys().any(|fqn| is_at_or_below(fqn, from)));
            let (from, to) = known.unwrap_or(&pairs[0]);
            let mut declared = graph.nodes.iter();
            if let Some(node) = declared.find(|node| {
                is_at_or_below(&node.fqn, to)
                    || (known.is_some() && is_at_or_below(&node.fqn, from))
            }) {
                return Err(RunError::MovedLate {
                    declared: node.fqn.clone(),
                    first: node.position.clone(),
                });
            }
            let state = StageState {
                records: graph.prior.clone(),
                ..StageState::default()
            };
            (state, known.cloned())
        };
        let Some((from, to)) = chosen else {
            return Ok(Moved {
                moved: false,
                names,
            });
        };
        let entries = rename::rename(&state, &self.keyring, &from, &to)?;
        for entry in entries {
            state.apply(&entry);
            if let JournalEntry::Renamed { from, record } = &entry {
                let mut graph = self.graph();
                graph.seen.rename(from, &record.fqn);
                if graph.at_stake.remove(from) {
                    graph.at_stake.insert(record.fqn.clone());
                }
            }
            if self.options.phase == Phase::Up {
                self.append(entry).await.map_err(RunError::Journal)?;
            }
        }
        self.graph().prior = state.records;
        let names = vec![to];
        Ok(Moved { moved: true, names })
    }

    /// Whether this run has declared a resource or entered a scope of that name.
    #[must_use]
    pub fn is_declared(&self, fqn: &Fqn) -> bool {
        let graph = self.graph();
        graph.by_fqn.contains_key(fqn) || graph.scopes.contains_key(fqn)
    }
}

/// What [`Run::moved`] did.
#[derive(Debug)]
pub struct Moved {
    /// Whether anything moved; not when state has nothing of the old name.
    pub moved: bool,
    /// What the new name can mean.
    pub names: Vec<Fqn>,
}

fn is_at_or_below(fqn: &Fqn, top: &Fqn) -> bool {
    fqn.as_str()
        .strip_prefix(top.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

/// Notes what the resource holds alone, unless another one of the run does.
fn claim(
    graph: &mut Graph,
    fqn: &Fqn,
    node_id: NodeId,
    claims: Vec<Claim>,
) -> Result<(), DeclareError> {
    for claim in &claims {
        if let Some(other) = graph.claims.get(&claim.what) {
            let other = graph.node(*other);
            let error = DeclareError::SameClaim {
                fqn: fqn.clone(),
                other: other.fqn.clone(),
                first: other.position.clone(),
                claim: claim.clone(),
            };
            graph.contested.push(fqn.clone());
            return Err(error);
        }
    }
    graph
        .claims
        .extend(claims.into_iter().map(|claim| (claim.what, node_id)));
    Ok(())
}
