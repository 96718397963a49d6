//! Namespaces of Durable Objects and the objects in them, read only: they come and go with the migrations of scripts.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::{OptionalExtension as _, params};
use serde_json::{Value, json};

use super::{
    account_path,
    call::{Call, is_hex_id, run},
    envelope::{ApiResult, ok_with_info},
    error::ApiError,
    page::{Page, number},
    workers::Namespace,
};
use crate::local::{Cloud, data::object_ids, layout};

const INVALID: u32 = 10077;
const NOT_FOUND: u32 = 10066;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("workers/durable_objects/namespaces");
    Router::new()
        .route(&all, get(run(list)))
        .route(&format!("{all}/{{namespace}}/objects"), get(run(objects)))
}

fn shown(namespace: &Namespace) -> Value {
    json!({
        "id": namespace.id,
        "name": format!("{}_{}", namespace.script, namespace.class),
        "script": namespace.script,
        "class": namespace.class,
        "use_sqlite": namespace.sqlite,
    })
}

/// `GET …/durable_objects/namespaces`.
fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 20, 1000, INVALID)?;
    let (items, total) = cloud.control.run(|connection| {
        let total = connection.query_row(
            "SELECT count(*) FROM durable_object_namespaces",
            [],
            |row| row.get(0),
        )?;
        let mut statement = connection.prepare_cached(
            "SELECT id, script, class, sqlite FROM durable_object_namespaces
             ORDER BY script, class LIMIT ?1 OFFSET ?2",
        )?;
        let items = statement
            .query_map(params![page.limit(), page.offset()], Namespace::of_row)?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((items, total))
    })?;
    let items: Vec<Value> = items.iter().map(shown).collect();
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

/// `GET …/durable_objects/namespaces/{namespace}/objects`: the objects that have stored something, by id.
fn objects(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = call.parameter("namespace");
    if !is_hex_id(id) {
        return Err(call.no_route());
    }
    let limit = number(call, "limit", 1000, INVALID)?.clamp(1, 10_000);
    let after = call.query("cursor").unwrap_or_default();
    let found: Option<String> = cloud.control.run(|connection| {
        connection
            .query_row(
                "SELECT id FROM durable_object_namespaces WHERE id = ?1",
                [id],
                |row| row.get(0),
            )
            .optional()
            .map_err(ApiError::from)
    })?;
    let Some(id) = found else {
        return Err(ApiError::not_found(
            NOT_FOUND,
            "Durable Object namespace not found",
        ));
    };
    let mut ids = object_ids(&layout::objects_folder(&cloud.folder, &id))?;
    ids.retain(|id| id.as_str() > after);
    ids.sort();
    let more = ids.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let cursor = if more { ids.last().cloned() } else { None };
    let items: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id, "hasStoredData": true}))
        .collect();
    let cursor = cursor.unwrap_or_default();
    ok_with_info(
        &json!(items),
        &json!({"count": items.len(), "cursor": cursor, "cursors": {"after": cursor}}),
    )
}
