//! Secrets of a script: bindings that are set one by one. Each change is a new version that is deployed at once.

use serde_json::{Map, Value, json};

use super::{
    super::{
        call::Call,
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    INVALID, bindings,
    model::{self, Draft},
    store,
};
use crate::local::{Cloud, control::seal_key};

const NOT_FOUND: u32 = 10056;

fn is_secret(binding: &Value) -> bool {
    matches!(binding["type"].as_str(), Some("secret_text" | "secret_key"))
}

fn not_found(name: &str) -> ApiError {
    ApiError::not_found(NOT_FOUND, format!("Binding '{name}' not found"))
}

/// `GET …/secrets`: names and types.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let version = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        model::require_latest(connection, &script.name)
    })?;
    let items = version
        .bindings
        .iter()
        .filter(|binding| is_secret(binding))
        .map(bindings::shown)
        .collect();
    ok(&Value::Array(items))
}

/// `GET …/secrets/{secret}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let name = call.parameter("secret");
    let version = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        model::require_latest(connection, &script.name)
    })?;
    let secret = version
        .bindings
        .iter()
        .find(|binding| is_secret(binding) && binding["name"] == name);
    ok(&bindings::shown(secret.ok_or_else(|| not_found(name))?))
}

/// Publishes the newest version again with some bindings set and some removed.
fn change(cloud: &Cloud, call: &Call, set: &[Value], removed: &[&str]) -> Result<(), ApiError> {
    let unused = cloud.control.write(|transaction| {
        let script = model::require_called(transaction, call)?;
        let version = model::require_latest(transaction, &script.name)?;
        let mut draft = Draft::from(transaction, &version)?;
        let resolved = bindings::resolve(
            &bindings::Context {
                connection: transaction,
                key: seal_key(transaction)?,
                script: &script.name,
                previous: &version.bindings,
                keep: Vec::new(),
            },
            Some(&Value::Array(set.to_vec())),
        )?;
        for name in removed {
            let before = draft.bindings.len();
            draft
                .bindings
                .retain(|binding| !(is_secret(binding) && binding["name"] == *name));
            if draft.bindings.len() == before {
                return Err(not_found(name));
            }
        }
        for binding in resolved {
            draft.bindings.retain(|old| old["name"] != binding["name"]);
            draft.bindings.push(binding);
        }
        store::publish(transaction, &script.name, &draft, "secret")?;
        store::prune(transaction, &script.name)
    })?;
    store::sweep(cloud, &unused)
}

fn checked(secret: Value) -> Result<Value, ApiError> {
    if secret["name"].as_str().is_none_or(str::is_empty) {
        return Err(ApiError::bad_request(INVALID, "a secret needs a `name`"));
    }
    if !is_secret(&secret) {
        return Err(ApiError::bad_request(
            INVALID,
            "`type` must be secret_text or secret_key",
        ));
    }
    Ok(secret)
}

/// `PUT …/secrets`.
pub(super) fn write(cloud: &Cloud, call: &Call) -> ApiResult {
    let mut body = call.object(INVALID)?;
    body.entry("type").or_insert(json!("secret_text"));
    let secret = checked(Value::Object(body))?;
    let shown = json!({"name": secret["name"], "type": secret["type"]});
    change(cloud, call, &[secret], &[])?;
    ok(&shown)
}

/// `DELETE …/secrets/{secret}`.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    change(cloud, call, &[], &[call.parameter("secret")])?;
    ok(&Value::Null)
}

/// `PATCH …/secrets-bulk`: sets those given, removes those that are null.
pub(super) fn write_many(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let Some(Value::Object(given)) = body.get("secrets") else {
        return Err(ApiError::bad_request(
            INVALID,
            "`secrets` must be an object",
        ));
    };
    let mut set = Vec::new();
    let mut removed = Vec::new();
    let mut shown = Map::new();
    for (name, secret) in given {
        match secret {
            Value::Null => removed.push(name.as_str()),
            Value::Object(secret) => {
                let mut secret = secret.clone();
                secret.insert("name".to_owned(), json!(name));
                secret.entry("type").or_insert(json!("secret_text"));
                let secret = checked(Value::Object(secret))?;
                shown.insert(name.clone(), json!({"name": name, "type": secret["type"]}));
                set.push(secret);
            }
            _ => {
                return Err(ApiError::bad_request(
                    INVALID,
                    format!("secret `{name}` must be an object or null"),
                ));
            }
        }
    }
    change(cloud, call, &set, &removed)?;
    ok(&json!({"secrets": shown}))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::{
        Cloud,
        testing::{Client, upload},
    };

    #[tokio::test]
    async fn secrets_are_set_listed_and_removed() {
        let client = Client::new();
        let one = "/accounts/local/workers/scripts/api";
        let path = format!("{one}/secrets");
        let secret = json!({"name": "KEY", "text": "one", "type": "secret_text"});
        assert_eq!(
            client.fails("PUT", &path, Some(secret.clone())).await,
            (404, 10007)
        );
        let plain = json!([{"name": "A", "type": "plain_text", "text": "a"}]);
        upload(&client, "api", json!({"bindings": plain})).await;
        client.ok("PUT", &path, Some(secret)).await;
        let bulk = json!({"secrets": {"TWO": {"text": "two"}, "KEY": null}});
        client
            .ok("PATCH", &format!("{one}/secrets-bulk"), Some(bulk))
            .await;
        let list = client.ok("GET", &path, None).await;
        assert_eq!(
            list["result"],
            json!([{"name": "TWO", "type": "secret_text"}])
        );
        let cloud = Cloud::open(client.folder.path()).unwrap();
        let bindings = cloud.worker_bindings("api").unwrap().unwrap();
        assert_eq!(bindings.len(), 2);
        assert_eq!(bindings[1]["text"], "two");
        let versions = client.ok("GET", &format!("{one}/versions"), None).await;
        assert_eq!(versions["result_info"]["total_count"], 3);
        client.ok("GET", &format!("{path}/TWO"), None).await;
        client
            .ok("DELETE", &format!("{path}/TWO?url_encoded=true"), None)
            .await;
        assert_eq!(
            client.fails("DELETE", &format!("{path}/TWO"), None).await,
            (404, 10056)
        );
        assert_eq!(
            client.fails("GET", &format!("{path}/A"), None).await,
            (404, 10056)
        );
        for body in [
            json!({}),
            json!({"name": "X", "type": "plain_text", "text": ""}),
        ] {
            assert_eq!(client.fails("PUT", &path, Some(body)).await, (400, 10001));
        }
    }
}
