//! Props of a Worker that are wrong whoever deploys it: told with their place before anything is touched.

use snapbox::str;

use crate::support::{Output, Project};

#[test]
fn a_plan_tells_wrong_props_with_their_places() {
    for (props, expected) in [
        (
            "observability: #{ headSamplingRate: 7.5 }",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `observability.headSamplingRate` of cloudflare::Worker: 7.5 is out of range: 0 to 1
 --> alchemy.run.rhai:2:83
  |
2 | Worker("api", #{ script: "export default {}", observability: #{ headSamplingRate: 7.5 } });
  |                                                                                   ^

"#]],
        ),
        (
            "observability: #{ logs: #{ headSamplingRate: -1 } }",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `observability.logs.headSamplingRate` of cloudflare::Worker: -1 is out of range: 0 to 1
 --> alchemy.run.rhai:2:92
  |
2 | ...bservability: #{ logs: #{ headSamplingRate: -1 } } });
  |                                                ^

"#]],
        ),
        (
            "bindings: #{ \"a b\": \"x\" }",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `bindings.a b` of cloudflare::Worker: `a b` is no name for a binding
 --> alchemy.run.rhai:2:60
  |
2 | Worker("api", #{ script: "export default {}", bindings: #{ "a b": "x" } });
  |                                                            ^^^^^
  |
  = help: Workers read it as `env.NAME`: letters, digits, `_` and `$`, no digit first

"#]],
        ),
        (
            "env: #{ \"1st\": \"x\" }",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `env.1st` of cloudflare::Worker: `1st` is no name for a binding
 --> alchemy.run.rhai:2:55
  |
2 | Worker("api", #{ script: "export default {}", env: #{ "1st": "x" } });
  |                                                       ^^^^^
  |
  = help: Workers read it as `env.NAME`: letters, digits, `_` and `$`, no digit first

"#]],
        ),
        (
            "tags: [\"ok\", \"a,b\"]",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `tags.1` of cloudflare::Worker: a tag holds neither `,` nor `&`, by which lists of Workers are filtered: `a,b`
 --> alchemy.run.rhai:2:60
  |
2 | Worker("api", #{ script: "export default {}", tags: ["ok", "a,b"] });
  |                                                            ^^^^^
  |
  = help: write two tags, or another sign

"#]],
        ),
        (
            "compatibilityDate: \"2026-13-01\"",
            str![[r#"
exit 1
-- stdout
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `compatibilityDate` of cloudflare::Worker: `2026-13-01` is no date
 --> alchemy.run.rhai:2:66
  |
2 | Worker("api", #{ script: "export default {}", compatibilityDate: "2026-13-01" });
  |                                                                  ^^^^^^^^^^^^
  |
  = help: write it as `2026-07-01`

"#]],
        ),
    ] {
        let project = Project::with_script(&format!(
            "alchemy(\"shop\");\nWorker(\"api\", #{{ script: \"export default {{}}\", {props} }});\n"
        ));
        project.alch(["plan"]).check(expected);
        project.alch(["run"]).code(1);
    }
}

#[test]
fn names_that_only_brackets_can_read_are_bound_all_the_same() {
    let project = Project::with_script(
        "alchemy(\"shop\");\nWorker(\"api\", #{ script: \"export default {}\", bindings: #{ \"my-var\": \"x\", \"été\": 1, \"$a\": 2 } });\n",
    );
    project.alch(["run"]).success();
}

#[test]
fn the_cloud_refuses_a_day_that_has_not_come() {
    let project = Project::with_script(
        "alchemy(\"shop\");\nWorker(\"api\", #{ script: \"export default {}\", compatibilityDate: \"2999-01-01\" });\n",
    );
    project.alch(["plan"]).success();
    let refused = project.alch(["run"]);
    let today = refused
        .stderr
        .split("Today's date (UTC) is \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a day")
        .to_owned();
    refused.replacing(&today, "[TODAY]").check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  failed    api  Can't set compatibility date in the future: "2999-01-01". Today's date (UTC) is "[TODAY]".
error[E0301]: `api` (cloudflare::Worker): create failed: Can't set compatibility date in the future: "2999-01-01". Today's date (UTC) is "[TODAY]". [10021]
 --> alchemy.run.rhai:2:1
  |
2 | Worker("api", #{ script: "export default {}", compatibilityDate: "2999-01-01" });
  | ^^^^^^ declared here
  |
  = note: the call was PUT /accounts/../workers/scripts/api-dev, answered with HTTP 400
  = help: Cloudflare checked the Worker, started it and refused it: correct what the message names (code that throws at the top level or takes too long to start, a module that is not there, a compatibility date in the future, a limit of the account)
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 2 API calls)

"#]]);
}

#[test]
fn a_rule_of_a_bucket_tells_of_something() {
    let project = Project::with_script(
        "alchemy(\"shop\");\nlet q = Queue(\"q\");\nBucket(\"files\", #{ notifications: [#{ queue: q, actions: [] }] });\n",
    );
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + q (cloudflare::Queue)  q-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
error[E0202]: `notifications.0.actions` of cloudflare::R2Bucket: a rule tells of one action at least
 --> alchemy.run.rhai:3:58
  |
3 | Bucket("files", #{ notifications: [#{ queue: q, actions: [] }] });
  |                                                          ^
  |
  = help: name some of PutObject, CopyObject, DeleteObject, CompleteMultipartUpload, LifecycleDeletion, or take the rule out

"#]]);
}

#[test]
fn a_worker_without_a_handler_gets_no_messages() {
    let script = |code: &str| {
        format!(
            r#"alchemy("shop");
let jobs = Queue("jobs");
Worker("api", #{{ script: "{code}", eventSources: [jobs] }});
"#
        )
    };
    let project = Project::with_script("alchemy(\"shop\");\nQueue(\"jobs\");\n");
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", script("export default { fetch() {} }"));
    without_id(project.alch(["run"])).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  failed    api  the Worker `api-dev` was changed in part: The Worker 'api-dev' has no queue() handler.
error[E0301]: `api` (cloudflare::Worker): create failed: the Worker `api-dev` was changed in part: The Worker 'api-dev' has no queue() handler. [11001]
 --> alchemy.run.rhai:3:1
  |
3 | Worker("api", #{ script: "export default { fetch() {} }", eventSources: [jobs] });
  | ^^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues/[ID]/consumers, answered with HTTP 400
  = help: export a `queue` handler from the Worker: `export default { async queue(batch, env) { .. } }`
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 13 API calls)

"#]]);
    project.file(
        "alchemy.run.rhai",
        script("export default { fetch() {}, async queue(batch) {} }"),
    );
    project.alch(["run"]).success();
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 2 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn a_consumer_wants_a_worker_with_a_handler() {
    let script = |code: &str| {
        format!(
            r#"alchemy("shop");
let jobs = Queue("jobs");
let api = Worker("api", #{{ script: "{code}" }});
QueueConsumer("consumer", #{{ queue: jobs, scriptName: api }});
"#
        )
    };
    let project = Project::with_script("alchemy(\"shop\");\nQueue(\"jobs\");\n");
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", script("export default { fetch() {} }"));
    without_id(project.alch(["run"])).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  created   api  api-dev  [TIME]
+ creating  consumer (cloudflare::QueueConsumer)
  failed    consumer  The Worker 'api-dev' has no queue() handler.
error[E0301]: `consumer` (cloudflare::QueueConsumer): create failed: The Worker 'api-dev' has no queue() handler. [11001]
 --> alchemy.run.rhai:4:1
  |
4 | QueueConsumer("consumer", #{ queue: jobs, scriptName: api });
  | ^^^^^^^^^^^^^ declared here
  |
  = note: the call was POST /accounts/../queues/[ID]/consumers, answered with HTTP 400
  = help: export a `queue` handler from the Worker: `export default { async queue(batch, env) { .. } }`
1 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 5 API calls)

"#]]);
    project.file("alchemy.run.rhai", script("export default { queue() {} }"));
    project.alch(["run"]).success();
}

/// An output with the id of the queue that a call names taken out.
fn without_id(output: Output) -> Output {
    let (_, rest) = output.stderr.split_once("queues/").expect("a queue");
    let id = rest.split('/').next().unwrap_or_default().to_owned();
    output.replacing(&id, "[ID]")
}
