//! Scripts that want too much: each ends in a clear error, and soon.

use snapbox::{assert_data_eq, data::Inline, str};

use super::super::testing::Stage;
use crate::{engine::Phase, util::fs};

/// The first line of what is said of `text`, with small limits.
#[track_caller]
fn says(text: &str, expected: Inline) {
    let mut stage = Stage::new();
    stage.limits.operations = 200_000;
    stage.limits.resources = 40;
    let said = stage.up(text).text();
    assert_data_eq!(said.lines().next().unwrap_or_default(), expected);
}

#[test]
fn nesting() {
    says(
        &"(".repeat(10_000),
        str!["E0112: expressions are nested too deeply"],
    );
    says(
        &format!("let x = {}1{};", "[".repeat(10_000), "]".repeat(10_000)),
        str!["E0112: expressions are nested too deeply"],
    );
    says(
        &format!("let x = {}1{};", "`${".repeat(5_000), "}`".repeat(5_000)),
        str!["E0112: expressions are nested too deeply"],
    );
    says(
        &format!("{}1{}", "if true {".repeat(10_000), "}".repeat(10_000)),
        str!["E0112: expressions are nested too deeply"],
    );
    says(
        &format!("{}1{}", "switch ".repeat(10_000), "{}".repeat(10_000)),
        str!["E0112: expressions are nested too deeply"],
    );
}

#[test]
fn resources_without_end() {
    says(
        "for i in 0..40 { KV(`kv-${i}`); } print(\"enough\")",
        str!["enough"],
    );
    says(
        "let i = 0; loop { i += 1; KV(`kv-${i}`); }",
        str!["E0107: the script declares more than 40 resources; it probably loops for ever"],
    );
}

#[test]
fn loops_and_recursion() {
    says(
        "loop {}",
        str!["E0107: the script does more than it may; it probably loops for ever"],
    );
    says(
        "let x = 0; while true { x += 1 }",
        str!["E0107: the script does more than it may; it probably loops for ever"],
    );
    says(
        "fn f() { f() } f();",
        str!["E0108: functions call each other too deeply"],
    );
    says(
        "fn f() { run(\"x\", || f()) } f();",
        str!["E0108: functions call each other too deeply"],
    );
    says(
        "let s = []; loop { s.push(1) }",
        str!["E0107: the script does more than it may; it probably loops for ever"],
    );
}

/// As [`says`], with little memory instead.
#[track_caller]
fn grows(text: &str, expected: Inline) {
    let mut stage = Stage::new();
    stage.limits.memory_bytes = 64 << 20;
    let said = stage.up(text).text();
    assert_data_eq!(said.lines().next().unwrap_or_default(), expected);
}

#[test]
fn memory() {
    grows(
        "let s = \"abcdefgh\"; loop { s += s }",
        str!["E0120: the script uses more than 64 MB"],
    );
    grows(
        "let s = [1, 2, 3]; loop { s += s }",
        str!["E0120: the script uses more than 64 MB"],
    );
    grows(
        "let s = [1]; loop { s = [s, s] }",
        str!["E0120: the script uses more than 64 MB"],
    );
    says(
        "let s = \"\"; s.pad(9000000000, 'x');",
        str!["E0120: one value of 9000000000 elements is more than a script may make"],
    );
    says(
        "let s = blob(9000000000);",
        str!["E0120: one value of 9000000000 elements is more than a script may make"],
    );
    says(
        "let s = []; s.pad(9000000000, 1);",
        str!["E0120: one value of 9000000000 elements is more than a script may make"],
    );
    says(
        "let s = \"aaaaaaaaaaaaaaaa\"; loop { s.replace(\"a\", s) }",
        str!["E0120: one value of 4294967296 elements is more than a script may make"],
    );
}

#[test]
fn a_script_of_ten_megabytes_is_refused() {
    let stage = Stage::new();
    let text = "let x = 1;\n".repeat(1_000_000);
    fs::write_atomic(&stage.project.path().join("big.rhai"), text.as_bytes()).unwrap();
    assert_data_eq!(
        stage.run_file("big.rhai", Phase::Up).text(),
        str![[r#"
E0112: `[PROJECT]/big.rhai` is 11000000 bytes long; at most 8388608 are accepted
  help: read data from a file with `json(file("data.json"))` instead of writing it out
"#]]
    );
}
