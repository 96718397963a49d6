//! Hyperdrive configurations: how Workers reach a database of somebody else's.

use std::sync::Arc;

use axum::{Router, routing::get};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, hex_id, now, run},
    envelope::{ApiResult, ok},
    error::ApiError,
};
use crate::local::{
    Cloud,
    control::ControlError,
    objects::{self, Object},
};

const KIND: &str = "hyperdrive";
const NOT_FOUND: u32 = 2006;
const INVALID: u32 = 2007;
const EXISTS: u32 = 2017;
const SCHEMES: [&str; 3] = ["postgres", "postgresql", "mysql"];
/// Fields of the origin that go in and never come out.
const HIDDEN: [&str; 2] = ["password", "access_client_secret"];

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("hyperdrive/configs");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(
            &format!("{all}/{{config}}"),
            get(run(read))
                .put(run(replace))
                .patch(run(update))
                .delete(run(delete)),
        )
}

/// Whether there is a configuration of that id.
pub(super) fn exists(connection: &Connection, id: &str) -> Result<bool, rusqlite::Error> {
    Ok(objects::get(connection, KIND, id)?.is_some())
}

/// The origin of a configuration with its password, for the runtime.
pub(super) fn origin(connection: &Connection, id: &str) -> Result<Option<Value>, ControlError> {
    let Some(config) = objects::get(connection, KIND, id)? else {
        return Ok(None);
    };
    let mut origin = config.body.get("origin").cloned().unwrap_or_default();
    origin["password"] = json!(config.reveal(connection, "password")?);
    Ok(Some(origin))
}

fn value(config: &Object) -> Value {
    let mut out = config.body.clone();
    out.insert("id".to_owned(), json!(config.id));
    out.insert("name".to_owned(), json!(config.name));
    out.insert("created_on".to_owned(), json!(config.created_at));
    out.insert("modified_on".to_owned(), json!(config.modified_at));
    Value::Object(out)
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::get(connection, KIND, call.parameter("config"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Hyperdrive config not found."))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

/// Lays a body over a configuration.
fn merge(
    connection: &Connection,
    config: &mut Object,
    body: &Map<String, Value>,
) -> Result<(), ApiError> {
    if let Some(name) = body.get("name") {
        name.as_str()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| invalid("`name` must be text"))?
            .clone_into(&mut config.name);
    }
    for field in ["caching", "mtls", "origin_connection_limit"] {
        if let Some(given) = body.get(field) {
            config.body.insert(field.to_owned(), given.clone());
        }
    }
    let Some(given) = body.get("origin") else {
        return Ok(());
    };
    let given = given
        .as_object()
        .ok_or_else(|| invalid("`origin` must be an object"))?;
    let mut origin = match config.body.remove("origin") {
        Some(Value::Object(origin)) => origin,
        _ => Map::new(),
    };
    for (field, value) in given {
        if !HIDDEN.contains(&field.as_str()) {
            origin.insert(field.clone(), value.clone());
        } else if let Some(text) = value.as_str() {
            config.hide(connection, field, text)?;
        }
    }
    config.body.insert("origin".to_owned(), json!(origin));
    Ok(())
}

/// Whether a configuration can be connected with.
fn check(connection: &Connection, config: &Object) -> Result<(), ApiError> {
    let field = |name: &str| {
        config
            .body
            .get("origin")
            .and_then(|origin| origin.get(name))
    };
    let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default();
    if !SCHEMES.contains(&text("scheme")) {
        return Err(invalid(
            "`origin.scheme` must be postgres, postgresql or mysql",
        ));
    }
    let missing = ["database", "user"]
        .into_iter()
        .find(|name| text(name).is_empty());
    if let Some(missing) = missing {
        return Err(invalid(format!("`origin.{missing}` is required")));
    }
    let port = field("port").and_then(Value::as_u64);
    let direct = !text("host").is_empty()
        && (port.is_some_and(|port| (1..=65_535).contains(&port))
            || !text("access_client_id").is_empty());
    if !direct && text("service_id").is_empty() {
        return Err(invalid("`origin` needs a host and a port"));
    }
    if config.reveal(connection, "password")?.is_none() {
        return Err(invalid("`origin.password` is required"));
    }
    Ok(())
}

fn taken() -> ApiError {
    ApiError::conflict(EXISTS, "A config with the given name already exists.")
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let fields = Map::from_iter([
        ("origin".to_owned(), json!({})),
        ("caching".to_owned(), json!({"disabled": false})),
    ]);
    let mut config = Object::new(hex_id(), "", "", fields, now());
    cloud.control.write(|transaction| {
        merge(transaction, &mut config, &body)?;
        if config.name.is_empty() {
            return Err(invalid("`name` is required"));
        }
        check(transaction, &config)?;
        if !objects::insert(transaction, KIND, &config)? {
            return Err(taken());
        }
        Ok(())
    })?;
    ok(&value(&config))
}

fn list(cloud: &Cloud, _: &Call) -> ApiResult {
    let configs = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, KIND, "")?))?;
    ok(&configs.iter().map(value).collect())
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let config = cloud.control.run(|connection| require(connection, call))?;
    ok(&value(&config))
}

fn replace(cloud: &Cloud, call: &Call) -> ApiResult {
    change(cloud, call, true)
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    change(cloud, call, false)
}

fn change(cloud: &Cloud, call: &Call, whole: bool) -> ApiResult {
    let body = call.object(INVALID)?;
    let config = cloud.control.write(|transaction| {
        let mut config = require(transaction, call)?;
        if whole {
            let fields = [
                ("origin", json!({})),
                ("caching", json!({"disabled": false})),
            ];
            config.body = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
        }
        merge(transaction, &mut config, &body)?;
        check(transaction, &config)?;
        config.modified_at = now();
        if !objects::update(transaction, &config)? {
            return Err(taken());
        }
        Ok(config)
    })?;
    ok(&value(&config))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    cloud.control.write(|transaction| {
        let config = require(transaction, call)?;
        objects::remove(transaction, KIND, &config.id)?;
        Ok::<_, ApiError>(())
    })?;
    ok(&Value::Null)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::origin;
    use crate::local::{Cloud, testing::Client};

    const ALL: &str = "/accounts/local/hyperdrive/configs";

    #[tokio::test]
    async fn the_password_goes_in_and_stays() {
        let client = Client::new();
        let body = json!({"name": "db", "origin": {
            "scheme": "postgres", "host": "db.example.com", "port": 5432, "database": "main",
            "user": "me", "password": "very-secret-value",
        }});
        let made = client.ok("POST", ALL, Some(body.clone())).await;
        assert!(!made.to_string().contains("very-secret-value"));
        assert_eq!(client.fails("POST", ALL, Some(body)).await, (409, 2017));
        let id = made["result"]["id"].as_str().unwrap();
        let one = format!("{ALL}/{id}");
        let patch = json!({"origin": {"host": "other.example.com", "port": 1}});
        client.ok("PATCH", &one, Some(patch)).await;
        let cloud = Cloud::open(client.folder.path()).unwrap();
        let seen = cloud
            .control
            .run(|connection| origin(connection, id))
            .unwrap()
            .unwrap();
        assert_eq!(seen["password"], "very-secret-value");
        assert_eq!(seen["host"], "other.example.com");
        for bad in [
            json!({}),
            json!({"name": "x"}),
            json!({"name": "x", "origin": {"scheme": "ftp"}}),
        ] {
            assert_eq!(client.fails("POST", ALL, Some(bad)).await, (400, 2007));
        }
        client.ok("DELETE", &one, None).await;
        assert_eq!(client.fails("GET", &one, None).await, (404, 2006));
    }
}
