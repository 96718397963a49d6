//! What an upload names and must be there: Workers that get its logs, and classes that its code is to export.

use rusqlite::Connection;
use serde_json::{Map, Value};

use super::{
    super::error::ApiError,
    model::{self, Format},
    upload::Upload,
};
use crate::util::javascript::exports_without;

/// A tail consumer is no Worker of the account.
const NO_TAIL: u32 = 10203;
/// A new class of Durable Objects is not exported.
const NOT_EXPORTED: u32 = 10070;

/// Refuses `tail_consumers` that are not there.
pub(super) fn check_tails(
    connection: &Connection,
    settings: &Map<String, Value>,
) -> Result<(), ApiError> {
    let tails = settings.get("tail_consumers").and_then(Value::as_array);
    for tail in tails.into_iter().flatten() {
        let service = tail["service"].as_str().unwrap_or_default();
        if model::script(connection, service)?.is_none() {
            return Err(ApiError::bad_request(
                NO_TAIL,
                "Tail Worker does not exist on this account. Check the Worker name and try again.",
            ));
        }
    }
    Ok(())
}

/// Refuses migrations to classes that the code surely does not export.
pub(super) fn check_classes(upload: &Upload) -> Result<(), ApiError> {
    let main = upload.contents.iter().find(|(module, _)| {
        module.name == upload.entry && module.content_type == "application/javascript+module"
    });
    let (Format::Modules, Some((_, code))) = (upload.format, main) else {
        return Ok(());
    };
    let Ok(code) = std::str::from_utf8(code) else {
        return Ok(());
    };
    let Some(migrations) = upload.metadata.get("migrations") else {
        return Ok(());
    };
    // The classes of an earlier step may be gone after a later one.
    let last = match migrations["steps"].as_array() {
        Some(steps) => steps.last().unwrap_or(&Value::Null),
        None => migrations,
    };
    for list in ["new_classes", "new_sqlite_classes"] {
        let classes = last[list].as_array().into_iter().flatten();
        for class in classes.filter_map(Value::as_str) {
            if exports_without(code, class).is_some() {
                return Err(ApiError::bad_request(
                    NOT_EXPORTED,
                    format!(
                        "Cannot apply new-class migration to class '{class}' that is not exported by script."
                    ),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::local::testing::{Client, code, multipart, upload};

    const API: &str = "/accounts/local/workers/scripts/api";

    async fn put(client: &Client, source: &str, metadata: Value) -> (u16, u64) {
        let (content_type, body) = multipart(&[
            ("metadata", "", metadata.to_string().as_bytes()),
            ("a.js", "application/javascript+module", source.as_bytes()),
        ]);
        let (status, answer) = client
            .send("PUT", API, &[("content-type", &content_type)], body)
            .await;
        (status.as_u16(), code(&answer))
    }

    #[tokio::test]
    async fn new_classes_are_exported() {
        let client = Client::new();
        for migrations in [
            json!({"new_tag": "v1", "new_sqlite_classes": ["Room"]}),
            json!({"new_tag": "v1", "steps": [{"new_classes": ["Room"]}]}),
        ] {
            let metadata = json!({"main_module": "a.js", "migrations": migrations});
            let source = "class Room {}; export default {}";
            let refused = put(&client, source, metadata.clone()).await;
            assert_eq!(refused, (400, 10070));
            // Nothing of it is left.
            let none = client.fails("GET", &format!("{API}/settings"), None).await;
            assert_eq!(none, (404, 10007));
        }
        let metadata = json!({"main_module": "a.js", "migrations": {"new_tag": "v1", "new_classes": ["Room"]}});
        let good = put(&client, "export class Room {}", metadata).await;
        assert_eq!(good.0, 200);
    }

    #[tokio::test]
    async fn tail_consumers_are_there() {
        let client = Client::new();
        let tails = |name: &str| json!([{"service": name}]);
        let metadata = |name: &str| json!({"main_module": "a.js", "tail_consumers": tails(name)});
        assert_eq!(put(&client, "", metadata("tail")).await, (400, 10203));
        // The Worker itself is there by then.
        assert_eq!(put(&client, "", metadata("api")).await.0, 200);
        let path = format!("{API}/script-settings");
        let patch = json!({"tail_consumers": tails("tail")});
        let refused = client.fails("PATCH", &path, Some(patch.clone())).await;
        assert_eq!(refused, (400, 10203));
        upload(&client, "tail", json!({})).await;
        client.ok("PATCH", &path, Some(patch)).await;
    }
}
