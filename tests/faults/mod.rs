//! The provider against a cloud whose network and front fail: each fault at each request that changes something.
//!
//! After a run with a fault one clean run brings everything to where a run without faults does: nothing twice, nothing lost.
//! The run after that makes no call.

mod imports;
mod migrations;
pub(crate) mod proxy;
mod told;

use std::sync::Mutex;

use serde_json::{Value, json};

use self::proxy::{Fault, Plan, Proxy};
use crate::support::{Output, Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let db = Database("main", #{ migrations: "./migrations", importFiles: ["./seed.sql"] });
let worker = Worker("api", #{
    script: "export default { fetch() { return new Response('hi') } }",
    bindings: #{ DB: db, CACHE: KV("cache"), FILES: Bucket("files"), JOBS: Queue("jobs"), KEY: secret("planted-secret") },
    crons: ["0 2 * * *"],
});
app.finalize();
"#;

/// A project that deploys through a proxy to a cloud of its own.
struct Setting {
    project: Project,
    cloud: ServedCloud,
    proxy: Proxy,
}

impl Setting {
    fn new(script: &str) -> Self {
        let cloud = ServedCloud::quick();
        let proxy = Proxy::start(&cloud.base_url());
        let mut project = Project::with_script(script);
        cloud.serve_to(&mut project);
        project.env("CLOUDFLARE_API_BASE_URL", &proxy.base_url());
        project
            .file(
                "migrations/0001_items.sql",
                "CREATE TABLE items(name TEXT); INSERT INTO items VALUES ('one');",
            )
            .file(
                "migrations/0002_more.sql",
                "INSERT INTO items VALUES ('two');",
            )
            .file("seed.sql", "INSERT INTO items VALUES ('seed')");
        Self {
            project,
            cloud,
            proxy,
        }
    }

    /// Spoils the next request of a name, or all of them.
    fn spoil(&self, target: &str, fault: Fault, for_ever: bool) {
        self.proxy.spoil(Plan {
            target: target.to_owned(),
            nth: 0,
            fault,
            for_ever,
        });
    }

    fn run(&self) -> Output {
        let place = self.proxy.base_url();
        let place = place.trim_end_matches("/client/v4");
        self.project
            .alch(["run", "--target", "cloudflare"])
            .replacing(place, "http://PROXY")
    }

    /// The `result` of a call to the cloud, past the proxy.
    fn ask(&self, method: &str, path: &str, body: &'static str) -> Value {
        let (_, answer) = self.cloud.call(method, path, body);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["result"].clone()
    }

    /// What the cloud holds, without what differs from run to run.
    fn holds(&self) -> Value {
        let names = |path: &str, field: &str| -> Vec<Value> {
            let listed = self.ask("GET", path, "");
            let items = listed.get("buckets").unwrap_or(&listed).as_array();
            let items = items.unwrap().iter();
            items.map(|item| item[field].clone()).collect()
        };
        let databases = self.ask("GET", "d1/database", "");
        let rows = databases[0]["uuid"].as_str().map(|id| {
            let path = format!("d1/database/{id}/query");
            self.ask(
                "POST",
                &path,
                r#"{"sql": "SELECT name FROM items ORDER BY rowid"}"#,
            )[0]["results"]
                .clone()
        });
        let worker = "workers/scripts/api-dev";
        let bindings = self.ask("GET", &format!("{worker}/settings"), "");
        let bindings = bindings["bindings"].as_array();
        let bindings = bindings.map(|all| {
            all.iter()
                .map(|one| one["name"].clone())
                .collect::<Vec<_>>()
        });
        json!({
            "databases": names("d1/database", "name"),
            "rows": rows,
            "namespaces": names("storage/kv/namespaces", "title"),
            "buckets": names("r2/buckets", "name"),
            "queues": names("queues", "queue_name"),
            "workers": names("workers/scripts", "id"),
            "bindings": bindings,
            "crons": self.ask("GET", &format!("{worker}/schedules"), "")["schedules"][0]["cron"],
            "open": self.ask("GET", &format!("{worker}/subdomain"), "")["enabled"],
        })
    }
}

/// Whether a request makes something that could be made twice.
fn creates(request: &str) -> bool {
    [
        "d1/database",
        "storage/kv/namespaces",
        "r2/buckets",
        "queues",
    ]
    .iter()
    .any(|path| request == format!("POST {path}"))
}

/// What a run without faults sends and leaves.
fn sound() -> (Vec<(String, usize)>, Value) {
    let setting = Setting::new(SCRIPT);
    setting.run().success();
    let mut changes: Vec<(String, usize)> = Vec::new();
    for request in setting.proxy.take() {
        if !request.starts_with("GET ") {
            let nth = changes
                .iter()
                .filter(|(other, _)| *other == request)
                .count();
            changes.push((request, nth));
        }
    }
    (changes, setting.holds())
}

/// Spoils each request that changes something, each in a cloud of its own.
fn each_with(fault: Fault, for_ever: bool, may_fail: bool) {
    let (changes, expected) = sound();
    assert!(changes.len() >= 9, "{changes:?}");
    let left = Mutex::new(changes);
    // Most of the time is spent waiting before another try.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((target, nth)) = left.lock().unwrap().pop() else {
                        return;
                    };
                    let plan = Plan {
                        target,
                        nth,
                        fault,
                        for_ever,
                    };
                    one_with(&plan, may_fail, &expected);
                }
            });
        }
    });
}

