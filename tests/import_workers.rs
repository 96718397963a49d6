//! `alch import Worker`: a Worker that is there comes into state with its code, its settings and what it is bound to.

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud};

/// A Worker that somebody else deployed.
fn theirs(cloud: &ServedCloud, script: &str) {
    let mut other = Project::with_script(script);
    other.file("src/index.js", "import { word } from './lib/word.js';\nimport text from './hello.txt';\nexport default { fetch() { return new Response(word + text) }, scheduled() {} };\n");
    other.file("src/lib/word.js", "export const word = 'hello';\n");
    other.file("src/hello.txt", "hello\n");
    other.file("public/index.html", "<h1>hello</h1>\n");
    cloud.serve_to(&mut other);
    other.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
}

const THEIRS: &str = r#"
alchemy("theirs");
let cache = KV("cache");
let files = Bucket("files");
Worker("api", #{
    entrypoint: "./src/index.js",
    bindings: #{ CACHE: cache, FILES: files, MODE: "calm", LIMIT: #{ most: 3 }, WORD: Json("text"), KEY: secret("s3cret-of-theirs"),
        ME: Self(), COUNT: RateLimit(#{ namespaceId: 7, limit: 5, period: 60 }) },
    crons: ["0 2 * * *"], tags: ["team-a"], limits: #{ cpuMs: 50 }, observability: #{ enabled: false }, url: false,
});
"#;

fn project(cloud: &ServedCloud) -> Project {
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    project
}

fn import(project: &Project, arguments: &[&str]) -> Output {
    let all = ["import", "--target", "cloudflare", "--app", "shop"];
    project.alch(all.iter().chain(arguments))
}

#[test]
fn a_worker_comes_with_its_code_and_its_lines_change_nothing() {
    let cloud = ServedCloud::quick();
    theirs(&cloud, THEIRS);
    let project = project(&cloud);
    let namespaces = cloud.ask("GET", "storage/kv/namespaces", "");
    let id = namespaces[0]["id"].as_str().unwrap().to_owned();
    cloud.take_calls();
    let imported = import(&project, &["Worker", "api-dev"]).success();
    let lines = imported.stdout.clone();
    imported.replacing(&id, "[ID]").check(str![[r#"
exit 0
-- stdout
Worker("api", #{ bindings: #{ CACHE: Binding("kv_namespace", #{ namespaceId: "[ID]" }), COUNT: Binding("ratelimit", #{ namespaceId: "7", simple: #{ limit: 5, period: 60 } }), FILES: Binding("r2_bucket", #{ bucketName: "files-dev" }), LIMIT: #{ most: 3 }, ME: Binding("service", #{ service: "api-dev" }), MODE: "calm", WORD: Binding("json", #{ json: "text" }) }, compatibilityDate: "2026-07-01", crons: ["0 2 * * *"], entrypoint: "./api/index.js", keepBindings: ["secret_text"], limits: #{ cpuMs: 50 }, noBundle: true, observability: #{ enabled: false }, tags: ["team-a"], url: false });
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   api  api-dev  [TIME]
its files are in `api`, beside the script
no call shows the values of secrets (`KEY`): `keepBindings` leaves them as they are; to set one from the script, bind it as `secret(env("NAME"))` and take its type out of `keepBindings` when all are bound
imported as `api`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 13 API calls)

"#]]);
    let calls = cloud.take_calls();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );
    let word = std::fs::read_to_string(project.path("api/lib/word.js")).unwrap();
    assert_eq!(word, "export const word = 'hello';\n");

    let script = format!("alchemy(\"shop\");\n{lines}");
    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("1 unchanged"), "{}", run.stderr);
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
    project.alch(["drift"]).success();

    // What the lines bind stays bound, the secret too, when the Worker is deployed from here.
    project.file("api/lib/word.js", "export const word = 'goodbye';\n");
    project.alch(["run", "--target", "cloudflare"]).success();
    project.alch(["drift"]).success();
    let settings = cloud.ask("GET", "workers/scripts/api-dev/settings", "");
    let mut names: Vec<&str> = settings["bindings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|binding| binding["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "CACHE", "COUNT", "FILES", "KEY", "LIMIT", "ME", "MODE", "WORD"
        ]
    );
}

