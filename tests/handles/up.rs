//! Handles in a run: reading waits for one resource, passing on waits for none.

use snapbox::{IntoData, str};

use crate::{errors::shop, support::Output};

/// What a script of the application `shop` prints, and nothing else.
#[track_caller]
fn prints(text: &str, expected: impl IntoData) {
    let output = shop(text).alch(["run", "--quiet", "--allow-exec"]);
    output.check(expected);
}

/// The kinds of events, in their order, with what they are about.
fn order(output: &Output) -> Vec<String> {
    output
        .messages()
        .iter()
        .filter_map(|message| {
            let kind = message["type"].as_str()?;
            let about = message["fqn"]
                .as_str()
                .or(message["message"].as_str())
                .or(message["text"].as_str())?;
            Some(format!("{kind} {about}"))
        })
        .collect()
}

#[test]
fn names_are_known_without_waiting() {
    // The command ends only when the script, which has read all names by then, lets it.
    let project = shop(
        "let slow = Exec(\"slow\", #{ command: \"n=0; while [ ! -e go ]; do n=$((n+1)); [ $n -gt 3000 ] && exit 9; sleep 0.01; done\" });
let db = Database(\"main\");
print(slow.name); print(slow.fqn); print(slow.kind); print(slow.stage); print(`${slow}`);
write_file(\"go\", \"\");
wait(slow);
print(slow.exitCode);",
    );
    project
        .alch(["run", "--quiet", "--allow-exec"])
        .check(str![[r#"
exit 0
-- stdout
exec
shop/dev/slow
std::Exec
dev
shop/dev/slow
0

"#]]);
}

#[test]
fn a_read_waits_for_its_own_resource_only() {
    let project = shop(
        "let slow = Exec(\"slow\", #{ command: \"n=0; while [ ! -e go ]; do n=$((n+1)); [ $n -gt 3000 ] && exit 9; sleep 0.01; done\" });
let db = Database(\"main\");
print(`read ${db.id.len() > 0}`);
write_file(\"go\", \"\");
print(`slow ended with ${slow.exitCode}`);",
    );
    let output = project.alch(["run", "--json", "--allow-exec"]).success();
    let order = order(&output);
    let at = |wanted: &str| {
        order
            .iter()
            .position(|event| event.contains(wanted))
            .unwrap_or_else(|| panic!("no `{wanted}` in {order:#?}"))
    };
    assert!(
        at("read true") < at("apply_complete shop/dev/slow"),
        "{order:#?}"
    );
    assert!(
        at("apply_complete shop/dev/slow") < at("slow ended with 0"),
        "{order:#?}"
    );
}

#[test]
fn attributes_behave_like_ordinary_values() {
    prints(
        "let db = Database(\"main\");
let id = db.id;
print(id == db.id);
print(if id != \"x\" { \"other\" } else { \"x\" });
print(switch db.name { \"main-dev\" => 1, _ => 2 });
print([db.name, \"b\"].contains(\"main-dev\"));
print(\"main\" in db.name);
print(db.name.to_upper() + db.name.len());
print(#{ \"main-dev\": 5 }[db.name]);
for c in [db.name] { print(`<${c}>`); }
print(type_of(db.name));
print(db.name.to_string() == \"main-dev\");",
        str![[r#"
exit 0
-- stdout
true
other
1
true
true
MAIN-DEV8
5
<main-dev>
string
true

"#]],
    );
}

#[test]
fn what_an_object_lacks_is_nothing() {
    prints(
        "let db = Database(\"main\");
print(db.jurisdiction ?? \"everywhere\");
print(db.jurisdiction == ());",
        str![[r#"
exit 0
-- stdout
everywhere
true

"#]],
    );
}

#[test]
fn handles_and_references_stand_anywhere_in_props() {
    let project = shop(
        "let db = Database(\"main\");
let files = Bucket(\"files\");
let storage = #{ files: files, ids: [db.ref(\"id\")] };
let note = File(\"note\", #{ path: \"note.txt\", content: `db ${db.ref(\"id\")} in ${storage.files.name}` });
Worker(\"api\", #{
    script: \"export default {}\",
    bindings: #{ DB: db, FILES: storage.files, ID: storage.ids[0], LIST: [db.ref(\"name\"), #{ deep: db.ref(\"id\") }] },
});
wait([note]);
print(file(\"note.txt\") == `db ${db.id} in files-dev`);",
    );
    project.alch(["run", "--quiet"]).check(str![[r#"
exit 0
-- stdout
true

"#]]);
    // The references are kept as such: nothing changes, and nothing is asked.
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
    let record = project.alch(["state", "show", "api"]).success().stdout;
    for reference in ["shop/dev/main", "shop/dev/files"] {
        assert!(record.contains(reference), "{record}");
    }
}

#[test]
fn handles_compare_by_their_resource() {
    prints(
        "let a = KV(\"a\"); let b = KV(\"b\"); let again = a;
print(a == again); print(a == b); print(a != b); print([a, b].contains(b));",
        str![[r#"
exit 0
-- stdout
true
false
true
true

"#]],
    );
}

#[test]
fn a_failure_is_caught_where_the_handle_is_read() {
    let project = shop(
        "let bad = Exec(\"bad\", #{ command: \"exit 3\" });
let good = KV(\"good\");
try { print(bad.exitCode); } catch (e) { print(`${e.kind} ${e.fqn} ${e.retryable}`); }
try { wait(bad); } catch (e) { print(\"wait: \" + e.kind); }
print(good.name);",
    );
    let output = project.alch(["run", "--allow-exec"]).success();
    assert_eq!(
        output.stdout,
        "refused shop/dev/bad false\nwait: refused\ngood-dev\n"
    );
    assert_eq!(
        output.last_line(),
        "1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], [CALLS])"
    );
}

#[test]
fn a_failure_that_nobody_reads_is_told_at_the_end() {
    let project = shop("let bad = Exec(\"bad\", #{ command: \"exit 3\" });\nprint(\"end\");");
    project.alch(["run", "--allow-exec"]).check(str![[r#"
exit 4
-- stdout
end
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  bad (std::Exec)
  failed    bad  `exit 3` ended with exit code 3
error[E0301]: `bad` (std::Exec): create failed: `exit 3` ended with exit code 3
 --> alchemy.run.rhai:2:11
  |
2 | let bad = Exec("bad", #{ command: "exit 3" });
  |           ^^^^ declared here
  |
  = help: run it by hand in `[ROOT]/project`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn values_cross_scopes() {
    prints(
        "let storage = alchemy.run(\"data\", || #{ db: Database(\"main\"), caches: [KV(\"a\"), KV(\"b\")] });
print(storage.db.fqn);
print(storage.caches.map(|cache| cache.name));",
        str![[r#"
exit 0
-- stdout
shop/dev/data/main
["a-dev", "b-dev"]

"#]],
    );
}
