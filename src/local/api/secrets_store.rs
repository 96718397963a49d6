//! Secrets stores of the account and the secrets in them. Values go in and never come out over the API.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
};
use crate::local::{
    Cloud,
    control::ControlError,
    objects::{self, Object},
};

const STORE: &str = "secrets_store";
const SECRET: &str = "store_secret";
const VALUE: &str = "value";
const NOT_FOUND: u32 = 1000;
const INVALID: u32 = 1001;
/// Also what an account answers that has a store already.
const EXISTS: u32 = 1003;
const QUOTA: usize = 100;
const VALUE_LIMIT: usize = 1024;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let stores = account_path("secrets_store/stores");
    let store = format!("{stores}/{{store}}");
    let secrets = format!("{store}/secrets");
    Router::new()
        .route(&account_path("secrets_store/quota"), get(run(quota)))
        .route(&stores, get(run(list)).post(run(create)))
        .route(&store, get(run(read)).delete(run(delete)))
        .route(&secrets, get(run(list_secrets)).post(run(create_secrets)))
        .route(
            &format!("{secrets}/{{secret}}"),
            get(run(read_secret))
                .patch(run(update_secret))
                .delete(run(delete_secret)),
        )
}

/// Whether a store has a secret of that name.
pub(super) fn exists(
    connection: &Connection,
    store: &str,
    name: &str,
) -> Result<bool, rusqlite::Error> {
    Ok(objects::named(connection, SECRET, store, name)?.is_some())
}

/// The value of a secret, for the runtime.
pub(super) fn reveal(
    connection: &Connection,
    store: &str,
    name: &str,
) -> Result<Option<String>, ControlError> {
    match objects::named(connection, SECRET, store, name)? {
        Some(secret) => secret.reveal(connection, VALUE),
        None => Ok(None),
    }
}

fn store_value(cloud: &Cloud, store: &Object) -> Value {
    json!({
        "id": store.id,
        "name": store.name,
        "account_id": cloud.account(),
        "created": store.created_at,
        "modified": store.modified_at,
    })
}

fn secret_value(secret: &Object) -> Value {
    let field = |name: &str| secret.body.get(name).cloned().unwrap_or_default();
    json!({
        "id": secret.id,
        "name": secret.name,
        "comment": field("comment"),
        "scopes": field("scopes"),
        "store_id": secret.parent,
        "status": "active",
        "created": secret.created_at,
        "modified": secret.modified_at,
    })
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::get(connection, STORE, call.parameter("store"))?
        .ok_or_else(|| ApiError::not_found(INVALID, "store_not_found"))
}

fn require_secret(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    let store = require(connection, call)?;
    objects::get(connection, SECRET, call.parameter("secret"))?
        .filter(|secret| secret.parent == store.id)
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "secret_not_found"))
}

fn name(body: &Map<String, Value>) -> Result<&str, ApiError> {
    body.get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
        .ok_or_else(|| ApiError::bad_request(INVALID, "name_is_empty"))
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let store = Object::new(hex_id(), "", name(&body)?, Map::new(), now());
    cloud.control.write(|transaction| {
        // An account has one store.
        if !objects::below(transaction, STORE, "")?.is_empty()
            || !objects::insert(transaction, STORE, &store)?
        {
            return Err(ApiError::conflict(EXISTS, "maximum_stores_exceeded"));
        }
        Ok(())
    })?;
    ok(&store_value(cloud, &store))
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 50, 100, INVALID)?;
    let stores = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, STORE, "")?))?;
    let (items, info) = page.cut(
        stores
            .iter()
            .map(|store| store_value(cloud, store))
            .collect(),
    );
    ok_with_info(&Value::Array(items), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let store = cloud.control.run(|connection| require(connection, call))?;
    ok(&store_value(cloud, &store))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let store = require(transaction, call)?;
        objects::remove(transaction, STORE, &store.id)?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

fn quota(cloud: &Cloud, _: &Call) -> ApiResult {
    let usage = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::all(connection, SECRET)?.len()))?;
    ok(&json!({"secrets": {"quota": QUOTA, "usage": usage}}))
}

/// Lays what a body says over a secret.
fn merge(
    connection: &Connection,
    secret: &mut Object,
    body: &Map<String, Value>,
) -> Result<(), ApiError> {
    match body.get("scopes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(scopes)) if !scopes.is_empty() && scopes.iter().all(Value::is_string) => {
            secret.body.insert("scopes".to_owned(), json!(scopes));
        }
        Some(_) => return Err(ApiError::bad_request(INVALID, "scopes_are_invalid")),
    }
    match body.get(VALUE) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if (1..=VALUE_LIMIT).contains(&text.len()) => {
            secret.hide(connection, VALUE, text)?;
        }
        Some(_) => {
            let message = format!("value must be a string of 1 to {VALUE_LIMIT} bytes");
            return Err(ApiError::bad_request(INVALID, message));
        }
    }
    if let Some(comment) = body.get("comment") {
        secret.body.insert("comment".to_owned(), comment.clone());
    }
    Ok(())
}

