//! Workflows: their names, the classes behind them, and their versions. The instances are in `workflow_instances`.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, patch, post},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
    workers::require,
};
use crate::{
    local::{Cloud, api::workflow_instances as instances, layout},
    util::fs,
};

/// The code for a body that is wrong.
pub(super) const INVALID: u32 = 10002;
const NOT_FOUND: u32 = 10200;
const VERSION_NOT_FOUND: u32 = 10300;
const NAME_LIMIT: usize = 64;
const VERSIONS_KEPT: i64 = 100;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("workflows");
    let one = format!("{all}/{{workflow}}");
    let instance = format!("{one}/instances/{{instance}}");
    Router::new()
        .route(&all, get(run(list)))
        .route(&one, get(run(read)).put(run(put)).delete(run(delete)))
        .route(&format!("{one}/versions"), get(run(versions)))
        .route(&format!("{one}/versions/{{version}}"), get(run(version)))
        .route(
            &format!("{one}/instances"),
            get(run(instances::list)).post(run(instances::create)),
        )
        .route(
            &format!("{one}/instances/batch"),
            post(run(instances::create_many)),
        )
        .route(&instance, get(run(instances::read)))
        .route(
            &format!("{instance}/status"),
            patch(run(instances::change_status)),
        )
        .route(
            &format!("{instance}/events/{{event}}"),
            post(run(instances::send_event)),
        )
}

/// A workflow.
#[derive(Debug)]
pub(super) struct Workflow {
    pub(super) id: String,
    pub(super) name: String,
    created_at: String,
    modified_at: String,
    script: String,
    class: String,
}

/// What one version of a workflow runs.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) id: String,
    class: String,
    limits: Value,
    created_at: String,
}

const QUERY: &str = "SELECT id, name, created_at, modified_at, script, class FROM workflows";
const VERSION: &str = "SELECT id, class, limits, created_at FROM workflow_versions";

impl Workflow {
    fn of_row(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            created_at: row.get(2)?,
            modified_at: row.get(3)?,
            script: row.get(4)?,
            class: row.get(5)?,
        })
    }

    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "created_on": self.created_at,
            "modified_on": self.modified_at,
            "script_name": self.script,
            "class_name": self.class,
            "triggered_on": null,
        })
    }
}

impl Version {
    fn of_row(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let limits: String = row.get(2)?;
        Ok(Self {
            id: row.get(0)?,
            class: row.get(1)?,
            limits: stored(2, &limits)?,
            created_at: row.get(3)?,
        })
    }

    fn shown(&self, workflow: &Workflow) -> Value {
        let mut shown = json!({
            "id": self.id,
            "class_name": self.class,
            "created_on": self.created_at,
            "modified_on": self.created_at,
            "workflow_id": workflow.id,
            "has_dag": false,
            "language": "javascript",
        });
        if !self.limits.is_null() {
            shown["limits"] = self.limits.clone();
        }
        shown
    }
}

fn stored<T: serde::de::DeserializeOwned>(index: usize, text: &str) -> Result<T, rusqlite::Error> {
    serde_json::from_str(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(index, kind, Box::new(error))
    })
}

fn find(connection: &Connection, name: &str) -> Result<Option<Workflow>, rusqlite::Error> {
    connection
        .prepare_cached(&format!("{QUERY} WHERE name = ?1"))?
        .query_row([name], Workflow::of_row)
        .optional()
}

/// The workflow of the path, which must exist.
pub(super) fn require_called(connection: &Connection, call: &Call) -> Result<Workflow, ApiError> {
    find(connection, call.parameter("workflow"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "workflow.not_found"))
}

/// The newest version of a workflow.
pub(super) fn newest(connection: &Connection, workflow: &Workflow) -> Result<Version, ApiError> {
    connection
        .prepare_cached(&format!(
            "{VERSION} WHERE workflow = ?1 ORDER BY number DESC LIMIT 1"
        ))?
        .query_row([&workflow.id], Version::of_row)
        .map_err(ApiError::from)
}

/// A workflow as the runtime needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct DeployedWorkflow {
    pub(in crate::local) name: String,
    /// Tells a new one from a deleted one of the same name.
    pub(in crate::local) id: String,
    pub(in crate::local) class: String,
    /// The most steps of an instance.
    pub(in crate::local) steps: Option<u64>,
}

/// The workflows that run in a script, by name.
pub(super) fn of_script(
    connection: &Connection,
    script: &str,
) -> Result<Vec<DeployedWorkflow>, ApiError> {
    let mut statement =
        connection.prepare_cached(&format!("{QUERY} WHERE script = ?1 ORDER BY name"))?;
    let found = statement
        .query_map([script], Workflow::of_row)?
        .collect::<Result<Vec<_>, _>>()?;
    found
        .into_iter()
        .map(|workflow| {
            let version = newest(connection, &workflow)?;
            Ok(DeployedWorkflow {
                steps: version.limits["steps"].as_u64(),
                name: workflow.name,
                id: workflow.id,
                class: workflow.class,
            })
        })
        .collect()
}

/// `GET …/workflows`, by name.
fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 10, 100, INVALID)?;
    let search = call.query("search").unwrap_or_default();
    let (items, total) = cloud.control.run(|connection| {
        let total = connection.query_row(
            "SELECT count(*) FROM workflows WHERE instr(name, ?1) > 0",
            [search],
            |row| row.get(0),
        )?;
        let mut statement = connection.prepare_cached(&format!(
            "{QUERY} WHERE instr(name, ?1) > 0 ORDER BY name LIMIT ?2 OFFSET ?3"
        ))?;
        let items = statement
            .query_map(
                params![search, page.limit(), page.offset()],
                Workflow::of_row,
            )?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((items, total))
    })?;
    let items: Vec<Value> = items.iter().map(Workflow::shown).collect();
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

