//! Plans: what a run would do, as data with a hash, written to a file and held to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Fqn, Map, Position, Secret, SecretMac, StagePath, Value},
    state::Record,
};

use super::{
    decide::{Decision, Verdict},
    declaration::NodeId,
    event::{Action, Event},
    failure::{Failure, FailureCause},
    look::{Drift, Finding},
    node::{Graph, Node, NodeState},
    resolve::{PropsHash, reference_key},
    run::Run,
};

/// The newest plan format that this program writes and reads.
pub const PLAN_FORMAT: u32 = 1;

/// How one property would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Path of keys and indices.
    pub path: Vec<String>,
    /// The value in state in its display form; absent when the property is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The declared value in its display form; absent when the property goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
    /// Whether it is a secret: both sides then say `<secret>`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Whether the new value is known only after apply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// Whether this property is the reason for a replacement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
}

/// What would happen to one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedAction {
    /// The resource.
    pub fqn: Fqn,
    /// Its kind.
    pub kind: Arc<str>,
    /// What would happen.
    pub action: Action,
    /// What the object is or will be called.
    pub physical_name: String,
    /// Why, in words: `not in state`, `no longer declared`, `primaryLocationHint changed` ..
    pub reason: String,
    /// Property by property.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<PropertyChange>,
    /// Hash of the declared props with what is known of their references; tells secrets apart that the display form hides.
    #[serde(default)]
    pub props_hash: String,
    /// Whether the script decided on something that only the provider will know before it declared this: it may come otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conditional: bool,
    /// Where it is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A whole plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format version.
    pub format: u32,
    /// The stage.
    pub stage: StagePath,
    /// The target.
    pub target: String,
    /// Lineage of the state it was made from; empty when there was none.
    pub lineage: String,
    /// Serial of the state it was made from.
    pub serial: u64,
    /// The script it was made from, relative to the project folder.
    pub script: Option<String>,
    /// The script as the user named it, relative to the folder where the plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether it takes over objects that are there already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// Whether it updates resources even when nothing changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Whether it looked at what the providers have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Whether replacing data-bearing kinds was consented to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_data_loss: bool,
    /// What would happen, in order of declaration, deletes last.
    pub actions: Vec<PlannedAction>,
}

impl Plan {
    /// Hash of everything in the plan but positions, in hexadecimal: what approvals refer to.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut plan = self.clone();
        for action in &mut plan.actions {
            action.position = None;
        }
        // Plain data without maps that could order differently, so serialising cannot fail.
        let bytes = serde_json::to_vec(&plan).unwrap_or_default();
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions
            .iter()
            .all(|action| action.action == Action::Unchanged)
    }

    /// The plan as a file: itself and its hash.
    #[must_use]
    pub fn to_file(&self) -> String {
        let json = serde_json::json!({ "hash": self.hash(), "plan": self });
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a plan file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_file(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            hash: String,
            plan: Plan,
        }
        let file: File = crate::state::record::from_json(bytes)?;
        if file.plan.format > PLAN_FORMAT {
            return Err(format!(
                "it is in format {}, this alch reads up to {PLAN_FORMAT}",
                file.plan.format
            ));
        }
        if file.plan.hash() != file.hash {
            return Err("its hash does not fit its content: it was changed by hand".to_owned());
        }
        Ok(file.plan)
    }
}

impl Plan {
    /// Whether bytes look like a saved plan, also one that this program cannot use.
    #[must_use]
    pub fn is_file(bytes: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(bytes)
            .is_ok_and(|json| json.get("hash").is_some() && json.get("plan").is_some())
    }
}

