//! Deployments: which versions of a script get which share of the requests.

use rusqlite::{OptionalExtension as _, Row};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::Call,
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    INVALID, model, store, versions,
};
use crate::local::Cloud;

const NOT_FOUND: u32 = 10336;
const QUERY: &str = "SELECT id, created_at, source, versions, annotations FROM deployments";

fn value(row: &Row<'_>) -> Result<Value, rusqlite::Error> {
    let json_of = |index| {
        row.get::<_, String>(index)
            .map(|text| serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    Ok(json!({
        "id": row.get::<_, String>(0)?,
        "created_on": row.get::<_, String>(1)?,
        "source": row.get::<_, String>(2)?,
        "strategy": "percentage",
        "versions": json_of(3)?,
        "annotations": json_of(4)?,
        "author_email": null,
    }))
}

/// `GET …/deployments`, newest first.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        let mut statement = connection.prepare_cached(&format!(
            "{QUERY} WHERE script = ?1 ORDER BY number DESC LIMIT 10"
        ))?;
        let items = statement
            .query_map([&script.name], value)?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>(items)
    })?;
    ok(&json!({"deployments": items}))
}

/// `GET …/deployments/{deployment}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = call.parameter("deployment");
    let found = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        connection
            .query_row(
                &format!("{QUERY} WHERE script = ?1 AND id = ?2"),
                [script.name.as_str(), id],
                value,
            )
            .optional()
            .map_err(ApiError::from)
    })?;
    ok(&found.ok_or_else(|| {
        ApiError::not_found(NOT_FOUND, format!("Deployment '{id}' does not exist"))
    })?)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

/// The shares of a body: one or two versions that together get all requests.
fn shares(body: &Map<String, Value>) -> Result<Vec<(&str, f64)>, ApiError> {
    if body
        .get("strategy")
        .is_some_and(|strategy| strategy != "percentage")
    {
        return Err(invalid("`strategy` must be percentage"));
    }
    let Some(Value::Array(items)) = body.get("versions") else {
        return Err(invalid("`versions` must be an array"));
    };
    let shares = items
        .iter()
        .map(|item| {
            let id = item.get("version_id").and_then(Value::as_str);
            let share = item
                .get("percentage")
                .and_then(Value::as_f64)
                .filter(|share| (0.0..=100.0).contains(share));
            id.zip(share).ok_or_else(|| {
                invalid("a version needs `version_id` and a `percentage` of 0 to 100")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let distinct = match &shares[..] {
        [_] => true,
        [(first, _), (second, _)] => first != second,
        _ => false,
    };
    if !distinct || (total - 100.0).abs() > 0.01 {
        return Err(invalid(
            "`versions` must be one or two different versions whose percentages add up to 100",
        ));
    }
    Ok(shares)
}

/// `POST …/deployments`.
pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let shares = shares(&body)?;
    let mut annotations = match body.get("annotations") {
        Some(Value::Object(annotations)) => annotations.clone(),
        _ => Map::new(),
    };
    annotations.insert("workers/triggered_by".to_owned(), json!("deployment"));
    let deployment = cloud.control.write(|transaction| {
        let script = model::require_called(transaction, call)?;
        let mut chosen = Vec::new();
        for (id, _) in &shares {
            let version = model::version(transaction, &script.name, id)?
                .ok_or_else(|| versions::not_found(id))?;
            chosen.push(version.id);
        }
        let items: Vec<Value> = chosen
            .iter()
            .zip(
                body.get("versions")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten(),
            )
            .map(|(id, item)| json!({"version_id": id, "percentage": item["percentage"]}))
            .collect();
        let id = store::deployment(
            transaction,
            &script.name,
            "api",
            &Value::Array(items),
            &annotations,
        )?;
        Ok::<_, ApiError>(transaction.query_row(&format!("{QUERY} WHERE id = ?1"), [&id], value)?)
    })?;
    ok(&deployment)
}
