//! The commands that mend state: backups, restore, rebuild, reset, cleanup, history, diff, export and import. None of them touches
//! an object, and what they replace can be had back.

use serde_json::Value;
use snapbox::str;

use crate::support::Project;

const TWO: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("database", || Database("main-db"));
KV("cache");
"#;

/// The same with one more.
const THREE: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("database", || Database("main-db"));
KV("cache");
KV("more", #{ title: "chosen-name" });
"#;

const STAGE: &str = ".alchemy/shop/dev/state.json";
const CACHE: &str = ".alchemy/shop/dev/resources/cache/state.json";
const JOURNAL: &str = ".alchemy/shop/dev/journal.wal";

/// Deployed twice, so that there is a backup.
fn deployed() -> Project {
    let project = Project::with_script(TWO);
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", THREE);
    project.alch(["run"]).success();
    project
}

/// The first event of a kind that a command prints with `--json`.
#[track_caller]
fn event(project: &Project, command: &[&str], kind: &str) -> Value {
    let mut arguments = command.to_vec();
    arguments.push("--json");
    let output = project.alch(&arguments);
    output
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["type"] == kind)
        .unwrap_or_else(|| panic!("no `{kind}`: {}{}", output.stdout, output.stderr))
}

#[track_caller]
fn names(project: &Project) -> Vec<String> {
    let listed = event(project, &["state", "ls"], "resources");
    let resources = listed["resources"].as_array().unwrap();
    resources
        .iter()
        .map(|resource| resource["fqn"].as_str().unwrap().to_owned())
        .collect()
}

/// A run that changes nothing and calls nobody.
#[track_caller]
fn settled(project: &Project) {
    let summary = event(project, &["run"], "change_summary");
    assert_eq!(summary["calls"], 0, "{summary}");
    assert_eq!(summary["outcome"], "succeeded", "{summary}");
    for count in ["created", "updated", "deleted", "failed"] {
        assert_eq!(summary["counts"][count], 0, "{summary}");
    }
}