impl Run {
    /// The plan so far; whole after `finalize` of a run in phase `Plan`.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let graph = self.graph();
        Plan {
            format: PLAN_FORMAT,
            stage: self.stage.clone(),
            target: self.options.target.clone(),
            lineage: self.lineage.clone(),
            serial: self.serial,
            script: self.options.script.clone(),
            file: None,
            adopt: self.options.adopt,
            force: self.options.force,
            refresh: self.options.refresh,
            allow_data_loss: self.options.allow_data_loss,
            actions: graph
                .planned
                .iter()
                .map(|action| action.as_ref().clone())
                .collect(),
        }
    }

    /// The records of the resources of a kind that this run made or changed, in the order of their declarations.
    #[must_use]
    pub fn changed_of(&self, kind: &str) -> Vec<Arc<Record>> {
        let graph = self.graph();
        let changed = graph.nodes.iter().filter_map(|node| match &node.state {
            NodeState::Done(record) if &*record.kind == kind => {
                let action = node.action.filter(|action| *action != Action::Unchanged);
                action.map(|_| Arc::clone(record))
            }
            _ => None,
        });
        changed.collect()
    }

    /// Plans one node: says what would happen and what is known of its outputs.
    pub(super) fn plan_node(
        &self,
        graph: &mut Graph,
        id: NodeId,
        verdict: &Verdict,
        prior: Option<&Arc<Record>>,
        hash: &PropsHash,
        events: &mut Vec<Event>,
    ) -> NodeState {
        let action = verdict.decision.action();
        self.note_planned(graph, id, action, verdict, prior, hash, events);
        let node = graph.node_mut(id);
        node.action = Some(action);
        let mut known = Map::new();
        if let Some(record) = prior
            && matches!(verdict.decision, Decision::Update | Decision::Repolicy)
        {
            if verdict.decision == Decision::Repolicy {
                return NodeState::Done(Arc::clone(record));
            }
            for attribute in node.schema().attributes.iter().filter(|a| a.identity) {
                if let Some(value) = record.outputs.get(attribute.name) {
                    known.insert(attribute.name.to_owned(), value.clone());
                }
            }
        }
        known.extend(node.checked.known.clone());
        NodeState::Planned { known }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one decision, passed on once"
    )]
    pub(super) fn note_planned(
        &self,
        graph: &mut Graph,
        id: NodeId,
        action: Action,
        verdict: &Verdict,
        prior: Option<&Arc<Record>>,
        hash: &PropsHash,
        events: &mut Vec<Event>,
    ) {
        let changes = if action == Action::Unchanged {
            Vec::new()
        } else {
            let node = graph.node(id);
            let found = graph.seen.findings.get(&node.fqn).map(AsRef::as_ref);
            let mut changes = self.changes(node, prior.map(AsRef::as_ref), hash, &verdict.decision);
            found_changes(&mut changes, found);
            changes
        };
        let planned = self.note_action(graph, id, action, verdict.reason.clone(), changes, hash);
        if !graph.looked_for {
            graph.planned_told += 1;
            events.push(Event::Planned(planned));
        }
    }

    /// Puts an action into the plan.
    pub(super) fn note_action(
        &self,
        graph: &mut Graph,
        id: NodeId,
        action: Action,
        reason: String,
        changes: Vec<PropertyChange>,
        hash: &PropsHash,
    ) -> Arc<PlannedAction> {
        let node = graph.node(id);
        let planned = Arc::new(PlannedAction {
            fqn: node.fqn.clone(),
            kind: node.kind.clone(),
            action,
            physical_name: node.checked.physical_name.clone(),
            reason,
            changes,
            props_hash: hash.whole.clone().unwrap_or_default(),
            conditional: node.conditional,
            position: node.position.clone(),
        });
        graph.planned.push(Arc::clone(&planned));
        planned
    }

    /// Property by property, what an action would change.
    fn changes(
        &self,
        node: &Node,
        prior: Option<&Record>,
        hash: &PropsHash,
        decision: &Decision,
    ) -> Vec<PropertyChange> {
        let empty = Map::new();
        let before_props = prior
            .filter(|record| record.kind == node.kind)
            .map_or(&empty, |record| &record.props);
        let recorded = prior.map(|record| &record.reference_hashes);
        let before = leaves(before_props);
        let after = leaves(&node.checked.props);
        let paths: BTreeSet<&Vec<String>> = before.keys().chain(after.keys()).collect();
        let mut out = Vec::new();
        for path in paths {
            let (old, new) = (before.get(path), after.get(path));
            let unknown = new.is_some_and(|value| is_unknown(value, hash));
            if let (Some(old), Some(new)) = (old, new)
                && !unknown
                && self.same_leaf(old, new, recorded, &hash.references)
            {
                continue;
            }
            let secret = [old, new]
                .into_iter()
                .flatten()
                .any(|v| matches!(v, Value::Secret(_)));
            let replaces = match decision {
                Decision::Replace { reasons, .. } => {
                    path.first().is_some_and(|first| reasons.contains(first))
                }
                _ => false,
            };
            out.push(PropertyChange {
                path: path.clone(),
                before: old.map(|value| value.to_display_json()),
                after: new.map(|value| value.to_display_json()),
                secret,
                unknown,
                replaces,
            });
        }
        out
    }

    fn same_leaf(
        &self,
        old: &Value,
        new: &Value,
        recorded: Option<&BTreeMap<String, String>>,
        now: &BTreeMap<String, String>,
    ) -> bool {
        match (old, new) {
            (Value::Secret(Secret::Sealed(old)), Value::Secret(Secret::Plain(new))) => self
                .keyring
                .vault()
                .is_ok_and(|vault| vault.mac(new) == old.mac),
            (Value::Ref(_) | Value::Template(_), _) if old == new => {
                let mut same = true;
                new.visit_references(&mut |reference| {
                    let key = reference_key(reference);
                    same &= recorded.and_then(|hashes| hashes.get(&key)) == now.get(&key);
                });
                same
            }
            _ => old == new,
        }
    }

    /// Plans the delete of a resource that is no longer declared.
    pub(super) fn plan_delete(
        &self,
        record: &Record,
        action: Action,
        reason: &str,
        conditional: bool,
    ) {
        let planned = Arc::new(PlannedAction {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            action,
            physical_name: record.physical_name.clone(),
            reason: reason.to_owned(),
            changes: Vec::new(),
            props_hash: record.props_hash.clone(),
            conditional,
            position: record.position.clone(),
        });
        self.graph().planned.push(Arc::clone(&planned));
        self.world.events.emit(Event::Planned(planned));
    }

    /// What a saved plan says of a resource itself; the objects that its replacements left behind stand further down.
    pub(super) fn planned<'a>(&self, plan: &'a Plan, fqn: &Fqn) -> Option<&'a PlannedAction> {
        let index = self.plan_index.get_or_init(|| {
            let mut index = HashMap::new();
            for (at, planned) in plan.actions.iter().enumerate() {
                index.entry(planned.fqn.clone()).or_insert(at);
            }
            index
        });
        index.get(fqn).and_then(|at| plan.actions.get(*at))
    }

    /// With a saved plan at hand: why a resource may not be left as it is.
    pub(super) fn missed_plan(&self, node: &Node) -> Option<FailureCause> {
        let plan = self.options.expected_plan.as_deref()?;
        let planned = self.planned(plan, &node.fqn)?;
        (planned.action != Action::Unchanged).then(|| {
            FailureCause::StalePlan(format!(
                "`{}` would now stay as it is, the plan says {}",
                node.fqn.within_stage(),
                planned.action.verb()
            ))
        })
    }

    /// With a saved plan at hand: refuses what it would do to resources that are neither declared nor in state any more.
    /// Answers whether there is no such.
    pub(super) fn refuse_undeclared(&self) -> bool {
        let Some(plan) = &self.options.expected_plan else {
            return true;
        };
        let mut failures = Vec::new();
        {
            let mut graph = self.graph();
            for planned in &plan.actions {
                let gone = match planned.action {
                    Action::Unchanged | Action::Delete | Action::Forget => continue,
                    _ => !graph.by_fqn.contains_key(&planned.fqn),
                };
                if gone {
                    failures.push(Arc::new(Failure {
                        fqn: planned.fqn.clone(),
                        kind: planned.kind.clone(),
                        action: planned.action,
                        cause: FailureCause::StalePlan(format!(
                            "`{}` is not declared any more, the plan says {}",
                            planned.fqn.within_stage(),
                            planned.action.verb()
                        )),
                        position: None,
                    }));
                }
            }
            graph.failed.extend(failures.iter().cloned());
        }
        let kept = failures.is_empty();
        self.emit_all(failures.into_iter().map(Event::Failed).collect());
        kept
    }

    /// With a saved plan at hand: refuses whatever it does not foresee.
    pub(super) fn check_against_plan(
        &self,
        node: &Node,
        prior: Option<&Record>,
        hash: &PropsHash,
        decision: &Decision,
    ) -> Result<(), FailureCause> {
        let Some(plan) = &self.options.expected_plan else {
            return Ok(());
        };
        let action = decision.action();
        let name = node.fqn.within_stage();
        let stale = |reason: String| Err(FailureCause::StalePlan(reason));
        let planned = self.planned(plan, &node.fqn);
        let Some(planned) = planned else {
            return stale(format!("`{name}` is not in the plan"));
        };
        // Whether what it takes over is there, and how it is, is seen right before the call.
        let adopts = planned.action == Action::Adopt && action == Action::Create;
        if planned.action != action && !adopts {
            return stale(format!(
                "`{name}` would now {}, the plan says {}",
                action.verb(),
                planned.action.verb()
            ));
        }
        if planned.physical_name != node.checked.physical_name {
            return stale(format!(
                "`{name}` would now be `{}`, the plan says `{}`",
                node.checked.physical_name, planned.physical_name
            ));
        }
        if hash.whole.as_ref() == Some(&planned.props_hash) || adopts {
            return Ok(());
        }
        let now = self.changes(node, prior, hash, decision);
        if let Some(path) = unforeseen(&planned.changes, &now) {
            return stale(format!(
                "`{}` of `{name}` is not as in the plan",
                path.join(".")
            ));
        }
        // Secrets look alike. Their hashes can be compared once the stage has a key that outlives the run.
        let comparable = !planned.props_hash.is_empty() && plan_knew_key(self, prior);
        if comparable && now.iter().any(|change| change.secret) {
            return stale(format!("a secret of `{name}` is not as in the plan"));
        }
        Ok(())
    }
}

