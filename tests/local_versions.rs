//! Two versions of a Worker side by side.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    Project,
    served::{Served, multipart, request, until, with_runtime},
};

fn version(text: &str) -> String {
    let code = format!("export default {{ fetch() {{ return new Response('{text}') }} }}");
    multipart(&[
        (
            "metadata",
            "application/json",
            r#"{"main_module":"index.js","compatibility_date":"2026-07-01"}"#,
        ),
        ("index.js", "application/javascript+module", &code),
    ])
}

/// The answer to a request with a header.
fn ask(served: &Served, name: &str, value: &str) -> String {
    let host = format!("api.localhost:{}", served.port);
    let headers = [("host", host.as_str()), (name, value)];
    let (status, body) = request(served.port, "GET", "/", &headers, "");
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn two_versions_share_the_requests() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    served.upload("PUT", "workers/scripts/api", &version("old"));
    let new = served.upload("POST", "workers/scripts/api/versions", &version("new"));
    let new = new["id"].as_str().unwrap();
    let path = "workers/scripts/api/deployments";
    let listed: Value = serde_json::from_str(&served.call("GET", path, "")).unwrap();
    let old = listed["result"]["deployments"][0]["versions"][0]["version_id"]
        .as_str()
        .unwrap()
        .to_owned();
    served.ask_until("api", "/", |_, body| body == "old");
    let split = |of_new: u32| {
        let body = json!({"strategy": "percentage", "versions": [
            {"version_id": new, "percentage": of_new},
            {"version_id": old, "percentage": 100 - of_new},
        ]});
        served.call("POST", path, &body.to_string());
    };

    // One that gets no requests yet answers whoever asks for it.
    split(0);
    let header = "cloudflare-workers-version-overrides";
    let wanted = format!("other=\"x\", api=\"{new}\"");
    until(|| (ask(&served, header, &wanted) == "new").then_some(()));
    for value in ["", "api=\"x\"", &format!("other=\"{new}\"")] {
        assert_eq!(ask(&served, header, value), "old", "{value}");
    }

    split(40);
    served.ask_until("api", "/", |_, body| body == "new");
    let seen = |count: usize| -> usize {
        let answers = (0..count).map(|_| served.ask("api", "GET", "/", "").1);
        answers.filter(|answer| answer == "new").count()
    };
    let seen = seen(200);
    assert!((30..130).contains(&seen), "{seen} of 200");
    // Who has the new one keeps it, and gets it when its part grows.
    let header = "cloudflare-workers-version-key";
    let with_new = || -> BTreeSet<u32> {
        let keys = 0..60_u32;
        keys.filter(|key| ask(&served, header, &format!("user-{key}")) == "new")
            .collect()
    };
    let few = with_new();
    assert_eq!(with_new(), few);
    assert!((5..50).contains(&few.len()), "{few:?}");
    split(80);
    let many = until(|| Some(with_new()).filter(|many| *many != few));
    assert!(many.is_superset(&few), "{few:?} {many:?}");
    split(100);
    served.ask_until("api", "/", |_, body| body == "new");
}
