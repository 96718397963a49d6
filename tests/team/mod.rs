//! The state of a team in a bucket: the built program against a real S3-compatible server. `tests/support/s3.rs` says which,
//! and what is not checked where it is not installed.

mod deaths;
mod destroyed;
mod errors;
mod hang;
mod link;
mod moving;
mod network;
mod races;
mod repairs;
mod stops;

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use snapbox::str;

use crate::support::{
    Output, Project,
    s3::{self, S3Server},
};

/// One resource.
const SHOP: &str = "alchemy(\"shop\"); KV(\"cache\");";

/// Two resources; waits between them, with the lock held, until the file `go` is there.
const WAITS: &str = r#"
let app = alchemy("shop");
wait(KV("cache"));
print("ready");
while glob("go").is_empty() { sleep(0.02); }
wait(KV("second"));
"#;

/// A folder in the bucket that nobody else uses.
fn folder() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    format!("{}-{number}", std::process::id())
}

/// The address of a folder at a server, or at a link to it.
fn address(endpoint: &str, folder: &str) -> String {
    format!("s3://{}/{folder}?endpoint={endpoint}", s3::BUCKET)
}

/// A project whose state is at an address, by its environment.
fn project_at(script: &str, address: &str) -> Project {
    let mut project = Project::with_script(script);
    with_keys(&mut project);
    project.env("ALCHEMY_STATE_STORE", address);
    project
}

fn with_keys(project: &mut Project) {
    project
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_ACCESS_KEY);
}

/// What was printed, without addresses that differ from run to run.
fn told(output: Output, server: &S3Server, folder: &str) -> Output {
    output
        .replacing(&server.endpoint, "http://SERVER")
        .replacing(folder, "FOLDER")
}

/// Starts a script that prints `ready`, and comes back when it has.
fn start_waiting(project: &Project, script: &str) -> Child {
    let mut child = project.start(["run", script]);
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn state_in_a_bucket_is_as_good_as_state_in_a_folder() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let project = project_at(SHOP, &address(&server.endpoint, &folder));
    let first = project.alch(["run"]).success();
    assert!(
        first.last_line().starts_with("1 created"),
        "{}",
        first.stderr
    );
    assert!(!project.path(".alchemy/shop").join("state.json").exists());
    let again = project.alch(["run"]).success();
    assert!(
        again
            .last_line()
            .starts_with("0 created, 0 updated, 0 deleted, 1 unchanged")
    );
    project.alch(["plan", "--detailed-exitcode"]).success();
    told(project.alch(["state", "ls"]), server, &folder).check(str![[r#"
exit 0
-- stdout
FQN             KIND                     PHYSICAL NAME  STATUS
shop/dev/cache  cloudflare::KVNamespace  cache-dev      ready

"#]]);
    project.alch(["scope", "inspect"]).success();
    project.alch(["scope", "validate"]).success();
    let locks = project.alch(["scope", "locks"]).success();
    assert!(!locks.stdout.contains("shop/dev"), "{}", locks.stdout);
    project.alch(["state", "mv", "cache", "store"]).success();
    let renamed = project.alch(["state", "ls"]).success();
    assert!(renamed.stdout.contains("shop/dev/store"));
    let destroyed = project.alch(["destroy", "--yes"]).success();
    assert!(
        destroyed.last_line().contains("1 deleted"),
        "{}",
        destroyed.stderr
    );
    project.alch(["state", "ls"]).code(6);
    assert_eq!(
        project.files_with(s3::SECRET_ACCESS_KEY),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn a_script_declares_its_store_and_commands_without_it_find_it() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let script = format!(
        r#"
let app = alchemy("shop", #{{
    stateStore: s3(#{{
        bucket: "team",
        prefix: "{folder}",
        endpoint: "{}",
        access_key_id: env("STORE_ID"),
        secret_access_key: secret(env("STORE_SECRET")),
    }}),
}});
KV("cache");
"#,
        server.endpoint
    );
    let mut project = Project::with_script(&script);
    project
        .env("STORE_ID", s3::ACCESS_KEY_ID)
        .env("STORE_SECRET", s3::SECRET_ACCESS_KEY);
    // A plan leaves nothing behind.
    project.alch(["plan"]).success();
    assert!(!project.path(".alchemy/stores").exists());
    project.alch(["run"]).success();
    let remembered = project.read(".alchemy/stores/shop.json");
    assert!(!remembered.contains(s3::SECRET_ACCESS_KEY), "{remembered}");
    assert!(project.files_with(s3::SECRET_ACCESS_KEY).is_empty());

    told(project.alch(["state", "ls"]), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0420]: cannot open `s3://team/FOLDER?endpoint=http://SERVER`: there are no credentials for it
 = note: nothing was changed
 = help: check `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (`R2_..` for R2): they must be those of this bucket, and may read, write, list and delete in it

"#]]);
    with_keys(&mut project);
    let listed = project.alch(["state", "ls"]).success();
    assert!(listed.stdout.contains("shop/dev/cache"));
    let stages = project.alch(["stages"]).success();
    assert!(stages.stdout.contains("dev"), "{}", stages.stdout);
    project.alch(["destroy", "--yes"]).success();
}

#[test]
fn two_machines_work_on_one_stage() {
    let Some(server) = s3::server() else { return };
    let cloud = crate::support::cloud::ServedCloud::quick();
    let store = address(&server.endpoint, &folder());
    let mut machines: Vec<Project> = (0..2).map(|_| project_at(SHOP, &store)).collect();
    for machine in &mut machines {
        cloud.serve_to(machine);
        // Secrets have one key for the team.
        machine.env("ALCHEMY_PASSWORD", "of the team");
    }
    let [one, other] = machines.as_slice() else {
        unreachable!()
    };
    let run = ["run", "--target", "cloudflare"];
    assert!(one.alch(run).success().last_line().starts_with("1 created"));
    let unchanged = other.alch(run).success();
    assert!(
        unchanged.last_line().ends_with("0 API calls)"),
        "{}",
        unchanged.stderr
    );
    other.file(
        "alchemy.run.rhai",
        "alchemy(\"shop\"); KV(\"cache\"); Queue(\"jobs\");",
    );
    assert!(
        other
            .alch(run)
            .success()
            .last_line()
            .starts_with("1 created")
    );
    let listed = one.alch(["state", "ls"]).success();
    assert!(listed.stdout.contains("shop/dev/jobs"));
    one.alch(["destroy", "--yes"]).success();
    other.alch(["state", "ls"]).code(6);
}
