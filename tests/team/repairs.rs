//! The commands that mend state, over a bucket.

use std::sync::Arc;

use alch::state::bucket::{BucketConfig, BucketKeys, DEFAULT_TTL};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};

use super::{address, folder, project_at};
use crate::support::s3::{self, S3Server};

const TWO: &str = "alchemy(\"shop\"); KV(\"cache\"); Queue(\"jobs\");";
const THREE: &str = "alchemy(\"shop\"); KV(\"cache\"); Queue(\"jobs\"); KV(\"more\");";

fn bucket(server: &S3Server) -> Arc<dyn ObjectStore> {
    let config = BucketConfig {
        bucket: s3::BUCKET.to_owned(),
        endpoint: Some(server.endpoint.clone()),
        ..BucketConfig::default()
    };
    let keys = BucketKeys {
        access_key_id: s3::ACCESS_KEY_ID.to_owned(),
        secret_access_key: s3::SECRET_ACCESS_KEY.to_owned().into(),
        session_token: None,
    };
    config.client(&keys, DEFAULT_TTL).unwrap()
}

#[test]
fn state_that_was_damaged_in_the_bucket_is_told_and_put_together_again() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let project = project_at(TWO, &address(&server.endpoint, &folder));
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", THREE);
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", TWO);
    project.alch(["run"]).success();

    let store = bucket(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let key = Path::parse(format!("{folder}/shop/states/dev.json")).unwrap();
    let whole = runtime.block_on(async {
        let whole = store.get(&key).await.unwrap().bytes().await.unwrap();
        let half = whole.slice(..whole.len() / 2);
        store.put(&key, half.into()).await.unwrap();
        whole
    });
    for command in [&["run"][..], &["plan"], &["state", "ls"]] {
        let told = project.alch(command).code(12);
        assert!(told.stderr.contains("error[E0402]"), "{}", told.stderr);
        assert!(told.stderr.contains("states/dev.json"), "{}", told.stderr);
    }
    project.alch(["scope", "validate"]).code(12);
    project.alch(["scope", "rebuild", "--yes"]).success();
    project.alch(["scope", "validate"]).success();
    project.alch(["run"]).success();
    let after = project.alch(["run"]).success();
    assert!(
        after.last_line().ends_with("0 API calls)"),
        "{}",
        after.stderr
    );

    // The old object was kept aside, as it was.
    let aside = Path::parse(format!("{folder}/shop/backups/dev")).unwrap();
    let kept = runtime.block_on(async {
        let listed = store.list_with_delimiter(Some(&aside)).await.unwrap();
        let key = listed.common_prefixes[0].clone().join("state.json");
        store.get(&key).await.unwrap().bytes().await.unwrap()
    });
    assert_eq!(kept, whole.slice(..whole.len() / 2));

    let backups = project.alch(["scope", "backups"]).success();
    let name = backups
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with("state-"))
        .unwrap();
    project
        .alch(["scope", "restore", "--backup", name, "--force", "--yes"])
        .success();
    project.alch(["scope", "validate"]).success();
    project.alch(["scope", "cleanup", "--force"]).success();
    project.alch(["state", "ls"]).success();
}

#[test]
fn a_damaged_lock_and_damaged_history_are_mended_as_their_errors_say() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let project = project_at(TWO, &address(&server.endpoint, &folder));
    project.alch(["run"]).success();
    let store = bucket(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let damage = |key: &Path| {
        runtime.block_on(async {
            store.put(key, "half".into()).await.unwrap();
        });
    };
    let list = |of: &str| {
        let folder = Path::parse(format!("{folder}/shop/{of}/dev")).unwrap();
        runtime.block_on(async { store.list_with_delimiter(Some(&folder)).await.unwrap() })
    };

    damage(&Path::parse(format!("{folder}/shop/locks/dev.json")).unwrap());
    let told = project.alch(["run"]).code(12);
    assert!(
        told.stderr
            .contains("`alch scope unlock --app shop --stage dev --force`"),
        "{}",
        told.stderr
    );
    assert!(!told.stderr.contains("rebuild"), "{}", told.stderr);
    let told = project.alch(["scope", "validate"]).code(12);
    assert!(
        told.stderr
            .contains("to repair: `alch scope unlock --force`"),
        "{}",
        told.stderr
    );
    project
        .alch([
            "scope", "unlock", "--app", "shop", "--stage", "dev", "--force",
        ])
        .success();
    project.alch(["scope", "validate"]).success();
    project.file("alchemy.run.rhai", THREE);
    project.alch(["run"]).success();

    for of in ["deployments", "backups"] {
        damage(&list(of).objects.last().unwrap().location);
    }
    let told = project.alch(["scope", "validate"]).code(12);
    assert!(
        told.stderr.contains("to repair: `alch scope cleanup`"),
        "{}",
        told.stderr
    );
    project.alch(["scope", "cleanup"]).success();
    project.alch(["scope", "validate"]).success();
    project.alch(["state", "history"]).success();
    let aside = list("backups").common_prefixes[0].clone();
    let kept = runtime.block_on(async { store.list_with_delimiter(Some(&aside)).await.unwrap() });
    assert_eq!(kept.objects.len(), 2);
    assert!(kept.objects.iter().all(|object| object.size == 4));
    let after = project.alch(["run"]).success();
    assert!(
        after.last_line().ends_with("0 API calls)"),
        "{}",
        after.stderr
    );
}

