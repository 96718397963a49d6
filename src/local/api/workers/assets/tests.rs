//! Sessions, uploads, and what versions keep.

use serde_json::json;

use super::*;
use crate::local::testing::{Client, code, multipart, try_upload, upload};

const HASH: &str = "0123456789abcdef0123456789abcdef";
const SESSION: &str = "/accounts/local/workers/scripts/api/assets-upload-session";
const UPLOAD: &str = "/accounts/local/workers/assets/upload?base64=true";

async fn open(client: &Client) -> Value {
    let manifest = json!({"manifest": {"/a.txt": {"hash": HASH, "size": 5}}});
    client.ok("POST", SESSION, Some(manifest)).await["result"].clone()
}

async fn send(client: &Client, token: &str, name: &str, content: &[u8]) -> (u16, Value) {
    let (content_type, body) = multipart(&[(name, "text/plain", content)]);
    let bearer = format!("Bearer {token}");
    let headers = [
        ("content-type", content_type.as_str()),
        ("authorization", &bearer),
    ];
    let (status, answer) = client.send("POST", UPLOAD, &headers, body).await;
    (status.as_u16(), answer)
}

#[tokio::test]
async fn files_are_asked_for_once_and_belong_to_versions() {
    let client = Client::with_token("t");
    let begun = client
        .send(
            "POST",
            SESSION,
            &[("authorization", "Bearer t")],
            json!({"manifest": {"/a.txt": {"hash": HASH, "size": 5}}})
                .to_string()
                .into_bytes(),
        )
        .await;
    let begun = &begun.1["result"];
    assert_eq!(begun["buckets"], json!([[HASH]]));
    let token = begun["jwt"].as_str().unwrap();
    // Let in by its own token only: not by that of the API, and not by one that was changed.
    for other in ["t", "", &format!("{token}x"), &token.replacen('e', "f", 1)] {
        assert_eq!(
            send(&client, other, HASH, b"aGVsbG8=").await.0,
            401,
            "{other}"
        );
    }
    for (name, content) in [
        (HASH, &b"not base64!"[..]),
        (HASH, b"aGVsbG8gd29ybGQ="),
        ("../../escape", b"aGVsbG8="),
    ] {
        let (status, answer) = send(&client, token, name, content).await;
        assert_eq!((status, code(&answer)), (400, 10021), "{answer}");
    }
    let (status, answer) = send(&client, token, HASH, b"aGVsbG8=").await;
    assert_eq!(status, 201, "{answer}");
    let file = layout::assets_folder(client.folder.path()).join(HASH);
    assert_eq!(fs::read(&file).unwrap(), b"hello");
}

#[tokio::test]
async fn versions_keep_their_assets_and_unused_files_go() {
    let client = Client::new();
    let begun = open(&client).await;
    let token = begun["jwt"].as_str().unwrap();
    // A session that is not finished, a token of another script, none.
    for metadata in [
        json!({"assets": {"jwt": token}}),
        json!({"assets": {"jwt": 1}}),
        json!({"assets": {"config": {}}}),
    ] {
        let (status, answer) = try_upload(&client, "api", metadata).await;
        assert_eq!((status.as_u16(), code(&answer)), (400, 10021));
    }
    let done = send(&client, token, HASH, b"aGVsbG8=").await.1;
    let done = done["result"]["jwt"].as_str().unwrap();
    assert_eq!(open(&client).await["buckets"], json!([]));
    let (status, _) = try_upload(&client, "other", json!({"assets": {"jwt": done}})).await;
    assert_eq!(status.as_u16(), 400);
    let config = json!({"html_handling": "none"});
    let metadata = json!({"assets": {"jwt": done, "config": config}});
    let put = upload(&client, "api", metadata).await;
    assert_eq!(put["result"]["has_assets"], true);
    let put = upload(&client, "api", json!({"keep_assets": true})).await;
    assert_eq!(put["result"]["has_assets"], true);
    let put = upload(&client, "api", json!({})).await;
    assert_eq!(put["result"]["has_assets"], false);
    let (status, _) = try_upload(
        &client,
        "api",
        json!({"keep_assets": true, "assets": {"config": {"html_handling": "odd"}}}),
    )
    .await;
    assert_eq!(status.as_u16(), 400);
    client
        .ok("DELETE", "/accounts/local/workers/scripts/api", None)
        .await;
    // The sessions still name the file.
    let file = layout::assets_folder(client.folder.path()).join(HASH);
    assert!(file.exists());
    let cloud = Cloud::open(client.folder.path()).unwrap();
    let forget = |connection: &Connection| {
        connection.execute("DELETE FROM asset_sessions", [])?;
        Ok::<_, ApiError>(())
    };
    cloud.control.run(forget).unwrap();
    sweep(&cloud).unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_manifest_must_make_sense() {
    let client = Client::new();
    for manifest in [
        json!(null),
        json!([]),
        json!({"a.txt": {"hash": HASH, "size": 1}}),
        json!({"/a.txt": {"hash": "../x", "size": 1}}),
        json!({"/a.txt": {"hash": HASH, "size": -1}}),
        json!({"/a.txt": {"hash": HASH, "size": 26_214_401}}),
        json!({"/a.txt": null}),
    ] {
        let body = json!({"manifest": manifest});
        assert_eq!(
            client.fails("POST", SESSION, Some(body)).await,
            (400, 10021)
        );
    }
}
