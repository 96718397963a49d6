//! What happens to objects of buckets reaches queues, and buckets that are open to everybody answer.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Project,
    served::{Served, until, with_runtime},
};

const NOTIFYING: &str = r#"
let app = alchemy("told");
let news = Queue("news");
let files = Bucket("files", #{
    notifications: [
        #{ queue: news, actions: ["PutObject", "CompleteMultipartUpload"], prefix: "in/" },
        #{ queue: news, actions: ["DeleteObject"] },
    ],
});
let seen = KV("seen");
Worker("api", #{
    script: `export default {
        async fetch(request, { FILES, SEEN }) {
            const key = decodeURIComponent(new URL(request.url).pathname.slice(1));
            if (key === "seen") return new Response((await SEEN.get("all")) ?? "[]");
            if (request.method === "PUT") await FILES.put(key, request.body);
            if (request.method === "DELETE") await FILES.delete(key);
            if (request.method === "POST") {
                const upload = await FILES.createMultipartUpload(key);
                const part = await upload.uploadPart(1, "parts");
                await upload.complete([part]);
            }
            return Response.json("done");
        },
        async queue(batch, { SEEN }) {
            const all = JSON.parse((await SEEN.get("all")) ?? "[]");
            all.push(...batch.messages.map((message) => message.body));
            await SEEN.put("all", JSON.stringify(all));
        },
    }`,
    bindings: #{ FILES: files, SEEN: seen },
    eventSources: [#{ queue: news, settings: #{ maxWaitTimeMs: 0, batchSize: 1 } }],
});
app.finalize();
"#;

/// What the consumer was told, by action and key.
fn told(served: &Served, action: &str, key: &str) -> Value {
    until(|| {
        let (_, text) = served.ask("api-dev", "GET", "/seen", "");
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        let wanted =
            |message: &&Value| message["action"] == action && message["object"]["key"] == key;
        all.iter().find(wanted).cloned()
    })
}

#[test]
fn a_consumer_is_told_what_workers_and_the_api_do_to_objects() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", NOTIFYING);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    // Through the binding of a Worker.
    served.ask("api-dev", "PUT", "/out/a.txt", "not told");
    served.ask("api-dev", "PUT", "/in/a.txt", "body");
    let mut put = told(&served, "PutObject", "in/a.txt");
    let time: jiff::Timestamp = put["eventTime"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 600);
    put["eventTime"] = Value::Null;
    assert_eq!(
        put,
        json!({
            "account": alch::local::DEFAULT_ACCOUNT,
            "action": "PutObject",
            "bucket": "files-dev",
            "object": {"key": "in/a.txt", "size": 4, "eTag": "841a2d689ad86bd1611447453c22c6fc"},
            "eventTime": null,
        })
    );
    served.ask("api-dev", "POST", "/in/parts", "");
    let parts = told(&served, "CompleteMultipartUpload", "in/parts");
    assert_eq!(parts["object"]["size"], 5);
    served.ask("api-dev", "DELETE", "/out/a.txt", "");
    let deleted = told(&served, "DeleteObject", "out/a.txt");
    assert_eq!(deleted["object"], json!({"key": "out/a.txt"}));
    // Through the API of the running server.
    served.call("PUT", "r2/buckets/files-dev/objects/in/b.txt", "four");
    told(&served, "PutObject", "in/b.txt");
    served.call("DELETE", "r2/buckets/files-dev/objects/in/b.txt", "");
    told(&served, "DeleteObject", "in/b.txt");
    // And from another process.
    project.file(
        "alchemy.run.rhai",
        NOTIFYING.replace(
            "let seen =",
            "R2Object(\"c\", #{ bucket: files, key: \"in/c.txt\", content: \"c\" });\nlet seen =",
        ),
    );
    project.alch(["run"]).success();
    told(&served, "PutObject", "in/c.txt");
    let (_, text) = served.ask("api-dev", "GET", "/seen", "");
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 6, "{all:?}");
}