#[test]
fn a_checkpoint_that_is_missing_in_the_bucket_is_in_every_listing() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let mut project = project_at(TWO, &address(&server.endpoint, &folder));
    project.alch(["run"]).success();
    project.alch(["run", "--stage", "prod"]).success();
    let store = bucket(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let remove = |key: &str| {
        let key = Path::parse(format!("{folder}/shop/{key}")).unwrap();
        runtime.block_on(async { store.delete(&key).await.unwrap() });
    };

    remove("states/dev.json");
    let listed = project.alch(["scope", "list"]).code(12);
    let row = |name: &str| {
        let mut lines = listed.stdout.lines();
        lines
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(row("shop/dev").ends_with("unreadable"), "{listed:?}");
    assert!(row("shop/prod").ends_with('2'), "{listed:?}");
    let advice = "help: `alch scope rebuild --app shop --stage dev` puts it together again";
    for command in [&["scope", "validate", "--all"][..], &["stages"]] {
        let told = project.alch(command).code(12);
        assert!(
            told.stderr.contains("states/dev.json` is missing")
                || told.stderr.contains("it is missing"),
            "{}",
            told.stderr
        );
    }
    let elsewhere = address(&server.endpoint, &super::folder());
    let migrate = ["state", "migrate-store", "--to", &elsewhere];
    let refused = project.alch(migrate).code(12);
    assert!(refused.stderr.contains(advice), "{}", refused.stderr);
    assert_eq!(
        project
            .read(".alchemy/stores/shop.json")
            .matches(&folder)
            .count(),
        1
    );

    // As the advice says; then all is well again.
    project
        .alch([
            "scope", "rebuild", "--app", "shop", "--stage", "dev", "--yes",
        ])
        .success();
    project.alch(["scope", "validate", "--all"]).success();
    project.alch(["run"]).success();
    let after = project.alch(["run"]).success();
    assert!(after.last_line().ends_with("0 API calls)"), "{after:?}");

    // Without its lock as well: the backups say that there was one.
    remove("states/dev.json");
    remove("locks/dev.json");
    let listed = project.alch(["scope", "list"]).code(12);
    assert!(listed.stdout.contains("unreadable"), "{listed:?}");
    // An application without its record is one still.
    remove("app.json");
    project.env("ALCHEMY_STATE_STORE", &address(&server.endpoint, &folder));
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    let listed = project.alch(["scope", "list"]).code(12);
    assert!(listed.stdout.contains("shop/prod"), "{listed:?}");
}

#[test]
fn a_damaged_record_of_a_run_in_the_bucket_hides_no_other() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let project = project_at(TWO, &address(&server.endpoint, &folder));
    project.alch(["run"]).success();
    project.file("alchemy.run.rhai", THREE);
    project.alch(["run"]).success();
    let store = bucket(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let runs = Path::parse(format!("{folder}/shop/deployments/dev")).unwrap();
    let damaged = runtime.block_on(async {
        let listed = store.list_with_delimiter(Some(&runs)).await.unwrap();
        let mut keys: Vec<Path> = listed.objects.into_iter().map(|of| of.location).collect();
        keys.sort();
        store.put(&keys[0], "half".into()).await.unwrap();
        keys[0].filename().unwrap().to_owned()
    });
    let told = project.alch(["state", "history"]).code(12);
    assert_eq!(told.stdout.lines().count(), 3, "{}", told.stdout);
    assert!(told.stderr.contains(&damaged), "{}", told.stderr);
    assert!(
        told.stderr.contains("alch scope cleanup --app shop"),
        "{}",
        told.stderr
    );
    project.alch(["scope", "logs"]).code(12);
    // The whole ones go along to another store, and what stays behind is said.
    let elsewhere = address(&server.endpoint, &super::folder());
    let moved = project
        .alch(["state", "migrate-store", "--to", &elsewhere])
        .success();
    assert!(moved.stderr.contains(&damaged), "{}", moved.stderr);
    let history = project.alch(["state", "history"]);
    assert!(history.stderr.contains("error[E0422]"), "{history:?}");
    let mut project = project;
    project.env("ALCHEMY_STATE_STORE", &elsewhere);
    let history = project.alch(["state", "history"]).success();
    assert_eq!(history.stdout.lines().count(), 2, "{}", history.stdout);
}
