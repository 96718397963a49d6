//! Scripts and files beside them that make no sense or want too much: a clear error, a documented exit code, nothing lost.

use snapbox::{data::Inline, str};

use crate::support::{Output, Project};

/// A project that has a resource in state, so that something could be lost.
fn deployed() -> Project {
    let project = Project::with_script("alchemy(\"shop\"); KV(\"kept\");");
    project.alch(["run"]).success();
    project
}

/// Ends the test when a command panicked.
#[track_caller]
fn sane(output: Output) -> Output {
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    output
}

/// The end of `alch run` for a script with this content. Ends the test when it changed state, or changes it after all later.
#[track_caller]
fn refused(script: impl AsRef<[u8]>, expected: Inline) {
    let project = deployed();
    let before = project.state_files();
    project.file("alchemy.run.rhai", script);
    sane(project.alch(["run"])).check(expected);
    sane(project.alch(["plan"]));
    assert!(project.state_files() == before, "state changed");
}

/// As [`refused`], for a script that gets as far as to declare what is deployed, and then fails.
#[track_caller]
fn stopped(script: &str, code: i32, error: &str) {
    let project = deployed();
    let head = "alchemy(\"shop\"); KV(\"kept\"); ";
    project.file("alchemy.run.rhai", format!("{head}{script}"));
    let output = sane(project.alch(["run"]).code(code));
    let first = output.stderr.lines().find(|line| line.starts_with("error"));
    assert_eq!(first, Some(error), "{}", output.stderr);
    assert!(output.stderr.lines().count() <= 12, "{}", output.stderr);
    let listed = project.alch(["state", "ls"]).success();
    assert!(listed.stdout.contains("shop/dev/kept"), "{}", listed.stdout);
    project.file("alchemy.run.rhai", head);
    let healed = project.alch(["run"]).success();
    assert!(healed.last_line().ends_with("0 API calls)"));
}

