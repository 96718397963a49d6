//! Instances of workflows. They live in the runtime: each call goes to the server that runs this folder's Workers.
//!
//! Whether an instance exists is told by its file alone, so that asking for one that does not makes none.

use serde_json::{Value, json};

use super::{
    call::Call,
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
    workflow_log::{self, status_name},
    workflows::{INVALID, Version, Workflow, is_name, newest, require_called},
};
use crate::local::{
    Cloud,
    data::object_ids,
    layout,
    runtime::{InstanceError, ask_instances},
};

const NOT_FOUND: u32 = 10400;
const CANNOT_CHANGE: u32 = 10401;
const EXISTS: u32 = 10405;
const NO_RUNTIME: u32 = 10001;
const ID_LIMIT: usize = 100;
const BATCH_LIMIT: usize = 100;

/// A workflow with the version that new instances run.
struct Target {
    workflow: Workflow,
    version: Version,
}

fn target(cloud: &Cloud, call: &Call) -> Result<Target, ApiError> {
    cloud.control.run(|connection| {
        let workflow = require_called(connection, call)?;
        let version = newest(connection, &workflow)?;
        Ok(Target { workflow, version })
    })
}

impl Target {
    /// Whether there is an instance of this id.
    fn has(&self, cloud: &Cloud, id: &str) -> bool {
        let name = &self.workflow.name;
        let object = layout::object_id(&layout::workflow_key(name), id);
        layout::instances_folder(&cloud.folder, name)
            .join(format!("{object}.sqlite"))
            .exists()
    }

    /// The instance of the path, which must exist.
    fn require<'a>(&self, cloud: &Cloud, call: &'a Call) -> Result<&'a str, ApiError> {
        let id = call.parameter("instance");
        if self.has(cloud, id) {
            Ok(id)
        } else {
            Err(ApiError::not_found(NOT_FOUND, "instance.not_found"))
        }
    }

    /// Asks the runtime.
    fn ask(&self, cloud: &Cloud, action: &str, given: Value) -> Result<Value, ApiError> {
        let mut body = given;
        body["workflow"] = json!(self.workflow.name);
        body["action"] = json!(action);
        ask(cloud, &body)
    }

    fn made(&self, id: &str, status: &str) -> Value {
        json!({
            "id": id,
            "status": status,
            "version_id": self.version.id,
            "workflow_id": self.workflow.id,
        })
    }
}

/// Sends a question to the runtime of the folder and waits for the answer.
fn ask(cloud: &Cloud, body: &Value) -> Result<Value, ApiError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(ApiError::internal)?;
    // This thread is one of those that may block.
    runtime
        .block_on(ask_instances(&cloud.folder, body))
        .map_err(|error| match error {
            InstanceError::Refused(message) => ApiError::bad_request(CANNOT_CHANGE, message),
            other => ApiError::bad_request(
                NO_RUNTIME,
                format!("{other}; instances of workflows run where `alch local serve` does"),
            ),
        })
}

/// `GET …/instances`, newest first.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 10, 100, INVALID)?;
    let target = target(cloud, call)?;
    let objects = object_ids(&layout::instances_folder(
        &cloud.folder,
        &target.workflow.name,
    ))?;
    let mut items = match objects.is_empty() {
        true => Vec::new(),
        false => match target.ask(cloud, "list", json!({"objects": objects}))? {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
    };
    let created = |item: &Value| item["createdOn"].as_str().unwrap_or_default().to_owned();
    items.sort_by_key(|item| std::cmp::Reverse(created(item)));
    let mut shown: Vec<Value> = items
        .iter()
        .map(|item| {
            let status = status_name(item["status"].as_u64());
            let created = created(item);
            let ended = matches!(status, "complete" | "errored" | "terminated");
            let changed = item["changedOn"].as_str().unwrap_or(&created).to_owned();
            let mut shown = target.made(item["instanceId"].as_str().unwrap_or_default(), status);
            shown["created_on"] = json!(created);
            shown["started_on"] = json!(created);
            shown["modified_on"] = json!(changed);
            shown["ended_on"] = if ended { json!(changed) } else { Value::Null };
            shown
        })
        .collect();
    if let Some(status) = call.query("status") {
        shown.retain(|item| item["status"] == status);
    }
    let total = i64::try_from(shown.len()).unwrap_or(i64::MAX);
    let part: Vec<Value> = shown
        .into_iter()
        .skip(usize::try_from(page.offset()).unwrap_or(usize::MAX))
        .take(usize::try_from(page.limit()).unwrap_or(usize::MAX))
        .collect();
    let info = page.info(part.len(), total);
    ok_with_info(&Value::Array(part), &info)
}