#[test]
fn what_cannot_be_imported_is_refused_and_leaves_nothing_behind() {
    let cloud = ServedCloud::quick();
    theirs(
        &cloud,
        r#"
alchemy("theirs");
Worker("room", #{
    script: "export class Room {} export default {}",
    bindings: #{ ROOM: DurableObjectNamespace("rooms", #{ className: "Room" }) },
});
Worker("page", #{ script: "export default {}", assets: "./public" });
Worker("odd", #{ script: "import x from 'nowhere'; export default { x }" });
Worker("plain", #{ script: "export default {}" });
"#,
    );
    let project = project(&cloud);
    import(&project, &["Worker", "room-dev"]).check(str![[r#"
exit 1
-- stderr
error[E0203]: `room-dev` (cloudflare::Worker) cannot be imported: it owns the Durable Object class `Room` (binding `ROOM`), which is a resource of its own
 = note: nothing was changed
 = help: declare both, the class as `ROOM: DurableObjectNamespace(.., #{ className: "Room" })` among the bindings, with `adopt: true`: `alch run` takes them over, and the objects keep their data

"#]]);
    import(&project, &["Worker", "page-dev"]).check(str![[r#"
exit 1
-- stderr
error[E0203]: `page-dev` (cloudflare::Worker) cannot be imported: it serves static assets, which no call gives back
 = note: nothing was changed
 = help: declare it with `assets: "./folder"` and `adopt: true`, and `alch run` takes it over

"#]]);
    import(&project, &["Worker", "odd-dev"]).check(str![[r#"
exit 1
-- stderr
error[E0203]: `odd-dev` (cloudflare::Worker) cannot be declared by what the account shows of it: `[ROOT]/project/odd/worker.js`, line 1 imports the package `nowhere`
 = note: nothing was changed
 = help: declare it with what is missing, and `alch run` takes it over: `Worker("odd", #{ name: "odd-dev", adopt: true, .. })`

"#]]);
    assert!(!project.path("odd").exists());
    project.file("plain/mine.txt", "mine");
    import(&project, &["Worker", "plain-dev"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: `plain` is there already, where the files were to go
 = note: nothing was changed
 = help: move `[ROOT]/project/plain` away, or give the resource another name: `alch import KIND ID NAME`

"#]]);
    assert_eq!(
        std::fs::read_to_string(project.path("plain/mine.txt")).unwrap(),
        "mine"
    );
    import(&project, &["Worker", "plain-dev", "backend/other"]).check(str![[r#"
exit 0
-- stdout
alchemy.run("backend", || {
    Worker("other", #{ compatibilityDate: "2026-07-01", entrypoint: "./other/worker.js", name: "plain-dev", noBundle: true });
});
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   backend/other  plain-dev  [TIME]
its files are in `other`, beside the script
imported as `backend/other`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 14 API calls)

"#]]);
    project
        .alch(["scan", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
// 3 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("shop");

// cloudflare::Worker: 3
// alch import Worker odd-dev --app shop --target cloudflare
// `page-dev` cannot be imported: it serves static assets, which no call gives back
//   declare it with `assets: "./folder"` and `adopt: true`, and `alch run` takes it over
// `room-dev` cannot be imported: it owns the Durable Object class `Room` (binding `ROOM`), which is a resource of its own
//   declare both, the class as `ROOM: DurableObjectNamespace(.., #{ className: "Room" })` among the bindings, with `adopt: true`: `alch run` takes them over, and the objects keep their data
-- stderr
    3  cloudflare::Worker
3 of 4 objects unknown to state (20 API calls)

"#]]);
}
