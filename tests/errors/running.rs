//! Errors of a script while it runs: what was done stays recorded, and the summary says so.

use snapbox::str;

use super::{says, shop};

#[test]
fn a_variable_of_the_environment_is_missing() {
    says(
        "Worker(\"api\", #{\n    script: \"export default {}\",\n    bindings: #{ KEY: secret(env(\"API_KEY\")) },\n});",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0115]: environment variable `API_KEY` is not set
 --> alchemy.run.rhai:4:30
  |
4 |     bindings: #{ KEY: secret(env("API_KEY")) },
  |                              ^^^
  |
  = help: set it, put it into a file for `--env-file`, or give a default: `env("API_KEY", "..")`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_file_is_missing() {
    says(
        "let settings = json(file(\"settings.json\"));",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0117]: cannot read `settings.json`: No such file or directory (os error 2)
 --> alchemy.run.rhai:2:21
  |
2 | let settings = json(file("settings.json"));
  |                     ^^^^
  |
  = help: paths are relative to the project folder
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn text_that_is_not_json() {
    says(
        "let settings = json(\"{ a: 1 }\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0105]: the text is not valid JSON: key must be a string at line 1 column 3
 --> alchemy.run.rhai:2:16
  |
2 | let settings = json("{ a: 1 }");
  |                ^^^^
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_index_that_is_not_there() {
    says(
        "let zones = [\"a\"];\nKV(zones[3]);",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0105]: the array has 1 element; there is no index 3
 --> alchemy.run.rhai:3:10
  |
3 | KV(zones[3]);
  |          ^
  |
  = help: indices begin at 0; `.len()` tells how many there are
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn types_that_cannot_be_joined() {
    says(
        "let size = 1 + #{ a: 2 };",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0104]: `+` cannot join int and map
 --> alchemy.run.rhai:2:14
  |
2 | let size = 1 + #{ a: 2 };
  |              ^
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_throw_through_calls() {
    says(
        "fn check(count) {\n    if count > 2 { throw #{ message: \"too many\", code: 3 } }\n}\nrun(\"a\", || {\n    check(3)\n});",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0106]: too many
 --> alchemy.run.rhai:3:20
  |
3 |     if count > 2 { throw #{ message: "too many", code: 3 } }
  |                    ^^^^^
4 | }
5 | run("a", || {
  | --- in this closure
6 |     check(3)
  |     ----- in this call of `check`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_error_in_a_scope_keeps_what_is_there() {
    let project =
        shop("run(\"data\", || {\n    wait(KV(\"cache\"));\n    throw \"not today\";\n});");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  data/cache (cloudflare::KVNamespace)
  created   data/cache  cache-dev  [TIME]
error[E0106]: not today
 --> alchemy.run.rhai:4:5
  |
2 | run("data", || {
  | --- in this closure
3 |     wait(KV("cache"));
4 |     throw "not today";
  |     ^^^^^
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN                  KIND                     PHYSICAL NAME  STATUS
shop/dev/data/cache  cloudflare::KVNamespace  cache-dev      ready

"#]]);
}

#[test]
fn a_scope_that_cleans_up_leaves_nothing() {
    let project = shop(
        "run(\"data\", #{ onFailure: \"cleanup\" }, || {\n    wait(KV(\"cache\"));\n    throw \"not today\";\n});",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  data/cache (cloudflare::KVNamespace)
  created   data/cache  cache-dev  [TIME]
- deleting  data/cache (cloudflare::KVNamespace)
  deleted   data/cache  cache-dev  [TIME]
error[E0106]: not today
 --> alchemy.run.rhai:4:5
  |
2 | run("data", #{ onFailure: "cleanup" }, || {
  | --- in this closure
3 |     wait(KV("cache"));
4 |     throw "not today";
  |     ^^^^^
0 created, 0 updated, 1 deleted, 0 unchanged in [TIME] (critical path [TIME], 2 API calls)

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN  KIND  PHYSICAL NAME  STATUS

"#]]);
}

#[test]
fn a_closure_that_uses_its_own_receiver() {
    says(
        "app.run(\"data\", || app.KV(\"cache\"));",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0110]: the closure uses the very object whose method it is given to
 --> alchemy.run.rhai:2:5
  |
2 | app.run("data", || app.KV("cache"));
  |     ^^^
  |
  = help: let the closure take the scope: `app.run("id", |app| ..)`
  = help: or use the constant that every closure sees: `alchemy.run("id", || alchemy.secret(..))`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_endless_loop() {
    says(
        "let n = 0;\nloop { n += 1; }",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0107]: the script does more than it may; it probably loops for ever
 --> alchemy.run.rhai:3:10
  |
3 | loop { n += 1; }
  |          ^
  |
  = help: check the loop's condition; work that takes long belongs into a resource
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_endless_recursion() {
    says(
        "fn down(n) { down(n + 1) }\ndown(1);",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0108]: functions call each other too deeply
 --> alchemy.run.rhai:3:1
  |
3 | down(1);
  | ^^^^
  |
  = help: check what ends the recursion, or use a loop
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn permissions_name_the_flag() {
    says(
        "exec(\"git rev-parse HEAD\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to start `git`
 --> alchemy.run.rhai:2:1
  |
2 | exec("git rev-parse HEAD");
  | ^^^^
  |
  = help: allow it with `--allow-exec=git` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "fetch(\"https://example.com/x\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to speak to `example.com`
 --> alchemy.run.rhai:2:1
  |
2 | fetch("https://example.com/x");
  | ^^^^^
  |
  = help: allow it with `--allow-net=example.com` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "file(\"/etc/hostname\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to read `/etc/hostname`, which is outside the project folder
 --> alchemy.run.rhai:2:1
  |
2 | file("/etc/hostname");
  | ^^^^
  |
  = help: allow it with `--allow-read=/etc/hostname` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "write_file(\"/var/elsewhere.txt\", \"x\");",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to write `/var/elsewhere.txt`, which is outside the project folder
 --> alchemy.run.rhai:2:1
  |
2 | write_file("/var/elsewhere.txt", "x");
  | ^^^^^^^^^^
  |
  = help: allow it with `--allow-write=/var/elsewhere.txt` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "Exec(\"build\", #{ command: \"make all\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to run a shell command
 --> alchemy.run.rhai:2:1
  |
2 | Exec("build", #{ command: "make all" });
  | ^^^^
  |
  = help: allow it with `--allow-exec` if you trust the script, or write it as an array of program and arguments, which needs that program alone
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "HttpRequest(\"ping\", #{ url: \"https://example.com\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to speak to `example.com`
 --> alchemy.run.rhai:2:1
  |
2 | HttpRequest("ping", #{ url: "https://example.com" });
  | ^^^^^^^^^^^
  |
  = help: allow it with `--allow-net=example.com` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
    says(
        "File(\"note\", #{ path: \"../note.txt\", content: \"x\" });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0116]: no permission to write `../note.txt`, which is outside the project folder
 --> alchemy.run.rhai:2:1
  |
2 | File("note", #{ path: "../note.txt", content: "x" });
  | ^^^^
  |
  = help: allow it with `--allow-write=[ROOT]/note.txt` if you trust the script
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn a_kind_of_the_script_without_create() {
    says(
        "resource(\"my::Thing\", #{ delete: |ctx, id, props| () });",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0118]: `my::Thing` has no `create`
 --> alchemy.run.rhai:2:1
  |
2 | resource("my::Thing", #{ delete: |ctx, id, props| () });
  | ^^^^^^^^
  |
  = help: add `create: |ctx, id, props| #{ .. }`, which answers the outputs
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_error_in_a_closure_of_a_kind_of_the_script() {
    says(
        "let Thing = resource(\"my::Thing\", #{\n    create: |ctx, id, props| {\n        throw `no room for ${id}`;\n    },\n});\nThing.declare(\"a\", #{ size: 3 });",
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  a (my::Thing)
  failed    a  `create` failed: no room for a (alchemy.run.rhai:4:9)
error[E0301]: `a` (my::Thing): create failed: `create` failed: no room for a (alchemy.run.rhai:4:9)
 --> alchemy.run.rhai:7:7
  |
7 | Thing.declare("a", #{ size: 3 });
  |       ^^^^^^^ declared here
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn an_answer_of_a_kind_of_the_script_that_is_no_map() {
    says(
        "let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| 5 });\nThing.declare(\"a\");",
        str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  a (my::Thing)
  failed    a  `create` must answer a map of outputs, found integer
error[E0301]: `a` (my::Thing): create failed: `create` must answer a map of outputs, found integer
 --> alchemy.run.rhai:3:7
  |
3 | Thing.declare("a");
  |       ^^^^^^^ declared here
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}
