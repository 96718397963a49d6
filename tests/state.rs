//! `alch state` and `alch scope`: what they show and what they change.

use snapbox::str;

use crate::support::Project;

fn deployed() -> Project {
    let project = Project::with_script(
        r#"
let app = alchemy("shop");
let db = alchemy.run("database", || Database("main-db"));
let cache = KV("cache");
"#,
    );
    project.alch(["run"]).success();
    project
}

#[test]
fn ls_names_resources_and_where_they_stand() {
    let project = deployed();
    project.alch(["state", "ls"]).check(str![[r#""#]]);
    project
        .alch(["state", "ls", "database"])
        .check(str![[r#""#]]);
    project
        .alch(["state", "ls", "databse"])
        .check(str![[r#""#]]);
}

#[test]
fn show_tells_all_of_a_resource_or_suggests_one() {
    let project = deployed();
    let shown = project
        .alch(["state", "show", "database/main-db", "--json"])
        .success();
    let record = &shown.messages()[1];
    assert_eq!(record["fqn"], "shop/dev/database/main-db");
    assert_eq!(record["physical_name"], "main-db-dev");
    project
        .alch(["state", "show", "database/main"])
        .check(str![[r#""#]]);
}

#[test]
fn mv_renames_without_touching_the_object() {
    let project = deployed();
    project
        .alch(["state", "mv", "cache", "store"])
        .check(str![[r#""#]]);
    project
        .alch(["state", "mv", "cache", "store"])
        .check(str![[r#""#]]);
    project.alch(["state", "ls"]).check(str![[r#""#]]);
}

#[test]
fn rm_needs_consent_and_keeps_the_object() {
    let project = deployed();
    project.alch(["state", "rm", "cache"]).check(str![[r#""#]]);
    project
        .alch(["state", "rm", "cache", "--yes"])
        .check(str![[r#""#]]);
    let again = project.alch(["run"]);
    assert_eq!(again.code, Some(4), "the object is there and nobody's");
}

#[test]
fn scopes_are_listed_inspected_and_validated() {
    let project = deployed();
    project.alch(["scope", "list"]).check(str![[r#""#]]);
    project.alch(["scope", "locks"]).check(str![[r#""#]]);
    project.alch(["scope", "unlock"]).check(str![[r#""#]]);
    project.alch(["scope", "validate"]).check(str![[r#""#]]);
    let shown = project.alch(["scope", "inspect", "--json"]).success();
    let stage = &shown.messages()[1];
    assert_eq!(stage["stage"], "shop/dev");
    assert_eq!(stage["target"], "local");
    assert_eq!(stage["resources"], 2);
}

#[test]
fn damage_is_never_taken_for_no_state() {
    let project = deployed();
    project.file(".alchemy/shop/dev/state.json", "");
    for arguments in [
        &["run"][..],
        &["plan"],
        &["state", "ls"],
        &["stages"],
        &["scope", "validate"],
    ] {
        let output = project.alch(arguments.iter().copied()).code(12);
        assert!(
            output.stderr.contains("E0402"),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    project.alch(["destroy", "--yes"]).check(str![[r#""#]]);
}

#[test]
fn several_applications_need_a_choice() {
    let project = deployed();
    project.file(
        "other.rhai",
        "alchemy(\"other\"); KV(\"cache\", #{ title: \"other-cache\" });",
    );
    project.alch(["run", "other.rhai"]).success();
    project.alch(["state", "ls"]).check(str![[r#""#]]);
    project.alch(["state", "ls", "--app", "other"]).success();
}
