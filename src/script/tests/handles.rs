use super::super::testing::Stage;
use crate::engine::Phase;
#[test]
fn probe() {
    for text in [
        "let db = Database(\"db\"); print(db.id); print(`x ${db.id} ${db.size + 1} ${db.meta.region} ${db.tags[1]}`); if db.id == \"id-of-db\" { print(\"same\") } print(switch db.id { \"id-of-db\" => 1, _ => 2 }); print(db.comment ?? \"none\"); print(db.database_id);",
        "let db = Database(\"db\"); print(db.name); print(db.fqn); print(db.kind); print(db.stage); print(db); print(db == db); print(db.token); print(`t=${db.token}`);",
        "let db = Database(\"db\"); let q = Queue(\"q\"); Worker(\"api\", #{ bindings: #{ DB: db, Q: q, ID: db.ref(\"id\"), S: secret(\"s3cret-x\") }, tags: [db, [db.ref(\"id\")], `pre-${db.ref(\"id\")}`] });",
        "let db = Database(\"db\"); print(db.ref(\"id\") == \"x\");",
        "let db = Database(\"db\"); print(db.idd);",
        "let db = Database(\"db\"); print(db.ref(\"idd\"));",
        "let db = Database(\"db\"); wait(db); print(db.outputs().size); print(wait([db]));",
        "let db = Database(\"db\", #{ fail: \"no more databases\" }); try { print(db.id) } catch (e) { print(`${e.message} | ${e.code} | ${e.kind} | ${e.fqn} | ${e.retryable}`); } print(\"on\");",
        "let db = Database(\"db\", #{ fail: \"no more databases\" }); fn site(d) { d.id } print(site(db));",
        "let db = Database(\"db\", #{ fail: \"no more databases\" }); Worker(\"api\", #{ bindings: #{ DB: db } }); print(\"end\");",
        "alchemy.run(\"a\", || { Bucket(\"x\"); alchemy.run(\"b\", |s| { s.Bucket(\"y\"); print(s); s.run(\"c\", || Bucket(\"z\")) }) }); app.Bucket(\"top\"); print(app.stage); print(app.name); print(app.phase); print(alchemy.arguments); print(app.hasResource(\"top\")); app.registerResource(\"mine\"); print(app.has_resource(\"mine\")); app.finalize(); app.finalize(#{ destroyStrategy: \"parallel\" });",
        "alchemy.run(\"a\", #{ onFailure: \"cleanup\" }, || { let b = Bucket(\"x\"); b.id; throw \"stop\"; });",
        "let s = app.run(\"a\", |app| app.secret(\"abcdef\")); print(s); print(s == \"abcdef\"); print(`x${s}`); print(switch s { \"abcdef\" => 1, _ => 2 });",
        "app.run(\"a\", || app.secret(\"abcdef\"));",
        "fn mk() { Bucket(\"from-fn\") } alchemy.run(\"x\", mk); run(\"y\", Fn(\"mk\"));",
        "alchemy.run(\"x\", |a, b| 1);",
        "test(\"t1\", || { let b = Bucket(\"b\"); print(b.fqn); b.id }); print(app.stage);",
        "test(\"t1\", || { let b = Bucket(\"b\"); b.id; throw \"assertion\" });",
        "print(env(\"HOME_X\", \"d\")); env(\"NOPE\");",
        "alchemy.env.NOPE",
        "secret(\"\")",
        "secret(())",
        "let x = secret(\"topsecret1\"); print(json::stringify(#{ a: x }))",
    ] {
        let stage = Stage::new();
        println!("=== {text}\n{}", stage.up(text).text());
        println!("calls {:#?}\n", stage.take_calls());
    }
    let stage = Stage::new();
    println!("{}", stage.run("Bucket(\"x\")", Phase::Up).text());
    let stage = Stage::new();
    println!("{}", stage.up("Bucket(\"x\"); Bucket(\"y\")").text());
    println!(
        "{}",
        stage
            .run(
                "let app = alchemy(\"my-app\"); print(Bucket(\"x\").id);",
                Phase::Read
            )
            .text()
    );
    println!(
        "{}",
        stage
            .plan("Bucket(\"x\", #{ size: 4 }); print(Bucket(\"y\").id)")
            .text()
    );
    println!(
        "{}",
        stage
            .run(
                "let app = alchemy(\"my-app\"); print(1); Bucket(\"x\"); print(2)",
                Phase::Destroy
            )
            .text()
    );
    println!("{:?}", stage.take_calls());
}
