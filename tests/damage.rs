//! State that is damaged, and disks that refuse: told with exit 12 or 1, never taken for "no state", and nothing lost.

#![allow(
    clippy::print_stderr,
    reason = "a test says so when the machine cannot do what it wants to try"
)]

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use snapbox::str;

use crate::{
    kill::{in_the_cloud, killed_at},
    support::{Output, Project, binary},
};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let db = alchemy.run("database", || Database("main-db"));
KV("cache");
"#;

/// The files of state that must be whole.
const FILES: [&str; 4] = [
    ".alchemy/shop/state.json",
    ".alchemy/shop/dev/state.json",
    ".alchemy/shop/dev/journal.wal",
    ".alchemy/shop/dev/database/resources/main-db/state.json",
];

fn deployed() -> Project {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project
}

#[test]
fn what_lost_its_record_is_listed_and_told_as_damaged() {
    for lost in [".alchemy/shop/dev/state.json", ".alchemy/shop/state.json"] {
        let project = deployed();
        std::fs::remove_file(project.path(lost)).unwrap();
        for command in [
            &["scope", "validate", "--all"][..],
            &["scope", "validate"],
            &["scope", "list"],
            &["state", "ls"],
        ] {
            let output = sane(project.alch(command)).code(12);
            assert!(
                output.stderr.contains("shop"),
                "{command:?}: {}",
                output.stderr
            );
        }
        project.alch(["scope", "rebuild", "--yes"]).success();
        project.alch(["scope", "validate", "--all"]).success();
        project.alch(["state", "ls"]).success();
    }
}

/// Ends the test when a command panicked.
#[track_caller]
fn sane(output: Output) -> Output {
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    output
}

/// Damages a file, ends the test unless every command says so and changes nothing, and puts the file back.
#[track_caller]
fn noticed(project: &Project, name: &str, damaged: &[u8], what: &str) {
    let whole = std::fs::read(project.path(name)).unwrap();
    project.file(name, damaged);
    let before = project.state_files();
    for command in [&["run"][..], &["destroy", "--yes"]] {
        let output = sane(project.alch(command));
        assert_eq!(
            output.code,
            Some(12),
            "{name} {what} {command:?}: {}",
            output.stderr
        );
        assert!(output.stderr.contains("error[E0402]"), "{}", output.stderr);
    }
    assert!(
        project.state_files() == before,
        "{name} {what}: state changed"
    );
    project.file(name, whole);
}

#[test]
fn files_that_are_empty_cut_off_or_changed_are_noticed() {
    let project = deployed();
    for name in FILES {
        let whole = std::fs::read(project.path(name)).unwrap();
        noticed(&project, name, b"", "empty");
        for part in [1, 3] {
            let length = whole.len() * part / 4;
            noticed(
                &project,
                name,
                &whole[..length],
                &format!("cut at {length}"),
            );
        }
        for part in 0..4 {
            let at = (whole.len() - 2) * part / 3;
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            noticed(&project, name, &flipped, &format!("changed at {at}"));
        }
        noticed(&project, name, &vec![0; whole.len()], "zeroes");
    }
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}

#[test]
fn files_that_are_gone_are_missed() {
    let project = deployed();
    for name in FILES {
        let whole = std::fs::read(project.path(name)).unwrap();
        std::fs::remove_file(project.path(name)).unwrap();
        let before = project.state_files();
        let output = sane(project.alch(["run"]).code(12));
        assert!(output.stderr.contains("it is missing"), "{}", output.stderr);
        assert!(project.state_files() == before, "{name}: state changed");
        project.file(name, whole);
    }
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}

