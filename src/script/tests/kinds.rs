//! Kinds that the script defines, the standard modules, the script's own modules, and the natives.

use snapbox::{assert_data_eq, data::Inline, str};

use super::super::testing::Stage;
use crate::{engine::Phase, util::fs};

/// What a run of `text` prints, how it fails, and what was asked of the provider.
#[track_caller]
fn runs(text: &str, expected: Inline) {
    let stage = Stage::new();
    let mut lines = vec![stage.up(text).text()];
    lines.extend(stage.take_calls());
    assert_data_eq!(lines.join("\n"), expected);
}

#[test]
fn kinds_of_the_script() {
    runs(
        r##"let Thing = resource("my::Thing", #{ create: |ctx, id, props| { print(`create ${id} ${ctx.phase} ${ctx.stage} ${ctx.physicalName} ${props.size}`); #{ id: `made-${id}`, size: props.size } } }); let t = Thing.declare("a", #{ size: 3 }); print(t.id); let u = declare("my::Thing", "b", #{ size: t.size + 1, from: t }); print(u.size);"##,
        str![[r#"
create a create dev my-app-a-dev 3
made-a
create b create dev my-app-b-dev 4
4
"#]],
    );
    runs(
        r##"let Thing = resource("my::Thing", #{ create: |ctx, id, props| throw "no way" }); let t = Thing.declare("a"); t.id"##,
        str![[r#"
E0301: `a` (my::Thing): create failed: `create` failed: no way (main.rhai:2:63)
  --> 2:96 `declare("a")` declared here
"#]],
    );
    runs(
        r##"let Thing = resource("my::Thing", #{ create: |ctx, id, props| #{ }, schema: #{ size: "int", label: "string?" }, outputs: ["x"] }); Thing.declare("a", #{ sze: 1 });"##,
        str![[r#"
E0201: unknown prop `sze` of my::Thing
  --> 2:154 `sze: 1 });`
      2:151 `#{ sze: 1 })` `size` is missing
  help: did you mean `size`?
  help: add `size: ..`: Defined by the script.
"#]],
    );
    runs(
        r##"let db = Database("db"); let Thing = resource("my::Thing", #{ create: |ctx, id, props| #{ v: `${props.db.id} ${props.db.name}` } }); print(Thing.declare("a", #{ db: db }).v);"##,
        str![[r#"
id-of-db db-dev
create db {}
"#]],
    );
    runs(
        r##"resource("Thing", #{ create: 1 });"##,
        str![[r#"
E0118: `Thing` is no name for a kind
  --> 2:1 `resource("Th`
  help: write it with a namespace of your own: `my::Kind`
"#]],
    );
    runs(
        r##"resource("my::Thing", #{ });"##,
        str![[r#"
E0118: `my::Thing` has no `create`
  --> 2:1 `resource("my`
  help: add `create: |ctx, id, props| #{ .. }`, which answers the outputs
"#]],
    );
    runs(
        r##"resource("my::Thing", #{ create: 1 });"##,
        str![[r#"
E0118: `create` of `my::Thing` must be a closure, found int
  --> 2:1 `resource("my`
  help: write it as `|ctx, id, props| #{ .. }`
"#]],
    );
    runs(
        r##"declare("my::Thng", "x");"##,
        str![[r#"
E0209: no resource kind `my::Thng`
  --> 2:1 `declare("my:`
  help: define it first with `resource("my::Kind", #{ create: .. })`
"#]],
    );
}

#[test]
fn blocks_and_natives() {
    runs(
        r##"import "alch/blocks" as blocks; let s = blocks::web_app("shop", #{ text: "x", cache: false, bindings: #{ A: 1 } }); print(s.worker.id); print(s.cache);"##,
        str![[r#"
id-of-shop

create shop/shop {"bindings":{"A":1,"DB":"${my-app/dev/shop/shop-db}","FILES":"${my-app/dev/shop/shop-files}"},"text":"x"}
create shop/shop-db {}
create shop/shop-files {}
"#]],
    );
    runs(
        r##"let n = 0; let r = retry(3, || { n += 1; if n < 3 { throw "again" } n }); print(r);"##,
        str!["3"],
    );
    runs(
        r##"print(sha256("a")); print(base64("abc")); print(base64_decode("YWJj")); print(json::stringify(#{ b: [1, 2.5, ()], a: "x" })); print(yaml("a: [1, 2]").a[1]); print(toml("x = 2026-01-01").x); print(#{ a: 1 }.to_json()); sleep(0.01); log("hello"); print(yaml::stringify(#{ a: 1 }));"##,
        str![[r#"
ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb
YWJj
abc
{"a":"x","b":[1,2.5,null]}
2
2026-01-01
{"a":1}
log: hello
a: 1

"#]],
    );
    runs(
        r##"write_file("sub/a.txt", "hi"); print(file("sub/a.txt")); print(glob("**/*.txt")); print(file_exists("b"));"##,
        str![[r#"
hi
["sub/a.txt"]
false
"#]],
    );
}

#[test]
fn a_kind_of_the_script_lives_its_whole_life() {
    let stage = Stage::new();
    let kind = r#"
        let Thing = resource("my::Thing", #{
            create: |ctx, id, props| { print(`create ${id}`); #{ id: 1 } },
            update: |ctx, id, props| { print(`update ${id}, was ${ctx.output.id}`); #{ id: 2 } },
            delete: |ctx, id, props| print(`delete ${id}, was ${ctx.output.id}`),
            replaceOn: ["zone"],
        });
    "#;
    let step = |text: &str| stage.up(&format!("{kind}{text}")).text();
    assert_data_eq!(
        step(r#"Thing.declare("a", #{ size: 1, zone: 1 })"#),
        "create a"
    );
    assert_data_eq!(step(r#"Thing.declare("a", #{ size: 1, zone: 1 })"#), "");
    assert_data_eq!(
        step(r#"Thing.declare("a", #{ size: 2, zone: 1 })"#),
        "update a, was 1"
    );
    assert_data_eq!(
        step(r#"Thing.declare("a", #{ size: 2, zone: 2 })"#),
        "delete a, was 2\ncreate a"
    );
    let text =
        format!("let app = alchemy(\"my-app\"); {kind} Thing.declare(\"a\"); print(\"no\");");
    assert_data_eq!(stage.run(&text, Phase::Destroy).text(), "delete a, was 1");
}

#[test]
fn modules_import_each_other_by_relative_path() {
    let stage = Stage::new();
    let folder = stage.project.path().to_owned();
    fs::create_dir_all(&folder.join("lib/deep")).unwrap();
    let main =
        "let app = alchemy(\"my-app\");\nimport \"./lib/a\" as a;\nprint(a::site(\"x\").id);";
    let run = |deep: &str| {
        let files = [
            ("main.rhai", main),
            (
                "lib/a.rhai",
                "import \"./deep/b\" as b;\nfn site(id) { b::make(id) }",
            ),
            ("lib/deep/b.rhai", deep),
        ];
        for (name, text) in files {
            fs::write_atomic(&folder.join(name), text.as_bytes()).unwrap();
        }
        stage.run_file("main.rhai", Phase::Up).text()
    };
    assert_data_eq!(
        run("fn make(id) { alchemy.run(id, || Bucket(`b-${id}`)) }"),
        str!["id-of-b-x"]
    );
    assert_data_eq!(
        run("fn make(id) {\n  alchemy.run(id, || Bucket(`b-${id}`, #{ size: 40 + 59 }))\n}"),
        str![[r#"
E0202: `size` of cloudflare::R2Bucket: 99 is out of range: 0 to 10
  --> 2:52 `+ 59 }))`
      2:11 `run(id, || B` in this closure
      2:18 `make(id) }` in this call of `make`
      3:10 `site("x").id` in this call of `site`
"#]]
    );
    assert_data_eq!(
        run("import \"../a\" as a;\nfn make(id) { 1 }"),
        str![[r#"
E0109: modules import each other in a circle
  --> 1:8 `"../a" as a;`
  note: [PROJECT]/lib/a.rhai imports [PROJECT]/lib/deep/b.rhai imports [PROJECT]/lib/a.rhai
  help: move what both need into a third module
"#]]
    );
    assert_data_eq!(
        run("fn make(id) { let x = }"),
        str![[r#"
E0101: unexpected '}'
  --> 1:23 `}`
"#]]
    );
    assert_data_eq!(
        run("fn make(id) { nope(id) }"),
        str![[r#"
E0102: no function `nope`
  --> 1:15 `nope(id) }`
"#]]
    );
    assert_data_eq!(
        stage.run_file("missing.rhai", Phase::Up).text(),
        str![[r#"
E0113: cannot read `[PROJECT]/missing.rhai`
  note: No such file or directory (os error 2)
  help: name the script: alch run path/to/alchemy.run.rhai
"#]]
    );
}

#[test]
fn a_script_that_is_not_text_is_refused() {
    let stage = Stage::new();
    fs::write_atomic(
        &stage.project.path().join("bad.rhai"),
        b"let a = 1;\n\xff\xfe",
    )
    .unwrap();
    assert_data_eq!(
        stage.run_file("bad.rhai", Phase::Up).text(),
        str![[r#"
E0111: `[PROJECT]/bad.rhai` is not UTF-8 text
  note: the first byte that is not text stands in line 2
  help: save the file as UTF-8
"#]]
    );
}
