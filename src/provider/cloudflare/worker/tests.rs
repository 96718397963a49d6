//! Workers against scripted answers: the exact requests of uploads, bindings, schedules and deletes.

use std::sync::Arc;

use super::*;
use crate::{
    model::{Fqn, Reference, ResourceView, Secret},
    provider::cloudflare::testing::{
        Scripted, bundler, check_context, checked, context, existing, map, no, ok,
    },
    util::fs,
};

const CODE: &str = "export default { fetch() { return new Response('hi') } }";

fn put_answer() -> Json {
    json!({ "id": "thing-dev", "created_on": "2026-01-02T03:04:05Z", "modified_on": "2026-01-02T03:04:06Z", "deployment_id": "11111111222233334444555555555555" })
}

/// The metadata of an upload.
fn metadata_of(request: &str) -> Json {
    let from = request.find("application/json\r\n\r\n").unwrap() + 20;
    let to = from + request[from..].find("\r\n--").unwrap();
    serde_json::from_str(&request[from..to]).unwrap()
}

fn view(kind: &str, outputs: Json) -> Value {
    Value::Resource(Arc::new(ResourceView {
        fqn: Fqn::parse("app/dev/other").unwrap(),
        kind: kind.into(),
        physical_name: "other".to_owned(),
        outputs: map(outputs),
    }))
}

#[tokio::test]
async fn create_looks_first_and_then_uploads_opens_and_schedules() {
    let (transport, client) = Scripted::new(vec![
        no(404, 10007, "This Worker does not exist"),
        ok(put_answer()),
        ok(json!({})),
        ok(json!({ "subdomain": "me" })),
        ok(json!([])),
    ]);
    let kind = Worker::new(client, bundler());
    let checked = checked(
        &kind,
        json!({
            "script": CODE,
            "crons": ["0 2 * * *"],
            "compatibility": "node",
            "placement": { "mode": "smart" },
            "observability": { "head_sampling_rate": 0.5 },
            "limits": { "cpuMs": 50 },
            "tags": ["team"],
        }),
    );
    assert_eq!(checked.physical_name, "thing-dev");
    let outputs = kind
        .create(&context("thing-dev"), &checked.props)
        .await
        .unwrap();
    assert_eq!(
        outputs,
        map(json!({
            "id": "thing-dev",
            "name": "thing-dev",
            "type": "worker",
            "url": "https://thing-dev.me.workers.dev",
            "versionId": "11111111-2222-3333-4444-555555555555",
            "createdAt": "2026-01-02T03:04:05Z",
            "updatedAt": "2026-01-02T03:04:06Z",
        }))
    );
    let requests = transport.requests();
    assert_eq!(requests[0], "GET workers/services/thing-dev");
    assert!(requests[1].starts_with("PUT workers/scripts/thing-dev --alch-"));
    assert!(requests[1].contains(&format!(
        "name=\"worker.js\"; filename=\"worker.js\"\r\ncontent-type: application/javascript+module\r\n\r\n{CODE}\r\n"
    )));
    assert_eq!(
        metadata_of(&requests[1]),
        json!({
            "main_module": "worker.js",
            "keep_bindings": [],
            "bindings": [],
            "tags": ["alch:app/dev/thing", "team"],
            "compatibility_date": "2026-07-01",
            "compatibility_flags": ["nodejs_compat"],
            "placement": { "mode": "smart" },
            "observability": { "enabled": true, "head_sampling_rate": 0.5 },
            "limits": { "cpu_ms": 50 },
        })
    );
    assert_eq!(
        requests[2..],
        [
            r#"POST workers/scripts/thing-dev/subdomain {"enabled":true,"previews_enabled":false}"#,
            "GET workers/subdomain",
            r#"PUT workers/scripts/thing-dev/schedules [{"cron":"0 2 * * *"}]"#,
        ]
    );
}

