//! State of every format that was ever written is read for good; state of a newer one is refused and left alone.
//!
//! `tests/fixtures/state/<format>/` holds state as the program of that time wrote it in [`written`]; files there are never changed.
//! When a change of the format makes [`the_fixture_of_this_format_is_what_is_written`] fail: raise `FORMAT` in `src/state/record.rs`, add
//! the step in `src/state/migrate.rs`, and write a new folder with `ALCH_WRITE_FIXTURE=1 cargo test formats::`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use alch::state::record::FORMAT;
use serde_json::{Value, json};

use crate::support::{Project, cloud::ServedCloud};

/// The password of every fixture.
const PASSWORD: &str = "the fixture's own password";

/// Parts of a record that hold what people named, and not what the format is.
const OPEN: [&str; 6] = [
    "props",
    "outputs",
    "reference_hashes",
    "records",
    "open_intents",
    "counts",
];

const FIRST: &str = r#"
let app = alchemy("fixture", #{ password: env("ALCHEMY_PASSWORD") });
let data = alchemy.run("data", || {
    alchemy.run("inner", || KV("deep"));
    KV("cache", #{ delete: false })
});
KV("old-name");
KV("taken", #{ name: "taken", adopt: true });
let word = RandomString("word", #{ length: 12 });
let Kept = resource("my::Kept", #{
    create: |ctx, id, props| #{ token: secret("a token that nobody knows"), size: props.size },
    update: |ctx, id, props| #{ token: secret("a token that nobody knows"), size: props.size },
    delete: |ctx, id, props| (),
});
let kept = Kept.declare("kept", #{ size: 3, list: [1, 2.5, true, (), "x"], map: #{ a: #{ b: "c" } } });
Worker("api", #{
    script: "export default {}",
    bindings: #{ CACHE: data, KEY: secret("another one"), TOKEN: kept.ref("token"), WORD: `${word.ref("value")}!` },
    crons: ["0 2 * * *"],
    protect: true,
});
[MORE]
Bucket("files", #{ name: "files-[N]" });
app.finalize();
"#;

/// State with all that a record can hold, as this program writes it: from real runs against a cloud that does not always do as it
/// is asked, and whose last run is killed in the middle.
fn written() -> (Project, ServedCloud) {
    let cloud = ServedCloud::with_gate(2, "POST queues");
    let mut project = Project::new();
    cloud.serve_to(&mut project);
    project.env("ALCHEMY_PASSWORD", PASSWORD);
    // A stage that was removed.
    project.file("alchemy.run.rhai", "alchemy(\"fixture\"); KV(\"gone\");");
    let gone = ["--target", "cloudflare", "--stage", "gone"];
    project.alch([&["run"][..], &gone].concat()).success();
    project
        .alch([&["destroy", "--yes"][..], &gone].concat())
        .success();
    cloud.ask("POST", "storage/kv/namespaces", r#"{"title":"taken"}"#);
    let script = |number: &str, more: &str| FIRST.replace("[N]", number).replace("[MORE]", more);
    let run = ["run", "--target", "cloudflare", "--allow-data-loss"];
    project.file("alchemy.run.rhai", script("one", ""));
    project.alch(run).success();
    // A renamed resource, and an object that a replacement left behind.
    let second = script("two", "moved(\"old-name\", \"new-name\");")
        .replace("KV(\"old-name\");", "")
        .replace("[MORE]", "")
        .replace("Bucket(", "KV(\"new-name\");\nBucket(");
    project.file("alchemy.run.rhai", &second);
    cloud.refuse(Some(("DELETE", "r2/buckets")));
    project.alch(run).code(4);
    // An intent without a result.
    project.file(
        "alchemy.run.rhai",
        second.replace("app.finalize();", "Queue(\"begun\");"),
    );
    let mut killed = project.start(run);
    cloud.wait_until_held(1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut said = String::new();
    killed.stderr.unwrap().read_to_string(&mut said).unwrap();
    (project, cloud)
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/state/{format}"))
}

/// The files of a stage, by their path in it.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
        // Logs are events and no state; locks are of a moment.
        let is_state = path.starts_with("fixture/") && !path.contains("/logs/");
        if entry.file_type().is_file() && is_state {
            out.insert(path.to_owned(), std::fs::read(entry.path()).unwrap());
        }
    }
    out
}

/// The payloads of a journal.
fn payloads(journal: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    let mut at = 8;
    while at < journal.len() {
        let length = u32::from_le_bytes(journal[at..at + 4].try_into().unwrap());
        let end = at + 25 + usize::try_from(length).unwrap();
        out.push(serde_json::from_slice(&journal[at + 25..end]).unwrap());
        at = end + 4;
    }
    out
}

/// Every path in a document, as far as the format says what stands there.
fn shape(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                match OPEN.contains(&key.as_str()) {
                    true => {
                        out.insert(path.clone());
                        // Records within a snapshot are of the format, too.
                        if let (Value::Object(items), "records" | "open_intents") =
                            (value, key.as_str())
                        {
                            for item in items.values() {
                                shape(item, &format!("{path}.*"), out);
                            }
                        }
                    }
                    false => shape(value, &path, out),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                shape(item, &format!("{path}[]"), out);
            }
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

/// What a stage's files look like: by their role, every member that occurs.
fn shapes(root: &Path) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut out: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (path, bytes) in files(root) {
        let role = match path.as_str() {
            "fixture/state.json" => "application",
            "fixture/dev/state.json" => "stage",
            "fixture/dev/journal.wal" => "journal",
            "fixture/gone/removed.json" => "removal",
            path if path.contains("/backups/") => "backup",
            path if path.contains("/deployments/") => "deployment",
            path if path.contains("/resources/") => "record",
            _ => "scope",
        };
        let shape_of = out.entry(role).or_default();
        if role == "journal" {
            for payload in payloads(&bytes) {
                shape(&payload, "", shape_of);
            }
        } else {
            shape(&serde_json::from_slice(&bytes).unwrap(), "", shape_of);
        }
    }
    out
}

/// A project with the state of a fixture.
fn with_fixture(format: u32) -> Project {
    let mut project = Project::new();
    project.env("ALCHEMY_PASSWORD", PASSWORD);
    for (path, bytes) in files(&fixture(format)) {
        project.file(&format!(".alchemy/{path}"), bytes);
    }
    project
}

/// Writes what was written as the fixture of this format, without the name of this machine.
fn write_fixture(project: &Project) {
    let root = fixture(FORMAT);
    assert!(!root.exists(), "a fixture is never changed");
    for (path, bytes) in files(&project.path(".alchemy")) {
        let bytes = match path.contains("/deployments/") {
            true => changed(&bytes, |record| record["host"] = json!("host")),
            false => bytes,
        };
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// A checked file with another record in it.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut file["record"]);
    let record = file["record"].to_string();
    let checksum = blake3::hash(record.as_bytes()).to_hex();
    format!("{{\"checksum\":\"blake3:{checksum}\",\"record\":{record}}}\n").into_bytes()
}

#[test]
fn the_fixture_of_this_format_is_what_is_written() {
    let (project, _cloud) = written();
    if std::env::var_os("ALCH_WRITE_FIXTURE").is_some() {
        write_fixture(&project);
    }
    assert!(
        fixture(FORMAT).is_dir(),
        "format {FORMAT} has no fixture: see the head of this file"
    );
    let expected = shapes(&fixture(FORMAT));
    let mut found = shapes(&project.path(".alchemy"));
    found.retain(|role, _| expected.contains_key(role));
    assert_eq!(
        found, expected,
        "the format is another: see the head of this file"
    );
    for (role, member) in [
        ("record", ".record.old_objects[].instance"),
        ("record", ".record.adopted"),
        ("record", ".record.protect"),
        ("record", ".record.retain"),
        ("record", ".record.keeps_name"),
        ("record", ".record.position.line"),
        ("stage", ".record.header.key.salt"),
        ("journal", ".operation"),
        ("removal", ".record.removed.serial"),
        ("backup", ".record.records.*.kind"),
    ] {
        assert!(
            expected[role].contains(member),
            "{role} has no {member}: {:#?}",
            expected[role]
        );
    }
}

#[test]
fn state_of_every_format_is_read() {
    for format in 1..=FORMAT {
        let project = with_fixture(format);
        project.alch(["scope", "validate"]).success();
        let listed = project.alch(["state", "ls", "--json"]).success();
        let listed = listed.messages()[1]["resources"].clone();
        let names: Vec<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource["fqn"].as_str().unwrap())
            .collect();
        for id in [
            "api",
            "data/cache",
            "data/inner/deep",
            "files",
            "kept",
            "new-name",
            "taken",
            "word",
        ] {
            let fqn = format!("fixture/dev/{id}");
            assert!(names.contains(&fqn.as_str()), "format {format}: {names:?}");
            project.alch(["state", "show", id]).success();
        }
        let stage = project.alch(["scope", "inspect", "--json"]).success();
        let stage = &stage.messages()[1];
        assert_eq!(
            stage["unresolved"][0]["fqn"], "fixture/dev/begun",
            "{stage}"
        );
        assert!(!stage["deployments"].as_array().unwrap().is_empty());
        // One that was removed is known to have been.
        let gone = project.alch(["state", "ls", "--stage", "gone"]).code(6);
        assert!(gone.stderr.contains("after serial 2"), "{}", gone.stderr);
        // Opens every secret, and writes all of it anew.
        let mut project = project;
        project.env("ALCHEMY_NEW_PASSWORD", "another");
        let rotated = project.alch(["secrets", "rotate"]).success();
        assert!(
            rotated.stdout.contains("fixture/dev: "),
            "{}",
            rotated.stdout
        );
        project.alch(["scope", "validate"]).success();
    }
}

#[test]
fn state_of_a_newer_format_is_refused_and_left_alone() {
    for path in ["fixture/state.json", "fixture/dev/state.json"] {
        let project = with_fixture(FORMAT);
        project.file("alchemy.run.rhai", "alchemy(\"fixture\");");
        let name = format!(".alchemy/{path}");
        let newer = changed(project.read(&name).as_bytes(), |record| {
            record["format"] = json!(FORMAT + 1);
            record["something_new"] = json!(true);
        });
        project.file(&name, newer);
        let before = project.state_files();
        for command in [
            &["run"][..],
            &["plan"],
            &["destroy", "--yes"],
            &["state", "ls"],
            &["state", "rm", "kept", "--yes"],
            &["secrets", "rotate", "--to-key-file"],
        ] {
            let refused = project.alch(command).code(12);
            let said = format!(
                "was written in format {}; this alch reads up to {FORMAT}",
                FORMAT + 1
            );
            assert!(
                refused.stderr.contains("error[E0403]") && refused.stderr.contains(&said),
                "{path}, {command:?}: {}",
                refused.stderr
            );
        }
        assert_eq!(project.state_files(), before, "{path}");
    }
}

#[test]
fn a_format_that_never_was_is_damage() {
    let project = with_fixture(FORMAT);
    let name = ".alchemy/fixture/dev/state.json";
    let older = changed(project.read(name).as_bytes(), |record| {
        record["format"] = json!(0);
    });
    project.file(name, older);
    let refused = project.alch(["state", "ls"]).code(12);
    assert!(
        refused.stderr.contains("error[E0402]"),
        "{}",
        refused.stderr
    );
}