/// Whether a value refers to something that is known only after apply.
pub(super) fn is_unknown(value: &Value, hash: &PropsHash) -> bool {
    let mut unknown = false;
    value.visit_references(&mut |reference| {
        unknown |= !hash.references.contains_key(&reference_key(reference));
    });
    unknown
}

/// Adds what was found to be otherwise than state says, where the script does not change it anyway.
fn found_changes(changes: &mut Vec<PropertyChange>, found: Option<&Finding>) {
    let Some(Finding {
        drift: Drift::Changed { differences, .. },
        ..
    }) = found
    else {
        return;
    };
    for difference in differences {
        if changes.iter().any(|change| change.path == difference.path) {
            continue;
        }
        changes.push(PropertyChange {
            path: difference.path.clone(),
            before: Some(difference.found.to_display_json()),
            after: Some(difference.state.to_display_json()),
            secret: false,
            unknown: false,
            replaces: false,
        });
    }
}

/// Whether a plan of this stage hashed secrets with the key that this run has.
fn plan_knew_key(run: &Run, prior: Option<&Record>) -> bool {
    prior.is_some() && run.keyring.key_check().is_some()
}

/// The path of the first property that changes in another way than was planned. What only apply could know may be anything.
pub(super) fn unforeseen<'a>(
    planned: &'a [PropertyChange],
    now: &'a [PropertyChange],
) -> Option<&'a Vec<String>> {
    let foreseen = |change: &PropertyChange| {
        planned.iter().any(|other| {
            (other.unknown && change.path.starts_with(&other.path))
                || (other.path == change.path
                    && other.before == change.before
                    && other.after == change.after)
        })
    };
    let kept = |other: &PropertyChange| {
        other.unknown || now.iter().any(|change| change.path == other.path)
    };
    now.iter()
        .find(|change| !foreseen(change))
        .or_else(|| planned.iter().find(|other| !kept(other)))
        .map(|change| &change.path)
}

