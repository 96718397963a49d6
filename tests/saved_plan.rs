//! Saved plans: applied as they are, refused as soon as anything is different.

use snapbox::str;

use crate::support::{Output, Project};

/// Saves a plan of one script and answers what applying it to another one says.
#[track_caller]
fn planned_and_applied(project: &Project, planned: &str, applied: &str) -> Output {
    project.file("alchemy.run.rhai", planned);
    project.alch(["plan", "--out", "plan.json"]).success();
    project.file("alchemy.run.rhai", applied);
    // What goes on at once is told in no fixed order.
    project.alch(["run", "--plan", "plan.json", "--quiet"])
}

#[test]
fn a_saved_plan_does_what_it_says_and_nothing_else() {
    let project = Project::new();
    let cache = |props: &str| format!("alchemy(\"shop\");\nKV(\"cache\"{props});\n");
    planned_and_applied(
        &project,
        &cache(""),
        &format!("{}KV(\"more\");\n", cache("")),
    )
    .check(str![[r#"
exit 11
-- stderr
error[E0409]: the plan is stale: `more` is not in the plan
 --> alchemy.run.rhai:3:1
  |
3 | KV("more");
  | ^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    planned_and_applied(
        &project,
        &cache(", #{ title: \"other\" }"),
        &cache(", #{ title: \"third\" }"),
    )
    .check(str![[r#"
exit 11
-- stderr
error[E0409]: the plan is stale: `cache` would now be `third`, the plan says `other`
 --> alchemy.run.rhai:2:1
  |
2 | KV("cache", #{ title: "third" });
  | ^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    let title = cache(", #{ title: \"other\" }");
    assert_eq!(
        planned_and_applied(&project, &title, &title)
            .success()
            .last_line(),
        "",
        "quiet success"
    );
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN             KIND                     PHYSICAL NAME  STATUS
shop/dev/cache  cloudflare::KVNamespace  other          ready

"#]]);
}

#[test]
fn a_saved_plan_holds_every_prop() {
    let project = Project::new();
    let script = |methods: &str, key: &str| {
        format!(
            r#"
let app = alchemy("shop");
let db = Database("db");
let word = RandomString("word");
Bucket("files", #{{ cors: [#{{ allowed: #{{ origins: ["*"], methods: {methods} }} }}] }});
Worker("api", #{{
    script: "export default {{}}",
    bindings: #{{ DB: db, TEXT: `db ${{db.id}}`, WORD: word.value, KEY: secret("{key}") }},
}});
"#
        )
    };
    let first = script(r#"["GET"]"#, "one");
    planned_and_applied(&project, &first, &script(r#"["PUT"]"#, "one")).check(str![[r#"
exit 11
-- stderr
error[E0409]: the plan is stale: `cors.0.allowed.methods.0` of `files` is not as in the plan
 --> alchemy.run.rhai:5:1
  |
5 | Bucket("files", #{ cors: [#{ allowed: #{ origins: ["*"], methods: ["PUT"] } }] });
  | ^^^^^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
3 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 5 API calls)

"#]]);
    // What only the provider could know is no deviation.
    planned_and_applied(&project, &first, &first).success();
    planned_and_applied(
        &project,
        &script(r#"["PUT"]"#, "two"),
        &script(r#"["PUT"]"#, "three"),
    )
    .check(str![[r#"
exit 11
-- stderr
error[E0409]: the plan is stale: a secret of `api` is not as in the plan
 --> alchemy.run.rhai:6:1
  |
6 | Worker("api", #{
  | ^^^^^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
0 created, 1 updated, 0 deleted, 2 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    let last = script(r#"["PUT", "GET"]"#, "three");
    planned_and_applied(&project, &last, &last).success();
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
}

#[test]
fn a_saved_plan_deletes_what_it_says_and_nothing_else() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\nKV(\"b\");\nKV(\"c\");\n");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\");\nKV(\"a\");\nKV(\"b\");\n",
    );
    project.alch(["plan", "--out", "plan.json"]).success();
    project.file("alchemy.run.rhai", "alchemy(\"shop\");\nKV(\"a\");\n");
    project.alch(["run", "--plan", "plan.json"]).check(str![[r#"
exit 11
-- stderr
alch: app shop, stage dev, phase up, target local
  failed    b  the plan is stale: it does not say that `b` goes
error[E0409]: the plan is stale: it does not say that `b` goes
 = help: make a new one with `alch plan --out FILE`
still there:
  b
  c
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn a_saved_plan_of_another_state_stage_or_file_is_refused() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\");\nKV(\"cache\");\nKV(\"more\");\n",
    );
    project.alch(["plan", "--out", "plan.json"]).success();
    project
        .alch(["run", "--plan", "plan.json", "--stage", "prod"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: `plan.json` is a plan for stage `dev`, not for `prod`

"#]]);
    let text = project.read("plan.json");
    project.file("edited.json", text.replace("more-dev", "less-dev"));
    project
        .alch(["run", "--plan", "edited.json"])
        .check(str![[r#"
exit 11
-- stderr
error[E0409]: `edited.json` is not a usable plan: its hash does not fit its content: it was changed by hand
 = help: make a new one with `alch plan --out edited.json`

"#]]);
    project.alch(["run", "--plan", "none.json"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: cannot read the plan `none.json`
 = note: No such file or directory (os error 2)
 = help: make it with `alch plan --out none.json`

"#]]);
    project.alch(["state", "mv", "cache", "store"]).success();
    project.alch(["run", "--plan", "plan.json"]).check(str![[r#"
exit 11
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0409]: the plan is stale: it was made from state 1 and the stage is at 2
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop");
  | ^^^^^^^
  |
  = help: make a new one with `alch plan --out FILE`

"#]]);
}

#[test]
fn a_saved_plan_keeps_the_options_that_it_was_made_with() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["run"]).success();
    project
        .alch(["plan", "--force", "--out", "plan.json"])
        .success();
    let applied = project.alch(["run", "--plan", "plan.json"]).success();
    assert!(
        applied
            .last_line()
            .starts_with("0 created, 1 updated, 0 deleted, 0 unchanged"),
        "{}",
        applied.stderr
    );
    // The object is there and state does not know it.
    project.alch(["state", "rm", "cache", "--yes"]).success();
    project
        .alch(["plan", "--adopt", "--out", "plan.json"])
        .success();
    let applied = project.alch(["run", "--plan", "plan.json"]).success();
    assert!(
        applied.last_line().contains("1 adopted"),
        "{}",
        applied.stderr
    );
}

#[test]
fn a_run_that_changed_nothing_does_not_make_plans_stale() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\nKV(\"cache\");\n");
    project.alch(["run"]).success();
    project.alch(["state", "rm", "cache", "--yes"]).success();
    project.alch(["plan", "--out", "plan.json"]).success();
    // The name is taken, which the plan does not know.
    project.alch(["run", "--plan", "plan.json"]).code(4);
    let applied = project.alch(["run", "--plan", "plan.json", "--adopt"]);
    assert!(
        applied.success().last_line().contains("1 adopted"),
        "the plan still fits"
    );
}

#[test]
fn a_saved_plan_runs_the_script_that_it_was_made_from() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"wrong\");\n");
    project.file("sub/other.rhai", "alchemy(\"shop\");\nKV(\"right\");\n");
    project
        .alch(["plan", "sub/other.rhai", "--out", "plan.json"])
        .success();
    project
        .alch(["run", "third.rhai", "--plan", "plan.json"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: `plan.json` is a plan for `other.rhai`, not for `third.rhai`

"#]]);
    project.alch(["run", "--plan", "plan.json"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  right (cloudflare::KVNamespace)
  created   right  right-dev  [TIME]
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn what_a_saved_plan_says_is_done_or_told() {
    let project = Project::with_script("alchemy(\"shop\");\nKV(\"a\");\nKV(\"b\");\n");
    project.alch(["run"]).success();
    // A delete, an update and a create that the script does not ask for any more.
    planned_and_applied(
        &project,
        "alchemy(\"shop\");\nKV(\"a\", #{ title: \"other\" });\nKV(\"c\");\n",
        "alchemy(\"shop\");\nKV(\"a\");\nKV(\"b\");\n",
    )
    .check(str![[r#"
exit 11
-- stderr
error[E0409]: the plan is stale: `a` would now stay as it is, the plan says update
 --> alchemy.run.rhai:2:1
  |
2 | KV("a");
  | ^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
error[E0409]: the plan is stale: `b` would now stay as it is, the plan says delete
 --> alchemy.run.rhai:3:1
  |
3 | KV("b");
  | ^^ declared here
  |
  = help: make a new one with `alch plan --out FILE`
error[E0409]: the plan is stale: `c` is not declared any more, the plan says create
 = help: make a new one with `alch plan --out FILE`
0 created, 0 updated, 0 deleted, 0 unchanged, 3 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN         KIND                     PHYSICAL NAME  STATUS
shop/dev/a  cloudflare::KVNamespace  a-dev          ready
shop/dev/b  cloudflare::KVNamespace  b-dev          ready

"#]]);
}
