//! Passwords: a stage that was written with one opens with no other and not without.

use snapbox::str;

use crate::support::Project;

const SCRIPT: &str = "let app = alchemy(\"shop\", #{ password: env(\"ALCHEMY_PASSWORD\", \"\") });
Worker(\"api\", #{ script: \"export default {}\", bindings: #{ KEY: secret(env(\"KEY\", \"k-1\")) } });
";

fn deployed() -> Project {
    let mut project = Project::with_script(SCRIPT);
    project.env("ALCHEMY_PASSWORD", "correct horse");
    project.alch(["run", "--stage", "prod"]).success();
    project
}

#[test]
fn the_wrong_password_names_the_stage() {
    let mut project = deployed();
    project.env("ALCHEMY_PASSWORD", "battery staple");
    project.alch(["run", "--stage", "prod"]).check(str![[r#"
exit 3
-- stderr
alch: app shop, stage prod, phase up, target local
error[E0407]: wrong password for stage shop/prod (key [..])
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop", #{ password: env("ALCHEMY_PASSWORD", "") });
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: check `ALCHEMY_PASSWORD` for this stage

"#]]);
}

#[test]
fn the_missing_password_names_the_stage() {
    let mut project = deployed();
    project.env("ALCHEMY_PASSWORD", "");
    project.alch(["run", "--stage", "prod"]).check(str![[r#"
exit 3
-- stderr
alch: app shop, stage prod, phase up, target local
error[E0408]: stage shop/prod was written with a password (key [..]), and none was given
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop", #{ password: env("ALCHEMY_PASSWORD", "") });
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: set `ALCHEMY_PASSWORD`, or pass `password:` to `alchemy(..)`

"#]]);
}

#[test]
fn a_secret_is_not_written_into_text() {
    Project::with_script(
        "let app = alchemy(\"shop\");\nlet key = secret(\"hunter2hunter2\");\nprint(json::stringify(#{ key: key }));\n",
    )
    .alch(["run"])
    .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0104]: a secret cannot be written into text
 --> alchemy.run.rhai:3:13
  |
3 | print(json::stringify(#{ key: key }));
  |             ^^^^^^^^^
  |
  = help: bind it to a Worker, or pass it as a prop that takes secrets
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn a_secret_is_not_looked_into() {
    Project::with_script(
        "let app = alchemy(\"shop\");\nlet key = secret(\"hunter2hunter2\");\nif key < \"i\" { KV(\"cache\"); }\n",
    )
    .alch(["run"])
    .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0105]: a secret cannot be looked into
 --> alchemy.run.rhai:3:8
  |
3 | if key < "i" { KV("cache"); }
  |        ^
  |
  = help: compare it with `==`, or decide on the value before wrapping it in `secret(..)`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn a_secret_does_not_stand_in_a_plain_prop() {
    Project::with_script(
        "let app = alchemy(\"shop\");\nKV(\"cache\", #{ title: secret(\"hunter2hunter2\") });\n",
    )
    .alch(["run"])
    .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: `title` of cloudflare::KVNamespace: a secret cannot stand here: the provider would show it
 --> alchemy.run.rhai:2:23
  |
2 | KV("cache", #{ title: secret("<secret>") });
  |                       ^^^^^^
  |
  = help: pass the plain value, or bind the secret to a Worker
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}
