//! `alch import` of every kind there is: what is not there, and what cannot be imported at all, is said with a next step.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud, without_ids};

/// Every kind that `alch explain` knows.
fn kinds(project: &Project) -> Vec<String> {
    let refusal = project.alch(["import", "Nothing-of-the-kind", "x", "--app", "shop"]);
    let refusal = refusal.code(2);
    let list = refusal.stderr.split("kinds are ").nth(1).expect("a list");
    list.trim()
        .split(", ")
        .filter(|name| name.contains("::"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_kind_answers_nonsense_with_anything_but_a_clear_error() {
    let project = Project::new();
    let kinds = kinds(&project);
    assert!(kinds.len() >= 23, "{kinds:?}");
    let mut told = String::new();
    for kind in &kinds {
        let refused = project.alch(["import", kind, "nonsense", "--app", "shop"]);
        let (code, text) = (refused.code, refused.stderr.clone());
        assert!(text.contains(" = help: "), "{kind}: {text}");
        assert!(text.contains("nothing was changed"), "{kind}: {text}");
        assert!(!text.contains("internal"), "{kind}: {text}");
        assert!(!text.contains("alch/account"), "{kind}: {text}");
        let first = text.lines().next().unwrap_or_default();
        told.push_str(&format!("{} {first}\n", code.unwrap_or_default()));
        assert!(!project.path(".alchemy/shop").exists(), "{kind}");
    }
    snapbox::assert_data_eq!(
        told,
        str![[r#"
6 error[E0309]: there is no `nonsense` of `cloudflare::AiGateway`
6 error[E0309]: there is no `nonsense` of `cloudflare::CustomDomain`
6 error[E0309]: there is no `nonsense` of `cloudflare::D1Database`
6 error[E0309]: there is no `nonsense` of `cloudflare::DnsRecords`
2 error[E0501]: `cloudflare::DurableObjectNamespace` cannot be imported: a Durable Object class comes with the Worker that has it
6 error[E0309]: there is no `nonsense` of `cloudflare::Hyperdrive`
6 error[E0309]: there is no `nonsense` of `cloudflare::KVNamespace`
6 error[E0309]: there is no `nonsense` of `cloudflare::Queue`
6 error[E0309]: there is no `nonsense` of `cloudflare::QueueConsumer`
6 error[E0309]: there is no `nonsense` of `cloudflare::R2Bucket`
2 error[E0501]: `cloudflare::R2Object` cannot be imported: an object of a bucket is declared with its content
6 error[E0309]: there is no `nonsense` of `cloudflare::Route`
6 error[E0309]: there is no `nonsense` of `cloudflare::Secret`
6 error[E0309]: there is no `nonsense` of `cloudflare::SecretsStore`
6 error[E0309]: there is no `nonsense` of `cloudflare::Tunnel`
6 error[E0309]: there is no `nonsense` of `cloudflare::VectorizeIndex`
6 error[E0309]: there is no `nonsense` of `cloudflare::Worker`
6 error[E0309]: there is no `nonsense` of `cloudflare::Workflow`
6 error[E0309]: there is no `nonsense` of `cloudflare::Zone`
2 error[E0501]: `std::Exec` cannot be imported: a command leaves no object that could be looked at
2 error[E0501]: `std::File` cannot be imported: a file is declared with its content
2 error[E0501]: `std::HttpRequest` cannot be imported: a request leaves no object that could be looked at
2 error[E0501]: `std::RandomString` cannot be imported: its value stands in state alone

"#]]
    );
}

#[test]
fn a_secret_is_named_with_its_store() {
    let cloud = ServedCloud::quick();
    let mut theirs = Project::with_script(
        r#"alchemy("theirs");
        let store = SecretsStore("store", #{ name: "store" });
        Secret("key", #{ store: store, name: "KEY", value: secret("hidden") });"#,
    );
    cloud.serve_to(&mut theirs);
    theirs.alch(["run", "--target", "cloudflare"]).success();
    let mut project = Project::with_script("alchemy(\"shop\");\n");
    cloud.serve_to(&mut project);
    project.env("KEY_VALUE", "hidden-key");
    let import = |name: &str| project.alch(["import", "Secret", name, "--target", "cloudflare"]);
    for nonsense in ["nosuch/KEY", "store/NOSUCH", "store/", "/"] {
        let refused = import(nonsense).code(6);
        assert!(
            refused
                .stderr
                .contains(&format!("there is no `{nonsense}`")),
            "{}",
            refused.stderr
        );
    }
    let imported = import("store/KEY").success();
    snapbox::assert_data_eq!(
        without_ids(&imported.stdout),
        str![[r#"
Secret("KEY", #{ name: "KEY", store: "[ID]", value: secret(env("KEY_VALUE")) });

"#]]
    );
}

#[test]
fn the_application_is_that_of_the_script_in_the_folder() {
    let cloud = ServedCloud::quick();
    cloud.call("POST", "storage/kv/namespaces", r#"{"title":"cache"}"#);
    cloud.call("POST", "storage/kv/namespaces", r#"{"title":"log"}"#);
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    let import = ["import", "KV", "cache", "--target", "cloudflare"];
    // A name that is computed is none, and a script that is broken names none.
    for script in [
        "let name = \"shop\";\nalchemy(name);\n",
        "alchemy(\"shop\", ;\n",
        "// alchemy(\"shop\");\n",
    ] {
        project.file("alchemy.run.rhai", script);
        project.alch(import).code(2);
    }
    project.file(
        "alchemy.run.rhai",
        "// alchemy(\"other\");\nlet app = alchemy(\"shop\", #{ stage: \"dev\" });\napp.finalize();\n",
    );
    project.alch(import).success();
    assert!(project.path(".alchemy/shop").exists());
    let scan = project.alch(["scan", "--target", "cloudflare"]).success();
    assert!(
        scan.stdout.contains("alchemy(\"shop\");"),
        "{}",
        scan.stdout
    );
    // The one that is named counts more.
    project
        .alch([
            "import",
            "KV",
            "log",
            "--target",
            "cloudflare",
            "--app",
            "desk",
        ])
        .success();
    assert!(project.path(".alchemy/desk").exists());
}
