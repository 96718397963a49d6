//! Writes the configuration of `workerd`: every deployed Worker, the simulators behind its bindings, and the entry Worker.
//!
//! Text in, text out; nothing is read or started here. Secrets stay out of the text: the configuration names environment
//! variables of the process, and their values are handed over beside it.
//!
//! Invariant: no name or value that a user chose can end the string it stands in ([`quoted`]).

mod assets;
mod bindings;
mod entry;
mod objects;
mod rules;
mod simulators;
#[cfg(test)]
mod tests;
mod text;
mod workers;
mod workflows;
mod wrapped;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use self::{
    simulators::Product,
    text::{embed, quoted},
};
use super::host::Link;
use crate::local::{
    api::{DeployedWorker, Namespace},
    layout,
};

/// The date of the simulators and of the entry Worker.
const OWN_DATE: &str = "2023-07-24";
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
