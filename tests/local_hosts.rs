//! Routes and custom domains in the running local cloud: Workers answer to them by the `Host` header, and to nothing else.

use crate::support::{
    Project,
    served::{Served, request, with_runtime},
};

const SCRIPT: &str = r#"
alchemy("hosts");
let api = Worker("api", #{
    script: "export default { fetch: (request) => new Response('api ' + new URL(request.url).pathname) }",
    domains: ["api.example.com"],
});
let docs = Worker("docs", #{ script: "export default { fetch: () => new Response('docs') }" });
Route("docs-of-api", #{ pattern: "api.example.com/docs/*", script: docs });
Route("docs-for-all", #{ pattern: "*.example.org/*", script: docs });
Domain("shop.example.net", #{ worker: api });
"#;

const CHANGED: &str = r#"
alchemy("hosts");
let api = Worker("api", #{
    script: "export default { fetch: (request) => new Response('api ' + new URL(request.url).pathname) }",
    domains: ["v2.example.com"],
    routes: ["example.com/a*"],
});
"#;

#[test]
fn workers_answer_to_their_routes_and_domains_by_host() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let ask = |served: &Served, host: &str, path: &str| {
        request(served.port, "GET", path, &[("host", host)], "")
    };
    for (host, path, status, body) in [
        ("api.example.com", "/x", 200, "api /x"),
        ("api.example.com:80", "/docs/", 200, "docs"),
        ("api.example.com", "/docs", 200, "api /docs"),
        ("a.example.org", "/", 200, "docs"),
        ("dev.shop.example.net", "/", 200, "api /"),
        ("api-dev.localhost", "/", 200, "api /"),
    ] {
        assert_eq!(
            ask(&served, host, path),
            (status, body.to_owned()),
            "{host}{path}"
        );
    }
    for host in [
        "example.com",
        "example.org",
        "xexample.org",
        "shop.example.net",
        "evil.example",
    ] {
        assert_eq!(ask(&served, host, "/").0, 403, "{host}");
    }
    // A page from elsewhere is refused there too.
    let headers = [
        ("host", "api.example.com"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "cors"),
    ];
    assert_eq!(request(served.port, "POST", "/", &headers, "").0, 403);

    project.file("alchemy.run.rhai", CHANGED);
    project.alch(["run"]).success();
    let begun = std::time::Instant::now();
    while ask(&served, "v2.example.com", "/") != (200, "api /".to_owned()) {
        assert!(begun.elapsed().as_secs() < 60, "the change never arrives");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(
        ask(&served, "example.com", "/abc"),
        (200, "api /abc".to_owned())
    );
    assert_eq!(ask(&served, "example.com", "/b").0, 404);
    for host in ["api.example.com", "a.example.org", "dev.shop.example.net"] {
        assert_eq!(ask(&served, host, "/").0, 403, "{host}");
    }
}