#[test]
fn a_script_that_is_not_utf_8() {
    refused(
        b"alchemy(\"shop\");\n// \xff\xfe\n",
        str![[r#"
exit 1
-- stderr
error[E0111]: `alchemy.run.rhai` is not UTF-8 text
 = note: the first byte that is not text stands in line 2
 = help: save the file as UTF-8

"#]],
    );
}

#[test]
fn a_script_in_utf_16() {
    let text: Vec<u8> = "\u{feff}alchemy(\"shop\");"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    refused(
        text,
        str![[r#"
exit 1
-- stderr
error[E0111]: `alchemy.run.rhai` is not UTF-8 text
 = note: the first byte that is not text stands in line 1
 = help: save the file as UTF-8

"#]],
    );
}

#[test]
fn a_script_of_ten_megabytes() {
    let lines = "let x = 1;\n".repeat(1_000_000);
    refused(
        format!("alchemy(\"shop\");\n{lines}"),
        str![[r#"
exit 1
-- stderr
error[E0112]: `alchemy.run.rhai` is 11000017 bytes long; at most 8388608 are accepted
 = help: read data from a file with `json(file("data.json"))` instead of writing it out

"#]],
    );
}

#[test]
fn a_script_without_anything() {
    refused(
        "",
        str![[r#"
exit 2
-- stderr
error[E0113]: `alchemy.run.rhai` holds nothing that runs
 = note: nothing was changed; an empty script is never taken for "delete everything"
 = help: begin with `let app = alchemy("name");`; `alch destroy` deletes a stage

"#]],
    );
    refused(
        "// KV(\"kept\");\n\n",
        str![[r#"
exit 2
-- stderr
error[E0113]: `alchemy.run.rhai` holds nothing that runs
 = note: nothing was changed; an empty script is never taken for "delete everything"
 = help: begin with `let app = alchemy("name");`; `alch destroy` deletes a stage

"#]],
    );
}

#[test]
fn a_script_whose_rest_is_swallowed_by_a_comment() {
    refused(
        "alchemy(\"shop\");\n/* for now: /* nested */\nKV(\"kept\");\n",
        str![[r#"
exit 1
-- stderr
error[E0101]: this comment is never closed
 --> alchemy.run.rhai:2:1
  |
2 | /* for now: /* nested */
  | ^^
  |
  = help: close it with `*/`; comments nest, so every `/*` in it needs its own

"#]],
    );
}

#[test]
fn comments_that_end_and_texts_that_look_like_comments_are_no_error() {
    let project = deployed();
    project.file(
        "alchemy.run.rhai",
        "/* a /* b */ c */ alchemy(\"shop\"); let glob = \"/*\"; KV(\"kept\"); // /*\nprint(`${1} /*`);",
    );
    let output = project.alch(["run"]).success();
    assert!(output.last_line().ends_with("0 API calls)"));
}

#[test]
fn ten_thousand_nested_brackets() {
    for (open, close) in [
        ("[", "]"),
        ("(", ")"),
        ("#{a:", "}"),
        ("if true {", "}"),
        ("- ", ""),
    ] {
        let text = format!(
            "alchemy(\"shop\");\nlet x = {}1{};",
            open.repeat(10_000),
            close.repeat(10_000)
        );
        let project = deployed();
        let before = project.state_files();
        project.file("alchemy.run.rhai", text);
        let output = sane(project.alch(["run"]).code(1));
        assert!(
            output
                .stderr
                .starts_with("error[E0112]: expressions are nested too deeply"),
            "{open}: {}",
            output.stderr
        );
        assert!(output.stderr.len() < 2_000, "the frame shows it all");
        assert!(project.state_files() == before, "state changed");
    }
}

#[test]
fn what_goes_on_for_ever_ends() {
    const LOOPS: &str =
        "error[E0107]: the script does more than it may; it probably loops for ever";
    stopped("loop {}", 1, LOOPS);
    stopped("let s = []; loop { s.push(1); }", 1, LOOPS);
}

#[test]
fn what_recurses_for_ever_ends() {
    const CALLS: &str = "error[E0108]: functions call each other too deeply";
    stopped("fn f(x) { f(x + 1) } f(1);", 1, CALLS);
    stopped("fn f() { run(\"x\", || f()) } f();", 1, CALLS);
}

#[test]
fn what_grows_for_ever_ends() {
    const GROWS: &str = "error[E0120]: the script uses more than 512 MB";
    stopped("let s = \"abcdefgh\"; loop { s += s }", 1, GROWS);
    stopped("let s = [1]; loop { s += s }", 1, GROWS);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_error() {
    let project = deployed();
    project.file(
        "alchemy.run.rhai",
        "\u{feff}alchemy(\"shop\");\r\nKV(\"kept\");\r\n",
    );
    let output = project.alch(["run"]).success();
    assert!(output.last_line().ends_with("0 API calls)"));
    project.file(
        "alchemy.run.rhai",
        "\u{feff}alchemy(\"shop\");\r\nKV(\"kept\", #{ titel: \"x\" });\r\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0201]: unknown prop `titel` of `KV`
 --> alchemy.run.rhai:2:15
  |
2 | KV("kept", #{ titel: "x" });
  |               ^^^^^
  |
  = help: did you mean `title`?

"#]]);
}

#[test]
fn a_folder_in_the_place_of_the_script() {
    let project = Project::new();
    std::fs::create_dir(project.path("alchemy.run.rhai")).unwrap();
    sane(project.alch(["run"])).check(str![[r#"
exit 2
-- stderr
error[E0113]: there is no script `alchemy.run.rhai/alchemy.run.rhai`
 = help: name one: `alch run FILE`, or go to the folder that holds it

"#]]);
}

#[test]
fn a_damaged_env_file() {
    let project = deployed();
    project.file("bytes.env", b"KEY=\xff\xfe\n");
    sane(project.alch(["run", "--env-file", "bytes.env"])).check(str![[r#"
exit 2
-- stderr
error[E0501]: cannot read the env file `bytes.env`
 = note: stream did not contain valid UTF-8
 = help: `--env-file` names a file of `KEY=VALUE` lines

"#]]);
    project.file("quote.env", "KEY=\"never closed\nNEXT=1\n");
    sane(project.alch(["run", "--env-file", "quote.env"])).check(str![[r#"
exit 2
-- stderr
error[E0501]: `quote.env` is not an env file: the closing " is missing
 --> quote.env:1:5
  |
1 | KEY=..
  |     ^

"#]]);
}

#[test]
fn a_damaged_plan_file() {
    let project = deployed();
    project.alch(["plan", "--out", "plan.json"]).success();
    let plan = project.read("plan.json");
    let before = project.state_files();
    for (name, damaged) in [
        ("empty", ""),
        ("cut off", &plan[..plan.len() / 2]),
        ("something else", "[1, 2, 3]"),
    ] {
        project.file("plan.json", damaged);
        let output = sane(project.alch(["run", "--plan", "plan.json"]));
        assert!(
            output.stderr.contains("error[") && output.stderr.contains("plan.json"),
            "{name}: {}",
            output.stderr
        );
        assert_eq!(output.code, Some(11), "{name}: {}", output.stderr);
    }
    sane(project.alch(["run", "--plan", "plan.json"])).check(str![[r#"
exit 11
-- stderr
error[E0409]: `plan.json` is not a usable plan: invalid type: integer `1`, expected a string at line 1 column 2 at `[0]`
 = help: make a new one with `alch plan --out plan.json`

"#]]);
    std::fs::remove_file(project.path("plan.json")).unwrap();
    sane(project.alch(["run", "--plan", "plan.json"])).check(str![[r#"
exit 2
-- stderr
error[E0501]: cannot read the plan `plan.json`
 = note: No such file or directory (os error 2)
 = help: make it with `alch plan --out plan.json`

"#]]);
    assert!(project.state_files() == before, "state changed");
}

#[test]
fn a_plan_file_with_a_bit_flipped_is_never_obeyed() {
    let project = Project::with_script("alchemy(\"shop\"); KV(\"kept\");");
    project.alch(["plan", "--out", "plan.json"]).success();
    let plan = std::fs::read(project.path("plan.json")).unwrap();
    for at in (0..plan.len()).step_by(plan.len() / 24 + 1) {
        let mut damaged = plan.clone();
        damaged[at] ^= 1;
        project.file("plan.json", &damaged);
        let output = sane(project.alch(["run", "--plan", "plan.json"]));
        assert!(
            matches!(output.code, Some(2 | 11)),
            "byte {at}: {:?} {}",
            output.code,
            output.stderr
        );
    }
    assert!(
        !project.path(".alchemy/shop").exists(),
        "something was done"
    );
}
