//! Scripts: upload, list, download, delete, and the `services` view of the same objects.

use serde_json::{Map, Value, json};

use super::{
    super::{
        call::Call,
        envelope::{self, ApiResult, ok},
        error::ApiError,
        queue_consumers, zones,
    },
    assets, bindings, migrations,
    model::{self, Draft, Format, Script, Version, bound},
    named, store, upload,
};
use crate::{
    local::{Cloud, control::seal_key, layout},
    util::fs,
};

const BAD_NAME: u32 = 10016;
const IS_CONSUMER: u32 = 10064;
const IS_BOUND: u32 = 10142;
const NO_SERVICE: u32 = 10090;
const NAME_LIMIT: usize = 63;

pub(super) fn valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    bytes.len() <= NAME_LIMIT
        && bytes.first().is_some_and(plain)
        && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
}

/// A script with one of its versions, as answers show it.
pub(super) fn summary(script: &Script, version: Option<&Version>) -> Map<String, Value> {
    let none = Map::new();
    let versioned = version.map_or(&none, |version| &version.settings);
    let mut map = upload::shown_settings(&script.settings, versioned);
    map.insert("id".to_owned(), json!(script.name));
    map.insert("tag".to_owned(), json!(script.tag));
    map.insert("created_on".to_owned(), json!(script.created_at));
    map.insert("modified_on".to_owned(), json!(script.modified_at));
    map.insert("has_assets".to_owned(), json!(false));
    if let Some(tag) = &script.migration_tag {
        map.insert("migration_tag".to_owned(), json!(tag));
    }
    if let Some(version) = version {
        map.insert("etag".to_owned(), json!(version.etag));
        map.insert("last_deployed_from".to_owned(), json!(version.source));
        map.insert(
            "has_modules".to_owned(),
            json!(version.format == Format::Modules),
        );
    }
    map
}

/// `PUT …/scripts/{script}`: a new version, and all requests to it.
pub(super) fn put(cloud: &Cloud, call: &Call) -> ApiResult {
    let name = call.parameter("script");
    if !valid_name(name) {
        return Err(ApiError::bad_request(
            BAD_NAME,
            format!("invalid script name `{name}`: 1 to {NAME_LIMIT} of a-z, 0-9, _ and -"),
        ));
    }
    let upload = upload::read(call)?;
    let (script, version, unused, has_assets) = cloud.control.write(|transaction| {
        let old = model::script(transaction, name)?;
        let previous = model::latest_version(transaction, name)?;
        let mut shared = upload::shared(&upload.metadata);
        // Tags that are not mentioned stay, as they mark whose script it is.
        if !shared.contains_key("tags")
            && let Some(tags) = old.as_ref().and_then(|script| script.settings.get("tags"))
        {
            shared.insert("tags".to_owned(), tags.clone());
        }
        store::script(transaction, name, &shared)?;
        named::check_tails(transaction, &shared)?;
        named::check_classes(&upload)?;
        migrations::apply(cloud, transaction, name, upload.metadata.get("migrations"))?;
        let bindings = bindings::resolve(
            &bindings::Context {
                connection: transaction,
                key: seal_key(transaction)?,
                script: name,
                previous: previous.as_ref().map_or(&[], |version| &version.bindings),
                keep: upload::keep_bindings(&upload.metadata),
            },
            upload.metadata.get("bindings"),
        )?;
        store::contents(cloud, &upload.contents)?;
        let before = previous.as_ref().map(|version| version.id.as_str());
        let assets = assets::of_upload(transaction, name, &upload.metadata, before)?;
        let draft = Draft {
            source: upload::source(call),
            ..upload.draft(bindings, assets)
        };
        let version = store::publish(transaction, name, &draft, "upload")?;
        let unused = store::prune(transaction, name)?;
        let script = model::require(transaction, name)?;
        let has_assets = draft.assets.is_some();
        Ok::<_, ApiError>((script, version, unused, has_assets))
    })?;
    store::sweep(cloud, &unused)?;
    cloud.control.sweep()?;
    let mut map = summary(&script, Some(&version));
    map.insert("has_assets".to_owned(), json!(has_assets));
    map.insert(
        "deployment_id".to_owned(),
        json!(version.id.replace('-', "")),
    );
    map.insert("entry_point".to_owned(), json!(version.entry));
    map.insert("startup_time_ms".to_owned(), json!(0));
    ok(&Value::Object(map))
}

/// `GET …/scripts`.
pub(super) fn list(cloud: &Cloud, _: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        model::all(connection)?
            .iter()
            .map(|script| {
                let version = model::active_version(connection, &script.name)?;
                let has_assets = match &version {
                    Some(version) => assets::has(connection, &version.id)?,
                    None => false,
                };
                let mut summary = summary(script, version.as_ref());
                summary.insert("has_assets".to_owned(), json!(has_assets));
                Ok::<_, ApiError>(Value::Object(summary))
            })
            .collect::<Result<Vec<_>, _>>()
    })?;
    ok(&Value::Array(items))
}