#[tokio::test]
async fn every_kind_of_binding_has_its_form_and_secrets_stay_hidden() {
    let (transport, client) = Scripted::new(vec![ok(put_answer()), ok(json!({})), ok(json!([]))]);
    let kind = Worker::new(client, bundler());
    let mut checked = checked(
        &kind,
        json!({ "script": CODE, "url": false, "env": { "MODE": "x" }, "bindings": { "LIST": [1, true], "N": 1 } }),
    );
    let Some(Value::Map(bindings)) = checked.props.get_mut("bindings") else {
        panic!("bindings are kept");
    };
    let more = [
        ("DB", view("cloudflare::D1Database", json!({ "id": "d1" }))),
        ("KV", view("cloudflare::KVNamespace", json!({ "id": "kv" }))),
        (
            "R2",
            view(
                "cloudflare::R2Bucket",
                json!({ "name": "files", "jurisdiction": "eu" }),
            ),
        ),
        ("Q", view("cloudflare::Queue", json!({ "name": "jobs" }))),
        ("W", view("cloudflare::Worker", json!({ "name": "api" }))),
        ("KEY", Value::Secret(Secret::plain("hunter2"))),
    ];
    bindings.extend(more.map(|(name, value)| (name.to_owned(), value)));
    let before = existing("thing-dev", json!({ "url": false, "crons": [] }), json!({}));
    kind.update(&context("thing-dev"), &checked.props, &before)
        .await
        .unwrap();
    let requests = transport.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(
        metadata_of(&requests[0])["bindings"],
        json!([
            { "name": "DB", "type": "d1", "id": "d1" },
            { "name": "KEY", "type": "secret_text", "text": "hunter2" },
            { "name": "KV", "type": "kv_namespace", "namespace_id": "kv" },
            { "name": "LIST", "type": "json", "json": [1, true] },
            { "name": "MODE", "type": "plain_text", "text": "x" },
            { "name": "N", "type": "json", "json": 1 },
            { "name": "Q", "type": "queue", "queue_name": "jobs" },
            { "name": "R2", "type": "r2_bucket", "bucket_name": "files", "jurisdiction": "eu" },
            { "name": "W", "type": "service", "service": "api" },
        ])
    );
    let Some(Value::Map(bindings)) = checked.props.get_mut("bindings") else {
        panic!("bindings are kept");
    };
    bindings.insert("X".to_owned(), view("std::File", json!({})));
    let error = kind
        .update(&context("thing-dev"), &checked.props, &before)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "binding `X`: a std::File cannot be bound to a Worker"
    );
}

#[tokio::test]
async fn a_foreign_worker_is_a_conflict_and_our_own_is_gone_on_with() {
    let service = || json!({ "id": "thing-dev", "default_environment": { "script": { "created_on": "2026-01-02T03:04:05Z" } } });
    let (transport, client) = Scripted::new(vec![
        ok(service()),
        ok(json!({ "tags": ["alch:app/prod/thing"] })),
        // find
        ok(service()),
        ok(json!({ "tags": ["alch:app/dev/thing"] })),
        ok(json!({ "enabled": true })),
        ok(json!({ "subdomain": "me" })),
        ok(json!({ "deployments": [{ "versions": [{ "version_id": "v1", "percentage": 100 }] }] })),
    ]);
    let kind = Worker::new(client, bundler());
    let checked = checked(&kind, json!({ "script": CODE }));
    let context = context("thing-dev");
    let error = kind.create(&context, &checked.props).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Conflict);
    assert_eq!(error.message, "a Worker named `thing-dev` is there already");
    let found = kind.find(&context, &checked.props).await.unwrap().unwrap();
    assert_eq!(found.ours, Some(true));
    assert!(found.created_at.is_some());
    assert_eq!(
        found.outputs["url"],
        Value::from("https://thing-dev.me.workers.dev")
    );
    assert_eq!(found.outputs["versionId"], Value::from("v1"));
    assert_eq!(transport.requests().len(), 7);
}

#[tokio::test]
async fn what_was_taken_away_is_switched_off_and_a_delete_clears_the_schedules() {
    let (transport, client) = Scripted::new(vec![
        ok(put_answer()),
        ok(json!({})),
        ok(json!([])),
        ok(json!([])),
        no(404, 10007, "gone"),
    ]);
    let kind = Worker::new(client, bundler());
    let checked = checked(&kind, json!({ "script": CODE, "url": false }));
    let before = existing(
        "thing-dev",
        json!({ "url": true, "crons": ["0 2 * * *"] }),
        json!({ "url": "https://x" }),
    );
    let outputs = kind
        .update(&context("thing-dev"), &checked.props, &before)
        .await
        .unwrap();
    assert!(!outputs.contains_key("url"));
    kind.delete(&context("thing-dev"), &before).await.unwrap();
    assert_eq!(
        transport.requests()[1..],
        [
            r#"POST workers/scripts/thing-dev/subdomain {"enabled":false,"previews_enabled":false}"#,
            "PUT workers/scripts/thing-dev/schedules []",
            "PUT workers/scripts/thing-dev/schedules []",
            "DELETE workers/scripts/thing-dev?force=true",
        ]
    );
}

