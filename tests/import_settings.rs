//! `alch import` prints every setting that an object has: a rebuild from its lines makes it as it was.

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud};

const THEIRS: &str = r#"
alchemy("theirs");
let zone = Zone("example.com", #{ settings: #{ ssl: "strict" } });
let jobs = Queue("jobs");
let dead = Queue("dead");
Bucket("files", #{
    storageClass: "InfrequentAccess",
    devDomain: true,
    cors: [#{ allowed: #{ origins: ["https://example.com"], methods: ["GET"] }, maxAgeSeconds: 60 }],
    lifecycle: [#{ id: "old", enabled: true, conditions: #{ prefix: "log/" },
                   deleteObjectsTransition: #{ condition: #{ type: "Age", maxAge: 86400 } } }],
    lock: [#{ id: "keep", enabled: true, prefix: "a/", condition: #{ type: "Age", maxAgeSeconds: 60 } }],
    domains: [#{ domain: "files.example.com", zone: zone, minTls: "1.2" }],
    notifications: [#{ queue: jobs, actions: ["PutObject"], prefix: "a/" }],
});
Bucket("plain");
Database("orders", #{ readReplication: #{ mode: "auto" } });
Worker("api", #{
    script: "export default { fetch() { return new Response('hi') }, queue() {} }",
    routes: [#{ pattern: "example.com/api/*", zone: zone }],
    domains: [#{ name: "api.example.com", zone: zone }],
    eventSources: [#{ queue: jobs, settings: #{ batchSize: 5, deadLetterQueue: dead } }],
});
AiGateway("gate", #{ cacheTtl: 60, collectLogs: false });
Tunnel("way", #{ ingress: [#{ hostname: "way.example.com", service: "http://localhost:80" }, #{ service: "http_status:404" }] });
"#;

fn id_of(theirs: &Project, resource: &str) -> String {
    let shown = theirs.alch(["state", "show", resource, "--json"]).success();
    let id = &shown.messages()[1]["outputs"]["id"];
    id.as_str().expect("an id").to_owned()
}

fn import(project: &Project, kind: &str, id: &str, name: &str) -> Output {
    let all = ["import", "--target", "cloudflare", "--app", "shop"];
    project.alch(all.iter().chain(&[kind, id, name])).success()
}

#[test]
fn everything_that_is_set_stands_in_the_lines() {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(THEIRS);
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let (queue, zone) = (id_of(&theirs, "jobs"), id_of(&theirs, "example.com"));
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    cloud.take_calls();

    let mut lines = String::new();
    let mut shown = String::new();
    for (kind, id, name) in [
        ("Zone", id_of(&theirs, "example.com"), "example.com"),
        ("Bucket", "files-dev".to_owned(), "files"),
        ("Bucket", "plain-dev".to_owned(), "plain"),
        ("Database", "orders-dev".to_owned(), "orders"),
        ("Worker", "api-dev".to_owned(), "api"),
        ("AiGateway", id_of(&theirs, "gate"), "gate"),
        ("Tunnel", id_of(&theirs, "way"), "way"),
    ] {
        let imported = import(&project, kind, &id, name);
        lines += &imported.stdout;
        shown += &imported.stdout;
        let notes = imported.stderr.lines();
        for note in notes.filter(|line| line.starts_with("not looked at")) {
            shown += &format!("{note}\n");
        }
    }
    let shown = shown.replace(&queue, "[JOBS]").replace(&zone, "[ZONE]");
    snapbox::assert_data_eq!(
        shown,
        str![[r#"
Zone("example.com", #{ settings: #{ ssl: "strict" } });
Bucket("files", #{ cors: [#{ allowed: #{ methods: ["GET"], origins: ["https://example.com"] }, maxAgeSeconds: 60 }], devDomain: true, domains: [#{ domain: "files.example.com", enabled: true, minTls: "1.2", zoneId: "[ZONE]" }], lifecycle: [#{ conditions: #{ prefix: "log/" }, deleteObjectsTransition: #{ condition: #{ maxAge: 86400, "type": "Age" } }, enabled: true, id: "old" }], lock: [#{ condition: #{ maxAgeSeconds: 60, "type": "Age" }, enabled: true, id: "keep", prefix: "a/" }], notifications: [#{ actions: ["PutObject"], prefix: "a/", queue: "[JOBS]" }], storageClass: "InfrequentAccess" });
Bucket("plain");
Database("orders", #{ readReplication: #{ mode: "auto" } });
not looked at: `migrations`, `importFiles`: the lines leave them as they are, and a rebuild from the script would lack them
Worker("api", #{ compatibilityDate: "2026-07-01", domains: ["api.example.com"], entrypoint: "./api/worker.js", eventSources: [#{ queue: "[JOBS]", settings: #{ batchSize: 5, deadLetterQueue: "dead-dev" } }], noBundle: true, routes: ["example.com/api/*"] });
AiGateway("gate", #{ cacheTtl: 60, collectLogs: false, name: "theirs-gate-dev" });
Tunnel("way", #{ ingress: [#{ hostname: "way.example.com", service: "http://localhost:80" }, #{ service: "http_status:404" }], name: "theirs-way-dev" });
not looked at: `tunnelSecret`: the lines leave them as they are, and a rebuild from the script would lack them

"#]]
    );
    let calls = cloud.take_calls();
    let changing: Vec<_> = calls
        .iter()
        .filter(|call| !call.starts_with("GET "))
        .collect();
    assert!(changing.is_empty(), "{changing:?}");

    project.file("alchemy.run.rhai", format!("alchemy(\"shop\");\n{lines}"));
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("7 unchanged"), "{}", run.stderr);
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
    project.alch(["drift"]).success();

    // What is taken out of the lines is taken away, as with everything that a script made.
    let fewer = lines
        .replace("\"api.example.com\"", "")
        .replace("devDomain: true, ", "");
    assert_ne!(fewer, lines);
    project.file("alchemy.run.rhai", format!("alchemy(\"shop\");\n{fewer}"));
    project.alch(["run", "--target", "cloudflare"]).success();
    let managed = cloud.ask("GET", "r2/buckets/files-dev/domains/managed", "");
    assert_eq!(managed["enabled"], false);
    assert_eq!(
        cloud
            .ask("GET", "workers/domains", "")
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}