fn create_secrets(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.json(INVALID)?;
    let items = body
        .as_array()
        .ok_or_else(|| ApiError::bad_request(INVALID, "invalid_json_body"))?;
    let made = cloud.control.write(|transaction| {
        let store = require(transaction, call)?;
        let mut made = Vec::new();
        for item in items {
            let fields = item
                .as_object()
                .filter(|fields| fields.contains_key("scopes") && fields.contains_key(VALUE))
                .ok_or_else(|| ApiError::bad_request(INVALID, "invalid_json_body"))?;
            let mut secret =
                Object::new(hex_id(), store.id.clone(), name(fields)?, Map::new(), now());
            merge(transaction, &mut secret, fields)?;
            if !objects::insert(transaction, SECRET, &secret)? {
                return Err(ApiError::conflict(EXISTS, "secret_name_already_exists"));
            }
            made.push(secret_value(&secret));
        }
        Ok(made)
    })?;
    ok(&Value::Array(made))
}

fn list_secrets(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 50, 100, INVALID)?;
    let search = call.query("search");
    let secrets: Vec<Value> = cloud
        .control
        .run(|connection| {
            let store = require(connection, call)?;
            Ok::<_, ApiError>(objects::below(connection, SECRET, &store.id)?)
        })?
        .iter()
        .filter(|secret| search.is_none_or(|search| secret.name.contains(search)))
        .map(secret_value)
        .collect();
    let (items, info) = page.cut(secrets);
    ok_with_info(&Value::Array(items), &info)
}

fn read_secret(cloud: &Cloud, call: &Call) -> ApiResult {
    let secret = cloud
        .control
        .run(|connection| require_secret(connection, call))?;
    ok(&secret_value(&secret))
}

fn update_secret(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let secret = cloud.control.write(|transaction| {
        let mut secret = require_secret(transaction, call)?;
        merge(transaction, &mut secret, &body)?;
        secret.modified_at = now();
        objects::update(transaction, &secret)?;
        Ok::<_, ApiError>(secret)
    })?;
    ok(&secret_value(&secret))
}

fn delete_secret(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let secret = require_secret(transaction, call)?;
        objects::remove(transaction, SECRET, &secret.id)?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::reveal;
    use crate::local::{Cloud, testing::Client};

    const STORES: &str = "/accounts/local/secrets_store/stores";

    #[tokio::test]
    async fn secrets_go_in_and_only_the_runtime_sees_them() {
        let client = Client::new();
        let store = client
            .ok("POST", STORES, Some(json!({"name": "main"})))
            .await;
        let again = Some(json!({"name": "other"}));
        assert_eq!(client.fails("POST", STORES, again).await, (409, 1003));
        let id = store["result"]["id"].as_str().unwrap();
        let secrets = format!("{STORES}/{id}/secrets");
        let one = json!({"name": "KEY", "value": "very-secret-value", "scopes": ["workers"]});
        let made = client.ok("POST", &secrets, Some(json!([one]))).await;
        assert!(!made.to_string().contains("very-secret-value"));
        assert_eq!(
            client.fails("POST", &secrets, Some(json!([one]))).await,
            (409, 1003)
        );
        for bad in [
            json!({}),
            json!([{"name": "A", "value": "x"}]),
            json!([{"name": "A", "value": "", "scopes": ["workers"]}]),
            json!([{"name": "", "value": "x", "scopes": ["workers"]}]),
            json!([{"name": "A", "value": "x", "scopes": []}]),
        ] {
            assert_eq!(
                client.fails("POST", &secrets, Some(bad.clone())).await,
                (400, 1001),
                "{bad}"
            );
        }
        let secret = format!("{secrets}/{}", made["result"][0]["id"].as_str().unwrap());
        let seen = || {
            let cloud = Cloud::open(client.folder.path()).unwrap();
            cloud
                .control
                .run(|connection| reveal(connection, id, "KEY"))
                .unwrap()
        };
        assert_eq!(seen().as_deref(), Some("very-secret-value"));
        client
            .ok("PATCH", &secret, Some(json!({"comment": "x"})))
            .await;
        assert_eq!(seen().as_deref(), Some("very-secret-value"));
        client
            .ok("PATCH", &secret, Some(json!({"value": "other"})))
            .await;
        assert_eq!(seen().as_deref(), Some("other"));
        client.ok("DELETE", &format!("{STORES}/{id}"), None).await;
        assert_eq!(seen(), None);
        assert_eq!(client.fails("GET", &secret, None).await, (404, 1001));
    }
}
