//! Settings of a script: those of its version, those its versions share, and where it is reachable.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value, json};

use super::{
    super::{
        call::{Call, into_object, now, parse_json},
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    INVALID, bindings, migrations,
    model::{self, Draft, Script, Version},
    named, store, upload,
};
use crate::local::{Cloud, control::seal_key};

/// Where Workers are reachable until somebody chooses a subdomain: `<script>.localhost`, a whole host and not a label under
/// `workers.dev`, so that clients can tell that this is not Cloudflare.
const DEFAULT_SUBDOMAIN: &str = "localhost";

fn value(script: &Script, version: &Version) -> Value {
    let mut map = upload::shown_settings(&script.settings, &version.settings);
    map.insert(
        "bindings".to_owned(),
        bindings::all_shown(&version.bindings),
    );
    map.insert("annotations".to_owned(), json!(version.annotations));
    Value::Object(map)
}

/// `GET …/settings`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let value = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        let version = model::require_latest(connection, &script.name)?;
        Ok::<_, ApiError>(value(&script, &version))
    })?;
    ok(&value)
}

/// The settings of a body: the part `settings`, or the body itself.
fn body(call: &Call) -> Result<Map<String, Value>, ApiError> {
    let Some(parts) = &call.parts else {
        return call.object(INVALID);
    };
    let part = parts
        .iter()
        .find(|part| part.name == "settings")
        .ok_or_else(|| ApiError::bad_request(INVALID, "the body has no part `settings`"))?;
    into_object(parse_json(&part.bytes, INVALID)?, INVALID)
}

fn merge(settings: &mut Map<String, Value>, change: Map<String, Value>) {
    for (name, value) in change {
        if value.is_null() {
            settings.remove(&name);
        } else {
            settings.insert(name, value);
        }
    }
}

/// The declared bindings, in which those of name and type alone, as clients send them that only add another one, stand for
/// what they were.
fn kept(declared: &Value, previous: &[Value]) -> Value {
    let mut declared = declared.clone();
    for binding in declared.as_array_mut().into_iter().flatten() {
        let same = |old: &Value| old["name"] == binding["name"] && old["type"] == binding["type"];
        if binding.as_object().is_some_and(|fields| fields.len() == 2) && previous.iter().any(same)
        {
            binding["type"] = json!("inherit");
        }
    }
    declared
}

/// `PATCH …/settings`: the same code once more with other settings, deployed at once.
pub(super) fn update(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = body(call)?;
    upload::check_settings(&body)?;
    let (value, unused) = cloud.control.write(|transaction| {
        let mut script = model::require_called(transaction, call)?;
        let mut version = model::require_latest(transaction, &script.name)?;
        merge(&mut script.settings, upload::shared(&body));
        named::check_tails(transaction, &upload::shared(&body))?;
        store::script(transaction, &script.name, &script.settings)?;
        migrations::apply(cloud, transaction, &script.name, body.get("migrations"))?;
        let versioned = upload::versioned(&body);
        let mut unused = Vec::new();
        if !versioned.is_empty() || body.contains_key("bindings") {
            let mut draft = Draft::from(transaction, &version)?;
            merge(&mut draft.settings, versioned);
            draft.annotations = upload::annotations(&body);
            if body.contains_key("bindings") {
                draft.bindings = bindings::resolve(
                    &bindings::Context {
                        connection: transaction,
                        key: seal_key(transaction)?,
                        script: &script.name,
                        previous: &version.bindings,
                        keep: upload::keep_bindings(&body),
                    },
                    body.get("bindings")
                        .map(|declared| kept(declared, &version.bindings))
                        .as_ref(),
                )?;
            }
            version = store::publish(transaction, &script.name, &draft, "settings")?;
            unused = store::prune(transaction, &script.name)?;
        }
        Ok::<_, ApiError>((value(&script, &version), unused))
    })?;
    store::sweep(cloud, &unused)?;
    cloud.control.sweep()?;
    ok(&value)
}

/// `GET …/script-settings`: what all versions share.
pub(super) fn read_script(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = cloud
        .control
        .run(|connection| model::require_called(connection, call))?;
    ok(&Value::Object(upload::shown_shared(&script.settings)))
}