#[tokio::test]
async fn modules_go_along_under_their_shared_folder_and_only_their_hashes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write_atomic(&path, content.as_bytes()).unwrap();
    };
    write(
        "src/api/main.js",
        "import { x } from '../lib/x.js'; import t from './t.txt'; import 'node:fs'; export default { fetch() {} }",
    );
    write(
        "src/lib/x.js",
        "import '../api/main.js'; export const x = 1",
    );
    write("src/api/t.txt", "text");
    let (transport, client) = Scripted::new(vec![ok(put_answer()), ok(json!({})), ok(json!([]))]);
    let kind = Worker::new(client, bundler());
    let mut place = check_context("app/dev", "thing");
    place.folder = folder.path().into();
    let props = map(json!({ "entrypoint": "./src/api/main.js", "url": false }));
    let checked = kind.check(&place, props.clone()).unwrap();
    let names: Vec<_> = checked.props["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|module| module.as_map().unwrap()["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["api/main.js", "api/t.txt", "lib/x.js"]);
    assert!(!format!("{:?}", checked.props).contains("fetch"));

    let mut context = context("thing-dev");
    context.folder = folder.path().into();
    let before = existing("thing-dev", json!({ "url": false, "crons": [] }), json!({}));
    kind.update(&context, &checked.props, &before)
        .await
        .unwrap();
    let request = &transport.requests()[0];
    assert_eq!(metadata_of(request)["main_module"], json!("api/main.js"));
    assert!(request.contains("filename=\"api/t.txt\"\r\ncontent-type: text/plain\r\n\r\ntext\r\n"));

    write("src/api/t.txt", "other");
    assert_ne!(
        kind.check(&place, props).unwrap().props["modules"],
        checked.props["modules"]
    );
    let error = kind
        .update(&context, &checked.props, &before)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "the modules of `./src/api/main.js` changed during the run"
    );
}

#[test]
fn mistakes_in_props_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("a.ts", ""),
        ("b.js", "import 'hono'"),
        ("c.js", "\nimport './no.js'"),
    ] {
        fs::write_atomic(&folder.path().join(name), content.as_bytes()).unwrap();
    }
    let (_, client) = Scripted::new(vec![]);
    let kind = Worker::new(client, bundler());
    let mut place = check_context("app/dev", "thing");
    place.folder = folder.path().into();
    let told = |props: Map| -> Vec<(String, String)> {
        let root = format!("{}/", folder.path().display());
        kind.check(&place, props)
            .unwrap_err()
            .into_iter()
            .map(|error| (error.path.join("."), error.message.replace(&root, "")))
            .collect()
    };
    let one = |path: &str, message: &str| vec![(path.to_owned(), message.to_owned())];
    assert_eq!(told(Map::new()), one("", "the Worker has no code"));
    let entry = |path: &str| told(map(json!({ "entrypoint": path })));
    assert_eq!(
        entry("no.js"),
        one("entrypoint", "the file `no.js` does not exist")
    );
    assert_eq!(entry("a.ts"), one("entrypoint", "a.ts:1:2: no bundler"));
    assert_eq!(entry("b.js"), one("entrypoint", "b.js:1:2: no bundler"));
    assert_eq!(entry("c.js"), one("entrypoint", "c.js:1:2: no bundler"));
    let unbundled = |path: &str| told(map(json!({ "entrypoint": path, "bundle": false })));
    assert_eq!(
        unbundled("a.ts"),
        one("entrypoint", "`a.ts` is TypeScript or JSX")
    );
    assert_eq!(
        unbundled("b.js"),
        one("entrypoint", "`b.js`, line 1 imports the package `hono`")
    );
    assert_eq!(
        unbundled("c.js"),
        one(
            "entrypoint",
            "`c.js`, line 2 imports `./no.js`, and `no.js` does not exist"
        )
    );
    assert_eq!(
        told(map(
            json!({ "entrypoint": "a.ts", "bundle": true, "noBundle": true })
        )),
        one("noBundle", "`noBundle` and `bundle` cannot both be given")
    );
    assert_eq!(
        told(map(
            json!({ "script": "", "crons": ["daily"], "compatibilityDate": "soon" })
        )),
        [
            one("compatibilityDate", "`soon` is no date"),
            one("crons.0", "`daily` is no schedule: it has 1 field, not five: minute, hour, day, month, day of the week")
        ]
        .concat()
    );
    let whole = Value::Ref(Reference {
        fqn: Fqn::parse("app/dev/db").unwrap(),
        path: Vec::new(),
    });
    let mut props = map(json!({ "script": "" }));
    let data = Value::Map(Map::from([("db".to_owned(), whole)]));
    let secret = Value::Array(vec![Value::Secret(Secret::plain("s"))]);
    props.insert(
        "bindings".to_owned(),
        Value::Map(Map::from([
            ("A".to_owned(), data),
            ("B".to_owned(), secret),
        ])),
    );
    assert_eq!(
        told(props)
            .iter()
            .map(|(path, _)| path.as_str())
            .collect::<Vec<_>>(),
        ["bindings.A", "bindings.B"]
    );
}

#[test]
fn marks_fit_into_a_tag() {
    let mark = |text: &str| metadata::mark(&Fqn::parse(text).unwrap());
    assert_eq!(mark("app/dev/api"), "alch:app/dev/api");
    for odd in [
        format!("app/dev/{}", "x".repeat(200)),
        "app/dev/a,b".to_owned(),
    ] {
        let mark = mark(&odd);
        assert!(mark.starts_with("alch:hash:"), "{mark}");
        assert!(mark.len() <= 64);
    }
}
