//! Objects of buckets: uploaded once, again when their content changes, gone with their declaration.

use snapbox::str;

use super::support::{Project, cloud::ServedCloud};

const SCRIPT: &str = r#"
alchemy("site");
let files = Bucket("files");
R2Object("logo.svg", #{ bucket: files, file: "logo.svg" });
R2Object("robots", #{ bucket: files, key: "robots.txt", content: "User-agent: *" });
"#;

const PATH: &str = "r2/buckets/files-dev/objects";

fn body_of(cloud: &ServedCloud, key: &str) -> (u16, String) {
    let (status, answer) = cloud.call("GET", &format!("{PATH}/{key}"), "");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    let shown = format!("{}: {body}", kind.unwrap_or_default());
    cloud.take_calls();
    (status, shown)
}

#[test]
fn only_what_changed_is_uploaded_and_files_stay_out_of_the_state() {
    let cloud = ServedCloud::quick();
    let mut project = Project::with_script(SCRIPT);
    cloud.serve_to(&mut project);
    project.file("logo.svg", "<svg>the-first-logo</svg>");
    let run = || project.alch(["run", "--target", "cloudflare"]);
    run().success();
    assert_eq!(
        body_of(&cloud, "logo.svg"),
        (200, "image/svg+xml: <svg>the-first-logo</svg>".to_owned())
    );
    assert_eq!(
        body_of(&cloud, "robots.txt"),
        (200, "text/plain; charset=utf-8: User-agent: *".to_owned())
    );
    for (name, bytes) in project.state_files() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("the-first-logo"), "{}", name.display());
    }

    run().success();
    assert_eq!(cloud.take_calls(), [""; 0]);

    project.file("logo.svg", "<svg>the-second-logo</svg>");
    run().success();
    assert_eq!(cloud.take_calls(), [format!("PUT {PATH}/logo.svg")]);
    assert_eq!(
        body_of(&cloud, "logo.svg").1,
        "image/svg+xml: <svg>the-second-logo</svg>"
    );

    let (script, _) = SCRIPT.trim_end().rsplit_once('\n').unwrap();
    project.file("alchemy.run.rhai", script);
    run().success();
    assert_eq!(body_of(&cloud, "robots.txt").0, 404);
    project.alch(["destroy", "--yes"]).success();
}

#[test]
fn mistakes_are_told_at_their_place() {
    let project = Project::with_script(SCRIPT);
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + files (cloudflare::R2Bucket)  files-dev  # not in state
Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app site, stage dev, phase plan, target local
error[E0202]: `file` of cloudflare::R2Object: cannot open `[ROOT]/project/logo.svg`: No such file or directory (os error 2)
 --> alchemy.run.rhai:4:46
  |
4 | R2Object("logo.svg", #{ bucket: files, file: "logo.svg" });
  |                                              ^^^^^^^^^^
  |
  = help: correct the path; it is relative to `[ROOT]/project`

"#]]);
    project.file(
        "alchemy.run.rhai",
        r#"
alchemy("site");
let files = Bucket("files");
R2Object("a", #{ bucket: files, key: "same", content: "a" });
R2Object("b", #{ bucket: files, key: "same", content: "b" });
"#,
    );
    project.alch(["plan"]).check(str![[r#"
exit 1
-- stdout
  + files (cloudflare::R2Bucket)  files-dev  # not in state
  + a (cloudflare::R2Object)  same  # not in state
      + bucket: "${files}"
      + content: "a"
      + key: "same"
Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged
-- stderr
alch: app site, stage dev, phase plan, target local
error[E0208]: `b` and `a` would both be `same`
 --> alchemy.run.rhai:5:1
  |
4 | R2Object("a", #{ bucket: files, key: "same", content: "a" });
  | -------- the other one
5 | R2Object("b", #{ bucket: files, key: "same", content: "b" });
  | ^^^^^^^^
  |
  = help: give one of them another `name`

"#]]);
}
