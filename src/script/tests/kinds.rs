use super::super::testing::Stage;
use crate::engine::Phase;
#[test]
fn probe() {
    for text in [
        "let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| { print(`create ${id} ${ctx.phase} ${ctx.stage} ${ctx.physicalName} ${props.size}`); #{ id: `made-${id}`, size: props.size } } }); let t = Thing.declare(\"a\", #{ size: 3 }); print(t.id); let u = declare(\"my::Thing\", \"b\", #{ size: t.size + 1, from: t }); print(u.size);",
        "let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| throw \"no way\" }); let t = Thing.declare(\"a\"); t.id",
        "let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| #{ }, schema: #{ size: \"int\", label: \"string?\" }, outputs: [\"x\"] }); Thing.declare(\"a\", #{ sze: 1 });",
        "let db = Database(\"db\"); let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| #{ v: `${props.db.id} ${props.db.name}` } }); print(Thing.declare(\"a\", #{ db: db }).v);",
        "resource(\"Thing\", #{ create: 1 });",
        "resource(\"my::Thing\", #{ });",
        "resource(\"my::Thing\", #{ create: 1 });",
        "declare(\"my::Thng\", \"x\");",
        "import \"alch/blocks\" as blocks; let s = blocks::web_app(\"shop\", #{ text: \"x\", cache: false, bindings: #{ A: 1 } }); print(s.worker.id); print(s.cache);",
        "let n = 0; let r = retry(3, || { n += 1; if n < 3 { throw \"again\" } n }); print(r);",
        "print(sha256(\"a\")); print(base64(\"abc\")); print(base64_decode(\"YWJj\")); print(json::stringify(#{ b: [1, 2.5, ()], a: \"x\" })); print(yaml(\"a: [1, 2]\").a[1]); print(toml(\"x = 2026-01-01\").x); print(#{ a: 1 }.to_json()); sleep(0.01); log(\"hello\"); print(yaml::stringify(#{ a: 1 }));",
        "write_file(\"sub/a.txt\", \"hi\"); print(file(\"sub/a.txt\")); print(glob(\"**/*.txt\")); print(file_exists(\"b\"));",
    ] {
        let stage = Stage::new();
        println!("=== {text}\n{}", stage.up(text).text());
        println!("calls {:?}\n", stage.take_calls());
    }
    let stage = Stage::new();
    let kind = "let Thing = resource(\"my::Thing\", #{ create: |ctx, id, props| { print(`create ${id}`); #{ id: 1 } }, update: |ctx, id, props| { print(`update ${id} ${ctx.output.id}`); #{ id: 2 } }, delete: |ctx, id, props| print(`delete ${id} ${ctx.output}`), replaceOn: [\"zone\"] });";
    for text in [
        "Thing.declare(\"a\", #{ size: 1, zone: 1 });",
        "Thing.declare(\"a\", #{ size: 2, zone: 1 });",
        "Thing.declare(\"a\", #{ size: 2, zone: 2 });",
        "Thing.declare(\"a\", #{ size: 2, zone: 2 });",
        "",
    ] {
        println!("{}\n", stage.up(&format!("{kind}{text}")).text());
    }
    stage.up(&format!("{kind} Thing.declare(\"z\");"));
    println!(
        "{}",
        stage
            .run(
                &format!(
                    "let app = alchemy(\"my-app\"); {kind} Thing.declare(\"z\"); print(\"no\");"
                ),
                Phase::Destroy
            )
            .text()
    );
    let stage = Stage::new();
    let at = |name: &str, text: &str| {
        crate::util::fs::write_atomic(&stage.project.path().join(name), text.as_bytes()).unwrap()
    };
    crate::util::fs::create_dir_all(&stage.project.path().join("lib/deep")).unwrap();
    at(
        "main.rhai",
        "let app = alchemy(\"my-app\");\nimport \"./lib/a\" as a;\nprint(a::site(\"x\"));",
    );
    at(
        "lib/a.rhai",
        "import \"./deep/b\" as b;\nfn site(id) { b::make(id) }",
    );
    at(
        "lib/deep/b.rhai",
        "fn make(id) {\n  alchemy.run(id, || Bucket(`b-${id}`, #{ size: 99 }))\n}",
    );
    println!("{}\n", stage.run_file("main.rhai", Phase::Up).text());
    at(
        "lib/deep/b.rhai",
        "import \"../a\" as a;\nfn make(id) { 1 }",
    );
    println!("{}\n", stage.run_file("main.rhai", Phase::Up).text());
    at("lib/deep/b.rhai", "fn make(id) { let x = }");
    println!("{}\n", stage.run_file("main.rhai", Phase::Up).text());
    at("lib/deep/b.rhai", "fn make(id) { nope(id) }");
    println!("{}\n", stage.run_file("main.rhai", Phase::Up).text());
    println!("{}\n", stage.run_file("nope.rhai", Phase::Up).text());
    crate::util::fs::write_atomic(
        &stage.project.path().join("bad.rhai"),
        b"let a = 1;\n\xff\xfe",
    )
    .unwrap();
    println!("{}\n", stage.run_file("bad.rhai", Phase::Up).text());
}
