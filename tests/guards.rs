//! What keeps a slip from costing something: destroys that only look, names that two stages share, plans over scripts, typos.

use std::{fs::OpenOptions, process::Stdio};

use snapbox::str;

use crate::support::Project;

#[test]
fn a_destroy_keeps_to_the_options_of_a_finalize_at_the_end() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
KV("cache");
app.finalize(#{ dryRun: true });
"#,
    );
    project.alch(["run"]).success();
    project.alch(["run", "--destroy"]).check(str![[r#"
exit 0
-- stdout
  - cache (cloudflare::KVNamespace)  cache-dev  # the stage goes
Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase destroy, target local
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("shop");
let dry = env("DRY", "yes") == "yes";
KV("cache");
app.finalize(#{ dryRun: dry });
"#,
    );
    project.alch(["run", "--destroy"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase destroy, target local
1 resource was not reached and stays
error[E0105]: a destroy does not come to this `finalize`, and cannot read its options from the text
 --> alchemy.run.rhai:5:5
  |
5 | app.finalize(#{ dryRun: dry });
  |     ^^^^^^^^
  |
  = help: put it right behind `alchemy(..)`, or write its values out; nothing was deleted
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("shop");
let dry = env("DRY", "yes") == "yes";
app.finalize(#{ dryRun: dry });
KV("cache");
"#,
    );
    project.alch(["run", "--destroy"]).check(str![[r#"
exit 0
-- stdout
  - cache (cloudflare::KVNamespace)  cache-dev  # the stage goes
Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase destroy, target local
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn two_stages_do_not_share_a_file_unasked() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
File("note", #{ path: "gen.txt", content: "x" });
"#,
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + note (std::File)  gen.txt  # not in state
      + content: "x"
      + path: "gen.txt"
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `note` is called `gen.txt` in every stage
 --> alchemy.run.rhai:3:1
  |
3 | File("note", #{ path: "gen.txt", content: "x" });
  | ^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`

"#]]);
    project.alch(["run"]).success();
    project.alch(["run", "--stage", "prod"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage prod, phase up, target local
+ creating  note (std::File)
  failed    note  the file `gen.txt` is there already, with the same content
error[E0302]: `note` (std::File): create failed: the file `gen.txt` is there already, with the same content
 --> alchemy.run.rhai:3:1
  |
3 | File("note", #{ path: "gen.txt", content: "x" });
  | ^^^^ declared here
  |
  = help: take it over with `adopt: true` (or `--adopt`), or choose another `path`, such as one with `${alchemy.stage}` in it
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project
        .alch(["run", "--stage", "prod", "--adopt"])
        .success();
    project
        .alch(["destroy", "--stage", "prod", "--yes"])
        .success();
    assert_eq!(project.read("gen.txt"), "x");
}

#[test]
fn a_plan_is_saved_over_nothing_but_a_plan() {
    let project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    let script = project.read("alchemy.run.rhai");
    project
        .alch(["plan", "--out", "alchemy.run.rhai"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: `alchemy.run.rhai` is there already and is no plan
 = note: nothing was changed
 = help: choose another name: `alch plan --out plan.json`

"#]]);
    assert_eq!(project.read("alchemy.run.rhai"), script);
    project
        .alch(["run", "--plan", "alchemy.run.rhai"])
        .check(str![[r#"
exit 11
-- stderr
error[E0409]: `alchemy.run.rhai` is not a usable plan: expected value at line 1 column 1 at `.`
 = help: make a new one with `alch plan --out plan.json`

"#]]);
    project.alch(["plan", "--out", "plan.json"]).success();
    project.alch(["plan", "--out", "plan.json"]).success();
}

#[test]
fn plan_and_read_write_no_file() {
    let project = Project::with_script(
        "let app = alchemy(\"shop\");\nwrite_file(\"made.txt\", \"x\");\nKV(\"cache\");\n",
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + cache (cloudflare::KVNamespace)  cache-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
`made.txt` is not written: phase plan changes nothing

"#]]);
    assert!(!project.path("made.txt").exists());
    project.alch(["run"]).success();
    std::fs::remove_file(project.path("made.txt")).unwrap();
    project.alch(["read"]).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase read, target local
`made.txt` is not written: phase read changes nothing

"#]]);
    assert!(!project.path("made.txt").exists());
}

#[test]
fn validate_knows_which_stages_there_are() {
    let project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["run"]).success();
    project
        .alch(["scope", "validate", "--stage", "prd"])
        .check(str![[r#"
exit 6
-- stderr
error[E0406]: stage shop/prd has no state
 = note: stages with state: `shop/dev`
 = help: choose one with `--stage NAME`

"#]]);
    project.alch(["scope", "validate"]).success();
}

#[test]
fn output_that_cannot_be_written_is_said() {
    let project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["run"]).success();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    project
        .output_of(project.command(["stages"]).stdout(Stdio::from(full)))
        .check(str![[r#"
exit 1
-- stderr
error[E0404]: cannot write the output: No space left on device (os error 28)
 = note: what the command did is done; what it had to say is lost in part

"#]]);
}

#[test]
fn a_destroy_without_the_scripts_password_says_how_to_get_it() {
    let project = Project::with_script(
        r#"
let app = alchemy("shop", #{ password: "correct horse" });
RandomString("word", #{ length: 12 });
Worker("api", #{ script: "export default {}", bindings: #{ KEY: alchemy.secret("s3cr3t-value") } });
"#,
    );
    project.alch(["run"]).success();
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 3
-- stderr
alch: app shop, stage dev, phase destroy, target local
error[E0408]: stage shop/dev was written with a password (key [..]), and none was given
 = note: nothing was changed
 = help: set `ALCHEMY_PASSWORD`, or let the script give it: `alch run --destroy`

"#]]);
    project.alch(["run", "--destroy"]).success();
}

#[test]
fn stages_that_would_share_names_are_refused() {
    let project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    project.alch(["run", "--stage", "a b"]).success();
    project.alch(["run", "--stage", "A-b"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage A-b, phase up, target local
error[E0208]: stage `A-b` would give its objects the names of stage `a b`
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = note: names hold small letters, digits and `-`; what else a stage's name holds becomes `-` in them
  = note: nothing was changed
  = help: choose another `--stage`, or go on with `--stage "a b"`

"#]]);
    project.alch(["run", "--stage", "a b"]).success();
    project.alch(["run", "--stage", "a-b2"]).success();
}

#[test]
fn suggestions_are_near_and_commands_get_them_too() {
    let mut project =
        Project::with_script("let app = alchemy(\"shop\");\nprint(env(\"API_KEY\"));\n");
    project.env("A", "1");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0115]: environment variable `API_KEY` is not set
 --> alchemy.run.rhai:2:7
  |
2 | print(env("API_KEY"));
  |       ^^^
  |
  = help: set it, put it into a file for `--env-file`, or give a default: `env("API_KEY", "..")`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.env("API_KEI", "1");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0115]: environment variable `API_KEY` is not set
 --> alchemy.run.rhai:2:7
  |
2 | print(env("API_KEY"));
  |       ^^^
  |
  = help: `API_KEI` is set; or set it, put it into a file for `--env-file`, or give a default: `env("API_KEY", "..")`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.alch(["rnu"]).check(str![[r#"
exit 2
-- stderr
error: unrecognized subcommand 'rnu'

  tip: a similar subcommand exists: 'run'

Usage: alch [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]);
    project.alch(["xyzzy"]).check(str![[r#"
exit 2
-- stderr
error: unrecognized subcommand 'xyzzy'

Usage: alch [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]);
}
