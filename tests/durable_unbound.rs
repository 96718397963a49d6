//! Classes of Durable Objects that are there and that no binding shows: another client took the binding away, never made one, or
//! uploaded a version without it. They are the Worker's all the same, with their objects.

use serde_json::{Value, json};

use super::support::{Project, cloud::ServedCloud, served::multipart};

const CODE: &str = "import { DurableObject } from 'cloudflare:workers'; export class D extends DurableObject {}; export default { fetch() { return new Response('v1') } }";

/// A Worker with these props that has this class, and binds it where that is said.
fn script(props: &str, class: &str, version: &str, bindings: &str) -> String {
    let code = CODE
        .replace("class D", &format!("class {class}"))
        .replace("v1", version);
    format!(
        "alchemy(\"shop\");\nlet d = DurableObject(\"d\", #{{ className: \"{class}\", sqlite: true }});\n\
         Worker(\"tsw\", #{{ {props}script: \"{code}\"{bindings} }});\n"
    )
}

const BOUND: &str = ", bindings: #{ D: d }";

fn project(cloud: &ServedCloud, script: &str) -> Project {
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    project
}

/// What another client uploads: the code, the class without a binding, and these metadata.
fn version(mut metadata: Value) -> String {
    metadata["main_module"] = json!("index.js");
    metadata["compatibility_date"] = json!("2026-07-01");
    multipart(&[
        ("metadata", "application/json", &metadata.to_string()),
        ("index.js", "application/javascript+module", CODE),
    ])
}

fn foreign(cloud: &ServedCloud, name: &str) {
    let migrations = json!({ "new_tag": "v1", "new_sqlite_classes": ["D"] });
    let body = version(json!({ "migrations": migrations }));
    cloud.upload("PUT", &format!("workers/scripts/{name}"), &body);
}

/// Script, class and id of the namespaces.
fn namespaces(cloud: &ServedCloud) -> Vec<[String; 3]> {
    let list = cloud.ask("GET", "workers/durable_objects/namespaces", "");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = list.as_array().unwrap().iter();
    list.map(|item| ["script", "class", "id"].map(|field| text(&item[field])))
        .collect()
}

/// The classes that a script binds.
fn bound(cloud: &ServedCloud, name: &str) -> Vec<Value> {
    let settings = cloud.ask("GET", &format!("workers/scripts/{name}/settings"), "");
    let bindings = settings["bindings"].as_array().unwrap().iter();
    bindings
        .map(|binding| binding["class_name"].clone())
        .collect()
}

fn unbind(cloud: &ServedCloud) {
    let path = "workers/scripts/tsw-dev/settings";
    cloud.ask("PATCH", path, r#"{"bindings":[]}"#);
    assert_eq!(bound(cloud, "tsw-dev"), Vec::<Value>::new());
}

const RUN: [&str; 3] = ["run", "--target", "cloudflare"];

#[test]
fn a_binding_that_was_taken_away_comes_back_to_the_same_objects() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud, &script("", "D", "v1", BOUND));
    project.alch(RUN).success();
    let there = namespaces(&cloud);
    assert_eq!(there.len(), 1);

    unbind(&cloud);
    project.alch(["drift"]).code(7);
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    assert_eq!(bound(&cloud, "tsw-dev"), ["D"]);
    assert_eq!(namespaces(&cloud), there);

    unbind(&cloud);
    project.file("alchemy.run.rhai", script("", "D", "v2", BOUND));
    project.alch(RUN).success();
    assert_eq!(bound(&cloud, "tsw-dev"), ["D"]);
    assert_eq!(namespaces(&cloud), there);

    // Another name of the class keeps them as well.
    unbind(&cloud);
    project.file("alchemy.run.rhai", script("", "E", "v2", BOUND));
    project.alch(RUN).success();
    assert_eq!(bound(&cloud, "tsw-dev"), ["E"]);
    let renamed = namespaces(&cloud);
    assert_eq!(
        renamed,
        [["tsw-dev".to_owned(), "E".to_owned(), there[0][2].clone()]]
    );

    // To lose them takes consent, after which they are gone.
    unbind(&cloud);
    project.file("alchemy.run.rhai", script("", "E", "v2", ""));
    project.alch(RUN).code(4);
    let refreshed = ["run", "--refresh", "--target", "cloudflare"];
    let refused = project.alch(refreshed).code(4);
    let loss = "lose the Durable Object class `E` with its data";
    assert!(refused.stderr.contains(loss), "{}", refused.stderr);
    assert_eq!(namespaces(&cloud), renamed);
    project
        .alch(["run", "--allow-data-loss", "--target", "cloudflare"])
        .success();
    assert_eq!(namespaces(&cloud), Vec::<[String; 3]>::new());
}

#[test]
fn a_worker_whose_class_nothing_binds_is_adopted_with_it() {
    let cloud = ServedCloud::quick();
    foreign(&cloud, "ww");
    foreign(&cloud, "other");
    let there = namespaces(&cloud);
    let adopted = "adopt: true, name: \"ww\", ";
    // What does not name the class would delete it, and another storage cannot be had.
    let project = project(&cloud, &script(adopted, "D", "v1", ""));
    let refused = project.alch(RUN).code(4);
    let loss = "lose the Durable Object class `D` with its data";
    assert!(refused.stderr.contains(loss), "{}", refused.stderr);
    let with = script(adopted, "D", "v1", BOUND);
    project.file(
        "alchemy.run.rhai",
        with.replace("sqlite: true", "sqlite: false"),
    );
    let refused = project.alch(RUN).code(4);
    let storage = "`sqlite` of the Durable Object class `D` cannot change";
    assert!(refused.stderr.contains(storage), "{}", refused.stderr);

    project.file("alchemy.run.rhai", with);
    project.alch(RUN).success();
    assert_eq!(bound(&cloud, "ww"), ["D"]);
    assert_eq!(namespaces(&cloud), there);
    cloud.take_calls();
    project.alch(RUN).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn a_version_without_the_binding_that_nobody_deployed_is_no_obstacle() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud, &script("", "D", "v1", BOUND));
    project.alch(RUN).success();
    let there = namespaces(&cloud);
    let versions = "workers/scripts/tsw-dev/versions";

    cloud.upload("POST", versions, &version(json!({})));
    assert_eq!(bound(&cloud, "tsw-dev"), Vec::<Value>::new());
    project.alch(["drift", "--repair"]).success();
    project.alch(["drift"]).success();
    assert_eq!(bound(&cloud, "tsw-dev"), ["D"]);

    cloud.upload("POST", versions, &version(json!({})));
    project
        .alch(["run", "--refresh", "--target", "cloudflare"])
        .success();
    assert_eq!(bound(&cloud, "tsw-dev"), ["D"]);
    assert_eq!(namespaces(&cloud), there);
}

#[test]
fn a_class_of_the_same_name_of_another_worker_is_another_class() {
    let cloud = ServedCloud::quick();
    foreign(&cloud, "other");
    let project = project(&cloud, &script("", "D", "v1", ""));
    project.alch(RUN).success();
    cloud.take_calls();
    project.file("alchemy.run.rhai", script("", "D", "v1", BOUND));
    project.alch(RUN).success();
    assert_eq!(
        cloud.take_calls(),
        [
            "GET workers/services/tsw-dev",
            "GET workers/scripts/tsw-dev/settings",
            "GET workers/durable_objects/namespaces",
            "PUT workers/scripts/tsw-dev",
        ]
    );
    let scripts: Vec<String> = namespaces(&cloud)
        .into_iter()
        .map(|[script, ..]| script)
        .collect();
    assert_eq!(scripts, ["other", "tsw-dev"]);
}
