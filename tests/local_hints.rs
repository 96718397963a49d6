//! Who deploys a Worker to the local cloud while nobody serves it is told how to reach it: programs and people, once, and not
//! in logs.

use serde_json::{Value, json};

use super::support::{
    Output, Project,
    served::{Served, with_runtime},
};

const NONE: [Value; 0] = [];
const SCRIPT: &str = r#"
alchemy("shop");
KV("cache");
Worker("api", #{ script: "export default { fetch() { return new Response('hi') } }" });
"#;

/// The addresses that a run says a server would answer at.
fn hints(output: &Output) -> Vec<Value> {
    let messages = output.messages().into_iter();
    let told = messages.filter(|message| message["type"] == "not_served");
    told.map(|message| {
        assert_eq!(message["command"], "alch local serve");
        message["urls"].clone()
    })
    .collect()
}

#[test]
fn a_deployed_worker_that_nobody_serves_says_how_it_is_reached() {
    let project = Project::with_script(SCRIPT);
    let run = project.alch(["run", "--json"]).success();
    assert_eq!(hints(&run), [json!(["http://api-dev.localhost:8787"])]);
    // Nothing changed, nothing of a Worker changed, or nobody asked.
    let unchanged = project.alch(["run", "--json"]).success();
    assert_eq!(hints(&unchanged), NONE);
    project.file(
        "alchemy.run.rhai",
        SCRIPT.replace("KV(\"cache\");", "KV(\"other\");"),
    );
    let other = project
        .alch(["run", "--json", "--allow-data-loss"])
        .success();
    assert_eq!(hints(&other), NONE);
    let changed = SCRIPT.replace("'hi'", "'ho'");
    project.file("alchemy.run.rhai", &changed);
    let plan = project.alch(["plan", "--json"]).success();
    assert_eq!(hints(&plan), NONE);
    let quiet = project.alch(["run", "--json", "--quiet"]).success();
    assert_eq!(hints(&quiet), NONE);
    project.file("alchemy.run.rhai", changed.replace("'ho'", "'hu'"));
    let plain = project.alch(["run"]).success();
    assert!(!plain.stderr.contains("local serve"), "{}", plain.stderr);

    // A Worker without an address is run all the same.
    let script =
        "alchemy(\"bare\"); Worker(\"w\", #{ script: \"export default {}\", url: false });";
    project.file("alchemy.run.rhai", script);
    let bare = project.alch(["run", "--json"]).success();
    assert_eq!(hints(&bare), [json!([])]);
}

#[test]
fn a_worker_that_is_served_needs_no_hint() {
    let Some(project) = with_runtime(Project::with_script(SCRIPT)) else {
        return;
    };
    let served = Served::start(&project);
    let run = project.alch(["run", "--json"]).success();
    assert_eq!(hints(&run), NONE);
    assert_eq!(
        served.ask("api-dev", "GET", "/", ""),
        (200, "hi".to_owned())
    );
}
