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
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN                        KIND                     PHYSICAL NAME  STATUS
shop/dev/database/main-db  cloudflare::D1Database   main-db-dev    ready
shop/dev/cache             cloudflare::KVNamespace  cache-dev      ready

"#]]);
    project.alch(["state", "ls", "database"]).check(str![[r#"
exit 0
-- stdout
FQN                        KIND                    PHYSICAL NAME  STATUS
shop/dev/database/main-db  cloudflare::D1Database  main-db-dev    ready

"#]]);
    project.alch(["state", "ls", "databse"]).check(str![[r#"
exit 6
-- stderr
error[E0406]: scope `databse` of shop/dev has no state
 = help: `alch scope list` lists the scopes

"#]]);
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
        .check(str![[r#"
exit 6
-- stderr
error[E0406]: `database/main` is not in state of shop/dev
 = help: did you mean `database/main-db`?

"#]]);
}

#[test]
fn mv_renames_without_touching_the_object() {
    let project = deployed();
    project
        .alch(["state", "mv", "cache", "store"])
        .check(str![[r#"
exit 0
-- stdout
renamed cache to store (1 resource); rename it in the script as well

"#]]);
    project
        .alch(["state", "mv", "cache", "store"])
        .check(str![[r#"
exit 6
-- stderr
error[E0411]: `shop/dev/cache` is not in state
 = note: nothing was changed
 = help: `alch state ls` lists what is in state

"#]]);
    project.alch(["state", "ls"]).check(str![[r#"
exit 0
-- stdout
FQN                        KIND                     PHYSICAL NAME  STATUS
shop/dev/database/main-db  cloudflare::D1Database   main-db-dev    ready
shop/dev/store             cloudflare::KVNamespace  cache-dev      ready

"#]]);
}

#[test]
fn rm_needs_consent_and_keeps_the_object() {
    let project = deployed();
    project.alch(["state", "rm", "cache"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: this needs consent, and there is no terminal to ask on
 = note: forget cache (cloudflare::KVNamespace, `cache-dev`)? The object itself stays and nothing will manage it.
 = help: `alch state rm cache --stage dev --yes`

"#]]);
    project
        .alch(["state", "rm", "cache", "--yes"])
        .check(str![[r#"
exit 0
-- stdout
forgot cache

"#]]);
    let again = project.alch(["run"]);
    assert_eq!(again.code, Some(4), "the object is there and nobody's");
}

#[test]
fn scopes_are_listed_inspected_and_validated() {
    let project = deployed();
    project.alch(["scope", "list"]).check(str![[r#"
exit 0
-- stdout
SCOPE              RESOURCES
shop/dev           1
shop/dev/database  1

"#]]);
    project.alch(["scope", "locks"]).check(str![[r#"
exit 0
-- stdout
no locks

"#]]);
    project.alch(["scope", "unlock"]).check(str![[r#"
exit 0
-- stdout
shop/dev was not locked

"#]]);
    project.alch(["scope", "validate"]).check(str![[r#"
exit 0
-- stdout
shop/dev: no damage found

"#]]);
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
    project.alch(["destroy", "--yes"]).check(str![[r#"
exit 12
-- stderr
error[E0402]: state of shop/dev is damaged: it is empty (`[ROOT]/project/.alchemy/shop/dev/state.json`)
 = note: nothing was changed; alch never takes damaged state for no state
 = help: `alch scope rebuild --app shop --stage dev` puts it together again
 = help: `alch scope validate` lists all damage, and `alch scope restore` goes back to a backup

"#]]);
}

#[test]
fn several_applications_need_a_choice() {
    let project = deployed();
    project.file(
        "other.rhai",
        "alchemy(\"other\"); KV(\"cache\", #{ title: \"other-cache\" });",
    );
    project.alch(["run", "other.rhai"]).success();
    project.alch(["state", "ls"]).check(str![[r#"
exit 2
-- stderr
error[E0501]: there are several applications here: other, shop
 = help: choose one with `--app other`

"#]]);
    project.alch(["state", "ls", "--app", "other"]).success();
}