/// `PATCH …/script-settings`.
pub(super) fn update_script(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = body(call)?;
    upload::check_settings(&body)?;
    let script = cloud.control.write(|transaction| {
        let mut script = model::require_called(transaction, call)?;
        merge(&mut script.settings, upload::shared(&body));
        named::check_tails(transaction, &upload::shared(&body))?;
        store::script(transaction, &script.name, &script.settings)?;
        Ok::<_, ApiError>(script)
    })?;
    ok(&Value::Object(upload::shown_shared(&script.settings)))
}

fn subdomain_value(script: &Script) -> Value {
    json!({"enabled": script.subdomain, "previews_enabled": script.previews})
}

/// `GET …/subdomain`: whether the script answers under the account's subdomain.
pub(super) fn read_subdomain(cloud: &Cloud, call: &Call) -> ApiResult {
    let script = cloud
        .control
        .run(|connection| model::require_called(connection, call))?;
    ok(&subdomain_value(&script))
}

fn set_subdomain(cloud: &Cloud, call: &Call, enabled: bool, previews: Option<bool>) -> ApiResult {
    let script = cloud.control.write(|transaction| {
        let mut script = model::require_called(transaction, call)?;
        script.subdomain = enabled;
        script.previews = previews.unwrap_or(script.previews);
        transaction.execute(
            "UPDATE scripts SET subdomain = ?2, previews = ?3, modified_at = ?4 WHERE name = ?1",
            params![script.name, script.subdomain, script.previews, now()],
        )?;
        Ok::<_, ApiError>(script)
    })?;
    ok(&subdomain_value(&script))
}

/// `POST …/subdomain`.
pub(super) fn write_subdomain(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let flag = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(ApiError::bad_request(
            INVALID,
            format!("`{name}` must be true or false"),
        )),
    };
    let enabled =
        flag("enabled")?.ok_or_else(|| ApiError::bad_request(INVALID, "`enabled` is required"))?;
    set_subdomain(cloud, call, enabled, flag("previews_enabled")?)
}

/// `DELETE …/subdomain`.
pub(super) fn delete_subdomain(cloud: &Cloud, call: &Call) -> ApiResult {
    set_subdomain(cloud, call, false, Some(false))
}

