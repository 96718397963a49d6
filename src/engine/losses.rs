//! What an action would lose that no script brings back, and the consent to it.

use crate::{provider::Existing, state::Record};

use super::{
    decide::Decision,
    delete::Item,
    event::Action,
    failure::FailureCause,
    node::{Graph, Node},
    operate::Job,
    resolve::known_props,
    run::Run,
};

impl Run {
    /// What carrying out `decision` would lose, beside what the kind's delete policy says. In a plan, what is not known yet
    /// counts as losing nothing.
    pub(super) fn losses(
        &self,
        graph: &Graph,
        node: &Node,
        record: &Record,
        decision: &Decision,
    ) -> Vec<String> {
        match decision {
            Decision::Update => node.provider.losses(
                &record.outputs,
                Some(&known_props(graph, &node.checked.props)),
            ),
            Decision::Replace { .. } if !record.retain => self
                .world
                .registry
                .get(&record.kind)
                .map(|provider| provider.losses(&record.outputs, None))
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// What deleting an object would lose, beside what the kind's delete policy says. What replacements left behind is the
    /// replacement's matter.
    pub(super) fn losses_of_delete(&self, item: &Item) -> Vec<String> {
        if item.old || item.action != Action::Delete {
            return Vec::new();
        }
        self.world
            .registry
            .get(&item.record.kind)
            .map(|provider| provider.losses(&item.record.outputs, None))
            .unwrap_or_default()
    }

    /// Refuses an update in place that loses what nobody consented to lose. Asked again right before the call, as an object
    /// that was just found is known only by then.
    pub(super) fn consent(&self, job: &Job, existing: &Existing) -> Result<(), FailureCause> {
        if self.options.allow_data_loss {
            return Ok(());
        }
        let losses = job.provider.losses(&existing.outputs, Some(&job.resolved));
        if losses.is_empty() {
            Ok(())
        } else {
            Err(FailureCause::Losses(losses))
        }
    }
}
