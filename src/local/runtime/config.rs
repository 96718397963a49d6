//! Writes the configuration of `workerd`: every deployed Worker, the simulators behind its bindings, and the entry Worker.
//!
//! Text in, text out; nothing is read or started here. Secrets stay out of the text: the configuration names environment
//! variables of the process, and their values are handed over beside it.
//!
//! Invariant: no name or value that a user chose can end the string it stands in ([`quoted`]).

mod assets;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use serde_json::{Value, json};

use super::host::{DELAY, Link, QUEUE, TOKEN};
use crate::local::{
    api::{DeployedModule, DeployedWorker, Namespace, jurisdiction},
    layout,
};

/// What a Worker runs with that names no compatibility date: the oldest there is, as at Cloudflare.
const OLDEST_DATE: &str = "2021-11-02";
/// The date of the simulators and of the entry Worker.
const OWN_DATE: &str = "2023-07-24";
/// The Worker in front of all others.
const ENTRY: &str = include_str!("entry.js");
/// The Worker in front of each storage object.
const DOOR: &str = include_str!("door.js");
/// The Worker that hears what happened in the others.
const TAIL: &str = include_str!("tail.js");
/// Stands for a Worker that cannot run.
const ABSENT: &str = "import { DurableObject } from 'cloudflare:workers'; \
    export default { fetch(request, env) { throw new Error(env.REASON); } }; \
    class Absent extends DurableObject { fetch() { throw new Error(this.env.REASON); } };";
/// The prefix of the services that are Workers of the user.
pub(super) const WORKER: &str = "worker:";

/// What the configuration is made from, besides the Workers.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    /// The data folder of the local cloud, absolute.
    pub(super) folder: &'a Path,
    /// The folder of the simulators, absolute.
    pub(super) simulators: &'a Path,
    /// The newest compatibility date that the binary knows.
    pub(super) newest_date: &'a str,
    /// Versions of Workers that cannot run, by the names of their services, with the reason.
    pub(super) broken: &'a BTreeMap<String, String>,
    /// Where this program answers.
    pub(super) link: &'a Link,
}

/// A configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// The file.
    pub(super) text: String,
    /// The environment variables that it names.
    pub(super) variables: Vec<(String, String)>,
    /// What is different here from Cloudflare, for the user.
    pub(super) notices: Vec<String>,
}

impl Config {
    /// Tells configurations apart; nothing of a secret can be read from it.
    pub(super) fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.text.as_bytes());
        for (name, value) in &self.variables {
            for part in [name, value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.finalize()
    }
}

/// Writes the configuration for `workers`.
pub(super) fn write(workers: &[DeployedWorker], setting: &Setting<'_>) -> Config {
    let mut writer = Writer {
        setting,
        config: Config::default(),
        services: Vec::new(),
        shared: BTreeSet::new(),
        modules: BTreeSet::new(),
        simulated: BTreeMap::new(),
        external: BTreeSet::new(),
        absent: BTreeSet::new(),
        running: workers
            .iter()
            .map(|worker| worker.name.as_str())
            .filter(|name| !setting.broken.contains_key(*name))
            .collect(),
        with_assets: workers
            .iter()
            .flat_map(DeployedWorker::versions)
            .filter(|(key, version)| {
                version.assets.is_some()
                    && !version.entry.is_empty()
                    && !setting.broken.contains_key(key)
            })
            .map(|(key, _)| key)
            .collect(),
        objects: workers
            .iter()
            .flat_map(|worker| &worker.namespaces)
            .map(|namespace| (namespace.id.as_str(), namespace))
            .collect(),
        workflows: workflows::placed(workers),
    };
    writer.entry(workers);
    for (key, version) in workers.iter().flat_map(DeployedWorker::versions) {
        match setting.broken.get(&key) {
            Some(reason) => writer.absent(&key, reason, &version.namespaces),
            None => {
                if !version.entry.is_empty() {
                    writer.worker(&key, version);
                }
                writer.assets(&key, version);
            }
        }
    }
    for name in std::mem::take(&mut writer.absent) {
        if !setting.broken.contains_key(&name) {
            writer.absent(&name, "it is not deployed", &[]);
        }
    }
    writer.simulators();
    writer.workflow_engines();
    writer.object_storage();
    writer.finish()
}

/// A string as the language of the configuration wants it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn embed(path: &Path) -> String {
    format!("embed {}", quoted(&path.to_string_lossy()))
}

/// A product that a simulator stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Product {
    D1,
    Kv,
    R2,
}

impl Product {
    fn prefix(self) -> &'static str {
        match self {
            Self::D1 => "d1",
            Self::Kv => "kv",
            Self::R2 => "r2",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::D1 => "d1/database.worker.js",
            Self::Kv => "kv/namespace.worker.js",
            Self::R2 => "r2/bucket.worker.js",
        }
    }

    /// The key of its storage objects, whose last part is the name of the class.
    fn unique_key(self) -> &'static str {
        match self {
            Self::D1 => layout::D1_CLASS,
            Self::Kv => layout::KV_CLASS,
            Self::R2 => layout::R2_CLASS,
        }
    }

    fn class(self) -> &'static str {
        self.unique_key()
            .split_once('-')
            .map_or(self.unique_key(), |(_, class)| class)
    }
}

