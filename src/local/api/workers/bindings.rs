//! Bindings of a version: checked, resolved against the previous version, secrets sealed.
//!
//! A stored binding is what the client sent, except that secret fields are encrypted under `sealed`. Answers never hold
//! them.

use std::collections::HashSet;

use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::is_hex_id, d1, error::ApiError, hyperdrive, kv, queues, r2, secrets_store, vectorize,
    },
    REFUSED, migrations, model,
};
use crate::local::seal;

const NOT_INHERITED: u32 = 10057;
const BINDINGS_LIMIT: usize = 1000;
const SEALED: &str = "sealed";

/// What bindings are resolved against.
pub(super) struct Context<'a> {
    pub(super) connection: &'a Connection,
    pub(super) key: [u8; 32],
    /// The script that is bound; it may bind itself.
    pub(super) script: &'a str,
    /// The bindings of the version before.
    pub(super) previous: &'a [Value],
    /// The types whose previous bindings stay when they are not declared.
    pub(super) keep: Vec<String>,
}

/// The fields of a type that hold secrets.
fn secret_fields(kind: &str) -> &'static [&'static str] {
    match kind {
        "secret_text" => &["text"],
        "secret_key" => &["key_base64", "key_jwk"],
        _ => &[],
    }
}

/// The fields that a type must have, as strings; none for types that are not known.
fn required_fields(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "plain_text" | "secret_text" => &["text"],
        "kv_namespace" => &["namespace_id"],
        "r2_bucket" => &["bucket_name"],
        "queue" => &["queue_name"],
        "service" => &["service"],
        "durable_object_namespace" => &["class_name"],
        "workflow" => &["workflow_name"],
        "hyperdrive" => &["id"],
        "vectorize" => &["index_name"],
        "analytics_engine" => &["dataset"],
        "dispatch_namespace" => &["namespace"],
        "mtls_certificate" => &["certificate_id"],
        "secrets_store_secret" => &["store_id", "secret_name"],
        "secret_key" => &["format"],
        "wasm_module" | "text_blob" | "data_blob" => &["part"],
        "d1"
        | "json"
        | "ai"
        | "browser"
        | "images"
        | "media"
        | "stream"
        | "version_metadata"
        | "send_email"
        | "pipelines"
        | "ratelimit"
        | "vpc_service"
        | "vpc_network"
        | "worker_loader"
        | "ai_search"
        | "ai_search_namespace"
        | "flagship"
        | "artifacts"
        | "assets"
        | "logfwdr" => &[],
        _ => return None,
    })
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::bad_request(REFUSED, message)
}

/// Checks and resolves the `bindings` of an upload.
pub(super) fn resolve(
    context: &Context<'_>,
    declared: Option<&Value>,
) -> Result<Vec<Value>, ApiError> {
    let declared = match declared {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(declared)) => declared,
        Some(_) => return Err(refused("`bindings` must be an array")),
    };
    if declared.len() > BINDINGS_LIMIT {
        return Err(refused(format!("more than {BINDINGS_LIMIT} bindings")));
    }
    let mut names = HashSet::new();
    let mut resolved = Vec::new();
    for binding in declared {
        let Value::Object(binding) = binding else {
            return Err(refused("a binding must be an object"));
        };
        let name = string(binding, "name")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| refused("a binding needs a `name`"))?;
        if !names.insert(name) {
            return Err(refused(format!("binding `{name}` is declared twice")));
        }
        resolved.push(one(context, name, binding)?);
    }
    for old in context.previous {
        let kept = old["type"]
            .as_str()
            .is_some_and(|kind| context.keep.iter().any(|keep| keep == kind));
        let name = old["name"].as_str().unwrap_or_default();
        if kept && !names.contains(name) {
            resolved.push(old.clone());
        }
    }
    Ok(resolved)
}

