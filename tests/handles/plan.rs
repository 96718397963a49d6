//! Handles in a plan: what only a provider will know survives being passed on, and is never answered falsely.
//!
//! Every case states what the user sees: the lines that the script prints, and the place that a decision is refused at.

use snapbox::{IntoData, str};

use crate::errors::shop;

/// What the user sees of a plan for each of these, behind `let db = Database("main");` on line 2: printed lines, `!` and the
/// value and place of a decision that is refused, `?` and a resource that may come otherwise.
fn planned(cases: &[&str]) -> String {
    let mut out = Vec::new();
    for case in cases {
        out.push((*case).to_owned());
        out.extend(seen(case).into_iter().map(|line| format!("    {line}")));
    }
    out.join("\n")
}

fn seen(case: &str) -> Vec<String> {
    let project = shop(&format!("let db = Database(\"main\");\n{case}"));
    let output = project.alch(["plan", "--json"]);
    let mut out = Vec::new();
    for message in output.messages() {
        match message["type"].as_str() {
            Some("print" | "log") => {
                let text = message["text"].as_str().or(message["message"].as_str());
                out.push(text.unwrap().to_owned());
            }
            Some("diagnostic") => {
                let said = message["message"].as_str().unwrap();
                let value = said.strip_prefix("cannot decide on ").and_then(|rest| {
                    rest.strip_suffix(" in a plan: only the provider will know it")
                });
                let label = &message["labels"][0];
                out.push(format!(
                    "! {} at {}:{}",
                    value.unwrap_or(said),
                    label["line"],
                    label["column"],
                ));
            }
            Some("planned_change") if message["conditional"] == true => {
                out.push(format!("? {}", message["fqn"].as_str().unwrap()));
            }
            _ => {}
        }
    }
    let written = project.path(".alchemy/shop").exists();
    assert!(!written, "a plan wrote state");
    if out.is_empty() {
        out.push("(nothing)".to_owned());
    }
    out
}

#[track_caller]
fn check(cases: &[&str], expected: impl IntoData) {
    snapbox::assert_data_eq!(planned(cases), expected.into_data());
}

