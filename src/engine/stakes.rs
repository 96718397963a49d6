//! What a run may come to lose without consent, and what waits until that is known.
//!
//! State may have a resource whose end would lose what no script brings back, and the script may still declare it. Until it
//! has, or has ended, nothing is begun that the script does not wait for: a run that is refused in the end has then touched
//! nothing. Nor is anything begun from where it declares the resource in a way that loses some of it. What looks like such a resource under a new id is not made at all, or its users would go on with something empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::Fqn,
    provider::Registry,
    state::{Record, Status},
};

use super::{
    declaration::NodeId,
    delete::Item,
    event::{Action, Event},
    failure::{Failure, FailureCause},
    node::{Graph, Node, NodeState, ReadyNode},
    options::{Phase, RunOptions},
    resolve::known_props,
    run::Run,
};

/// Whether an operation may begin.
pub(super) enum Gate {
    /// It may.
    Open,
    /// Not before it is known what the script declares.
    Held,
    /// It may not, ever.
    Refused(FailureCause),
}

/// The resources in state whose end or change may lose something that needs consent, and nobody gave it.
pub(super) fn at_stake(
    registry: &Registry,
    options: &RunOptions,
    prior: &BTreeMap<Fqn, Arc<Record>>,
) -> BTreeSet<Fqn> {
    if options.phase != Phase::Up || options.allow_data_loss || options.rebuild {
        return BTreeSet::new();
    }
    let loses = |record: &Record| {
        registry
            .get(&record.kind)
            .is_some_and(|provider| !provider.losses(&record.outputs, None).is_empty())
    };
    let lost = prior.values().filter(|record| loses(record));
    lost.map(|record| record.fqn.clone()).collect()
}

impl Run {
    /// Whether the operation of a node that could start may.
    pub(super) fn gate(&self, graph: &Graph, id: NodeId) -> Gate {
        if graph.at_stake.is_empty() {
            return Gate::Open;
        }
        if let Some(because) = &graph.given_up {
            return Gate::Refused(FailureCause::Dependency(because.clone()));
        }
        let node = graph.node(id);
        if !node.wanted {
            return Gate::Held;
        }
        let mut stakes = graph.at_stake.iter().filter_map(|fqn| graph.prior.get(fqn));
        match stakes.find(|record| self.would_go(record) && may_be_heir(graph, node, record)) {
            Some(record) => Gate::Refused(FailureCause::Renamed {
                from: record.fqn.clone(),
                losses: self.lost_with(record),
            }),
            None => Gate::Open,
        }
    }

    /// The script waits for these: they and all that they need may begin.
    pub(super) fn want(self: &Arc<Self>, ids: &[NodeId]) {
        let mut events = Vec::new();
        let mut graph = self.graph();
        if graph.at_stake.is_empty() {
            return;
        }
        let mut worklist = ids.to_vec();
        while let Some(id) = worklist.pop() {
            let node = graph.node_mut(id);
            if !std::mem::replace(&mut node.wanted, true) {
                worklist.extend_from_slice(&node.dependencies);
            }
        }
        self.resume(&mut graph, &mut events);
        self.emit_all(events);
    }

    /// A resource was declared. If nothing is lost with that, what was held for its sake may begin, unless something else is at
    /// stake; otherwise the resource is refused, and with it all that was not begun.
    pub(super) fn weigh(self: &Arc<Self>, id: NodeId) {
        let mut events = Vec::new();
        let mut graph = self.graph();
        let fqn = graph.node(id).fqn.clone();
        if !graph.at_stake.contains(&fqn) {
            return;
        }
        let node = graph.node(id);
        let record = graph.prior.get(&fqn);
        let refused = record.and_then(|record| self.refused_change(&graph, node, record));
        match refused {
            Some((action, cause)) => {
                let state = self.failed(&graph, id, action, cause);
                self.settle_node(&mut graph, id, state, &mut Vec::new(), &mut events);
                graph.given_up.get_or_insert(fqn);
            }
            None => {
                graph.at_stake.remove(&fqn);
                if !graph.at_stake.is_empty() {
                    return;
                }
            }
        }
        self.resume(&mut graph, &mut events);
        self.emit_all(events);
    }

    /// Why a resource may not become what is declared now, if something would be lost with that. What is not known yet counts
    /// as losing nothing.
    fn refused_change(
        &self,
        graph: &Graph,
        node: &Node,
        record: &Record,
    ) -> Option<(Action, FailureCause)> {
        let stays = node.kind == record.kind
            && node.checked.physical_name == record.physical_name
            && record.status != Status::Deleting;
        let (action, losses) = match stays {
            true => {
                let props = known_props(graph, &node.checked.props);
                let losses = node.provider.losses(&record.outputs, Some(&props));
                (Action::Update, losses)
            }
            false if record.retain => return None,
            false => (Action::Replace, self.lost_with(record)),
        };
        if losses.is_empty() {
            return None;
        }
        let protected = record.protect || node.options.protect == Some(true);
        let cause = match protected && !stays {
            true => FailureCause::Protected,
            false => FailureCause::Losses(losses),
        };
        Some((action, cause))
    }

