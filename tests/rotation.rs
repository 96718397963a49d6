//! `alch secrets rotate`: another password for the secrets in state, and nothing else changes.

use serde_json::Value;
use snapbox::str;

use crate::support::Project;

const SCRIPT: &str = r#"
let app = alchemy("vault");
let Kept = resource("my::Kept", #{
    create: |ctx, id, props| #{ token: secret("a token"), size: props.size },
    update: |ctx, id, props| throw "it was to stay as it is",
    delete: |ctx, id, props| (),
});
let kept = Kept.declare("kept", #{ size: 1 });
Worker("api", #{
    script: "export default {}",
    bindings: #{ KEY: secret(env("API_KEY", "a key")), TOKEN: kept.ref("token"), BOTH: `${kept.ref("token")}!` },
});
Worker("other", #{ script: "export default {}", bindings: #{ SIZE: `${kept.ref("size")}` } });
KV("cache");
"#;

fn project(password: &str) -> Project {
    let mut project = Project::with_script(SCRIPT);
    project.env("ALCHEMY_PASSWORD", password);
    project.alch(["run"]).success();
    project
}

fn key_id(project: &Project, stage: &str) -> String {
    let record = project.read(&format!(".alchemy/vault/{stage}/state.json"));
    let record: Value = serde_json::from_str(&record).unwrap();
    let id = &record["record"]["header"]["key"]["key_id"];
    id.as_str().unwrap().to_owned()
}

#[track_caller]
fn unchanged(project: &Project) {
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_new_password_opens_what_the_old_one_did() {
    let mut project = project("correct horse");
    let old = key_id(&project, "dev");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key
-- stderr
1 backup made before this can be read with the old key only: keep it for as long as you may restore one

"#]]);
    assert_ne!(key_id(&project, "dev"), old);
    let refused = project.alch(["run"]).code(1);
    assert!(
        refused.stderr.contains("error[E0407]"),
        "{}",
        refused.stderr
    );
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    // A secret that changes is still seen.
    project.env("API_KEY", "another key");
    let plan = project.alch(["plan"]).success();
    assert!(plan.stdout.contains("~ api"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("~ other"), "{}", plan.stdout);
}

#[test]
fn a_wrong_old_password_changes_nothing() {
    let mut project = project("correct horse");
    let before = project.state_files();
    project.env("ALCHEMY_PASSWORD", "incorrect horse");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    let id = key_id(&project, "dev");
    project
        .alch(["secrets", "rotate"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 1
-- stderr
error[E0407]: wrong password for stage vault/dev (key [KEY])
 = note: nothing was changed
 = help: check `ALCHEMY_PASSWORD` for this stage

"#]]);
    project.env("ALCHEMY_PASSWORD", "");
    project.alch(["secrets", "rotate"]).code(1);
    assert_eq!(project.state_files(), before);
}

#[test]
fn a_new_password_must_be_given() {
    let mut project = project("correct horse");
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: no new password is given
 = help: set `ALCHEMY_NEW_PASSWORD`, or pass `--to-key-file` to do without a password

"#]]);
    project.env("ALCHEMY_NEW_PASSWORD", "x");
    project
        .alch(["secrets", "rotate", "--stage", "prod"])
        .code(6);
}

#[test]
fn from_the_key_file_to_a_password_and_back() {
    let mut project = project("");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project.alch(["secrets", "rotate"]).success();
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    project
        .alch(["secrets", "rotate", "--to-key-file"])
        .success();
    project.env("ALCHEMY_PASSWORD", "");
    unchanged(&project);
}

#[test]
fn all_stages_change_and_a_rotation_that_was_stopped_between_them_goes_on() {
    let mut project = project("correct horse");
    project.alch(["run", "--stage", "prod"]).success();
    project.file("plain.rhai", "alchemy(\"vault\"); KV(\"cache\");");
    project
        .alch(["run", "plain.rhai", "--stage", "plain"])
        .success();
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project
        .alch(["secrets", "rotate", "--stage", "prod"])
        .success();
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key
vault/plain: no secrets
vault/prod: sealed with the new key already
-- stderr
1 backup made before this can be read with the old key only: keep it for as long as you may restore one

"#]]);
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    let run = project.alch(["run", "--stage", "prod"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
}