fn one(context: &Context<'_>, name: &str, binding: &Map<String, Value>) -> Result<Value, ApiError> {
    let kind = string(binding, "type")
        .ok_or_else(|| refused(format!("binding `{name}` needs a `type`")))?;
    if kind == "inherit" {
        return inherited(context, name, binding);
    }
    let secrets = secret_fields(kind);
    let has_value = secrets
        .iter()
        .any(|field| binding.get(*field).is_some_and(|value| !value.is_null()));
    if !secrets.is_empty() && !has_value {
        // Name and type alone keep the value of before.
        return context
            .previous
            .iter()
            .find(|old| old["name"] == name && old["type"] == kind)
            .cloned()
            .ok_or_else(|| {
                refused(format!(
                    "binding `{name}` of type {kind} must have a value: there is none to keep"
                ))
            });
    }
    let required = required_fields(kind)
        .ok_or_else(|| refused(format!("binding `{name}` has an unknown type `{kind}`")))?;
    for field in required {
        if string(binding, field).is_none_or(|text| text.is_empty() && *field != "text") {
            return Err(refused(format!(
                "binding `{name}` of type {kind} must have a valid `{field}` specified"
            )));
        }
    }
    let mut binding = binding.clone();
    match kind {
        "d1" => {
            let id = string(&binding, "id")
                .or(string(&binding, "database_id"))
                .ok_or_else(|| {
                    refused(format!(
                        "binding `{name}` of type d1 must have a valid `id` specified"
                    ))
                })?
                .to_owned();
            binding.insert("id".to_owned(), json!(id));
            binding.insert("database_id".to_owned(), json!(id));
        }
        "json" if !binding.contains_key("json") => {
            return Err(refused(format!(
                "binding `{name}` of type json must have `json`"
            )));
        }
        _ => {}
    }
    check_target(context, name, kind, &binding)?;
    if kind == "durable_object_namespace" {
        let class = string(&binding, "class_name").unwrap_or_default();
        let script = object_script(context, &binding);
        if let Some(namespace) = migrations::namespace(context.connection, script, class)? {
            // The id stays when the class gets another name.
            binding.insert("namespace_id".to_owned(), json!(namespace.id));
        }
    }
    seal_fields(context, &mut binding, secrets);
    Ok(Value::Object(binding))
}

fn inherited(
    context: &Context<'_>,
    name: &str,
    binding: &Map<String, Value>,
) -> Result<Value, ApiError> {
    let old_name = string(binding, "old_name").unwrap_or(name);
    let mut old = context
        .previous
        .iter()
        .find(|old| old["name"] == old_name)
        .cloned()
        .ok_or_else(|| {
            ApiError::bad_request(
                NOT_INHERITED,
                format!(
                    "binding `{name}` cannot be inherited: the previous version has no `{old_name}`"
                ),
            )
        })?;
    old["name"] = json!(name);
    Ok(old)
}

/// The script whose Durable Objects are bound.
fn object_script<'a>(context: &Context<'a>, binding: &'a Map<String, Value>) -> &'a str {
    string(binding, "script_name")
        .filter(|script| !script.is_empty())
        .unwrap_or(context.script)
}

fn string<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    map.get(field).and_then(Value::as_str)
}

