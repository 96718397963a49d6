//! Unknown values in a plan: what may be done with them, and what the plan says when the script looks into one.

use snapbox::{assert_data_eq, data::Inline, str};

use super::super::testing::Stage;

/// What a plan of `text` says, on a stage that has nothing yet.
#[track_caller]
fn plans(text: &str, expected: Inline) {
    assert_data_eq!(Stage::new().plan(text).text(), expected);
}

#[test]
fn unknown_values_are_passed_on_and_printed() {
    plans(
        r##"let db = Database("db"); print(`id is ${db.id}`); print(db.id); print(db.name);"##,
        str![[r#"
+ db
id is (known after apply)
(known after apply)
db-dev
"#]],
    );
    plans(
        r##"let db = Database("db"); let x = db.id ?? "none"; print(x);"##,
        str![[r#"
+ db
(known after apply)
"#]],
    );
    plans(
        r##"let db = Database("db"); let n = "a"; n += db.id; print(n);"##,
        str![[r#"
+ db
a(known after apply)
"#]],
    );
    plans(
        r##"let db = Database("db"); print("a" + db.id + "b");"##,
        str![[r#"
+ db
a(known after apply)b
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.tags[0]); print(db.meta.region);"##,
        str![[r#"
+ db
(known after apply)
(known after apply)
"#]],
    );
    plans(
        r##"let db = Database("db"); print([db.id, #{ a: db.id }]);"##,
        str![[r#"
+ db
[(known after apply), #{"a": (known after apply)}]
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id.to_string()); print(type_of(db.id)); print(to_debug(db.id)); print(db.to_string());"##,
        str![[r#"
+ db
(known after apply)
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:58 `type_of(db.i` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
}

#[test]
fn branching_on_an_unknown_value_is_said() {
    plans(
        r##"let db = Database("db"); if db.id == "x" { print("yes") }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:35 `== "x" { pri` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); if db.flag { print(1) }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.flag` in a plan: only the provider will know it
  --> 2:32 `flag { print` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); if db.flag && true { print(1) }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.flag` in a plan: only the provider will know it
  --> 2:32 `flag && true` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); if !db.flag { print(1) }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.flag` in a plan: only the provider will know it
  --> 2:29 `!db.flag { p` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); let x = switch db.id { "a" => 1, _ => 2 }; print(x);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:41 `db.id { "a"` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); for t in db.tags { print(t) }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.tags` in a plan: only the provider will know it
  --> 2:38 `tags { print` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); while db.flag { print(1) }"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.flag` in a plan: only the provider will know it
  --> 2:35 `flag { print` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
}

#[test]
fn computing_with_an_unknown_value_is_said() {
    plans(
        r##"let db = Database("db"); print([db.id].contains("x"));"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:40 `contains("x"` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(["x"].contains(db.id));"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `contains(db.` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id in ["x"]);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `in ["x"]);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print("x" in db.tags);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.tags` in a plan: only the provider will know it
  --> 2:36 `in db.tags);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id in "xyz");"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `in "xyz");` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id in #{ a: 1 });"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `in #{ a: 1 }` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print("x" in db.id);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:36 `in db.id);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.size + 1);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:40 `+ 1);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(1 + db.size);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:34 `+ db.size);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); let n = 1; n += db.size; print(n);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:39 `+= db.size;` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id.to_upper());"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `to_upper());` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id.len());"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `len());` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(parse_int(db.size));"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:32 `parse_int(db` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); let t = "" + [db.id]; Bucket("b", #{ text: t }); print(t == "x");"##,
        str![[r#"
+ db
+ b
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:83 `== "x");` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(-db.size);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:32 `-db.size);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.id != "x");"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `!= "x");` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(db.size > 3);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.size` in a plan: only the provider will know it
  --> 2:40 `> 3);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print("x" == db.id);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:36 `== db.id);` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); print(json::stringify(#{ a: db.id }));"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:38 `stringify(#{` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); let s = secret(db.id);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:34 `secret(db.id` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); Bucket(`b-${db.id}`);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:26 `Bucket(`b-${` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); Bucket(db.id);"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:26 `Bucket(db.id` decided here
  note: the plan ends here; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
}

#[test]
fn only_the_scope_that_decides_is_left_out() {
    plans(
        r##"let db = Database("db"); alchemy.run("s", || { if db.id == "x" { Bucket("b") } Bucket("c") }); KV("after");"##,
        str![[r#"
+ db
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:57 `== "x" { Buc` decided here
  note: the rest of scope `s` is left out of the plan; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
+ after (conditional)
"#]],
    );
    plans(
        r##"let db = Database("db"); try { if db.id == "x" { print(1) } } catch { print("caught") } Bucket("b");"##,
        str![[r#"
+ db
caught
+ b (conditional)
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  --> 2:41 `== "x" { pri` decided here
  note: the script caught it; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
    plans(
        r##"let db = Database("db"); try { db.id.to_upper() } catch { print("caught") } Bucket("b");"##,
        str![[r#"
+ db
caught
+ b (conditional)
warning E0114: cannot decide on `db.id` in a plan: only the provider will know it
  note: the script caught it; what is declared behind it may come otherwise
  help: pass it on in props or text as it is; `alch run` waits for it and decides
"#]],
    );
}
