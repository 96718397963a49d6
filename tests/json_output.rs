//! With `--json`, every command prints lines of JSON on stdout and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Project, served::with_runtime};

const SCRIPT: &str =
    "let app = alchemy(\"walk\");\nKV(\"cache\");\nKV(\"other\");\napp.finalize();\n";

/// The names of the commands below a command, as its help lists them.
fn below(project: &Project, command: &[String]) -> Vec<String> {
    let mut arguments = vec!["help".to_owned()];
    arguments.extend_from_slice(command);
    let help = project.alch(&arguments).stdout;
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    let lines = list.lines().take_while(|line| !line.trim().is_empty());
    // What goes on below a name begins further to the right.
    let names = lines.filter_map(|line| {
        line.strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
    });
    let names = names.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command that does something, as it is typed.
fn leaves(project: &Project, command: Vec<String>) -> Vec<Vec<String>> {
    let names = below(project, &command);
    if names.is_empty() {
        return vec![command];
    }
    names
        .into_iter()
        .flat_map(|name| {
            let mut next = command.clone();
            next.push(name);
            leaves(project, next)
        })
        .collect()
}

/// What commands need to have something to say; all others are called without arguments.
const ARGUMENTS: &[(&str, &[&str])] = &[
    ("import", &["KVNamespace", "cache-dev", "taken"]),
    ("state show", &["cache"]),
    ("state mv", &["other", "another"]),
    ("local serve", &["--port", "0", "--zone", "no zone"]),
    ("local trigger", &["none"]),
    ("login", &["--token-stdin"]),
    ("explain", &["E0410"]),
    ("completions", &["bash"]),
];

#[test]
fn every_command_prints_json_when_it_is_asked_to() {
    let Some(project) = with_runtime(Project::with_script(SCRIPT)) else {
        return;
    };
    let mut commands = leaves(&project, Vec::new());
    assert!(commands.len() > 30, "{commands:?}");
    let mut arguments: BTreeMap<&str, &[&str]> = ARGUMENTS.iter().copied().collect();
    // What the others look at is made first.
    commands.sort_by_key(|command| command[0] != "run");
    for extra in ["--help", "--version", "help", "help state", "state"] {
        commands.push(extra.split(' ').map(str::to_owned).collect());
    }
    for command in commands {
        let typed = command.join(" ");
        let more = arguments.remove(typed.as_str()).unwrap_or_default();
        let mut all = command.clone();
        all.extend(more.iter().map(|&word| word.to_owned()));
        all.push("--json".to_owned());
        let output = project.alch(&all);
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(!lines.is_empty(), "`alch {typed}` says nothing: {output:?}");
        for line in lines {
            let message = serde_json::from_str::<Value>(line);
            let kind = message.map(|message| message["type"].is_string());
            assert!(matches!(kind, Ok(true)), "`alch {typed}` prints {line}");
        }
    }
    assert!(arguments.is_empty(), "no such commands: {arguments:?}");
}

/// Programs are written by the README: it names every message of a run.
#[test]
fn the_messages_of_runs_are_documented() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).expect("a file");
    let readme = read("README.md");
    let (events, hints) = (read("src/ui/ndjson.rs"), read("src/cli/settle.rs"));
    let fields = events.split("fn fields(").nth(1).expect("the messages");
    let fields = fields.split("\n}\n").next().expect("an end");
    let arms = fields.split("Event::").skip(1);
    // The first text of each arm is the message's name.
    let mut names: Vec<&str> = arms.filter_map(|arm| arm.split('"').nth(1)).collect();
    let hints = hints.split(".result(\"").skip(1);
    names.extend(hints.filter_map(|hint| hint.split('"').next()));
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
