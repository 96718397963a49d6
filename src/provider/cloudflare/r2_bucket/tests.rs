//! R2 buckets against scripted answers: the exact requests of creation, rules and deletes.

use super::*;
use crate::provider::cloudflare::testing::{Scripted, checked, context, existing, no, ok};

#[tokio::test]
async fn create_makes_the_bucket_in_its_jurisdiction_and_then_its_rules() {
    let (transport, client) = Scripted::new(vec![
        ok(
            json!({ "name": "files", "location": "WEUR", "creation_date": "2026-01-02T03:04:05Z", "storage_class": "Standard" }),
        ),
        ok(json!({})),
        ok(json!({ "bucketId": "b", "domain": "pub-1.r2.dev", "enabled": true })),
    ]);
    let kind = R2Bucket::new(client);
    let checked = checked(
        &kind,
        json!({
            "name": "files",
            "jurisdiction": "eu",
            "location_hint": "weur",
            "allowPublicAccess": true,
            "cors": [{ "allowed": { "origins": ["*"], "methods": ["GET"] }, "max_age_seconds": 5 }],
        }),
    );
    assert_eq!(
        checked.identity.as_deref(),
        Some("cloudflare::R2Bucket:eu:files")
    );
    let outputs = kind
        .create(&context("files"), &checked.props)
        .await
        .unwrap();
    assert_eq!(outputs["domain"], Value::from("pub-1.r2.dev"));
    assert_eq!(outputs["location"], Value::from("WEUR"));
    assert_eq!(
        transport.requests(),
        [
            r#"POST r2/buckets {"locationHint":"weur","name":"files"}"#,
            r#"PUT r2/buckets/files/cors {"rules":[{"allowed":{"methods":["GET"],"origins":["*"]},"maxAgeSeconds":5}]}"#,
            r#"PUT r2/buckets/files/domains/managed {"enabled":true}"#,
        ]
    );
    for index in 0..3 {
        assert_eq!(
            transport.header(index, "cf-r2-jurisdiction").as_deref(),
            Some("eu")
        );
    }
}

#[tokio::test]
async fn rules_that_were_taken_away_are_removed() {
    let (transport, client) = Scripted::new(vec![ok(json!({})), ok(json!({})), ok(json!({}))]);
    let kind = R2Bucket::new(client);
    let before = existing(
        "files",
        json!({ "cors": [], "lock": [], "storageClass": "InfrequentAccess" }),
        json!({ "name": "files", "storageClass": "InfrequentAccess" }),
    );
    let outputs = kind
        .update(&context("files"), &Map::new(), &before)
        .await
        .unwrap();
    assert_eq!(outputs["storageClass"], Value::from("Standard"));
    assert_eq!(
        transport.requests(),
        [
            "PATCH r2/buckets/files",
            "DELETE r2/buckets/files/cors",
            r#"PUT r2/buckets/files/lock {"rules":[]}"#,
        ]
    );
}

#[tokio::test]
async fn a_full_bucket_is_refused_unless_it_may_be_emptied() {
    let (transport, client) = Scripted::new(vec![
        no(409, 10008, "The bucket you tried to delete is not empty"),
        ok(json!([{ "key": "a" }, { "key": "b/c" }])),
        ok(json!([])),
        ok(json!([])),
        ok(Json::Null),
    ]);
    let kind = R2Bucket::new(client);
    let context = context("files");
    let full = existing("files", json!({}), json!({ "name": "files" }));
    let error = kind.delete(&context, &full).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Refused);
    assert!(error.help.unwrap().contains("`empty: true`"));
    let may = existing("files", json!({ "empty": true }), json!({}));
    kind.delete(&context, &may).await.unwrap();
    assert_eq!(
        transport.requests()[1..],
        [
            "GET r2/buckets/files/objects?per_page=1000",
            r#"DELETE r2/buckets/files/objects ["a","b/c"]"#,
            "GET r2/buckets/files/objects?per_page=1000",
            "DELETE r2/buckets/files",
        ]
    );
}
