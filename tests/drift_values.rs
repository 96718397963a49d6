//! Drift of the values that a script puts into KV namespaces: one call for a hundred keys, secrets by their presence alone.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
alchemy("shop");
KV("plain");
KV("config", #{ values: [
    #{ key: "mode", value: "calm" },
    #{ key: "limits", value: #{ most: 3, factor: 0.1 }, metadata: #{ by: "alch" } },
    #{ key: "a/b c", value: "odd key" },
    #{ key: "token", value: alchemy.secret("s3cret-of-ours") },
    #{ key: "session", value: "goes", expirationTtl: 3600 },
] });
"#;

fn deployed(cloud: &ServedCloud, script: &str) -> Project {
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    project.alch(["run", "--target", "cloudflare"]).success();
    cloud.take_calls();
    project
}

/// The path of the values of a namespace.
fn values(cloud: &ServedCloud, title: &str) -> String {
    let namespaces = cloud.ask("GET", "storage/kv/namespaces", "");
    let all = namespaces.as_array().expect("a list");
    let one = all.iter().find(|one| one["title"] == title);
    let id = one.and_then(|one| one["id"].as_str()).expect("an id");
    format!("storage/kv/namespaces/{id}/values")
}

fn value(cloud: &ServedCloud, path: &str) -> String {
    let (status, answer) = cloud.call("GET", path, "");
    assert_eq!(status, 200, "{path}: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

#[test]
fn one_call_a_namespace_that_declares_values_says_that_there_is_no_drift() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, SCRIPT);
    let id = values(&cloud, "config-dev");
    let id = id.split('/').nth(3).expect("an id").to_owned();
    cloud.take_calls();
    project.alch(["drift"]).check(str![[r#"
exit 0
-- stdout
no drift: 2 objects as in state (2 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare

"#]]);
    assert_eq!(
        cloud.take_calls(),
        [
            "GET storage/kv/namespaces".to_owned(),
            format!("POST storage/kv/namespaces/{id}/bulk/get"),
        ]
    );
}

#[test]
fn values_that_another_client_changed_or_deleted_are_told_and_brought_back() {
    let cloud = ServedCloud::quick();
    let project = deployed(&cloud, SCRIPT);
    let at = values(&cloud, "config-dev");
    let spoil = || {
        cloud.call("PUT", &format!("{at}/mode"), "wild");
        cloud.call("PUT", &format!("{at}/limits"), r#"{"most":9}"#);
        cloud.call("DELETE", &format!("{at}/a%2Fb%20c"), "");
        cloud.call("DELETE", &format!("{at}/token"), "");
        // What goes by itself may have gone, and what nobody declared is not looked at.
        cloud.call("DELETE", &format!("{at}/session"), "");
        cloud.call("PUT", &format!("{at}/other"), "theirs");
    };
    spoil();
    let drift = project.alch(["drift"]);
    assert!(!drift.stdout.contains("s3cret-of-ours"));
    drift.check(str![[r#"
exit 7
-- stdout
changed   config (cloudflare::KVNamespace)  config-dev
            values.mode: state has "calm", the provider "wild"
            values.limits: state has {"factor":0.1,"most":3}, the provider {"most":9}
            values.limits.metadata: state has {"by":"alch"}, the provider null
            values.a/b c: state has "odd key", the provider null
            values.token: state has "<secret>", the provider null
1 of 2 objects drifted (2 API calls)
-- stderr
alch: app shop, stage dev, phase drift, target cloudflare
`alch drift --repair --app shop --stage dev` brings them back to what state says, `alch run --refresh` to what the script says

"#]]);
    project
        .alch(["plan", "--refresh", "--target", "cloudflare"])
        .check(str![[r#"
exit 0
-- stdout
  ~ config (cloudflare::KVNamespace)  config-dev  # values.mode, values.limits, values.limits.metadata, values.a/b c, values.token changed at the provider
      ~ values.mode: "wild" -> "calm"
      ~ values.limits: {"most":9} -> {"factor":0.1,"most":3}
      ~ values.limits.metadata: null -> {"by":"alch"}
      ~ values["a/b c"]: null -> "odd key"
      ~ values.token: null -> "<secret>"
Plan: 0 to create, 1 to update, 0 to delete, 1 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target cloudflare

"#]]);
    project.alch(["drift", "--repair"]).success();
    let all_back = || {
        assert_eq!(value(&cloud, &format!("{at}/mode")), "calm");
        assert_eq!(
            value(&cloud, &format!("{at}/limits")),
            r#"{"factor":0.1,"most":3}"#
        );
        assert_eq!(value(&cloud, &format!("{at}/a%2Fb%20c")), "odd key");
        assert_eq!(value(&cloud, &format!("{at}/token")), "s3cret-of-ours");
        assert_eq!(value(&cloud, &format!("{at}/other")), "theirs");
        project.alch(["drift"]).success();
    };
    all_back();
    spoil();
    let run = project.alch(["run", "--refresh", "--target", "cloudflare"]);
    let run = run.success();
    assert!(
        run.stderr.contains("0 created, 1 updated"),
        "{}",
        run.stderr
    );
    all_back();
}

#[test]
fn many_values_are_read_by_the_hundred() {
    let cloud = ServedCloud::quick();
    let project = deployed(
        &cloud,
        r#"
alchemy("shop");
let values = [];
for number in 0..205 { values.push(#{ key: `k${number}`, value: `${number}` }); }
KV("many", #{ values: values });
"#,
    );
    let at = values(&cloud, "many-dev");
    cloud.call("PUT", &format!("{at}/k204"), "another");
    cloud.take_calls();
    let drift = project.alch(["drift"]).code(7);
    assert!(
        drift.stdout.contains(
            "values.k204: state has \"204\", the provider \"another\"\n1 of 1 object drifted"
        ),
        "{}",
        drift.stdout
    );
    let calls = cloud.take_calls();
    let reads = calls.iter().filter(|call| call.ends_with("/bulk/get"));
    assert_eq!(reads.count(), 3, "{calls:?}");
}
