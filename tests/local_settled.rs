//! A run into a served local cloud ends when what it deployed answers.

use rustix::process::Signal;
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const RUNS: usize = 30;

fn script(text: &str) -> String {
    format!(
        r#"
let app = alchemy("prompt");
Worker("api", #{{ script: `export default {{ fetch() {{ return new Response("{text}") }} }}` }});
app.finalize();
"#
    )
}

#[test]
fn the_request_after_a_run_gets_the_new_code() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    for number in 0..RUNS {
        let text = format!("{} of {number}", ["even", "odd"][number % 2]);
        project.file("alchemy.run.rhai", script(&text));
        project.alch(["run"]).success();
        assert_eq!(served.ask("api-dev", "GET", "/", ""), (200, text));
    }

    project.alch(["destroy", "--yes"]).success();
    let (status, body) = served.ask("api-dev", "GET", "/", "");
    assert_eq!(
        (status, body.contains("No Worker is deployed")),
        (404, true),
        "{body}"
    );
}

#[test]
fn a_run_over_the_api_waits_as_well() {
    let Some(mut project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    project.env("CLOUDFLARE_API_BASE_URL", served.api());
    project.env("CLOUDFLARE_API_TOKEN", "t");
    project.env("CLOUDFLARE_ACCOUNT_ID", "local");
    for text in ["one", "two", "three"] {
        project.file("alchemy.run.rhai", script(text));
        project.alch(["run", "--target", "cloudflare"]).success();
        assert_eq!(
            served.ask("api-dev", "GET", "/", ""),
            (200, text.to_owned())
        );
    }
}

#[test]
fn a_worker_that_cannot_start_is_told_by_the_run_that_deployed_it() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("prompt");
Worker("api", #{ script: `throw new Error("at the top")` });
app.finalize();
"#,
    );
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app prompt, stage dev, phase up, target local
+ creating  api (cloudflare::Worker)
  created   api  api-dev  [TIME]
warning[E0502]: the Worker `api-dev` is deployed, but cannot start
 = note: Uncaught Error: at the top
           at worker.js:1:7
 = help: correct it and deploy again; until then each request to it is answered with an error page
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 4 API calls)

"#]]);
    let (status, body) = served.ask("api-dev", "GET", "/", "");
    assert_eq!((status, body.contains("at the top")), (500, true), "{body}");
}

#[test]
fn a_binding_to_what_is_not_exported_harms_no_other_worker() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("apart");
let good = Worker("good", #{ script: "export default { fetch() { return new Response('good') } }" });
let code = "export default { fetch() { return new Response('mine') } }";
Worker("caller", #{ script: code, bindings: #{ OTHER: Service(good, #{ entrypoint: "Admin" }) } });
Worker("flow", #{ script: code, bindings: #{ STEPS: Workflow("steps", #{ className: "Steps" }) } });
app.finalize();
"#,
    );
    let deployed = project.alch(["run"]).success();
    served.ask_until("good-dev", "/", |_, body| body == "good");
    for (worker, reason) in [
        ("caller-dev", "Admin"),
        ("flow-dev", "it does not export the workflow class `Steps`"),
    ] {
        let told = format!("the Worker `{worker}` is deployed, but cannot start");
        assert!(deployed.stderr.contains(&told), "{}", deployed.stderr);
        let (status, body) = served.ask(worker, "GET", "/", "");
        assert_eq!((status, body.contains(reason)), (500, true), "{body}");
    }
}

#[test]
fn nobody_waits_when_nothing_changed_or_nobody_serves() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let mut served = Served::start(&project);
    project.file("alchemy.run.rhai", script("one"));
    project.alch(["run"]).success();
    // A server that gives no answer: a run that asked it would wait, and say so.
    served.signal(Signal::STOP);
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app prompt, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    served.signal(Signal::KILL);
    served.child.wait().unwrap();
    // It left the file behind that says where it was.
    project.file("alchemy.run.rhai", script("two"));
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app prompt, stage dev, phase up, target local
~ updating  api (cloudflare::Worker)
  updated   api  api-dev  [TIME]
0 created, 1 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
}