    /// Whether the object of a record is deleted when nothing declares it.
    fn would_go(&self, record: &Record) -> bool {
        !record.retain && (!record.adopted || self.options.delete_adopted)
    }

    /// The script has ended: begins what was held, or gives it up because a delete that must follow lacks consent.
    pub(super) fn open_gate(self: &Arc<Self>, script_succeeded: bool) {
        if !script_succeeded {
            // Nobody knows what it would have declared still, so nothing will be deleted.
            let all = self.graph().held.clone();
            self.want(&all);
            return;
        }
        let mut events = Vec::new();
        let mut graph = self.graph();
        let lost: Vec<Arc<Record>> = graph
            .at_stake
            .iter()
            .filter_map(|fqn| graph.prior.get(fqn).cloned())
            .filter(|record| !graph.by_fqn.contains_key(&record.fqn))
            .filter(|record| self.would_go(record) && !is_taken_over(&graph, record))
            .collect();
        if graph.given_up.is_some() {
            return;
        }
        if graph.held.is_empty() || lost.is_empty() {
            graph.at_stake.clear();
            self.resume(&mut graph, &mut events);
            self.emit_all(events);
            return;
        }
        for record in &lost {
            self.refuse_loss(&mut graph, record, &mut events);
        }
        graph.given_up = Some(lost[0].fqn.clone());
        self.resume(&mut graph, &mut events);
        self.emit_all(events);
    }

    /// Puts what was held back among what can start, and fills free slots.
    fn resume(self: &Arc<Self>, graph: &mut Graph, events: &mut Vec<Event>) {
        for id in std::mem::take(&mut graph.held) {
            let height = graph.node(id).height;
            graph.ready.push(ReadyNode {
                height,
                order: std::cmp::Reverse(id),
            });
        }
        self.fill(graph, events);
    }

    /// Refuses the deletes of a clean-up, all of them, when one lacks consent. Answers whether it did.
    pub(super) fn refuse_losses(&self, items: &[Item]) -> bool {
        if self.options.allow_data_loss || self.options.phase == Phase::Destroy {
            return false;
        }
        let mut events = Vec::new();
        let mut graph = self.graph();
        for item in items {
            // What this very run declared it may take back.
            let declared = graph.by_fqn.contains_key(&item.record.fqn);
            if !declared && !self.losses_of_delete(item).is_empty() {
                self.refuse_loss(&mut graph, &item.record, &mut events);
            }
        }
        self.emit_all(events.clone());
        !events.is_empty()
    }

    fn refuse_loss(&self, graph: &mut Graph, record: &Record, events: &mut Vec<Event>) {
        let cause = FailureCause::Orphan {
            losses: self.lost_with(record),
            heir: self.heir(graph, record).map(|node| node.fqn.clone()),
        };
        let failure = Arc::new(Failure {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            action: Action::Delete,
            cause,
            // Its place is one of a script that has changed since.
            position: None,
        });
        graph.failed.push(Arc::clone(&failure));
        events.push(Event::Failed(failure));
    }

    fn lost_with(&self, record: &Record) -> Vec<String> {
        let provider = self.world.registry.get(&record.kind);
        provider.map_or_else(Vec::new, |provider| provider.losses(&record.outputs, None))
    }

    /// The one new resource that has all that would be lost with a record: probably the same under a new id.
    pub(super) fn heir<'a>(&self, graph: &'a Graph, record: &Record) -> Option<&'a Node> {
        let mut heirs = graph
            .nodes
            .iter()
            .filter(|node| may_be_heir(graph, node, record));
        heirs.next().filter(|_| heirs.next().is_none())
    }
}

/// Whether a resource would be made that has all that would be lost with a record, as another object.
fn may_be_heir(graph: &Graph, node: &Node, record: &Record) -> bool {
    let made = match graph.prior.get(&node.fqn) {
        Some(prior) => prior.status == Status::Creating,
        None => true,
    };
    made && node.kind == record.kind
        && node.fqn != record.fqn
        && node.checked.physical_name != record.physical_name
        && node
            .provider
            .losses(
                &record.outputs,
                Some(&known_props(graph, &node.checked.props)),
            )
            .is_empty()
}

/// Whether a resource of this run stands for the object of a record, which is then forgotten and not deleted.
fn is_taken_over(graph: &Graph, record: &Record) -> bool {
    graph.nodes.iter().any(|node| {
        node.checked.identity.is_some()
            && node.kind == record.kind
            && node.checked.physical_name == record.physical_name
            && !matches!(node.state, NodeState::Failed(_))
    })
}
