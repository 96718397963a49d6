//! `alch state push|pull|migrate-store`.

use snapbox::str;

use super::{SHOP, address, folder, told, with_keys};
use crate::support::{Project, s3};

#[test]
fn an_application_moves_into_a_bucket_and_back() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project.alch(["run", "--stage", "prod"]).success();
    let moved = project.alch(["state", "migrate-store", "--to", &store]);
    told(moved, server, &folder).check(str![[r#"
exit 0
-- stdout
shop is in `s3://team/FOLDER` now: 2 stages (dev, prod)
the copy that stays in the project's `.alchemy` folder is marked: a run that begins there is refused and told of `s3://team/FOLDER`
declare it in the script, for everybody else: `alchemy(.., #{ stateStore: s3(..) })`

"#]]);
    let remembered = project.read(".alchemy/stores/shop.json");
    told(
        project.alch(["state", "migrate-store", "--to", &store]),
        server,
        &folder,
    )
    .check(str![[r#"
exit 2
-- stderr
error[E0501]: `s3://team/FOLDER` is the store in use
 = help: name another store: `s3://bucket/prefix?endpoint=URL`, `r2://bucket/prefix` or `local`

"#]]);
    assert_eq!(project.read(".alchemy/stores/shop.json"), remembered);

    // What the folder holds is not used any more.
    std::fs::rename(project.path(".alchemy/shop"), project.path("old")).unwrap();
    for stage in ["dev", "prod"] {
        let run = project.alch(["run", "--stage", stage]).success();
        assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    }
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\"); KV(\"cache\"); KV(\"more\");",
    );
    project.alch(["run"]).success();

    let back = project.alch(["state", "migrate-store", "--to", "local"]);
    told(back, server, &folder).success();
    assert!(!project.path(".alchemy/stores/shop.json").exists());
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    project.alch(["scope", "validate", "--all"]).success();
}

#[test]
fn a_stage_is_only_replaced_by_a_later_state_of_the_same_history() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    let push = ["state", "push", "--to", &store];
    let pull = ["state", "pull", "--from", &store];
    told(project.alch(push), server, &folder).check(str![[r#"
exit 0
-- stdout
pushed shop/dev to `s3://team/FOLDER`: 1 resource, serial 1

"#]]);
    told(project.alch(push), server, &folder).check(str![[r#"
exit 0
-- stdout
shop/dev is the same in both stores: nothing to do

"#]]);
    // Work goes on in the bucket.
    project.env("ALCHEMY_STATE_STORE", &store);
    project.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\"); KV(\"cache\"); KV(\"more\");",
    );
    project.alch(["run"]).success();
    let mut local = Project::with_script("");
    with_keys(&mut local);
    let fetched = local.alch(pull);
    told(fetched, server, &folder).check(str![[r#"
exit 0
-- stdout
pulled shop/dev from `s3://team/FOLDER`: 2 resources, serial 2

"#]]);
    let listed = local.alch(["state", "ls", "--json"]).success();
    assert_eq!(
        listed.messages()[1]["resources"].as_array().unwrap().len(),
        2
    );
    // An older one does not come back over it.
    project.env("ALCHEMY_STATE_STORE", "local");
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    told(project.alch(push), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0421]: shop/dev is not older in `s3://team/FOLDER`: it is at serial 2 there, and at 1 in the project's `.alchemy` folder
 = note: nothing was changed
 = help: to replace it all the same, add `--force`; what is replaced is kept aside

"#]]);
    // Nor does another history.
    let mut other = Project::with_script(SHOP);
    with_keys(&mut other);
    other.alch(["run"]).success();
    let refused = other.alch(push).code(1);
    assert!(
        refused
            .stderr
            .contains("error[E0421]: shop/dev has another history in"),
        "{}",
        refused.stderr
    );
    let forced = project.alch(["state", "push", "--to", &store, "--force", "--json"]);
    let forced = forced.success().messages();
    assert_eq!(
        (&forced[1]["type"], &forced[1]["changed"]),
        (&"pushed".into(), &true.into())
    );
    let pulled = project.alch(pull).success();
    assert!(
        pulled.stdout.contains("the same in both stores"),
        "{}",
        pulled.stdout
    );
}

#[test]
fn whoever_begins_a_run_in_the_old_store_is_refused_and_told() {
    let Some(server) = s3::server() else { return };
    let (old, new) = (folder(), folder());
    let (from, to) = (
        address(&server.endpoint, &old),
        address(&server.endpoint, &new),
    );
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.env("ALCHEMY_STATE_STORE", &from);
    project.alch(["run"]).success();
    // A colleague, whose folder remembers the old bucket.
    let mut colleague = Project::with_script(SHOP);
    with_keys(&mut colleague);
    colleague.env("ALCHEMY_STATE_STORE", &from);
    colleague.alch(["plan"]).success();
    project
        .alch(["state", "migrate-store", "--to", &to])
        .success();

    for command in [
        &["run"][..],
        &["plan"],
        &["state", "ls"],
        &["destroy", "--yes"],
    ] {
        let refused = colleague.alch(command).code(1);
        let told = format!("error[E0424]: state of shop/dev is in `{to}` now");
        assert!(
            refused.stderr.contains(&told),
            "{command:?}: {}",
            refused.stderr
        );
    }
    told(colleague.alch(["run"]), server, &new)
        .replacing(&old, "OLD")
        .check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0424]: state of shop/dev is in `s3://team/FOLDER?endpoint=http://SERVER` now; what is here is the copy that `alch state migrate-store` left
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: go on there: declare it as `stateStore` in the script, or set `ALCHEMY_STATE_STORE="s3://team/FOLDER?endpoint=http://SERVER"`

"#]]);
    colleague.env("ALCHEMY_STATE_STORE", &to);
    let run = colleague.alch(["plan"]).success();
    assert!(!run.stdout.contains("+ cache"), "{}", run.stdout);
    project.env("ALCHEMY_STATE_STORE", &to);
    project.alch(["run"]).success();

    // A move that was cut short after the marks goes on; one that was never begun is refused.
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    project.env("ALCHEMY_STATE_STORE", &from);
    let moved = project
        .alch(["state", "migrate-store", "--to", &to])
        .success();
    let still = "`ALCHEMY_STATE_STORE` still names";
    assert!(moved.stdout.contains(still), "{}", moved.stdout);
    project.env("ALCHEMY_STATE_STORE", &to);
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);

    // Back again: the mark goes with the copy.
    project
        .alch(["state", "migrate-store", "--to", &from])
        .success();
    project.env("ALCHEMY_STATE_STORE", &from);
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    project.alch(["scope", "validate", "--all"]).success();
}

#[test]
fn a_copy_in_the_folder_is_marked_too() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    // As if it had been copied to where nothing is known of the bucket.
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    let refused = project.alch(["run"]).code(1);
    assert!(
        refused.stderr.contains("error[E0424]"),
        "{}",
        refused.stderr
    );
    // Nothing is in the way where the bucket is named.
    project.env("ALCHEMY_STATE_STORE", &store);
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    // Where the bucket is gone for good, the copy is made the state again.
    project.env("ALCHEMY_STATE_STORE", "local");
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    project.alch(["scope", "restore", "--yes"]).success();
    project.env("ALCHEMY_STATE_STORE", "");
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
}

#[test]
fn a_store_that_is_none_is_a_mistake_in_the_command() {
    let project = Project::with_script(SHOP);
    project.alch(["run"]).success();
    let refused = project.alch(["state", "migrate-store", "--to", "foo"]);
    refused.check(str![[r#"
exit 2
-- stderr
error[E0501]: `foo` is no address of a bucket: it begins with `s3://` or `r2://`
 = help: a store is `local`, `s3://bucket/prefix?endpoint=URL&region=NAME`, or `r2://bucket/prefix`

"#]]);
}

#[test]
fn another_store_in_the_environment_than_the_one_it_was_brought_to_is_refused() {
    let Some(server) = s3::server() else { return };
    let (used, named) = (folder(), folder());
    let (store, other) = (
        address(&server.endpoint, &used),
        address(&server.endpoint, &named),
    );
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    let before = project.read(".alchemy/stores/shop.json");
    project.env("ALCHEMY_STATE_STORE", &other);
    told(
        project.alch(["state", "ls", "--app", "shop"]),
        server,
        &used,
    )
    .replacing(&named, "OTHER")
    .check(str![[r#"
exit 1
-- stderr
error[E0422]: `$ALCHEMY_STATE_STORE` names `s3://team/OTHER`, but state of shop is in `s3://team/FOLDER`, where `alch state migrate-store` brought it
 = note: nothing was changed
 = help: to go on where the state is: take `ALCHEMY_STATE_STORE` out of the environment, or set it to "s3://team/FOLDER?endpoint=http://SERVER"
 = help: to bring the state over: `alch state migrate-store --app shop --to "s3://team/OTHER?endpoint=http://SERVER"`

"#]]);
    for command in [
        &["run"][..],
        &["plan"],
        &["destroy", "--yes"],
        &["scope", "list"],
        &["state", "push", "--to", &other],
    ] {
        let refused = project.alch(command).code(1);
        assert!(
            refused.stderr.contains("error[E0422]"),
            "{command:?}: {}",
            refused.stderr
        );
    }
    project.env("ALCHEMY_STATE_STORE", "local");
    let refused = project.alch(["run"]).code(1);
    assert!(
        refused.stderr.contains(
            "`$ALCHEMY_STATE_STORE` names the project's `.alchemy` folder, but state of shop is in"
        ),
        "{}",
        refused.stderr
    );
    assert_eq!(project.read(".alchemy/stores/shop.json"), before);

    // Both ways out that it names.
    project.env("ALCHEMY_STATE_STORE", &store);
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
    project.env("ALCHEMY_STATE_STORE", &other);
    project
        .alch(["state", "migrate-store", "--app", "shop", "--to", &other])
        .success();
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
}
