//! Versions of a script: list, read, upload without deploying.

use serde_json::{Value, json};

use super::{
    super::{
        call::Call,
        envelope::{ApiResult, ok, ok_with_info},
        error::ApiError,
        page::Page,
    },
    INVALID, bindings,
    model::{self, Draft, Version},
    store, upload,
};
use crate::local::{Cloud, control::seal_key};

const NOT_FOUND: u32 = 100_146;
const WITH_MIGRATIONS: u32 = 10211;

fn summary(version: &Version) -> Value {
    json!({
        "id": version.id,
        "number": version.number,
        "metadata": {
            "created_on": version.created_at,
            "modified_on": version.created_at,
            "source": version.source,
            "author_id": null,
            "author_email": null,
            "hasPreview": false,
        },
        "annotations": version.annotations,
    })
}

fn details(version: &Version) -> Value {
    let mut value = summary(version);
    let runtime = |name: &str, default: Value| upload::setting(&version.settings, name, default);
    value["resources"] = json!({
        "bindings": bindings::all_shown(&version.bindings),
        "script": {"etag": version.etag, "last_deployed_from": version.source},
        "script_runtime": {
            "compatibility_date": runtime("compatibility_date", Value::Null),
            "compatibility_flags": runtime("compatibility_flags", json!([])),
            "limits": runtime("limits", json!({})),
            "usage_model": runtime("usage_model", json!("standard")),
        },
    });
    value
}

/// The answer to a version that is not there.
pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::not_found(NOT_FOUND, format!("Worker version '{id}' does not exist"))
}

/// `GET …/versions`, newest first.
pub(super) fn list(cloud: &Cloud, call: &Call) -> ApiResult {
    let default = if call.flag("deployable") { 100 } else { 10 };
    let page = Page::of(call, default, 100, INVALID)?;
    let (versions, total) = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        model::versions(connection, &script.name, page.limit(), page.offset())
    })?;
    let items: Vec<Value> = versions.iter().map(summary).collect();
    let info = page.info(items.len(), total);
    ok_with_info(&json!({"items": items}), &info)
}

/// `GET …/versions/{version}`.
pub(super) fn read(cloud: &Cloud, call: &Call) -> ApiResult {
    let id = call.parameter("version");
    let version = cloud.control.run(|connection| {
        let script = model::require_called(connection, call)?;
        model::version(connection, &script.name, id)?.ok_or_else(|| not_found(id))
    })?;
    ok(&details(&version))
}

/// `POST …/versions`: stores a version that gets no requests yet.
pub(super) fn create(cloud: &Cloud, call: &Call) -> ApiResult {
    let upload = upload::read(call)?;
    if upload
        .metadata
        .get("migrations")
        .is_some_and(|given| !given.is_null())
    {
        return Err(ApiError::bad_request(
            WITH_MIGRATIONS,
            "migrations must be uploaded as part of a deployment, not of a version",
        ));
    }
    let (version, unused) = cloud.control.write(|transaction| {
        let script = model::require_called(transaction, call)?;
        let previous = model::latest_version(transaction, &script.name)?;
        let bindings = bindings::resolve(
            &bindings::Context {
                connection: transaction,
                key: seal_key(transaction)?,
                script: &script.name,
                previous: previous.as_ref().map_or(&[], |version| &version.bindings),
                keep: upload::keep_bindings(&upload.metadata),
            },
            upload.metadata.get("bindings"),
        )?;
        store::contents(cloud, &upload.contents)?;
        let draft = Draft {
            source: upload::source(call),
            ..upload.draft(bindings)
        };
        let version = store::version(transaction, &script.name, &draft)?;
        let unused = store::prune(transaction, &script.name)?;
        Ok::<_, ApiError>((version, unused))
    })?;
    store::sweep(cloud, &unused)?;
    let mut value = details(&version);
    value["startup_time_ms"] = json!(0);
    ok(&value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::local::testing::{Client, multipart, upload};

    #[tokio::test]
    async fn versions_are_uploaded_listed_and_deployed_by_share() {
        let client = Client::new();
        let one = "/accounts/local/workers/scripts/api";
        let first = upload(&client, "api", json!({})).await;
        let metadata =
            json!({"main_module": "index.js", "annotations": {"workers/message": "two"}});
        let (content_type, body) = multipart(&[
            ("metadata", "", metadata.to_string().as_bytes()),
            (
                "index.js",
                "application/javascript+module",
                b"export default {}",
            ),
        ]);
        let path = format!("{one}/versions");
        let (status, second) = client
            .send("POST", &path, &[("content-type", &content_type)], body)
            .await;
        assert_eq!(status.as_u16(), 200, "{second}");
        let second_id = second["result"]["id"].as_str().unwrap();
        let list = client.ok("GET", &path, None).await;
        assert_eq!(list["result"]["items"][0]["number"], 2);
        assert_eq!(list["result_info"]["total_count"], 2);
        let read = client.ok("GET", &format!("{path}/{second_id}"), None).await;
        assert_eq!(read["result"]["annotations"]["workers/message"], "two");
        assert_eq!(
            client.fails("GET", &format!("{path}/x"), None).await,
            (404, 100_146)
        );
        let deployments = format!("{one}/deployments");
        let list = client.ok("GET", &deployments, None).await;
        let first_id = list["result"]["deployments"][0]["versions"][0]["version_id"].clone();
        assert_eq!(
            first_id.as_str().unwrap().replace('-', ""),
            first["result"]["deployment_id"]
        );
        let shares = json!({"strategy": "percentage", "versions": [
            {"version_id": first_id, "percentage": 90}, {"version_id": second_id, "percentage": 10}]});
        let deployed = client.ok("POST", &deployments, Some(shares.clone())).await;
        let id = deployed["result"]["id"].as_str().unwrap();
        let read = client.ok("GET", &format!("{deployments}/{id}"), None).await;
        assert_eq!(read["result"]["versions"], shares["versions"]);
        for versions in [
            json!([]),
            json!([{"version_id": second_id, "percentage": 99}]),
            json!([{"version_id": second_id, "percentage": 101}, {"version_id": first_id, "percentage": -1}]),
            json!([{"version_id": second_id, "percentage": 50}, {"version_id": second_id, "percentage": 50}]),
        ] {
            let body = json!({"strategy": "percentage", "versions": versions});
            assert_eq!(
                client.fails("POST", &deployments, Some(body)).await,
                (400, 10001)
            );
        }
        let body =
            json!({"strategy": "percentage", "versions": [{"version_id": "x", "percentage": 100}]});
        assert_eq!(
            client.fails("POST", &deployments, Some(body)).await,
            (404, 100_146)
        );
        assert_eq!(
            client.fails("GET", &format!("{deployments}/x"), None).await,
            (404, 10336)
        );
    }

    #[tokio::test]
    async fn old_versions_and_deployments_go() {
        let client = Client::new();
        for _ in 0..103 {
            upload(&client, "api", json!({})).await;
        }
        let one = "/accounts/local/workers/scripts/api";
        let versions = client.ok("GET", &format!("{one}/versions"), None).await;
        assert_eq!(versions["result_info"]["total_count"], 100);
        assert_eq!(versions["result"]["items"][0]["number"], 103);
        let deployments = client.ok("GET", &format!("{one}/deployments"), None).await;
        assert_eq!(
            deployments["result"]["deployments"]
                .as_array()
                .map(Vec::len),
            Some(10)
        );
    }
}
