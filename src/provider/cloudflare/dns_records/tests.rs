//! DNS records against scripted answers.

use super::*;
use crate::provider::{
    FailureKind,
    cloudflare::testing::{Scripted, checked, context, existing, no, ok},
};

fn record(id: &str, kind: &str, name: &str, content: &str) -> Json {
    json!({
        "id": id, "type": kind, "name": name, "content": content, "ttl": 1, "proxied": false,
        "comment": null, "tags": [], "created_on": "2026-01-02T03:04:05Z",
    })
}

#[tokio::test]
async fn all_records_are_made_in_one_call_with_their_full_names() {
    let posted = json!({ "posts": [record("r1", "A", "example.com", "192.0.2.1")] });
    let (transport, client) = Scripted::new(vec![ok(json!({ "name": "example.com" })), ok(posted)]);
    let kind = DnsRecords::new(client);
    let props = json!({ "zoneId": "z1", "records": [
        { "type": "A", "name": "@", "content": "192.0.2.1", "proxied": true },
        { "type": "CAA", "name": "www", "data": { "flags": 0, "tag": "issue", "value": "ca" }, "ttl": 60 },
    ] });
    let checked = checked(&kind, props);
    let outputs = kind
        .create(&context("thing"), &checked.props)
        .await
        .unwrap();
    assert_eq!(known_ids(&outputs), ["r1"]);
    assert_eq!(
        transport.requests(),
        [
            "GET /client/v4/zones/z1",
            concat!(
                r#"POST /client/v4/zones/z1/dns_records/batch {"posts":["#,
                r#"{"content":"192.0.2.1","name":"example.com","proxied":true,"ttl":1,"type":"A"},"#,
                r#"{"data":{"flags":0,"tag":"issue","value":"ca"},"name":"www.example.com","ttl":60,"type":"CAA"}]}"#
            ),
        ]
    );
}

#[tokio::test]
async fn an_update_sends_what_differs_and_leaves_records_of_others_alone() {
    let there = json!([
        record("r1", "A", "a.example.com", "192.0.2.1"),
        record("r2", "TXT", "example.com", "ours"),
        record("r3", "TXT", "example.com", "theirs"),
        record("r4", "CNAME", "old.example.com", "x.example.com"),
    ]);
    let done = json!({
        "deletes": [], "puts": [record("r1", "A", "a.example.com", "192.0.2.9")],
        "posts": [record("r9", "MX", "example.com", "mail.example.com")],
    });
    let (transport, client) = Scripted::new(vec![
        ok(json!({ "name": "example.com" })),
        ok(there),
        ok(json!([])),
        ok(done),
    ]);
    let kind = DnsRecords::new(client);
    let checked = checked(
        &kind,
        json!({ "zoneId": "z1", "records": [
        { "type": "A", "name": "a", "content": "192.0.2.9" },
        { "type": "TXT", "name": "@", "content": "ours" },
        { "type": "MX", "name": "@", "content": "mail.example.com", "priority": 5 },
    ] }),
    );
    let before = existing(
        "thing",
        json!({ "zoneId": "z1", "records": [] }),
        json!({ "zoneId": "z1", "records": [{ "id": "r1" }, { "id": "r2" }, { "id": "r4" }] }),
    );
    let outputs = kind
        .update(&context("thing"), &checked.props, &before)
        .await
        .unwrap();
    assert_eq!(known_ids(&outputs), ["r1", "r2", "r9"]);
    assert_eq!(
        transport.requests().last().unwrap(),
        concat!(
            r#"POST /client/v4/zones/z1/dns_records/batch {"deletes":[{"id":"r4"}],"#,
            r#""posts":[{"content":"mail.example.com","name":"example.com","priority":5,"ttl":1,"type":"MX"}],"#,
            r#""puts":[{"content":"192.0.2.9","id":"r1","name":"a.example.com","ttl":1,"type":"A"}]}"#
        )
    );
}

#[tokio::test]
async fn records_of_others_are_a_conflict_and_a_zone_may_be_gone() {
    let (_, client) = Scripted::new(vec![
        ok(json!({ "name": "example.com" })),
        no(400, 81_058, "An identical record already exists."),
        no(403, 9109, "Invalid zone identifier"),
    ]);
    let kind = DnsRecords::new(client);
    let checked = checked(
        &kind,
        json!({ "zoneId": "z1", "records": [
        { "type": "A", "name": "a", "content": "192.0.2.9" },
    ] }),
    );
    let error = kind
        .create(&context("thing"), &checked.props)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Conflict);
    let gone = existing(
        "thing",
        json!({}),
        json!({ "zoneId": "z1", "records": [{ "id": "r1" }] }),
    );
    kind.delete(&context("thing"), &gone).await.unwrap();
}

#[tokio::test]
async fn text_that_comes_back_in_quotes_is_not_written_again() {
    let there = json!([
        record("r1", "TXT", "example.com", "\"v=spf1 -all\""),
        record(
            "r2",
            "TXT",
            "example.com",
            "\"one half \" \"and the other\""
        ),
        record("r3", "TXT", "example.com", "\"theirs\""),
    ]);
    let (transport, client) = Scripted::new(vec![
        ok(json!({ "name": "example.com" })),
        ok(there),
        ok(json!([])),
        ok(json!({ "posts": [record("r4", "TXT", "example.com", "\"new\"")] })),
    ]);
    let kind = DnsRecords::new(client);
    let checked = checked(
        &kind,
        json!({ "zoneId": "z1", "records": [
            { "type": "TXT", "name": "@", "content": "new" },
            { "type": "TXT", "name": "@", "content": "one half and the other" },
            { "type": "TXT", "name": "@", "content": "v=spf1 -all" },
        ] }),
    );
    let before = existing(
        "thing",
        json!({ "zoneId": "z1", "records": [] }),
        json!({ "zoneId": "z1", "records": [{ "id": "r1" }, { "id": "r2" }] }),
    );
    let outputs = kind
        .update(&context("thing"), &checked.props, &before)
        .await
        .unwrap();
    assert_eq!(known_ids(&outputs), ["r4", "r2", "r1"]);
    assert_eq!(
        transport.requests().last().unwrap(),
        concat!(
            "POST /client/v4/zones/z1/dns_records/batch ",
            r#"{"posts":[{"content":"new","name":"example.com","ttl":1,"type":"TXT"}]}"#
        )
    );
}
