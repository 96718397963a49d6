//! That a stage was destroyed is kept in mind: no older copy of it, in whatever store, counts for more.

use snapbox::str;

use super::{SHOP, address, folder, told, with_keys};
use crate::support::{Project, s3};

const MORE: &str = "alchemy(\"shop\"); KV(\"cache\"); KV(\"more\");";

/// A run that changes nothing and calls nobody.
#[track_caller]
fn settled(project: &Project) {
    let run = project.alch(["run"]).success();
    assert!(run.last_line().ends_with("0 API calls)"), "{}", run.stderr);
}

/// No stage is listed anywhere, and nothing is damaged.
#[track_caller]
fn gone(project: &Project) {
    let listed = project.alch(["scope", "list"]).success();
    assert_eq!(listed.stdout, "no scope has state here\n");
    let stages = project.alch(["stages"]).success();
    assert_eq!(stages.stdout, "no stage has state here\n");
    project.alch(["scope", "validate", "--all"]).success();
    for command in [&["scope", "inspect"][..], &["scope", "validate"]] {
        let refused = project.alch(command).code(6);
        assert!(
            refused.stderr.contains("note: it was removed at 20")
                && refused.stderr.contains(" by deployment 01"),
            "{command:?}: {}",
            refused.stderr
        );
    }
    project.alch(["state", "history"]).success();
}

/// What one resource more or less makes of a run: the state of before is not taken for the state.
#[track_caller]
fn made_anew(project: &Project) {
    project.file("alchemy.run.rhai", SHOP);
    let run = project.alch(["run"]).success();
    assert!(
        run.last_line()
            .starts_with("1 created, 0 updated, 0 deleted, 0 unchanged"),
        "{}",
        run.stderr
    );
    settled(project);
    project.alch(["scope", "validate", "--all"]).success();
}

