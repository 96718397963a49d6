//! What belongs to a Worker and is an object of its own all the same: its domains, routes, the queues it consumes and the
//! workflows that it binds.

use super::{
    super::{custom_domain, queue_consumer, route, workflow},
    consumers, domains, routes,
};
use crate::{
    model::{Map, Value},
    provider::{Observation, text_prop},
};

/// Whether an object is one that a Worker with these props and outputs declares itself.
pub(super) fn holds(props: &Map, outputs: &Map, kind: &str, seen: &Observation) -> bool {
    let leads_here = |key: &str| {
        let name = text_prop(outputs, "name");
        name.is_some() && name == text_prop(&seen.outputs, key)
    };
    match kind {
        custom_domain::KIND => {
            let host = seen.physical_name.to_ascii_lowercase();
            leads_here("worker") && domains::items(props).any(|(declared, _)| declared == host)
        }
        route::KIND => {
            let mut patterns = routes::items(props);
            leads_here("script") && patterns.any(|(pattern, _)| pattern == seen.physical_name)
        }
        queue_consumer::KIND => {
            let queues = outputs.get(consumers::OUTPUT).and_then(Value::as_array);
            let queue = text_prop(&seen.outputs, "queueId");
            leads_here("scriptName")
                && queues
                    .into_iter()
                    .flatten()
                    .any(|known| known.as_str().is_some() && known.as_str() == queue)
        }
        workflow::KIND => leads_here("scriptName") && binds(props, &seen.physical_name),
        _ => false,
    }
}

/// Whether an import of the Worker of that name declares an object of another kind, too: what leads there.
pub(super) fn brings(worker: &str, kind: &str, seen: &Observation) -> bool {
    let key = match kind {
        custom_domain::KIND => "worker",
        route::KIND => "script",
        queue_consumer::KIND => "scriptName",
        _ => return false,
    };
    text_prop(&seen.outputs, key) == Some(worker)
}

/// Whether a Worker binds a workflow by its name: one that a resource stands for is a resource of state.
fn binds(props: &Map, workflow: &str) -> bool {
    let bindings = props.get("bindings").and_then(Value::as_map);
    let names = bindings.into_iter().flat_map(Map::values);
    names
        .filter_map(Value::as_map)
        .any(|binding| text_prop(binding, "workflowName") == Some(workflow))
}
