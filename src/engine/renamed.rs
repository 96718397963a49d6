//! Renames that the script does not tell with `moved`: what stands under two names is never deleted, and plans say what looks
//! like one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    model::{Diagnostic, Fqn, Map, diagnostic::codes},
    state::Record,
};

use super::{
    delete::Item,
    event::{Action, Event},
    node::{Node, NodeState},
    operate::Job,
    options::Phase,
    run::Run,
};

impl Run {
    /// Sees to it that no delete takes away what another resource of this run stands for: a resource that was renamed without
    /// `moved` is an orphan under its old name and a live resource under its new one, over one and the same object. Such an
    /// orphan is forgotten; it stays in state, among `left`, when the live resource failed.
    pub(super) fn spare_taken_over(&self, items: &mut Vec<Item>, left: &mut Vec<Fqn>) {
        if items.is_empty() || self.options.phase == Phase::Destroy {
            return;
        }
        let mut events = Vec::new();
        {
            let graph = self.graph();
            let live: HashMap<(&str, &str), &Node> = graph
                .nodes
                .iter()
                .filter(|node| node.checked.identity.is_some())
                .map(|node| ((&*node.kind, node.checked.physical_name.as_str()), node))
                .collect();
            items.retain_mut(|item| {
                let record = &item.record;
                let object = (&*record.kind, record.physical_name.as_str());
                let Some(node) = live.get(&object).filter(|node| node.fqn != record.fqn) else {
                    return true;
                };
                if matches!(node.state, NodeState::Failed(_)) {
                    left.push(record.fqn.clone());
                    return false;
                }
                item.action = Action::Forget;
                item.heir = Some(node.fqn.clone());
                let adopts = node.options.adopt.unwrap_or(self.options.adopt);
                events.push(taken_over(record, &node.fqn, self.options.phase, adopts));
                true
            });
        }
        self.emit_all(events);
    }

    /// A resource that goes and one that comes, alike in kind and props and the only two of their sort, are probably one that
    /// was renamed in the script.
    pub(super) fn hint_renames(&self, items: &[Item]) {
        if self.options.phase != Phase::Plan || self.is_partial() {
            return;
        }
        let mut sorts: BTreeMap<String, (Vec<&Fqn>, Vec<Fqn>)> = BTreeMap::new();
        let going = items
            .iter()
            .filter(|item| item.action == Action::Delete && !item.old);
        for item in going {
            let sort = sort_of(&item.record.kind, &item.record.props);
            sorts.entry(sort).or_default().0.push(&item.record.fqn);
        }
        if sorts.is_empty() {
            return;
        }
        {
            let graph = self.graph();
            let coming = graph
                .nodes
                .iter()
                .filter(|node| node.action == Some(Action::Create));
            for node in coming {
                if let Some(pair) = sorts.get_mut(&sort_of(&node.kind, &node.checked.props)) {
                    pair.1.push(node.fqn.clone());
                }
            }
        }
        let mut pairs: BTreeMap<&Fqn, Fqn> = BTreeMap::new();
        for (going, coming) in sorts.values() {
            if let ([from], [to]) = (going.as_slice(), coming.as_slice()) {
                pairs.insert(*from, to.clone());
            }
        }
        let alike: BTreeSet<&str> = pairs.keys().map(|fqn| fqn.within_stage()).collect();
        // What would be lost is a reason to look twice: the props may have changed as well.
        {
            let graph = self.graph();
            for item in items {
                if !self.losses_of_delete(item).is_empty()
                    && !pairs.contains_key(&item.record.fqn)
                    && let Some(heir) = self.heir(&graph, &item.record)
                {
                    pairs.insert(&item.record.fqn, heir.fqn.clone());
                }
            }
        }
        let hint = |(from, to): (&&Fqn, &Fqn)| {
            let (from, to) = (from.within_stage(), to.within_stage());
            Event::Log {
                message: format!(
                    "looks like a rename: `{from}` goes, `{to}` of the same kind{} comes; {}",
                    if alike.contains(from) {
                        " and props"
                    } else {
                        ""
                    },
                    moved_help(from, to)
                ),
                position: None,
            }
        };
        self.emit_all(pairs.iter().map(hint).collect());
    }

    /// The record of the object that a job asks for under another name, which this run does not declare: the resource was
    /// renamed without `moved`.
    pub(super) fn held_elsewhere(&self, job: &Job) -> Option<Arc<Record>> {
        job.checked.identity.as_ref()?;
        let graph = self.graph();
        let mut others = graph.prior.values().filter(|record| {
            record.kind == job.kind
                && record.physical_name == job.checked.physical_name
                && record.fqn != job.fqn
                && !graph.by_fqn.contains_key(&record.fqn)
        });
        others.next().cloned()
    }
}

/// Kind and props as text that two resources share when they are alike.
fn sort_of(kind: &str, props: &Map) -> String {
    let props: Vec<String> = props
        .iter()
        .map(|(key, value)| format!("{key}={}", value.to_display_json()))
        .collect();
    format!("{kind} {}", props.join(" "))
}

/// Says why an orphan is forgotten and not deleted; in a plan that cannot be carried out like that, what is missing.
fn taken_over(record: &Record, by: &Fqn, phase: Phase, adopts: bool) -> Event {
    let (from, to) = (record.fqn.within_stage(), by.within_stage());
    let name = &record.physical_name;
    if phase == Phase::Plan && !adopts {
        let message =
            format!("`{from}` and `{to}` are one object, `{name}`: it looks like a rename");
        let diagnostic = Diagnostic::warning(codes::CONFLICT, message)
            .with_note(format!(
                "`alch run` would fail: `{name}` exists, and `{from}` holds it"
            ))
            .with_help(moved_help(from, to));
        return Event::Diagnostic(Box::new(diagnostic));
    }
    Event::Log {
        message: format!(
            "`{from}` is forgotten, not deleted: its object `{name}` belongs to `{to}`"
        ),
        position: None,
    }
}

/// The next step after a rename that the script does not tell.
pub(super) fn moved_help(from: &str, to: &str) -> String {
    format!("to rename it, write `moved(\"{from}\", \"{to}\");` before `{to}` is declared")
}
