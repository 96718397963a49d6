//! What a run would lose without consent: it is asked before anything is touched, and what is advised then leads on.

use snapbox::str;

use crate::support::Project;

const SCRIPT: &str = r#"
let app = alchemy("rooms");
let room = DurableObject("room", #{ className: "Room" });
let aa = Worker("aa", #{ script: "export class Room {}; export default {}", bindings: #{ ROOM: room } });
Worker("bb", #{
    script: "export default {}",
    bindings: #{ ROOM: DurableObjectNamespace("remote", #{ className: "Room", scriptName: aa }) },
});
app.finalize();
"#;

fn deployed() -> Project {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project
}

/// The script with the Worker under another id and, as it goes, other code.
fn renamed() -> String {
    SCRIPT
        .replace("\"aa\"", "\"zz\"")
        .replace("Room {}", "Room { alarm() {} }")
}

#[test]
fn a_rename_that_is_not_told_touches_nothing() {
    let project = deployed();
    let known = || {
        let listed = project.alch(["state", "ls"]).stdout;
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = known();
    project.file("alchemy.run.rhai", renamed());
    project.alch(["plan"]).check(str![[r#"
exit 0
-- stdout
  + zz (cloudflare::Worker)  zz-dev  # not in state
      + bindings.ROOM: "${room}"
      + compatibilityDate: "2026-07-01"
      + compatibilityFlags: []
      + crons: []
      + observability.enabled: true
      + script: "export class Room { alarm() {} }; export default {}"
      + url: true
  ~ remote (cloudflare::DurableObjectNamespace)  remote  # scriptName changed
      ~ scriptName: "${aa}" -> "${zz}"
  - aa (cloudflare::Worker)  aa-dev  # no longer declared; loses the Durable Object class `Room` with its data
Plan: 1 to create, 1 to update, 1 to delete, 2 unchanged
-- stderr
alch: app rooms, stage dev, phase plan, target local
looks like a rename: `aa` goes, `zz` of the same kind comes; to rename it, write `moved("aa", "zz");` before `zz` is declared

"#]]);
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    aa  deleting it would lose the Durable Object class `Room` with its data
  skipped   zz  because aa failed
  skipped   remote  because zz failed
  skipped   bb  because remote failed
error[E0308]: `aa` (cloudflare::Worker) would be deleted and lose the Durable Object class `Room` with its data
 = note: it was left as it is, and nothing was deleted
 = help: to rename it, write `moved("aa", "zz");` before `zz` is declared
 = help: to keep it as it is, declare it again; to lose it, run again with `--allow-data-loss`
still there:
  aa
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed, 3 skipped in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(known(), before);

    // The way out that is named leads on: one Worker, under its new id, with the objects of its class.
    project.file(
        "alchemy.run.rhai",
        renamed().replace("let aa", "moved(\"aa\", \"zz\");\nlet aa"),
    );
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
~ updating  zz (cloudflare::Worker)
  updated   zz  aa-dev  [TIME]
0 created, 1 updated, 0 deleted, 3 unchanged in [TIME] (critical path [TIME], 3 API calls)

"#]]);
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn after_a_refusal_the_old_script_runs_as_before() {
    let project = deployed();
    project.file("alchemy.run.rhai", renamed());
    project.alch(["run"]).code(4);
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
0 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
}

#[test]
fn nobody_waits_for_ever_for_what_is_not_made() {
    let project = deployed();
    let read = renamed().replace(
        "Worker(\"bb\"",
        "let queue = Queue(\"jobs\");\nprint(queue.id == \"\");\nprint(aa.url);\nWorker(\"bb\"",
    );
    project.file("alchemy.run.rhai", read);
    project.alch(["run"]).check(str![[r#"
exit 4
-- stdout
false
-- stderr
alch: app rooms, stage dev, phase up, target local
+ creating  jobs (cloudflare::Queue)
  created   jobs  jobs-dev  [TIME]
  failed    zz  it looks like `aa` under a new id, and without that one the Durable Object class `Room` with its data would be lost
error[E0308]: `zz` (cloudflare::Worker) looks like `aa` under a new id, and without `aa` the Durable Object class `Room` with its data would be lost
 --> alchemy.run.rhai:4:10
  |
4 | let aa = Worker("zz", #{ script: "export class Room { alarm() {} }; export default {}", bindi...
  |          ^^^^^^ declared here
  |
  = note: it was not created
  = help: to rename it, write `moved("aa", "zz");` before `zz` is declared
  = help: to have both, declare `aa` before it; to lose that one, run again with `--allow-data-loss`
3 resources were not reached and stay
1 created, 0 updated, 0 deleted, 1 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
}

#[test]
fn one_more_worker_with_such_a_class_is_no_rename() {
    let project = deployed();
    let more = SCRIPT.replace(
        "let aa =",
        "Worker(\"cc\", #{ script: \"export class Room {}; export default {}\", bindings: #{ ROOM: room } });\nlet aa =",
    );
    project.file("alchemy.run.rhai", more);
    project.alch(["run"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
+ creating  cc (cloudflare::Worker)
  created   cc  cc-dev  [TIME]
1 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], 4 API calls)

"#]]);
}

#[test]
fn no_delete_begins_while_one_lacks_consent() {
    let project = deployed();
    project.file("alchemy.run.rhai", "alchemy(\"rooms\");\n");
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    aa  deleting it would lose the Durable Object class `Room` with its data
error[E0308]: `aa` (cloudflare::Worker) would be deleted and lose the Durable Object class `Room` with its data
 = note: it was left as it is, and nothing was deleted
 = help: to keep it as it is, declare it again; to lose it, run again with `--allow-data-loss`
still there:
  aa
  bb
  remote
  room
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.alch(["run", "--allow-data-loss"]).check(str![[r#"
exit 0
-- stderr
alch: app rooms, stage dev, phase up, target local
- deleting  bb (cloudflare::Worker)
  deleted   bb  bb-dev  [TIME]
- deleting  remote (cloudflare::DurableObjectNamespace)
  deleted   remote  remote  [TIME]
- deleting  aa (cloudflare::Worker)
  deleted   aa  aa-dev  [TIME]
- deleting  room (cloudflare::DurableObjectNamespace)
  deleted   room  room  [TIME]
0 created, 0 updated, 4 deleted, 0 unchanged in [TIME] (critical path [TIME], 2 API calls)

"#]]);
}

#[test]
fn a_rename_that_came_too_late_can_be_taken_back() {
    let project = deployed();
    let both = format!(
        "{}Worker(\"zz\", #{{ script: \"export class Room {{}}; export default {{}}\", bindings: #{{ ROOM: room }} }});\n",
        SCRIPT.replace("app.finalize();\n", "")
    );
    project.file("alchemy.run.rhai", both);
    project.alch(["run"]).success();
    let moved = renamed().replace("let aa", "moved(\"aa\", \"zz\");\nlet aa");
    project.file("alchemy.run.rhai", &moved);
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app rooms, stage dev, phase up, target local
4 resources were not reached and stay
error[E0206]: `rooms/dev/zz` is in state already
 --> alchemy.run.rhai:4:1
  |
4 | moved("aa", "zz");
  | ^^^^^
  |
  = note: nothing was changed
  = help: to give up the other `zz`: declare the old name in its place, run (this deletes the object of `zz`), and rename then
  = help: or choose a name that is free; `alch state ls` lists what is in state
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project.file("alchemy.run.rhai", SCRIPT);
    project.alch(["run", "--allow-data-loss"]).success();
    project.file("alchemy.run.rhai", moved);
    project.alch(["run"]).success();
}

/// The script without the class, and with a new resource before the Worker, one that it needs, and one after it.
fn dropped() -> String {
    let new = "KV(\"before\");\nlet needed = KV(\"needed\");\nlet aa";
    SCRIPT
        .replace("let aa", new)
        .replace("ROOM: room }", "NEEDED: needed }")
        .replace("Worker(\"bb\"", "Queue(\"after\");\nWorker(\"bb\"")
}

#[test]
fn an_update_that_drops_a_class_lets_nothing_begin() {
    let project = deployed();
    let known = || {
        let listed = project.alch(["state", "ls"]).stdout;
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = known();
    project.file("alchemy.run.rhai", dropped());
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    aa  it would lose the Durable Object class `Room` with its data
  skipped   before  because aa failed
  skipped   needed  because aa failed
  skipped   after  because aa failed
  skipped   remote  because aa failed
  skipped   bb  because remote failed
error[E0308]: `aa` (cloudflare::Worker) would be updated and lose the Durable Object class `Room` with its data
 --> alchemy.run.rhai:6:10
  |
6 | let aa = Worker("aa", #{ script: "export class Room {}; export default {}", bindings: #{ NEED...
  |          ^^^^^^ declared here
  |
  = note: nothing was changed
  = help: to lose it, run again with `--allow-data-loss`; to keep it, declare it as before
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed, 5 skipped in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(known(), before);

    // Also where the script waits for the Worker.
    let read = dropped().replace("Queue(", "print(aa.url);\nQueue(");
    project.file("alchemy.run.rhai", read);
    project.alch(["run"]).check(str![[r#"
exit 4
-- stderr
alch: app rooms, stage dev, phase up, target local
  failed    aa  it would lose the Durable Object class `Room` with its data
  skipped   before  because aa failed
  skipped   needed  because aa failed
error[E0308]: `aa` (cloudflare::Worker) would be updated and lose the Durable Object class `Room` with its data
 --> alchemy.run.rhai:6:10
  |
6 | let aa = Worker("aa", #{ script: "export class Room {}; export default {}", bindings: #{ NEED...
  |          ^^^^^^ declared here
  |
  = note: nothing was changed
  = help: to lose it, run again with `--allow-data-loss`; to keep it, declare it as before
2 resources were not reached and stay
0 created, 0 updated, 0 deleted, 1 unchanged, 1 failed, 2 skipped in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(known(), before);

    project.file("alchemy.run.rhai", dropped());
    let run = project.alch(["run", "--allow-data-loss"]).success();
    assert!(
        run.last_line()
            .starts_with("3 created, 1 updated, 0 deleted, 3 unchanged"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_keeps_its_classes_is_updated_as_ever() {
    let project = deployed();
    let other = SCRIPT
        .replace(
            "className: \"Room\" });\nlet",
            "className: \"Hall\" });\nlet",
        )
        .replace("class Room {}", "class Hall {}")
        .replace(
            "className: \"Room\", scriptName",
            "className: \"Hall\", scriptName",
        );
    let other = other.replace("let room", "KV(\"new\");\nlet room");
    project.file("alchemy.run.rhai", other);
    let run = project.alch(["run"]).success();
    assert!(
        run.last_line()
            .starts_with("1 created, 4 updated, 0 deleted, 0 unchanged"),
        "{}",
        run.stderr
    );
}