/// Name and hash of what stands for a file in props: people know it by its name, wherever in the list it stands.
fn file(item: &Value) -> Option<(&str, &Value)> {
    let map = item.as_map()?;
    let name = map.get("name").and_then(Value::as_str)?;
    let hash = map.get("hash").filter(|_| map.len() == 2)?;
    Some((name, hash))
}

/// Leaves of a map by path; empty containers count as leaves.
pub(super) fn leaves(map: &Map) -> BTreeMap<Vec<String>, &Value> {
    fn walk<'a>(
        value: &'a Value,
        path: &mut Vec<String>,
        out: &mut BTreeMap<Vec<String>, &'a Value>,
    ) {
        match value {
            Value::Map(map) if !map.is_empty() => {
                for (key, item) in map {
                    path.push(key.clone());
                    walk(item, path, out);
                    path.pop();
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    if let Some((name, hash)) = file(item) {
                        path.extend([name.to_owned(), "hash".to_owned()]);
                        walk(hash, path, out);
                        path.truncate(path.len() - 2);
                        continue;
                    }
                    path.push(index.to_string());
                    walk(item, path, out);
                    path.pop();
                }
            }
            leaf => {
                out.insert(path.clone(), leaf);
            }
        }
    }
    let mut out = BTreeMap::new();
    for (key, value) in map {
        walk(value, &mut vec![key.clone()], &mut out);
    }
    out
}
