//! The graph of one run: declared resources, what they wait for, and where each stands.
//!
//! Everything here is plain data behind the run's one lock; nothing waits and nothing calls out.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    model::{Fqn, KindSchema, Map, Position, Value},
    provider::{Checked, Provider},
    state::{JournalEntry, Record},
};

use super::{
    decide::Decision,
    declaration::NodeId,
    event::Action,
    failure::Failure,
    look::Seen,
    options::{DeleteOptions, ResourceOptions},
    plan::PlannedAction,
    resolve::PropsHash,
    spelling::Spellings,
};

/// Where a declared resource stands in this run.
pub(super) enum NodeState {
    /// It waits for resources that it refers to.
    Waiting,
    /// All it refers to is there and something is to be done; it waits for a free slot.
    Ready(Box<Decided>),
    /// Its operation runs.
    Running,
    /// It stands, and this is its record.
    Done(Arc<Record>),
    /// Plans: what would happen, and what is known of its outputs.
    Planned {
        /// Outputs that are known without the provider.
        known: Map,
    },
    /// It failed or was skipped.
    Failed(Arc<Failure>),
}

/// What must happen to a resource, decided when the last thing it refers to was there.
pub(super) struct Decided {
    pub(super) hash: PropsHash,
    pub(super) decision: Decision,
}

/// One declared resource.
pub(super) struct Node {
    pub(super) fqn: Fqn,
    pub(super) kind: Arc<str>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) checked: Checked,
    pub(super) options: ResourceOptions,
    pub(super) position: Option<Position>,
    pub(super) conditional: bool,
    /// What it refers to, each once.
    pub(super) dependencies: Vec<NodeId>,
    pub(super) dependents: Vec<NodeId>,
    /// Dependencies that have not ended.
    pub(super) waiting_on: usize,
    /// How many resources the script had read before it declared this one: a prefix of [`Graph::reads`].
    pub(super) reads_before: usize,
    pub(super) state: NodeState,
    /// Longest chain of durations up to the end of this node.
    pub(super) path: Duration,
    /// Longest chain of nodes below this one; set when the script has ended.
    pub(super) height: u32,
    /// What this run did to it.
    pub(super) action: Option<Action>,
    /// Whether the script waits for it, so that it may begin before all is declared.
    pub(super) wanted: bool,
    /// Whether the script has been told of the failure.
    pub(super) told: bool,
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

impl Node {
    pub(super) fn schema(&self) -> &KindSchema {
        self.provider.schema()
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(
            self.state,
            NodeState::Done(_) | NodeState::Planned { .. } | NodeState::Failed(_)
        )
    }

    /// An output that is known now. `None` when it is not known or the object lacks it.
    pub(super) fn output(&self, name: &str) -> Option<&Value> {
        match &self.state {
            NodeState::Done(record) => record.outputs.get(name),
            NodeState::Planned { known } => known.get(name),
            _ => self.checked.known.get(name),
        }
    }
}

/// A node that can start, ordered by the length of what waits behind it, then by declaration.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadyNode {
    pub(super) height: u32,
    pub(super) order: std::cmp::Reverse<NodeId>,
}

/// A resource that the journal of this run names.
pub(super) struct Written {
    /// Its record at the beginning.
    pub(super) before: Option<Arc<Record>>,
    /// Its record now.
    pub(super) now: Option<Arc<Record>>,
}

