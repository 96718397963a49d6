//! Secrets: nowhere in the clear, changes seen, one key for a stage, and what is said when the key does not fit.

use base64::{Engine as _, engine::general_purpose};
use serde_json::Value;
use snapbox::str;

use crate::support::{Output, Project, cloud::ServedCloud};

/// Long and odd enough to be found by its bytes alone; `+`, `/` and blanks change under each encoding.
const CANARY: &str = "canary+5f3/ä %tweet tweet";

/// Every form in which the canary may get out.
fn forms() -> Vec<String> {
    let bytes = CANARY.as_bytes();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let form = CANARY.bytes().fold(String::new(), |out, byte| {
        if byte.is_ascii_alphanumeric() {
            format!("{out}{}", char::from(byte))
        } else {
            format!("{out}%{byte:02X}")
        }
    });
    let plain = general_purpose::STANDARD.encode(bytes);
    let url = general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    vec![
        CANARY.to_owned(),
        // Pieces, for a text that was cut, and for JSON that escapes what is not ASCII.
        "canary+5f3".to_owned(),
        "tweet tweet".to_owned(),
        "canary%2B5f3".to_owned(),
        "tweet+tweet".to_owned(),
        percent,
        form,
        hex::encode(bytes),
        hex::encode_upper(bytes),
        plain.trim_end_matches('=').to_owned(),
        url,
    ]
}

/// Ends the test when the canary is in a text.
#[track_caller]
fn clean(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} holds `{form}`: {text}");
    }
}

/// Ends the test when a command said the canary.
#[track_caller]
fn quiet(output: Output) -> Output {
    clean("stdout", &output.stdout);
    clean("stderr", &output.stderr);
    output
}

/// Ends the test when a file holds the canary, but for those named.
#[track_caller]
fn nowhere(project: &Project, except: &[&str]) {
    for form in forms() {
        let found: Vec<_> = project
            .files_with(&form)
            .into_iter()
            .filter(|path| !except.iter().any(|name| path.ends_with(name)))
            .collect();
        assert!(found.is_empty(), "`{form}` is in {found:?}");
    }
}

const SCRIPT: &str = r#"
let app = alchemy("vault");
let key = secret(env("API_KEY"));
let api = Worker("api", #{
    script: "export default {}",
    bindings: #{ KEY: key, ALSO: `${key}`, PUBLIC: "public" },
});
KV("cache");
print(`the key is ${key}`);
print(key);
log(env("API_KEY"));
"#;

fn project() -> Project {
    let mut project = Project::with_script(SCRIPT);
    project.env("API_KEY", CANARY);
    project
}

#[test]
fn a_secret_is_in_no_file_and_in_no_output() {
    let project = project();
    quiet(
        project
            .alch(["run", "--verbose", "--json-into", "first.ndjson"])
            .success(),
    );
    quiet(project.alch(["plan", "--out", "plan.json"]).success());
    project.file(
        "alchemy.run.rhai",
        SCRIPT.replace("\"public\"", "\"other\""),
    );
    quiet(project.alch(["plan", "--out", "update.json"]).success());
    quiet(project.alch(["plan", "--json"]).code(0));
    quiet(project.alch(["run", "--json"]).success());
    quiet(project.alch(["run", "--force", "--json"]).success());
    for command in [
        &["state", "show", "api"][..],
        &["state", "show", "api", "--json"],
        &["state", "ls", "--json"],
        &["scope", "inspect"],
        &["scope", "inspect", "--json"],
        &["scope", "state"],
        &["read"],
        &["read", "--json"],
    ] {
        quiet(project.alch(command).success());
    }
    nowhere(&project, &[]);
    quiet(project.alch(["destroy", "--yes", "--json"]).success());
    nowhere(&project, &[]);
}

#[test]
fn what_is_encrypted_is_there_and_is_shown_as_hidden() {
    let project = project();
    project.alch(["run"]).success();
    let record = project.read(".alchemy/vault/dev/resources/api/state.json");
    let record: Value = serde_json::from_str(&record).unwrap();
    let key = &record["record"]["props"]["bindings"]["KEY"];
    assert!(
        key["$secret"].is_object() || key["$secret"].is_string(),
        "{key}"
    );
    let shown = project.alch(["state", "show", "api", "--json"]).success();
    assert_eq!(shown.messages()[1]["props"]["bindings"]["KEY"], "<secret>");
}

#[test]
fn an_error_of_a_provider_does_not_tell_a_secret() {
    let project = project();
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("vault");
let key = secret(env("API_KEY"));
Worker("api", #{ script: "export default {}", name: `${key}` });
"#,
    );
    let failed = quiet(project.alch(["run", "--json"]));
    assert_ne!(failed.code, Some(0));
    let failed = quiet(project.alch(["run"]));
    assert_ne!(failed.code, Some(0));
    nowhere(&project, &[]);
}