/// One instance to be made: id and parameters.
fn wanted(body: &Value) -> Result<(String, Value), ApiError> {
    let invalid = |message: String| Err(ApiError::bad_request(INVALID, message));
    if !body.is_object() {
        return invalid("an instance must be an object".to_owned());
    }
    let id = match &body["instance_id"] {
        Value::Null => uuid::Uuid::new_v4().to_string(),
        Value::String(id) if is_name(id, ID_LIMIT) => id.clone(),
        other => return invalid(format!("`instance_id` cannot be {other}")),
    };
    let params = match &body["params"] {
        Value::Null => json!({}),
        params => params.clone(),
    };
    Ok((id, params))
}

fn make(
    cloud: &Cloud,
    target: &Target,
    wanted: &[(String, Value)],
) -> Result<Vec<Value>, ApiError> {
    if let Some((id, _)) = wanted.iter().find(|(id, _)| target.has(cloud, id)) {
        return Err(ApiError::conflict(
            EXISTS,
            format!("instance.already_exists: `{id}`"),
        ));
    }
    wanted
        .iter()
        .map(|(id, params)| {
            target.ask(cloud, "create", json!({"instance": id, "params": params}))?;
            Ok(target.made(id, "queued"))
        })
        .collect()
}

/// `POST …/instances`.
pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let target = target(cloud, call)?;
    let body = match call.body.is_empty() {
        true => json!({}),
        false => call.json(INVALID)?,
    };
    let made = make(cloud, &target, &[wanted(&body)?])?;
    ok(&made.into_iter().next().unwrap_or_default())
}

/// `POST …/instances/batch`.
pub(super) fn create_many(cloud: &Cloud, call: &Call) -> ApiResult {
    let target = target(cloud, call)?;
    let body = call.json(INVALID)?;
    let items = body.as_array().filter(|items| items.len() <= BATCH_LIMIT);
    let items = items.ok_or_else(|| {
        let message = format!("the body must be an array of at most {BATCH_LIMIT} instances");
        ApiError::bad_request(INVALID, message)
    })?;
    let wanted = items.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    ok(&json!(make(cloud, &target, &wanted)?))
}

/// `GET …/instances/{instance}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let target = target(cloud, call)?;
    let id = target.require(cloud, call)?;
    let answer = target.ask(cloud, "read", json!({"instance": id}))?;
    ok(&workflow_log::shown(&answer, &target.version.id))
}

/// `PATCH …/instances/{instance}/status`.
pub(super) fn change_status(cloud: &Cloud, call: &Call) -> ApiResult {
    let target = target(cloud, call)?;
    let id = target.require(cloud, call)?;
    let body = call.object(INVALID)?;
    let change = body.get("status").and_then(Value::as_str);
    let change = change
        .filter(|change| matches!(*change, "pause" | "resume" | "terminate" | "restart"))
        .ok_or_else(|| {
            let message = "`status` must be pause, resume, terminate or restart";
            ApiError::bad_request(INVALID, message)
        })?;
    let given = json!({"instance": id, "change": change, "from": body.get("from"), "rollback": body.get("rollback")});
    let answer = target.ask(cloud, "change", given)?;
    ok(&json!({
        "status": status_name(answer["status"].as_u64()),
        "timestamp": super::call::now(),
    }))
}

/// `POST …/instances/{instance}/events/{event}`.
pub(super) fn send_event(cloud: &Cloud, call: &Call) -> ApiResult {
    let target = target(cloud, call)?;
    let id = target.require(cloud, call)?;
    let payload = match call.body.is_empty() {
        true => Value::Null,
        false => call.json(INVALID)?,
    };
    let event = call.parameter("event");
    if !is_name(event, ID_LIMIT) {
        let message = format!("`{event}` is no type of an event");
        return Err(ApiError::bad_request(INVALID, message));
    }
    let given = json!({"instance": id, "type": event, "payload": payload});
    target.ask(cloud, "event", given)?;
    ok(&Value::Null)
}
