//! Workers that really run: `alch local serve` over the built binary, driven over HTTP as a user's programs would.
//!
//! They need `workerd` and the simulators, which `alch local prepare` finds or obtains through npm. Where it cannot, each
//! test says so on the terminal, past the capture of the test harness, and checks nothing.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use snapbox::str;

use crate::support::{
    Project,
    served::{Served, pid, request, with_runtime},
};

#[test]
fn a_worker_answers_and_shares_its_data_with_the_api() {
    let Some(project) = with_runtime(Project::example("quickstart")) else {
        return;
    };
    let mut served = Served::start(&project);
    let (status, body) = served.ask("worker-dev", "GET", "/", "");
    assert_eq!(
        (status, body.contains("No Worker is deployed")),
        (404, true)
    );
    assert!(
        served.processes().is_empty(),
        "it starts with the first Worker"
    );

    project.alch(["run"]).success();
    let running = served.wait_for("local_workers");
    assert_eq!(
        running["workers"],
        json!([{
            "name": "worker-dev",
            "url": format!("http://worker-dev.localhost:{}", served.port),
        }])
    );

    // Written by the Worker, read through the API.
    assert_eq!(
        served.get("worker-dev", "/a"),
        json!({"count": 1, "last": null})
    );
    let last = served.get("worker-dev", "/b")["last"].clone();
    assert!(last.is_string(), "{last}");
    assert_eq!(
        served
            .ask("worker-dev", "PUT", "/files/one", "from the Worker")
            .0,
        201
    );
    let ids: BTreeMap<String, String> = [("d1/database", "uuid"), ("storage/kv/namespaces", "id")]
        .into_iter()
        .map(|(path, field)| {
            let listed: Value = serde_json::from_str(&served.call("GET", path, "")).unwrap();
            let id = listed["result"][0][field].as_str().unwrap().to_owned();
            (path.to_owned(), id)
        })
        .collect();
    let query = format!("d1/database/{}/query", ids["d1/database"]);
    let value = format!(
        "storage/kv/namespaces/{}/values/last-visit",
        ids["storage/kv/namespaces"]
    );
    let rows = served.call(
        "POST",
        &query,
        r#"{"sql": "SELECT path FROM visits ORDER BY id"}"#,
    );
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        rows["result"][0]["results"],
        json!([{"path": "/a"}, {"path": "/b"}])
    );
    assert!(served.call("GET", &value, "").contains('T'));
    assert_eq!(
        served.call("GET", "r2/buckets/files-dev/objects/one", ""),
        "from the Worker"
    );

    // Written through the API, read by the Worker.
    served.call(
        "POST",
        &query,
        r#"{"sql": "INSERT INTO visits(path) VALUES ('x'), ('y')"}"#,
    );
    served.call("PUT", &value, "from the API");
    served.call(
        "PUT",
        "r2/buckets/files-dev/objects/two",
        "from the API, too",
    );
    assert_eq!(
        served.get("worker-dev", "/"),
        json!({"count": 5, "last": "from the API"})
    );
    assert_eq!(
        served.ask("worker-dev", "GET", "/files/two", ""),
        (200, "from the API, too".to_owned())
    );

    // Names that are nobody's, and names of other machines.
    let (status, body) = served.ask("nobody", "GET", "/", "");
    assert_eq!(
        (status, body.contains("http://worker-dev.localhost")),
        (404, true),
        "{body}"
    );
    let (status, _) = request(served.port, "GET", "/", &[("host", "evil.example")], "");
    assert_eq!(status, 403);

    served.signal(Signal::INT);
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
    assert_eq!(served.processes(), Vec::<i32>::new());
}

#[test]
fn a_new_version_takes_over_and_no_request_is_refused() {
    let Some(project) = with_runtime(Project::example("quickstart")) else {
        return;
    };
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    let source = project.read("src/worker.js");
    project.file(
        "src/worker.js",
        source.replace("{ count, last }", "{ version: 2 }"),
    );
    project.alch(["run"]).success();
    // `ask` panics at a refused connection, and every answer on the way must be a good one.
    served.ask_until("worker-dev", "/", |status, body| {
        assert_eq!(status, 200, "{body}");
        body == r#"{"version":2}"#
    });

    // The runtime comes back when it dies.
    for id in served.processes() {
        kill_process(pid(u32::try_from(id).unwrap()), Signal::KILL).unwrap();
    }
    served.ask_until("worker-dev", "/", |status, _| status == 200);

    // Nothing outlives a program that is killed.
    served.signal(Signal::KILL);
    served.gone();
}

