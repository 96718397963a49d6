//! Uploads with migrations of Durable Object classes whose answers are lost: the second try finds its own work.

use serde_json::json;

use super::{Setting, proxy::Fault};

/// A Worker that binds classes, each under its own name.
fn script(classes: &[&str]) -> String {
    let code: String = classes
        .iter()
        .map(|class| format!("export class {class} {{}}; "))
        .collect();
    let bindings: Vec<String> = classes
        .iter()
        .map(|class| {
            let id = class.to_lowercase();
            format!("{class}: DurableObject(\"{id}\", #{{ className: \"{class}\" }})")
        })
        .collect();
    format!(
        "let app = alchemy(\"shop\");\nWorker(\"api\", #{{ script: \"{code}export default {{}}\", bindings: #{{ {} }} }});\n",
        bindings.join(", ")
    )
}

fn classes(setting: &Setting) -> serde_json::Value {
    let settings = setting.ask("GET", "workers/scripts/api-dev/settings", "");
    let bound = settings["bindings"].as_array().unwrap().iter();
    bound.map(|binding| binding["class_name"].clone()).collect()
}

#[test]
fn a_lost_answer_to_a_migration_is_made_good_in_the_same_run() {
    for fault in [Fault::ResetAfter, Fault::WebPage, Fault::Truncated] {
        let setting = Setting::new(&script(&["Room"]));
        let upload = "PUT workers/scripts/api-dev";
        for (all, tag) in [(&["Room"][..], "v1"), (&["Room", "Hall"], "v2")] {
            setting.project.file("alchemy.run.rhai", script(all));
            setting.spoil(upload, fault, false);
            let run = setting.run();
            assert_eq!(run.code, Some(0), "{fault:?} {tag}: {}", run.stderr);
            // The one whose answer was lost, the one that was refused, and the one without the migration.
            let sent = setting.proxy.take();
            let uploads = sent.iter().filter(|request| *request == upload).count();
            assert_eq!(uploads, 3, "{fault:?} {tag}");
            let mut bound = classes(&setting);
            bound
                .as_array_mut()
                .unwrap()
                .sort_by_key(ToString::to_string);
            let mut expected = all.to_vec();
            expected.sort_unstable();
            assert_eq!(bound, json!(expected), "{fault:?} {tag}");
            let service = setting.ask("GET", "workers/services/api-dev", "");
            assert_eq!(
                service.pointer("/default_environment/script/migration_tag"),
                Some(&json!(tag)),
                "{fault:?}"
            );
            setting.proxy.heal();
            setting.run().success();
            assert_eq!(
                setting.proxy.take(),
                Vec::<String>::new(),
                "{fault:?} {tag}"
            );
        }
    }
}
