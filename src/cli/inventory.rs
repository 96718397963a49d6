//! What accounts hold, beside what the stages of the project know.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Context, error::CliError, select::Project},
    model::{Fqn, Map},
    provider::{Access, Made, Meter, Observation, OperationContext, Provider, Registry},
};

/// Objects that state knows, by kind and by what tells them apart.
pub(super) type Known = HashMap<(Arc<str>, String), Fqn>;

/// Every object that a stage of this target knows, those included that are still to be deleted. A stage that cannot be read is an
/// error: its objects would look like nobody's.
pub(super) fn known(
    project: &Project,
    registry: &Registry,
    target: &str,
) -> Result<Known, CliError> {
    let mut out = Known::new();
    for stage in project.stages()? {
        let Some(state) = project.runtime.block_on(project.store.load(&stage))? else {
            continue;
        };
        if state
            .header
            .target
            .as_deref()
            .is_some_and(|other| other != target)
        {
            continue;
        }
        for record in state.records.values() {
            let mut add = |kind: &Arc<str>, name: &str, outputs: &Map| {
                if let Some(provider) = registry.get(kind) {
                    let id = provider.object_id(name, outputs);
                    out.insert((Arc::clone(kind), id), record.fqn.clone());
                }
            };
            add(&record.kind, &record.physical_name, &record.outputs);
            for old in &record.old_objects {
                add(&old.kind, &old.physical_name, &old.outputs);
            }
        }
    }
    Ok(out)
}

/// The list of a kind, sorted by name; `None` where the kind has none.
pub(super) async fn list(
    provider: &dyn Provider,
    operation: &OperationContext,
) -> Result<Option<Vec<Observation>>, crate::provider::ProviderError> {
    let list = provider.list(operation, &[]).await?;
    Ok(list.map(|list| {
        let by_id: BTreeMap<(String, String), Observation> = list
            .into_iter()
            .map(|seen| ((seen.physical_name.clone(), seen.id.clone()), seen))
            .collect();
        by_id.into_values().collect()
    }))
}

/// What calls run in that belong to no resource. Progress is said on stderr.
pub(super) fn operation(
    context: &Context,
    folder: &Path,
    meter: Meter,
    cancel: CancellationToken,
) -> Result<OperationContext, CliError> {
    let redactor = context.redactor.clone();
    let ui = Arc::clone(&context.ui);
    Ok(OperationContext {
        fqn: Fqn::parse("alch/account/objects")?,
        physical_name: String::new(),
        idempotency_key: String::new(),
        folder: Arc::from(folder),
        access: Arc::<Access>::default(),
        meter,
        cancel,
        progress: Arc::new(move |message| ui.note(message)),
        redact: Arc::new(move |text| redactor.redact(text).into_owned()),
        made: Made::default(),
    })
}