/// `GET …/workflows/{workflow}`.
fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let workflow = cloud
        .control
        .run(|connection| require_called(connection, call))?;
    let mut shown = workflow.shown();
    // How many there are of each status only the runtime knows; the list of instances asks it.
    shown["instances"] = json!({});
    ok(&shown)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Result<&'a str, ApiError> {
    body.get(field)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| invalid(format!("`{field}` must be a string")))
}

/// Whether a name or an id of at most `limit` bytes fits.
pub(super) fn is_name(name: &str, limit: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.len() <= limit && name.starts_with(plain) && name.chars().all(|c| plain(c) || c == '-')
}

/// `PUT …/workflows/{workflow}`: makes it, or a new version of it.
fn put(cloud: &Cloud, call: &Call) -> ApiResult {
    let name = call.parameter("workflow");
    if !is_name(name, NAME_LIMIT) {
        return Err(invalid(format!(
            "invalid workflow name `{name}`: 1 to {NAME_LIMIT} of a-z, A-Z, 0-9, _ and -"
        )));
    }
    let body = call.object(INVALID)?;
    let (script, class) = (text(&body, "script_name")?, text(&body, "class_name")?);
    let limits = match body.get("limits") {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Object(limits)) => match limits.get("steps") {
            None | Some(Value::Null) => Value::Null,
            Some(steps) if steps.as_u64().is_some() => json!({"steps": steps}),
            Some(_) => return Err(invalid("`limits.steps` must be a whole number")),
        },
        Some(_) => return Err(invalid("`limits` must be an object")),
    };
    if body
        .get("schedules")
        .is_some_and(|given| !given.is_null() && *given != json!([]))
    {
        return Err(invalid(
            "schedules of workflows are not available in the local cloud",
        ));
    }
    let (workflow, version) = cloud.control.write(|transaction| {
        require(transaction, script)?;
        let (id, now) = (uuid::Uuid::new_v4().to_string(), now());
        transaction.execute(
            "INSERT INTO workflows(id, name, created_at, modified_at, script, class)
             VALUES(?1, ?2, ?3, ?3, ?4, ?5)
             ON CONFLICT(name) DO UPDATE SET modified_at = excluded.modified_at, script = excluded.script,
                 class = excluded.class",
            params![id, name, now, script, class],
        )?;
        let workflow = require_called(transaction, call)?;
        let version = uuid::Uuid::new_v4().to_string();
        transaction.execute(
            "INSERT INTO workflow_versions(id, workflow, class, limits, created_at) VALUES(?1, ?2, ?3, ?4, ?5)",
            params![version, workflow.id, class, limits.to_string(), now],
        )?;
        transaction.execute(
            "DELETE FROM workflow_versions WHERE workflow = ?1 AND number NOT IN
             (SELECT number FROM workflow_versions WHERE workflow = ?1 ORDER BY number DESC LIMIT ?2)",
            params![workflow.id, VERSIONS_KEPT],
        )?;
        Ok::<_, ApiError>((workflow, version))
    })?;
    let mut shown = workflow.shown();
    shown["version_id"] = json!(version);
    ok(&shown)
}

/// `DELETE …/workflows/{workflow}`, with its instances.
fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let workflow = require_called(transaction, call)?;
        // Inside: the folder has the name of the workflow, which another one may have right after.
        fs::remove_dir_all(&layout::instances_folder(&cloud.folder, &workflow.name))?;
        transaction.execute("DELETE FROM workflows WHERE id = ?1", [&workflow.id])?;
        Ok::<_, ApiError>(())
    })?;
    ok(&json!({"status": "ok", "success": true}))
}

/// `GET …/workflows/{workflow}/versions`, newest first.
fn versions(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 10, 100, INVALID)?;
    let (workflow, items, total) = cloud.control.run(|connection| {
        let workflow = require_called(connection, call)?;
        let total = connection.query_row(
            "SELECT count(*) FROM workflow_versions WHERE workflow = ?1",
            [&workflow.id],
            |row| row.get(0),
        )?;
        let mut statement = connection.prepare_cached(&format!(
            "{VERSION} WHERE workflow = ?1 ORDER BY number DESC LIMIT ?2 OFFSET ?3"
        ))?;
        let items = statement
            .query_map(
                params![workflow.id, page.limit(), page.offset()],
                Version::of_row,
            )?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((workflow, items, total))
    })?;
    let items: Vec<Value> = items.iter().map(|item| item.shown(&workflow)).collect();
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

/// `GET …/workflows/{workflow}/versions/{version}`.
fn version(cloud: &Cloud, call: &Call) -> ApiResult {
    let shown = cloud.control.run(|connection| {
        let workflow = require_called(connection, call)?;
        let version = connection
            .prepare_cached(&format!("{VERSION} WHERE workflow = ?1 AND id = ?2"))?
            .query_row([&workflow.id, call.parameter("version")], Version::of_row)
            .optional()?
            .ok_or_else(|| ApiError::not_found(VERSION_NOT_FOUND, "workflow.version_not_found"))?;
        Ok::<_, ApiError>(version.shown(&workflow))
    })?;
    ok(&shown)
}
