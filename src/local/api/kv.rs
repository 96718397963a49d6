//! KV namespaces: create, list, read, rename, delete. Keys and values are in `kv_values`.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post, put},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

use super::{
    account_path,
    call::{Call, hex_id, is_hex_id, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    kv_bulk as bulk, kv_values as values,
    page::Page,
};
use crate::local::{Cloud, control::is_conflict, discarded, layout};

/// The code for a body that is wrong.
pub(super) const INVALID: u32 = 10012;
const EXISTS: u32 = 10014;
const NOT_FOUND: u32 = 10013;
const TITLE_MISSING: u32 = 10019;
const TITLE_LIMIT: usize = 512;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("storage/kv/namespaces");
    let one = format!("{all}/{{namespace}}");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(&one, get(run(read)).put(run(rename)).delete(run(delete)))
        .route(&format!("{one}/keys"), get(run(values::keys)))
        .route(
            &format!("{one}/values/{{*key}}"),
            get(run(values::read))
                .put(run(values::write))
                .delete(run(values::delete)),
        )
        .route(
            &format!("{one}/metadata/{{*key}}"),
            get(run(values::metadata)),
        )
        .route(
            &format!("{one}/bulk"),
            put(run(bulk::write)).delete(run(bulk::delete)),
        )
        .route(&format!("{one}/bulk/delete"), post(run(bulk::delete)))
        .route(&format!("{one}/bulk/get"), post(run(bulk::read)))
}

/// Whether a namespace with this id exists.
pub(super) fn exists(connection: &Connection, id: &str) -> Result<bool, rusqlite::Error> {
    connection
        .prepare_cached("SELECT 1 FROM kv_namespaces WHERE id = ?1")?
        .exists([id])
}

/// The id of the namespace in the path, which must exist.
pub(super) fn require<'a>(cloud: &Cloud, call: &'a Call) -> Result<&'a str, ApiError> {
    let id = namespace_id(call)?;
    let found = cloud
        .control
        .run(|connection| exists(connection, id).map_err(ApiError::from))?;
    if found { Ok(id) } else { Err(not_found()) }
}

fn namespace_id(call: &Call) -> Result<&str, ApiError> {
    let id = call.parameter("namespace");
    if is_hex_id(id) {
        Ok(id)
    } else {
        Err(call.no_route())
    }
}

fn not_found() -> ApiError {
    ApiError::not_found(NOT_FOUND, "namespace not found")
}

