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
    state::Record,
};

/// Objects that state knows, by kind and by what tells them apart.
pub(super) type Known = HashMap<(Arc<str>, String), Fqn>;

/// Every record of the stages of this target. A stage that cannot be read is an error: its objects would look like nobody's.
pub(super) fn records(project: &Project, target: &str) -> Result<Vec<Arc<Record>>, CliError> {
    let mut out = Vec::new();
    for stage in project.stages()? {
        let Some(state) = project.runtime.block_on(project.store.load(&stage))? else {
            continue;
        };
        let elsewhere = state.header.target.as_deref();
        if elsewhere.is_none_or(|deployed| deployed == target) {
            out.extend(state.records.into_values());
        }
    }
    Ok(out)
}

/// Every object that records know, those included that are still to be deleted.
pub(super) fn known(records: &[Arc<Record>], registry: &Registry) -> Known {
    let mut out = Known::new();
    for record in records {
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
    out
}

/// The resource that declares an object of another kind with itself.
pub(super) fn holder<'a>(
    records: &'a [Arc<Record>],
    registry: &Registry,
    kind: &str,
    seen: &Observation,
) -> Option<&'a Record> {
    let holds = |record: &&Arc<Record>| {
        registry
            .get(&record.kind)
            .is_some_and(|provider| provider.holds(&record.props, &record.outputs, kind, seen))
    };
    records.iter().find(holds).map(AsRef::as_ref)
}

/// Takes out of an object what the resources of its kind have; `false` when nothing of it is left.
pub(super) fn leave_unknown(
    records: &[Arc<Record>],
    provider: &dyn Provider,
    seen: &mut Observation,
) -> bool {
    let kind = &provider.schema().kind;
    let same = records.iter().filter(|record| record.kind == *kind);
    let known: Vec<&Map> = same.map(|record| &record.outputs).collect();
    provider.leave_unknown(&known, seen)
}

/// The list of a kind, sorted by name; `None` where the kind has none.
pub(super) async fn list(
    provider: &dyn Provider,
    operation: &OperationContext,
) -> Result<Option<Vec<Observation>>, crate::provider::ProviderError> {
    Ok(provider.list(operation, &[]).await?.map(sorted))
}

/// The same, as far as `wanted` may name an object.
pub(super) async fn candidates(
    provider: &dyn Provider,
    operation: &OperationContext,
    wanted: &str,
) -> Result<Option<Vec<Observation>>, crate::provider::ProviderError> {
    let list = provider.candidates(operation, wanted).await?;
    Ok(list.map(sorted))
}

fn sorted(list: Vec<Observation>) -> Vec<Observation> {
    let by_id: BTreeMap<(String, String), Observation> = list
        .into_iter()
        .map(|seen| ((seen.physical_name.clone(), seen.id.clone()), seen))
        .collect();
    by_id.into_values().collect()
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