#[test]
fn a_worker_that_cannot_start_harms_no_other() {
    let script = r#"
let app = alchemy("two");
Worker("good", #{
    script: `export default { async fetch(request, env) {
        if (request.url.endsWith("/boom")) throw new TypeError("planned");
        await env.JOBS.send({ id: 1 });
        return Response.json({ text: env.TEXT, list: env.LIST, key: env.KEY });
    } }`,
    bindings: #{
        TEXT: "a \"quoted\" \\ text\nof two lines # { é 💥",
        LIST: [1, "two"],
        KEY: secret("planted-secret"),
        JOBS: Queue("jobs"),
    },
});
Worker("bad", #{ script: `BODY` });
app.finalize();
"#;
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    project.file(
        "alchemy.run.rhai",
        script.replace("BODY", "throw new Error('at the top')"),
    );
    project.alch(["run"]).success();
    let mut served = Served::start(&project);
    served.wait_for("local_workers");
    assert_eq!(
        served.get("good-dev", "/"),
        json!({
            "text": "a \"quoted\" \\ text\nof two lines # { é 💥",
            "list": [1, "two"],
            "key": "planted-secret",
        })
    );
    assert_eq!(
        project.files_with("planted-secret"),
        [project.path("alchemy.run.rhai")]
    );
    let (status, body) = served.ask("good-dev", "GET", "/boom", "");
    assert_eq!(status, 500);
    snapbox::Assert::new().eq(
        body.replace(&served.port.to_string(), "PORT"),
        str![[r#"
Worker `good-dev` failed

GET http://good-dev.localhost:PORT/boom

TypeError: planned
    at Object.fetch (worker.js:2:50)

"#]],
    );
    let (status, body) = served.ask("bad-dev", "GET", "/", "");
    assert_eq!(status, 500);
    assert!(
        body.contains("cannot run: Uncaught Error: at the top"),
        "{body}"
    );

    let repaired = "export default { fetch() { return new Response('repaired') } }";
    project.file("alchemy.run.rhai", script.replace("BODY", repaired));
    project.alch(["run"]).success();
    served.ask_until("bad-dev", "/", |_, body| body == "repaired");
}

#[test]
fn one_project_is_served_once() {
    let project = Project::new();
    let served = Served::start(&project);
    project
        .alch(["local", "serve", "--port", "0"])
        .check(str![[r#"
exit 1
-- stderr
error[E0502]: another `alch local serve` runs the Workers of `[ROOT]/project/.alchemy/local`
 = help: stop it first, or use it: it serves this project

"#]]);
    drop(served);
}

#[test]
fn without_npm_the_next_step_is_named() {
    let project = Project::new();
    let mut command = project.command(["local", "prepare"]);
    command.env("PATH", project.home());
    project.output_of(&mut command).check(str![[r#"
exit 1
-- stderr
obtaining @cloudflare/workerd-linux-64@1.20260730.1 (37 MB, once) with npm into [ROOT]/home/.cache/alch/runtime
error[E0502]: running Workers needs the package `@cloudflare/workerd-linux-64@1.20260730.1`, and there is no `npm` to obtain it with
 = note: No such file or directory (os error 2)
 = help: install Node.js, whose npm obtains it once; running needs no Node
 = help: or set `ALCH_WORKERD_PATH`, `ALCH_SIMULATORS_PATH` and `ALCH_ESBUILD_PATH`; `alch help local prepare` says what they name

"#]]);
}

/// Puts a program named `npm` into a folder of its own; answers what `PATH` is to be.
fn with_npm(project: &Project, script: &str) -> String {
    project.file("bin/npm", format!("#!/bin/sh\n{script}\n"));
    let npm = project.path("bin/npm");
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).unwrap();
    let usual = std::env::var("PATH").unwrap();
    format!("{}:{usual}", project.path("bin").display())
}

#[test]
fn without_a_network_npm_gives_up_soon() {
    let project = Project::new();
    let path = with_npm(
        &project,
        "echo \"npm error retries: $npm_config_fetch_retries $NPM_CONFIG_FETCH_RETRIES, $npm_config_fetch_retry_mintimeout to $npm_config_fetch_retry_maxtimeout ms\" >&2; exit 1",
    );
    let told = |name: &str, value: &str| {
        let mut command = project.command(["local", "prepare"]);
        command.env("PATH", &path).env(name, value);
        project.output_of(&mut command)
    };
    told("ANY", "").check(str![[r#"
exit 1
-- stderr
obtaining @cloudflare/workerd-linux-64@1.20260730.1 (37 MB, once) with npm into [ROOT]/home/.cache/alch/runtime
error[E0502]: npm could not obtain `@cloudflare/workerd-linux-64@1.20260730.1`:
              npm error retries: 2 , 500 to [TIME]
 = help: check the network and npm's configuration, then `alch local prepare` tries again
 = help: or set `ALCH_WORKERD_PATH`, `ALCH_SIMULATORS_PATH` and `ALCH_ESBUILD_PATH`; `alch help local prepare` says what they name

"#]]);
    told("NPM_CONFIG_FETCH_RETRIES", "7").check(str![[r#"
exit 1
-- stderr
obtaining @cloudflare/workerd-linux-64@1.20260730.1 (37 MB, once) with npm into [ROOT]/home/.cache/alch/runtime
error[E0502]: npm could not obtain `@cloudflare/workerd-linux-64@1.20260730.1`:
              npm error retries:  7, 500 to [TIME]
 = help: check the network and npm's configuration, then `alch local prepare` tries again
 = help: or set `ALCH_WORKERD_PATH`, `ALCH_SIMULATORS_PATH` and `ALCH_ESBUILD_PATH`; `alch help local prepare` says what they name

"#]]);
}

#[test]
fn a_path_that_is_wrong_is_named() {
    let mut project = Project::new();
    project.env("ALCH_WORKERD_PATH", "missing/workerd");
    project.alch(["local", "prepare"]).check(str![[r#"
exit 1
-- stderr
error[E0502]: `ALCH_WORKERD_PATH` names `[ROOT]/project/missing/workerd`, which is not there
 = help: correct `ALCH_WORKERD_PATH` or unset it

"#]]);
    assert!(!project.home().join(".cache").exists());
}
