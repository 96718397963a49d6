//! The main job through the built binary: run, run again, plan, read, destroy, on the embedded local cloud.

use snapbox::str;

use crate::support::Project;

const SCRIPT: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("database", || Database("main-db"));
let cache = KV("cache");
print(`database ${db.name}`);
"#;

#[test]
fn quickstart_creates_and_then_calls_nothing() {
    let project = Project::example("quickstart");
    let first = project.alch(["run"]).success();
    assert_eq!(
        first.last_line(),
        "4 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    project.alch(["run"]).check(str![[r#"
exit 0
-- stdout
worker   worker-dev
database db-dev ([..])
bucket   files-dev
cache    cache-dev ([..])
-- stderr
alch: app quickstart, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn quickstart_runs_from_another_folder() {
    let project = Project::example("quickstart");
    let outside = project.home();
    let output = project
        .command(["run", "../project/alchemy.run.rhai"])
        .current_dir(outside)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    assert!(project.path(".alchemy/quickstart/dev/state.json").is_file());
}

#[test]
fn showcase_runs_and_then_is_unchanged() {
    let project = Project::example("showcase");
    project.alch(["run"]).success();
    project.alch(["run"]).check(str![[r#"
exit 0
-- stdout
stage     dev
database  main-db-dev
uploads   uploads-dev
sessions  sessions-dev, settings settings-dev
queue     jobs-dev
api       api-dev
release   1
preview   not there yet
-- stderr
alch: app showcase, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 9 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    let destroyed = project.alch(["destroy", "--yes"]).success();
    assert!(
        destroyed.stderr.contains(" 9 deleted"),
        "{}",
        destroyed.stderr
    );
}

#[test]
fn a_plan_shows_what_a_run_then_does() {
    let project = Project::with_script(SCRIPT);
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
database main-db-dev
  + database/main-db (cloudflare::D1Database)  main-db-dev  # not in state
  + cache (cloudflare::KVNamespace)  cache-dev  # not in state
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
    assert!(
        !project.path(".alchemy/shop").exists(),
        "a plan wrote state"
    );
    project.alch(["plan", "--detailed-exitcode"]).code(2);
    project.alch(["run"]).success();
    project
        .alch(["plan", "--detailed-exitcode"])
        .check(str![[r#"
exit 0
-- stdout
database main-db-dev
Plan: 0 to create, 0 to update, 0 to delete, 2 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
}

#[test]
fn a_saved_plan_is_kept_to() {
    let project = Project::with_script(SCRIPT);
    project.alch(["plan", "--out", "plan.json"]).success();
    project.alch(["run", "--plan", "plan.json"]).success();
    project.alch(["run", "--plan", "plan.json"]).check(str![[r#"
exit 11
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0409]: the plan is stale: it was made from state 0 and the stage is at 1
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = help: make a new one with `alch plan --out FILE`

"#]]);
}

#[test]
fn one_change_is_one_update_and_one_removal_one_delete() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        SCRIPT.replace(r#"KV("cache")"#, r#"KV("cache", #{ title: "shop-cache" })"#),
    );
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 1 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\"); run(\"database\", || Database(\"main-db\"));",
    );
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 0 updated, 1 deleted, 1 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
}

#[test]
fn stages_stand_side_by_side() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project.alch(["run", "--stage", "pr-123"]).success();
    project.alch(["stages"]).check(str![[r#"
exit 0
-- stdout
APP   STAGE   TARGET  RESOURCES
shop  dev     local   2
shop  pr-123  local   2

"#]]);
    project
        .alch(["state", "ls", "--stage", "pr-123"])
        .check(str![[r#"
exit 0
-- stdout
FQN                           KIND                     PHYSICAL NAME   STATUS
shop/pr-123/database/main-db  cloudflare::D1Database   main-db-pr-123  ready
shop/pr-123/cache             cloudflare::KVNamespace  cache-pr-123    ready

"#]]);
    project
        .alch(["destroy", "--stage", "pr-123", "--yes"])
        .success();
    project.alch(["stages"]).check(str![[r#"
exit 0
-- stdout
APP   STAGE  TARGET  RESOURCES
shop  dev    local   2

"#]]);
}

#[test]
fn destroy_needs_consent_and_a_stage_with_state() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project.alch(["destroy"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: delete 2 resources of stage shop/dev on target local?
 = help: `alch destroy --app shop --stage dev --yes`

"#]]);
    project
        .alch(["destroy", "--stage", "prod", "--yes"])
        .check(str![[r#"
exit 6
-- stderr
error[E0406]: stage shop/prod has no state
 = note: stages with state: `shop/dev`
 = help: choose one with `--stage NAME`

"#]]);
    let output = project.alch(["destroy", "--yes"]).success();
    assert_eq!(
        output.sorted_lines()[0],
        "  deleted   cache  cache-dev  [TIME]"
    );
    project.alch(["destroy", "--yes"]).code(6);
}

#[test]
fn destroy_by_the_script_deletes_everything() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    let output = project.alch(["run", "--destroy"]).success();
    assert_eq!(
        output.last_line(),
        "0 created, 0 updated, 2 deleted, 0 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
}

#[test]
fn kinds_of_the_script_are_destroyed_through_it() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
let Greeting = resource("my::Greeting", #{
    create: |ctx, id, props| #{ text: props.text },
    delete: |ctx, id, output| print(`bye ${id}`),
});
Greeting.declare("hello", #{ text: "hi" });
"#,
    );
    project.alch(["run"]).success();
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 0
-- stdout
bye hello
-- stderr
alch: app shop, stage dev, phase destroy, target local
- deleting  hello (my::Greeting)
  deleted   hello  shop-hello-dev  [TIME]
0 created, 0 updated, 1 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn read_answers_from_state() {
    let project = Project::with_script(SCRIPT);
    project.alch(["read"]).check(str![[r#"
exit 6
-- stderr
alch: app shop, stage dev, phase read, target local
error[E0406]: stage shop/dev has no state
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = help: no stage of this application has state here; deploy one with `alch run`

"#]]);
    project.alch(["run"]).success();
    project.alch(["read"]).check(str![[r#"
exit 0
-- stdout
database main-db-dev
-- stderr
alch: app shop, stage dev, phase read, target local

"#]]);
}

#[test]
fn json_tells_the_whole_run() {
    let project = Project::with_script(SCRIPT);
    let output = project.alch(["run", "--json"]).success();
    let messages = output.messages();
    let count = |kind: &str| {
        messages
            .iter()
            .filter(|message| message["type"] == kind)
            .count()
    };
    assert_eq!(messages[0]["type"], "version");
    assert_eq!(messages[0]["ui"], "1.0");
    assert_eq!(count("run_start"), 1);
    assert_eq!(count("apply_start"), 2);
    assert_eq!(count("apply_complete"), 2);
    assert_eq!(count("print"), 1);
    assert_eq!(count("change_summary"), 1);
    assert_eq!(messages.last().expect("a message")["exit"]["code"], 0);
    assert_eq!(output.stderr, "");
}

#[test]
fn quiet_prints_results_only() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run", "--quiet"]).check(str![[r#"
exit 0
-- stdout
database main-db-dev

"#]]);
}

#[test]
fn secrets_are_nowhere() {
    let mut project = Project::with_script(
        r#"
let app = alchemy("shop", #{ password: env("ALCHEMY_PASSWORD") });
let key = alchemy.secret(env("API_KEY"));
Worker("api", #{ script: "export default {}", bindings: #{ KEY: key } });
print(`the key is ${env("API_KEY")}`);
"#,
    );
    project
        .env("API_KEY", "hunter2-very-secret")
        .env("ALCHEMY_PASSWORD", "correct horse battery");
    for arguments in [
        &["run", "--verbose"][..],
        &["run", "--json"],
        &["plan", "--full"],
        &["state", "show", "api"],
    ] {
        let output = project.alch(arguments.iter().copied()).success();
        for text in [&output.stdout, &output.stderr] {
            assert!(!text.contains("hunter2"), "{arguments:?}: {text}");
            assert!(!text.contains("battery"), "{arguments:?}: {text}");
        }
    }
    assert_eq!(
        project.files_with("hunter2-very-secret"),
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(
        project.files_with("correct horse"),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_run_that_changes_something_leaves_a_log_beside_its_record() {
    let project = Project::example("quickstart");
    project.alch(["plan"]).success();
    project.alch(["run"]).success();
    project.alch(["run"]).success();
    let stage = project.path(".alchemy/quickstart/dev");
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(stage.join(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| {
                let path = entry.expect("an entry").path();
                path.file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("logs").len(), 1);
    assert_eq!(names("logs"), names("deployments"));
    let log = project.read(&format!(
        ".alchemy/quickstart/dev/logs/{}.ndjson",
        names("logs")[0]
    ));
    assert!(
        log.lines()
            .next()
            .is_some_and(|line| line.contains("\"run_start\"")),
        "{log}"
    );
    assert_eq!(log.matches("\"apply_complete\"").count(), 4, "{log}");
    assert!(
        log.lines()
            .last()
            .is_some_and(|line| line.contains("\"change_summary\"")),
        "{log}"
    );

    project.alch(["destroy", "--yes"]).success();
    assert_eq!(names("logs").len(), 2);
    assert_eq!(names("logs"), names("deployments"));
}