#[test]
fn damage_is_told_with_what_repairs_it() {
    let project = deployed();
    let record = FILES[3];
    project.file(record, "{}");
    project.alch(["run"]).check(str![[r#"
exit 12
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0402]: state of shop/dev is damaged: it is not a record as alch writes it: missing field `checksum` at line 1 column 2 (`[ROOT]/project/.alchemy/shop/dev/database/resources/main-db/state.json`)
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = note: nothing was changed; alch never takes damaged state for no state
  = help: `alch scope rebuild --app shop --stage dev` puts it together again
  = help: `alch scope validate` lists all damage, and `alch scope restore` goes back to a backup

"#]]);
    project.alch(["scope", "validate"]).check(str![[r#"
exit 12
-- stderr
error[E0402]: state of shop/dev is damaged: it is not a record as alch writes it: missing field `checksum` at line 1 column 2 (`[ROOT]/project/.alchemy/shop/dev/database/resources/main-db/state.json`)
 = note: nothing was changed; alch never takes damaged state for no state
to repair: `alch scope rebuild` takes what is whole, and looks for the rest; `alch scope restore` goes back to a backup

"#]]);
    std::fs::rename(project.path(".alchemy/shop/dev"), project.path("aside")).unwrap();
    project.alch(["run"]).code(4);
    project.alch(["run", "--adopt"]).success();
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
    assert_eq!(in_the_cloud(&project).len(), 2, "something was made again");
}

#[test]
fn a_journal_that_a_killed_run_left_is_believed_or_refused_as_a_whole() {
    let script = "alchemy(\"shop\"); for i in 0..20 { KV(`kv-${i}`); }";
    let project = Project::with_script(script);
    killed_at(&project, &["run"], "apply_complete", 5);
    let name = ".alchemy/shop/dev/journal.wal";
    let whole = std::fs::read(project.path(name)).unwrap();
    for part in 1..8 {
        let at = whole.len() * part / 8;
        for (what, damaged) in [
            ("cut", whole[..at].to_vec()),
            ("changed", {
                let mut bytes = whole.clone();
                bytes[at] ^= 1;
                bytes
            }),
        ] {
            project.file(name, &damaged);
            let before = project.state_files();
            let listed = sane(project.alch(["state", "ls"]));
            assert!(
                matches!(listed.code, Some(0 | 12)),
                "{what} at {at}: {}",
                listed.stderr
            );
            // A change in front of entries that are whole cannot be a write that was cut short.
            if what == "changed" && part < 4 {
                assert_eq!(listed.code, Some(12), "{what} at {at}: {}", listed.stderr);
            }
            assert!(project.state_files() == before, "{what} at {at}");
        }
    }
    project.file(name, &whole);
    project.alch(["run"]).success();
    assert_eq!(in_the_cloud(&project).len(), 20);
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}

#[test]
fn state_of_a_newer_program_is_left_alone() {
    for name in [FILES[0], FILES[1]] {
        let project = deployed();
        let sealed: Value = serde_json::from_str(&project.read(name)).unwrap();
        let mut record = sealed["record"].clone();
        record["format"] = json!(99);
        record["from_the_future"] = json!(true);
        let record = record.to_string();
        let checksum = blake3::hash(record.as_bytes()).to_hex();
        project.file(
            name,
            format!("{{\"checksum\":\"blake3:{checksum}\",\"record\":{record}}}\n"),
        );
        let before = project.state_files();
        let output = sane(project.alch(["run"]).code(12));
        assert!(
            output
                .stderr
                .contains("was written in format 99; this alch reads up to 1"),
            "{}",
            output.stderr
        );
        project.alch(["destroy", "--yes"]).code(12);
        assert!(project.state_files() == before, "state changed");
    }
}

#[test]
fn local_data_that_was_deleted_does_not_disturb_state() {
    let project = deployed();
    std::fs::remove_dir_all(project.path(".alchemy/local")).unwrap();
    // Nothing changed in the script, so nobody asks the cloud.
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
    sane(project.alch(["run", "--force"]).success());
    assert_eq!(in_the_cloud(&project).len(), 2);
    std::fs::remove_dir_all(project.path(".alchemy/local")).unwrap();
    sane(project.alch(["destroy", "--yes"]).success());
    project.alch(["state", "ls"]).code(6);
}

#[test]
fn a_file_in_the_place_of_the_state_folder() {
    let project = Project::with_script(SCRIPT);
    project.file(".alchemy", "not a folder");
    sane(project.alch(["run"])).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0404]: cannot lock `[ROOT]/project/.alchemy/locks/shop/dev.guard`: Not a directory (os error 20)
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = note: what was recorded before stays valid; nothing more was started
  = help: make room or fix the permissions of `.alchemy`, then run again

"#]]);
    assert_eq!(project.read(".alchemy"), "not a folder");
}

/// Runs a shell script with mounts of its own, which see the project as `$1` and the program as `$2`. `None` where the
/// machine does not allow that; the simulated disk of `src/state` refuses every single write there, too.
fn in_a_mount_namespace(project: &Project, script: &str) -> Option<Output> {
    let may = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("no mount namespaces here: only the simulated disk shows this");
        return None;
    }
    Some(in_a_shell(project, &["unshare", "-rm", "sh"], script))
}

/// Runs a shell script that sees the project as `$1` and the program as `$2`.
fn in_a_shell(project: &Project, shell: &[&str], script: &str) -> Output {
    let program: PathBuf = binary();
    let folder = project.folder();
    let arguments = shell[1..].iter().copied().chain(["-c", script, "sh"]);
    project.output_of(
        Command::new(shell[0])
            .args(arguments)
            .arg(&folder)
            .arg(program)
            .env("HOME", project.home())
            .current_dir(&folder),
    )
}

#[test]
fn a_folder_that_is_read_only() {
    let project = deployed();
    let before = project.state_files();
    project.file("alchemy.run.rhai", format!("{SCRIPT}KV(\"more\");"));
    let script =
        r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && exec "$2" run"#;
    if let Some(output) = in_a_mount_namespace(&project, script) {
        sane(output).check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0404]: cannot lock `[ROOT]/project/.alchemy/locks/shop/dev.guard`: Read-only file system (os error 30)
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = note: what was recorded before stays valid; nothing more was started
  = help: make room or fix the permissions of `.alchemy`, then run again

"#]]);
    }
    assert!(project.state_files() == before, "state changed");
    project.alch(["run"]).success();
}

#[test]
fn a_disk_that_is_full() {
    let project = Project::with_script(SCRIPT);
    let script = r#"mkdir .alchemy && mount -t tmpfs -o size=4k none .alchemy && exec "$2" run"#;
    if let Some(output) = in_a_mount_namespace(&project, script) {
        let output = sane(output.code(1));
        assert!(output.stderr.contains("error[E0404]"), "{}", output.stderr);
        assert!(output.stderr.contains("No space left"), "{}", output.stderr);
        assert!(output.stderr.contains("make room"), "{}", output.stderr);
    }
}

#[test]
fn a_run_that_meets_the_largest_file_size_goes_on_later() {
    let project = Project::with_script(
        "alchemy(\"shop\"); for i in 0..60 { KV(`kv-${i}`); Queue(`queue-${i}`); }",
    );
    // In blocks of 512 bytes: first the journal or the local cloud's database refuses, and then nothing does.
    for blocks in [1, 8, 40, 80] {
        let script = format!(r#"trap '' XFSZ; ulimit -f {blocks}; exec "$2" run"#);
        let output = sane(in_a_shell(&project, &["sh"], &script));
        assert!(matches!(output.code, Some(1 | 4)), "{blocks}: {output:?}");
        assert!(output.stderr.contains("error[E0"), "{}", output.stderr);
    }
    project.alch(["run"]).success();
    assert_eq!(in_the_cloud(&project).len(), 120);
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}
