//! What commands say where several things meet: options of the script under flags, damage beside health, locks of others, names
//! that differ by case, and every command and flag with its help.

use snapbox::str;

use crate::support::{Output, Project};

/// The first message of a type in the output of `--json`.
#[track_caller]
fn message(output: &Output, kind: &str) -> serde_json::Value {
    let mut messages = output.messages().into_iter();
    match messages.find(|message| message["type"] == kind) {
        Some(message) => message,
        None => panic!("no `{kind}` in {}", output.stdout),
    }
}

/// Four independent commands.
fn four(options: &str) -> Project {
    Project::with_script(&format!(
        "alchemy(\"app\", {options});\nfor i in 0..4 {{ Exec(`x${{i}}`, #{{ command: [\"true\"] }}); }}\n"
    ))
}

/// The most operations that were under way at once.
fn most_at_once(project: &Project, flags: &[&str]) -> usize {
    let arguments = [&["run", "--json", "--allow-exec=true"], flags].concat();
    let output = project.alch(arguments).success();
    let (mut now, mut most) = (0_usize, 0);
    for message in output.messages() {
        match message["type"].as_str() {
            Some("apply_start") => now += 1,
            Some("apply_complete") => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[test]
fn the_script_says_how_many_operations_run_at_once_and_the_flag_wins() {
    assert_eq!(most_at_once(&four("#{ concurrency: 1 }"), &[]), 1);
    assert_eq!(
        most_at_once(&four("#{ concurrency: 4 }"), &["--concurrency", "1"]),
        1
    );
}

#[test]
fn the_script_says_how_much_is_said_and_the_flag_wins() {
    let project = Project::with_script(
        "alchemy(\"app\", #{ quiet: true });\nKV(\"a\");\nprint(\"result\");\n",
    );
    project.alch(["run"]).check(str![[r#"
exit 0
-- stdout
result

"#]]);
    let told = project.alch(["run", "--verbose"]).success();
    assert!(told.stderr.contains("unchanged"), "{}", told.stderr);
    let loud = Project::with_script("alchemy(\"app\", #{ quiet: false });\nKV(\"a\");\n");
    assert_eq!(loud.alch(["run", "--quiet"]).success().stderr, "");
}

#[test]
fn a_damaged_stage_does_not_hide_the_others() {
    let project = Project::with_script("alchemy(\"app\");\nrun(\"db\", || KV(\"a\"));\n");
    for stage in ["blue", "green", "red"] {
        project.alch(["run", "--stage", stage]).success();
    }
    project.file(".alchemy/app/green/state.json", "{");
    project.alch(["scope", "list"]).check(str![[r#"
exit 12
-- stdout
SCOPE        RESOURCES
app/blue     0
app/blue/db  1
app/green    unreadable
app/red      0
app/red/db   1
-- stderr
error[E0402]: state of app/green is damaged: it is not a record as alch writes it: EOF while parsing an object at line 1 column 1 (`[ROOT]/project/.alchemy/app/green/state.json`)
 = note: nothing was changed; alch never takes damaged state for no state
 = help: `alch scope rebuild --app app --stage green` puts it together again
 = help: `alch scope validate` lists all damage, and `alch scope restore` goes back to a backup

"#]]);
    let json = project.alch(["scope", "list", "--json"]).code(12);
    let scopes = message(&json, "scopes");
    assert_eq!(scopes["scopes"][2]["damaged"], true, "{scopes}");
    assert_eq!(scopes["scopes"][3]["resources"], 0, "{scopes}");
    project.alch(["stages"]).code(12);
}

/// A lock as another machine writes it.
const LOCK: &str = r#"{"owner":"ana","host":"build-7","boot_id":"b","pid":4711,"pid_start":1,"command":"alch run --stage dev",
"epoch":3,"ttl_ms":60000,"acquired_at":"2026-01-15T10:30:00Z","heartbeat":5}"#;

#[test]
fn a_lock_of_another_machine_names_its_holder_and_the_way_out() {
    let project = Project::with_script("alchemy(\"app\");\nKV(\"a\");\n");
    project.alch(["run"]).success();
    project.file(".alchemy/locks/app/dev.lock", LOCK);
    project.alch(["run"]).check(str![[r#"
exit 75
-- stderr
alch: app app, stage dev, phase up, target local
error[E0401]: stage app/dev is locked by ana@build-7 (pid 4711, `alch run --stage dev`, since [MOMENT])
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("app");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: wait for it with `--lock-timeout 60000`, or look with `alch scope locks --app app --stage dev`
  = help: if you are sure that nothing runs on `build-7` any more: `alch scope unlock --app app --stage dev --force`

"#]]);
    project.alch(["scope", "unlock"]).check(str![[r#"
exit 75
-- stderr
error[E0401]: stage app/dev is locked by ana@build-7 (pid 4711, `alch run --stage dev`, since [MOMENT])
 = note: nothing was changed
 = help: if you are sure that it does no more: `alch scope unlock --app app --stage dev --force`

"#]]);
    for command in ["locks", "list-locks"] {
        let listed = project.alch(["scope", command]).success().stdout;
        assert!(
            listed.contains("ana@build-7 (pid 4711, `alch run --stage dev`"),
            "{listed}"
        );
        assert!(listed.contains("unknown"), "{listed}");
        let json = project.alch(["scope", command, "--json"]).success();
        assert_eq!(
            message(&json, "locks")["locks"][0]["holder"]["host"],
            "build-7"
        );
    }
    project.alch(["scope", "unlock", "--force"]).check(str![[r#"
exit 0
-- stdout
removed the lock of app/dev

"#]]);
    project.alch(["run"]).success();
}

#[test]
fn the_lock_of_a_run_that_lives_is_waited_for() {
    let project = Project::with_script(
        "alchemy(\"app\");\nExec(\"x\", #{ command: \"touch begun; while [ ! -e go ]; do sleep 0.05; done\" });\n",
    );
    let mut running = project.start(["run", "--allow-exec"]);
    for _ in 0..1200 {
        if project.path("begun").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    let refused = project.alch(["run", "--allow-exec"]).code(75);
    let unlock = project.alch(["scope", "unlock"]).code(75);
    project.file("go", "");
    assert!(running.wait().expect("its end").success());
    let told = refused.stderr;
    assert!(
        told.contains(&format!(
            "pid {}, `alch run --allow-exec`, since 20",
            running.id()
        )),
        "{told}"
    );
    assert!(
        told.contains("wait for it with `--lock-timeout 60000`"),
        "{told}"
    );
    assert!(!told.contains("unlock"), "{told}");
    assert!(
        unlock
            .stderr
            .contains("alch scope unlock --app app --stage dev --force"),
        "{}",
        unlock.stderr
    );
}

#[test]
fn names_that_differ_by_case_only_are_refused() {
    let project = Project::with_script("alchemy(\"app\");\nKV(\"Main\");\nKV(\"main\");\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app app, stage dev, phase up, target local
+ creating  Main (cloudflare::KVNamespace)
  created   Main  main-dev  [TIME]
error[E0205]: `main` and `Main` differ only by case
 --> alchemy.run.rhai:3:1
  |
2 | KV("Main");
  | -- first
3 | KV("main");
  | ^^ second
  |
  = note: their folders in state would be one where file systems do not tell case apart
  = help: give one of them another id
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)

"#]]);
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"app\");\nrun(\"Data\", || KV(\"a\"));\nrun(\"data\", || KV(\"a\"));\n",
    );
    let told = project.alch(["run"]).code(1).stderr;
    assert!(
        told.contains("`data` and `Data` differ only by case"),
        "{told}"
    );
}

#[test]
fn a_name_in_state_is_not_respelt_in_one_step() {
    let project = Project::with_script("alchemy(\"app\");\nKV(\"Main\");\n");
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", "alchemy(\"app\");\nKV(\"main\");\n");
    project.alch(["run"]).check(str![[r#"
exit 1
-- stderr
alch: app app, stage dev, phase up, target local
1 resource was not reached and stays
error[E0205]: `main` and `Main` differ only by case
 --> alchemy.run.rhai:2:1
  |
2 | KV("main");
  | ^^ second
  |
  = note: their folders in state would be one where file systems do not tell case apart
  = help: state has `Main`; keep that spelling, or rename it in two steps: `alch state mv --stage dev Main main-`, then `alch state mv --stage dev main- main`
0 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    project
        .alch(["state", "mv", "Main", "main"])
        .check(str![[r#"
exit 1
-- stderr
error[E0206]: `app/dev/Main` in state differs from `app/dev/main` only by case
 = note: nothing was changed
 = help: rename it in two steps, over a name of its own

"#]]);
    project.alch(["state", "mv", "Main", "main-"]).success();
    project.alch(["state", "mv", "main-", "main"]).success();
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)"
    );
}

#[test]
fn every_command_and_flag_is_there_with_help() {
    let project = Project::new();
    for (command, wanted) in [
        (
            "run",
            "--stage --phase --read --destroy --adopt --force --concurrency --profile --env-file --json --json-into --quiet \
             --verbose --plan --target --lock-timeout --allow-exec --allow-net --allow-read --allow-write --trust",
        ),
        ("deploy", "--stage --phase"),
        ("plan", "--out --detailed-exitcode --brief --full --stage"),
        ("destroy", "--stage --yes --app --delete-adopted"),
        ("read", "--stage --env-file"),
        ("stages", "--app"),
        ("state ls", "--stage --app SCOPE"),
        ("state show", "--stage RESOURCE"),
        ("state mv", "--stage FROM TO"),
        ("state rm", "--stage --yes RESOURCE"),
        ("scope list", "--app"),
        ("scope inspect", "--stage"),
        ("scope state", "--stage SCOPE"),
        ("scope validate", "--stage --all"),
        ("scope locks", "--app --stage"),
        ("scope list-locks", "--app --stage"),
        ("scope unlock", "--stage --force"),
        ("check", "FILE --json"),
        ("trust", "FOLDER --revoke"),
        ("completions", "bash zsh fish"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let long = project.alch([&words[..], &["--help"]].concat()).success();
        let help = project.alch([&["help"], &words[..]].concat()).success();
        assert_eq!(long.stdout, help.stdout, "{command}");
        for word in wanted.split(' ') {
            assert!(
                help.stdout.contains(word),
                "{command} lacks {word}: {}",
                help.stdout
            );
        }
        assert!(
            help.stdout.contains("Examples:\n  alch "),
            "{command}: {}",
            help.stdout
        );
    }
    project.alch(["--version"]).check(str![[r#"
exit 0
-- stdout
alch [VERSION]

"#]]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.alch(["completions", shell]).success().stdout;
        for word in ["destroy", "lock-timeout", "allow-net"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn typos_get_suggestions() {
    let project = Project::new();
    for (words, near) in [
        (&["stat"][..], "state"),
        (&["run", "--stge", "x"], "--stage"),
        (&["deplyo"], "deploy"),
        (&["scope", "lst"], "list"),
        (&["state", "sho", "x"], "show"),
        (&["completions", "bsh"], "bash"),
        (&["run", "--phase", "upp"], "up"),
        (&["run", "--allow-exe"], "--allow-exec"),
        (&["scope", "unlok"], "unlock"),
    ] {
        let told = project.alch(words).code(2).stderr;
        assert!(told.contains(&format!("'{near}'")), "{words:?}: {told}");
        let json = project.alch([words, &["--json"]].concat()).code(2);
        let told = message(&json, "diagnostic").to_string();
        assert!(told.contains(near), "{words:?}: {told}");
    }
}

#[test]
fn state_and_scope_commands_print_text_and_json() {
    let project = Project::with_script(
        "alchemy(\"app\");\nlet key = alchemy.secret(\"hunter2-hunter2\");\nrun(\"data\", || KV(\"cache\"));\nWorker(\"api\", #{ script: \"export default {}\", bindings: #{ KEY: key } });\n",
    );
    project.alch(["run"]).success();
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN                 KIND                     PHYSICAL NAME  STATUS
app/dev/data/cache  cloudflare::KVNamespace  cache-dev      ready
app/dev/api         cloudflare::Worker       api-dev        ready

"#]]);
    project.alch(["scope", "list"]).check(str![[r#"
exit 0
-- stdout
SCOPE         RESOURCES
app/dev       1
app/dev/data  1

"#]]);
    project.alch(["scope", "validate", "--all"]).check(str![[r#"
exit 0
-- stdout
app/dev: no damage found

"#]]);
    project.alch(["scope", "locks"]).check(str![[r#"
exit 0
-- stdout
no locks

"#]]);
    for (words, kind, field) in [
        (&["stages"][..], "stages", "stages"),
        (&["state", "ls"], "resources", "resources"),
        (&["state", "ls", "data"], "resources", "resources"),
        (&["state", "show", "api"], "resource", "outputs"),
        (&["scope", "list"], "scopes", "scopes"),
        (&["scope", "inspect"], "stage", "serial"),
        (&["scope", "state"], "scope_state", "resources"),
        (&["scope", "state", "data"], "scope_state", "resources"),
        (&["scope", "validate"], "valid", "stage"),
        (&["scope", "locks"], "locks", "locks"),
        (&["scope", "unlock"], "unlocked", "removed"),
    ] {
        let text = project.alch(words).success();
        assert!(!text.stdout.trim().is_empty(), "{words:?}");
        let output = project.alch([words, &["--json"]].concat()).success();
        let message = message(&output, kind);
        assert!(!message[field].is_null(), "{message}");
        assert!(!text.stdout.contains("hunter2") && !output.stdout.contains("hunter2"));
    }
    project.alch(["state", "rm", "data/cache"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: forget data/cache (cloudflare::KVNamespace, `cache-dev`)? The object itself stays and nothing will manage it.
 = help: `alch state rm data/cache --stage dev --yes`

"#]]);
    project
        .alch(["state", "rm", "data/cache", "--yes"])
        .check(str![[r#"
exit 0
-- stdout
forgot data/cache

"#]]);
    project.alch(["state", "mv", "api", "web"]).check(str![[r#"
exit 0
-- stdout
renamed api to web (1 resource); rename it in the script as well

"#]]);
    project.alch(["state", "show", "wbe"]).check(str![[r#"
exit 6
-- stderr
error[E0406]: `wbe` is not in state of app/dev
 = help: did you mean `web`?

"#]]);
}
