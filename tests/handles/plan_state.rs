//! Plans against what state knows: values of unchanged resources are known, those of changed ones are shown as unknown in props.

use snapbox::str;

use crate::errors::shop;

#[test]
fn props_show_it_and_know_what_they_depend_on() {
    shop(
        "let db = Database(\"main\");
Worker(\"api\", #{
    script: \"export default {}\",
    bindings: #{ DB: db, ID: db.id, TEXT: `id ${db.id}`, NAME: db.name },
});
File(\"note\", #{ path: \"note.txt\", content: db.ref(\"id\") });",
    )
    .alch(["plan", "--full"])
    .check(str![[r#"
exit 0
-- stdout
  + main (cloudflare::D1Database)  main-dev  # not in state
  + api (cloudflare::Worker)  api-dev  # not in state
      + bindings.DB: (known after apply)
      + bindings.ID: (known after apply)
      + bindings.NAME: "main-dev"
      + bindings.TEXT: (known after apply)
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + observability.enabled: true
      + script: "export default {}"
      + url: true
  + note (std::File)  note.txt  # not in state
      + content: (known after apply)
      + path: "note.txt"
Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0208]: `note` is called `note.txt` in every stage
 --> alchemy.run.rhai:7:1
  |
7 | File("note", #{ path: "note.txt", content: db.ref("id") });
  | ^^^^
  |
  = help: put `${alchemy.stage}` into it; a `name` may be left out, then alch makes one; to share the object, pass `adopt: true`

"#]]);
}

#[test]
fn values_of_unchanged_resources_are_known() {
    let project = shop("let db = Database(\"main\");");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");
let db = Database(\"main\");
if db.id.len() == 36 { KV(\"cache\"); }
print(switch db.name { \"main-dev\" => \"known\", _ => \"other\" });
",
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
known
  + cache (cloudflare::KVNamespace)  cache-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 1 unchanged
-- stderr
alch: app shop, stage dev, phase plan, target local

"#]]);
}

#[test]
fn values_of_a_replaced_resource_are_not() {
    let project = shop("let word = RandomString(\"word\", #{ length: 8 });");
    project.alch(["run"]).success();
    project.file(
        "alchemy.run.rhai",
        "let app = alchemy(\"shop\");
let word = RandomString(\"word\", #{ length: 9 });
print(`word: ${word.value}`);
if word.value == \"x\" { print(\"never\"); }
",
    );
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
word: (known after apply)
-/+ word (std::RandomString)  random-string  # length changed
      ~ length: 8 -> 9  # forces replacement
Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 to replace
-- stderr
alch: app shop, stage dev, phase plan, target local
warning[E0114]: cannot decide on `word.value` in a plan: only the provider will know it
 --> alchemy.run.rhai:4:15
  |
4 | if word.value == "x" { print("never"); }
  |               ^ decided here
  |
  = note: the plan ends here; what is declared behind it may come otherwise
  = help: pass it on in props or text as it is; `alch run` waits for it and decides

"#]]);
}
