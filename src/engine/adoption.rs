//! Adoption in plans: whether the object that a new resource would take over is there, and what taking it over would change.
//!
//! Only a plan that may adopt looks, and only for resources that state does not know. Kinds whose list tells all of every
//! object are listed once; objects of the others are asked for by name, as `alch run --adopt` does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{
    model::{Fqn, Map, Value},
    provider::{
        Checked, Difference, Existing, FailureKind, Found, Observation, OperationContext, Provider,
    },
};

use super::{
    decide::{Decision, Verdict},
    declaration::NodeId,
    event::{Action, Event},
    failure::FailureCause,
    node::{Decided, Graph, Node, NodeState},
    operate::Job,
    plan::{PropertyChange, is_unknown, leaves, unforeseen},
    resolve::{PropsHash, known_props},
    run::Run,
    schedule::retire,
};

/// Why an object is adopted.
const THERE: &str = "is there already";

/// The lists of kinds, each asked for once in a run.
#[derive(Default)]
pub(super) struct Lists(Mutex<HashMap<Arc<str>, Arc<List>>>);

type List = OnceCell<Arc<Listed>>;

/// The objects of a kind by their names; none where the kind has no list after all.
type Listed = Option<HashMap<String, Observation>>;

/// An object that would be taken over.
struct Adoptable {
    outputs: Map,
    /// What its provider shows of it; none where that is nothing but that it is there.
    seen: Option<Observation>,
}

/// What looking for an object needs, taken out of the graph.
struct Wanted {
    fqn: Fqn,
    kind: Arc<str>,
    provider: Arc<dyn Provider>,
    checked: Checked,
    /// The props as far as they are known.
    props: Map,
    /// Whether that is all of them.
    whole: bool,
}

impl Run {
    /// Whether a plan must look for the object before it can tell what would happen.
    pub(super) fn may_adopt(&self, node: &Node, decision: &Decision) -> bool {
        *decision == Decision::Create
            && node.options.adopt.unwrap_or(self.options.adopt)
            // Only the script could look.
            && !node.provider.needs_script()
    }

    /// Looks for the object of a resource that a plan would make, and plans to make it or to take it over.
    pub(super) async fn plan_to_make(self: Arc<Self>, id: NodeId, decided: Decided) {
        let wanted = self.wanted(id, &decided.hash);
        let found = match wanted {
            Ok(wanted) => self.adoptable(&wanted).await.map(|found| (wanted, found)),
            Err(cause) => Err(cause),
        };
        let mut events = Vec::new();
        let mut graph = self.graph();
        graph.running -= 1;
        let state = match found {
            Ok((wanted, Some(found))) => {
                self.plan_adoption(&mut graph, id, &wanted, &found, &decided.hash)
            }
            Ok((_, None)) => {
                let verdict = Verdict {
                    decision: decided.decision,
                    reason: "not in state".to_owned(),
                };
                self.plan_node(&mut graph, id, &verdict, None, &decided.hash, &mut events)
            }
            Err(cause) => self.failed(&graph, id, Action::Adopt, cause),
        };
        retire(&self, &mut graph, id, state, &mut events);
        self.emit_all(events);
    }

    fn wanted(&self, id: NodeId, hash: &PropsHash) -> Result<Wanted, FailureCause> {
        let graph = self.graph();
        let node = graph.node(id);
        let props = known_props(&graph, &node.checked.props);
        Ok(Wanted {
            fqn: node.fqn.clone(),
            kind: Arc::clone(&node.kind),
            provider: Arc::clone(&node.provider),
            checked: node.checked.clone(),
            props: self.open(&props)?,
            whole: hash.whole.is_some(),
        })
    }

    async fn adoptable(&self, wanted: &Wanted) -> Result<Option<Adoptable>, FailureCause> {
        let provider = wanted.provider.as_ref();
        self.permit(&provider.touches(&wanted.props))?;
        let name = wanted.checked.physical_name.as_str();
        if provider.lists_all() {
            let listed = self.listed(wanted).await?;
            if let Some(objects) = listed.as_ref() {
                return Ok(objects.get(name).map(|seen| Adoptable {
                    outputs: seen.outputs.clone(),
                    seen: Some(seen.clone()),
                }));
            }
        }
        let context = self.context(&wanted.fqn, name, "");
        let find = provider.find(&context, &wanted.props);
        let found = self.guarded(&wanted.fqn, provider.timeout(), find).await;
        let found = match found {
            // It would stand in something that is yet to be made, so it cannot be there.
            Err(FailureCause::Provider(error))
                if !wanted.whole
                    && matches!(error.kind, FailureKind::Refused | FailureKind::NotFound) =>
            {
                None
            }
            found => found?,
        };
        let Some(found) = found else {
            return Ok(None);
        };
        let seen = self
            .closer(
                wanted.provider.as_ref(),
                &context,
                &wanted.props,
                &found.outputs,
            )
            .await?;
        Ok(Some(Adoptable {
            outputs: found.outputs,
            seen,
        }))
    }

