//! Every kind against the embedded local cloud: the two sides of the API must mean the same.

use std::{path::Path, sync::Arc};

use serde_json::{Value as Json, json};

use super::{
    Client, Object, ai_gateway, custom_domain, d1_database, dns_records, hyperdrive, kv_namespace,
    queue, r2_bucket, r2_object, route, secrets_store, testing, tunnel, vectorize_index, worker,
    zone,
};
use crate::{
    local::{Cloud, DEFAULT_ACCOUNT, RouterOptions, router},
    model::{Fqn, Map, ResourceView, Value},
    provider::{Checked, Existing, FailureKind, OperationContext, Provider, validate::validate},
    util::fs,
};

fn client(folder: &Path) -> Arc<Client> {
    let folder = folder.join("cloud");
    Arc::new(Client::over_router(
        DEFAULT_ACCOUNT,
        Box::new(move || {
            let cloud = Cloud::open(&folder).map_err(|error| error.to_string())?;
            Ok(router(
                cloud,
                RouterOptions {
                    token: None,
                    latency: std::time::Duration::ZERO,
                },
            ))
        }),
    ))
}

struct Bench {
    folder: tempfile::TempDir,
    client: Arc<Client>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            client: client(folder.path()),
            folder,
        }
    }

    fn check(&self, kind: &dyn Provider, props: Json) -> Checked {
        let props = validate(kind.schema(), testing::map(props), &|_| None).unwrap();
        let mut context = testing::check_context("app/dev", "thing");
        context.folder = self.folder.path().into();
        kind.check(&context, props).unwrap()
    }

    fn context(&self, checked: &Checked) -> OperationContext {
        OperationContext {
            folder: self.folder.path().into(),
            ..testing::context(&checked.physical_name)
        }
    }

    /// Creates, creates again, finds, reads, and updates to `then`; answers the outputs of the update.
    async fn walk(&self, kind: &dyn Provider, first: Json, then: Json) -> Existing {
        let checked = self.check(kind, first);
        let context = self.context(&checked);
        assert!(kind.find(&context, &checked.props).await.unwrap().is_none());
        let outputs = kind.create(&context, &checked.props).await.unwrap();
        for (key, value) in &checked.known {
            assert_eq!(outputs.get(key), Some(value), "{key} was known before");
        }
        let found = kind.find(&context, &checked.props).await.unwrap().unwrap();
        assert_eq!(found.outputs, outputs);
        let existing = Existing {
            props: checked.props,
            outputs,
            physical_name: checked.physical_name.clone(),
            settled: true,
            attempted: Map::new(),
        };
        let read = kind.read(&context, &existing).await.unwrap().unwrap();
        assert_eq!(read, existing.outputs);
        let next = self.check(kind, then);
        let outputs = kind.update(&context, &next.props, &existing).await.unwrap();
        Existing {
            props: next.props,
            outputs,
            physical_name: checked.physical_name,
            settled: true,
            attempted: Map::new(),
        }
    }

    async fn refuses_a_second(&self, kind: &dyn Provider, props: Json) {
        let checked = self.check(kind, props);
        let error = kind
            .create(&self.context(&checked), &checked.props)
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict, "{error}");
    }

    /// Deletes twice, which is fine, and finds nothing after that.
    async fn remove(&self, kind: &dyn Provider, existing: &Existing) {
        let context = OperationContext {
            folder: self.folder.path().into(),
            ..testing::context(&existing.physical_name)
        };
        for _ in 0..2 {
            kind.delete(&context, existing).await.unwrap();
        }
        assert_eq!(kind.read(&context, existing).await.unwrap(), None);
        assert!(
            kind.find(&context, &existing.props)
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn d1_with_migrations() {
    let bench = Bench::new();
    let migrations = bench.folder.path().join("migrations");
    fs::create_dir_all(&migrations).unwrap();
    let write = |name: &str, sql: &str| {
        fs::write_atomic(&migrations.join(name), sql.as_bytes()).unwrap();
    };
    write("0001.sql", "CREATE TABLE a(x INTEGER);\n-- done");
    write(
        "0002.sql",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;\nINSERT INTO a VALUES (1)",
    );
    let kind = d1_database::D1Database::new(Arc::clone(&bench.client));
    let props = json!({ "migrations": "migrations" });
    let checked = bench.check(&kind, props.clone());
    let context = bench.context(&checked);
    let outputs = kind.create(&context, &checked.props).await.unwrap();
    bench.refuses_a_second(&kind, json!({})).await;
    let mut existing = Existing {
        props: checked.props,
        outputs,
        physical_name: checked.physical_name,
        settled: true,
        attempted: Map::new(),
    };

    write(
        "0003.sql",
        "INSERT INTO a VALUES (2);\nINSERT INTO b VALUES (3);",
    );
    let broken = bench.check(&kind, props.clone());
    let error = kind
        .update(&context, &broken.props, &existing)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Refused);
    assert!(
        error
            .message
            .starts_with("migration `0003.sql`, line 2, `INSERT INTO b VALUES (3)` failed: "),
        "{error}"
    );

    // Nothing of the failed file stayed: the first statement would fail the second time on a unique index.
    write(
        "0003.sql",
        "CREATE UNIQUE INDEX u ON a(x);\nINSERT INTO a VALUES (2);",
    );
    let fixed = bench.check(&kind, props);
    for _ in 0..2 {
        existing.outputs = kind
            .update(&context, &fixed.props, &existing)
            .await
            .unwrap();
    }
    existing.props = fixed.props;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn kv_with_values() {
    let bench = Bench::new();
    let kind = kv_namespace::KvNamespace::new(Arc::clone(&bench.client));
    let values = json!([{ "key": "a/b", "value": { "x": 1 }, "metadata": { "m": 1 } }]);
    let existing = bench
        .walk(
            &kind,
            json!({ "values": values }),
            json!({ "values": [{ "key": "c", "value": "d", "expirationTtl": 60 }] }),
        )
        .await;
    bench.refuses_a_second(&kind, json!({})).await;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn r2_with_rules() {
    let bench = Bench::new();
    let kind = r2_bucket::R2Bucket::new(Arc::clone(&bench.client));
    let rules = json!([{ "id": "old", "enabled": true, "conditions": { "prefix": "" },
        "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": 60 } } }]);
    let existing = bench
        .walk(
            &kind,
            json!({
                "devDomain": true,
                "cors": [{ "allowed": { "origins": ["*"], "methods": ["GET"] } }],
                "lifecycle": rules,
            }),
            json!({ "storageClass": "InfrequentAccess", "empty": true }),
        )
        .await;
    assert_eq!(
        existing.outputs["storageClass"],
        Value::from("InfrequentAccess")
    );
    assert!(!existing.outputs.contains_key("domain"));
    bench.refuses_a_second(&kind, json!({})).await;
    let object = format!("r2/buckets/{}/objects/k%2F1", existing.physical_name);
    let put = super::client::Call::put(object).json(&json!({}));
    let context = testing::context("x");
    bench.client.call(&context, &put).await.unwrap();
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn queues_with_settings() {
    let bench = Bench::new();
    let kind = queue::Queue::new(Arc::clone(&bench.client));
    let existing = bench
        .walk(
            &kind,
            json!({ "settings": { "deliveryDelay": 5, "deliveryPaused": true } }),
            json!({ "settings": { "messageRetentionPeriod": 60 } }),
        )
        .await;
    bench.refuses_a_second(&kind, json!({})).await;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn workers_with_bindings() {
    let bench = Bench::new();
    let database = d1_database::D1Database::new(Arc::clone(&bench.client));
    let checked = bench.check(&database, json!({}));
    let outputs = database
        .create(&bench.context(&checked), &checked.props)
        .await
        .unwrap();
    let handle = Value::Resource(Arc::new(ResourceView {
        fqn: Fqn::parse("app/dev/db").unwrap(),
        kind: "cloudflare::D1Database".into(),
        physical_name: checked.physical_name,
        outputs,
    }));

    let kind = worker::Worker::new(Arc::clone(&bench.client), testing::bundler());
    let code = "export default { fetch() { return new Response('hi') } }";
    let mut checked = bench.check(
        &kind,
        json!({ "script": code, "crons": ["0 2 * * *"], "placement": { "mode": "smart" } }),
    );
    let bindings = Map::from([
        ("DB".to_owned(), handle),
        ("MODE".to_owned(), Value::from("x")),
    ]);
    checked
        .props
        .insert("bindings".to_owned(), Value::Map(bindings));
    let context = bench.context(&checked);
    let outputs = kind.create(&context, &checked.props).await.unwrap();
    assert_eq!(
        outputs["url"].as_str().map(|url| url.split('.').next()),
        Some(Some("http://thing-dev"))
    );
    let found = kind.find(&context, &checked.props).await.unwrap().unwrap();
    assert_eq!(found.ours, Some(true));
    for key in ["id", "name", "url", "versionId", "createdAt"] {
        assert_eq!(found.outputs.get(key), outputs.get(key), "{key}");
        assert!(outputs.contains_key(key), "{key}");
    }
    let other = OperationContext {
        fqn: Fqn::parse("app/dev/other").unwrap(),
        ..context.clone()
    };
    let found = kind.find(&other, &checked.props).await.unwrap().unwrap();
    assert_eq!(found.ours, Some(false));
    let error = kind.create(&other, &checked.props).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Conflict);

    let existing = Existing {
        props: checked.props.clone(),
        outputs,
        physical_name: checked.physical_name,
        settled: true,
        attempted: Map::new(),
    };
    let next = bench.check(
        &kind,
        json!({ "script": "export default {}", "url": false }),
    );
    let outputs = kind.update(&context, &next.props, &existing).await.unwrap();
    assert!(!outputs.contains_key("url"));
    assert_ne!(outputs["versionId"], existing.outputs["versionId"]);
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn r2_with_domains_and_notifications() {
    let bench = Bench::new();
    let queue = queue::Queue::new(Arc::clone(&bench.client));
    let mut queues = Vec::new();
    for name in ["first", "second"] {
        let checked = bench.check(&queue, json!({ "name": name }));
        let context = bench.context(&checked);
        let outputs = queue.create(&context, &checked.props).await.unwrap();
        queues.push(outputs["id"].as_str().unwrap().to_owned());
    }
    let kind = r2_bucket::R2Bucket::new(Arc::clone(&bench.client));
    let props = |host: &str, queue: &str, prefix: &str| {
        json!({
            "jurisdiction": "eu",
            "domains": ["Kept.example.com", { "domain": host, "zone": "example.com", "minTls": "1.3" }],
            "notifications": [
                { "queue": queue, "actions": ["PutObject"], "prefix": prefix },
                { "queue": queues[1], "actions": ["DeleteObject"] },
            ],
        })
    };
    let first = props("old.example.com", &queues[0], "a");
    let existing = bench
        .walk(&kind, first, props("new.example.com", &queues[1], "b"))
        .await;
    let name = existing.physical_name.as_str();
    let get = async |path: String| {
        let call = super::client::Call::get(path).header("cf-r2-jurisdiction", "eu");
        let answer = bench.client.call(&testing::context("x"), &call).await;
        answer.unwrap().result
    };
    let domains = get(format!("r2/buckets/{name}/domains/custom")).await;
    let shown = |domain: &Json| json!([domain["domain"], domain["minTLS"], domain["enabled"]]);
    let domains: Vec<Json> = domains["domains"]
        .as_array()
        .unwrap()
        .iter()
        .map(shown)
        .collect();
    assert_eq!(
        json!(domains),
        json!([
            ["kept.example.com", "1.0", true],
            ["new.example.com", "1.3", true]
        ])
    );
    let rules = get(format!("event_notifications/r2/{name}/configuration")).await;
    let told = rules["queues"].as_array().unwrap();
    assert_eq!(told.len(), 1, "{rules}");
    assert_eq!(told[0]["queueId"], json!(queues[1]));
    assert_eq!(
        told[0]["rules"].as_array().map(Vec::len),
        Some(2),
        "{rules}"
    );

    // A queue that is not there is not taken for a bucket that is not there.
    let none = bench.check(&kind, props("new.example.com", &"0".repeat(32), "c"));
    let context = bench.context(&none);
    let error = kind
        .update(&context, &none.props, &existing)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Refused, "{error}");
    // Neither is a host name that another bucket has.
    let other = bench.check(
        &kind,
        json!({ "name": "other", "domains": ["kept.example.com"] }),
    );
    let context = bench.context(&other);
    let error = kind.create(&context, &other.props).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Ambiguous, "{error}");
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn r2_objects() {
    let bench = Bench::new();
    let bucket = r2_bucket::R2Bucket::new(Arc::clone(&bench.client));
    let checked = bench.check(&bucket, json!({ "name": "files", "jurisdiction": "eu" }));
    let context = bench.context(&checked);
    bucket.create(&context, &checked.props).await.unwrap();
    let page = bench.folder.path().join("page");
    fs::write_atomic(&page, b"<p>").unwrap();
    let kind = r2_object::R2Object::new(Arc::clone(&bench.client));
    let props = |rest: Json| {
        let mut all = json!({ "bucket": "files", "jurisdiction": "eu", "key": "site/a b?#%.html" });
        let rest = rest.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(rest);
        all
    };
    let first = props(json!({ "content": "text", "contentLanguage": "en" }));
    let existing = bench
        .walk(&kind, first.clone(), props(json!({ "file": "page" })))
        .await;
    assert_eq!(existing.outputs["size"], Value::Int(3));
    bench.refuses_a_second(&kind, first).await;
    fs::write_atomic(&page, b"<b>").unwrap();
    let context = testing::context(&existing.physical_name);
    let context = OperationContext {
        folder: bench.folder.path().into(),
        ..context
    };
    let error = kind
        .update(&context, &existing.props, &existing)
        .await
        .unwrap_err();
    assert_eq!(error.message, "the file `page` changed during the run");
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn gateways_and_tunnels() {
    let bench = Bench::new();
    let kind = Object::new(Arc::clone(&bench.client), ai_gateway::AiGateway);
    let existing = bench
        .walk(
            &kind,
            json!({ "cacheTtl": 60, "authentication": true }),
            json!({ "collectLogs": false }),
        )
        .await;
    let path = format!("ai-gateway/gateways/{}", existing.physical_name);
    let call = super::client::Call::get(path);
    let answer = bench.client.call(&testing::context("x"), &call).await;
    let now = answer.unwrap().result;
    let fields = ["cache_ttl", "collect_logs", "authentication"].map(|field| now[field].clone());
    assert_eq!(json!(fields), json!([0, false, false]));
    bench.refuses_a_second(&kind, json!({})).await;
    bench.remove(&kind, &existing).await;

    let kind = Object::new(Arc::clone(&bench.client), tunnel::Tunnel);
    let secret = "A".repeat(44);
    let rules = json!([{ "service": "http://localhost:8080" }]);
    let existing = bench
        .walk(
            &kind,
            json!({ "ingress": rules }),
            json!({ "tunnelSecret": secret }),
        )
        .await;
    let Value::Secret(token) = &existing.outputs["token"] else {
        panic!("the token is no secret: {:?}", existing.outputs);
    };
    assert_ne!(*token, crate::model::Secret::plain(""));
    let id = existing.outputs["id"].as_str().unwrap();
    let call = super::client::Call::get(format!("cfd_tunnel/{id}/configurations"));
    let answer = bench.client.call(&testing::context("x"), &call).await;
    assert_eq!(
        answer.unwrap().result["config"],
        json!({ "ingress": [{ "service": "http_status:404" }] })
    );
    bench.refuses_a_second(&kind, json!({})).await;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn zones_with_settings() {
    let bench = Bench::new();
    let kind = Object::new(Arc::clone(&bench.client), zone::Zone);
    let existing = bench
        .walk(
            &kind,
            json!({ "name": "example.com", "settings": { "ssl": "strict", "browserCacheTtl": 60 } }),
            json!({ "name": "example.com", "paused": true, "type": "partial" }),
        )
        .await;
    assert_eq!(existing.outputs["paused"], Value::Bool(true));
    assert_eq!(existing.outputs["type"], Value::from("partial"));
    let id = existing.outputs["id"].as_str().unwrap();
    let ssl = super::client::Call::get(format!("zones/{id}/settings/ssl"));
    let answer = bench
        .client
        .call(&testing::context("x"), &ssl)
        .await
        .unwrap();
    assert_eq!(answer.result["value"], "full");
    bench
        .refuses_a_second(&kind, json!({ "name": "example.com" }))
        .await;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn records_routes_and_domains() {
    let bench = Bench::new();
    let worker = worker::Worker::new(Arc::clone(&bench.client), testing::bundler());
    let checked = bench.check(
        &worker,
        json!({ "script": "export default {}", "url": false }),
    );
    let context = bench.context(&checked);
    worker.create(&context, &checked.props).await.unwrap();

    let kind = dns_records::DnsRecords::new(Arc::clone(&bench.client));
    let props = |records: Json| json!({ "zone": "example.com", "records": records });
    let first = json!([
        { "type": "A", "name": "a", "content": "192.0.2.1" },
        { "type": "TXT", "name": "@", "content": "text", "comment": "x" },
    ]);
    let then = json!([
        { "type": "A", "name": "a", "content": "192.0.2.2", "ttl": 60 },
        { "type": "MX", "name": "@", "content": "mail.example.com", "priority": 1 },
    ]);
    let existing = bench.walk(&kind, props(first), props(then.clone())).await;
    let records = existing.outputs["records"].as_array().unwrap().len();
    assert_eq!(records, 2);
    bench.refuses_a_second(&kind, props(then)).await;
    bench.remove(&kind, &existing).await;

    let kind = Object::new(Arc::clone(&bench.client), route::Route);
    let props = |pattern: &str, script: Json| json!({ "pattern": pattern, "script": script });
    let existing = bench
        .walk(
            &kind,
            props("example.com/*", json!("thing-dev")),
            props("example.com/*", json!(null)),
        )
        .await;
    assert!(!existing.outputs.contains_key("script"));
    bench
        .refuses_a_second(&kind, props("example.com/*", json!(null)))
        .await;
    bench.remove(&kind, &existing).await;

    let kind = custom_domain::CustomDomain::new(Arc::clone(&bench.client));
    let props = json!({ "name": "api.example.com", "worker": "thing-dev" });
    let existing = bench.walk(&kind, props.clone(), props.clone()).await;
    bench.refuses_a_second(&kind, props).await;
    bench.remove(&kind, &existing).await;
}

#[tokio::test]
async fn stores_configurations_and_indexes() {
    let bench = Bench::new();
    let kind = Object::new(Arc::clone(&bench.client), secrets_store::SecretsStore);
    let store = bench.walk(&kind, json!({}), json!({})).await;
    bench.refuses_a_second(&kind, json!({})).await;
    let secret = Object::new(Arc::clone(&bench.client), secrets_store::Secret);
    let id = store.outputs["id"].as_str().unwrap();
    let props = |value: &str| json!({ "store": id, "value": value });
    let existing = bench.walk(&secret, props("one"), props("two")).await;
    bench.refuses_a_second(&secret, props("three")).await;
    bench.remove(&secret, &existing).await;
    bench.remove(&kind, &store).await;

    let kind = Object::new(Arc::clone(&bench.client), hyperdrive::Hyperdrive);
    let props = |host: &str| json!({ "origin": format!("postgres://me:p@{host}/main") });
    let existing = bench
        .walk(&kind, props("a.example.com"), props("b.example.com"))
        .await;
    bench.refuses_a_second(&kind, props("a.example.com")).await;
    bench.remove(&kind, &existing).await;

    let kind = Object::new(Arc::clone(&bench.client), vectorize_index::VectorizeIndex);
    let props = |metadata: Json| json!({ "dimensions": 3, "metadataIndexes": metadata });
    let url = json!([{ "propertyName": "url", "indexType": "string" }]);
    let age = json!([{ "propertyName": "age", "indexType": "number" }]);
    let existing = bench.walk(&kind, props(url), props(age)).await;
    let path = format!(
        "vectorize/v2/indexes/{}/metadata_index/list",
        existing.physical_name
    );
    let list = super::client::Call::get(path);
    let list = bench
        .client
        .call(&testing::context("x"), &list)
        .await
        .unwrap();
    assert_eq!(
        list.result["metadataIndexes"],
        json!([{ "propertyName": "age", "indexType": "number" }])
    );
    bench
        .refuses_a_second(&kind, json!({ "dimensions": 3 }))
        .await;
    bench.remove(&kind, &existing).await;
}