fn account_subdomain(connection: &Connection) -> Result<String, ApiError> {
    let stored: Option<String> = connection
        .query_row(
            "SELECT value FROM account WHERE name = 'subdomain'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(stored.unwrap_or_else(|| DEFAULT_SUBDOMAIN.to_owned()))
}

/// `GET …/workers/subdomain`.
pub(super) fn read_account_subdomain(cloud: &Cloud, _: &Call) -> ApiResult {
    let subdomain = cloud.control.run(account_subdomain)?;
    ok(&json!({"subdomain": subdomain}))
}

/// `PUT …/workers/subdomain`.
pub(super) fn write_account_subdomain(cloud: &Cloud, call: &Call) -> ApiResult {
    let body = call.object(INVALID)?;
    let subdomain = body
        .get("subdomain")
        .and_then(Value::as_str)
        .filter(|name| {
            let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            (1..=63).contains(&name.len())
                && name.as_bytes().first().is_some_and(plain)
                && name.as_bytes().last().is_some_and(plain)
                && name.bytes().all(|byte| plain(&byte) || byte == b'-')
        })
        .ok_or_else(|| {
            ApiError::bad_request(INVALID, "`subdomain` must be 1 to 63 of a-z, 0-9 and -")
        })?;
    cloud.control.run(|connection| {
        connection
            .execute(
                "INSERT OR REPLACE INTO account(name, value) VALUES('subdomain', ?1)",
                [subdomain],
            )
            .map_err(ApiError::from)
    })?;
    ok(&json!({"subdomain": subdomain}))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use crate::local::testing::{Client, multipart, upload};

    const SCRIPT: &str = "/accounts/local/workers/scripts/api";

    #[tokio::test]
    async fn settings_change_in_place_and_keep_the_code() {
        let client = Client::new();
        let bindings = json!([{"name": "KEY", "type": "secret_text", "text": "x"},
                              {"name": "TEXT", "type": "plain_text", "text": "t"}]);
        let metadata = json!({"bindings": bindings, "tags": ["a"], "placement": {"mode": "smart"},
                              "compatibility_date": "2026-01-01", "observability": {"enabled": true}});
        upload(&client, "api", metadata).await;
        let settings = json!({"compatibility_date": "2026-02-01",
                              "bindings": [{"name": "KEY", "type": "secret_text"},
                                           {"name": "TEXT", "type": "plain_text"}]});
        let (content_type, body) = multipart(&[("settings", "", settings.to_string().as_bytes())]);
        let (status, patched) = client
            .send(
                "PATCH",
                &format!("{SCRIPT}/settings"),
                &[("content-type", &content_type)],
                body,
            )
            .await;
        assert_eq!(status, StatusCode::OK, "{patched}");
        let read = client.ok("GET", &format!("{SCRIPT}/settings"), None).await;
        assert_eq!(read["result"], patched["result"]);
        assert_eq!(read["result"]["bindings"][1]["text"], "t");
        assert_eq!(read["result"]["compatibility_date"], "2026-02-01");
        assert_eq!(read["result"]["placement"]["mode"], "smart");
        assert_eq!(read["result"]["observability"]["enabled"], true);
        assert_eq!(read["result"]["tags"], json!(["a"]));
        assert_eq!(read["result"]["bindings"][0]["name"], "KEY");
        // Tags are shared: no new version for them, and an upload that does not mention them keeps them.
        client
            .ok(
                "PATCH",
                &format!("{SCRIPT}/script-settings"),
                Some(json!({"tags": ["b"]})),
            )
            .await;
        let versions = client.ok("GET", &format!("{SCRIPT}/versions"), None).await;
        assert_eq!(versions["result_info"]["total_count"], 2);
        upload(&client, "api", json!({})).await;
        let read = client
            .ok("GET", &format!("{SCRIPT}/script-settings"), None)
            .await;
        assert_eq!(read["result"]["tags"], json!(["b"]));
        assert_eq!(
            client
                .fails(
                    "PATCH",
                    &format!("{SCRIPT}/settings"),
                    Some(json!({"tags": 1}))
                )
                .await,
            (400, 10021)
        );
    }

    #[tokio::test]
    async fn switches_of_observability_that_were_left_out_are_shown() {
        let client = Client::new();
        let metadata = json!({"observability": {"logs": {"enabled": true}}});
        upload(&client, "api", metadata).await;
        let read = client.ok("GET", &format!("{SCRIPT}/settings"), None).await;
        let logs = json!({"enabled": true, "invocation_logs": true});
        assert_eq!(
            read["result"]["observability"],
            json!({"enabled": false, "logs": logs})
        );
    }

    #[tokio::test]
    async fn subdomains_are_switched() {
        let client = Client::new();
        let path = format!("{SCRIPT}/subdomain");
        assert_eq!(client.fails("GET", &path, None).await, (404, 10007));
        upload(&client, "api", json!({})).await;
        let body = json!({"enabled": true, "previews_enabled": true});
        client.ok("POST", &path, Some(body.clone())).await;
        assert_eq!(client.ok("GET", &path, None).await["result"], body);
        client.ok("DELETE", &path, None).await;
        assert_eq!(
            client.ok("GET", &path, None).await["result"]["enabled"],
            false
        );
        assert_eq!(
            client.fails("POST", &path, Some(json!({}))).await,
            (400, 10001)
        );
        let account = "/accounts/local/workers/subdomain";
        assert_eq!(
            client.ok("GET", account, None).await["result"]["subdomain"],
            "localhost"
        );
        client
            .ok("PUT", account, Some(json!({"subdomain": "mine"})))
            .await;
        assert_eq!(
            client.ok("GET", account, None).await["result"]["subdomain"],
            "mine"
        );
        assert_eq!(
            client
                .fails("PUT", account, Some(json!({"subdomain": "a.b"})))
                .await,
            (400, 10001)
        );
    }
}