const OPEN: &str = r#"
let app = alchemy("open");
let zone = Zone("example.com");
let files = Bucket("files", #{ devDomain: true, domains: ["files.example.com"] });
let closed = Bucket("closed");
R2Object("page", #{ bucket: files, key: "a b/page.html", content: "<h1>a page</h1>", contentType: "text/html" });
R2Object("secret", #{ bucket: closed, key: "page.html", content: "no" });
print(`${files.url} ${files.domain}`);
app.finalize();
"#;

/// Asks as a client of HTTP/1.1 does; answers the status, the headers in small letters and the body.
fn ask(
    served: &Served,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", served.port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}:{}\r\nconnection: close\r\n{more}\r\n",
        served.port
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[test]
fn an_open_bucket_answers_at_its_addresses() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", OPEN);
    let shown = project.alch(["run"]).success().stdout;
    let line = shown
        .lines()
        .find(|line| line.starts_with("http://pub-"))
        .unwrap();
    let (url, domain) = line.split_once(' ').unwrap();
    assert_eq!(url, format!("http://{domain}"));
    assert!(domain.ends_with(".localhost:8787"), "{domain}");
    let host = domain.split(':').next().unwrap();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let page = "/a%20b/page.html";
    let (status, head, body) = ask(&served, host, "GET", page, &[]);
    assert_eq!((status, body.as_str()), (200, "<h1>a page</h1>"), "{head}");
    for wanted in [
        "content-type: text/html",
        "content-length: 15",
        "accept-ranges: bytes",
        "last-modified: ",
    ] {
        assert!(head.contains(wanted), "{wanted} is not in {head}");
    }
    let etag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let (status, head, body) = ask(&served, "files.example.com", "HEAD", page, &[]);
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 15"), "{head}");
    for (range, status, told, content) in [
        ("bytes=4-9", 206, "content-range: bytes 4-9/15", "a page"),
        ("bytes=-5", 206, "content-range: bytes 10-14/15", "</h1>"),
        (
            "bytes=100-",
            416,
            "content-range: bytes */15",
            "There is no such range\n",
        ),
    ] {
        let (got, head, body) = ask(&served, host, "GET", page, &[("range", range)]);
        assert_eq!((got, body.as_str()), (status, content), "{range}: {head}");
        assert!(head.contains(told), "{told} is not in {head}");
    }
    for (name, value, status) in [
        ("if-none-match", etag, 304),
        ("if-none-match", "\"other\"", 200),
        ("if-match", "\"other\"", 412),
        ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT", 200),
        ("if-unmodified-since", "Wed, 01 Jan 2020 00:00:00 GMT", 412),
    ] {
        let (got, head, _) = ask(&served, host, "GET", page, &[(name, value)]);
        assert_eq!(got, status, "{name}: {value}: {head}");
    }
    assert_eq!(ask(&served, host, "GET", "/none", &[]).0, 404);
    assert_eq!(
        ask(&served, host, "PUT", "/none", &[("content-length", "0")]).0,
        405
    );

    // A bucket that is not open has no address, and one that is closed again has none any more.
    let closed: Value =
        serde_json::from_str(&served.call("GET", "r2/buckets/closed-dev/domains/managed", ""))
            .unwrap();
    let id = closed["result"]["bucketId"].as_str().unwrap();
    assert_eq!(
        ask(
            &served,
            &format!("pub-{id}.localhost"),
            "GET",
            "/page.html",
            &[]
        )
        .0,
        404
    );
    served.call(
        "PUT",
        "r2/buckets/files-dev/domains/managed",
        r#"{"enabled":false}"#,
    );
    until(|| (ask(&served, host, "GET", page, &[]).0 == 404).then_some(()));
    assert_eq!(ask(&served, "files.example.com", "GET", page, &[]).0, 200);
}