/// `GET …/scripts/{script}` and `…/content/v2`: the modules of the active version.
pub(super) fn content(cloud: &Cloud, call: &Call) -> ApiResult {
    let (version, modules) = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        let version = match model::active_version(connection, &script.name)? {
            Some(version) => version,
            None => model::require_latest(connection, &script.name)?,
        };
        let modules = model::modules(connection, &version.id)?;
        Ok::<_, ApiError>((version, modules))
    })?;
    let folder = layout::modules_folder(&cloud.folder);
    if version.format == Format::Script
        && let [module] = &modules[..]
    {
        let content = fs::read(&folder.join(&module.hash))?;
        return Ok(envelope::bytes("application/javascript", content));
    }
    let boundary = format!("alch-{}", &version.etag[..32.min(version.etag.len())]);
    let mut body = Vec::new();
    for module in &modules {
        let content = fs::read(&folder.join(&module.hash))?;
        let name = quoted(&module.name);
        body.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
                 Content-Type: {}\r\n\r\n",
                module.content_type
            )
            .bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    let mut response = envelope::bytes(&format!("multipart/form-data; boundary={boundary}"), body);
    let headers = response.headers_mut();
    for (name, value) in [
        ("cf-entrypoint", version.entry.as_str()),
        ("etag", &version.etag),
    ] {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// A name inside the quotes of a header.
fn quoted(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// `DELETE …/scripts/{script}` and `…/services/{script}`.
pub(super) fn delete(cloud: &Cloud, call: &Call) -> ApiResult {
    let force = call.flag("force");
    let hashes = cloud.control.write(|transaction| {
        let script = model::require_called(transaction, call)?;
        if !force {
            refuse_in_use(transaction, &script.name)?;
        }
        let mut statement = transaction.prepare(
            "SELECT DISTINCT hash FROM version_modules JOIN versions ON versions.id = version WHERE script = ?1",
        )?;
        let hashes = statement
            .query_map([&script.name], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        let namespaces = migrations::namespaces(transaction, &script.name)?;
        transaction.execute("DELETE FROM queue_consumers WHERE script = ?1", [&script.name])?;
        transaction.execute("DELETE FROM scripts WHERE name = ?1", [&script.name])?;
        zones::forget_script(transaction, &script.name)?;
        let ids = namespaces.iter().map(|namespace| &namespace.id);
        migrations::discard(cloud, transaction, ids)?;
        Ok::<_, ApiError>(hashes)
    })?;
    store::sweep(cloud, &hashes)?;
    assets::sweep(cloud)?;
    cloud.control.sweep()?;
    ok(&Value::Null)
}

fn refuse_in_use(connection: &rusqlite::Connection, name: &str) -> Result<(), ApiError> {
    if let Some(consumer) = queue_consumers::of_script(connection, name)?.first() {
        return Err(ApiError::bad_request(
            IS_CONSUMER,
            format!(
                "Cannot delete this Worker as it is a consumer of queue {}.",
                consumer["queue_name"]
            ),
        ));
    }
    let users: Vec<String> = bound(connection, "service", "service", name)?
        .into_iter()
        .filter(|user| user != name)
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(
        IS_BOUND,
        format!(
            "Cannot delete this Worker as it is still referenced by service bindings of {}.",
            users.join(", ")
        ),
    ))
}

/// `GET …/scripts/{script}/queue-consumers`.
pub(super) fn queue_consumers(cloud: &Cloud, call: &Call) -> ApiResult {
    let items = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        queue_consumers::of_script(connection, &script.name)
    })?;
    ok(&Value::Array(items))
}

