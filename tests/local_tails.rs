//! A Worker that hears what happens in another one.

use serde_json::{Value, json};

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

#[test]
fn a_tail_consumer_hears_what_another_worker_prints_and_throws() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("tails");
let listener = Worker("listener", #{
    script: `let heard = []; export default {
        fetch() { return Response.json(heard) },
        tail(events) {
            for (const { event, outcome, logs, exceptions } of events) {
                const path = new URL(event.request.url).pathname;
                heard.push([path, outcome, logs.map((log) => log.message), exceptions.map((thrown) => thrown.message)]);
            }
        },
    }`,
});
Worker("api", #{
    script: `export default { fetch(request) {
        console.log('asked for', new URL(request.url).pathname);
        if (request.url.endsWith('/bad')) throw new Error('no');
        return new Response('ok');
    } }`,
    tailConsumers: [listener],
});
"#,
    );
    project.alch(["run"]).success();
    let served = Served::start(&project);
    served.ask_until("api-dev", "/good", |status, _| status == 200);
    assert_eq!(served.ask("api-dev", "GET", "/bad", "").0, 500);
    let wanted = json!(["/bad", "exception", [["asked for", "/bad"]], ["no"]]);
    let heard = served.ask_until("listener-dev", "/", |_, body| body.contains("/bad"));
    let heard: Vec<Value> = serde_json::from_str(&heard).unwrap();
    assert!(heard.contains(&wanted), "{heard:?}");
    let good = json!(["/good", "ok", [["asked for", "/good"]], []]);
    assert!(heard.contains(&good), "{heard:?}");
}