#[test]
fn what_needs_no_provider_is_known() {
    check(
        &[
            "print(db.name); print(db.fqn); print(db.kind); print(db.stage); print(db);",
            "print(db.name == \"main-dev\");",
            "print([db, db.id].len());",
            "print(#{ id: db.id }.keys());",
            "print(\"id\" in #{ id: db.id });",
            "print([db.name, db.id].contains(\"main-dev\"));",
            "print(true || db.id);",
            "print(db == db);",
            "print(db.id in []);",
        ],
        str![[r#"
print(db.name); print(db.fqn); print(db.kind); print(db.stage); print(db);
    main-dev
    shop/dev/main
    cloudflare::D1Database
    dev
    shop/dev/main
print(db.name == "main-dev");
    true
print([db, db.id].len());
    2
print(#{ id: db.id }.keys());
    ["id"]
print("id" in #{ id: db.id });
    true
print([db.name, db.id].contains("main-dev"));
    true
print(true || db.id);
    true
print(db == db);
    true
print(db.id in []);
    false
"#]],
    );
}

#[test]
fn unknown_values_are_passed_on() {
    check(
        &[
            "print(db.id);",
            "print(`<${db.id}>`);",
            "print(\"a\" + db.id + \"b\");",
            "let t = \"a\"; t += db.id; print(t);",
            "print([db.id, #{ deep: [db.id] }]);",
            "print(db.id ?? \"none\");",
            "print(db.id.to_string()); print(to_debug(db.id)); print([db.id].to_string());",
            "print(`${`${db.id}`}-${db.id.to_string()}`);",
            "print([db].map(|d| d.id));",
            "print([db.id, \"b\"].map(|id| `<${id}>`));",
            "print([db.id, \"b\"].reduce(|all, id| all + id, \"\"));",
            "fn id_of(d) { d.id } print(id_of(db));",
            "print(run(\"s\", || db.id));",
            "log(db.id);",
            "let m = #{}; m.id = db.id; print(m);",
        ],
        str![[r#"
print(db.id);
    (known after apply)
print(`<${db.id}>`);
    <(known after apply)>
print("a" + db.id + "b");
    a(known after apply)b
let t = "a"; t += db.id; print(t);
    a(known after apply)
print([db.id, #{ deep: [db.id] }]);
    [(known after apply), #{"deep": [(known after apply)]}]
print(db.id ?? "none");
    (known after apply)
print(db.id.to_string()); print(to_debug(db.id)); print([db.id].to_string());
    (known after apply)
    (known after apply)
    [(known after apply)]
print(`${`${db.id}`}-${db.id.to_string()}`);
    (known after apply)-(known after apply)
print([db].map(|d| d.id));
    [(known after apply)]
print([db.id, "b"].map(|id| `<${id}>`));
    [<(known after apply)>, "<b>"]
print([db.id, "b"].reduce(|all, id| all + id, ""));
    (known after apply)b
fn id_of(d) { d.id } print(id_of(db));
    (known after apply)
print(run("s", || db.id));
    (known after apply)
log(db.id);
    (known after apply)
let m = #{}; m.id = db.id; print(m);
    #{"id": (known after apply)}
"#]],
    );
}

#[test]
fn comparing_and_branching_is_refused() {
    check(
        &[
            "print(db.id == \"x\");",
            "print(\"x\" != db.id);",
            "print(db.id == db.id);",
            "print(db.id == ());",
            "print(db.id < \"x\");",
            "print([db.id] == [\"x\"]);",
            "print(#{ a: db.id } == #{ a: \"x\" });",
            "print(`a${db.id}` == \"ax\");",
            "print(db.id.to_string() == \"x\");",
            "print([db.id].to_string() == \"x\");",
            "print(type_of(db.id) == \"string\");",
            "if db.id { print(1) } else { print(2) }",
            "if !db.id { print(1) } else { print(2) }",
            "if db.id && true { print(1) } else { print(2) }",
            "if false || db.id { print(1) } else { print(2) }",
            "if db.id == \"x\" { print(1) } else { print(2) }",
            "let x = if db.id == \"x\" { 1 } else { 2 }; print(x);",
            "while db.id != \"x\" { print(1) }",
            "do { print(1) } until db.id == \"x\";",
            "for c in db.id { print(c) }",
            "for n in 0..db.id { print(n) }",
            "print(switch db.id { \"x\" => 1, _ => 2 });",
            "print(switch [db.id] { [\"x\"] => 1, _ => 2 });",
            "print(switch `a${db.id}` { \"ax\" => 1, _ => 2 });",
            "print(switch db.id.to_string() { \"x\" => 1, _ => 2 });",
        ],
        str![[r#"
print(db.id == "x");
    ! `main.id` at 3:13
print("x" != db.id);
    ! `main.id` at 3:11
print(db.id == db.id);
    ! `main.id` at 3:13
print(db.id == ());
    ! `main.id` at 3:13
print(db.id < "x");
    ! `main.id` at 3:13
print([db.id] == ["x"]);
    ! `main.id` at 3:15
print(#{ a: db.id } == #{ a: "x" });
    ! `main.id` at 3:21
print(`a${db.id}` == "ax");
    ! `main.id` at 3:19
print(db.id.to_string() == "x");
    ! `main.id` at 3:25
print([db.id].to_string() == "x");
    ! `main.id` at 3:27
print(type_of(db.id) == "string");
    ! `main.id` at 3:7
if db.id { print(1) } else { print(2) }
    ! `main.id` at 3:7
if !db.id { print(1) } else { print(2) }
    ! `main.id` at 3:4
if db.id && true { print(1) } else { print(2) }
    ! `main.id` at 3:7
if false || db.id { print(1) } else { print(2) }
    ! `main.id` at 3:16
if db.id == "x" { print(1) } else { print(2) }
    ! `main.id` at 3:10
let x = if db.id == "x" { 1 } else { 2 }; print(x);
    ! `main.id` at 3:18
while db.id != "x" { print(1) }
    ! `main.id` at 3:13
do { print(1) } until db.id == "x";
    1
    ! `main.id` at 3:29
for c in db.id { print(c) }
    ! `main.id` at 3:13
for n in 0..db.id { print(n) }
    ! `main.id` at 3:11
print(switch db.id { "x" => 1, _ => 2 });
    ! `main.id` at 3:14
print(switch [db.id] { ["x"] => 1, _ => 2 });
    ! `main.id` at 3:14
print(switch `a${db.id}` { "ax" => 1, _ => 2 });
    ! `main.id` at 3:14
print(switch db.id.to_string() { "x" => 1, _ => 2 });
    ! `main.id` at 3:14
"#]],
    );
}

#[test]
fn looking_for_and_into_is_refused() {
    check(
        &[
            "print(db.id.contains(\"x\"));",
            "print(\"abc\".contains(db.id));",
            "print(\"x\" in db.id);",
            "print(db.id in \"abc\");",
            "print(db.id in [\"x\"]);",
            "print(\"x\" in [db.id]);",
            "print([db.id].contains(\"x\"));",
            "print(db.id in #{ x: 1 });",
            "print([\"x\"].index_of(db.id));",
            "print([1, 2].filter(|n| n == db.id));",
            "print([1, 2].filter(|n| db.id));",
            "print([1, 2].some(|n| db.id));",
            "print([1, 2].find(|n| n == db.id));",
            "let l = [2, 1]; l.sort(|a, b| db.id); print(l);",
            "let l = [db.id, \"a\"]; l.sort(); print(l);",
            "let l = [db.id, \"a\"]; l.dedup(); print(l);",
            "print([1, 2][db.id]);",
            "print(#{ a: 1 }[db.id]);",
            "print(#{ a: 1 }[`${db.id}`]);",
            "let m = #{}; m[db.id] = 1; print(m);",
            "print(\"abc\"[db.id]);",
        ],
        str![[r#"
print(db.id.contains("x"));
    ! `main.id` at 3:13
print("abc".contains(db.id));
    ! `main.id` at 3:13
print("x" in db.id);
    ! `main.id` at 3:11
print(db.id in "abc");
    ! `main.id` at 3:13
print(db.id in ["x"]);
    ! `main.id` at 3:13
print("x" in [db.id]);
    ! `main.id` at 3:11
print([db.id].contains("x"));
    ! `main.id` at 3:15
print(db.id in #{ x: 1 });
    ! `main.id` at 3:13
print(["x"].index_of(db.id));
    ! `main.id` at 3:13
print([1, 2].filter(|n| n == db.id));
    ! `main.id` at 3:27
print([1, 2].filter(|n| db.id));
    ! `main.id` at 3:14
print([1, 2].some(|n| db.id));
    ! `main.id` at 3:14
print([1, 2].find(|n| n == db.id));
    ! `main.id` at 3:25
let l = [2, 1]; l.sort(|a, b| db.id); print(l);
    ! `main.id` at 3:19
let l = [db.id, "a"]; l.sort(); print(l);
    ! `main.id` at 3:25
let l = [db.id, "a"]; l.dedup(); print(l);
    ! `main.id` at 3:25
print([1, 2][db.id]);
    ! `main.id` at 3:14
print(#{ a: 1 }[db.id]);
    ! `main.id` at 3:17
print(#{ a: 1 }[`${db.id}`]);
    ! `main.id` at 3:17
let m = #{}; m[db.id] = 1; print(m);
    ! `main.id` at 3:16
print("abc"[db.id]);
    ! `main.id` at 3:13
"#]],
    );
}

#[test]
fn computing_is_refused() {
    check(
        &[
            "print(db.id + 1);",
            "print(1 - db.id);",
            "print(-db.id);",
            "let n = 1; n += db.id; print(n);",
            "let n = db.id; n += 1; print(n);",
            "print(max(db.id, 3));",
            "print(db.id.to_upper());",
            "print(db.id.len());",
            "print(`a${db.id}`.len());",
            "print(\"a,b\".split(db.id));",
            "let s = \"abc\"; s.replace(\"a\", db.id); print(s);",
            "let s = \"abc\"; s.append(db.id); print(s);",
            "let s = \"abc\"; s.append(`${db.id}`); print(s);",
            "print(parse_int(db.id));",
            "print(sha256(db.id));",
            "print(sha256(db.id.to_string()));",
            "print(json::stringify([db.id]));",
            "print(secret(db.id));",
            "print(env(db.id));",
            "write_file(\"x.txt\", `${db.id}`);",
            "print((|x| x * 2).call(db.id));",
        ],
        str![[r#"
print(db.id + 1);
    ! `main.id` at 3:13
print(1 - db.id);
    ! `main.id` at 3:9
print(-db.id);
    ! `main.id` at 3:7
let n = 1; n += db.id; print(n);
    ! `main.id` at 3:14
let n = db.id; n += 1; print(n);
    ! `main.id` at 3:18
print(max(db.id, 3));
    ! `main.id` at 3:7
print(db.id.to_upper());
    ! `main.id` at 3:13
print(db.id.len());
    ! `main.id` at 3:13
print(`a${db.id}`.len());
    ! `main.id` at 3:19
print("a,b".split(db.id));
    ! `main.id` at 3:13
let s = "abc"; s.replace("a", db.id); print(s);
    ! `main.id` at 3:18
let s = "abc"; s.append(db.id); print(s);
    ! `main.id` at 3:18
let s = "abc"; s.append(`${db.id}`); print(s);
    ! `main.id` at 3:18
print(parse_int(db.id));
    ! `main.id` at 3:7
print(sha256(db.id));
    ! `main.id` at 3:7
print(sha256(db.id.to_string()));
    ! `main.id` at 3:7
print(json::stringify([db.id]));
    ! `main.id` at 3:13
print(secret(db.id));
    ! `main.id` at 3:7
print(env(db.id));
    ! `main.id` at 3:7
write_file("x.txt", `${db.id}`);
    ! `main.id` at 3:1
print((|x| x * 2).call(db.id));
    ! `main.id` at 3:14
"#]],
    );
}

#[test]
fn what_follows_a_decision_is_conditional() {
    check(
        &[
            "KV(\"before\"); if db.id == \"x\" { KV(\"inside\"); } KV(\"behind\");",
            "run(\"s\", || { KV(\"before\"); if db.id == \"x\" { KV(\"inside\"); } KV(\"behind\"); }); KV(\"after\");",
            "let got = run(\"s\", || if db.id == \"x\" { 1 } else { 2 }); print(got); print(got == 1);",
            "try { if db.id == \"x\" { KV(\"inside\"); } } catch (e) { print(e.kind); } KV(\"after\");",
            "let cache = KV(\"cache\"); let id = db.id; print(cache.id); if id { KV(\"inside\"); }",
            "throw `no ${db.id}`;",
        ],
        str![[r#"
KV("before"); if db.id == "x" { KV("inside"); } KV("behind");
    ! `main.id` at 3:24
run("s", || { KV("before"); if db.id == "x" { KV("inside"); } KV("behind"); }); KV("after");
    ! `main.id` at 3:38
    ? shop/dev/after
let got = run("s", || if db.id == "x" { 1 } else { 2 }); print(got); print(got == 1);
    ! `main.id` at 3:32
    (known after apply)
    ! `main.id` at 3:80
try { if db.id == "x" { KV("inside"); } } catch (e) { print(e.kind); } KV("after");
    unknown
    ? shop/dev/after
    ! `main.id` at 3:16
let cache = KV("cache"); let id = db.id; print(cache.id); if id { KV("inside"); }
    (known after apply)
    ! an output that is not known yet at 3:62
throw `no ${db.id}`;
    ! no (known after apply) at 3:1
"#]],
    );
}
