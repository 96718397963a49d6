//! `alch check` says what a run would, all mistakes at once, and touches nothing.

use snapbox::str;

use super::shop;

const MISTAKES: &str = "Databse(\"main\");
Bucket(\"files\", #{ storageClas: \"Standard\", location: 5 });
print(nope);
import \"./site\" as site;
";

#[test]
fn a_script_without_mistakes() {
    let project = shop("KV(\"cache\");");
    project.alch(["check"]).check(str![[r#"
exit 0
-- stdout
alchemy.run.rhai: no mistakes found

"#]]);
    assert!(!project.path(".alchemy").exists(), "something was written");
}

#[test]
fn all_mistakes_at_once() {
    let project = shop(MISTAKES);
    project.file("site.rhai", "fn make() {\n    qeue(\"jobs\")\n}\n");
    let checked = project.alch(["check"]);
    checked.check(str![[r#"
exit 1
-- stderr
error[E0102]: no function `Databse`
 --> alchemy.run.rhai:2:1
  |
2 | Databse("main");
  | ^^^^^^^
  |
  = help: did you mean `Database`?
error[E0201]: unknown prop `storageClas` of `Bucket`
 --> alchemy.run.rhai:3:20
  |
3 | Bucket("files", #{ storageClas: "Standard", location: 5 });
  |                    ^^^^^^^^^^^
  |
  = help: did you mean `storageClass`?
error[E0201]: unknown prop `location` of `Bucket`
 --> alchemy.run.rhai:3:45
  |
3 | Bucket("files", #{ storageClas: "Standard", location: 5 });
  |                                             ^^^^^^^^
  |
  = help: did you mean `locationHint`?
error[E0103]: no variable `nope`
 --> alchemy.run.rhai:4:7
  |
4 | print(nope);
  |       ^^^^
  |
  = help: declare it first: `let nope = ..;`
error[E0102]: no function `qeue`
 --> site.rhai:2:5
  |
2 |     qeue("jobs")
  |     ^^^^
  |
  = help: did you mean `Queue`?

"#]]);
    let run = project.alch(["run"]);
    assert_eq!(run.stderr, checked.stderr, "a run says the same");
    assert_eq!(run.code, checked.code);
    assert!(!project.path(".alchemy").exists(), "something was written");
}

#[test]
fn the_same_as_data() {
    let project = shop(MISTAKES);
    project.file("site.rhai", "fn make() {\n    qeue(\"jobs\")\n}\n");
    let output = project.alch(["check", "--json"]).code(1);
    assert_eq!(output.stderr, "");
    let told: Vec<String> = output
        .messages()
        .iter()
        .filter(|message| message["type"] == "diagnostic")
        .map(|message| {
            let place = &message["labels"][0];
            format!(
                "{} {}:{}:{} {} | {}",
                message["code"].as_str().unwrap(),
                place["file"].as_str().unwrap(),
                place["line"],
                place["column"],
                message["message"].as_str().unwrap(),
                message["help"][0].as_str().unwrap_or_default(),
            )
        })
        .collect();
    snapbox::assert_data_eq!(
        told.join("\n"),
        str![[r#"
E0102 alchemy.run.rhai:2:1 no function `Databse` | did you mean `Database`?
E0201 alchemy.run.rhai:3:20 unknown prop `storageClas` of `Bucket` | did you mean `storageClass`?
E0201 alchemy.run.rhai:3:45 unknown prop `location` of `Bucket` | did you mean `locationHint`?
E0103 alchemy.run.rhai:4:7 no variable `nope` | declare it first: `let nope = ..;`
E0102 site.rhai:2:5 no function `qeue` | did you mean `Queue`?
"#]]
    );
}

#[test]
fn a_syntax_error() {
    shop("let x = ;").alch(["check"]).check(str![[r#"
exit 1
-- stderr
error[E0101]: unexpected ';'
 --> alchemy.run.rhai:2:9
  |
2 | let x = ;
  |         ^

"#]]);
}
