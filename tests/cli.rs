//! The command line itself: help, version, mistakes in it, and what it says where there is no state.

use snapbox::str;

use crate::support::Project;

#[test]
fn version() {
    Project::new().alch(["--version"]).check(str![[r#""#]]);
}

#[test]
fn help_names_the_commands() {
    Project::new().alch(["--help"]).check(str![[r#""#]]);
}

#[test]
fn help_of_run_has_examples() {
    Project::new().alch(["run", "--help"]).check(str![[r#""#]]);
}

#[test]
fn help_lists_the_exit_codes() {
    Project::new().alch(["help", "exit-codes"]).check(str![[r#""#]]);
}

#[test]
fn unknown_commands_get_a_suggestion() {
    Project::new().alch(["destory"]).check(str![[r#""#]]);
}

#[test]
fn unknown_flags_get_a_suggestion() {
    Project::new().alch(["run", "--stgae", "x"]).check(str![[r#""#]]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    Project::new().alch(["run", "--concurrency", "0"]).check(str![[r#""#]]);
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Project::new().alch(["completions", shell]).success();
        assert!(output.stdout.contains("completions"), "{shell}");
        assert_eq!(output.stderr, "", "{shell}");
    }
}

#[test]
fn a_missing_script_says_how_to_name_one() {
    Project::new().alch(["run"]).check(str![[r#""#]]);
}

#[test]
fn a_missing_named_script_is_named() {
    Project::new().alch(["plan", "infra/site.rhai"]).check(str![[r#""#]]);
}

#[test]
fn a_missing_env_file_is_named() {
    Project::with_script("let app = alchemy(\"a\");")
        .alch(["run", "--env-file", "prod.env"])
        .check(str![[r#""#]]);
}

#[test]
fn a_broken_env_file_has_a_frame_without_values() {
    let project = Project::with_script("let app = alchemy(\"a\");");
    project.file("prod.env", "API_KEY=hunter2\nnonsense\n");
    project
        .alch(["run", "--env-file", "prod.env"])
        .check(str![[r#""#]]);
}

#[test]
fn no_stage_has_state_yet() {
    Project::new().alch(["stages"]).check(str![[r#""#]]);
}

#[test]
fn state_of_nothing_is_not_found() {
    Project::new().alch(["state", "ls"]).check(str![[r#""#]]);
}

#[test]
fn json_is_all_that_stdout_carries() {
    let output = Project::new().alch(["stages", "--json"]).success();
    let kinds: Vec<String> = output
        .messages()
        .iter()
        .map(|message| message["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["version", "stages", "exit"]);
    assert_eq!(output.stderr, "");
}

#[test]
fn json_tells_errors_and_the_exit() {
    let output = Project::new().alch(["run", "--json"]).code(2);
    let messages = output.messages();
    assert_eq!(messages[1]["type"], "diagnostic");
    assert_eq!(messages[1]["code"], "E0113");
    assert_eq!(messages[2]["exit"]["code"], 2);
    assert_eq!(messages[2]["exit"]["class"], "usage");
}

#[test]
fn json_goes_into_a_file_besides_the_text() {
    let project = Project::new();
    let output = project
        .alch(["stages", "--json-into", "events.ndjson"])
        .success();
    assert_eq!(output.stdout, "no stage has state here\n");
    let written = project.read("events.ndjson");
    assert!(written.starts_with("{\"type\":\"version\""));
    assert_eq!(written.lines().count(), 3);
}

#[test]
fn a_json_file_that_cannot_be_written_is_an_error() {
    Project::new()
        .alch(["stages", "--json-into", "no/such/folder.ndjson"])
        .check(str![[r#""#]]);
}