    /// The list of a kind. Whoever asks while another one does waits for its answer.
    async fn listed(&self, wanted: &Wanted) -> Result<Arc<Listed>, FailureCause> {
        let cell = {
            let mut lists = self.lists.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lists.entry(Arc::clone(&wanted.kind)).or_default())
        };
        let context = self.context(&wanted.fqn, &wanted.checked.physical_name, "");
        let ask = || async {
            let provider = wanted.provider.as_ref();
            let list = provider.list(&context, &[]);
            let list = self.guarded(&wanted.fqn, provider.timeout(), list).await?;
            let by_name = |seen: Observation| (seen.physical_name.clone(), seen);
            let listed = list.map(|list| list.into_iter().map(by_name).collect());
            Ok::<_, FailureCause>(Arc::new(listed))
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    /// All that the provider shows of an object that was found by its name.
    async fn closer(
        &self,
        provider: &dyn Provider,
        context: &OperationContext,
        props: &Map,
        outputs: &Map,
    ) -> Result<Option<Observation>, FailureCause> {
        let existing = existing(props, outputs, &context.physical_name);
        let known = std::slice::from_ref(&existing);
        let list = provider.list(context, known);
        let list = self.guarded(&context.fqn, provider.timeout(), list).await?;
        if let Some(list) = list {
            let id = provider.object_id(&existing.physical_name, outputs);
            let mut seen = list.into_iter().find(|seen| seen.id == id);
            if let Some(seen) = &mut seen {
                let look = provider.look_inside(context, seen);
                self.guarded(&context.fqn, provider.timeout(), look).await?;
            }
            return Ok(seen);
        }
        let look = provider.observe(context, &existing);
        self.guarded(&context.fqn, provider.timeout(), look).await
    }

    fn plan_adoption(
        &self,
        graph: &mut Graph,
        id: NodeId,
        wanted: &Wanted,
        found: &Adoptable,
        hash: &PropsHash,
    ) -> NodeState {
        let mut reason = THERE.to_owned();
        let losses = wanted.provider.losses(&found.outputs, Some(&wanted.props));
        if !losses.is_empty() {
            reason += &format!("; loses {}", losses.join(" and "));
        }
        let changes = adoption_changes(
            wanted.provider.as_ref(),
            &wanted.checked,
            &wanted.props,
            found,
            hash,
        );
        self.note_action(graph, id, Action::Adopt, reason, changes, hash);
        let node = graph.node_mut(id);
        node.action = Some(Action::Adopt);
        let mut known = Map::new();
        for attribute in node.schema().attributes.iter().filter(|a| a.identity) {
            if let Some(value) = found.outputs.get(attribute.name) {
                known.insert(attribute.name.to_owned(), value.clone());
            }
        }
        known.extend(node.checked.known.clone());
        NodeState::Planned { known }
    }

    /// Says what was planned while objects were looked for: in order of declaration, whichever was found first.
    pub(super) fn tell_planned(&self) {
        let mut graph = self.graph();
        if !graph.looked_for {
            return;
        }
        let graph = &mut *graph;
        let place = &graph.by_fqn;
        graph
            .planned
            .sort_by_key(|planned| place.get(&planned.fqn).copied());
        let events = graph.planned[graph.planned_told..]
            .iter()
            .map(|planned| Event::Planned(Arc::clone(planned)))
            .collect();
        graph.planned_told = graph.planned.len();
        self.emit_all(events);
    }

    /// With a saved plan at hand: refuses to take over what it would make, to make what it would take over, and to change
    /// anything else in what is taken over.
    pub(super) async fn keep_to_adoption(
        &self,
        job: &Job,
        looked: bool,
        found: Option<&Found>,
    ) -> Result<(), FailureCause> {
        let Some(plan) = self.options.expected_plan.as_deref() else {
            return Ok(());
        };
        let Some(planned) = self.planned(plan, &job.fqn) else {
            return Ok(());
        };
        let stale = |now: Action| {
            Err(FailureCause::StalePlan(format!(
                "`{}` would now {}, the plan says {}",
                job.fqn.within_stage(),
                now.verb(),
                planned.action.verb()
            )))
        };
        // A plan that was not to adopt did not look.
        let plan_looked = looked && plan.adopt || job.options.adopt == Some(true);
        match (planned.action, found) {
            (Action::Adopt, None) => return stale(Action::Create),
            (Action::Create, Some(_)) if plan_looked && job.prior.is_none() => {
                return stale(Action::Adopt);
            }
            (Action::Adopt, Some(found)) => {
                let context = self.context(&job.fqn, &job.checked.physical_name, "");
                let provider = job.provider.as_ref();
                let seen = if provider.lists_all() {
                    let list = self.call(job, provider.list(&context, &[])).await?;
                    let id = provider.object_id(&context.physical_name, &found.outputs);
                    list.and_then(|list| list.into_iter().find(|seen| seen.id == id))
                } else {
                    self.closer(provider, &context, &job.resolved, &found.outputs)
                        .await?
                };
                let found = Adoptable {
                    outputs: found.outputs.clone(),
                    seen,
                };
                let hash = PropsHash {
                    whole: Some(job.props_hash.clone()),
                    references: job.reference_hashes.clone(),
                };
                let now = adoption_changes(provider, &job.checked, &job.resolved, &found, &hash);
                if let Some(path) = unforeseen(&planned.changes, &now) {
                    return Err(FailureCause::StalePlan(format!(
                        "`{}` of `{}` is not as in the plan",
                        path.join("."),
                        job.fqn.within_stage()
                    )));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn existing(props: &Map, outputs: &Map, physical_name: &str) -> Existing {
    Existing {
        props: props.clone(),
        outputs: outputs.clone(),
        physical_name: physical_name.to_owned(),
        settled: true,
        attempted: Map::new(),
    }
}

/// Property by property, what taking an object over would change, and what it would set without anybody knowing how it is now.
/// `known` are the props as far as they are known.
fn adoption_changes(
    provider: &dyn Provider,
    checked: &Checked,
    known: &Map,
    found: &Adoptable,
    hash: &PropsHash,
) -> Vec<PropertyChange> {
    let existing = existing(known, &found.outputs, &checked.physical_name);
    let seen = found.seen.as_ref();
    let differences = seen.map_or_else(Vec::new, |seen| provider.compare(&existing, seen));
    let shown = seen.map(|seen| Value::Map(seen.props.clone()));
    let declared = Value::Map(checked.props.clone());
    let now = Value::Map(known.clone());
    let mut changes: Vec<PropertyChange> = differences
        .iter()
        .map(|difference| {
            changed(
                difference,
                declared.at(&difference.path).unwrap_or(&difference.state),
            )
        })
        .collect();
    for (path, leaf) in leaves(&checked.props) {
        let told = differences.iter().any(|difference| {
            path.starts_with(&difference.path) || difference.path.starts_with(&path)
        });
        // By its name it was found.
        if told || path == ["name"] || is_nothing(leaf) {
            continue;
        }
        let unknown = is_unknown(leaf, hash);
        let before = shown.as_ref().and_then(|shown| shown.at(&path));
        let secret = matches!(leaf, Value::Secret(_));
        if let Some(before) = before
            && !unknown
            && !secret
            && now.at(&path).is_none_or(|now| is_same(now, before))
        {
            continue;
        }
        changes.push(PropertyChange {
            before: before
                .filter(|before| !secret && !matches!(before, Value::Null))
                .map(Value::to_display_json),
            after: Some(leaf.to_display_json()),
            path,
            secret,
            unknown,
            replaces: false,
        });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn changed(difference: &Difference, after: &Value) -> PropertyChange {
    let shown = |value: &Value| {
        let nothing = matches!(value, Value::Null);
        (!nothing).then(|| value.to_display_json())
    };
    PropertyChange {
        path: difference.path.clone(),
        before: shown(&difference.found),
        after: shown(after),
        secret: matches!(after, Value::Secret(_)),
        unknown: false,
        replaces: false,
    }
}

/// Whether a declared value sets nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether a value that no comparison told apart is the one that is there: a resource is one by its name or its id.
fn is_same(now: &Value, before: &Value) -> bool {
    let (Value::Resource(view), Some(before)) = (now, before.as_str()) else {
        return true;
    };
    let mut ids = view.outputs.values().filter_map(Value::as_str);
    view.physical_name == before || ids.any(|id| id == before)
}