/// What a binding names must exist.
fn check_target(
    context: &Context<'_>,
    name: &str,
    kind: &str,
    binding: &Map<String, Value>,
) -> Result<(), ApiError> {
    let connection = context.connection;
    let field = |field| string(binding, field).unwrap_or_default();
    let (found, code, what) = match kind {
        "kv_namespace" => {
            let id = field("namespace_id");
            let found = is_hex_id(id) && kv::exists(connection, id)?;
            (found, 10041, format!("KV namespace '{id}' not found"))
        }
        "d1" => {
            let id = field("id");
            let found = d1::exists(connection, id)?;
            (found, 10181, format!("D1 database '{id}' not found"))
        }
        "r2_bucket" => {
            let bucket = field("bucket_name");
            let jurisdiction = string(binding, "jurisdiction")
                .filter(|name| !name.is_empty())
                .unwrap_or("default");
            let found = r2::exists(connection, jurisdiction, bucket)?;
            (found, 10085, format!("R2 bucket '{bucket}' not found"))
        }
        "queue" => {
            let queue = field("queue_name");
            let found = queues::exists(connection, queue)?;
            (found, 11000, format!("Queue '{queue}' not found"))
        }
        "service" => {
            let service = field("service");
            let found = service == context.script || model::script(connection, service)?.is_some();
            let what = format!(
                "Could not resolve service binding '{name}'. Target script '{service}' not found."
            );
            (found, 10144, what)
        }
        "durable_object_namespace" => {
            let (script, class) = (object_script(context, binding), field("class_name"));
            let what = format!(
                "Cannot create binding for class '{class}' because script '{script}' has no Durable Objects of it. \
                 Did you forget to apply migrations?"
            );
            let found = migrations::namespace(connection, script, class)?.is_some();
            (found, 10061, what)
        }
        "hyperdrive" => {
            let found = hyperdrive::exists(connection, field("id"))?;
            (found, 10157, "Hyperdrive config not found".to_owned())
        }
        "vectorize" => {
            let found = vectorize::exists(connection, field("index_name"))?;
            (found, 10159, "Vectorize index not found".to_owned())
        }
        "secrets_store_secret" => {
            let found = secrets_store::exists(connection, field("store_id"), field("secret_name"))?;
            (found, 10182, "secret of the store not found".to_owned())
        }
        "dispatch_namespace" => (false, 100_119, "dispatch namespace not found".to_owned()),
        "mtls_certificate" => (false, 100_143, "mTLS certificate not found".to_owned()),
        _ => return Ok(()),
    };
    if found {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            code,
            format!("binding `{name}`: {what}"),
        ))
    }
}

fn seal_fields(context: &Context<'_>, binding: &mut Map<String, Value>, fields: &[&str]) {
    let mut sealed = Map::new();
    for field in fields {
        if let Some(value) = binding.remove(*field) {
            // JSON, because a key may be an object.
            let text = value.to_string();
            sealed.insert((*field).to_owned(), json!(seal::seal(&context.key, &text)));
        }
    }
    binding.remove(SEALED);
    if !sealed.is_empty() {
        binding.insert(SEALED.to_owned(), Value::Object(sealed));
    }
}

/// A binding as answers show it: without secrets.
pub(super) fn shown(binding: &Value) -> Value {
    let mut binding = binding.clone();
    if let Value::Object(map) = &mut binding {
        map.remove(SEALED);
    }
    binding
}

/// Bindings as answers show them.
pub(super) fn all_shown(bindings: &[Value]) -> Value {
    Value::Array(bindings.iter().map(shown).collect())
}