#[test]
fn a_child_process_that_echoes_a_secret_is_masked() {
    let project = project();
    project.file(
        "alchemy.run.rhai",
        r#"
let app = alchemy("vault");
let key = secret(env("API_KEY"));
Exec("said", #{ command: "echo \"$KEY\"", env: #{ KEY: key } });
Exec("fails", #{ command: "echo \"$KEY\"; echo \"$KEY\" >&2; exit 3", env: #{ KEY: key } });
"#,
    );
    for flags in [&["--allow-exec"][..], &["--allow-exec", "--json"]] {
        let failed = quiet(project.alch(["run"].iter().chain(flags)).code(4));
        let said = format!("{}{}", failed.stdout, failed.stderr);
        assert!(said.contains("<secret>"), "{said}");
    }
    nowhere(&project, &[]);
}

#[test]
fn what_a_command_echoes_of_a_secret_is_not_kept() {
    let mut project = Project::new();
    project.env("API_KEY", CANARY);
    project.env(
        "PEM",
        &format!("-----BEGIN KEY-----\n{CANARY}\n-----END KEY-----"),
    );
    project.file(
        "alchemy.run.rhai",
        r#"
alchemy("vault");
let key = secret(env("API_KEY"));
Exec("inherited", #{ command: "echo the key is $API_KEY" });
Exec("in-lines", #{
    command: "printf '%s\n' \"$PEM\" | grep -v KEY; printf %s \"$PEM\" | base64 -w0; printf %s \"$PEM\" | sed -n 2p >&2",
    env: #{ PEM: secret(env("PEM")) },
});
"#,
    );
    quiet(project.alch(["run", "--allow-exec"]).success());
    quiet(
        project
            .alch(["state", "show", "in-lines", "--json"])
            .success(),
    );
    nowhere(&project, &[]);
}

#[test]
fn an_error_of_the_script_does_not_tell_a_secret() {
    let project = project();
    for line in [
        "throw `no: ${env(\"API_KEY\")}`;",
        "throw key;",
        "KV(key);",
        "KV(\"cache\", #{ titel: env(\"API_KEY\") });",
        "let x = key + 1;",
        "json(env(\"API_KEY\"));",
        "file(env(\"API_KEY\"));",
    ] {
        project.file(
            "alchemy.run.rhai",
            format!("let app = alchemy(\"vault\");\nlet key = secret(env(\"API_KEY\"));\n{line}\n"),
        );
        let failed = quiet(project.alch(["run"]));
        assert_ne!(failed.code, Some(0), "{line}");
        quiet(project.alch(["plan", "--json"]));
    }
    nowhere(&project, &[]);
}

#[test]
fn a_changed_secret_is_an_update_and_an_unchanged_one_is_not() {
    let mut project = project();
    project.alch(["run"]).success();
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
    project.env("API_KEY", "another value altogether");
    let plan = project.alch(["plan"]).success();
    assert!(plan.stdout.contains("~ api"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("another value"), "{}", plan.stdout);
    assert_eq!(
        project.alch(["run"]).success().last_line(),
        "0 created, 1 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}

/// The description of the stage's key in its record.
fn key_of(project: &Project, stage: &str) -> Value {
    let record = project.read(&format!(".alchemy/vault/{stage}/state.json"));
    let record: Value = serde_json::from_str(&record).unwrap();
    record["record"]["header"]["key"].clone()
}

#[test]
fn a_hundred_secrets_share_the_one_key_of_their_stage() {
    let script = r#"
let app = alchemy("vault", #{ password: env("PASSWORD") });
for i in 0..100 {
    Worker(`w-${i}`, #{ script: "export default {}", bindings: #{ KEY: secret(`value ${i} of many`) } });
}
"#;
    let mut project = Project::with_script(script);
    project.env("PASSWORD", CANARY);
    project.alch(["run", "--concurrency", "50"]).success();
    let key = key_of(&project, "dev");
    assert_eq!(key["source"], "password");
    // The salt stands once for the stage and with no value: there is nothing to derive another key from.
    let salt = key["salt"].as_str().unwrap();
    let files = project.files_with(salt);
    assert_eq!(files, [project.path(".alchemy/vault/dev/state.json")]);
    let again = project.alch(["run"]).success();
    assert!(again.last_line().ends_with("0 API calls)"));
    assert_eq!(key_of(&project, "dev"), key);
    project.alch(["run", "--stage", "prod"]).success();
    assert_ne!(key_of(&project, "prod")["salt"], key["salt"]);
    assert_ne!(key_of(&project, "prod")["key_id"], key["key_id"]);
    nowhere(&project, &[]);
}

#[test]
fn a_password_is_asked_for_by_the_name_of_the_stage() {
    let mut project = project();
    project.env("ALCHEMY_PASSWORD", "correct horse battery staple");
    project.alch(["run", "--stage", "prod"]).success();
    let id = key_of(&project, "prod")["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    project.env("ALCHEMY_PASSWORD", "incorrect horse");
    let before = project.state_files();
    for arguments in [
        &["run", "--stage", "prod"][..],
        &["plan", "--stage", "prod"],
        &["run", "--destroy", "--stage", "prod"],
    ] {
        let output = project.alch(arguments).code(3);
        assert!(!output.stderr.contains("horse"), "{}", output.stderr);
        assert!(
            output
                .stderr
                .contains("wrong password for stage vault/prod"),
            "{}",
            output.stderr
        );
    }
    project
        .alch(["run", "--stage", "prod"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
alch: app vault, stage prod, phase up, target local
error[E0407]: wrong password for stage vault/prod (key [KEY])
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("vault");
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: check `ALCHEMY_PASSWORD` for this stage

"#]]);
    project.env("ALCHEMY_PASSWORD", "");
    project
        .alch(["run", "--stage", "prod"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
alch: app vault, stage prod, phase up, target local
error[E0408]: stage vault/prod was written with a password (key [KEY]), and none was given
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("vault");
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: set `ALCHEMY_PASSWORD`, or pass `password:` to `alchemy(..)`

"#]]);
    assert_eq!(project.state_files(), before, "a refused run changed state");
    assert!(project.files_with("horse battery").is_empty());
}

#[test]
fn without_a_password_a_key_file_is_made_and_then_needed() {
    let project = project();
    project.alch(["run"]).success();
    assert_eq!(key_of(&project, "dev")["source"], "file");
    let file = project.home().join(".alchemy/state.key");
    let key = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions())
            & 0o777,
        0o600
    );
    let id = key_of(&project, "dev")["key_id"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::remove_file(&file).unwrap();
    project
        .alch(["run"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
alch: app vault, stage dev, phase up, target local
error[E0407]: key file `[ROOT]/home/.alchemy/state.key`: it is missing, and stage vault/dev was written with it (key [KEY]); restore it from a backup
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("vault");
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: use the password or key file that the stage was written with

"#]]);
    std::fs::write(&file, "0".repeat(64)).unwrap();
    project
        .alch(["run"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
alch: app vault, stage dev, phase up, target local
error[E0407]: the key file `[ROOT]/home/.alchemy/state.key` does not open stage vault/dev (key [KEY])
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("vault");
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: use the password or key file that the stage was written with

"#]]);
    std::fs::write(&file, "nonsense").unwrap();
    project
        .alch(["run"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
alch: app vault, stage dev, phase up, target local
error[E0407]: key file `[ROOT]/home/.alchemy/state.key`: it does not hold 64 hexadecimal digits; restore it from a backup
 --> alchemy.run.rhai:2:11
  |
2 | let app = alchemy("vault");
  |           ^^^^^^^
  |
  = note: nothing was changed
  = help: use the password or key file that the stage was written with

"#]]);
    std::fs::write(&file, key).unwrap();
    assert!(
        project
            .alch(["run"])
            .success()
            .last_line()
            .ends_with("0 API calls)")
    );
}

#[test]
fn an_argument_that_is_a_secret_is_not_written_down() {
    let project = Project::with_script(
        r#"
let app = alchemy("vault");
Worker("api", #{ script: "export default {}", bindings: #{ KEY: secret(app.arguments[0]) } });
"#,
    );
    quiet(project.alch(["run", "--", CANARY]).success());
    nowhere(&project, &[]);
}

#[test]
fn a_secret_that_is_not_declared_any_more_leaves_the_worker() {
    let cloud = ServedCloud::quick();
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    for (binding, left) in [("#{ KEY: secret(\"planted\") }", 1), ("#{}", 0)] {
        let worker = format!(
            "let app = alchemy(\"shop\");\nWorker(\"api\", #{{ script: \"export default {{}}\", bindings: {binding} }});\n"
        );
        project.file("alchemy.run.rhai", worker);
        project.alch(["run", "--target", "cloudflare"]).success();
        let (_, answer) = cloud.call("GET", "workers/scripts/api-dev/secrets", "");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["result"].as_array().unwrap().len(), left, "{body}");
    }
}
