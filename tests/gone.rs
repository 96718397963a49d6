//! What an operation names and does not find: the object itself, which is made again, or something else, which it is told of at
//! once, and which `alch run --refresh` makes again where state knows it.

use snapbox::str;

use crate::support::{Project, cloud::ServedCloud};

const GOOD: &str = r#"
let app = alchemy("shop");
let q = Queue("q");
let files = Bucket("files");
R2Object("logo", #{ bucket: files, key: "logo.svg", content: "<svg/>" });
"#;

#[test]
fn a_bucket_whose_rule_names_no_queue_stays_in_state() {
    let project = Project::with_script(GOOD);
    project.alch(["run"]).success();
    let with_queue = |queue: &str| {
        let rules = format!(
            "Bucket(\"files\", #{{ notifications: [#{{ queue: \"{queue}\", actions: [\"PutObject\"] }}] }})"
        );
        project.file(
            "alchemy.run.rhai",
            GOOD.replace("Bucket(\"files\")", &rules),
        );
    };
    // The name of a queue is not its id.
    with_queue("q-dev");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
2 resources were not reached and stay
error[E0202]: `notifications.0.queue` of cloudflare::R2Bucket: `q-dev` is no id of a queue
 --> alchemy.run.rhai:4:58
  |
4 | let files = Bucket("files", #{ notifications: [#{ queue: "q-dev", actions: ["PutObject"] }] });
  |                                                          ^^^^^^^
  |
  = help: give a queue of the script, or the 32 hexadecimal digits of its id
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    with_queue("0123456789abcdef0123456789abcdef");
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
~ updating  files (cloudflare::R2Bucket)
  failed    files  there is no queue `0123456789abcdef0123456789abcdef`
  skipped   logo  because files failed
error[E0301]: `files` (cloudflare::R2Bucket): update failed: there is no queue `0123456789abcdef0123456789abcdef` [11000]
 --> alchemy.run.rhai:4:13
  |
4 | let files = Bucket("files", #{ notifications: [#{ queue: "0123456789abcdef0123456789abcdef", ...
  |             ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../event_notifications/r2/files-dev/configuration/queues/0123456789abcdef0123456789abcdef, answered with HTTP 404
  = help: give a queue of the script, or one that is there; where state knows it, `alch run --refresh` makes it again
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed, 1 skipped in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    let kept = project.alch(["state", "show", "files"]).success().stdout;
    assert!(kept.contains("\"adopted\": false"), "{kept}");

    // The script as it was before goes through, and nothing is made a second time.
    project.file("alchemy.run.rhai", GOOD);
    let mended = project.alch(["run"]).success();
    assert!(mended.stderr.contains("0 created"), "{}", mended.stderr);
    let settled = project.alch(["run"]).success();
    assert!(settled.stderr.contains("0 API calls"), "{}", settled.stderr);
}

const USERS: &str = r#"
let app = alchemy("shop");
let q = Queue("q");
let files = Bucket("files");
let told = Bucket("told", #{ notifications: [#{ queue: q, actions: ["PutObject"] }] });
R2Object("logo", #{ bucket: files, key: "logo.svg", content: "one" });
Worker("api", #{
    script: "export default { fetch() {}, queue() {} }",
    eventSources: [#{ queue: q, settings: #{ batchSize: 5 } }],
});
"#;

/// Deletes queue and bucket as another client would, with what holds them.
fn without_queue_and_bucket(cloud: &ServedCloud) -> String {
    let queues = cloud.ask("GET", "queues", "");
    let queue = queues[0]["queue_id"].as_str().expect("an id").to_owned();
    let consumers = format!("queues/{queue}/consumers");
    let consumer = cloud.ask("GET", &consumers, "")[0]["consumer_id"].clone();
    let consumer = consumer.as_str().expect("an id");
    cloud.ask("DELETE", &format!("{consumers}/{consumer}"), "");
    let rules = format!("event_notifications/r2/told-dev/configuration/queues/{queue}");
    cloud.ask("DELETE", &rules, "");
    cloud.ask("DELETE", &format!("queues/{queue}"), "");
    cloud.ask("DELETE", "r2/buckets/files-dev/objects/logo.svg", "");
    cloud.ask("DELETE", "r2/buckets/files-dev", "");
    queue
}

#[test]
fn what_state_knows_and_is_gone_is_told_by_its_name_and_not_waited_for() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(USERS);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    let queue = without_queue_and_bucket(&cloud);
    let changed = USERS
        .replace("batchSize: 5", "batchSize: 6")
        .replace("\"one\"", "\"two\"")
        .replace("[\"PutObject\"]", "[\"DeleteObject\"]");
    project.file("alchemy.run.rhai", &changed);
    cloud.take_calls();
    let failed = project.alch(["run", "--target", "cloudflare"]).code(4);
    // The three fail in any order.
    for told in [
        "failed    logo  the bucket `files-dev` is in state, but gone\n",
        "failed    told  the queue `q-dev` is in state, but gone\n",
        "failed    api  the Worker `api-dev` was changed in part: the queue `q-dev` is in state, but gone\n",
    ] {
        assert!(failed.stderr.contains(told), "{}", failed.stderr);
    }
    let help = "= help: `alch run --refresh` makes it again\n";
    assert_eq!(failed.stderr.matches(help).count(), 3, "{}", failed.stderr);
    let calls = cloud.take_calls();
    let tries = |call: &str| calls.iter().filter(|one| one.as_str() == call).count();
    assert_eq!(
        tries(&format!("POST queues/{queue}/consumers")),
        1,
        "{calls:#?}"
    );
    assert_eq!(
        tries("PUT r2/buckets/files-dev/objects/logo.svg"),
        1,
        "{calls:#?}"
    );

    let refreshed = ["run", "--refresh", "--target", "cloudflare"];
    project.alch(refreshed).success();
    project.alch(["drift"]).success();
    project.alch(["destroy", "--yes"]).success();
}

#[test]
fn a_consumer_whose_worker_or_queue_is_not_there_stays_in_state() {
    let cloud = ServedCloud::quick();
    let script = r#"
alchemy("shop");
let q = Queue("q");
let api = Worker("api", #{ script: "export default { fetch() {}, queue() {} }" });
QueueConsumer("c", #{ queue: q, scriptName: api });
"#;
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    let run = ["run", "--target", "cloudflare"];
    project.alch(run).success();
    let queue = cloud.ask("GET", "queues", "")[0]["queue_id"].clone();
    let queue = queue.as_str().expect("an id");
    let consumers = cloud.ask("GET", &format!("queues/{queue}/consumers"), "");
    let consumer = consumers[0]["consumer_id"].as_str().expect("an id");
    let refused = |project: &Project| {
        let run = project.alch(run);
        run.replacing(queue, "[QUEUE]")
            .replacing(consumer, "[CONSUMER]")
    };
    project.file(
        "alchemy.run.rhai",
        script.replace("scriptName: api", "scriptName: \"nosuch\""),
    );
    refused(&project).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
~ updating  c (cloudflare::QueueConsumer)
  failed    c  there is no Worker `nosuch`
error[E0301]: `c` (cloudflare::QueueConsumer): update failed: there is no Worker `nosuch` [10007]
 --> alchemy.run.rhai:5:1
  |
5 | QueueConsumer("c", #{ queue: q, scriptName: "nosuch" });
  | ^^^^^^^^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../queues/[QUEUE]/consumers/[CONSUMER], answered with HTTP 404
  = help: give a Worker of the script, or one that is there; where state knows it, `alch run --refresh` makes it again
0 created, 0 updated, 0 deleted, 2 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.file("alchemy.run.rhai", script);
    let mended = project.alch(run).success();
    assert!(mended.stderr.contains("0 created"), "{}", mended.stderr);

    cloud.ask("DELETE", &format!("queues/{queue}"), "");
    let settings = script.replace(
        "scriptName: api",
        "scriptName: api, settings: #{ batchSize: 3 }",
    );
    project.file("alchemy.run.rhai", settings);
    refused(&project).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
~ updating  c (cloudflare::QueueConsumer)
  failed    c  the queue `q-dev` is in state, but gone
error[E0301]: `c` (cloudflare::QueueConsumer): update failed: the queue `q-dev` is in state, but gone [11000]
 --> alchemy.run.rhai:5:1
  |
5 | QueueConsumer("c", #{ queue: q, scriptName: api, settings: #{ batchSize: 3 } });
  | ^^^^^^^^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../queues/[QUEUE]/consumers/[CONSUMER], answered with HTTP 404
  = help: `alch run --refresh` makes it again
0 created, 0 updated, 0 deleted, 2 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project
        .alch(["run", "--refresh", "--target", "cloudflare"])
        .success();
    project.alch(["drift"]).success();
}