/// All that a run knows, behind one lock.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) by_fqn: HashMap<Fqn, NodeId>,
    /// Nested scopes by the name that a resource in their place would have.
    pub(super) scopes: HashMap<Fqn, Option<Position>>,
    /// Every name of both, against two that differ by case only.
    pub(super) spellings: Spellings,
    /// Identities of objects, against two resources meaning one object.
    pub(super) identities: HashMap<String, NodeId>,
    /// What only one object can have, against two resources that want it.
    pub(super) claims: HashMap<String, NodeId>,
    /// Resources that were refused because another one claims the same and may have taken it from them already.
    pub(super) contested: Vec<Fqn>,
    /// State as the run found it, minus what it has taken over into nodes' records since.
    pub(super) prior: BTreeMap<Fqn, Arc<Record>>,
    pub(super) ready: BinaryHeap<ReadyNode>,
    /// Nodes that could start and may not before it is known what the script declares.
    pub(super) held: Vec<NodeId>,
    /// Resources in state, not declared so far, whose end would lose something that nobody consented to lose.
    pub(super) at_stake: BTreeSet<Fqn>,
    /// The one of them because of which nothing that was held begins any more.
    pub(super) given_up: Option<Fqn>,
    pub(super) running: usize,
    pub(super) unsettled: usize,
    /// Resources whose outputs the script has read, in order of first read.
    pub(super) reads: Vec<Fqn>,
    pub(super) read_set: HashSet<Fqn>,
    pub(super) delete_options: Option<DeleteOptions>,
    pub(super) failed: Vec<Arc<Failure>>,
    pub(super) skipped: Vec<Fqn>,
    pub(super) planned: Vec<Arc<PlannedAction>>,
    /// Whether a plan looks for objects, so that what is planned from here on is told when all of it is known.
    pub(super) looked_for: bool,
    /// How many of `planned` have been told.
    pub(super) planned_told: usize,
    /// Counts of what happened outside nodes: deletes.
    pub(super) extra_counts: BTreeMap<Action, usize>,
    /// What the journal made of each resource that it names, beside what was there before.
    pub(super) written: HashMap<Fqn, Written>,
    /// Whether anything was appended to the journal.
    pub(super) dirty: bool,
    /// Why nothing more may start: the journal failed.
    pub(super) poisoned: Option<Arc<crate::state::StateError>>,
    /// Whether a plan could not follow the script to its end, so that declarations may be missing.
    pub(super) partial: bool,
    pub(super) idle_waiters: Vec<oneshot::Sender<()>>,
    /// What a look at the providers came to; empty where none was asked for.
    pub(super) seen: Seen,
}

impl Graph {
    /// Notes what an entry makes of state. Called before [`Graph::prior`] learns of it.
    pub(super) fn note_written(&mut self, entry: &JournalEntry) {
        let prior = &self.prior;
        let written = &mut self.written;
        let mut note = |fqn: &Fqn, now: Option<Arc<Record>>| {
            let before = || prior.get(fqn).cloned();
            match written.entry(fqn.clone()) {
                Entry::Occupied(mut entry) => entry.get_mut().now = now,
                Entry::Vacant(entry) => {
                    entry.insert(Written {
                        before: before(),
                        now,
                    });
                }
            }
        };
        match entry {
            JournalEntry::Record(record) => note(&record.fqn, Some(Arc::clone(record))),
            JournalEntry::Removed { fqn } => note(fqn, None),
            JournalEntry::Renamed { from, record } => {
                note(from, None);
                note(&record.fqn, Some(Arc::clone(record)));
            }
            // `Replaced` is written by repairs, never within a run.
            JournalEntry::Intent(_) | JournalEntry::Header(_) | JournalEntry::Replaced(_) => {}
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Sets every node's height, the longest chain of nodes that wait for it, and re-orders what is ready: O(V + E).
    pub(super) fn prioritise(&mut self) {
        // Dependencies are declared before their dependents, so one backward pass sees every dependent first.
        for index in (0..self.nodes.len()).rev() {
            let height = self.nodes[index].height + 1;
            for position in 0..self.nodes[index].dependencies.len() {
                let dependency = self.nodes[index].dependencies[position].0 as usize;
                let node = &mut self.nodes[dependency];
                node.height = node.height.max(height);
            }
        }
        let ready = std::mem::take(&mut self.ready);
        self.ready = ready
            .into_iter()
            .map(|entry| ReadyNode {
                height: self.node(entry.order.0).height,
                order: entry.order,
            })
            .collect();
    }
}
