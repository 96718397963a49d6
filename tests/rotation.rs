//! `alch secrets rotate`: another password for the secrets in state, and nothing else changes.

use std::sync::Arc;

use alch::{
    model::{self, AppName, Secret, StageName, StagePath},
    secret::{KeyMaterial, Keyring},
    state::KeyCheck,
    util::ids::SystemIds,
};
use serde_json::Value;
use snapbox::str;
use zeroize::Zeroizing;

use crate::support::{Project, s3};

const SCRIPT: &str = r#"
let app = alchemy("vault");
let Kept = resource("my::Kept", #{
    create: |ctx, id, props| #{ token: secret("a token"), size: props.size },
    update: |ctx, id, props| throw "it was to stay as it is",
    delete: |ctx, id, props| (),
});
let kept = Kept.declare("kept", #{ size: 1 });
Worker("api", #{
    script: "export default {}",
    bindings: #{ KEY: secret(env("API_KEY", "a key")), TOKEN: kept.ref("token"), BOTH: `${kept.ref("token")}!` },
});
Worker("other", #{ script: "export default {}", bindings: #{ SIZE: `${kept.ref("size")}` } });
KV("cache");
"#;

fn project(password: &str) -> Project {
    let mut project = Project::with_script(SCRIPT);
    project.env("ALCHEMY_PASSWORD", password);
    project.alch(["run"]).success();
    project
}

fn key_id(project: &Project, stage: &str) -> String {
    let record = project.read(&format!(".alchemy/vault/{stage}/state.json"));
    let record: Value = serde_json::from_str(&record).unwrap();
    let id = &record["record"]["header"]["key"]["key_id"];
    id.as_str().unwrap().to_owned()
}

#[track_caller]
fn unchanged(project: &Project) {
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    project.alch(["scope", "validate"]).success();
}

#[test]
fn a_new_password_opens_what_the_old_one_did() {
    let mut project = project("correct horse");
    let old = key_id(&project, "dev");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key, and those of 1 backup

"#]]);
    assert_ne!(key_id(&project, "dev"), old);
    let refused = project.alch(["run"]).code(3);
    assert!(
        refused.stderr.contains("error[E0407]"),
        "{}",
        refused.stderr
    );
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    // A secret that changes is still seen.
    project.env("API_KEY", "another key");
    let plan = project.alch(["plan"]).success();
    assert!(plan.stdout.contains("~ api"), "{}", plan.stdout);
    assert!(!plan.stdout.contains("~ other"), "{}", plan.stdout);
}

#[test]
fn a_wrong_old_password_changes_nothing() {
    let mut project = project("correct horse");
    let before = project.state_files();
    project.env("ALCHEMY_PASSWORD", "incorrect horse");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    let id = key_id(&project, "dev");
    project
        .alch(["secrets", "rotate"])
        .replacing(&id, "[KEY]")
        .check(str![[r#"
exit 3
-- stderr
error[E0407]: wrong password for stage vault/dev (key [KEY])
 = note: nothing was changed
 = help: check `ALCHEMY_PASSWORD` for this stage

"#]]);
    project.env("ALCHEMY_PASSWORD", "");
    project.alch(["secrets", "rotate"]).code(3);
    assert_eq!(project.state_files(), before);
}

#[test]
fn both_passwords_may_come_from_a_file() {
    let mut project = Project::with_script(SCRIPT);
    let file = ["--env-file", "passwords.env"];
    project.file(
        "passwords.env",
        "ALCHEMY_PASSWORD=\"correct horse\"\nALCHEMY_NEW_PASSWORD='battery staple'\n",
    );
    project.alch(["run"].iter().chain(&file)).success();
    project.alch(["secrets", "rotate"]).code(2);
    let rotate = ["secrets", "rotate"];
    let rotated = project.alch(rotate.iter().chain(&file));
    rotated.check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key, and those of 1 backup

"#]]);
    // Variables of the process win over the file.
    project.env("ALCHEMY_PASSWORD", "incorrect horse");
    project.env("ALCHEMY_NEW_PASSWORD", "third");
    project.alch(rotate.iter().chain(&file)).code(3);
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
}

#[test]
fn a_new_password_must_be_given() {
    let mut project = project("correct horse");
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: no new password is given
 = help: set `ALCHEMY_NEW_PASSWORD` in the environment or in an `--env-file`, or pass `--to-key-file` to do without a password

"#]]);
    // An empty one is none, as in `ALCHEMY_PASSWORD`.
    project.env("ALCHEMY_NEW_PASSWORD", "");
    project.alch(["secrets", "rotate"]).code(2);
    project.env("ALCHEMY_NEW_PASSWORD", "x");
    project
        .alch(["secrets", "rotate", "--stage", "prod"])
        .code(6);
}

#[test]
fn from_the_key_file_to_a_password_and_back() {
    let mut project = project("");
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project.alch(["secrets", "rotate"]).success();
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    project
        .alch(["secrets", "rotate", "--to-key-file"])
        .success();
    project.env("ALCHEMY_PASSWORD", "");
    unchanged(&project);
}

#[test]
fn all_stages_change_and_a_rotation_that_was_stopped_between_them_goes_on() {
    let mut project = project("correct horse");
    project.alch(["run", "--stage", "prod"]).success();
    project.file("plain.rhai", "alchemy(\"vault\"); KV(\"cache\");");
    project
        .alch(["run", "plain.rhai", "--stage", "plain"])
        .success();
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project
        .alch(["secrets", "rotate", "--stage", "prod"])
        .success();
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key, and those of 1 backup
vault/plain: no secrets
vault/prod: sealed with the new key already

"#]]);
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
    let run = project.alch(["run", "--stage", "prod"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
}

/// The vaults that a password opens: of every stage whose key stands in some file.
struct Burglar {
    password: String,
    tried: Vec<KeyCheck>,
    opened: Vec<Keyring>,
}

impl Burglar {
    /// Takes the keys of all stages while the password still fits.
    fn with(password: &str, project: &Project) -> Self {
        let mut burglar = Self {
            password: password.to_owned(),
            tried: Vec::new(),
            opened: Vec::new(),
        };
        for bytes in project.state_files().values() {
            burglar.learn(bytes);
        }
        assert!(!burglar.opened.is_empty());
        burglar
    }

    /// Tries the password at every key that a file names.
    fn learn(&mut self, bytes: &[u8]) {
        for found in objects(bytes, "\"key\":") {
            let Ok(check) = serde_json::from_value::<KeyCheck>(found) else {
                continue;
            };
            if self.tried.contains(&check) {
                continue;
            }
            self.tried.push(check.clone());
            for stage in ["dev", "prod", "test:smoke:dev"] {
                let name: StageName = serde_json::from_value(stage.into()).unwrap();
                let path = StagePath::new(AppName::new("vault").unwrap(), name);
                let password = Zeroizing::new(self.password.clone());
                let keyring = Keyring::new(
                    path,
                    Some(check.clone()),
                    KeyMaterial::Password(password),
                    Arc::new(SystemIds),
                );
                if keyring.vault().is_ok() {
                    self.opened.push(keyring);
                }
            }
        }
    }

    /// How many values in some bytes open, of how many that are sealed.
    fn open(&self, bytes: &[u8]) -> (usize, usize) {
        let sealed: Vec<Secret> = objects(bytes, "\"$secret\":")
            .map(|found| {
                match model::Value::from_json(serde_json::json!({ "$secret": found })).unwrap() {
                    model::Value::Secret(secret) => secret,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let opened = sealed
            .iter()
            .filter(|secret| {
                self.opened
                    .iter()
                    .any(|keyring| keyring.vault().unwrap().open(secret).is_ok())
            })
            .count();
        (opened, sealed.len())
    }

    /// The files of state in which something opens, and how many values are sealed in all of them.
    fn break_in(&mut self, project: &Project) -> (Vec<String>, usize) {
        let (mut opened, mut sealed) = (Vec::new(), 0);
        for (path, bytes) in project.state_files() {
            self.learn(&bytes);
            let (open, all) = self.open(&bytes);
            sealed += all;
            if open > 0 {
                opened.push(path.display().to_string());
            }
        }
        (opened, sealed)
    }
}

/// Every JSON value that stands behind `key` in some bytes, whatever the file is otherwise.
fn objects<'a>(bytes: &'a [u8], key: &'a str) -> impl Iterator<Item = Value> + 'a {
    bytes
        .windows(key.len())
        .enumerate()
        .filter(move |(_, window)| *window == key.as_bytes())
        .filter_map(move |(at, _)| {
            let rest = &bytes[at + key.len()..];
            let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
            values.next()?.ok()
        })
}

/// A project with all that can be sealed: two stages, a test that was cut short, backups, a journal, what a repair set aside.
fn full(password: &str) -> Project {
    let mut project = project(password);
    project.env("API_KEY", "another key");
    project.alch(["run"]).success();
    project.alch(["run", "--stage", "prod"]).success();
    project.env("API_KEY", "a third key");
    project.alch(["run", "--stage", "prod"]).success();
    let tested = SCRIPT.replace(
        "KV(\"cache\");",
        r#"KV("cache");
alchemy.test("smoke", || {
    wait(Worker("probe", #{ script: "export default {}", bindings: #{ KEY: secret("tried") } }));
    print("begun");
    while glob("go").is_empty() { sleep(0.02); }
});"#,
    );
    project.file("tested.rhai", tested);
    let mut killed = project.start(["run", "tested.rhai"]);
    let mut line = String::new();
    let stdout = killed.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "begun\n");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(
        project
            .path(".alchemy/vault/test/smoke/dev/journal.wal")
            .exists()
    );
    project
}

#[test]
fn nothing_in_the_state_folder_opens_with_the_old_password() {
    let mut project = full("correct horse");
    // A repair sets the damaged stage aside, with all that is sealed in it.
    let record = ".alchemy/vault/prod/resources/kept/state.json";
    let whole = project.read(record);
    project.file(record, whole.replace("size", "siez"));
    project
        .alch(["scope", "rebuild", "--stage", "prod", "--yes"])
        .success();
    let mut burglar = Burglar::with("correct horse", &project);
    let (opened, sealed) = burglar.break_in(&project);
    assert!(opened.len() > 8 && sealed > 10, "{opened:?} {sealed}");

    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    let rotated = project.alch(["secrets", "rotate"]).success();
    assert!(
        rotated.stdout.contains("vault/test:smoke:dev: 1 secret"),
        "{}",
        rotated.stdout
    );
    assert!(rotated.stderr.contains("damaged-"), "{}", rotated.stderr);
    let (opened, _) = burglar.break_in(&project);
    assert!(!opened.is_empty(), "what was set aside is still as it was");
    for path in &opened {
        assert!(path.contains("/damaged-"), "{path}");
    }
    // A backup has the new key, too: it can be restored.
    project.env("ALCHEMY_PASSWORD", "battery staple");
    project.alch(["scope", "restore", "--yes"]).success();
    project.alch(["run"]).success();
    unchanged(&project);

    project.env("ALCHEMY_PASSWORD", "correct horse");
    let pruned = project
        .alch(["secrets", "rotate", "--prune-backups"])
        .success();
    assert!(pruned.stdout.contains("removed"), "{}", pruned.stdout);
    assert_eq!(pruned.stderr, "");
    let (opened, sealed) = burglar.break_in(&project);
    assert_eq!(opened, Vec::<String>::new());
    assert!(sealed > 4, "{sealed}");
    project.alch(["scope", "validate", "--all"]).success();
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
}

#[test]
fn a_rotation_in_a_bucket_leaves_nothing_that_the_old_password_opens() {
    let Some(server) = s3::server() else { return };
    let mut project = Project::with_script(SCRIPT);
    let folder = format!("rotation-{}", std::process::id());
    let address = format!("s3://{}/{folder}?endpoint={}", s3::BUCKET, server.endpoint);
    project
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_ACCESS_KEY)
        .env("ALCHEMY_PASSWORD", "correct horse");
    // It begins in the folder, whose copy stays behind.
    project.alch(["run"]).success();
    project
        .alch(["state", "migrate-store", "--to", &address])
        .success();
    project.env("API_KEY", "another key");
    project.alch(["run"]).success();
    project.env("ALCHEMY_NEW_PASSWORD", "battery staple");
    project.alch(["secrets", "rotate"]).check(str![[r#"
exit 0
-- stdout
vault/dev: 2 secrets sealed with the new key, and those of 2 backups
-- stderr
sealed as before, as it is damaged or has another key: the old copy of vault/dev in `.alchemy`
  `alch secrets rotate --prune-backups` removes all earlier states

"#]]);
    project
        .alch(["secrets", "rotate", "--prune-backups"])
        .check(str![[r#"
exit 0
-- stdout
vault/dev: sealed with the new key already; 2 earlier states removed
-- stderr
removed the old copy of vault/dev

"#]]);
    let mut burglar = Burglar {
        password: "correct horse".to_owned(),
        tried: Vec::new(),
        opened: Vec::new(),
    };
    let (opened, sealed) = burglar.break_in(&project);
    assert_eq!(
        (opened, sealed),
        (Vec::new(), 0),
        "nothing is here any more"
    );
    project.env("ALCHEMY_PASSWORD", "battery staple");
    unchanged(&project);
}
