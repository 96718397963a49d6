//! New code for a deployed Worker by `PUT ../content`, which leaves what it is bound to alone.

use serde_json::{Value, json};

use crate::support::{
    Project,
    served::{Served, multipart, with_runtime},
};

fn upload(metadata: &Value, says: &str) -> String {
    let code = format!(
        "export default {{ fetch(_, env) {{ return new Response('{says} ' + env.MODE) }} }}"
    );
    multipart(&[
        ("metadata", "application/json", &metadata.to_string()),
        ("index.js", "application/javascript+module", &code),
    ])
}

#[test]
fn new_code_answers_with_the_old_bindings() {
    let Some(project) = with_runtime(Project::new()) else {
        return;
    };
    let served = Served::start(&project);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01",
                           "bindings": [{ "name": "MODE", "type": "plain_text", "text": "calm" }] });
    served.upload("PUT", "workers/scripts/api", &upload(&metadata, "old"));
    served.ask_until("api", "/", |_, body| body == "old calm");
    let metadata = json!({ "main_module": "index.js" });
    let path = "workers/scripts/api/content";
    served.upload("PUT", path, &upload(&metadata, "new"));
    served.ask_until("api", "/", |_, body| body == "new calm");
}
