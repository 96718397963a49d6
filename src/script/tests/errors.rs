//! Errors as the user sees them: at the right line and column, with a next step.

use snapbox::{assert_data_eq, data::Inline, str};

use super::super::testing::Stage;

/// What is said of `text`, which follows the line `let app = alchemy("my-app");`.
#[track_caller]
fn says(text: &str, expected: Inline) {
    assert_data_eq!(Stage::new().up(text).text(), expected);
}

#[test]
fn syntax() {
    says(
        r##"let x = ;"##,
        str![[r#"
E0101: unexpected ';'
  --> 2:9 `;`
"#]],
    );
    says(
        r##"let a = 1
let b = 2;"##,
        str![[r#"
E0101: `;` is missing at the end of this statement
  --> 2:10 ``
  help: write `;` here, behind the end of the statement
"#]],
    );
    says(
        r##"Database("db", #{ size: 1 })
print(1);"##,
        str![[r#"
E0101: `;` is missing at the end of this statement
  --> 2:29 ``
  help: write `;` here, behind the end of the statement
"#]],
    );
    says(
        r##"let f = await 3;"##,
        str![[r#"
E0101: `await` is a reserved word
  --> 2:9 `await 3;`
  help: leave it out: reading an attribute waits for its resource by itself
"#]],
    );
    says(
        r##"let m = #{ default: 1 };"##,
        str![[r#"
E0101: `default` is a reserved word
  --> 2:12 `default: 1 }`
  help: as a key write `"default"` in quotes; else choose another name
"#]],
    );
    says(
        r##"let f = x => x;"##,
        str![[r#"
E0101: `=>` does not belong here
  --> 2:11 `=> x;`
  help: closures are written `|x| ..`
"#]],
    );
    says(
        r##"let x = true ? 1 : 2;"##,
        str![[r#"
E0101: there is no operator `?`
  --> 2:14 `? 1 : 2;`
  help: write `if condition { a } else { b }`
"#]],
    );
    says(
        r##"print("abc);"##,
        str![[r#"
E0101: open string is not terminated
  --> 2:7 `"abc);`
  help: close it with `"`; text over several lines goes in back-ticks
"#]],
    );
    says(
        r##"run("x", || {"##,
        str![[r#"
E0101: this bracket is never closed: `}` is missing
  --> 2:13 `{`
  help: every bracket is closed by one of its own sort
"#]],
    );
    says(
        r##"eval("1")"##,
        str![[r#"
E0101: `eval` is off: text is never run as code
  --> 2:1 `eval("1")`
  help: write the code out, or put it into a file and `import` it
"#]],
    );
    says(
        r##"const k = 1; k = 2;"##,
        str![[r#"
E0101: cannot assign to constant k
  --> 2:14 `k = 2;`
"#]],
    );
    says(
        r##"`a ${1"##,
        str![[r#"
E0101: this bracket is never closed: `}` is missing
  --> 2:5 `{1`
  help: every bracket is closed by one of its own sort
"#]],
    );
    says(
        r##"for i in 5 { }"##,
        str![[r#"
E0101: expecting an iterable value, not a number
  --> 2:10 `5 { }`
"#]],
    );
    says(
        r##"let x = 3 let"##,
        str![[r#"
E0101: `;` is missing at the end of this statement
  --> 2:10 ` let`
  help: write `;` here, behind the end of the statement
"#]],
    );
}

#[test]
fn names_and_arity_are_checked_before_anything_runs() {
    says(
        r##"Databse("db");"##,
        str![[r#"
E0102: no function `Databse`
  --> 2:1 `Databse("db"`
  help: did you mean `Database`?
"#]],
    );
    says(
        r##"let db = Database("db"); print(dbb.id);"##,
        str![[r#"
E0103: no variable `dbb`
  --> 2:32 `dbb.id);`
  help: did you mean `db`?
"#]],
    );
    says(
        r##"Database();"##,
        str![[r#"
E0104: `Database` takes (id) or (id, props); you passed 0 arguments
  --> 2:1 `Database();`
  help: write `Database("my-id", #{ .. })`
"#]],
    );
    says(
        r##"Database("db", 1);"##,
        str![[r#"
E0104: `Database` takes (id) or (id, props); you passed (string, int)
  --> 2:1 `Database("db`
  help: write `Database("my-id", #{ .. })`
"#]],
    );
    says(
        r##"Database(1);"##,
        str![[r#"
E0104: `Database` takes (id) or (id, props); you passed (int)
  --> 2:1 `Database(1);`
  help: write `Database("my-id", #{ .. })`
"#]],
    );
    says(
        r##"let f = |x| x; f(2);"##,
        str![[r#"
E0102: `f` is a variable, not a function
  --> 2:16 `f(2);`
  help: call the closure in it with `f.call(..)`
"#]],
    );
    says(
        r##"import "./nope" as n;"##,
        str![[r#"
E0109: no module `./nope`
  --> 2:8 `"./nope" as`
  note: looked for `[PROJECT]/nope.rhai`
  help: `./x` and `../x` are relative to the importing file, `x` to the project, `alch/x` is built in
"#]],
    );
    says(
        r##"import "alch/block" as n;"##,
        str![[r#"
E0109: no standard module `alch/block`
  --> 2:8 `"alch/block"`
  help: did you mean `alch/blocks`?
"#]],
    );
    says(
        r##"blocks::web_app("x");"##,
        str![[r#"
E0103: no module `blocks`
  --> 2:1 `blocks::web_`
  help: import it first: `import "alch/blocks" as blocks;`
"#]],
    );
    says(
        r##"fn f(x) { y + x } f(1);"##,
        str![[r#"
E0103: no variable `y`
  --> 2:11 `y + x } f(1)`
  help: declare it first: `let y = ..;`
"#]],
    );
    says(
        r##"let y = 1; fn f(x) { y + x } f(1);"##,
        str![[r#"
E0103: no variable `y`
  --> 2:22 `y + x } f(1)`
  help: functions do not see variables of the script: pass it in, or declare `const y` and write `global::y`
"#]],
    );
    says(
        r##"fn f(x) { x } f(1, 2);"##,
        str![[r#"
E0104: `f` takes 1 argument; you passed 2
  --> 2:15 `f(1, 2);`
  help: it is defined as `fn f(x)`
"#]],
    );
    says(
        r##"fn f(x) { f(x) } f(1);"##,
        str![[r#"
E0108: functions call each other too deeply
  --> 2:18 `f(1);`
  help: check what ends the recursion, or use a loop
"#]],
    );
    says(
        r##"let alchemy = 3;"##,
        str![[r#"
E0103: `alchemy` cannot be the name of a variable
  --> 2:5 `alchemy = 3;`
  help: choose another name; `alchemy` is always the application
"#]],
    );
    says(
        r##"fn outer() { let q = || zz; q.call() } outer();"##,
        str![[r#"
E0103: no variable `zz`
  --> 2:25 `zz; q.call()`
  help: declare it first: `let zz = ..;`
"#]],
    );
    says(
        r##"run("a", || { run("b", || { Databse("x") }) });"##,
        str![[r#"
E0102: no function `Databse`
  --> 2:29 `Databse("x")`
  help: did you mean `Database`?
"#]],
    );
    says(
        r##"alchemy.rn("x", || 1);"##,
        str![[r#"
E0102: no function `rn`
  --> 2:9 `rn("x", || 1`
  help: did you mean `range`?
"#]],
    );
    says(
        r##"let x = switch 1 { 1 => Databse("x"), _ => `${nope}` };"##,
        str![[r#"
E0102: no function `Databse`
  --> 2:25 `Databse("x")`
  help: did you mean `Database`?
"#]],
    );
}

#[test]
fn props() {
    says(
        r##"Database("db", #{ migratons: "x" });"##,
        str![[r#"
E0201: unknown prop `migratons` of `Database`
  --> 2:19 `migratons: "`
  help: did you mean `migrations`?
"#]],
    );
    says(
        r##"Worker("w", #{ placement: #{ mod: "smart" } });"##,
        str![[r#"
E0201: unknown prop `mod` of `Worker.placement`
  --> 2:30 `mod: "smart"`
  help: did you mean `mode`?
"#]],
    );
    says(
        r##"Worker("w", #{ placement: #{ mode: "smrt" } });"##,
        str![[r#"
E0202: `placement.mode` of cloudflare::Worker: "smrt" is not a known value
  --> 2:36 `"smrt" } });`
  help: did you mean "smart"?
"#]],
    );
    says(
        r##"Database("db", #{ size: "big" });"##,
        str![[r#"
E0202: `size` of `Database`: expected integer, found string
  --> 2:25 `"big" });`
  help: write the number without quotes
"#]],
    );
    says(
        r##"let s = "big"; Database("db", #{ public: true, size: s });"##,
        str![[r#"
E0101: `public` is a reserved word
  --> 2:34 `public: true`
  help: as a key write `"public"` in quotes; else choose another name
"#]],
    );
    says(
        r##"let p = #{ size: 99 }; Database("db", p);"##,
        str![[r#"
E0202: `size` of cloudflare::D1Database: 99 is out of range: 0 to 10
  --> 2:24 `Database("db`
"#]],
    );
    says(
        r##"Database("db", #{ size: 99, zzz: 1 });"##,
        str![[r#"
E0201: unknown prop `zzz` of `Database`
  --> 2:29 `zzz: 1 });`
  help: it takes `name`, `migrations`, `size`, `public`, `bindings`, `tags`, `text`, `placement`, `fail`, `naming`, `adopt`, `protect`, `delete`
"#]],
    );
    says(
        r##"let d = Database("db"); Database("e", #{ text: || 1 });"##,
        str![[r#"
E0202: `text` of cloudflare::D1Database: a closure cannot be stored
  --> 2:48 `|| 1 });`
  help: pass plain values, handles or secrets
"#]],
    );
    says(
        r##"Database("e", #{ adopt: 1 });"##,
        str![[r#"
E0202: `adopt` of cloudflare::D1Database: expected true or false, found integer
  --> 2:25 `1 });`
"#]],
    );
}

#[test]
fn ids() {
    says(
        r##"Database("db");
Database("db");"##,
        str![[r#"
E0205: `db` is declared twice
  --> 3:1 `Database("db` second time
      2:1 `Database("db` first time
  help: give one of them another id, or put them into scopes of their own
"#]],
    );
    says(
        r##"Database("logs"); "##,
        str![[r#"
E0206: id `logs` is reserved (reserved: `resources`, `backups`, `deployments`, `logs`, `.` and `..`)
  --> 2:1 `Database("lo`
  help: choose another id; it becomes part of names and of folders in state
"#]],
    );
    says(
        r##"Database("a/b"); "##,
        str![[r#"
E0206: id `a/b` holds '/', which is not allowed (`/`, `/`, `:`, `*` and control characters are refused)
  --> 2:1 `Database("a/`
  help: choose another id; it becomes part of names and of folders in state
"#]],
    );
    says(
        r##"Database(""); "##,
        str![[r#"
E0206: id is empty
  --> 2:1 `Database("")`
  help: choose another id; it becomes part of names and of folders in state
"#]],
    );
}

#[test]
fn permissions_and_files() {
    says(
        r##"file("nope.txt");"##,
        str![[r#"
E0117: cannot read `nope.txt`: No such file or directory (os error 2)
  --> 2:1 `file("nope.t`
  help: paths are relative to the project folder
"#]],
    );
    says(
        r##"exec("ls");"##,
        str![[r#"
E0116: no permission to start `ls`
  --> 2:1 `exec("ls");`
  help: allow it with `--allow-exec=ls` if you trust the script
"#]],
    );
    says(
        r##"fetch("https://example.com");"##,
        str![[r#"
E0116: no permission to speak to `example.com`
  --> 2:1 `fetch("https`
  help: allow it with `--allow-net=example.com` if you trust the script
"#]],
    );
    says(
        r##"file("/etc/passwd");"##,
        str![[r#"
E0116: no permission to read `/etc/passwd`, which is outside the project folder
  --> 2:1 `file("/etc/p`
  help: allow it with `--allow-read=/etc/passwd` if you trust the script
"#]],
    );
}

#[test]
fn at_run_time() {
    says(
        r##"alchemy("other");"##,
        str![[r#"
E0105: `alchemy(..)` was called for `my-app` already
  --> 2:1 `alchemy("oth`
  help: one script deploys one application; write a second script for the other one
"#]],
    );
    says(
        r##"alchemy("x", #{ stge: 1 });"##,
        str![[r#"
E0201: unknown option `stge` of `alchemy`
  --> 2:17 `stge: 1 });`
  help: did you mean `stage`?
"#]],
    );
    says(
        r##"app.finalize(#{ destroyStrategy: "x" });"##,
        str![[r#"
E0202: "x" is no value for option `destroyStrategy` of `finalize`
  --> 2:34 `"x" });`
  help: one of "sequential", "parallel", "batched"
"#]],
    );
    says(
        r##"throw #{ message: "own", code: 3 };"##,
        str![[r#"
E0106: own
  --> 2:1 `throw #{ mes`
"#]],
    );
    says(
        r##"let a = [1]; a[3]"##,
        str![[r#"
E0105: the array has 1 element; there is no index 3
  --> 2:16 `3]`
  help: indices begin at 0; `.len()` tells how many there are
"#]],
    );
    says(
        r##"1 + #{}"##,
        str![[r#"
E0104: `+` cannot join int and map
  --> 2:3 `+ #{}`
"#]],
    );
    says(
        r##""a".foo()"##,
        str![[r#"
E0102: no function `foo`
  --> 2:5 `foo()`
  help: did you mean `floor`?
"#]],
    );
    says(
        r##"let x = 5; x.y"##,
        str![[r#"
E0105: there is no property `y` on int
  --> 2:14 `y`
"#]],
    );
    says(
        r##"json("{")"##,
        str![[r#"
E0105: the text is not valid JSON: EOF while parsing an object at line 1 column 1
  --> 2:1 `json("{")`
"#]],
    );
    says(
        r##"let c = 1; c = c / 0;"##,
        str![[r#"
E0105: division by zero: 1 / 0
  --> 2:18 `/ 0;`
"#]],
    );
    says(
        r##"run("x", 1);"##,
        str![[r#"
E0104: `run` takes (scope, string, closure) or (scope, string, map, closure) or (string, closure) or (string, map, closure); you passed (string, int)
  --> 2:1 `run("x", 1);`
"#]],
    );
    says(
        r##"sleep("x")"##,
        str![[r#"
E0104: `sleep` takes (float) or (int); you passed (string)
  --> 2:1 `sleep("x")`
"#]],
    );
}

#[test]
fn the_static_check_finds_everything_at_once() {
    let text = "let app = alchemy(\"my-app\");\nDatabse(\"a\");\nBucket(\"b\", #{ sizee: 1, naem: 2 });\nprint(nope);";
    assert_data_eq!(
        Stage::new().check(text),
        str![[r#"
E0102: no function `Databse`
  --> 2:1 `Databse("a")`
  help: did you mean `Database`?
E0201: unknown prop `sizee` of `Bucket`
  --> 3:16 `sizee: 1, na`
  help: did you mean `size`?
E0201: unknown prop `naem` of `Bucket`
  --> 3:26 `naem: 2 });`
  help: did you mean `name`?
E0103: no variable `nope`
  --> 4:7 `nope);`
  help: declare it first: `let nope = ..;`
"#]]
    );
}
