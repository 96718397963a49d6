//! Static assets of Workers: uploaded once by their hash, and served with their rules.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use serde_json::json;
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, request, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("site");
let api = Worker("api", #{
    entrypoint: "worker.js",
    bindings: #{ FILES: Assets("./public"), MODE: "x" },
    assets: #{ notFoundHandling: "single-page-application", runWorkerFirst: ["/api/*", "!/api/static.txt"] },
});
Worker("caller", #{ script: `export default { fetch: (request, env) => env.API.fetch("http://x/hello.txt") }`, bindings: #{ API: api } });
Worker("docs", #{ assets: #{ directory: "docs", notFoundHandling: "404-page", htmlHandling: "drop-trailing-slash" } });
app.finalize();
"#;

const CODE: &str = r#"
export default {
    async fetch(request, env) {
        const { pathname } = new URL(request.url);
        if (pathname === "/api/file") return env.FILES.fetch(new URL("/hello.txt", request.url));
        return Response.json({ code: pathname, mode: env.MODE });
    },
};
"#;

fn project() -> Project {
    let project = Project::with_script(SCRIPT);
    project
        .file("worker.js", CODE)
        .file("public/index.html", "<h1>home</h1>")
        .file("public/hello.txt", "hello")
        .file("public/api/static.txt", "static")
        .file("public/secret.map", "map")
        .file("public/.assetsignore", "*.map\n")
        .file("public/_headers", "/hello.txt\n  X-Kind: greeting\n")
        .file(
            "public/_redirects",
            "/old /hello.txt 301\n/v1/* /v2/:splat\n",
        )
        .file("docs/index.html", "docs")
        .file("docs/page.html", "a page")
        .file("docs/404.html", "nothing here");
    project
}

#[test]
fn files_are_served_before_the_code_and_by_their_rules() {
    let Some(project) = with_runtime(project()) else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let get = |worker: &str, path: &str| served.ask(worker, "GET", path, "");
    let text = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(get("api-dev", "/"), text(200, "<h1>home</h1>"));
    assert_eq!(get("api-dev", "/hello.txt"), text(200, "hello"));
    assert_eq!(get("api-dev", "/api/static.txt"), text(200, "static"));
    assert_eq!(get("api-dev", "/api/file"), text(200, "hello"));
    assert_eq!(
        served.get("api-dev", "/api/x"),
        json!({"code": "/api/x", "mode": "x"})
    );
    // Left out, and so a page of the application.
    assert_eq!(get("api-dev", "/secret.map"), text(200, "<h1>home</h1>"));
    assert_eq!(get("api-dev", "/_headers"), text(200, "<h1>home</h1>"));
    assert_eq!(get("api-dev", "/index.html").0, 307);
    assert_eq!(get("api-dev", "/old").0, 301);
    assert_eq!(get("api-dev", "/v1/a").0, 302);
    // Through another Worker.
    assert_eq!(get("caller-dev", "/"), text(200, "hello"));
    // Without code.
    assert_eq!(get("docs-dev", "/page"), text(200, "a page"));
    assert_eq!(get("docs-dev", "/none"), text(404, "nothing here"));

    // A new file and another text: only those two are uploaded.
    project.file("public/hello.txt", "hello again");
    project.file("public/new.txt", "new");
    project.alch(["run"]).success();
    served.ask_until("api-dev", "/hello.txt", |_, body| body == "hello again");
    assert_eq!(get("api-dev", "/new.txt"), text(200, "new"));
    // Code alone: the files stay.
    project.file(
        "worker.js",
        CODE.replace("code: pathname", "path: pathname"),
    );
    project.alch(["run"]).success();
    served.ask_until("api-dev", "/api/x", |_, body| body.contains("path"));
    assert_eq!(get("api-dev", "/new.txt"), text(200, "new"));
}

/// The head of an answer, in small letters.
fn head(port: u16, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join("\n").to_ascii_lowercase()
}

#[test]
fn headers_come_with_the_files() {
    let Some(project) = with_runtime(project()) else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let host = format!("api-dev.localhost:{}", served.port);
    let headers = |path: &str| head(served.port, &host, path);
    let hello = headers("/hello.txt");
    assert!(hello.contains("x-kind: greeting"), "{hello}");
    assert!(
        hello.contains("content-type: text/plain; charset=utf-8"),
        "{hello}"
    );
    assert!(headers("/v1/a").contains("location: /v2/a"));
    let (status, _) = request(served.port, "POST", "/hello.txt", &[("host", &host)], "");
    assert_eq!(status, 405);
}

#[test]
fn unchanged_files_cost_nothing_and_mistakes_are_told() {
    let project = project();
    project.alch(["run"]).success();
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 0 updated, 0 deleted, 3 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
    project.file("public/_headers", "/hello.txt\n  X-Kind: other\n");
    let changed = project.alch(["run"]).success().last_line();
    assert!(changed.starts_with("0 created, 1 updated"), "{changed}");
    project.alch(["destroy", "--yes"]).success();
    let files = std::fs::read_dir(project.path(".alchemy/local/assets")).unwrap();
    assert!(files.count() > 0, "their sessions are still open");

    for script in [
        r#"Worker("a", #{ assets: "./nothing" })"#,
        r#"Worker("a", #{ assets: #{ directory: "public", runWorkerFirst: true } })"#,
        r#"Worker("a", #{ script: "", bindings: #{ ASSETS: "x" }, assets: "public" })"#,
        r#"Worker("a", #{ script: "", bindings: #{ A: Assets("public"), B: Assets("docs") } })"#,
        r#"Worker("a", #{ assets: #{ directory: "public", notFound: "none" } })"#,
        r#"Worker("a", #{ script: "", bindings: #{ A: Assets(#{ path: "public", spa: true }) } })"#,
    ] {
        project.file(
            "alchemy.run.rhai",
            format!("alchemy(\"site\");\n{script};\n"),
        );
        project.alch(["run"]).code(1);
    }
    let last = project.alch(["run"]);
    last.check(str![[r#"
exit 1
-- stderr
alch: app site, stage dev, phase up, target local
error[E0104]: `Assets` does not know `spa`
 --> alchemy.run.rhai:2:44
  |
2 | Worker("a", #{ script: "", bindings: #{ A: Assets(#{ path: "public", spa: true }) } });
  |                                            ^^^^^^
  |
  = help: it takes `path`; how files are served stands in `assets` of the Worker
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}
