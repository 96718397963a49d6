//! What runs at once and what in order, seen by the server: the script has no `await`, and nothing here looks at a clock.

use std::fmt::Write as _;

use alch::local::{Cloud, ServeOptions, serve};
use snapbox::str;

use crate::support::{Output, Project, cloud::ServedCloud};

const KV_CREATE: &str = "POST storage/kv/namespaces";

fn project_on(cloud: &ServedCloud, script: &str) -> Project {
    let mut project = Project::with_script(script);
    cloud.serve_to(&mut project);
    project
}

fn deploy(project: &Project, more: &[&str]) -> Output {
    let mut arguments = vec!["run", "--target", "cloudflare"];
    arguments.extend(more);
    project.alch(arguments)
}

/// `count` namespaces that have nothing to do with each other.
fn independent(count: usize) -> String {
    let mut script = "alchemy(\"wide\");\n".to_owned();
    for index in 0..count {
        writeln!(script, "KV(\"cache-{index:02}\");").unwrap();
    }
    script
}

/// Workers of which each needs an output of the one before it.
fn chain(prefix: &str, length: usize) -> String {
    let mut script =
        format!("let {prefix} = Worker(\"{prefix}0\", #{{ script: \"export default {{}}\" }});\n");
    for index in 1..length {
        writeln!(
            script,
            "{prefix} = Worker(\"{prefix}{index}\", #{{ script: \"export default {{}}\", bindings: #{{ BEFORE: {prefix}.ref(\"versionId\") }} }});"
        )
        .unwrap();
    }
    script
}

/// The names in the calls of one method, in the order in which they came.
fn named(calls: &[String], method: &str, path: &str) -> Vec<String> {
    calls
        .iter()
        .filter_map(|call| call.strip_prefix(method)?.trim().strip_prefix(path))
        .map(str::to_owned)
        .collect()
}

