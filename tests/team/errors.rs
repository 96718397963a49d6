//! What is said when a bucket cannot be used.

use snapbox::str;

use super::{SHOP, address, folder, project_at, told};
use crate::support::{Project, s3};

#[test]
fn credentials_buckets_and_addresses_that_are_wrong() {
    let Some(server) = s3::server() else { return };
    let mut project = project_at(SHOP, &address(&server.endpoint, "x"));
    project.env("AWS_SECRET_ACCESS_KEY", "planted-wrong-secret");
    let refused = told(project.alch(["run"]), server, "FOLDER");
    assert!(!refused.stderr.contains("planted-wrong-secret"));
    refused.check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0420]: cannot read `s3://team/x/shop/locks/dev.json`: The request signature does not match [SignatureDoesNotMatch]
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: check `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (`R2_..` for R2): they must be those of this bucket, and may read, write, list and delete in it

"#]]);

    let elsewhere = format!("s3://nobodys/x?endpoint={}", server.endpoint);
    let project = project_at(SHOP, &elsewhere);
    told(project.alch(["run"]), server, "FOLDER").check(str![[r#"
exit 1
-- stderr
alch: app shop, stage dev, phase up, target local
error[E0420]: cannot read `s3://nobodys/x/shop/locks/dev.json`: The specified bucket does not exist [NoSuchBucket]
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: make the bucket, or correct its name or endpoint where the store is declared

"#]]);

    let mut project = project_at(SHOP, "s3://team?region=eu&endpont=x");
    project.alch(["state", "ls"]).check(str![[r#"
exit 1
-- stderr
error[E0420]: `s3://team?region=eu&endpont=x` is no address of a bucket: it knows no `endpont`, only `endpoint` and `region`
 = note: from `$ALCHEMY_STATE_STORE`
 = help: an address is `s3://bucket/prefix?endpoint=URL&region=NAME`, or `r2://bucket/prefix`

"#]]);
    // Nobody listens there; tries end with half a lease.
    project
        .env(
            "ALCHEMY_STATE_STORE",
            "s3://team?endpoint=http://127.0.0.1:9",
        )
        .env("ALCHEMY_LOCK_TTL", "1000");
    let unreachable = project.alch(["run"]).code(1);
    assert!(
        unreachable
            .stderr
            .contains("error[E0420]: cannot read `s3://team/shop/"),
        "{}",
        unreachable.stderr
    );
    assert!(
        unreachable
            .stderr
            .contains("run again when the bucket can be reached")
    );
}

#[test]
fn what_a_script_declares_is_checked() {
    for (options, message) in [
        (r#"s3(#{ buket: "x" })"#, "unknown option `buket` of `s3`"),
        (r#"r2(#{ prefix: "x" })"#, "`r2` needs the option `bucket`"),
        (
            r#""s3://x""#,
            "option `stateStore` of `alchemy` must be a store, found string",
        ),
        (
            r#"r2(#{ bucket: "x" })"#,
            "it is not known whose R2 has the bucket `x`",
        ),
        (
            r#"s3(#{ bucket: "a b" })"#,
            "`stateStore`: `a b` is no name of a bucket",
        ),
        (
            r#"s3(#{ bucket: "x", accessKeyId: "y" })"#,
            "`stateStore` names one of `accessKeyId` and `secretAccessKey`",
        ),
    ] {
        let script = format!("alchemy(\"shop\", #{{ stateStore: {options} }}); KV(\"cache\");");
        let output = Project::with_script(&script).alch(["run"]);
        assert_ne!(output.code, Some(0));
        assert!(
            output.stderr.contains(message),
            "{options}: {}",
            output.stderr
        );
        assert!(
            output.stderr.contains("= help:"),
            "{options}: {}",
            output.stderr
        );
    }
}

#[test]
fn state_is_not_left_behind_in_another_store() {
    let Some(server) = s3::server() else { return };
    let folder = folder();
    let mut project = Project::with_script(SHOP);
    project.alch(["run"]).success();
    super::with_keys(&mut project);
    project.env("ALCHEMY_STATE_STORE", &address(&server.endpoint, &folder));
    told(project.alch(["run"]), server, &folder).check(str![[r#"
exit 1
-- stderr
error[E0422]: state of shop/dev is in the project's `.alchemy` folder, and not in `s3://team/FOLDER`
 --> alchemy.run.rhai:1:1
  |
1 | alchemy("shop"); KV("cache");
  | ^^^^^^^
  |
  = note: nothing was changed
  = help: bring it over: `alch state migrate-store --app shop --to "s3://team/FOLDER?endpoint=http://SERVER"`

"#]]);
    told(project.alch(["explain", "E0422"]), server, &folder).success();
}

#[test]
fn a_bucket_that_ignores_conditions_is_refused_before_anything_is_made() {
    for header in ["If-None-Match", "If-Match"] {
        let Some(server) = s3::server_without(header) else {
            return;
        };
        let project = project_at(SHOP, &address(&server.endpoint, "x"));
        let refused = project.alch(["run"]).code(1);
        let told = format!(
            "error[E0420]: cannot use `s3://team/x/store.json`: it does not keep to `{header}`"
        );
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
        for line in [
            "= note: without conditional writes two runs would overwrite each other's state, so nothing was changed",
            "= help: use a server that has them, such as Amazon S3, Cloudflare R2 or a recent MinIO",
        ] {
            assert!(refused.stderr.contains(line), "{}", refused.stderr);
        }
        let made = project.path(".alchemy/local/control.sqlite");
        assert!(!made.exists() || crate::kill::in_the_cloud(&project).is_empty());
    }
}
