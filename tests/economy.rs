//! How many calls a whole application costs: the first time, unchanged, and after a change of one line.

use crate::support::Project;

const SCRIPT: &str = r#"
let app = alchemy("shop");
let cache = KV("cache");
let db = Database("db", #{ migrations: "migrations" });
let files = Bucket("files");
let jobs = Queue("jobs");
let api = Worker("api", #{
    entrypoint: "src/worker.js",
    bindings: #{ CACHE: cache, DB: db, FILES: files, JOBS: jobs, KEY: secret("hidden") },
    assets: #{ directory: "public", notFoundHandling: "single-page-application" },
    crons: CRONS,
    eventSources: SOURCES,
    tags: TAGS,
});
app.finalize();
"#;

const CODE: &str =
    "export default { fetch() { return new Response('one') }, queue() {}, scheduled() {} };\n";

fn script(crons: &str, sources: &str, tags: &str) -> String {
    SCRIPT
        .replace("CRONS", crons)
        .replace("SOURCES", sources)
        .replace("TAGS", tags)
}

fn project() -> Project {
    let project = Project::with_script(&script("[]", "[]", "[]"));
    project
        .file("src/worker.js", CODE)
        .file("public/index.html", "<h1>shop</h1>")
        .file("public/style.css", "h1 { color: red }")
        .file(
            "migrations/0001_first.sql",
            "CREATE TABLE orders(id INTEGER);",
        );
    project
}

/// Calls of a run, by its summary line.
#[track_caller]
fn calls(project: &Project) -> u32 {
    let output = project.alch(["run"]).success();
    let line = output.stderr.lines().last().unwrap().to_owned();
    let (before, _) = line.split_once(" API call").expect("a summary");
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_did_not_change_is_not_sent() {
    let project = project();
    let first = calls(&project);
    assert!(first <= 14, "{first} calls");
    assert_eq!(calls(&project), 0);

    // Code alone: one upload, which keeps the assets.
    project.file("src/worker.js", CODE.replace("one", "two"));
    assert_eq!(calls(&project), 1);
    assert_eq!(calls(&project), 0);
    // A file: session, file, upload.
    project.file("public/style.css", "h1 { color: blue }");
    assert_eq!(calls(&project), 3);
    // As it was: the session says that nothing is missing.
    project.file("public/style.css", "h1 { color: red }");
    assert_eq!(calls(&project), 2);
    assert_eq!(calls(&project), 0);

    // Consumers once, and not again for a change of the code.
    let change = |crons: &str, sources: &str, tags: &str| {
        project.file("alchemy.run.rhai", script(crons, sources, tags));
        calls(&project)
    };
    change("[\"0 2 * * *\"]", "[jobs]", "[]");
    project.file("src/worker.js", CODE.replace("one", "three"));
    assert_eq!(calls(&project), 1);
}

#[test]
fn settings_that_versions_share_need_no_version() {
    let project = Project::new();
    let script = |tags: &str, crons: &str| {
        let text = format!(
            "alchemy(\"shop\");\nWorker(\"api\", #{{ script: \"export default {{}}\", tags: {tags}, crons: {crons} }});\n"
        );
        project.file("alchemy.run.rhai", text);
    };
    script("[]", "[]");
    calls(&project);
    script("[\"a\"]", "[]");
    assert_eq!(calls(&project), 1);
    script("[\"a\"]", "[\"0 2 * * *\"]");
    assert_eq!(calls(&project), 1);
    assert_eq!(calls(&project), 0);
}
