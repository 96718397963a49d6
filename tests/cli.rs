//! The command line itself: help, version, mistakes in it, and what it says where there is no state.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
};

use snapbox::str;

use crate::support::Project;

#[test]
fn version() {
    Project::new().alch(["--version"]).check(str![[r#"
exit 0
-- stdout
alch [VERSION]

"#]]);
}

#[test]
fn help_names_the_commands() {
    Project::new().alch(["--help"]).check(str![[r#"
exit 0
-- stdout
Infrastructure as an ordinary script

Usage: alch [OPTIONS] <COMMAND>

Commands:
  run          Run a script: create, update and delete until the stage is what it says [alias:
               deploy]
  plan         Show what a run would do, and change nothing
  destroy      Delete everything of a stage, from state alone
  drift        Compare what state knows with what the providers have, and bring it back with
               --repair
  import       Take an object that is there into state, and print the script lines for it
  scan         Draft a script of what the account holds and no state knows
  read         Run a script with the outputs that state knows, and change nothing
  stages       List the stages that have state
  state        Look at and edit what state knows of single resources
  scope        Look at stages and scopes as a whole, and at their locks
  secrets      Change what the secrets in state are encrypted with
  logs         Show what Workers printed and threw
  local        The embedded local cloud and the runtime of its Workers
  trust        Give a project the permissions that its alch.toml asks for, until that file changes
  check        Check a script without running it
  login        Keep an API token of Cloudflare as a profile
  logout       Remove the token of a profile
  configure    Show or change the settings of a profile
  profile      Look at profiles
  explain      Explain an error id such as E0114 or a resource kind such as Worker, or list the ids
  completions  Print a completion script for a shell
  exit-codes   List the exit codes
  help         Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version

Output:
      --json              Print NDJSON events on stdout instead of text
      --json-into <FILE>  Write NDJSON events into a file, besides the text
  -q, --quiet             Say only results and problems
  -v, --verbose           Also name what does not change

Examples:
  alch run                            deploy alchemy.run.rhai to stage `dev`
  alch plan --stage prod              show what a deploy to `prod` would change
  alch run --stage prod --target cloudflare
  alch destroy --stage pr-123         delete everything of a stage
  alch state ls                       list what is deployed

`alch help COMMAND` tells more; `alch help exit-codes` lists how alch ends.

"#]]);
}

#[test]
fn help_of_run_has_examples() {
    Project::new().alch(["run", "--help"]).check(str![[r#"
exit 0
-- stdout
Run a script: create, update and delete until the stage is what it says

Usage: alch run [OPTIONS] [FILE] [-- <ARGUMENT>...]

Arguments:
  [FILE]
          The script
          
          [default: alchemy.run.rhai]

  [ARGUMENT]...
          Arguments of the script, after `--`

Options:
  -s, --stage <STAGE>
          The stage; before the script's own, `$ALCHEMY_STAGE`, `$STAGE` and `dev`

      --target <TARGET>
          Where resources go; before the script's own, the profile's and `local`

          Possible values:
          - local:      The embedded local cloud
          - cloudflare: A Cloudflare account

      --profile <PROFILE>
          Credentials and defaults from ~/.alchemy; before `$ALCHEMY_PROFILE`

      --env-file <FILE>
          A file of KEY=VALUE lines; variables of the process win over it

      --lock-timeout <MILLISECONDS>
          How long to wait for another run of the stage; before `$ALCHEMY_LOCK_TIMEOUT`

      --phase <PHASE>
          What to do; before the script's own

          Possible values:
          - up:      Create, update and delete
          - destroy: Delete everything
          - read:    Change nothing

      --read
          Change nothing: the same as `--phase read`

      --destroy
          Delete everything: the same as `--phase destroy`

      --adopt
          Take over objects that are there already

      --force
          Update resources even when nothing changed

      --refresh
          Look at what the providers have first: vanished objects are made again, changed ones
          updated

      --concurrency <N>
          Operations at once; before the script's own and 10

      --allow-data-loss
          Consent to replacements, deletions and removed Durable Object classes that lose data

      --plan <FILE>
          Do only what a saved plan says; whatever else the script asks for is refused (exit code
          11)

  -h, --help
          Print help (see a summary with '-h')

Permissions:
      --allow-exec[=<PROGRAM>]
          Let the script start programs: these, or any when none is named. A shell command needs
          `sh`

      --allow-net <HOST>
          Let the script reach a host: `example.com`, `*.example.com`, `localhost:8080`, or `*` for
          any

      --allow-read <PATH>
          Let the script read below a path outside its folder

      --allow-write <PATH>
          Let the script write below a path outside its folder

      --trust
          Give what the project's alch.toml asks for, this time; `alch trust` does so until it
          changes

Output:
      --json
          Print NDJSON events on stdout instead of text

      --json-into <FILE>
          Write NDJSON events into a file, besides the text

  -q, --quiet
          Say only results and problems

  -v, --verbose
          Also name what does not change

Examples:
  alch run                                  alchemy.run.rhai, stage `dev`
  alch run infra/site.rhai --stage pr-123
  alch run --destroy --stage pr-123         also kinds that the script defines
  alch run --plan plan.json                 exactly what a saved plan showed
  alch run -- one two                       `arguments` of the script

"#]]);
}

#[test]
fn help_lists_the_exit_codes() {
    Project::new().alch(["help", "exit-codes"]).check(str![[r#"
exit 0
-- stdout
Exit codes:

    0  success
    1  an error, such as a mistake in the script
    2  the command line does not make sense, or the script cannot be read
    2  with `plan --detailed-exitcode`: there are changes
    3  credentials or the password of secrets are missing, wrong or too weak
    4  some resources failed; what was done is recorded; the next run goes on
    5  a policy was violated
    6  the stage or scope has no state
    7  drift or unexpected changes
    8  stopped by the user; calls in flight ended and were recorded
    9  an operation took too long
   10  waiting at a gate
   11  the saved plan is stale
   12  state is damaged
   75  another run holds the stage, or took it over; try again later
  129  stopped at once by a second SIGHUP; the next run resolves the rest
  130  stopped at once by a second Ctrl-C; the next run resolves the rest
  143  stopped at once by a second SIGTERM

Usage: alch exit-codes [OPTIONS]

Options:
  -h, --help
          Print help (see a summary with '-h')

Output:
      --json
          Print NDJSON events on stdout instead of text

      --json-into <FILE>
          Write NDJSON events into a file, besides the text

  -q, --quiet
          Say only results and problems

  -v, --verbose
          Also name what does not change

"#]]);
}

#[test]
fn unknown_commands_get_a_suggestion() {
    Project::new().alch(["destory"]).check(str![[r#"
exit 2
-- stderr
error: unrecognized subcommand 'destory'

  tip: some similar subcommands exist: 'deploy', 'destroy'

Usage: alch [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]);
}

#[test]
fn unknown_flags_get_a_suggestion() {
    Project::new().alch(["run", "--stgae", "x"]).check(str![[r#"
exit 2
-- stderr
error: unexpected argument '--stgae' found

  tip: a similar argument exists: '--stage'
  tip: to pass '--stgae' as a value, use '-- --stgae'

Usage: alch run --stage <STAGE> [FILE] [-- <ARGUMENT>...]

For more information, try '--help'.

"#]]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    Project::new()
        .alch(["run", "--concurrency", "0"])
        .check(str![[r#"
exit 2
-- stderr
error: invalid value '0' for '--concurrency <N>': 0 is not in 1..=256

For more information, try '--help'.

"#]]);
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
    Project::new().alch(["run"]).check(str![[r#"
exit 2
-- stderr
error[E0113]: there is no script `alchemy.run.rhai`
 = help: go to the folder that holds it
 = help: or begin with this one: `alch run` deploys it, `alch local serve` runs it
         let app = alchemy("hello");
         let site = Worker("site", #{
             script: "export default { fetch() { return new Response('hello') } }",
         });
         print(site.url);

"#]]);
}

#[test]
fn a_missing_named_script_is_named() {
    Project::new()
        .alch(["plan", "infra/site.rhai"])
        .check(str![[r#"
exit 2
-- stderr
error[E0113]: there is no script `infra/site.rhai`
 = help: look for a typo in the path; it is relative to the working folder

"#]]);
}

#[test]
fn a_missing_env_file_is_named() {
    Project::with_script("let app = alchemy(\"a\");")
        .alch(["run", "--env-file", "prod.env"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: cannot read the env file `prod.env`
 = note: No such file or directory (os error 2)
 = help: `--env-file` names a file of `KEY=VALUE` lines

"#]]);
}

#[test]
fn a_broken_env_file_has_a_frame_without_values() {
    let project = Project::with_script("let app = alchemy(\"a\");");
    project.file("prod.env", "API_KEY=hunter2\nnonsense\n");
    project
        .alch(["run", "--env-file", "prod.env"])
        .check(str![[r#"
exit 2
-- stderr
error[E0501]: `prod.env` is not an env file: expected `KEY=VALUE`
 --> prod.env:2:1
  |
2 | nonsense
  | ^^^^^^^^

"#]]);
}

#[test]
fn no_stage_has_state_yet() {
    Project::new().alch(["stages"]).check(str![[r#"
exit 0
-- stdout
no stage has state here

"#]]);
}

#[test]
fn state_of_nothing_is_not_found() {
    Project::new().alch(["state", "ls"]).check(str![[r#"
exit 6
-- stderr
error[E0406]: no state in `[ROOT]/project/.alchemy`
 = help: `alch run` deploys a script; state-only commands run in its folder

"#]]);
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
        .check(str![[r#"
exit 1
-- stderr
error[E0404]: cannot write `[ROOT]/project/no/such/folder.ndjson`
 = note: No such file or directory (os error 2)

"#]]);
}

#[test]
fn a_json_file_that_gets_full_is_an_error_and_the_run_is_recorded_all_the_same() {
    let project = Project::with_script("alchemy(\"shop\"); KV(\"cache\");");
    project
        .alch(["run", "--json-into", "/dev/full"])
        .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
+ creating  cache (cloudflare::KVNamespace)
  created   cache  cache-dev  [TIME]
1 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], 1 API call)
error[E0404]: cannot write `/dev/full`: No space left on device (os error 28)
 = note: what the command did is done; what it had to say is lost in part

"#]]);
    let listed = project.alch(["state", "ls"]).success();
    assert!(listed.stdout.contains("shop/dev/cache"));
    // Programs that read the other stream are told the same exit.
    let output = project
        .alch(["run", "--json", "--json-into", "/dev/full"])
        .code(1);
    let last = output.messages().pop().unwrap();
    assert_eq!(
        (&last["type"], &last["exit"]["code"]),
        (&"exit".into(), &1.into())
    );
    assert_eq!(last["exit"]["class"], "error");
    // A failure keeps its own exit.
    project
        .alch(["plan", "nowhere.rhai", "--json-into", "/dev/full"])
        .code(2);
}

#[test]
fn a_json_pipe_that_nobody_reads_any_more_is_an_error() {
    let project = Project::with_script(
        "alchemy(\"shop\"); KV(\"cache\"); while glob(\"go\").is_empty() { sleep(0.02); }",
    );
    let pipe = project.path("events");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let child = project.start(["run", "--json-into", "events"]);
    let mut events = BufReader::new(File::open(&pipe).unwrap());
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    assert!(line.contains("version"), "{line}");
    drop(events);
    project.file("go", "");
    let output = project.output(child.wait_with_output().unwrap()).code(1);
    assert!(
        output.stderr.contains("events`: Broken pipe"),
        "{}",
        output.stderr
    );
    project.alch(["state", "ls"]).success();
}

#[test]
fn mistakes_in_the_command_line_are_json_as_well() {
    let output = Project::new()
        .alch(["run", "--stgae", "x", "--json"])
        .code(2);
    let messages = output.messages();
    assert_eq!(
        messages[1]["message"],
        "unexpected argument '--stgae' found"
    );
    assert_eq!(
        messages[1]["help"][0],
        "a similar argument exists: '--stage'"
    );
    assert_eq!(output.stderr, "");
}

#[test]
fn explain_tells_what_a_kind_takes_and_gives() {
    let project = Project::new();
    project.alch(["explain", "KV"]).check(str![[r#"
exit 0
-- stdout
cloudflare::KVNamespace: A Workers KV namespace.
Declared with KV or KVNamespace.

Props:
  name (string): the title of the namespace, used exactly as written; a change renames it
  title (string): another word for `name`
  values (array of map): values to write; one that is taken out of the list stays in the namespace
    key (string; required): the key, at most 512 bytes
    value (anything; required): text, or data that is written as JSON
    expiration (integer): when the value goes, in seconds since 1970
    expirationTtl (integer): after how many seconds the value goes
    metadata (anything): data kept beside the value
  naming ("app" | "stage"): how the name is made when none is given: `stage` gives `<id>-<stage>`, `app` gives `<app>-<scopes>-<id>-<stage>`

Attributes of its handle:
  id: the id of the namespace
  namespaceId: the id of the namespace
  name: the title
  title: the title
  type: `kv_namespace`

"#]]);
    project.alch(["explain", "Workr"]).check(str![[r#"
exit 2
-- stderr
error[E0209]: no resource kind `Workr`
 = help: did you mean `Worker`, `Workflow`?

"#]]);
    // What a map holds stands below it.
    let worker = project.alch(["explain", "Worker", "--json"]).success();
    let shown = &worker.messages()[1];
    let props = shown["props"].as_array().unwrap();
    let sources = props.iter().find(|prop| prop["name"] == "eventSources");
    assert_eq!(sources.unwrap()["props"][0]["name"], "queue");
}
