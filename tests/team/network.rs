//! The network goes away in the middle of a run.

use snapbox::str;

use super::{SHOP, address, folder, link::Link, project_at, told};
use crate::{kill::in_the_cloud, support::s3};

#[test]
fn what_was_done_is_kept_here_and_saved_by_the_next_run() {
    let Some(server) = s3::server() else { return };
    let (folder, link) = (folder(), Link::to(&server.endpoint));
    let mut project = project_at(SHOP, &address(&link.endpoint(), &folder));
    project.env("ALCHEMY_LOCK_TTL", "2000");
    // The intent arrives; the result does not.
    link.cut_after(1);
    let output = project.alch(["run"]).code(1);
    assert_eq!(in_the_cloud(&project).len(), 1, "it was made");
    assert!(
        !output.stderr.contains("created cache"),
        "{}",
        output.stderr
    );
    assert!(
        output
            .stderr
            .contains("error[E0420]: cannot write `s3://team/"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("what was done is kept in `"),
        "{}",
        output.stderr
    );
    let kept = project.path(".alchemy/pending/shop/dev");
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 1);

    link.mend();
    let next = project.alch(["run"]);
    told(next, server, &folder).check(str![[r#"
exit 0
-- stderr
alch: app shop, stage dev, phase up, target local
warning[E0423]: saved what a run that could not reach the bucket had kept on this machine
0 created, 0 updated, 0 deleted, 1 unchanged in [TIME] (critical path [TIME], 0 API calls)

"#]]);
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0);
    assert_eq!(in_the_cloud(&project).len(), 1);
    let after = project.alch(["run"]).success();
    assert!(!after.stderr.contains("E0423"), "{}", after.stderr);
}

#[test]
fn a_run_may_be_cut_off_anywhere() {
    let Some(server) = s3::server() else { return };
    let script =
        "alchemy(\"shop\"); let a = KV(\"a\"); wait(a); let b = KV(\"b\"); wait(b); KV(\"c\");";
    for writes in 1..7 {
        let link = Link::to(&server.endpoint);
        let mut project = project_at(script, &address(&link.endpoint(), &folder()));
        project.env("ALCHEMY_LOCK_TTL", "1000");
        link.cut_after(writes);
        let cut = project.alch(["run"]);
        assert_eq!(cut.code, Some(1), "after {writes}: {}", cut.stderr);
        link.mend();
        project.alch(["run"]).success();
        assert_eq!(in_the_cloud(&project).len(), 3, "after {writes}");
        let after = project.alch(["run"]).success();
        assert!(
            after.last_line().ends_with("0 API calls)"),
            "{}",
            after.stderr
        );
        project.alch(["scope", "validate"]).success();
    }
}
