//! Workflows in the configuration: an engine for each, bindings to them, and the way of the entry Worker to their instances.

use std::collections::BTreeMap;

use serde_json::json;

use super::{WORKER, Writer, quoted};
use crate::local::{api::DeployedWorker, layout};

/// What the entry Worker does with instances.
pub(super) const CODE: &str = include_str!("../workflows.js");
/// The module that gives a binding its face.
pub(super) const WRAPPER: &str = "workflows:local-wrapped-binding";
/// The date of the engine.
const ENGINE_DATE: &str = "2024-10-22";

/// Where a workflow runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    script: &'a str,
    class: &'a str,
    /// Empty while it is only bound.
    id: &'a str,
    steps: Option<u64>,
}

/// All workflows, by name. One that is bound and not declared to the API yet is where the binding says: the API is told
/// right after, and the Workers need not start again for that.
pub(super) fn placed(workers: &[DeployedWorker]) -> BTreeMap<&str, Placed<'_>> {
    let mut placed = BTreeMap::new();
    for worker in workers {
        for workflow in &worker.workflows {
            placed.insert(
                workflow.name.as_str(),
                Placed {
                    script: &worker.name,
                    class: &workflow.class,
                    id: &workflow.id,
                    steps: workflow.steps,
                },
            );
        }
    }
    for worker in workers
        .iter()
        .flat_map(|worker| std::iter::once(worker).chain(&worker.others))
    {
        for binding in worker.bindings.iter().filter(|it| it["type"] == "workflow") {
            let field = |name: &str| binding[name].as_str().filter(|text| !text.is_empty());
            if let (Some(name), Some(class)) = (field("workflow_name"), field("class_name")) {
                placed.entry(name).or_insert(Placed {
                    script: field("script_name").unwrap_or(&worker.name),
                    class,
                    id: "",
                    steps: None,
                });
            }
        }
    }
    placed
}

fn service(name: &str) -> String {
    quoted(&format!("workflow:{name}"))
}

impl Writer<'_> {
    /// The workflows whose Workers run.
    fn running_workflows(&self) -> Vec<(String, Placed<'_>)> {
        self.workflows
            .iter()
            .filter(|(_, placed)| self.running.contains(placed.script))
            .map(|(name, placed)| ((*name).to_owned(), *placed))
            .collect()
    }

    /// What the entry Worker reaches instances by.
    pub(super) fn workflow_doors(&self) -> Vec<String> {
        self.running_workflows()
            .iter()
            .flat_map(|(name, _)| {
                let service = service(name);
                [
                    format!(
                        "(name = {service}, service = (name = {service}, entrypoint = \"WorkflowBinding\"))"
                    ),
                    format!(
                        "(name = {}, durableObjectNamespace = (className = \"Engine\", serviceName = {service}))",
                        quoted(&format!("engine:{name}"))
                    ),
                ]
            })
            .collect()
    }

    /// A binding to a workflow. Where its Worker does not run, each call of it fails.
    pub(super) fn workflow(&mut self, name: &str) -> String {
        let inner = match self.workflows.get(name).map(|placed| placed.script) {
            Some(script) if self.running.contains(script) => {
                format!(
                    "(name = {}, entrypoint = \"WorkflowBinding\")",
                    service(name)
                )
            }
            script => {
                let script = script.unwrap_or(name).to_owned();
                let absent = quoted(&format!("{WORKER}{script}"));
                self.absent.insert(script);
                absent
            }
        };
        format!(
            "wrapped = (moduleName = \"{WRAPPER}\", innerBindings = [(name = \"binding\", service = {inner})])"
        )
    }

    /// The engines, and the place of all instances.
    pub(super) fn workflow_engines(&mut self) {
        let mut services = Vec::new();
        for (name, placed) in self.running_workflows() {
            let steps = placed.steps.map_or(String::new(), |steps| {
                format!(
                    ", (name = \"STEP_LIMIT\", json = {})",
                    quoted(&json!(steps).to_string())
                )
            });
            let text = quoted(&json!(name).to_string());
            // The id makes a new workflow of an old name a new configuration.
            services.push(format!(
                "# {}\n    (name = {}, worker = (compatibilityDate = \"{ENGINE_DATE}\", compatibilityFlags = [\"experimental\"], \
                 modules = [(name = \"workflows.js\", esModule = {})], \
                 durableObjectNamespaces = [(className = \"Engine\", enableSql = true, uniqueKey = {}, preventEviction = true)], \
                 durableObjectStorage = (localDisk = \"workflows-storage\"), bindings = [\
                 (name = \"ENGINE\", durableObjectNamespace = (className = \"Engine\")), \
                 (name = \"USER_WORKFLOW\", service = (name = {}, entrypoint = {})), \
                 (name = \"WORKFLOW_NAME\", json = {text}), (name = \"BINDING_NAME\", json = {text}){steps}]))",
                placed.id,
                service(&name),
                self.simulator("workflows/binding.worker.js"),
                quoted(&layout::workflow_key(&name)),
                quoted(&format!("{WORKER}{}", placed.script)),
                quoted(placed.class),
            ));
        }
        if services.is_empty() {
            return;
        }
        let folder = self.setting.folder.join(layout::WORKFLOWS);
        services.push(format!(
            "(name = \"workflows-storage\", disk = (path = {}, writable = true))",
            quoted(&folder.to_string_lossy())
        ));
        self.services.extend(services);
    }
}
