//! Ids, options of the application and of the command line.

use snapbox::str;

use super::{says, shop};
use crate::support::Project;

#[test]
fn an_id_that_is_declared_twice() {
    says(
        "let a = KV(\"cache\");\n\nlet c = Bucket(\"cache\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  cache (cloudflare::KVNamespace)
  created   cache  cache-dev  [TIME]
error[E0205]: `cache` is declared twice
 --> alchemy.run.rhai:4:9
  |
2 | let a = KV("cache");
  |         -- first time
3 |
4 | let c = Bucket("cache");
  |         ^^^^^^ second time
  |
  = help: give one of them another id, or put them into scopes of their own
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn two_resources_that_would_be_one_object() {
    says(
        "let a = KV(\"cache\", #{ title: \"shared\" });\nrun(\"other\", || KV(\"cache\", #{ title: \"shared\" }));",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  cache (cloudflare::KVNamespace)
  created   cache  shared  [TIME]
error[E0208]: `other/cache` and `cache` would both be `shared`
 --> alchemy.run.rhai:3:17
  |
2 | let a = KV("cache", #{ title: "shared" });
  |         -- the other one
3 | run("other", || KV("cache", #{ title: "shared" }));
  | ---             ^^
  | |
  | in this closure
  |
  = help: give one of them another `name`
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn ids_that_are_not_allowed() {
    says(
        "KV(\"logs\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0206]: id `logs` is reserved (reserved: `resources`, `backups`, `deployments`, `logs`, `.` and `..`)
 --> alchemy.run.rhai:2:1
  |
2 | KV("logs");
  | ^^
  |
  = help: choose another id; it becomes part of names and of folders in state
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "KV(\"\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0206]: id is empty
 --> alchemy.run.rhai:2:1
  |
2 | KV("");
  | ^^
  |
  = help: choose another id; it becomes part of names and of folders in state
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "run(\"a:b\", || KV(\"cache\"));",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0206]: id `a:b` holds ':', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 --> alchemy.run.rhai:2:1
  |
2 | run("a:b", || KV("cache"));
  | ^^^
  |
  = help: choose another id; it becomes part of names and of folders in state
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_resource_outside_an_application() {
    Project::with_script("KV(\"cache\");\n")
        .alch(["run"])
        .check(str![[r#"
exit 1
-- stderr
error[E0119]: `KV` stands before `alchemy(..)`
 --> alchemy.run.rhai:1:1
  |
1 | KV("cache");
  | ^^
  |
  = help: begin the script with `let app = alchemy("my-app");`

"#]]);
}

#[test]
fn a_second_application() {
    says(
        "let other = alchemy(\"blog\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0105]: `alchemy(..)` was called for `shop` already
 --> alchemy.run.rhai:2:13
  |
2 | let other = alchemy("blog");
  |             ^^^^^^^
  |
  = help: one script deploys one application; write a second script for the other one
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn options_of_the_application() {
    let says = |text: &str| Project::with_script(text).alch(["run"]);
    says("alchemy(\"shop\", #{ stge: \"prod\" });\n").check(str![[r#"
exit 1
-- stderr
error[E0201]: unknown option `stge` of `alchemy`
 --> alchemy.run.rhai:1:20
  |
1 | alchemy("shop", #{ stge: "prod" });
  |                    ^^^^
  |
  = help: did you mean `stage`?

"#]]);
    says("alchemy(\"shop\", #{\n    stage: \"pr/123\",\n});\n").check(str![[r#"
exit 1
-- stderr
error[E0206]: stage name `pr/123` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 --> alchemy.run.rhai:2:12
  |
2 |     stage: "pr/123",
  |            ^^^^^^^^
  |
  = help: choose another name; it becomes part of names and of folders in state

"#]]);
    says("alchemy(\"shop\", #{ phase: \"down\" });\n").check(str![[r#"
exit 1
-- stderr
error[E0202]: "down" is no value for option `phase` of `alchemy`
 --> alchemy.run.rhai:1:27
  |
1 | alchemy("shop", #{ phase: "down" });
  |                           ^^^^^^
  |
  = help: one of "up", "destroy", "read"

"#]]);
    says("alchemy(\"shop\", #{ adopt: \"yes\" });\n").check(str![[r#"
exit 1
-- stderr
error[E0202]: option `adopt` of `alchemy` must be true or false, found string
 --> alchemy.run.rhai:1:27
  |
1 | alchemy("shop", #{ adopt: "yes" });
  |                           ^^^^^
  |
  = help: write `true` or `false`, without quotes

"#]]);
    says("alchemy(\"my/shop\");\n").check(str![[r#"
exit 1
-- stderr
error[E0206]: application name `my/shop` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("my/shop");
  | ^^^^^^^
  |
  = help: choose another name; it becomes part of names and of folders in state

"#]]);
}

#[test]
fn options_of_a_scope() {
    says(
        "run(\"data\", #{ onFailure: \"clean\" }, || KV(\"cache\"));",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0202]: "clean" is no value for option `onFailure` of `run`
 --> alchemy.run.rhai:2:27
  |
2 | run("data", #{ onFailure: "clean" }, || KV("cache"));
  |                           ^^^^^^^
  |
  = help: one of "keep", "cleanup"
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn values_of_the_command_line() {
    let project = shop("");
    project.alch(["run", "--stage", "pr/123"]).check(str![[r#"
exit 2
-- stderr
error[E0206]: stage name `pr/123` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
 = help: choose another name; it becomes part of names and of folders in state

"#]]);
    project.alch(["run", "--target", "moon"]).check(str![[r#"
exit 2
-- stderr
error: invalid value 'moon' for '--target <TARGET>'
  [possible values: local, cloudflare]

For more information, try '--help'.

"#]]);
    project
        .alch(["run", "--lock-timeout", "soon"])
        .check(str![[r#"
exit 2
-- stderr
error: invalid value 'soon' for '--lock-timeout <MILLISECONDS>': invalid digit found in string

For more information, try '--help'.

"#]]);
    project.alch(["run", "--read", "--destroy"]).check(str![[r#"
exit 2
-- stderr
error: the argument '--read' cannot be used with '--destroy'

Usage: alch run --read [FILE] [-- <ARGUMENT>...]

For more information, try '--help'.

"#]]);
    assert!(!project.path(".alchemy").exists(), "something was written");
}
