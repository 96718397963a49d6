//! Looking into a value that a plan cannot know: the whole message once for each sort of look. `handles/plan.rs` has all others.

use snapbox::str;

use super::shop;

#[test]
fn a_comparison() {
    shop("let db = Database(\"main\");\nif db.id == \"x\" {\n    KV(\"cache\");\n}\nQueue(\"jobs\");")
        .alch(["plan"])
        .check(str![[r#"
exit 0
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:3:10
  |
3 | if db.id == "x" {
  |          ^ decided here
  |
  = note: the plan ends here; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
}

#[test]
fn a_comparison_in_a_scope() {
    shop("let db = Database(\"main\");\nrun(\"more\", || {\n    if db.id == \"x\" { KV(\"cache\"); }\n    KV(\"left-out\");\n});\nQueue(\"jobs\");")
        .alch(["plan"])
        .check(str![[r#"
exit 0
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
  + jobs (cloudflare::Queue)  jobs-dev  # not in state
      # depends on a value known after apply: may come otherwise
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged; 1 of these may come otherwise
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:4:14
  |
4 |     if db.id == "x" { KV("cache"); }
  |              ^ decided here
  |
  = note: the rest of scope `more` is left out of the plan; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
}

#[test]
fn a_comparison_that_the_script_catches() {
    shop("let db = Database(\"main\");\nlet name = \"none\";\ntry { if db.id == \"x\" { name = \"x\"; } } catch (e) { print(e.kind); }\nKV(\"cache\");")
        .alch(["plan"])
        .check(str![[r#"
exit 0
-- stdout
unknown
  + main (cloudflare::D1Database)  main-dev  # not in state
  + cache (cloudflare::KVNamespace)  cache-dev  # not in state
      # depends on a value known after apply: may come otherwise
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged; 1 of these may come otherwise
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:4:16
  |
4 | try { if db.id == "x" { name = "x"; } } catch (e) { print(e.kind); }
  |                ^ decided here
  |
  = note: the script caught it; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
}

#[test]
fn a_reference_in_a_run() {
    shop("let db = Database(\"main\");\nif db.ref(\"id\") == \"x\" { KV(\"cache\"); }")
        .alch(["run"])
        .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::D1Database)
  created   main  main-dev  [TIME]
error[E0114]: cannot decide on `main.id`: `ref` passes it on without knowing it
 --> alchemy.run.rhai:3:17
  |
3 | if db.ref("id") == "x" { KV("cache"); }
  |                 ^
  |
  = help: read `.id` of the resource to wait for it
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn an_id_made_of_it() {
    shop("let db = Database(\"main\");\nKV(`cache-${db.id}`);")
        .alch(["plan"])
        .check(str![[r#"
exit 0
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:3:1
  |
3 | KV(`cache-${db.id}`);
  | ^^ decided here
  |
  = note: the plan ends here; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
}

/// What lies behind the place cannot be told from what was removed: the plan must not say that it would be deleted for sure.
#[test]
fn what_the_plan_did_not_reach_is_not_said_to_be_deleted() {
    let project = shop("KV(\"cache\");\nrun(\"more\", || Queue(\"jobs\"));");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nlet db = Database(\"main\");\nif db.id == \"x\" { print(\"never\"); }\nKV(\"cache\");\nrun(\"more\", || Queue(\"jobs\"));\n",
    );
    project.alch(["plan", "--detailed-exitcode"]).check(str![[r#"
exit 2
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
  - more/jobs (cloudflare::Queue)  jobs-dev  # not declared as far as the plan could follow the script
      # depends on a value known after apply: may come otherwise
  - cache (cloudflare::KVNamespace)  cache-dev  # not declared as far as the plan could follow the script
      # depends on a value known after apply: may come otherwise
Plan: 1 to create, 0 to update, 2 to delete, 0 unchanged; 2 of these may come otherwise
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:3:10
  |
3 | if db.id == "x" { print("never"); }
  |          ^ decided here
  |
  = note: the plan ends here; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
    project.alch(["plan", "--out", "plan.json"]).check(str![[r#"
exit 1
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
  - more/jobs (cloudflare::Queue)  jobs-dev  # not declared as far as the plan could follow the script
      # depends on a value known after apply: may come otherwise
  - cache (cloudflare::KVNamespace)  cache-dev  # not declared as far as the plan could follow the script
      # depends on a value known after apply: may come otherwise
Plan: 1 to create, 0 to update, 2 to delete, 0 unchanged; 2 of these may come otherwise
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `main.id` in a plan: only the provider will know it
 --> alchemy.run.rhai:3:10
  |
3 | if db.id == "x" { print("never"); }
  |          ^ decided here
  |
  = note: the plan ends here; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides
error[E0114]: `plan.json` was not written: the plan could not follow the script to its end
 = note: a saved plan is kept to exactly, and this one leaves open what comes
 = help: `alch run` without a saved plan decides as it goes

"#]]);
    assert!(
        !project.path("plan.json").exists(),
        "an open plan was saved"
    );
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "1 created, 0 updated, 0 deleted, 2 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
}