fn one_with(plan: &Plan, may_fail: bool, expected: &Value) {
    let case = format!("{plan:?}");
    let setting = Setting::new(SCRIPT);
    setting.proxy.spoil(plan.clone());
    let spoiled = setting.run();
    let sent = setting.proxy.take();
    let like = sent
        .iter()
        .filter(|request| **request == plan.target)
        .count();
    assert!(like > plan.nth, "{case}: it was never sent: {sent:#?}");
    match spoiled.code {
        Some(0) => {}
        Some(3 | 4) if may_fail => {}
        code => panic!("{case}: ended with {code:?}: {}", spoiled.stderr),
    }
    assert!(!spoiled.stderr.contains("planted-secret"), "{case}");
    // Whether it was done is known only where the cloud said that it was not.
    let refused = matches!(plan.fault, Fault::Throttled(_) | Fault::ThrottledIn200);
    if creates(&plan.target) && !refused {
        assert_eq!(like, 1, "{case}: a creation was repeated blindly");
    }

    setting.proxy.heal();
    let clean = setting.run();
    assert_eq!(clean.code, Some(0), "{case}: then {}", clean.stderr);
    assert_eq!(setting.holds(), *expected, "{case}");
    setting.proxy.take();
    let third = setting.run();
    assert_eq!(third.code, Some(0), "{case}: at last {}", third.stderr);
    assert_eq!(setting.proxy.take(), Vec::<String>::new(), "{case}");
}

#[test]
fn throttled() {
    each_with(Fault::Throttled(None), false, false);
}

#[test]
fn throttled_with_a_time_to_wait() {
    each_with(Fault::Throttled(Some(1)), false, false);
}

#[test]
fn throttled_in_an_answer_that_is_ok() {
    each_with(Fault::ThrottledIn200, false, false);
}

#[test]
fn a_server_error() {
    each_with(Fault::ServerError, false, true);
}

#[test]
fn a_server_error_for_ever() {
    each_with(Fault::ServerError, true, true);
}

#[test]
fn a_web_page_after_the_work() {
    each_with(Fault::WebPage, false, true);
}

#[test]
fn a_reset_before_the_work() {
    each_with(Fault::ResetBefore, false, true);
}

#[test]
fn a_reset_after_the_work() {
    each_with(Fault::ResetAfter, false, true);
}

#[test]
fn json_that_is_cut_off_after_the_work() {
    each_with(Fault::Truncated, false, true);
}

#[test]
fn a_slow_answer() {
    each_with(Fault::Slow, false, false);
}

#[test]
fn a_token_that_expires() {
    each_with(Fault::ExpiredToken, false, true);
}

/// A namespace whose creation was not heard of stands on the second page of a list that cannot be read properly.
fn lost_on_the_second_page(fault: Fault) -> (Setting, Output) {
    let setting = Setting::new("let app = alchemy(\"shop\");\nKV(\"zzz\");\n");
    // More than the provider asks for at once.
    for number in 0..1020 {
        let body = format!(r#"{{"title": "other-{number:04}"}}"#);
        setting.ask(
            "POST",
            "storage/kv/namespaces",
            Box::leak(body.into_boxed_str()),
        );
    }
    setting.spoil("POST storage/kv/namespaces", Fault::ResetAfter, false);
    setting.spoil("GET storage/kv/namespaces", fault, true);
    let output = setting.run();
    (setting, output)
}

fn is_there_once(setting: &Setting) {
    setting.proxy.heal();
    setting.run().success();
    let total = setting.ask("GET", "storage/kv/namespaces?per_page=100&page=11", "");
    assert_eq!(total.as_array().unwrap().len(), 21);
    setting.proxy.take();
    setting.run().success();
    assert_eq!(setting.proxy.take(), Vec::<String>::new());
}

#[test]
fn pages_that_repeat_are_an_error_and_nothing_is_made_twice() {
    let (setting, output) = lost_on_the_second_page(Fault::RepeatedPage);
    let sent = setting.proxy.take();
    assert_eq!(sent.iter().filter(|request| creates(request)).count(), 1);
    output.check(snapbox::str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  zzz (cloudflare::KVNamespace)
  failed    zzz  the connection to http://PROXY broke off: connection closed before message completed
error[E0301]: `zzz` (cloudflare::KVNamespace): create failed: the connection to http://PROXY broke off: connection closed before message completed
 --> alchemy.run.rhai:2:1
  |
2 | KV("zzz");
  | ^^ declared here
  |
  = note: the call was POST /accounts/../storage/kv/namespaces
  = help: run again: what did happen is found and kept
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    is_there_once(&setting);
}

#[test]
fn a_list_that_lies_about_its_pages_is_read_to_its_end() {
    let (setting, output) = lost_on_the_second_page(Fault::LyingTotal);
    output.success();
    let sent = setting.proxy.take();
    assert_eq!(sent.iter().filter(|request| creates(request)).count(), 1);
    is_there_once(&setting);
}
