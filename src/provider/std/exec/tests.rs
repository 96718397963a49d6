//! The exec kind with real processes: memo by content, failures, limits, redaction.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    provider::cloudflare::testing::{check_context, checked, context, map},
    util::fs,
};

fn at(folder: &Path) -> OperationContext {
    OperationContext {
        folder: folder.into(),
        ..context("exec")
    }
}

async fn exec(folder: &Path, props: Json) -> Result<Map, ProviderError> {
    let kind = Exec::new();
    let checked = checked(&kind, props);
    kind.create(&at(folder), &checked.props).await
}

#[tokio::test]
async fn a_command_runs_in_its_folder_with_its_environment_and_gives_its_output() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(&folder.path().join("sub")).unwrap();
    let shell =
        json!({ "command": "basename \"$PWD\"; echo $A >&2", "cwd": "sub", "env": { "A": "b" } });
    let outputs = exec(folder.path(), shell).await.unwrap();
    assert_eq!(outputs["stdout"], Value::from("sub\n"));
    assert_eq!(outputs["stderr"], Value::from("b\n"));
    assert_eq!(outputs["exitCode"], Value::Int(0));
    let direct = json!({ "command": ["printf", "%s|", "a b", "$A"] });
    let outputs = exec(folder.path(), direct).await.unwrap();
    assert_eq!(outputs["stdout"], Value::from("a b|$A|"));
}

#[tokio::test]
async fn a_failure_quotes_the_end_of_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let error = exec(
        folder.path(),
        json!({ "command": "echo one; echo two >&2; exit 3" }),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (
            FailureKind::Refused,
            "`echo one; echo two >&2; exit 3` ended with exit code 3:\ntwo"
        )
    );
    let error = exec(folder.path(), json!({ "command": ["no-such-program-x"] }))
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .starts_with("cannot start `no-such-program-x`")
    );
}

#[tokio::test]
async fn output_is_shown_line_by_line_kept_to_a_bound_and_without_the_given_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let context = OperationContext {
        progress: Arc::new(move |line| sink.lock().unwrap().push(line.to_owned())),
        ..at(folder.path())
    };
    let kind = Exec::new();
    let mut props = checked(
        &kind,
        json!({ "command": "echo \"key $KEY\"; head -c 200000 /dev/zero | tr '\\0' x" }),
    )
    .props;
    let secret = Value::Secret(Secret::plain("hunter2"));
    props.insert(
        "env".to_owned(),
        Value::Map(Map::from([("KEY".to_owned(), secret)])),
    );
    let outputs = kind.create(&context, &props).await.unwrap();
    let stdout = outputs["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("key <secret>\nxxx"));
    assert!(stdout.len() <= KEPT + 10);
    let lines = lines.lock().unwrap();
    assert_eq!(lines[0], "key hunter2");
    assert_eq!(lines.len(), 1 + 200_000_usize.div_ceil(LINE));
}

/// Whether some process of that group is left.
fn group_lives(pid: i32) -> bool {
    rustix::process::test_kill_process_group(Pid::from_raw(pid).unwrap()).is_ok()
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn cancelling_or_dropping_kills_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let pid = || {
        let text = fs::read_to_string(&path).ok()?;
        text.trim_end_matches('\n').parse::<i32>().ok()
    };
    let props = checked(
        &Exec::new(),
        json!({ "command": "sleep 1000 & echo $$ > pid.tmp; mv pid.tmp pid; wait" }),
    )
    .props;
    for cancel in [true, false] {
        fs::remove_file(&path).unwrap();
        let context = at(folder.path());
        let token = context.cancel.clone();
        let props = props.clone();
        let task = tokio::spawn(async move { run(&context, &props).await });
        until(|| pid().is_some()).await;
        if cancel {
            token.cancel();
            let error = task.await.unwrap().unwrap_err();
            assert_eq!(error.kind, FailureKind::Cancelled);
        } else {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        let pid = pid().unwrap();
        until(|| !group_lives(pid)).await;
    }
}

#[tokio::test]
async fn what_is_left_in_the_background_does_not_hold_the_command_up() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = exec(
        folder.path(),
        json!({ "command": "sleep 1000 & echo started" }),
    )
    .await
    .unwrap();
    assert_eq!(outputs["stdout"], Value::from("started\n"));
}

#[test]
fn the_hash_follows_the_files_that_the_patterns_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "src/a.js",
        "src/deep/b.js",
        "other.txt",
        "node_modules/c.js",
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write_atomic(&path, b"1").unwrap();
    }
    let kind = Exec::new();
    let check = |props: Json| {
        let mut place = check_context("app/dev", "thing");
        place.folder = folder.path().into();
        kind.check(&place, map(props)).map(|checked| checked.props)
    };
    let patterns = || check(json!({ "command": "x", "memoize": { "patterns": ["./**/*.js"] } }));
    let first = patterns().unwrap();
    fs::write_atomic(&folder.path().join("other.txt"), b"2").unwrap();
    fs::write_atomic(&folder.path().join("node_modules/c.js"), b"2").unwrap();
    assert_eq!(patterns().unwrap(), first);
    fs::write_atomic(&folder.path().join("src/deep/b.js"), b"2").unwrap();
    assert_ne!(patterns().unwrap(), first);

    let plain = || check(json!({ "command": "x", "memoize": true })).unwrap();
    assert_eq!(plain(), check(json!({ "command": "x" })).unwrap());
    let always = || check(json!({ "command": "x", "memoize": false })).unwrap();
    assert_ne!(always(), always());
    let none = check(json!({ "command": "x", "memoize": { "patterns": ["*.rs"] } })).unwrap_err();
    assert_eq!(none[0].path, ["memoize", "patterns"]);
    assert_eq!(
        check(json!({ "command": " " })).unwrap_err()[0].message,
        "the command is empty"
    );
}
