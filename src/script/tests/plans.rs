use super::super::testing::Stage;
use crate::engine::Phase;

/// What a plan of `text` says, on a stage that has nothing yet.
fn plan(text: &str) -> String {
    Stage::new().plan(text).text()
}

#[test]
fn probe() {
    for text in [
        "let db = Database(\"db\"); print(`id is ${db.id}`); print(db.id); print(db.name);",
        "let db = Database(\"db\"); if db.id == \"x\" { print(\"yes\") }",
        "let db = Database(\"db\"); alchemy.run(\"s\", || { if db.id == \"x\" { Bucket(\"b\") } Bucket(\"c\") }); KV(\"after\");",
        "let db = Database(\"db\"); if db.flag { print(1) }",
        "let db = Database(\"db\"); if db.flag && true { print(1) }",
        "let db = Database(\"db\"); if !db.flag { print(1) }",
        "let db = Database(\"db\"); let x = switch db.id { \"a\" => 1, _ => 2 }; print(x);",
        "let db = Database(\"db\"); let x = db.id ?? \"none\"; print(x);",
        "let db = Database(\"db\"); print([db.id].contains(\"x\"));",
        "let db = Database(\"db\"); print([\"x\"].contains(db.id));",
        "let db = Database(\"db\"); print(db.id in [\"x\"]);",
        "let db = Database(\"db\"); print(\"x\" in db.tags);",
        "let db = Database(\"db\"); print(db.id in \"xyz\");",
        "let db = Database(\"db\"); print(db.id in #{ a: 1 });",
        "let db = Database(\"db\"); print(\"x\" in db.id);",
        "let db = Database(\"db\"); print(db.size + 1);",
        "let db = Database(\"db\"); print(1 + db.size);",
        "let db = Database(\"db\"); let n = 1; n += db.size; print(n);",
        "let db = Database(\"db\"); let n = \"a\"; n += db.id; print(n);",
        "let db = Database(\"db\"); print(\"a\" + db.id + \"b\");",
        "let db = Database(\"db\"); print(db.id.to_upper());",
        "let db = Database(\"db\"); print(db.id.len());",
        "let db = Database(\"db\"); print(parse_int(db.size));",
        "let db = Database(\"db\"); for t in db.tags { print(t) }",
        "let db = Database(\"db\"); print(db.tags[0]); print(db.meta.region);",
        "let db = Database(\"db\"); print([db.id, #{ a: db.id }]);",
        "let db = Database(\"db\"); let t = \"\" + [db.id]; Bucket(\"b\", #{ text: t }); print(t == \"x\");",
        "let db = Database(\"db\"); while db.flag { print(1) }",
        "let db = Database(\"db\"); print(-db.size);",
        "let db = Database(\"db\"); print(db.id != \"x\");",
        "let db = Database(\"db\"); print(db.size > 3);",
        "let db = Database(\"db\"); print(\"x\" == db.id);",
        "let db = Database(\"db\"); try { if db.id == \"x\" { print(1) } } catch { print(\"caught\") } Bucket(\"b\");",
        "let db = Database(\"db\"); try { db.id.to_upper() } catch { print(\"caught\") } Bucket(\"b\");",
        "let db = Database(\"db\"); print(db.id.to_string()); print(type_of(db.id)); print(to_debug(db.id)); print(db.to_string());",
        "let db = Database(\"db\"); print(json::stringify(#{ a: db.id }));",
        "let db = Database(\"db\"); let s = secret(db.id);",
        "let db = Database(\"db\"); Bucket(`b-${db.id}`);",
        "let db = Database(\"db\"); Bucket(db.id);",
    ] {
        println!("=== {text}\n{}\n", plan(text));
    }
    let stage = Stage::new();
    println!("{}", stage.run("1", Phase::Up).text());
}
