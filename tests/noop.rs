//! What has not changed costs nothing: second runs, single changes, plans.

use std::{collections::BTreeMap, path::PathBuf};

use snapbox::str;

use crate::support::{Output, Project, cloud::ServedCloud};

/// A script with a resource of every kind; `[WEB]` stands for the address of a server.
const WHOLE: &str = r#"
let app = alchemy("whole", #{ password: "correct horse" });
let db = alchemy.run("database", || {
    Database("main-db", #{ primaryLocationHint: "weur", migrations: "./migrations" })
});
let cache = KV("cache", #{ title: "the-cache", naming: "stage" });
let files = Bucket("files", #{
    storageClass: "Standard",
    devDomain: false,
    cors: [#{ id: "web", allowed: #{ origins: ["*"], methods: ["GET"] }, maxAgeSeconds: 60 }],
});
let jobs = Queue("jobs", #{ settings: #{ deliveryDelay: 5, deliveryPaused: false } });
let word = RandomString("word", #{ length: 12, encoding: "hex" });
let note = File("note", #{ path: "out/note.txt", content: `made for ${db.ref("id")}`, mode: 0o640 });
let built = Exec("build", #{ command: ["/bin/sh", "-c", "echo built"], cwd: ".", memoize: #{ patterns: ["migrations/*.sql"] } });
let asked = HttpRequest("ask", #{ url: "[WEB]", method: "GET", headers: #{ authorization: alchemy.secret("Bearer [TOKEN]"), accept: "application/json" } });
let Greeting = resource("my::Greeting", #{
    create: |ctx, id, props| #{ text: props.text },
    update: |ctx, id, props| #{ text: props.text },
    delete: |ctx, id, output| (),
});
let hello = Greeting.declare("hello", #{ text: "hi", tags: #{ colour: "red", size: 3 } });
let api = Worker("api", #{
    script: "export default { fetch() { return new Response('hi') } }",
    compatibilityDate: "2025-09-01",
    bindings: #{ DB: db, CACHE: cache, FILES: files, JOBS: jobs, WORD: word.value, KEY: alchemy.secret("s3cr3t") },
    crons: ["0 2 * * *"],
    placement: #{ mode: "smart" },
    observability: #{ enabled: true, headSamplingRate: 0.5 },
});
"#;

/// The same with the keys of every map in another order.
const REORDERED: &str = r#"
let app = alchemy("whole", #{ password: "correct horse" });
let db = alchemy.run("database", || {
    Database("main-db", #{ migrations: "./migrations", primaryLocationHint: "weur" })
});
let cache = KV("cache", #{ naming: "stage", title: "the-cache" });
let files = Bucket("files", #{
    cors: [#{ maxAgeSeconds: 60, allowed: #{ methods: ["GET"], origins: ["*"] }, id: "web" }],
    devDomain: false,
    storageClass: "Standard",
});
let jobs = Queue("jobs", #{ settings: #{ deliveryPaused: false, deliveryDelay: 5 } });
let word = RandomString("word", #{ encoding: "hex", length: 12 });
let note = File("note", #{ mode: 0o640, content: `made for ${db.ref("id")}`, path: "out/note.txt" });
let built = Exec("build", #{ memoize: #{ patterns: ["migrations/*.sql"] }, cwd: ".", command: ["/bin/sh", "-c", "echo built"] });
let asked = HttpRequest("ask", #{ headers: #{ accept: "application/json", authorization: alchemy.secret("Bearer [TOKEN]") }, method: "GET", url: "[WEB]" });
let Greeting = resource("my::Greeting", #{
    delete: |ctx, id, output| (),
    update: |ctx, id, props| #{ text: props.text },
    create: |ctx, id, props| #{ text: props.text },
});
let hello = Greeting.declare("hello", #{ tags: #{ size: 3, colour: "red" }, text: "hi" });
let api = Worker("api", #{
    observability: #{ headSamplingRate: 0.5, enabled: true },
    placement: #{ mode: "smart" },
    crons: ["0 2 * * *"],
    bindings: #{ KEY: alchemy.secret("s3cr3t"), WORD: word.value, JOBS: jobs, FILES: files, CACHE: cache, DB: db },
    compatibilityDate: "2025-09-01",
    script: "export default { fetch() { return new Response('hi') } }",
});
"#;

/// How many resources there are in [`WHOLE`].
const COUNT: usize = 10;

const NOTHING: &str =
    "0 created, 0 updated, 0 deleted, 10 unchanged in [TIME] (critical path [TIME], 0 API calls)";

/// A project that knows the whole script and the server that it asks.
struct Whole {
    project: Project,
    web: ServedCloud,
}

impl Whole {
    fn deployed() -> Self {
        let whole = Self {
            project: Project::new(),
            web: ServedCloud::quick(),
        };
        whole
            .project
            .file("migrations/1.sql", "CREATE TABLE t (x);");
        whole.write(WHOLE);
        assert_eq!(
            whole.run().success().last_line(),
            "10 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], [CALLS])"
        );
        whole
    }

    fn write(&self, script: &str) {
        let url = format!("{}/user/tokens/verify", self.web.base_url());
        let script = script
            .replace("[WEB]", &url)
            .replace("[TOKEN]", &self.web.token);
        self.project.file("alchemy.run.rhai", script);
    }

    fn alch(&self, arguments: &[&str]) -> Output {
        let grants = ["--allow-exec", "--allow-net=127.0.0.1"];
        self.project.alch(arguments.iter().copied().chain(grants))
    }

    fn run(&self) -> Output {
        self.alch(&["run"])
    }
}

/// Every byte below the project and the home, by path; folders too.
fn bytes(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    for root in [project.folder(), project.home()] {
        for entry in walkdir::WalkDir::new(root) {
            let entry = entry.expect("a readable entry");
            let content = if entry.file_type().is_file() {
                std::fs::read(entry.path()).expect("a readable file")
            } else {
                Vec::new()
            };
            out.insert(entry.into_path(), content);
        }
    }
    out
}

/// Ends the test, naming the paths, unless both are the same.
#[track_caller]
fn same_bytes(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let mut changed: Vec<&PathBuf> = before
        .keys()
        .chain(after.keys())
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    changed.dedup();
    assert!(changed.is_empty(), "{what} wrote {changed:?}");
}

#[test]
fn a_second_run_calls_nothing() {
    let whole = Whole::deployed();
    whole.web.take_calls();
    assert_eq!(whole.run().success().last_line(), NOTHING);
    whole.write(REORDERED);
    assert_eq!(whole.run().success().last_line(), NOTHING, "keys reordered");
    assert_eq!(whole.web.take_calls(), Vec::<String>::new());
    whole.alch(&["plan", "--detailed-exitcode"]).check(str![[r#"
exit 0
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 10 unchanged
-- stderr
alch: app whole, stage dev, phase plan, target local

"#]]);
}

#[test]
fn one_change_is_exactly_one_update() {
    let whole = Whole::deployed();
    let mut script = WHOLE.to_owned();
    for (resource, before, after) in [
        (
            "cache",
            r#"title: "the-cache""#,
            r#"title: "another-cache""#,
        ),
        ("files", "maxAgeSeconds: 60", "maxAgeSeconds: 61"),
        ("jobs", "deliveryDelay: 5", "deliveryDelay: 6"),
        ("note", "made for", "written for"),
        ("build", "echo built", "echo built again"),
        ("ask", "accept: \"application/json\"", "accept: \"*/*\""),
        ("hello", "size: 3", "size: 4"),
        ("api", "0 2 * * *", "0 3 * * *"),
        ("api", "s3cr3t", "s3cr3t-2"),
        ("api", "Response('hi')", "Response('ho')"),
        ("api", "headSamplingRate: 0.5", "headSamplingRate: 0.25"),
    ] {
        assert!(script.contains(before), "{before}");
        script = script.replace(before, after);
        whole.write(&script);
        let output = whole.run().success();
        let line = output.last_line();
        assert!(
            line.starts_with("0 created, 1 updated, 0 deleted, 9 unchanged in "),
            "{after}: {line}"
        );
        assert!(
            output.stderr.contains(&format!("  updated   {resource}")),
            "{after}: {}",
            output.stderr
        );
    }
    assert_eq!(whole.run().success().last_line(), NOTHING);
}

#[test]
fn a_changed_file_is_one_update() {
    let whole = Whole::deployed();
    whole
        .project
        .file("migrations/2.sql", "CREATE TABLE u (y);");
    let output = whole.run().success();
    assert_eq!(
        output.last_line(),
        "0 created, 2 updated, 0 deleted, 8 unchanged in [TIME] (critical path [TIME], [CALLS])",
        "the database, and the command that names the files"
    );
    assert_eq!(whole.run().success().last_line(), NOTHING);
}

#[test]
fn one_removal_is_exactly_one_delete() {
    let whole = Whole::deployed();
    let mut left = COUNT;
    let mut script = WHOLE.to_owned();
    for (begin, name) in [
        ("let hello", "hello"),
        ("let asked", "ask"),
        ("let built", "build"),
        ("let note", "note"),
    ] {
        script = script
            .lines()
            .filter(|line| !line.starts_with(begin))
            .map(|line| format!("{line}\n"))
            .collect();
        left -= 1;
        whole.write(&script);
        let output = whole.run().success();
        let line = output.last_line();
        assert!(
            line.starts_with(&format!(
                "0 created, 0 updated, 1 deleted, {left} unchanged in"
            )),
            "{name}: {line}"
        );
        assert!(
            output.stderr.contains(&format!("  deleted   {name}")),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn plans_write_nothing() {
    let whole = Whole::deployed();
    let before = bytes(&whole.project);
    for arguments in [
        &["plan"][..],
        &["plan", "--detailed-exitcode"],
        &["plan", "--full"],
        &["plan", "--json"],
        &["plan", "--adopt"],
        &["read"],
        &["state", "ls"],
        &["stages"],
        &["check"],
    ] {
        let output = match arguments[0] {
            "plan" | "read" => whole.alch(arguments),
            _ => whole.project.alch(arguments.iter().copied()),
        };
        output.success();
        same_bytes(&before, &bytes(&whole.project), &arguments.join(" "));
    }
    whole.write(&WHOLE.replace("deliveryDelay: 5", "deliveryDelay: 6"));
    let before = bytes(&whole.project);
    whole.alch(&["plan", "--detailed-exitcode"]).check(str![[r#"
exit 2
-- stdout
  ~ jobs (cloudflare::Queue)  jobs-dev  # settings changed
      ~ settings.deliveryDelay: 5 -> 6
Plan: 0 to create, 1 to update, 0 to delete, 9 unchanged
-- stderr
alch: app whole, stage dev, phase plan, target local

"#]]);
    same_bytes(&before, &bytes(&whole.project), "a plan with a change");
    whole.project.file(
        "alchemy.run.rhai",
        "alchemy(\"whole\", #{ password: \"correct horse\" });",
    );
    let before = bytes(&whole.project);
    whole.alch(&["plan", "--detailed-exitcode"]).code(2);
    same_bytes(&before, &bytes(&whole.project), "a plan of deletes");
}

#[test]
fn plans_of_an_empty_project_write_nothing() {
    let project = Project::with_script(
        "alchemy(\"shop\");\nKV(\"cache\");\nDatabase(\"db\");\nBucket(\"files\");\nRandomString(\"word\");\nlet key = secret(\"s3cr3t\");\nWorker(\"api\", #{ script: \"export default {}\", bindings: #{ KEY: key } });",
    );
    let before = bytes(&project);
    for arguments in [
        &["plan"][..],
        &["plan", "--detailed-exitcode"],
        &["plan", "--adopt"],
        &["plan", "--json"],
        &["read"],
        &["check"],
        &["stages"],
        &["state", "ls"],
        &["scope", "list"],
        &["scope", "locks"],
        &["scope", "validate"],
        &["scope", "unlock"],
        &["destroy", "--yes"],
    ] {
        project.alch(arguments.iter().copied());
        same_bytes(&before, &bytes(&project), &arguments.join(" "));
    }
    project.alch(["plan", "--detailed-exitcode"]).code(2);
}