/// The products whose data lies in files, by the name of their folder.
pub(super) const FOLDERS: [&str; 6] = [
    "assets",
    "d1",
    "kv",
    "r2",
    layout::OBJECTS,
    layout::WORKFLOWS,
];

struct Writer<'a> {
    setting: &'a Setting<'a>,
    config: Config,
    services: Vec<String>,
    /// Services that several bindings share.
    shared: BTreeSet<String>,
    /// Modules that make bindings.
    modules: BTreeSet<String>,
    /// The simulated things that are bound, by product.
    simulated: BTreeMap<Product, BTreeSet<String>>,
    /// The services that are this program.
    external: BTreeSet<String>,
    /// Workers that are bound and not there.
    absent: BTreeSet<String>,
    running: BTreeSet<&'a str>,
    /// Workers that have code and assets.
    with_assets: BTreeSet<String>,
    /// The namespaces of Durable Objects that there are, by id.
    objects: BTreeMap<&'a str, &'a Namespace>,
    /// The workflows that there are, or will be as soon as their Workers are deployed, by name.
    workflows: BTreeMap<&'a str, workflows::Placed<'a>>,
}

impl Writer<'_> {
    fn entry(&mut self, workers: &[DeployedWorker]) {
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
    fn absent(&mut self, name: &str, reason: &str, namespaces: &[Namespace]) {
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

    /// One version of a Worker, as the service of this name.
    fn worker(&mut self, key: &str, worker: &DeployedWorker) {
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

    fn content(&self, module: &DeployedModule) -> String {
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

    /// The value of a binding; none for what there is not here, which is said.
    fn binding(&mut self, worker: &DeployedWorker, name: &str, binding: &Value) -> Option<String> {
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

    /// A service that is this program; each request carries the token and `headers`.
    fn host(&mut self, service: &str, headers: &[(&str, String)]) {
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

    /// The service of a simulated thing, which is remembered.
    fn simulated(&mut self, product: Product, id: &str) -> String {
        self.simulated
            .entry(product)
            .or_default()
            .insert(id.to_owned());
        quoted(&format!("{}:{id}", product.prefix()))
    }

    fn simulator(&self, script: &str) -> String {
        embed(&self.setting.simulators.join(script))
    }

    fn simulators(&mut self) {
        for (product, ids) in std::mem::take(&mut self.simulated) {
            let prefix = product.prefix();
            let class = product.class();
            let host = match product {
                Product::R2 => "(name = \"HOST\", service = \"host\"), ",
                _ => "",
            };
            for id in ids {
                self.services.push(format!(
                    "(name = {}, worker = (compatibilityDate = \"{OWN_DATE}\", \
                     modules = [(name = \"alch-door.js\", esModule = {})], bindings = [{host}\
                     (name = \"MINIFLARE_NAMESPACE\", text = {}), (name = \"PRODUCT\", text = \"{prefix}\"), (name = \"MINIFLARE_OBJECT\", \
                     durableObjectNamespace = (className = \"{class}\", serviceName = \"{prefix}-objects\"))]))",
                    quoted(&format!("{prefix}:{id}")),
                    quoted(DOOR),
                    quoted(&id)
                ));
            }
            self.services.push(format!(
                "(name = \"{prefix}-storage\", disk = (path = {}, writable = true))",
                quoted(&self.setting.folder.join(prefix).to_string_lossy())
            ));
            self.services.push(format!(
                "(name = \"{prefix}-objects\", worker = (compatibilityDate = \"{OWN_DATE}\", \
                 compatibilityFlags = [\"nodejs_compat\", \"experimental\"], \
                 modules = [(name = \"simulator.js\", esModule = {})], \
                 durableObjectNamespaces = [(className = \"{class}\", uniqueKey = \"{}\")], \
                 durableObjectStorage = (localDisk = \"{prefix}-storage\"), \
                 bindings = [(name = \"MINIFLARE_BLOBS\", service = \"{prefix}-storage\")]))",
                self.simulator(product.script()),
                product.unique_key()
            ));
        }
    }

    fn finish(mut self) -> Config {
        let mut text = "# Written by alch at every start of the runtime.\n\
             using Workerd = import \"/workerd/workerd.capnp\";\n\
             const config :Workerd.Config = (\n  structuredLogging = true,\n  services = [\n    \
             (name = \"internet\", network = (allow = [\"public\", \"private\"], tlsOptions = (trustBrowserCas = true))),\n"
            .to_owned();
        for service in self.services.iter().chain(&self.shared) {
            writeln!(text, "    {service},").expect("a string takes all text");
        }
        let more: String = self
            .modules
            .iter()
            .map(|module| format!(", {module}"))
            .collect();
        write!(
            text,
            "  ],\n  sockets = [(name = \"entry\", http = (), service = \"entry\")],\n  \
             extensions = [(modules = [(name = \"miniflare:shared\", esModule = {}), \
             (name = \"miniflare:zod\", esModule = {}), \
             (name = \"{}\", esModule = {}, internal = true){more}])],\n);\n",
            self.simulator("shared/index.worker.js"),
            self.simulator("shared/zod.worker.js"),
            workflows::WRAPPER,
            self.simulator("workflows/wrapped-binding.worker.js")
        )
        .expect("a string takes all text");
        self.config.text = text;
        self.config
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

mod objects;
mod wrapped;

#[cfg(test)]
mod tests;
mod workflows;
