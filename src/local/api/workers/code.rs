//! New code for a script whose bindings, settings and assets stay as they are.

use serde_json::{Value, json};

use super::{
    super::{
        call::Call,
        envelope::{ApiResult, ok},
        error::ApiError,
    },
    model::{self, Draft},
    scripts, store, upload,
};
use crate::local::Cloud;

/// `PUT …/content`: a new version with this code, and all requests to it.
pub(super) fn put(cloud: &Cloud, call: &Call) -> ApiResult {
    let upload = upload::read_code(call)?;
    let (script, version, unused, has_assets) = cloud.control.write(|transaction| {
        let name = model::require_called(transaction, call)?.name;
        let before = match model::active_version(transaction, &name)? {
            Some(version) => version,
            None => model::require_latest(transaction, &name)?,
        };
        store::contents(cloud, &upload.contents)?;
        let same = Draft::from(transaction, &before)?;
        let draft = Draft {
            source: upload::source(call),
            settings: same.settings,
            ..upload.draft(same.bindings, same.assets)
        };
        let version = store::publish(transaction, &name, &draft, "upload")?;
        let unused = store::prune(transaction, &name)?;
        let script = model::require(transaction, &name)?;
        Ok::<_, ApiError>((script, version, unused, draft.assets.is_some()))
    })?;
    store::sweep(cloud, &unused)?;
    let mut map = scripts::summary(&script, Some(&version));
    map.insert("has_assets".to_owned(), json!(has_assets));
    ok(&Value::Object(map))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::local::testing::{Client, code, multipart, upload};

    const ONE: &str = "/accounts/local/workers/scripts/api";

    async fn put(
        client: &Client,
        header: &[(&str, &str)],
        metadata: Option<Value>,
    ) -> (u16, Value) {
        let metadata = metadata.map(|metadata| metadata.to_string());
        let mut parts = vec![(
            "new.js",
            "application/javascript+module",
            b"export default { new: 1 }".as_slice(),
        )];
        if let Some(metadata) = &metadata {
            parts.push(("metadata", "application/json", metadata.as_bytes()));
        }
        let (content_type, body) = multipart(&parts);
        let mut headers = header.to_vec();
        headers.push(("content-type", &content_type));
        let path = format!("{ONE}/content");
        let (status, body) = client.send("PUT", &path, &headers, body).await;
        (status.as_u16(), body)
    }

    #[tokio::test]
    async fn new_code_leaves_bindings_and_settings_alone() {
        let client = Client::new();
        let (status, answer) = put(&client, &[], Some(json!({"main_module": "new.js"}))).await;
        assert_eq!((status, code(&answer)), (404, 10007));
        let bindings = json!([{"name": "MODE", "type": "plain_text", "text": "calm"},
                              {"name": "KEY", "type": "secret_text", "text": "hidden"}]);
        let given = json!({"bindings": bindings, "tags": ["team-a"], "compatibility_flags": ["nodejs_compat"],
                           "limits": {"cpu_ms": 50}});
        upload(&client, "api", given).await;
        let settings = |client: Client| async move {
            let answer = client.ok("GET", &format!("{ONE}/settings"), None).await;
            (client, answer["result"].clone())
        };
        let (client, before) = settings(client).await;
        let (status, answer) = put(&client, &[], Some(json!({"main_module": "new.js"}))).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["result"]["tags"], json!(["team-a"]));
        let (client, after) = settings(client).await;
        assert_eq!(after, before);
        let path = format!("{ONE}/content/v2");
        let got = client.raw("GET", &path, &[], Vec::new()).await;
        assert_eq!(got.headers()["cf-entrypoint"], "new.js");

        // A header may name the main part in the place of metadata.
        for (headers, metadata, expected) in [
            (&[("cf-worker-main-module-part", "new.js")][..], None, 200),
            (&[("cf-worker-body-part", "new.js")], None, 200),
            (&[("cf-worker-main-module-part", "other.js")], None, 400),
            (&[], None, 400),
            (&[], Some(json!({"main_module": "other.js"})), 400),
        ] {
            let (status, answer) = put(&client, headers, metadata).await;
            assert_eq!(status, expected, "{headers:?} {answer}");
        }
        let versions = client.ok("GET", &format!("{ONE}/versions"), None).await;
        assert_eq!(
            versions["result"]["items"].as_array().map(Vec::len),
            Some(4)
        );
    }
}