#[test]
fn forty_independent_resources_take_four_round_trips() {
    // Ten operations at once is the default: the gate opens for ten calls, never for fewer.
    let cloud = ServedCloud::with_gate(10, KV_CREATE);
    let project = project_on(&cloud, &independent(40));
    assert_eq!(
        deploy(&project, &[]).success().last_line(),
        "40 created, 0 updated, 0 deleted, 0 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
    assert_eq!(cloud.generations(), 4);
    assert_eq!(cloud.peak(), 10);
    assert_eq!(cloud.take_calls(), vec![KV_CREATE; 40]);
    deploy(&project, &[]).success();
    assert_eq!(cloud.take_calls(), Vec::<String>::new());
}

#[test]
fn forty_at_once_take_one_round_trip() {
    let cloud = ServedCloud::with_gate(40, KV_CREATE);
    let project = project_on(&cloud, &independent(40));
    deploy(&project, &["--concurrency", "40"]).success();
    assert_eq!((cloud.generations(), cloud.peak()), (1, 40));
}

#[test]
fn concurrency_is_a_bound() {
    let cloud = ServedCloud::with_gate(3, KV_CREATE);
    let project = project_on(&cloud, &independent(12));
    deploy(&project, &["--concurrency", "3"]).success();
    assert_eq!((cloud.generations(), cloud.peak()), (4, 3));
}

#[test]
fn one_at_a_time_is_one_at_a_time() {
    let cloud = ServedCloud::slow();
    let project = project_on(&cloud, &independent(4));
    deploy(&project, &["--concurrency", "1"]).success();
    assert_eq!(cloud.peak(), 1);
}

#[test]
fn a_chain_goes_in_order_and_back() {
    let cloud = ServedCloud::slow();
    let project = project_on(&cloud, &format!("alchemy(\"chain\");\n{}", chain("a", 6)));
    deploy(&project, &[]).success();
    let path = "workers/scripts/";
    let order = ["a0-dev", "a1-dev", "a2-dev", "a3-dev", "a4-dev", "a5-dev"];
    assert_eq!(named(&cloud.take_calls(), "PUT", path), order);
    assert_eq!(cloud.peak(), 1, "two links of a chain were in work at once");
    project.alch(["destroy", "--yes"]).success();
    let mut back = order;
    back.reverse();
    assert_eq!(named(&cloud.take_calls(), "DELETE", path), back);
    assert_eq!(cloud.peak(), 1);
}

#[test]
fn two_chains_run_side_by_side() {
    let script = format!("alchemy(\"chains\");\n{}{}", chain("a", 3), chain("b", 3));
    // Each link is one upload, so the gate opens for the two links of one depth.
    let cloud = ServedCloud::with_gate(2, "PUT workers/scripts");
    let project = project_on(&cloud, &script);
    deploy(&project, &[]).success();
    let mut calls = named(&cloud.take_calls(), "PUT", "workers/scripts/");
    for depth in calls.chunks_mut(2) {
        depth.sort();
    }
    assert_eq!(
        calls,
        ["a0-dev", "b0-dev", "a1-dev", "b1-dev", "a2-dev", "b2-dev"]
    );
    assert_eq!(cloud.generations() * 2, 6);
}

#[test]
fn what_nothing_depends_on_waits_for_nothing() {
    // The chain is declared first and read by the script; the namespaces after it are on their way all the same.
    let script = format!(
        "alchemy(\"mixed\");\n{}{}print(a.versionId != ());\n",
        chain("a", 3),
        independent(9).replace("alchemy(\"wide\");\n", "")
    );
    let cloud = ServedCloud::with_gate(9, KV_CREATE);
    let project = project_on(&cloud, &script);
    deploy(&project, &[]).success();
    assert_eq!(cloud.generations(), 1);
}

#[test]
fn deletes_go_backwards() {
    let cloud = ServedCloud::slow();
    let project = project_on(
        &cloud,
        r#"
let app = alchemy("back");
let files = Bucket("files");
let more = Bucket("more");
let api = Worker("api", #{ script: "export default {}", bindings: #{ FILES: files } });
Bucket("last");
"#,
    );
    deploy(&project, &["--concurrency", "1"]).success();
    cloud.take_calls();
    // Nothing is declared any more: all of it are orphans.
    project.file("alchemy.run.rhai", "alchemy(\"back\");");
    deploy(&project, &[]).success();
    let deletes: Vec<String> = cloud
        .take_calls()
        .into_iter()
        .filter(|call| call.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deletes,
        [
            "DELETE r2/buckets/last-dev",
            "DELETE workers/scripts/api-dev",
            "DELETE r2/buckets/more-dev",
            "DELETE r2/buckets/files-dev",
        ]
    );
    assert_eq!(cloud.peak(), 1);
}

#[test]
fn parallel_deletes_still_wait_for_what_depends_on_them() {
    let script = format!("alchemy(\"chains\");\n{}{}", chain("a", 3), chain("b", 3));
    let cloud = ServedCloud::with_gate(2, "DELETE workers/scripts");
    let mut project = project_on(&cloud, &script);
    project.env("ALCHEMY_DESTROY_STRATEGY", "parallel");
    deploy(&project, &[]).success();
    cloud.take_calls();
    project.alch(["destroy", "--yes"]).success();
    let mut calls = named(&cloud.take_calls(), "DELETE", "workers/scripts/");
    for depth in calls.chunks_mut(2) {
        depth.sort();
    }
    assert_eq!(
        calls,
        ["a2-dev", "b2-dev", "a1-dev", "b1-dev", "a0-dev", "b0-dev"]
    );
    assert_eq!(cloud.generations(), 3);
}

#[test]
fn batches_bound_deletes() {
    let cloud = ServedCloud::with_gate(4, "DELETE storage/kv/namespaces");
    let mut project = project_on(&cloud, &independent(8));
    project.env("ALCHEMY_DESTROY_BATCH_SIZE", "4");
    deploy(&project, &["--concurrency", "4"]).success();
    project.alch(["destroy", "--yes"]).success();
    assert_eq!((cloud.generations(), cloud.peak()), (2, 4));
}

#[test]
fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    let cloud = ServedCloud::quick();
    let script = format!("alchemy(\"chains\");\n{}{}", chain("a", 3), chain("b", 3));
    let project = project_on(&cloud, &script);
    cloud.refuse(Some(("PUT", "scripts/a1-dev")));
    let output = deploy(&project, &[]).code(4);
    let told: Vec<String> = output
        .sorted_lines()
        .into_iter()
        .filter(|line| {
            ["  created ", "  failed ", "  skipped "]
                .iter()
                .any(|begin| line.starts_with(begin))
        })
        .collect();
    assert_eq!(
        told,
        [
            "  created   a0  a0-dev  [TIME]",
            "  created   b0  b0-dev  [TIME]",
            "  created   b1  b1-dev  [TIME]",
            "  created   b2  b2-dev  [TIME]",
            "  failed    a1  not today",
            "  skipped   a2  because a1 failed",
        ]
    );
    cloud.refuse(None);
    assert_eq!(
        deploy(&project, &[]).success().last_line(),
        "2 created, 0 updated, 0 deleted, 4 unchanged in [TIME] (critical path [TIME], [CALLS])"
    );
}

#[test]
fn a_served_cloud_takes_its_random_token_only() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime
        .block_on(serve(
            Cloud::open(folder.path()).unwrap(),
            ServeOptions::default(),
        ))
        .unwrap();
    let mut project = Project::with_script("let app = alchemy(\"shop\");\nKV(\"cache\");\n");
    project
        .env("CLOUDFLARE_API_BASE_URL", &server.base_url())
        .env("CLOUDFLARE_ACCOUNT_ID", "local");
    deploy(&project, &[]).check(str![[r#"
exit 3
-- stderr
error[E0303]: no Cloudflare credentials for profile `default`
 --> alchemy.run.rhai:1:11
  |
1 | let app = alchemy("shop");
  |           ^^^^^^^
  |
  = help: `alch login` keeps a token, or set `CLOUDFLARE_API_TOKEN`
  = help: or deploy to the embedded local cloud with `--target local`

"#]]);
    let with_token = |token: &str| {
        let mut command = project.command(["run", "--target", "cloudflare"]);
        project.output_of(command.env("CLOUDFLARE_API_TOKEN", token))
    };
    with_token("not-the-token-0123456789").check(str![[r#"
exit 3
-- stderr
alch: app shop, stage dev, phase up, target cloudflare
+ creating  cache (cloudflare::KVNamespace)
  failed    cache  Invalid access token
error[E0303]: `cache` (cloudflare::KVNamespace): create failed: Invalid access token [9109]
 --> alchemy.run.rhai:2:1
  |
2 | KV("cache");
  | ^^ declared here
  |
  = note: the call was POST /accounts/../storage/kv/namespaces, answered with HTTP 403
  = help: check the API token: it must be valid, belong to this account and have `Workers KV Storage: Edit`
0 created, 0 updated, 0 deleted, 0 unchanged, 1 failed in [TIME] (critical path [TIME], 1 API call)

"#]]);
    with_token(&server.token).success();
    assert_eq!(
        project.files_with(&server.token),
        Vec::<std::path::PathBuf>::new()
    );
    runtime.block_on(server.shutdown()).unwrap();
}
