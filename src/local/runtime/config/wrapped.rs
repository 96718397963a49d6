//! Bindings whose object is made of a module of its own: secrets of a store, Hyperdrive, rate limits, Analytics Engine.

use serde_json::{Value, json};

use super::{OWN_DATE, Writer, embed, quoted};

/// The binding of a secret of a store.
const STORE_SECRET: &str = include_str!("store_secret.js");
/// The binding of a Hyperdrive configuration.
const HYPERDRIVE: &str = include_str!("hyperdrive.js");
const RATE_LIMIT_CLASS: &str = "RateLimiterObject";
/// What Cloudflare runs and this machine cannot.
const REMOTE: [&str; 10] = [
    "ai",
    "browser",
    "images",
    "media",
    "stream",
    "vectorize",
    "send_email",
    "dispatch_namespace",
    "mtls_certificate",
    "ai_search",
];

impl Writer<'_> {
    /// The value of a binding that is wrapped; none for one that the local cloud has not, which is said.
    pub(super) fn wrapped(&mut self, worker: &str, name: &str, binding: &Value) -> Option<String> {
        let kind = binding["type"].as_str().unwrap_or_default();
        match kind {
            "secrets_store_secret" => {
                let variable = self.variable(binding["value"].as_str().unwrap_or_default());
                Some(self.module(
                    "store-secret",
                    &quoted(STORE_SECRET),
                    &[("value", variable)],
                ))
            }
            "hyperdrive" => {
                let origin = binding["origin"].to_string();
                let variable = self.variable(&origin);
                Some(self.module("hyperdrive", &quoted(HYPERDRIVE), &[("origin", variable)]))
            }
            "ratelimit" => Some(self.rate_limit(binding)),
            "analytics_engine" => {
                self.config.notices.push(format!(
                    "Worker `{worker}`: what is written to the data set of `{name}` is dropped here"
                ));
                let script = self
                    .setting
                    .simulators
                    .join("analytics-engine/analytics-engine.worker.js");
                Some(self.module("analytics-engine", &embed(&script), &[]))
            }
            kind => {
                let reason = if REMOTE.contains(&kind) {
                    "Cloudflare alone can run it"
                } else {
                    "the local cloud has none"
                };
                self.config.notices.push(format!(
                    "Worker `{worker}`: the binding `{name}` of type {kind} is left out: {reason}"
                ));
                None
            }
        }
    }

    fn rate_limit(&mut self, binding: &Value) -> String {
        let id = binding["namespace_id"]
            .as_str()
            .map_or_else(|| binding["namespace_id"].to_string(), str::to_owned);
        let service = quoted(&format!("rate-limit:{id}"));
        let entry = self.simulator("shared/object-entry.worker.js");
        let objects = self.simulator("ratelimit/ratelimit-object.worker.js");
        self.shared.insert(format!(
            "(name = {service}, worker = (compatibilityDate = \"{OWN_DATE}\", \
             modules = [(name = \"object-entry.worker.js\", esModule = {entry})], bindings = [\
             (name = \"MINIFLARE_NAMESPACE\", text = {}), (name = \"MINIFLARE_OBJECT\", \
             durableObjectNamespace = (className = \"{RATE_LIMIT_CLASS}\", serviceName = \"rate-limit-objects\"))]))",
            quoted(&id)
        ));
        self.shared.insert(format!(
            "(name = \"rate-limit-objects\", worker = (compatibilityDate = \"{OWN_DATE}\", \
             compatibilityFlags = [\"nodejs_compat\", \"experimental\"], \
             modules = [(name = \"simulator.js\", esModule = {objects})], \
             durableObjectNamespaces = [(className = \"{RATE_LIMIT_CLASS}\", uniqueKey = \"miniflare-{RATE_LIMIT_CLASS}\")], \
             durableObjectStorage = (inMemory = void), bindings = []))"
        ));
        let script = self.simulator("ratelimit/ratelimit.worker.js");
        let data =
            |field: &str| format!("json = {}", quoted(&binding["simple"][field].to_string()));
        let inner = [
            ("fetcher", format!("service = {service}")),
            ("limit", data("limit")),
            ("period", data("period")),
        ];
        self.module("rate-limit", &script, &inner)
    }

    /// A binding that the module `alch:<name>` makes of its own bindings.
    fn module(&mut self, name: &str, content: &str, inner: &[(&str, String)]) -> String {
        self.modules.insert(format!(
            "(name = \"alch:{name}\", internal = true, esModule = {content})"
        ));
        let inner: Vec<String> = inner
            .iter()
            .map(|(name, value)| format!("(name = {}, {value})", quoted(name)))
            .collect();
        format!(
            "wrapped = (moduleName = \"alch:{name}\", innerBindings = [{}])",
            inner.join(", ")
        )
    }

    /// A value that is handed over beside the configuration.
    fn variable(&mut self, value: &str) -> String {
        let variable = format!("ALCH_SECRET_{}", self.config.variables.len());
        // As JSON, which has no zero byte in it.
        let text = json!(value).to_string();
        self.config.variables.push((variable.clone(), text));
        format!("fromEnvironment = {}", quoted(&variable))
    }
}
