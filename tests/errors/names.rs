//! Names that do not exist, and calls that do not fit: found before anything is touched.

use snapbox::str;

use super::{says, shop};

#[test]
fn an_unknown_function() {
    says(
        "let db = Databse(\"main\");",
        str![[r#"
exit 1
-- stderr
error[E0102]: no function `Databse`
 --> alchemy.run.rhai:2:10
  |
2 | let db = Databse("main");
  |          ^^^^^^^
  |
  = help: did you mean `Database`?

"#]],
    );
}

#[test]
fn too_few_arguments_of_a_resource() {
    says(
        "Database();",
        str![[r#"
exit 1
-- stderr
error[E0104]: `Database` takes (id) or (id, props); you passed 0 arguments
 --> alchemy.run.rhai:2:1
  |
2 | Database();
  | ^^^^^^^^
  |
  = help: write `Database("my-id", #{ .. })`

"#]],
    );
}

#[test]
fn too_many_arguments_of_a_function_of_the_script() {
    says(
        "fn site(id) { id }\nsite(\"a\", 2);",
        str![[r#"
exit 1
-- stderr
error[E0104]: `site` takes 1 argument; you passed 2
 --> alchemy.run.rhai:3:1
  |
3 | site("a", 2);
  | ^^^^
  |
  = help: it is defined as `fn site(id)`

"#]],
    );
}

#[test]
fn an_argument_of_the_wrong_type() {
    says(
        "Database(42);",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0104]: `Database` takes (id) or (id, props); you passed (int)
 --> alchemy.run.rhai:2:1
  |
2 | Database(42);
  | ^^^^^^^^
  |
  = help: write `Database("my-id", #{ .. })`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]],
    );
}

#[test]
fn an_unknown_variable() {
    says(
        "let db = Database(\"main\");\nprint(dbb.name);",
        str![[r#"
exit 1
-- stderr
error[E0103]: no variable `dbb`
 --> alchemy.run.rhai:3:7
  |
3 | print(dbb.name);
  |       ^^^
  |
  = help: did you mean `db`?

"#]],
    );
}

#[test]
fn a_function_does_not_see_variables() {
    says(
        "let region = \"weur\";\nfn site() { print(region) }\nsite();",
        str![[r#"
exit 1
-- stderr
error[E0103]: no variable `region`
 --> alchemy.run.rhai:3:19
  |
3 | fn site() { print(region) }
  |                   ^^^^^^
  |
  = help: functions do not see variables of the script: pass it in, or declare `const region` and write `global::region`

"#]],
    );
}

#[test]
fn an_unknown_attribute_of_a_handle() {
    says(
        "let db = Database(\"main\");\nprint(`id: ${db.idd}`);",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::D1Database)
  created   main  main-dev  [TIME]
error[E0207]: cloudflare::D1Database has no attribute `idd`
 --> alchemy.run.rhai:3:17
  |
3 | print(`id: ${db.idd}`);
  |                 ^^^
  |
  = help: did you mean `id`?
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn an_unknown_attribute_without_a_near_one() {
    says(
        "let db = Database(\"main\");\nprint(db.endpoint);",
        str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  main (cloudflare::D1Database)
  created   main  main-dev  [TIME]
error[E0207]: cloudflare::D1Database has no attribute `endpoint`
 --> alchemy.run.rhai:3:10
  |
3 | print(db.endpoint);
  |          ^^^^^^^^
  |
  = help: it has `id`, `name`, `type`, `jurisdiction`, `createdAt`, `fqn`, `kind`, `stage`
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]],
    );
}

#[test]
fn a_module_that_is_not_there() {
    says(
        "import \"./lib/site\" as site;\nsite::make();",
        str![[r#"
exit 1
-- stderr
error[E0109]: no module `./lib/site`
 --> alchemy.run.rhai:2:8
  |
2 | import "./lib/site" as site;
  |        ^^^^^^^^^^^^
  |
  = note: looked for `lib/site.rhai`
  = help: `./x` and `../x` are relative to the importing file, `x` to the project, `alch/x` is built in

"#]],
    );
}

#[test]
fn a_standard_module_that_is_not_there() {
    says(
        "import \"alch/block\" as blocks;",
        str![[r#"
exit 1
-- stderr
error[E0109]: no standard module `alch/block`
 --> alchemy.run.rhai:2:8
  |
2 | import "alch/block" as blocks;
  |        ^^^^^^^^^^^^
  |
  = help: did you mean `alch/blocks`?

"#]],
    );
}

#[test]
fn a_module_that_was_not_imported() {
    says(
        "blocks::web_app(\"shop\");",
        str![[r#"
exit 1
-- stderr
error[E0103]: no module `blocks`
 --> alchemy.run.rhai:2:1
  |
2 | blocks::web_app("shop");
  | ^^^^^^^^^^^^^^^
  |
  = help: import it first: `import "alch/blocks" as blocks;`

"#]],
    );
}

#[test]
fn a_module_outside_the_project() {
    says(
        "import \"../site\" as site;",
        str![[r#"
exit 1
-- stderr
error[E0116]: no permission to read `[ROOT]/project/../site.rhai`, which is outside the project folder
 --> alchemy.run.rhai:2:8
  |
2 | import "../site" as site;
  |        ^^^^^^^^^
  |
  = help: allow it with `--allow-read=[ROOT]/site.rhai` if you trust the script

"#]],
    );
}

#[test]
fn a_mistake_inside_a_module() {
    let project = shop("import \"./lib/site\" as site;\nsite::make(\"a\");");
    project.file("lib/site.rhai", "fn make(id) {\n    Bukcet(id)\n}\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0102]: no function `Bukcet`
 --> lib/site.rhai:2:5
  |
2 |     Bukcet(id)
  |     ^^^^^^
  |
  = help: did you mean `Bucket`?

"#]]);
}

#[test]
fn an_error_while_a_function_of_a_module_runs() {
    let project = shop("import \"./lib/site\" as site;\nsite::make(3);");
    project.file(
        "lib/site.rhai",
        "fn make(count) {\n    let names = [\"a\", \"b\"];\n    KV(names[count])\n}\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0105]: the array has 2 elements; there is no index 3
 --> lib/site.rhai:3:14
  |
3 |     KV(names[count])
  |              ^^^^^
  |
 ::: alchemy.run.rhai:3:7
  |
3 | site::make(3);
  |       ---- in this call of `make`
  |
  = help: indices begin at 0; `.len()` tells how many there are
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn modules_in_a_circle() {
    let project = shop("import \"./a\" as a;");
    project.file("a.rhai", "import \"./b\" as b;\n");
    project.file("b.rhai", "import \"./a\" as a;\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
error[E0109]: modules import each other in a circle
 --> b.rhai:1:8
  |
1 | import "./a" as a;
  |        ^^^^^
  |
  = note: a.rhai imports b.rhai imports a.rhai
  = help: move what both need into a third module

"#]]);
}
