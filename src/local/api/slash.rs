//! A path that ends in a slash means the same as without: Cloudflare serves both, and wrangler sends both.

use axum::{extract::Request, http::Uri};

/// What the names of objects and of keys come after, in the part of a path below the account. They may end in a slash themselves.
const NAMED: [(&str, &[&str]); 2] = [
    ("r2/buckets/", &["objects"]),
    ("storage/kv/namespaces/", &["values", "metadata"]),
];

/// Takes one slash off the end of a path of the API.
pub(super) async fn without(mut request: Request) -> Request {
    if let Some(uri) = shorter(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn shorter(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/')?;
    let below = path.strip_prefix("/client/v4/")?;
    let of_account = below.strip_prefix("accounts/");
    if of_account
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| is_named(rest))
    {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    let text = format!("{path}{}", query.unwrap_or_default());
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Whether a path ends in a name that the user chose freely, or would with something behind the slash.
fn is_named(below: &str) -> bool {
    NAMED.iter().any(|(collection, fields)| {
        let field = below
            .strip_prefix(collection)
            .and_then(|rest| rest.split('/').nth(1));
        field.is_some_and(|field| fields.contains(&field))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::local::testing::{Client, code};

    #[test]
    fn one_slash_is_taken_off_but_not_of_names() {
        let check = |path: &str, expected: Option<&str>| {
            let uri: Uri = path.parse().unwrap();
            let found = shorter(&uri).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{path}");
        };
        let all = "/client/v4/accounts/local";
        for path in [
            "/workflows/wf/instances",
            "/d1/database",
            "/r2/buckets/b",
            "/r2/buckets/objects",
            "/storage/kv/namespaces/n/keys",
            "/workers/scripts/values",
        ] {
            let plain = format!("{all}{path}");
            check(&plain, None);
            check(&format!("{plain}/"), Some(&plain));
            check(&format!("{plain}/?a=/"), Some(&format!("{plain}?a=/")));
            check(&format!("{plain}//"), Some(&format!("{plain}/")));
        }
        for path in [
            "/r2/buckets/b/objects/",
            "/r2/buckets/b/objects/folder/",
            "/storage/kv/namespaces/n/values/",
            "/storage/kv/namespaces/n/values/a/",
            "/storage/kv/namespaces/n/metadata/a/",
        ] {
            check(&format!("{all}{path}"), None);
        }
        let zones = "/client/v4/zones";
        check(
            &format!("{zones}/?name=a"),
            Some(&format!("{zones}?name=a")),
        );
        for path in ["/", "/client/v4/", "/transfers/x/"] {
            check(path, None);
        }
        let whole = format!("http://127.0.0.1:8788{all}/d1/database");
        check(&format!("{whole}/"), Some(&whole));
    }

    #[tokio::test]
    async fn paths_are_the_same_with_a_slash_and_names_are_not() {
        let client = Client::new();
        let (all, body) = ("/accounts/local/d1/database/", json!({"name": "main"}));
        let made = client.ok("POST", all, Some(body)).await;
        let one = format!("{all}{}/", made["result"]["uuid"].as_str().unwrap());
        assert_eq!(client.ok("GET", &one, None).await["result"]["name"], "main");
        let (status, answer) = client.call("GET", &format!("{one}/"), None).await;
        assert_eq!((status.as_u16(), code(&answer)), (404, 7003));

        let bucket = json!({"name": "files"});
        let buckets = "/accounts/local/r2/buckets";
        client.ok("POST", buckets, Some(bucket)).await;
        let objects = format!("{buckets}/files/objects");
        for name in ["folder", "folder/"] {
            let path = format!("{objects}/{name}");
            let put = client.send("PUT", &path, &[], name.as_bytes().to_vec());
            assert_eq!(put.await.0, 200, "{name}");
        }
        let (_, text) = client
            .send("GET", &format!("{objects}/folder/"), &[], Vec::new())
            .await;
        assert_eq!(text, "folder/");
        let listed = client.ok("GET", &objects, None).await;
        assert_eq!(listed["result"].as_array().unwrap().len(), 2);
        // All objects are never meant by a name that is empty.
        let (status, _) = client
            .call("DELETE", &format!("{objects}/"), Some(json!(["folder"])))
            .await;
        assert_eq!(status, 404);
    }
}
