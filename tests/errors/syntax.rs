//! Text that is no script: nothing is run, and the frame shows where the mistake is rather than where the parser gave up.

use snapbox::str;

use super::says;
use crate::support::Project;

#[test]
fn a_block_that_is_never_closed() {
    says(
        "run(\"data\", || {\n    Database(\"main\");\n",
        str![[r#"
exit 1
-- stderr
error[E0101]: this bracket is never closed: `}` is missing
 --> alchemy.run.rhai:2:16
  |
2 | run("data", || {
  |                ^
  |
  = help: every bracket is closed by one of its own sort

"#]],
    );
}

#[test]
fn a_bracket_within_a_template_that_is_never_closed() {
    says(
        "let a = 1;\nprint(`a ${a + [1}`);",
        str![[r#"
exit 1
-- stderr
error[E0101]: `,` is missing to separate the items of this array literal
 --> alchemy.run.rhai:3:18
  |
3 | print(`a ${a + [1}`);
  |                  ^
  |
  = help: write `,` here, or close what is open

"#]],
    );
}

#[test]
fn an_interpolation_that_is_never_closed() {
    says(
        "let a = 1;\nprint(`a ${a + 1",
        str![[r#"
exit 1
-- stderr
error[E0101]: this bracket is never closed: `}` is missing
 --> alchemy.run.rhai:3:11
  |
3 | print(`a ${a + 1
  |           ^
  |
  = help: every bracket is closed by one of its own sort

"#]],
    );
}

#[test]
fn a_statement_without_its_end() {
    says(
        "let db = Database(\"main\")   // the one\n\nprint(db.name);",
        str![[r#"
exit 1
-- stderr
error[E0101]: `;` is missing at the end of this statement
 --> alchemy.run.rhai:2:26
  |
2 | let db = Database("main")   // the one
  |                          ^
  |
  = help: write `;` here, behind the end of the statement

"#]],
    );
}

#[test]
fn a_map_without_its_comma() {
    says(
        "Worker(\"api\", #{\n    bindings: #{ KEY: 1 }\n    crons: [],\n});",
        str![[r#"
exit 1
-- stderr
error[E0101]: `,` is missing to separate the items of this object map literal
 --> alchemy.run.rhai:3:26
  |
3 |     bindings: #{ KEY: 1 }
  |                          ^
  |
  = help: write `,` here, or close what is open

"#]],
    );
}

#[test]
fn a_body_without_braces() {
    says(
        "let x = 1;\nif x == 1 print(2);",
        str![[r#"
exit 1
-- stderr
error[E0101]: `{` is missing to start a statement block
 --> alchemy.run.rhai:3:11
  |
3 | if x == 1 print(2);
  |           ^^^^^
  |
  = help: the body stands in braces: `if condition { .. }`, `fn name() { .. }`

"#]],
    );
}

#[test]
fn text_that_is_never_closed() {
    says(
        "print(\"hello);\nprint(1);",
        str![[r#"
exit 1
-- stderr
error[E0101]: open string is not terminated
 --> alchemy.run.rhai:2:7
  |
2 | print("hello);
  |       ^^^^^^^^
  |
  = help: close it with `"`; text over several lines goes in back-ticks

"#]],
    );
}

#[test]
fn a_comment_that_is_never_closed() {
    says(
        "/* not now\nDatabase(\"main\");",
        str![[r#"
exit 1
-- stderr
error[E0101]: this comment is never closed
 --> alchemy.run.rhai:2:1
  |
2 | /* not now
  | ^^
  |
  = help: close it with `*/`; comments nest, so every `/*` in it needs its own

"#]],
    );
}

#[test]
fn a_reserved_word_as_a_key() {
    says(
        "let options = #{ default: 1 };",
        str![[r#"
exit 1
-- stderr
error[E0101]: `default` is a reserved word
 --> alchemy.run.rhai:2:18
  |
2 | let options = #{ default: 1 };
  |                  ^^^^^^^
  |
  = help: as a key write `"default"` in quotes; else choose another name

"#]],
    );
}

#[test]
fn words_of_other_languages() {
    says(
        "let id = await Database(\"main\").id;",
        str![[r#"
exit 1
-- stderr
error[E0101]: `await` is a reserved word
 --> alchemy.run.rhai:2:10
  |
2 | let id = await Database("main").id;
  |          ^^^^^
  |
  = help: leave it out: reading an attribute waits for its resource by itself

"#]],
    );
    says(
        "let x = true ? 1 : 2;",
        str![[r#"
exit 1
-- stderr
error[E0101]: there is no operator `?`
 --> alchemy.run.rhai:2:14
  |
2 | let x = true ? 1 : 2;
  |              ^
  |
  = help: write `if condition { a } else { b }`

"#]],
    );
    says(
        "let f = x => x + 1;",
        str![[r#"
exit 1
-- stderr
error[E0101]: `=>` does not belong here
 --> alchemy.run.rhai:2:11
  |
2 | let f = x => x + 1;
  |           ^
  |
  = help: closures are written `|x| ..`

"#]],
    );
}

#[test]
fn eval_is_off() {
    says(
        "eval(\"1 + 1\");",
        str![[r#"
exit 1
-- stderr
error[E0101]: `eval` is off: text is never run as code
 --> alchemy.run.rhai:2:1
  |
2 | eval("1 + 1");
  | ^^^^
  |
  = help: write the code out, or put it into a file and `import` it

"#]],
    );
}

#[test]
fn a_script_that_is_not_text() {
    let project = Project::new();
    project.file("alchemy.run.rhai", b"let a = 1;\n\xff\xfe\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0111]: `alchemy.run.rhai` is not UTF-8 text
 = note: the first byte that is not text stands in line 2
 = help: save the file as UTF-8

"#]]);
}

#[test]
fn brackets_that_nest_too_deeply() {
    let project = Project::with_script(&format!("{}\n", "(".repeat(10_000)));
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0112]: expressions are nested too deeply
--> alchemy.run.rhai:1:64
 = help: give parts of it names with `let`

"#]]);
}
