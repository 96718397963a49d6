//! What a Worker is bound to, as the configuration says it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{WORKER, Writer, quoted, simulators::Product};
use crate::local::{
    api::{DeployedWorker, jurisdiction},
    layout,
    runtime::host::{DELAY, QUEUE},
};

impl Writer<'_> {
    /// The value of a binding; none for what there is not here, which is said.
    pub(super) fn binding(
        &mut self,
        worker: &DeployedWorker,
        name: &str,
        binding: &Value,
    ) -> Option<String> {
        let field = |name: &str| binding[name].as_str().unwrap_or_default();
        let kind = field("type");
        Some(match kind {
            "plain_text" => format!("text = {}", quoted(field("text"))),
            "json" => format!("json = {}", quoted(&binding["json"].to_string())),
            "secret_text" => {
                if field("text").contains('\0') {
                    self.config.notices.push(format!(
                        "Worker `{}`: the secret `{name}` holds a zero byte and is left out: the runtime here cannot take it",
                        worker.name
                    ));
                    return None;
                }
                let variable = format!("ALCH_SECRET_{}", self.config.variables.len());
                let value = format!("fromEnvironment = {}", quoted(&variable));
                self.config
                    .variables
                    .push((variable, field("text").to_owned()));
                value
            }
            "version_metadata" => {
                let metadata =
                    json!({"id": worker.version, "tag": "", "timestamp": worker.created_at});
                format!("json = {}", quoted(&metadata.to_string()))
            }
            "kv_namespace" => {
                let service = self.simulated(Product::Kv, field("namespace_id"));
                format!("kvNamespace = {service}")
            }
            "r2_bucket" => {
                let key = layout::bucket_key(jurisdiction(binding), field("bucket_name"));
                if let class @ "InfrequentAccess" = field("storage_class") {
                    self.config.notices.push(format!(
                        "the bucket `{}` has the storage class {class}, which makes no difference here",
                        field("bucket_name")
                    ));
                }
                format!("r2Bucket = {}", self.simulated(Product::R2, &key))
            }
            "queue" => format!(
                "queue = {}",
                self.queue(field("queue_name"), binding["delivery_delay"].as_u64())
            ),
            "d1" => format!(
                "wrapped = (moduleName = \"cloudflare-internal:d1-api\", \
                 innerBindings = [(name = \"fetcher\", service = {})])",
                self.simulated(Product::D1, field("id"))
            ),
            "service" => self.service(field("service"), binding),
            "assets" => return self.assets_binding(worker),
            "workflow" => self.workflow(field("workflow_name")),
            "durable_object_namespace" => self.objects(worker, name, field("namespace_id"))?,
            "wasm_module" | "text_blob" | "data_blob" => {
                let part = field("part");
                let module = worker.modules.iter().find(|module| module.name == part)?;
                let form = match kind {
                    "wasm_module" => "wasmModule",
                    "text_blob" => "text",
                    _ => "data",
                };
                format!("{form} = {}", self.content(module))
            }
            _ => return self.wrapped(&worker.name, name, binding),
        })
    }

    fn service(&mut self, name: &str, binding: &Value) -> String {
        let service = quoted(&format!("{WORKER}{name}"));
        if !self.running.contains(name) {
            self.absent.insert(name.to_owned());
            return format!("service = {service}");
        }
        let mut more = String::new();
        if let Some(entrypoint) = binding["entrypoint"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            more.push_str(&format!(", entrypoint = {}", quoted(entrypoint)));
        }
        if binding["props"].is_object() {
            let props = quoted(&binding["props"].to_string());
            more.push_str(&format!(", props = (json = {props})"));
        }
        match more.as_str() {
            "" => format!("service = {}", self.bound_service(name)),
            more => format!("service = (name = {service}{more})"),
        }
    }

    /// The service that takes the messages for a queue: this program, under the name of the queue.
    fn queue(&mut self, name: &str, delay: Option<u64>) -> String {
        let mut service = format!("queue:{name}");
        let mut headers = vec![(QUEUE, name.to_owned())];
        if let Some(delay) = delay {
            write!(service, ":{delay}").expect("a string takes all text");
            headers.push((DELAY, delay.to_string()));
        }
        if self.external.insert(service.clone()) {
            self.host(&service, &headers);
        }
        quoted(&service)
    }
}