/// `GET …/services/{script}`: how clients look whether a script exists.
pub(super) fn service(cloud: &Cloud, call: &Call) -> ApiResult {
    let name = call.parameter("script");
    let value = cloud.control.run(|connection| {
        let Some(script) = model::script(connection, name)? else {
            return Err(ApiError::not_found(
                NO_SERVICE,
                "This Worker does not exist on your account.",
            ));
        };
        let version = model::active_version(connection, name)?;
        let environment = json!({
            "environment": "production",
            "created_on": script.created_at,
            "modified_on": script.modified_at,
            "script": summary(&script, version.as_ref()),
        });
        Ok(json!({
            "id": script.name,
            "default_environment": environment,
            "created_on": script.created_at,
            "modified_on": script.modified_at,
            "usage_model": "standard",
            "environments": [environment],
        }))
    })?;
    ok(&value)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use crate::local::{
        layout,
        testing::{Client, code, multipart, try_upload, upload},
    };

    const SCRIPTS: &str = "/accounts/local/workers/scripts";

    #[tokio::test]
    async fn an_upload_is_stored_whole_and_deleted_whole() {
        let client = Client::new();
        let metadata = json!({"main_module": "index.js", "compatibility_date": "2026-01-01",
                              "tags": ["alch:app/dev/api"]});
        let (content_type, body) = multipart(&[
            ("metadata", "", metadata.to_string().as_bytes()),
            (
                "index.js",
                "application/javascript+module",
                b"import './lib/a.wasm'",
            ),
            ("lib/a.wasm", "application/wasm", b"\0asm"),
        ]);
        let one = format!("{SCRIPTS}/api");
        let (status, put) = client
            .send("PUT", &one, &[("content-type", &content_type)], body)
            .await;
        assert_eq!(status.as_u16(), 200, "{put}");
        assert_eq!(put["result"]["tags"], json!(["alch:app/dev/api"]));
        assert_eq!(put["result"]["has_modules"], true);
        let got = client
            .raw("GET", &format!("{one}/content/v2"), &[], Vec::new())
            .await;
        assert_eq!(got.headers()["cf-entrypoint"], "index.js");
        let bytes = to_bytes(got.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("filename=\"lib/a.wasm\"\r\nContent-Type: application/wasm\r\n\r\n\0asm")
        );
        let service = client
            .ok("GET", "/accounts/local/workers/services/api", None)
            .await;
        assert_eq!(
            service["result"]["default_environment"]["script"]["tags"],
            json!(["alch:app/dev/api"])
        );
        upload(&client, "other", json!({})).await;
        let list = client.ok("GET", SCRIPTS, None).await;
        assert_eq!(list["result"][0]["id"], "api");
        assert_eq!(list["result"].as_array().map(Vec::len), Some(2));
        let folder = layout::modules_folder(client.folder.path());
        assert_eq!(crate::util::fs::list(&folder).unwrap().len(), 3);
        client.ok("DELETE", &one, None).await;
        assert_eq!(crate::util::fs::list(&folder).unwrap().len(), 1);
        assert_eq!(client.fails("GET", &one, None).await, (404, 10007));
        assert_eq!(client.fails("DELETE", &one, None).await, (404, 10007));
        assert_eq!(
            client
                .fails("GET", "/accounts/local/workers/services/api", None)
                .await,
            (404, 10090)
        );
    }

    #[tokio::test]
    async fn a_bound_worker_is_deleted_by_force_only() {
        let client = Client::new();
        upload(&client, "auth", json!({})).await;
        let bindings = json!([{"name": "AUTH", "type": "service", "service": "auth"}]);
        upload(&client, "api", json!({"bindings": bindings})).await;
        let auth = format!("{SCRIPTS}/auth");
        assert_eq!(client.fails("DELETE", &auth, None).await, (400, 10142));
        client
            .ok("DELETE", &format!("{auth}?force=true"), None)
            .await;
    }

    #[tokio::test]
    async fn bad_uploads_are_refused() {
        let client = Client::new();
        for (metadata, expected) in [
            (json!({"main_module": "missing.js"}), 10021),
            (json!({"main_module": 1}), 10021),
            (
                json!({"main_module": "index.js", "body_part": "index.js"}),
                10021,
            ),
            (json!({"compatibility_date": "tomorrow"}), 10021),
            (json!({"tags": "x"}), 10021),
            (json!({"migrations": {"new_tag": 1}}), 10021),
            (json!({"exports": {"A": {}}}), 10074),
            (json!({"assets": {"jwt": "x"}}), 10021),
            (json!({"bindings": {}}), 10021),
        ] {
            let (status, body) = try_upload(&client, "api", metadata).await;
            assert_eq!((status.as_u16(), code(&body)), (400, expected), "{body}");
        }
        let (status, body) = try_upload(&client, "-api", json!({})).await;
        assert_eq!((status.as_u16(), code(&body)), (400, 10016));
        let one = format!("{SCRIPTS}/api");
        assert_eq!(
            client.fails("PUT", &one, Some(json!({}))).await,
            (400, 10001)
        );
        for (kind, body) in [
            ("multipart/form-data", "x"),
            ("multipart/form-data; boundary=b", "x"),
            ("multipart/form-data; boundary=b", "--b\r\n\r\n"),
            ("multipart/form-data; boundary=b", "--b--\r\n"),
        ] {
            let (status, answer) = client
                .send(
                    "PUT",
                    &one,
                    &[("content-type", kind)],
                    body.as_bytes().to_vec(),
                )
                .await;
            assert_eq!(
                (status.as_u16(), code(&answer)),
                (400, 10001),
                "{kind} {body}"
            );
        }
    }

    #[tokio::test]
    async fn a_plain_script_is_taken_and_given_back() {
        let client = Client::new();
        let one = format!("{SCRIPTS}/old");
        let code = b"addEventListener('fetch', () => {})".to_vec();
        let headers = [("content-type", "application/javascript")];
        let (status, _) = client.send("PUT", &one, &headers, code.clone()).await;
        assert_eq!(status.as_u16(), 200);
        let got = client.raw("GET", &one, &[], Vec::new()).await;
        let bytes = to_bytes(got.into_body(), 10_000).await.unwrap();
        assert_eq!(bytes, code);
    }
}
