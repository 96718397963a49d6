//! The services of alch itself: the entry Worker in front of all others, the Worker that hears what happens in them, those that
//! say why another does not run, and this program.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{OWN_DATE, WORKER, Writer, assets, objects, quoted, workflows};
use crate::local::{
    api::{DeployedWorker, Namespace},
    runtime::host::TOKEN,
};

/// The Worker in front of all others.
const ENTRY: &str = include_str!("../entry.js");
/// The Worker that hears what happened in the others.
const TAIL: &str = include_str!("../tail.js");
/// Stands for a Worker that cannot run.
const ABSENT: &str = "import { DurableObject } from 'cloudflare:workers'; \
    export default { fetch(request, env) { throw new Error(env.REASON); } }; \
    class Absent extends DurableObject { fetch() { throw new Error(this.env.REASON); } };";

impl Writer<'_> {
    pub(super) fn entry(&mut self, workers: &[DeployedWorker]) {
        let mut bindings: Vec<String> = workers
            .iter()
            .flat_map(DeployedWorker::versions)
            .map(|(key, _)| {
                let service = quoted(&format!("{WORKER}{key}"));
                let itself = format!("(name = {service}, service = {service})");
                if !self.with_assets.contains(&key) {
                    return itself;
                }
                let front = quoted(&format!("{}{key}", assets::FRONT));
                format!("{itself}, (name = {front}, service = {front})")
            })
            .collect();
        let shares: BTreeMap<&str, Vec<Value>> = workers
            .iter()
            .filter(|worker| !worker.others.is_empty())
            .map(|worker| {
                let mut versions: Vec<_> = worker.versions().collect();
                versions.sort_by(|(_, a), (_, b)| b.created_at.cmp(&a.created_at));
                let share = |(key, version): (String, &DeployedWorker)| {
                    json!({ "id": version.version, "service": format!("{WORKER}{key}"), "share": version.share })
                };
                (worker.name.as_str(), versions.into_iter().map(share).collect())
            })
            .collect();
        let hosts = workers.first().map(|worker| json!(*worker.hosts));
        let hosts = hosts.unwrap_or_else(|| json!([])).to_string();
        bindings.push(format!("(name = \"HOSTS\", json = {})", quoted(&hosts)));
        bindings.extend(self.workflow_doors());
        self.services.push(format!(
            "(name = \"entry\", worker = (compatibilityDate = \"{OWN_DATE}\", \
             compatibilityFlags = [\"experimental\", \"service_binding_extra_handlers\", \"rpc\", \"fetcher_no_get_put_delete\"], \
             modules = [(name = \"alch-entry.js\", esModule = {}), (name = \"alch-workflows.js\", esModule = {})], \
             bindings = [(name = \"TOKEN\", text = {}), (name = \"HOST\", service = \"host\"), \
             (name = \"SHARES\", json = {}), {}]))",
            quoted(ENTRY),
            quoted(workflows::CODE),
            quoted(&self.setting.link.token),
            quoted(&json!(shares).to_string()),
            bindings.join(", ")
        ));
        self.host("host", &[]);
        self.services.push(format!(
            "(name = \"tail\", worker = (compatibilityDate = \"{OWN_DATE}\", \
             modules = [(name = \"alch-tail.js\", esModule = {})], \
             bindings = [(name = \"HOST\", service = \"host\")]))",
            quoted(TAIL)
        ));
    }

    /// A Worker that only says why it does not run.
    pub(super) fn absent(&mut self, name: &str, reason: &str, namespaces: &[Namespace]) {
        let reason = format!("the Worker `{name}` cannot run: {reason}");
        let exports: Vec<String> = namespaces
            .iter()
            .map(|namespace| format!("Absent as {}", namespace.class))
            .collect();
        let code = format!("{ABSENT} export {{ {} }};", exports.join(", "));
        // Objects that only say why have nothing to store, and must not come near to what is stored.
        let objects = objects::classes(namespaces, "inMemory = void");
        self.services.push(format!(
            "(name = {}, worker = (compatibilityDate = \"{OWN_DATE}\", \
             modules = [(name = \"absent.js\", esModule = {})]{objects}, bindings = [(name = \"REASON\", text = {})]))",
            quoted(&format!("{WORKER}{name}")),
            quoted(&code),
            quoted(&reason)
        ));
    }

    /// A service that is this program; each request carries the token and `headers`.
    pub(super) fn host(&mut self, service: &str, headers: &[(&str, String)]) {
        let link = self.setting.link;
        let token = (TOKEN, link.token.clone());
        let headers: Vec<String> = std::iter::once(&token)
            .chain(headers)
            .map(|(name, value)| format!("(name = {}, value = {})", quoted(name), quoted(value)))
            .collect();
        self.services.push(format!(
            "(name = {}, external = (address = \"{}\", http = (injectRequestHeaders = [{}])))",
            quoted(service),
            link.address,
            headers.join(", ")
        ));
    }
}
