//! The service of one version of a Worker: its modules, its date, its classes, who hears what happens in it.

use serde_json::json;

use super::{WORKER, Writer, embed, objects, quoted};
use crate::local::{
    api::{DeployedModule, DeployedWorker},
    layout,
};

/// What a Worker runs with that names no compatibility date: the oldest there is, as at Cloudflare.
const OLDEST_DATE: &str = "2021-11-02";

impl Writer<'_> {
    /// One version of a Worker, as the service of this name.
    pub(super) fn worker(&mut self, key: &str, worker: &DeployedWorker) {
        let bindings: Vec<String> = worker
            .bindings
            .iter()
            .filter_map(|binding| {
                let name = binding["name"].as_str()?;
                let value = self.binding(worker, name, binding)?;
                Some(format!("(name = {}, {value})", quoted(name)))
            })
            .collect();
        let date = self.date(worker);
        let flags: Vec<String> = worker
            .compatibility_flags
            .iter()
            .map(|flag| quoted(flag))
            .collect();
        // The ids make a new bucket of an old name a new configuration.
        let ids = worker.incarnations.join(" ");
        self.services.push(format!(
            "# {} {ids}\n    (name = {}, worker = (compatibilityDate = {}, compatibilityFlags = [{}], {}{}, bindings = [{}], \
             tails = [(name = \"tail\", props = (json = {})){}]))",
            worker.version,
            quoted(&format!("{WORKER}{key}")),
            quoted(&date),
            flags.join(", "),
            self.code(worker),
            objects::classes(&worker.namespaces, objects::ON_DISK),
            bindings.join(", "),
            quoted(&json!({ "worker": worker.name, "version": worker.version }).to_string()),
            self.tail_consumers(worker)
        ));
    }

    /// The Workers that hear what happens in one: those that run.
    fn tail_consumers(&self, worker: &DeployedWorker) -> String {
        let names = worker.tail_consumers.iter();
        names
            .filter(|name| self.running.contains(name.as_str()))
            .map(|name| format!(", {}", quoted(&format!("{WORKER}{name}"))))
            .collect()
    }

    /// The compatibility date, not newer than the binary.
    fn date(&mut self, worker: &DeployedWorker) -> String {
        let newest = self.setting.newest_date;
        let date = worker.compatibility_date.as_deref().unwrap_or(OLDEST_DATE);
        if date <= newest {
            return date.to_owned();
        }
        self.config.notices.push(format!(
            "Worker `{}` asks for the compatibility date {date}; the runtime here knows {newest} and uses that",
            worker.name
        ));
        newest.to_owned()
    }

    pub(super) fn content(&self, module: &DeployedModule) -> String {
        match module.text {
            Some(text) => quoted(text),
            None => embed(&layout::modules_folder(self.setting.folder).join(&module.hash)),
        }
    }

    fn code(&self, worker: &DeployedWorker) -> String {
        let (first, others): (Vec<_>, Vec<_>) = worker
            .modules
            .iter()
            .partition(|module| module.name == worker.entry);
        if worker.service_syntax {
            let script = first.first().map(|module| self.content(module));
            return format!("serviceWorkerScript = {}", script.unwrap_or_default());
        }
        // The first module is the one that is run.
        let modules: Vec<String> = first
            .into_iter()
            .chain(others)
            .filter_map(|module| {
                let kind = module_kind(&module.content_type)?;
                let content = self.content(module);
                Some(format!(
                    "(name = {}, {kind} = {content})",
                    quoted(&module.name)
                ))
            })
            .collect();
        format!("modules = [{}]", modules.join(", "))
    }
}

/// The form of a module; none for what is not code.
fn module_kind(content_type: &str) -> Option<&'static str> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    Some(match essence {
        "application/javascript+module" => "esModule",
        "application/javascript" | "text/javascript" => "commonJsModule",
        "application/wasm" => "wasm",
        "application/json" => "json",
        "application/source-map" => return None,
        "text/x-python" => "pythonModule",
        "text/x-python-requirement" => "pythonRequirement",
        text if text.starts_with("text/") => "text",
        _ => "data",
    })
}
