//! Tunnels that `cloudflared` opens: the control plane. Nothing connects to them in the local cloud.

use std::sync::Arc;

use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    account_path,
    call::{Call, now, run},
    envelope::{ApiResult, ok, ok_with_info},
    error::ApiError,
    page::Page,
};
use crate::local::{
    Cloud,
    control::ControlError,
    objects::{self, Object},
};

const KIND: &str = "cfd_tunnel";
const SECRET: &str = "tunnel_secret";
const CONFIG: &str = "config";
const VERSION: &str = "version";
const REMOTE: &str = "remote_config";
const INVALID: u32 = 1001;
const NOT_FOUND: u32 = 1003;
const EXISTS: u32 = 1013;
const BAD_CONFIG: u32 = 1056;
/// Fewest bytes of a secret.
const SECRET_BYTES: usize = 32;

pub(super) fn routes() -> Router<Arc<Cloud>> {
    let all = account_path("cfd_tunnel");
    let one = format!("{all}/{{tunnel}}");
    Router::new()
        .route(&all, get(run(list)).post(run(create)))
        .route(&one, get(run(read)).patch(run(update)).delete(run(delete)))
        .route(&format!("{one}/token"), get(run(token)))
        .route(
            &format!("{one}/configurations"),
            get(run(configuration)).put(run(configure)),
        )
}

fn value(cloud: &Cloud, tunnel: &Object) -> Value {
    json!({
        "id": tunnel.id,
        "account_tag": cloud.account(),
        "name": tunnel.name,
        "created_at": tunnel.created_at,
        "deleted_at": null,
        "connections": [],
        "tun_type": "cfd_tunnel",
        "metadata": {},
        "status": "inactive",
        "remote_config": tunnel.body.get(REMOTE),
        "config_src": match tunnel.body.get(REMOTE) {
            Some(Value::Bool(true)) => "cloudflare",
            _ => "local",
        },
    })
}

fn require(connection: &Connection, call: &Call) -> Result<Object, ApiError> {
    objects::get(connection, KIND, call.parameter("tunnel"))?
        .ok_or_else(|| ApiError::not_found(NOT_FOUND, "Tunnel not found"))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(INVALID, message)
}

fn taken() -> ApiError {
    ApiError::conflict(
        EXISTS,
        "You already have a tunnel with this name. Delete it or choose another name",
    )
}

/// Lays name and secret of a body over a tunnel.
fn merge(
    connection: &Connection,
    tunnel: &mut Object,
    body: &Map<String, Value>,
) -> Result<(), ApiError> {
    if let Some(name) = body.get("name") {
        name.as_str()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| invalid("`name` must be text"))?
            .clone_into(&mut tunnel.name);
    }
    if let Some(secret) = body.get(SECRET) {
        let text = secret.as_str().unwrap_or_default();
        let long = |bytes: Vec<u8>| bytes.len() >= SECRET_BYTES;
        if !STANDARD.decode(text).is_ok_and(long) {
            return Err(invalid(format!(
                "`tunnel_secret` must be at least {SECRET_BYTES} bytes in base64"
            )));
        }
        tunnel.hide(connection, SECRET, text)?;
    }
    Ok(())
}

/// What `cloudflared` is started with.
fn token_of(
    cloud: &Cloud,
    connection: &Connection,
    tunnel: &Object,
) -> Result<String, ControlError> {
    let secret = tunnel.reveal(connection, SECRET)?;
    let parts = json!({"a": cloud.account(), "t": tunnel.id, "s": secret});
    Ok(STANDARD.encode(parts.to_string()))
}

fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let remote = match body.get("config_src").and_then(Value::as_str) {
        None | Some("local") => false,
        Some("cloudflare") => true,
        Some(_) => return Err(invalid("`config_src` must be local or cloudflare")),
    };
    let fields = Map::from_iter([(REMOTE.to_owned(), json!(remote))]);
    let id = uuid::Uuid::new_v4().to_string();
    let mut tunnel = Object::new(id, "", "", fields, now());
    let token = cloud.control.write(|transaction| {
        let made: [u8; SECRET_BYTES] = rand::random();
        tunnel.hide(transaction, SECRET, &STANDARD.encode(made))?;
        merge(transaction, &mut tunnel, &body)?;
        if tunnel.name.is_empty() {
            return Err(invalid("`name` is required"));
        }
        if !objects::insert(transaction, KIND, &tunnel)? {
            return Err(taken());
        }
        Ok(token_of(cloud, transaction, &tunnel)?)
    })?;
    let mut value = value(cloud, &tunnel);
    value["token"] = json!(token);
    ok(&value)
}

fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let page = Page::of(call, 20, 1000, INVALID)?;
    let name = call.query("name");
    let mut tunnels = cloud
        .control
        .run(|connection| Ok::<_, ApiError>(objects::below(connection, KIND, "")?))?;
    // Deleted ones are forgotten.
    if call.flag("is_deleted") {
        tunnels.clear();
    }
    let matching = tunnels
        .iter()
        .filter(|tunnel| name.is_none_or(|name| tunnel.name == name));
    let (items, info) = page.cut(matching.map(|tunnel| value(cloud, tunnel)).collect());
    ok_with_info(&Value::Array(items), &info)
}

fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let tunnel = cloud.control.run(|connection| require(connection, call))?;
    ok(&value(cloud, &tunnel))
}

fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let tunnel = cloud.control.write(|transaction| {
        let mut tunnel = require(transaction, call)?;
        merge(transaction, &mut tunnel, &body)?;
        tunnel.modified_at = now();
        if !objects::update(transaction, &tunnel)? {
            return Err(taken());
        }
        Ok(tunnel)
    })?;
    ok(&value(cloud, &tunnel))
}

fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let tunnel = cloud.control.write(|transaction| {
        let tunnel = require(transaction, call)?;
        objects::remove(transaction, KIND, &tunnel.id)?;
        Ok::<_, ApiError>(tunnel)
    })?;
    let mut value = value(cloud, &tunnel);
    value["deleted_at"] = json!(now());
    ok(&value)
}

fn token(cloud: &Cloud, call: &Call) -> ApiResult {
    let token = cloud.control.run(|connection| {
        let tunnel = require(connection, call)?;
        Ok::<_, ApiError>(token_of(cloud, connection, &tunnel)?)
    })?;
    ok(&json!(token))
}

fn configuration_value(cloud: &Cloud, tunnel: &Object) -> Value {
    json!({
        "tunnel_id": tunnel.id,
        "account_id": cloud.account(),
        "version": tunnel.body.get(VERSION).and_then(Value::as_u64).unwrap_or_default(),
        "config": tunnel.body.get(CONFIG),
        "source": "cloudflare",
        "created_at": tunnel.modified_at,
    })
}

fn configuration(cloud: &Cloud, call: &Call) -> ApiResult {
    let tunnel = cloud.control.run(|connection| require(connection, call))?;
    ok(&configuration_value(cloud, &tunnel))
}

/// The last rule of `ingress` must fit every request.
fn fits_everything(config: &Map<String, Value>) -> bool {
    let Some(rules) = config.get("ingress") else {
        return true;
    };
    let last = rules.as_array().and_then(|rules| rules.last());
    let empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    last.is_some_and(|rule| {
        let everything = empty(&rule["hostname"]) && empty(&rule["path"]);
        everything && !empty(&rule["service"])
    })
}

fn configure(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let config = body
        .get(CONFIG)
        .and_then(Value::as_object)
        .filter(|config| fits_everything(config))
        .ok_or_else(|| {
            let message = "Bad Configuration: the last ingress rule must match all URLs";
            ApiError::bad_request(BAD_CONFIG, message)
        })?;
    let tunnel = cloud.control.write(|transaction| {
        let mut tunnel = require(transaction, call)?;
        let version = tunnel.body.get(VERSION).and_then(Value::as_u64);
        let version = version.unwrap_or_default().saturating_add(1);
        tunnel.body.insert(VERSION.to_owned(), json!(version));
        tunnel.body.insert(CONFIG.to_owned(), json!(config));
        tunnel.modified_at = now();
        objects::update(transaction, &tunnel)?;
        Ok::<_, ApiError>(tunnel)
    })?;
    ok(&configuration_value(cloud, &tunnel))
}
