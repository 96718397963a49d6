//! Handles, scopes, secrets and environment in phase `up`.

use snapbox::{assert_data_eq, data::Inline, str};

use super::super::testing::Stage;
use crate::engine::Phase;

/// What a run of `text` prints, how it fails, and what was asked of the provider.
#[track_caller]
fn runs(text: &str, expected: Inline) {
    let stage = Stage::new();
    let mut lines = vec![stage.up(text).text()];
    lines.extend(stage.take_calls());
    assert_data_eq!(lines.join("\n"), expected);
}

#[test]
fn attributes_are_read_as_ordinary_values() {
    runs(
        r##"let db = Database("db"); print(db.id); print(`x ${db.id} ${db.size + 1} ${db.meta.region} ${db.tags[1]}`); if db.id == "id-of-db" { print("same") } print(switch db.id { "id-of-db" => 1, _ => 2 }); print(db.comment ?? "none"); print(db.database_id);"##,
        str![[r#"
id-of-db
x id-of-db 4 weur b
same
1
none
id-of-db
create db {}
"#]],
    );
    runs(
        r##"let db = Database("db"); print(db.name); print(db.fqn); print(db.kind); print(db.stage); print(db); print(db == db); print(db.token); print(`t=${db.token}`);"##,
        str![[r#"
db-dev
my-app/dev/db
cloudflare::D1Database
dev
my-app/dev/db
true
<secret>
<secret>
create db {}
"#]],
    );
    runs(
        r##"let db = Database("db"); let q = Queue("q"); Worker("api", #{ bindings: #{ DB: db, Q: q, ID: db.ref("id"), S: secret("s3cret-x") }, tags: [db, [db.ref("id")], `pre-${db.ref("id")}`] });"##,
        str![[r#"

create api {"bindings":{"DB":"${my-app/dev/db}","ID":"id-of-db","Q":"${my-app/dev/q}","S":"<secret>"},"tags":["${my-app/dev/db}",["id-of-db"],"pre-id-of-db"]}
create db {}
create q {}
"#]],
    );
    runs(
        r##"let db = Database("db"); print(db.ref("id") == "x");"##,
        str![[r#"
E0114: cannot decide on `db.id`: `ref` passes it on without knowing it
  --> 2:45 `== "x");`
  help: read `.id` of the resource to wait for it
create db {}
"#]],
    );
    runs(
        r##"let db = Database("db"); print(db.idd);"##,
        str![[r#"
E0207: cloudflare::D1Database has no attribute `idd`
  --> 2:35 `idd);`
  help: did you mean `id`?
create db {}
"#]],
    );
    runs(
        r##"let db = Database("db"); print(db.ref("idd"));"##,
        str![[r#"
E0207: cloudflare::D1Database has no attribute `idd`
  --> 2:35 `ref("idd"));`
  help: did you mean `id`?
create db {}
"#]],
    );
    runs(
        r##"let db = Database("db"); wait(db); print(db.outputs().size); print(wait([db]));"##,
        str![[r#"
3

create db {}
"#]],
    );
}

#[test]
fn a_failure_surfaces_where_the_handle_is_read() {
    runs(
        r##"let db = Database("db", #{ fail: "no more databases" }); try { print(db.id) } catch (e) { print(`${e.message} | ${e.code} | ${e.kind} | ${e.fqn} | ${e.retryable}`); } print("on");"##,
        str![[r#"
`db` (cloudflare::D1Database): create failed: no more databases [7502] | 7502 | refused | my-app/dev/db | false
on
create db {"fail":"no more databases"}
"#]],
    );
    runs(
        r##"let db = Database("db", #{ fail: "no more databases" }); fn site(d) { d.id } print(site(db));"##,
        str![[r#"
E0301: `db` (cloudflare::D1Database): create failed: no more databases [7502]
  --> 2:10 `Database("db` declared here
create db {"fail":"no more databases"}
"#]],
    );
    runs(
        r##"let db = Database("db", #{ fail: "no more databases" }); Worker("api", #{ bindings: #{ DB: db } }); print("end");"##,
        str![[r#"
end
E0301: `db` (cloudflare::D1Database): create failed: no more databases [7502]
  --> 2:10 `Database("db` declared here
create db {"fail":"no more databases"}
"#]],
    );
}

#[test]
fn scopes_nest_and_name_their_resources() {
    runs(
        r##"alchemy.run("a", || { Bucket("x"); alchemy.run("b", |s| { s.Bucket("y"); print(s); s.run("c", || Bucket("z")) }) }); app.Bucket("top"); print(app.stage); print(app.name); print(app.phase); print(alchemy.arguments); print(app.hasResource("top")); app.registerResource("mine"); print(app.has_resource("mine")); app.finalize(); app.finalize(#{ destroyStrategy: "parallel" });"##,
        str![[r#"
a/b
dev
my-app
up
["one"]
true
true
create a/b/c/z {}
create a/b/y {}
create a/x {}
create top {}
"#]],
    );
    runs(
        r##"alchemy.run("a", #{ onFailure: "cleanup" }, || { let b = Bucket("x"); b.id; throw "stop"; });"##,
        str![[r#"
E0106: stop
  --> 2:77 `throw "stop"`
      2:9 `run("a", #{` in this closure
create a/x {}
delete a/x {}
"#]],
    );
    runs(
        r##"fn mk() { Bucket("from-fn") } alchemy.run("x", mk); run("y", Fn("mk"));"##,
        str![[r#"
E0208: `y/from-fn` and `x/from-fn` would both be `from-fn-dev`
  --> 2:11 `Bucket("from`
      2:11 `Bucket("from` the other one
      2:53 `run("y", Fn(` in this call of `mk`
  help: give one of them another `name`
create x/from-fn {}
"#]],
    );
    runs(
        r##"alchemy.run("x", |a, b| 1);"##,
        str![[r#"
E0104: the closure takes another number of parameters than it is called with
  --> 2:9 `run("x", |a,`
  help: closures of scopes take the scope or nothing: `|scope| ..` or `|| ..`
"#]],
    );
}

#[test]
fn a_test_scope_is_destroyed_whatever_happens() {
    runs(
        r##"test("t1", || { let b = Bucket("b"); print(b.fqn); b.id }); print(app.stage);"##,
        str![[r#"
my-app/test:t1:dev/b
log: test `t1`: passed
dev
create b {}
delete b {}
"#]],
    );
    runs(
        r##"test("t1", || { let b = Bucket("b"); b.id; throw "assertion" });"##,
        str![[r#"
log: test `t1`: failed
E0106: assertion
  --> 2:44 `throw "asser`
      2:1 `test("t1", |` in this closure
create b {}
delete b {}
"#]],
    );
}

#[test]
fn secrets_and_environment() {
    runs(
        r##"let s = app.run("a", |app| app.secret("abcdef")); print(s); print(s == "abcdef"); print(`x${s}`); print(switch s { "abcdef" => 1, _ => 2 });"##,
        str![[r#"
<secret>
true
<secret>
E0105: a secret cannot be looked into
  --> 2:112 `s { "abcdef"`
  help: compare it with `==`, or decide on the value before wrapping it in `secret(..)`
"#]],
    );
    runs(
        r##"app.run("a", || app.secret("abcdef"));"##,
        str![[r#"
E0110: the closure uses the very object whose method it is given to
  --> 2:5 `run("a", ||`
  help: let the closure take the scope: `app.run("id", |app| ..)`
  help: or use the constant that every closure sees: `alchemy.run("id", || alchemy.secret(..))`
"#]],
    );
    runs(
        r##"print(env("HOME_X", "d")); env("NOPE");"##,
        str![[r#"
d
E0115: environment variable `NOPE` is not set
  --> 2:28 `env("NOPE");`
  help: set it, put it into a file for `--env-file`, or give a default: `env("NOPE", "..")`
"#]],
    );
    runs(
        r##"alchemy.env.NOPE"##,
        str![[r#"
E0115: environment variable `NOPE` is not set
  --> 2:13 `NOPE`
  help: set it, put it into a file for `--env-file`, or give a default: `env("NOPE", "..")`
"#]],
    );
    runs(
        r##"secret("")"##,
        str![[r#"
E0105: `secret(..)` was given nothing to keep secret
  --> 2:1 `secret("")`
  help: read the value with `env("NAME")`, which says when it is missing
"#]],
    );
    runs(
        r##"secret(())"##,
        str![[r#"
E0105: `secret(..)` was given nothing to keep secret
  --> 2:1 `secret(())`
  help: read the value with `env("NAME")`, which says when it is missing
"#]],
    );
    runs(
        r##"let x = secret("topsecret1"); print(json::stringify(#{ a: x }))"##,
        str![[r#"
E0104: a secret cannot be written into text
  --> 2:43 `stringify(#{`
  help: bind it to a Worker, or pass it as a prop that takes secrets
"#]],
    );
}

#[test]
fn a_resource_needs_an_application() {
    let stage = Stage::new();
    assert_data_eq!(
        stage.run("Bucket(\"x\")", Phase::Up).text(),
        str![[r#"
E0119: `Bucket` stands before `alchemy(..)`
  --> 1:1 `Bucket("x")`
  help: begin the script with `let app = alchemy("my-app");`
"#]]
    );
}

#[test]
fn phases_read_plan_and_destroy() {
    let stage = Stage::new();
    let script = "let app = alchemy(\"my-app\"); print(app.phase);";
    let run = |text: &str, phase| {
        let mut lines = vec![stage.run(&format!("{script}{text}"), phase).text()];
        lines.extend(stage.take_calls());
        lines.join("\n")
    };
    assert_data_eq!(
        run("Bucket(\"x\"); Bucket(\"y\");", Phase::Up),
        str![[r#"
up
create x {}
create y {}
"#]]
    );
    assert_data_eq!(run("Bucket(\"x\"); Bucket(\"y\");", Phase::Up), str!["up"]);
    assert_data_eq!(
        run("print(Bucket(\"x\").id)", Phase::Read),
        str![[r#"
read
id-of-x
"#]]
    );
    assert_data_eq!(
        run(
            "Bucket(\"x\", #{ size: 4 }); print(Bucket(\"y\").id)",
            Phase::Plan
        ),
        str![[r#"
up
~ x
id-of-y
"#]]
    );
    assert_data_eq!(
        run("Bucket(\"x\"); print(\"not reached\")", Phase::Destroy),
        str![[r#"
destroy
delete x {}
delete y {}
"#]]
    );
}

#[test]
fn a_failure_that_the_script_caught_counts_as_handled() {
    let stage = Stage::new();
    let ran = stage.up(
        r#"let db = Database("db", #{ fail: "no" }); try { wait(db) } catch (e) { print(e.kind) }"#,
    );
    let summary = ran.summary();
    assert_eq!((summary.failed.len(), summary.handled), (1, 1));
    assert_eq!(ran.lines, ["refused"]);
}

#[test]
fn ctrl_c_ends_a_script_that_waits_or_computes() {
    for text in [
        "sleep(600);",
        "loop {}",
        "try { sleep(600) } catch {} loop {}",
    ] {
        let mut stage = Stage::new();
        stage.limits.operations = 0;
        let cancel = stage.cancel.clone();
        let signal = std::thread::spawn(move || {
            std::thread::yield_now();
            cancel.soft.cancel();
        });
        let ran = stage.run(text, Phase::Up);
        signal.join().unwrap();
        assert_data_eq!(
            super::super::testing::render(&ran.result.error.unwrap())
                .lines()
                .next()
                .unwrap(),
            "E0305: the run was stopped"
        );
    }
}