#[test]
fn a_stage_destroyed_in_the_bucket_stays_destroyed_when_the_state_comes_back() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    project.alch(["destroy", "--yes"]).success();
    gone(&project);
    // The copy from before is still in the folder, marked.
    assert!(
        project
            .path(".alchemy/shop/dev/resources/cache/state.json")
            .exists()
    );
    let back = project.alch(["state", "migrate-store", "--to", "local"]);
    told(back, server, &folder).check(str![[r#"
exit 0
-- stdout
shop is in the project's `.alchemy` folder now: 0 stages
removed before, so that no older copy counts there: dev
take `stateStore` out of the script, and `ALCHEMY_STATE_STORE` out of the environment

"#]]);
    assert!(!project.path(".alchemy/shop/dev/resources").exists());
    gone(&project);
    let history = project.alch(["state", "history"]).success();
    assert!(history.stdout.contains("destroy"), "{}", history.stdout);
    made_anew(&project);
    // And once more around, with what was made anew.
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    settled(&project);
}

#[test]
fn work_that_went_on_in_the_bucket_until_its_destroy_is_newer_than_what_was_pushed() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project.alch(["state", "push", "--to", &store]).success();
    project.env("ALCHEMY_STATE_STORE", &store);
    project.file("alchemy.run.rhai", MORE);
    project.alch(["run"]).success();
    project.alch(["destroy", "--yes"]).success();

    // The copy here, which was never marked, does not come back over it.
    project.env("ALCHEMY_STATE_STORE", "local");
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    let refused = project.alch(["state", "migrate-store", "--to", &store]);
    told(refused, server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0421]: shop/dev was removed in `s3://team/FOLDER`, at serial 4; what the project's `.alchemy` folder has is an older copy, at serial 1
 = note: nothing was changed
 = help: to take over that it was removed: `alch state pull --app shop --stage dev --from "s3://team/FOLDER?endpoint=http://SERVER"`
 = help: to bring the older copy back all the same, add `--force`

"#]]);
    let pull = ["state", "pull", "--from", &store];
    told(project.alch(pull), server, &folder).check(str![[r#"
exit 0
-- stdout
pulled shop/dev from `s3://team/FOLDER`: it was removed, serial 4

"#]]);
    gone(&project);
    told(project.alch(pull), server, &folder).check(str![[r#"
exit 0
-- stdout
shop/dev was removed in both stores: nothing to do

"#]]);
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    project.env("ALCHEMY_STATE_STORE", &store);
    gone(&project);
    made_anew(&project);
}

#[test]
fn what_was_destroyed_here_is_not_pulled_back() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    let push = ["state", "push", "--to", &store];
    let pull = ["state", "pull", "--from", &store];
    project.alch(push).success();
    project.alch(["destroy", "--yes"]).success();
    told(project.alch(pull), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0421]: shop/dev was removed in the project's `.alchemy` folder, at serial 3; what `s3://team/FOLDER` has is an older copy, at serial 1
 = note: nothing was changed
 = help: to take over that it was removed: `alch state push --app shop --stage dev --to "s3://team/FOLDER?endpoint=http://SERVER"`
 = help: to bring the older copy back all the same, add `--force`

"#]]);
    gone(&project);

    // What is made anew is newer than the copy in the bucket, and than its own destroy.
    made_anew(&project);
    let refused = project.alch(pull).code(1);
    assert!(refused.stderr.contains("is not older"), "{refused:?}");
    project.alch(push).success();
    project.alch(["destroy", "--yes"]).success();
    let pushed = project.alch(["state", "push", "--to", &store, "--json"]);
    let pushed = pushed.success().messages();
    let pushed = pushed.iter().find(|event| event["type"] == "pushed");
    assert_eq!(pushed.unwrap()["removed"], true);
    // A colleague finds it gone there.
    let mut colleague = Project::with_script(SHOP);
    with_keys(&mut colleague);
    colleague.env("ALCHEMY_STATE_STORE", &store);
    let listed = colleague.alch(["scope", "list"]).success();
    assert_eq!(listed.stdout, "no scope has state here\n");
    colleague.alch(["scope", "validate", "--all"]).success();

    // Whoever wants the older one back says so; and that there was one is forgotten where that is asked for.
    let cleaned = project
        .alch(["scope", "cleanup", "--stage", "dev", "--force"])
        .success();
    assert!(
        cleaned.stdout.contains("shop/dev (that it was removed)"),
        "{cleaned:?}"
    );
    assert!(!project.path(".alchemy/shop/dev/removed.json").exists());
    let cleaned = colleague
        .alch(["scope", "cleanup", "--app", "shop", "--force"])
        .success();
    assert!(
        cleaned.stdout.contains("shop/dev (that it was removed)"),
        "{cleaned:?}"
    );
    for (command, project) in [(&push[..], &project), (&["plan"], &colleague)] {
        let told = project.alch(command);
        assert!(
            !told.stderr.contains("was removed"),
            "{command:?}: {told:?}"
        );
    }
}

#[test]
fn a_copy_of_what_was_forgotten_in_the_bucket_is_told() {
    let Some(server) = s3::server() else { return };
    let store = address(&server.endpoint, &folder());
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    project.alch(["destroy", "--yes"]).success();
    project
        .alch(["scope", "cleanup", "--app", "shop", "--force"])
        .success();
    let moved = project
        .alch(["state", "migrate-store", "--app", "shop", "--to", "local"])
        .success();
    let way_out = "`alch scope restore --app shop --stage dev` makes it the state again";
    assert!(moved.stderr.contains(way_out), "{moved:?}");
    project.alch(["run"]).code(1);
    // Its objects are gone: what the copy says is made again.
    project.alch(["scope", "restore", "--yes"]).success();
    let looked = project.alch(["drift"]).code(7);
    assert!(looked.stdout.contains("cache"), "{looked:?}");
}

#[test]
fn an_older_copy_in_another_store_is_not_gone_on_with() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project.alch(["state", "push", "--to", &store]).success();
    project.alch(["destroy", "--yes"]).success();
    project.env("ALCHEMY_STATE_STORE", &store);
    told(project.alch(["run"]), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0422]: shop/dev was removed in the project's `.alchemy` folder, later than what there is of it in `s3://team/FOLDER`
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: bring it over: `alch state migrate-store --app shop --to "s3://team/FOLDER?endpoint=http://SERVER"`

"#]]);
    for command in [&["plan"][..], &["destroy", "--yes"], &["drift", "--repair"]] {
        let refused = project.alch(command).code(1);
        assert!(refused.stderr.contains("E0422"), "{command:?}: {refused:?}");
    }
    // The way out that is advised.
    project
        .alch(["state", "migrate-store", "--app", "shop", "--to", &store])
        .success();
    made_anew(&project);

    // From one bucket to another.
    let other = format!("{folder}-other");
    let next = address(&server.endpoint, &other);
    project.alch(["state", "push", "--to", &next]).success();
    project.alch(["destroy", "--yes"]).success();
    project.env("ALCHEMY_STATE_STORE", &next);
    project.alch(["run"]).code(1);
}

#[test]
fn what_went_on_here_is_not_destroyed_from_an_older_copy() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let store = address(&server.endpoint, &folder);
    let mut project = Project::with_script(SHOP);
    with_keys(&mut project);
    project.alch(["run"]).success();
    project.alch(["state", "push", "--to", &store]).success();
    project.file("alchemy.run.rhai", MORE);
    project.alch(["run"]).success();
    project.env("ALCHEMY_STATE_STORE", &store);
    told(project.alch(["destroy", "--yes"]), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0422]: state of shop/dev is in the project's `.alchemy` folder, newer than in `s3://team/FOLDER`
 = note: nothing was changed
 = help: bring it over: `alch state migrate-store --app shop --to "s3://team/FOLDER?endpoint=http://SERVER"`

"#]]);
    project.env("ALCHEMY_STATE_STORE", "local");
    settled(&project);

    // A copy that was left behind lets nobody begin in a third store.
    project
        .alch(["state", "migrate-store", "--to", &store])
        .success();
    std::fs::remove_dir_all(project.path(".alchemy/stores")).unwrap();
    let third = address(&server.endpoint, &format!("{folder}-third"));
    project.env("ALCHEMY_STATE_STORE", &third);
    let refused = project.alch(["run"]).code(1);
    assert!(refused.stderr.contains("E0424"), "{refused:?}");
    project.env("ALCHEMY_STATE_STORE", &store);
    settled(&project);
    project.alch(["destroy", "--yes"]).success();
    gone(&project);
}
