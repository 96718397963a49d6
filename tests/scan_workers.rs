//! What a Worker of state declares itself - domains, routes, queues it consumes - is nobody's unknown object.

use snapbox::str;

use crate::support::Project;

const SCRIPT: &str = r#"
alchemy("shop");
let zone = Zone("example.com");
let jobs = Queue("jobs");
Worker("api", #{
    script: "export default { fetch() {}, queue() {} }",
    routes: ["example.com/*"], domains: ["api.example.com"], eventSources: [jobs],
});
"#;

#[test]
fn a_scan_leaves_out_what_a_worker_declares() {
    let project = Project::with_script(SCRIPT);
    project.alch(["run"]).success();
    project.alch(["scan"]).check(str![[r#"
exit 0
-- stdout
// state knows all of the 6 objects on target local
-- stderr
0 of 6 objects unknown to state (19 API calls)

"#]]);
    project
        .alch(["import", "CustomDomain", "api.example.com"])
        .check(str![[r#"
exit 1
-- stderr
error[E0412]: `api.example.com` (cloudflare::CustomDomain) is in state already, as part of `shop/dev/api`
 = note: nothing was changed
 = help: take it out of the props of `api`, run, and declare it by itself

"#]]);

    // What leads to the Worker and is not among its props is somebody else's.
    let project = Project::with_script(&SCRIPT.replace(
        "    routes: [\"example.com/*\"], domains: [\"api.example.com\"], eventSources: [jobs],\n",
        "",
    ));
    let more = "CustomDomain(\"api.example.com\", #{ worker: \"api-dev\" });\n";
    project.alch(["run"]).success();
    let script = project.read("alchemy.run.rhai");
    project.file("alchemy.run.rhai", script + more);
    project.alch(["run"]).success();
    let forgotten = ["state", "rm", "api.example.com", "--yes"];
    project.alch(forgotten).success();
    let text = project.alch(["scan"]).success().stdout;
    assert!(text.contains("cloudflare::CustomDomain: 1"), "{text}");
}
