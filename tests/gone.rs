//! What an update names and does not find: the object itself, which is made again, or something else, which it is told of.

use crate::support::Project;

const GOOD: &str = r#"
let app = alchemy("shop");
let q = Queue("q");
let files = Bucket("files");
R2Object("logo", #{ bucket: files, key: "logo.svg", content: "<svg/>" });
"#;

#[test]
fn a_bucket_whose_rule_names_no_queue_stays_in_state() {
    let project = Project::with_script(GOOD);
    project.alch(["run"]).success();
    let wrong = GOOD.replace(
        "Bucket(\"files\")",
        "Bucket(\"files\", #{ notifications: [#{ queue: \"nosuch\", actions: [\"PutObject\"] }] })",
    );
    project.file("alchemy.run.rhai", wrong);
    let refused = project.alch(["run"]).code(4);
    assert!(
        refused.stderr.contains("event_notifications"),
        "{}",
        refused.stderr
    );
    let kept = project.alch(["state", "show", "files"]).success().stdout;
    assert!(kept.contains("\"adopted\": false"), "{kept}");

    // The script as it was before goes through, and nothing is made a second time.
    project.file("alchemy.run.rhai", GOOD);
    let mended = project.alch(["run"]).success();
    assert!(mended.stderr.contains("0 created"), "{}", mended.stderr);
    let settled = project.alch(["run"]).success();
    assert!(settled.stderr.contains("0 API calls"), "{}", settled.stderr);
}
