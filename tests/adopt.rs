//! `alch import` and `alch scan`: objects that are there already come into state untouched.

use snapbox::str;

use super::support::{Output, Project, cloud::ServedCloud};

/// A project without a script, pointed at a served cloud.
fn project(cloud: &ServedCloud) -> Project {
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    project
}

/// Makes an object as another client would. Answers what the field of the result says.
fn make(cloud: &ServedCloud, path: &str, body: &'static str, field: &str) -> String {
    let (status, answer) = cloud.call("POST", path, body);
    assert_eq!(status, 200, "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    json["result"][field]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn import(project: &Project, arguments: &[&str]) -> Output {
    let all = ["import", "--target", "cloudflare", "--app", "shop"];
    project.alch(all.iter().chain(arguments))
}

#[test]
fn an_imported_object_has_lines_whose_plan_is_empty() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud);
    let id = make(
        &cloud,
        "storage/kv/namespaces",
        r#"{"title":"Sessions"}"#,
        "id",
    );
    make(
        &cloud,
        "queues",
        r#"{"queue_name":"jobs-dev","settings":{"delivery_delay":7}}"#,
        "queue_id",
    );
    make(&cloud, "d1/database", r#"{"name":"orders"}"#, "uuid");
    make(
        &cloud,
        "r2/buckets",
        r#"{"name":"files","storageClass":"InfrequentAccess"}"#,
        "name",
    );
    cloud.take_calls();

    let mut script = "alchemy(\"shop\");\n".to_owned();
    let sessions = import(&project, &["KVNamespace", &id]);
    sessions.check(str![[r#"
exit 0
-- stdout
KV("Sessions", #{ name: "Sessions" });
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   Sessions  Sessions  [TIME]
not looked at: `values`: the lines leave them as they are, and a rebuild from the script would lack them
imported as `Sessions`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    script.push_str(&sessions.stdout);
    let calls = cloud.take_calls();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );
    let jobs = import(&project, &["Queue", "jobs-dev"]).success();
    jobs.check(str![[r#"
exit 0
-- stdout
Queue("jobs", #{ settings: #{ deliveryDelay: 7 } });
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   jobs  jobs-dev  [TIME]
imported as `jobs`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    script.push_str(&jobs.stdout);
    let orders = import(
        &project,
        &["cloudflare::D1Database", "orders", "storage/orders"],
    )
    .success();
    orders.check(str![[r#"
exit 0
-- stdout
alchemy.run("storage", || {
    Database("orders", #{ name: "orders" });
});
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
  adopted   storage/orders  orders  [TIME]
not looked at: `migrations`, `importFiles`: the lines leave them as they are, and a rebuild from the script would lack them
imported as `storage/orders`, marked as adopted (a destroy keeps it); a plan with these lines is empty: put them into the script before the next run
0 created, 0 updated, 0 deleted, 0 unchanged, 1 adopted in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    script.push_str(&orders.stdout);
    let files = import(&project, &["Bucket", "files"]).success();
    script.push_str(&files.stdout);
    let calls = cloud.take_calls();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );

    project.file("alchemy.run.rhai", &script);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert_eq!(
        run.last_line(),
        "0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
    let listed = project.alch(["state", "ls"]).success();
    assert_eq!(
        listed.stdout.matches("ready, adopted").count(),
        4,
        "{}",
        listed.stdout
    );
    // A destroy keeps what was there before.
    project.alch(["destroy", "--yes"]).success();
    let left = cloud.call("GET", "storage/kv/namespaces", "").1;
    assert!(left.contains(&id), "{left}");
}

#[test]
fn what_cannot_be_imported_is_refused_and_changes_nothing() {
    let cloud = ServedCloud::quick();
    let mut project = project(&cloud);
    let id = make(
        &cloud,
        "storage/kv/namespaces",
        r#"{"title":"Sessions"}"#,
        "id",
    );
    project
        .alch(["import", "--target", "cloudflare", "KV", "Sessions"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: no application has state here yet, and no script in this folder names one
 = help: say which one it is for: `--app NAME`, as in `alchemy("NAME")`

"#]]);
    import(&project, &["KVNamespce", "x"]).check(str![[r#"
exit 2
-- stderr
error[E0209]: no resource kind `KVNamespce`
 = help: did you mean `KVNamespace`?

"#]]);
    import(&project, &["KV", "Session"]).check(str![[r#"
exit 6
-- stderr
error[E0309]: there is no `Session` of `cloudflare::KVNamespace`
 = note: nothing was changed
 = help: `alch scan` lists what there is, with names and ids

"#]]);
    assert!(!project.path(".alchemy/shop").exists());
    import(&project, &["KV", &id]).success();
    let before = project.state_files();
    // Also in another stage, and under another name.
    import(&project, &["KV", &id, "other", "--stage", "prod"]).check(str![[r#"
exit 1
-- stderr
error[E0412]: `Sessions` (cloudflare::KVNamespace) is in state already, as `shop/dev/Sessions`
 = note: nothing was changed
 = help: `alch state show` shows it, `alch state mv` renames it

"#]]);
    make(
        &cloud,
        "storage/kv/namespaces",
        r#"{"title":"second"}"#,
        "id",
    );
    import(&project, &["KV", "second", "Sessions"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase import, target cloudflare
error[E0412]: `Sessions` is in state already
 = note: nothing was changed
 = help: give the resource another name: `alch import KIND ID NAME`

"#]]);
    cloud.refuse(Some(("GET", "queues")));
    import(&project, &["Queue", "jobs"]).code(4);
    cloud.refuse(None);
    assert_eq!(project.state_files(), before);

    project.env("CLOUDFLARE_API_TOKEN", "wrong");
    import(&project, &["KV", "second"]).code(3);
}

#[test]
fn a_scan_drafts_a_script_that_adopts_what_nobody_knows() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud);
    project
        .alch(["scan", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
// state knows all of the 0 objects on target cloudflare
-- stderr
0 of 0 objects unknown to state (17 API calls)

"#]]);
    for body in [
        r#"{"title":"a"}"#,
        r#"{"title":"b-dev"}"#,
        r#"{"title":"known"}"#,
    ] {
        make(&cloud, "storage/kv/namespaces", body, "id");
    }
    make(&cloud, "d1/database", r#"{"name":"a"}"#, "uuid");
    make(
        &cloud,
        "queues",
        r#"{"queue_name":"jobs","settings":{"delivery_delay":7}}"#,
        "queue_id",
    );
    let mut other = Project::with_script(
        r#"alchemy("other"); Worker("api", #{ script: "export default {}" });"#,
    );
    cloud.serve_to(&mut other);
    other.alch(["run", "--target", "cloudflare"]).success();
    import(&project, &["KV", "known"]).success();
    let scan = project.alch(["scan", "--target", "cloudflare"]);
    scan.check(str![[r#"
exit 0
-- stdout
// 5 objects on target cloudflare that no state here knows. `alch run` with these lines adopts them.
alchemy("shop");

// cloudflare::D1Database: 1
Database("a", #{ adopt: true, name: "a" });

// cloudflare::KVNamespace: 2
KV("a-kv", #{ adopt: true, name: "a" });
KV("b", #{ adopt: true });

// cloudflare::Queue: 1
Queue("jobs", #{ adopt: true, name: "jobs", settings: #{ deliveryDelay: 7 } });

// cloudflare::Worker: 1
// alch import Worker api-dev --app shop --target cloudflare
-- stderr
    1  cloudflare::D1Database
    2  cloudflare::KVNamespace
    1  cloudflare::Queue
    1  cloudflare::Worker
5 of 6 objects unknown to state (19 API calls)

"#]]);
    let json = project
        .alch(["scan", "--target", "cloudflare", "--json"])
        .success();
    let message = json.messages();
    let message = message.iter().find(|m| m["type"] == "scan").unwrap();
    assert_eq!(message["listed"], 6);
    assert_eq!(message["unknown"].as_array().map(Vec::len), Some(5));
    assert_eq!(
        message["script"].as_str().unwrap().trim_end(),
        scan.stdout.trim_end()
    );

    let adopter = scan.stdout + "KV(\"known\", #{ name: \"known\" });\n";
    project.file("alchemy.run.rhai", adopter);
    let run = project.alch(["run", "--target", "cloudflare"]).success();
    assert!(run.stderr.contains("4 adopted"), "{}", run.stderr);
    let again = project.alch(["scan", "--target", "cloudflare"]).success();
    assert!(
        again.stdout.contains("1 object"),
        "only the Worker: {}",
        again.stdout
    );
    assert!(
        project
            .alch(["plan", "--target", "cloudflare"])
            .stdout
            .contains("0 to create, 0 to update, 0 to delete, 5 unchanged")
    );
}

#[test]
fn a_scan_reads_every_page_and_says_what_it_could_not_list() {
    let cloud = ServedCloud::quick();
    let project = project(&cloud);
    for number in 0..205 {
        let body: &'static str = Box::leak(format!(r#"{{"title":"n{number}"}}"#).into_boxed_str());
        make(&cloud, "storage/kv/namespaces", body, "id");
    }
    cloud.take_calls();
    cloud.refuse(Some(("GET", "queues")));
    let scan = project.alch(["scan", "--target", "cloudflare"]).code(4);
    assert_eq!(scan.stdout.matches("adopt: true").count(), 205);
    assert!(
        scan.stderr.contains("`cloudflare::Queue` is left out"),
        "{}",
        scan.stderr
    );
    let pages = cloud
        .take_calls()
        .into_iter()
        .filter(|call| call == "GET storage/kv/namespaces")
        .count();
    assert_eq!(pages, 3);
}