/// A binding with its secrets, for the runtime; none when they cannot be decrypted.
pub(in crate::local) fn revealed(key: &[u8; 32], binding: &Value) -> Option<Value> {
    let mut shown = shown(binding);
    if let Some(Value::Object(sealed)) = binding.get(SEALED) {
        for (field, value) in sealed {
            let text = seal::unseal(key, value.as_str()?)?;
            shown[field] = serde_json::from_str(&text).ok()?;
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::local::{
        Cloud,
        testing::{Client, code, try_upload, upload},
    };

    const SCRIPT: &str = "/accounts/local/workers/scripts/api";

    async fn bindings(client: &Client) -> Value {
        client.ok("GET", &format!("{SCRIPT}/settings"), None).await["result"]["bindings"].clone()
    }

    #[tokio::test]
    async fn targets_must_exist() {
        let client = Client::new();
        for (binding, expected) in [
            (
                json!({"type": "kv_namespace", "namespace_id": "0".repeat(32)}),
                10041,
            ),
            (json!({"type": "d1", "id": "x"}), 10181),
            (json!({"type": "r2_bucket", "bucket_name": "x"}), 10085),
            (json!({"type": "queue", "queue_name": "x"}), 11000),
            (json!({"type": "service", "service": "x"}), 10144),
            (
                json!({"type": "durable_object_namespace", "class_name": "X"}),
                10061,
            ),
            (json!({"type": "inherit"}), 10057),
            (json!({"type": "unheard-of"}), 10021),
            (json!({"type": "d1"}), 10021),
            (json!({"type": "secret_text"}), 10021),
            (json!({"type": "plain_text"}), 10021),
            (json!({}), 10021),
        ] {
            let mut binding = binding;
            binding["name"] = json!("B");
            let (status, body) = try_upload(&client, "api", json!({"bindings": [binding]})).await;
            assert_eq!((status.as_u16(), code(&body)), (400, expected), "{body}");
        }
        // A refused upload leaves no script behind.
        assert_eq!(
            client
                .fails("GET", &format!("{SCRIPT}/settings"), None)
                .await,
            (404, 10007)
        );
    }

    #[tokio::test]
    async fn bound_targets_are_answered() {
        let client = Client::new();
        let account = "/accounts/local";
        let database = client
            .ok(
                "POST",
                &format!("{account}/d1/database"),
                Some(json!({"name": "a"})),
            )
            .await["result"]["uuid"]
            .clone();
        let namespace = client
            .ok(
                "POST",
                &format!("{account}/storage/kv/namespaces"),
                Some(json!({"title": "a"})),
            )
            .await["result"]["id"]
            .clone();
        client
            .ok(
                "POST",
                &format!("{account}/r2/buckets"),
                Some(json!({"name": "aaa"})),
            )
            .await;
        let queue = client
            .ok(
                "POST",
                &format!("{account}/queues"),
                Some(json!({"queue_name": "a"})),
            )
            .await["result"]["queue_id"]
            .clone();
        let bindings = json!([
            {"name": "DB", "type": "d1", "id": database},
            {"name": "KV", "type": "kv_namespace", "namespace_id": namespace},
            {"name": "R2", "type": "r2_bucket", "bucket_name": "aaa"},
            {"name": "Q", "type": "queue", "queue_name": "a"},
            {"name": "SELF", "type": "service", "service": "api"},
            {"name": "J", "type": "json", "json": {"a": [1]}},
        ]);
        upload(&client, "api", json!({"bindings": bindings})).await;
        let got = self::bindings(&client).await;
        assert_eq!(got.as_array().map(Vec::len), Some(6));
        assert_eq!(got[0]["database_id"], database);
        let queue = client
            .ok(
                "GET",
                &format!("{account}/queues/{}", queue.as_str().unwrap()),
                None,
            )
            .await;
        assert_eq!(
            queue["result"]["producers"],
            json!([{"type": "worker", "script": "api"}])
        );
    }

    #[tokio::test]
    async fn secrets_are_kept_and_never_shown() {
        let client = Client::new();
        let secret = "very-secret-value";
        let bindings = json!([
            {"name": "KEY", "type": "secret_text", "text": secret},
            {"name": "TEXT", "type": "plain_text", "text": ""},
        ]);
        let metadata = json!({"bindings": bindings});
        let answer = upload(&client, "api", metadata).await;
        assert!(!answer.to_string().contains(secret));
        assert_eq!(
            self::bindings(&client).await[0],
            json!({"name": "KEY", "type": "secret_text"})
        );
        upload(&client, "api", json!({"keep_bindings": ["secret_text"]})).await;
        let inherit = json!([{"name": "KEY2", "type": "inherit", "old_name": "KEY"}]);
        let inherit = json!({"bindings": inherit, "keep_bindings": []});
        upload(&client, "api", inherit).await;
        let cloud = Cloud::open(client.folder.path()).unwrap();
        let revealed = cloud.worker_bindings("api").unwrap().unwrap();
        assert_eq!(
            revealed,
            [json!({"name": "KEY2", "type": "secret_text", "text": secret})]
        );
        for path in walkdir::WalkDir::new(client.folder.path()) {
            let path = path.unwrap();
            if path.file_type().is_file() {
                let bytes = crate::util::fs::read(path.path()).unwrap();
                assert!(
                    !bytes
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes()),
                    "{path:?}"
                );
            }
        }
        upload(&client, "api", json!({})).await;
        assert_eq!(self::bindings(&client).await[0]["name"], "KEY2");
        upload(&client, "api", json!({"keep_bindings": []})).await;
        assert_eq!(self::bindings(&client).await, json!([]));
    }
}