fn newest(project: &Project) -> String {
    let listed = event(project, &["scope", "backups"], "backups");
    listed["backups"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_is_listed_compared_and_restored() {
    let project = deployed();
    let backups = event(&project, &["scope", "backups"], "backups");
    assert_eq!(backups["backups"].as_array().unwrap().len(), 1);
    assert_eq!(backups["backups"][0]["resources"], 2);
    let name = newest(&project);
    project
        .alch(["state", "diff", &name, "now"])
        .replacing(&name, "BACKUP")
        .check(str![[r#"
exit 0
-- stdout
BACKUP -> now
+ more (cloudflare::KVNamespace)

"#]]);
    project
        .alch(["scope", "restore"])
        .replacing(&name, "BACKUP")
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: put `BACKUP` in the place of the state of shop/dev? No object is touched.
           - more (cloudflare::KVNamespace)
 = help: `alch scope restore --stage dev --backup BACKUP --yes`

"#]]);
    assert_eq!(names(&project).len(), 3);
    project.alch(["scope", "restore", "--yes"]).success();
    assert_eq!(
        names(&project),
        ["shop/dev/database/main-db", "shop/dev/cache"]
    );
    // What was replaced is a backup now.
    let before = newest(&project);
    assert_ne!(before, name);
    project
        .alch(["scope", "restore", "--backup", &before, "--yes"])
        .success();
    assert_eq!(names(&project).len(), 3);
    settled(&project);
    let history = event(&project, &["state", "history"], "history");
    let commands: Vec<&str> = history["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deployment| deployment["command"].as_str().unwrap())
        .collect();
    assert_eq!(
        &commands[commands.len() - 4..],
        ["restore", "restore", "run", "run"]
    );
}

#[test]
fn a_backup_that_is_not_there_is_told_with_near_ones() {
    let project = deployed();
    let name = newest(&project);
    let near = name.replace("Z.json", "X.json");
    let output = project.alch(["scope", "restore", "--backup", &near, "--yes"]);
    let output = output.code(6);
    assert!(
        output.stderr.contains(&format!("did you mean `{name}`?")),
        "{}",
        output.stderr
    );
}

#[test]
fn damaged_state_is_restored_and_the_damage_kept() {
    for file in [STAGE, JOURNAL, CACHE, ".alchemy/shop/state.json"] {
        let project = deployed();
        project.file(file, "garbage");
        project.alch(["run"]).code(12);
        project.alch(["scope", "restore", "--yes"]).success();
        assert_eq!(
            names(&project),
            ["shop/dev/database/main-db", "shop/dev/cache"],
            "{file}"
        );
        project.alch(["scope", "validate"]).success();
        let kept = walk(&project.path(".alchemy/shop/dev/backups"));
        assert!(
            kept.iter()
                .any(|path| std::fs::read(path).unwrap() == b"garbage"),
            "{file}: {kept:?}"
        );
        // The object that the backup does not know is there: adopting it is what is left to do.
        project.alch(["run", "--adopt"]).success();
        settled(&project);
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(walk(&path));
        } else {
            out.push(path);
        }
    }
    out
}

#[test]
fn rebuild_takes_what_is_whole_and_finds_the_rest() {
    for damage in [
        &[STAGE][..],
        &[JOURNAL],
        &[CACHE],
        &[STAGE, CACHE],
        &[STAGE, JOURNAL, CACHE, ".alchemy/shop/state.json"],
    ] {
        let project = deployed();
        for file in damage {
            project.file(file, "garbage");
        }
        project.alch(["run"]).code(12);
        project.alch(["scope", "rebuild", "--yes"]).success();
        project.alch(["scope", "validate"]).success();
        let mut found = names(&project);
        found.sort();
        assert_eq!(
            found,
            [
                "shop/dev/cache",
                "shop/dev/database/main-db",
                "shop/dev/more"
            ],
            "{damage:?}"
        );
        let summary = event(&project, &["run"], "change_summary");
        assert_eq!(summary["counts"]["created"], 0, "{damage:?}: {summary}");
        assert_eq!(summary["counts"]["deleted"], 0, "{damage:?}: {summary}");
        settled(&project);
    }
}

#[test]
fn rebuild_without_any_state_finds_objects_by_their_names() {
    let project = deployed();
    for folder in ["shop", "locks"] {
        std::fs::remove_dir_all(project.path(".alchemy").join(folder)).unwrap();
    }
    project.alch(["scope", "rebuild", "--yes"]).code(6);
    let script = format!("{THREE}KV(\"never-made\");\n");
    project.file("alchemy.run.rhai", script);
    project
        .alch(["scope", "rebuild", "--app", "shop", "--yes"])
        .code(4);
    let again = project.alch(["scope", "rebuild"]);
    assert_eq!(again.code, Some(4));
    again.check(str![[r#"
exit 4
-- stderr
alch: app shop, stage dev, phase up, target local
> adopting  never-made (cloudflare::KVNamespace)
  failed    never-made  there is no `never-made-dev`
error[E0309]: `never-made` (cloudflare::KVNamespace) was not found: there is no `never-made-dev`
 --> alchemy.run.rhai:6:1
  |
6 | KV("never-made");
  | ^^ declared here
  |
  = help: `alch run` makes it
no object was changed; `alch plan --stage dev` shows what the next run would do
0 created, 0 updated, 0 deleted, 3 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    let state = event(&project, &["scope", "state"], "scope_state");
    let adopted: Vec<(String, bool)> = state["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let name = record["fqn"].as_str().unwrap().rsplit('/').next().unwrap();
            (name.to_owned(), record["adopted"].as_bool().unwrap())
        })
        .collect();
    // A name that the program made up is its own; one that the script chose may be anybody's.
    for (name, adopted) in adopted {
        assert_eq!(adopted, name == "more", "{name}");
    }
    let summary = event(&project, &["run"], "change_summary");
    assert_eq!(summary["counts"]["created"], 1, "{summary}");
    settled(&project);
}

#[test]
fn rebuild_leaves_out_what_only_a_backup_has_and_is_gone() {
    let project = Project::with_script(THREE);
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", TWO);
    // `more` is deleted here, and the backup still has it.
    project.alch(["run"]).success();
    project.file(STAGE, "garbage");
    let told = event(&project, &["scope", "rebuild", "--yes"], "rebuilt");
    assert_eq!(told["gone"], serde_json::json!(["shop/dev/more"]), "{told}");
    assert_eq!(names(&project).len(), 2);
    settled(&project);
}

#[test]
fn rebuild_offline_needs_neither_script_nor_provider() {
    let project = deployed();
    project.file(CACHE, "garbage");
    std::fs::remove_file(project.path("alchemy.run.rhai")).unwrap();
    std::fs::rename(project.path(".alchemy/local"), project.path("elsewhere")).unwrap();
    project
        .alch(["scope", "rebuild", "--offline", "--yes"])
        .success();
    std::fs::rename(project.path("elsewhere"), project.path(".alchemy/local")).unwrap();
    project.file("alchemy.run.rhai", THREE);
    project.alch(["run"]).success();
    settled(&project);
}

#[test]
fn an_export_moves_to_a_copy_of_the_project_and_no_further() {
    let project = deployed();
    project
        .alch(["state", "export", "--out", "shop.json"])
        .success();
    let exported = std::fs::read(project.path("shop.json")).unwrap();
    // Gone, and back from the file, with its lineage.
    let lineage = event(&project, &["scope", "inspect"], "stage")["lineage"].clone();
    std::fs::remove_dir_all(project.path(".alchemy/shop")).unwrap();
    project
        .alch(["state", "import", "shop.json", "--yes"])
        .success();
    assert_eq!(
        event(&project, &["scope", "inspect"], "stage")["lineage"],
        lineage
    );
    settled(&project);

    // An older one does not replace a newer one unasked.
    project.file("alchemy.run.rhai", TWO);
    project.alch(["run"]).success();
    project
        .alch(["state", "import", "shop.json", "--yes"])
        .code(11);
    project
        .alch(["state", "import", "shop.json", "--yes", "--force"])
        .success();

    // Another project of the same name is not this one.
    let other = Project::with_script(TWO);
    other.alch(["run"]).success();
    other.file("shop.json", &exported);
    other
        .alch(["state", "import", "shop.json", "--yes"])
        .code(12);
    other
        .alch(["state", "import", "shop.json", "--stage", "prod", "--yes"])
        .code(2);
    let mut torn = exported.clone();
    torn.truncate(exported.len() / 2);
    other.file("torn.json", torn);
    other
        .alch(["state", "import", "torn.json", "--yes"])
        .code(12);
    settled(&other);
}

#[test]
fn reset_forgets_and_restore_brings_back() {
    let project = deployed();
    project.alch(["scope", "reset"]).code(2);
    project.alch(["scope", "reset", "--yes"]).success();
    assert!(names(&project).is_empty());
    // Nothing was deleted: a run that makes them meets them.
    project.alch(["run"]).code(4);
    project.alch(["scope", "reset", "--yes"]).success();
    let first = event(&project, &["scope", "backups"], "backups");
    let full = first["backups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|backup| backup["resources"] == 3)
        .unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    project
        .alch(["scope", "restore", "--backup", &full, "--yes"])
        .success();
    settled(&project);
}

#[test]
fn reset_is_a_way_out_of_damage_too() {
    let project = deployed();
    project.file(STAGE, "garbage");
    project.alch(["scope", "reset", "--yes"]).success();
    project.alch(["run", "--adopt"]).success();
    settled(&project);
}

#[test]
fn cleanup_removes_leftovers_and_nothing_else() {
    let project = deployed();
    settled(&project);
    project.file(".alchemy/shop/dev/state.json.tmp", "half");
    project.file(
        ".alchemy/shop/dev/resources/stray/state.json",
        "no record of ours",
    );
    let dead = r#"{"owner":"me","host":"HOST","boot_id":"an earlier boot","pid":1,"pid_start":1,"command":"alch run","epoch":9,"ttl_ms":60000,"acquired_at":"2026-01-01T00:00:00Z","heartbeat":1}"#;
    let host = event(&project, &["state", "history"], "history")["deployments"][0]["host"]
        .as_str()
        .unwrap()
        .to_owned();
    project.file(".alchemy/locks/shop/dev.lock", dead.replace("HOST", &host));
    let removed = event(&project, &["scope", "cleanup"], "cleaned")["removed"].clone();
    assert_eq!(
        removed,
        serde_json::json!([
            "shop/dev/state.json.tmp",
            "shop/dev/resources/stray",
            "locks/shop/dev.lock"
        ])
    );
    project.alch(["scope", "validate"]).success();
    settled(&project);
    let again = event(&project, &["scope", "cleanup"], "cleaned")["removed"].clone();
    assert_eq!(again, serde_json::json!([]));

    // With force what a repair had kept goes, too, and the newest backup stays.
    project.file(JOURNAL, "garbage");
    project.alch(["scope", "rebuild", "--yes"]).success();
    let before = event(&project, &["scope", "backups"], "backups");
    assert!(
        before["backups"].as_array().unwrap().len() > 1 || before["backups"][0]["resources"] == 2
    );
    project.alch(["scope", "cleanup", "--force"]).success();
    let after = event(&project, &["scope", "backups"], "backups");
    assert_eq!(after["backups"].as_array().unwrap().len(), 1);
    assert_eq!(after["backups"][0], before["backups"][0]);
    assert!(walk(&project.path(".alchemy/shop/dev/backups")).len() == 1);
    project.alch(["run"]).success();
    settled(&project);
}

#[test]
fn the_log_of_a_run_is_printed() {
    let project = deployed();
    let log = event(&project, &["scope", "logs"], "log");
    let kinds: Vec<&str> = log["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert!(kinds.contains(&"change_summary"), "{kinds:?}");
    let history = event(&project, &["state", "history"], "history");
    let oldest = history["deployments"][1]["id"].as_str().unwrap().to_owned();
    let log = event(&project, &["scope", "logs", &oldest], "log");
    assert_eq!(log["deployment"], oldest.as_str());
    project.alch(["scope", "logs", "01NONE"]).code(6);
}

#[test]
fn a_stage_that_never_was_is_told_apart_from_one_with_nothing_to_show() {
    let project = deployed();
    for command in [
        &["scope", "backups"][..],
        &["scope", "cleanup"],
        &["scope", "unlock"],
        &["scope", "inspect"],
        &["scope", "validate"],
        &["state", "history"],
    ] {
        let mut mistyped = command.to_vec();
        mistyped.extend(["--stage", "dve"]);
        let refused = project.alch(&mistyped).code(6);
        assert!(
            refused
                .stderr
                .contains("error[E0406]: stage shop/dve has no state"),
            "{command:?}: {}",
            refused.stderr
        );
    }
    assert!(!project.path(".alchemy/locks/shop/dve.guard").exists());
    project.alch(["destroy", "--yes"]).success();
    // It is gone, but its history is not.
    for command in [
        &["scope", "backups"][..],
        &["scope", "unlock"],
        &["state", "history"],
    ] {
        project.alch(command).success();
    }
}

#[test]
fn damaged_history_is_told_by_name_and_set_aside() {
    let project = deployed();
    let deployments = walk(&project.path(".alchemy/shop/dev/deployments"));
    let backup = project
        .path(".alchemy/shop/dev/backups")
        .join(newest(&project));
    let damaged = [deployments[0].clone(), backup];
    for path in &damaged {
        std::fs::write(path, "not what was written").unwrap();
    }
    let told = project.alch(["scope", "validate"]).code(12);
    for path in &damaged {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(told.stderr.contains(name), "{}", told.stderr);
    }
    assert!(
        told.stderr
            .ends_with("to repair: `alch scope cleanup` sets damaged backups and records of finished runs aside; the state does not need them\n"),
        "{}",
        told.stderr
    );
    assert!(!told.stderr.contains("rebuild"), "{}", told.stderr);
    let history = project.alch(["state", "history"]).code(12);
    assert!(
        history
            .stderr
            .contains("help: `alch scope cleanup --app shop --stage dev` sets it aside"),
        "{}",
        history.stderr
    );
    // Nothing is lost by it.
    project.alch(["scope", "cleanup"]).success();
    project.alch(["scope", "validate"]).success();
    project.alch(["state", "history"]).success();
    let kept = walk(&project.path(".alchemy/shop/dev/backups"));
    for path in &damaged {
        assert!(!path.exists());
        let moved = kept
            .iter()
            .find(|kept| kept.file_name() == path.file_name())
            .unwrap();
        assert!(
            moved
                .parent()
                .unwrap()
                .to_str()
                .unwrap()
                .contains("/damaged-")
        );
        assert_eq!(std::fs::read(moved).unwrap(), b"not what was written");
    }
    settled(&project);
}

#[test]
fn the_help_of_restore_says_what_its_force_does() {
    let help = Project::new()
        .alch(["scope", "restore", "--help"])
        .success();
    assert!(
        help.stdout
            .contains("Also when it comes from another project"),
        "{}",
        help.stdout
    );
    assert!(!help.stdout.contains("or is older"), "{}", help.stdout);
}

#[test]
fn cleanup_of_a_stage_that_is_locked_does_not_say_that_there_is_nothing_to_do() {
    let project = deployed();
    let elsewhere = r#"{"owner":"me","host":"elsewhere","boot_id":"theirs","pid":1,"pid_start":1,"command":"alch run","epoch":9,"ttl_ms":60000,"acquired_at":"2026-01-01T00:00:00Z","heartbeat":1}"#;
    project.file(".alchemy/locks/shop/dev.lock", elsewhere);
    let refused = project.alch(["scope", "cleanup", "--all"]);
    assert!(
        refused.stderr.contains("error[E0401]"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stdout, "nothing was removed\n");
}

#[test]
fn a_damaged_record_of_a_run_hides_no_other() {
    let project = deployed();
    let whole = event(&project, &["state", "history"], "history");
    let ids: Vec<&str> = whole["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deployment| deployment["id"].as_str().unwrap())
        .collect();
    let [newest, oldest] = ids[..] else {
        panic!("{whole}")
    };
    let record = format!(".alchemy/shop/dev/deployments/{newest}.json");
    project.file(&record, "not what was written");

    let told = project.alch(["state", "history"]).code(12);
    let row = |id: &str| {
        let mut lines = told.stdout.lines();
        lines.find(|line| line.starts_with(id)).unwrap().to_owned()
    };
    assert!(row(newest).contains("unreadable"), "{}", told.stdout);
    assert!(row(oldest).contains("succeeded"), "{}", told.stdout);
    assert!(told.stderr.contains("error[E0402]"), "{}", told.stderr);
    assert!(told.stderr.contains(&record), "{}", told.stderr);
    let advice = "help: `alch scope cleanup --app shop --stage dev` sets it aside";
    assert!(told.stderr.contains(advice), "{}", told.stderr);

    let output = project.alch(["state", "history", "--json"]).code(12);
    let messages = output.messages();
    let listed = messages.iter().find(|event| event["type"] == "history");
    let listed = &listed.unwrap()["deployments"];
    assert_eq!(
        listed[0],
        serde_json::json!({ "id": newest, "damaged": true })
    );
    assert_eq!(listed[1]["id"], oldest);
    let diagnostic = messages.iter().find(|event| event["type"] == "diagnostic");
    assert!(
        diagnostic.unwrap().to_string().contains(newest),
        "{messages:?}"
    );

    // The logs are files of their own: both can still be read.
    for (id, code) in [(newest, 12), (oldest, 12)] {
        let log = project.alch(["scope", "logs", id]).code(code);
        assert!(log.stdout.contains("change_summary"), "{}", log.stdout);
        assert!(log.stderr.contains(advice), "{}", log.stderr);
    }
    let inspected = project.alch(["scope", "inspect"]).code(12);
    assert!(inspected.stdout.contains("serial      2"), "{inspected:?}");
    project.alch(["scope", "cleanup"]).success();
    project.alch(["state", "history"]).success();
    project.alch(["scope", "logs"]).success();
}

#[test]
fn what_is_left_of_a_destroyed_stage_is_no_stage_and_no_damage() {
    let project = deployed();
    project.alch(["destroy", "--yes"]).success();
    // Beside the history of the stage, and nothing else.
    let left = std::fs::read_dir(project.path(".alchemy/shop/dev")).unwrap();
    let mut left: Vec<String> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["deployments", "logs", "removed.json"]);
    for command in [
        &["scope", "list"][..],
        &["stages"],
        &["scope", "validate", "--all"],
        &["scope", "cleanup", "--all", "--force"],
    ] {
        let told = project.alch(command).success();
        assert!(!told.stdout.contains("shop/dev"), "{command:?}: {told:?}");
    }
    let mark = ".alchemy/shop/dev/removed.json";
    let whole = project.read(mark);

    // A damaged one is told, and set aside as its error says.
    project.file(mark, &whole[..whole.len() / 2]);
    for command in [&["run"][..], &["plan"], &["scope", "validate"]] {
        let told = project.alch(command).code(12);
        assert!(told.stderr.contains("removed.json"), "{told:?}");
        assert!(told.stderr.contains("alch scope cleanup"), "{told:?}");
        assert!(!told.stderr.contains("rebuild"), "{told:?}");
    }
    project
        .alch(["scope", "cleanup", "--app", "shop", "--stage", "dev"])
        .success();
    project.alch(["scope", "validate", "--all"]).success();
    project.alch(["run"]).success();
    settled(&project);
}

#[test]
fn a_damaged_record_of_a_run_is_set_aside_where_the_stage_is_gone_too() {
    let project = deployed();
    project.alch(["destroy", "--yes"]).success();
    let deployments = walk(&project.path(".alchemy/shop/dev/deployments"));
    std::fs::write(&deployments[0], "not what was written").unwrap();
    project.alch(["state", "history"]).code(12);
    project.alch(["scope", "cleanup"]).success();
    project.alch(["state", "history"]).success();
    project.alch(["scope", "validate", "--all"]).success();
    project.alch(["run"]).success();
    settled(&project);
}

#[test]
fn rebuild_takes_the_exact_records_of_a_reset_stage_from_its_backups() {
    let script = r#"
alchemy("shop");
KV("cache", #{ title: "chosen-name" });
RandomString("token", #{ length: 16 });
File("note", #{ path: "note.txt", content: "written once" });
"#;
    let project = Project::with_script("alchemy(\"shop\"); KV(\"gone\");");
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", script);
    project.alch(["run"]).success();
    let record = |id: &str| -> Value {
        let path = format!(".alchemy/shop/dev/resources/{id}/state.json");
        let text = project.read(&path);
        serde_json::from_str::<Value>(&text).unwrap()["record"].clone()
    };
    let before: Vec<Value> = ["cache", "token", "note"].map(record).into();
    project.alch(["scope", "reset", "--yes"]).success();
    project.alch(["scope", "rebuild", "--yes"]).success();
    for (id, before) in ["cache", "token", "note"].into_iter().zip(before) {
        let mut after = record(id);
        // All but that the next run sets it to what the script says.
        assert_eq!(after["status"], "updating", "{id}");
        after["status"] = before["status"].clone();
        assert_eq!(after, before, "{id}");
        assert_eq!(after["adopted"], Value::Null, "{id}");
    }
    // What was deleted before the reset, and what is declared no more, stays away.
    assert_eq!(
        names(&project),
        ["shop/dev/cache", "shop/dev/token", "shop/dev/note"]
    );
    let run = project.alch(["run"]).success();
    assert!(run.last_line().starts_with("0 created"), "{}", run.stderr);
    settled(&project);

    // An object that is gone is not believed to be there because a backup has it; one that no backup has is found by its name.
    project.alch(["scope", "reset", "--yes"]).success();
    std::fs::remove_file(project.path("note.txt")).unwrap();
    std::fs::remove_dir_all(project.path(".alchemy/shop/dev/backups")).unwrap();
    project.alch(["scope", "rebuild", "--yes"]).code(4);
    assert_eq!(names(&project), ["shop/dev/cache"]);
}

#[test]
fn rebuild_runs_no_test_of_the_script() {
    let project = Project::with_script(
        r#"
        let app = alchemy("shop");
        KV("cache");
        alchemy.test("smoke", || { KV("made-by-the-test"); });
        "#,
    );
    project.alch(["run"]).success();
    let record = project.path(".alchemy/shop/dev/state.json");
    std::fs::write(&record, "{").unwrap();
    let rebuilt = project.alch(["scope", "rebuild", "--yes"]).success();
    assert!(
        !rebuilt.stderr.contains("made-by-the-test") && !rebuilt.stderr.contains("smoke"),
        "{}",
        rebuilt.stderr
    );
}

#[test]
fn an_export_from_before_does_not_bring_a_removed_stage_back_by_itself() {
    let project = Project::with_script("alchemy(\"shop\"); KV(\"cache\");");
    project.alch(["run"]).success();
    project
        .alch(["state", "export", "-o", "one.json"])
        .success();
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\"); KV(\"cache\"); KV(\"more\");",
    );
    project.alch(["run"]).success();
    project.alch(["destroy", "--yes"]).success();
    let refused = project
        .alch(["state", "import", "one.json", "--yes"])
        .code(11);
    assert!(
        refused
            .stderr
            .contains("`one.json` is state 1 of shop/dev, which was removed at 4"),
        "{refused:?}"
    );
    project
        .alch(["state", "import", "one.json", "--yes", "--force"])
        .success();
}
