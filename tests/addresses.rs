//! The addresses of Workers in outputs name the port at which this project is served.

use crate::support::{
    Project,
    served::{Served, with_runtime},
};

const SCRIPT: &str = r#"
let app = alchemy("shop");
let api = Worker("api", #{ script: `export default { fetch() { return Response.json("here"); } }` });
print(api.url);
"#;

#[test]
fn a_worker_is_at_the_port_of_its_own_server() {
    let Some(project) = with_runtime(Project::with_script(SCRIPT)) else {
        return;
    };
    let mut served = Served::start(&project);
    let shown = project.alch(["run"]).success().stdout;
    let url = format!("http://api-dev.localhost:{}", served.port);
    assert!(shown.lines().any(|line| line == url), "{shown} lacks {url}");
    served.wait_for("local_workers");
    assert_eq!(served.get("api-dev", "/"), "here");
}