fn value(id: &str, title: &str) -> Value {
    json!({"id": id, "title": title, "supports_url_encoding": true})
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 20, 1000, INVALID)?;
    let order = match call.query("order") {
        None | Some("id") => "id",
        Some("title") => "title",
        Some(other) => {
            return Err(ApiError::bad_request(
                INVALID,
                format!("`order` must be id or title, not `{other}`"),
            ));
        }
    };
    let direction = match call.query("direction") {
        None | Some("asc") => "ASC",
        Some("desc") => "DESC",
        Some(other) => {
            return Err(ApiError::bad_request(
                INVALID,
                format!("`direction` must be asc or desc, not `{other}`"),
            ));
        }
    };
    let (items, total) = cloud.control.run(|connection| {
        let total: i64 =
            connection.query_row("SELECT count(*) FROM kv_namespaces", [], |row| row.get(0))?;
        let mut statement = connection.prepare(&format!(
            "SELECT id, title FROM kv_namespaces ORDER BY {order} {direction} LIMIT ?1 OFFSET ?2"
        ))?;
        let items = statement
            .query_map(params![page.limit(), page.offset()], |row| {
                Ok(value(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ApiError>((items, total))
    })?;
    let info = page.info(items.len(), total);
    ok_with_info(&Value::Array(items), &info)
}

fn title(call: &Call) -> Result<String, ApiError> {
    let body = call.object(INVALID)?;
    match body.get("title") {
        Some(Value::String(title)) if !title.is_empty() && title.len() <= TITLE_LIMIT => {
            Ok(title.clone())
        }
        None | Some(Value::Null) => Err(ApiError::bad_request(
            TITLE_MISSING,
            "namespace title is required",
        )),
        Some(Value::String(text)) if text.is_empty() => Err(ApiError::bad_request(
            TITLE_MISSING,
            "namespace title is required",
        )),
        Some(_) => Err(ApiError::bad_request(
            INVALID,
            format!("`title` must be a string of at most {TITLE_LIMIT} bytes"),
        )),
    }
}

fn taken(title: &str) -> ApiError {
    ApiError::bad_request(
        EXISTS,
        format!("a namespace with this account ID and title already exists: {title}"),
    )
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let title = title(call)?;
    let id = hex_id();
    cloud.control.run(|connection| {
        let inserted = connection.execute(
            "INSERT INTO kv_namespaces(id, title, created_at) VALUES(?1, ?2, ?3)",
            [&id, &title, &now()],
        );
        match inserted {
            Err(error) if is_conflict(&error) => Err(taken(&title)),
            other => Ok(other.map(drop)?),
        }
    })?;
    ok(&value(&id, &title))
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = namespace_id(call)?;
    let title: Option<String> = cloud.control.run(|connection| {
        connection
            .query_row(
                "SELECT title FROM kv_namespaces WHERE id = ?1",
                [id],
                |row| row.get(0),
            )
            .optional()
            .map_err(ApiError::from)
    })?;
    ok(&value(id, &title.ok_or_else(not_found)?))
}

fn rename(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = namespace_id(call)?;
    let title = title(call)?;
    cloud.control.run(|connection| {
        let changed = connection.execute(
            "UPDATE kv_namespaces SET title = ?2 WHERE id = ?1",
            [id, title.as_str()],
        );
        match changed {
            Err(error) if is_conflict(&error) => Err(taken(&title)),
            Ok(0) => Err(not_found()),
            other => Ok(other.map(drop)?),
        }
    })?;
    ok(&value(id, &title))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = namespace_id(call)?;
    cloud.control.write(|transaction| {
        if transaction.execute("DELETE FROM kv_namespaces WHERE id = ?1", [id])? == 0 {
            return Err(not_found());
        }
        let folder = &cloud.folder;
        discarded::note(transaction, folder, &layout::kv_file(folder, id))?;
        Ok(discarded::note(
            transaction,
            folder,
            &layout::kv_folder(folder, id),
        )?)
    })?;
    cloud.control.sweep()?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::Client;

    const PATH: &str = "/accounts/local/storage/kv/namespaces";

    #[tokio::test]
    async fn a_namespace_keeps_its_id_when_renamed() {
        let client = Client::new();
        let a = client.ok("POST", PATH, Some(json!({"title": "a"}))).await;
        client.ok("POST", PATH, Some(json!({"title": "b"}))).await;
        let id = a["result"]["id"].as_str().unwrap();
        let one = format!("{PATH}/{id}");
        assert_eq!(
            client
                .fails("POST", PATH, Some(json!({"title": "a"})))
                .await,
            (400, 10014)
        );
        assert_eq!(
            client.fails("PUT", &one, Some(json!({"title": "b"}))).await,
            (400, 10014)
        );
        client.ok("PUT", &one, Some(json!({"title": "c"}))).await;
        assert_eq!(client.ok("GET", &one, None).await["result"]["title"], "c");
        let list = client
            .ok(
                "GET",
                &format!("{PATH}?per_page=1000&order=title&direction=desc"),
                None,
            )
            .await;
        assert_eq!(list["result"][0]["title"], "c");
        let past = client
            .ok("GET", &format!("{PATH}?per_page=1000&page=2"), None)
            .await;
        assert_eq!(past["result"], json!([]));
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 10013));
        assert_eq!(client.fails("DELETE", &one, None).await, (404, 10013));
        assert_eq!(
            client.fails("PUT", &one, Some(json!({"title": "d"}))).await,
            (404, 10013)
        );
    }

    #[tokio::test]
    async fn bad_input_is_refused() {
        let client = Client::new();
        assert_eq!(
            client.fails("POST", PATH, Some(json!({}))).await,
            (400, 10019)
        );
        assert_eq!(
            client.fails("POST", PATH, Some(json!({"title": 1}))).await,
            (400, 10012)
        );
        assert_eq!(
            client
                .fails("GET", &format!("{PATH}/not-an-id"), None)
                .await,
            (404, 7003)
        );
    }
}
