//! Questions about resources: what is known at once, and waiting for what is not.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::model::{Fqn, KindSchema, Map, Value};

use super::{
    declaration::{AttributeState, NodeId, NodeInfo},
    event::Action,
    failure::Failure,
    node::NodeState,
    resolve::builtin,
    run::Run,
};

impl Run {
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
            && !name.contains(&self.stage.stage.plain())
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
        match &entry.state {
            NodeState::Done(_) => AttributeState::Known(Value::Null),
            NodeState::Planned { .. } => AttributeState::Unknown,
            // A plan that looks for the object waits as well: what is known must not hang on which answer comes first.
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
    pub async fn settle(self: &Arc<Self>, node: NodeId) -> Result<(), Arc<Failure>> {
        let ended = self.ended(node).await;
        if ended.is_err() {
            self.graph().node_mut(node).told = true;
        }
        ended
    }

    /// Waits for one resource without telling the script how it ended.
    pub(super) async fn ended(self: &Arc<Self>, node: NodeId) -> Result<(), Arc<Failure>> {
        self.want(&[node]);
        loop {
            let waiter = {
                let mut graph = self.graph();
                let entry = graph.node_mut(node);
                match &entry.state {
                    NodeState::Done(_) | NodeState::Planned { .. } => return Ok(()),
                    NodeState::Failed(failure) => {
                        return Err(Arc::clone(failure));
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

    /// Takes back that the script handled the failure of a resource: it was what ended the script.
    pub fn not_handled(&self, fqn: &Fqn) {
        let mut graph = self.graph();
        if let Some(id) = graph.by_fqn.get(fqn).copied() {
            graph.node_mut(id).told = false;
        }
    }

    /// Waits for a wake-up; when the user stops the run, lets go of everything that has not started.
    pub(super) async fn wait_or_abandon(&self, mut waiter: oneshot::Receiver<()>) {
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
}
