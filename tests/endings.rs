//! How runs end: what is counted, what is said of the rest, and which exit code it comes to.

use snapbox::str;

use crate::{kill::in_the_cloud, support::Project};

/// A kind whose objects cannot be made.
const REFUSED: &str =
    "let T = resource(\"test::Refused\", #{ create: |ctx, id, props| { throw \"no room\"; } });\n";

#[test]
fn a_scope_that_cleans_up_waits_for_what_nobody_read() {
    let script = |inside: &str| {
        format!(
            "let app = alchemy(\"shop\");\n{REFUSED}KV(\"before\");\nalchemy.run(\"g\", #{{ onFailure: \"cleanup\" }}, || {{ {inside} }});\n"
        )
    };
    let project = Project::with_script(&script("KV(\"a\"); T.declare(\"t\"); 1"));
    let output = project.alch(["run"]).code(4);
    assert!(output.stderr.contains("no room"), "{}", output.stderr);
    let names: Vec<String> = in_the_cloud(&project)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["before-dev"]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN              KIND                     PHYSICAL NAME  STATUS
shop/dev/before  cloudflare::KVNamespace  before-dev     ready

"#]]);
    // A failure that the script took care of is none of the scope's.
    project.file(
        "alchemy.run.rhai",
        script("KV(\"a\"); try { T.declare(\"t\").id; } catch {} 1"),
    );
    project.alch(["run"]).success();
    // Where all goes well all stays.
    project.file("alchemy.run.rhai", script("KV(\"a\"); 1"));
    let line = project.alch(["run"]).success().last_line();
    assert_eq!(
        line,
        "0 created, 0 updated, 0 deleted, 2 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
}

#[test]
fn a_mistake_in_the_script_says_little_of_what_it_did_not_reach() {
    let many = "let app = alchemy(\"shop\");\nfor i in 0..12 { KV(`k${i}`); }\n";
    let project = Project::with_script(many);
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nlet list = [];\nlist[3];\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
12 resources were not reached and stay
error[E0105]: the array has 0 elements; there is no index 3
 --> alchemy.run.rhai:3:6
  |
3 | list[3];
  |      ^
  |
  = help: indices begin at 0; `.len()` tells how many there are
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    // Deletes go on in the order of declaration, last first.
    project.file("alchemy.run.rhai", "alchemy(\"shop\");\n");
    let output = project.alch(["run"]).success();
    let deleted: Vec<&str> = output
        .stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("deleted"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected: Vec<String> = (0..12).rev().map(|i| format!("k{i}")).collect();
    assert_eq!(deleted, expected);
}

#[test]
fn a_failure_that_the_script_caught_does_not_hide_its_mistake() {
    let project = Project::with_script(&format!(
        "let app = alchemy(\"shop\");\n{REFUSED}try {{ T.declare(\"t\").id; }} catch {{}}\nlet list = [];\nlist[3];\n"
    ));
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  t (test::Refused)
  failed    t  `create` failed: no room (alchemy.run.rhai:2:65)
error[E0105]: the array has 0 elements; there is no index 3
 --> alchemy.run.rhai:5:6
  |
5 | list[3];
  |      ^
  |
  = help: indices begin at 0; `.len()` tells how many there are
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    // What ended the script was not handled by it.
    project.file(
        "alchemy.run.rhai",
        format!("let app = alchemy(\"shop\");\n{REFUSED}T.declare(\"t\").id;\n"),
    );
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  t (test::Refused)
  failed    t  `create` failed: no room (alchemy.run.rhai:2:65)
error[E0301]: `t` (test::Refused): create failed: `create` failed: no room (alchemy.run.rhai:2:65)
 --> alchemy.run.rhai:3:3
  |
3 | T.declare("t").id;
  |   ^^^^^^^ declared here
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn a_replacement_is_counted_once() {
    let project = Project::with_script(
        "let app = alchemy(\"shop\");\nDatabase(\"main\", #{ name: \"one\" });\n",
    );
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");\nDatabase(\"main\", #{ name: \"two\" });\n",
    );
    let output = project.alch(["run", "--allow-data-loss"]).success();
    assert_eq!(
        output.last_line(),
        "0 created, 0 updated, 0 deleted, 0 unchanged, 1 replaced in [TIME] (critical path [TIME], [CALLS])"
    );
}
