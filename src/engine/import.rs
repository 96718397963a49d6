//! Import: an object that is there already becomes a resource of state, without being touched.
//!
//! Nothing is called that changes anything, so no intent is needed: the record is the whole import, and it is one entry of the
//! journal.

use std::sync::Arc;

use crate::{model::Fqn, provider::Observation};

use super::{
    decide::Decision,
    declaration::{Declaration, DeclareError, NodeId},
    event::{Action, Event, Summary},
    failure::{FailureCause, RunError},
    node::{Decided, NodeState},
    operate::Job,
    resolve::props_hash,
    run::{Run, release},
};

/// Why an object was not imported. State is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// State has a resource of that name.
    #[error("`{}` is in state already", .0.within_stage())]
    InState(Fqn),
    /// The declaration is refused.
    #[error(transparent)]
    Declare(#[from] DeclareError),
    /// The declaration means an object of another name.
    #[error("the lines would mean `{made}`, not `{found}`")]
    OtherName {
        /// The name that the declaration gives.
        made: String,
        /// The name of the object.
        found: String,
    },
    /// The record cannot be made or written.
    #[error(transparent)]
    Failed(#[from] FailureCause),
    /// The run cannot end.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Run {
    /// Phase `Import`: records `seen` as the object of this declaration, marked as adopted, and ends the run.
    ///
    /// # Errors
    /// [`ImportError`]; the lock is given back.
    pub async fn import(
        self: &Arc<Self>,
        declaration: Declaration,
        seen: &Observation,
    ) -> Result<Summary, ImportError> {
        if let Err(error) = self.adopt_as_declared(declaration, seen).await {
            release(&self.world, self.session.as_deref())
                .await
                .map_err(RunError::from)?;
            return Err(error);
        }
        Ok(self.conclude_unswept("import").await?)
    }

    async fn adopt_as_declared(
        self: &Arc<Self>,
        declaration: Declaration,
        seen: &Observation,
    ) -> Result<(), ImportError> {
        let fqn = Fqn::new(&self.stage, &declaration.scope, &declaration.id);
        if self.graph().prior.contains_key(&fqn) {
            return Err(ImportError::InState(fqn));
        }
        let (id, _) = self.register(declaration)?;
        let job = self.import_job(id, seen)?;
        let instance = self.world.ids.ulid(self.world.clock.now());
        let record = self
            .record(&job, None, &instance, &seen.outputs, true)
            .map_err(FailureCause::from)?;
        let record = self.write(record).await?;
        {
            let mut graph = self.graph();
            let node = graph.node_mut(id);
            node.action = Some(Action::Adopt);
            node.state = NodeState::Done(Arc::clone(&record));
            graph.unsettled -= 1;
        }
        self.world.events.emit(Event::Finished {
            fqn: record.fqn.clone(),
            kind: record.kind.clone(),
            action: Action::Adopt,
            physical_name: record.physical_name.clone(),
            duration: self.world.clock.monotonic().saturating_sub(self.begin),
        });
        Ok(())
    }

    fn import_job(self: &Arc<Self>, id: NodeId, seen: &Observation) -> Result<Job, ImportError> {
        let graph = self.graph();
        let node = graph.node(id);
        if node.checked.physical_name != seen.physical_name {
            return Err(ImportError::OtherName {
                made: node.checked.physical_name.clone(),
                found: seen.physical_name.clone(),
            });
        }
        let hash = props_hash(&graph, &self.keyring, node).map_err(FailureCause::from)?;
        let decision = Decision::Create;
        Ok(self.job(&graph, id, Decided { hash, decision })?)
    }
}
