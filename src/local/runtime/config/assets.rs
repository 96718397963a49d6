//! The services that serve the static assets of a Worker: the files, the simulator that knows how they are served, and the
//! router that decides between them and the Worker's code.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{WORKER, Writer, quoted, rules};
use crate::local::{
    api::{DeployedAssets, DeployedWorker},
    layout,
};

/// The prefix of what stands before Workers that have assets, for requests.
pub(in crate::local::runtime) const FRONT: &str = "front:";
/// The same for service bindings, whose other calls go to the Worker itself.
const PROXY: &str = "assets-proxy:";
const FILES: &str = "assets-files";
/// The date of the simulators of assets.
const DATE: &str = "2024-07-31";
const FLAGS: &str = "\"nodejs_compat\", \"enable_ctx_exports\", \"service_binding_extra_handlers\"";

impl Writer<'_> {
    /// The service that a service binding to a Worker leads to.
    pub(super) fn bound_service(&self, name: &str) -> String {
        let prefix = if self.with_assets.contains(name) {
            PROXY
        } else {
            WORKER
        };
        quoted(&format!("{prefix}{name}"))
    }

    /// The value of a binding to the assets of a Worker.
    pub(super) fn assets_binding(&mut self, worker: &DeployedWorker) -> Option<String> {
        if worker.assets.is_none() {
            self.config.notices.push(format!(
                "Worker `{}`: the binding to its assets is left out: it has none",
                worker.name
            ));
            return None;
        }
        Some(format!(
            "service = {}",
            quoted(&format!("assets:{}", worker.version))
        ))
    }

    /// The services around a version with assets. `key` is the name of its own service.
    pub(super) fn assets(&mut self, key: &str, worker: &DeployedWorker) {
        let Some(assets) = &worker.assets else {
            return;
        };
        let has_code = !worker.entry.is_empty();
        let prefix = if has_code { FRONT } else { WORKER };
        let front = quoted(&format!("{prefix}{key}"));
        if !self
            .services
            .iter()
            .any(|service| service.starts_with(&format!("(name = \"{FILES}\"")))
        {
            let folder = layout::assets_folder(self.setting.folder);
            self.services.push(format!(
                "(name = \"{FILES}\", disk = (path = {}))",
                quoted(&folder.to_string_lossy())
            ));
        }
        let version = &worker.version;
        let (manifest, reverse) = manifest(assets);
        let files = quoted(&format!("assets-kv:{version}"));
        let server = quoted(&format!("assets:{version}"));
        self.services.push(format!(
            "(name = {files}, worker = (compatibilityDate = \"{DATE}\", \
             modules = [(name = \"assets-kv.js\", esModule = {})], bindings = [\
             (name = \"MINIFLARE_BLOBS\", service = \"{FILES}\"), (name = \"ASSETS_REVERSE_MAP\", json = {})]))",
            self.simulator("assets/assets-kv.worker.js"),
            quoted(&reverse.to_string())
        ));
        self.services.push(format!(
            "(name = {server}, worker = (compatibilityDate = \"{DATE}\", compatibilityFlags = [{FLAGS}], \
             modules = [(name = \"assets.js\", esModule = {})], bindings = [\
             (name = \"ASSETS_KV_NAMESPACE\", kvNamespace = {files}), (name = \"ASSETS_MANIFEST\", data = 0x\"{}\"), \
             (name = \"CONFIG\", json = {})]))",
            self.simulator("assets/assets.worker.js"),
            hex::encode(manifest),
            quoted(&serving(worker, assets).to_string())
        ));
        let code = quoted(&format!("{WORKER}{key}"));
        let user = match has_code {
            true => format!("(name = \"USER_WORKER\", service = {code}), "),
            false => String::new(),
        };
        self.services.push(format!(
            "# {}\n    (name = {front}, worker = (compatibilityDate = \"{DATE}\", compatibilityFlags = [{FLAGS}], \
             modules = [(name = \"router.js\", esModule = {})], bindings = [{user}\
             (name = \"ASSET_WORKER\", service = {server}), (name = \"CONFIG\", json = {})]))",
            worker.version,
            self.simulator("assets/router.worker.js"),
            quoted(&routing(assets, has_code).to_string())
        ));
        if has_code {
            self.services.push(format!(
                "(name = {}, worker = (compatibilityDate = \"{DATE}\", compatibilityFlags = [{FLAGS}], \
                 modules = [(name = \"proxy.js\", esModule = {})], bindings = [{user}\
                 (name = \"ROUTER_WORKER\", service = {front})]))",
                quoted(&format!("{PROXY}{key}")),
                self.simulator("assets/rpc-proxy.worker.js"),
            ));
        }
    }
}

/// The manifest as the simulator searches it (a head of 20 bytes, then entries of 40 in the order of the hashes of their
/// paths: 16 bytes of that hash, 16 that name the content, 8 of nothing), and the files by the names of their content.
fn manifest(assets: &DeployedAssets) -> (Vec<u8>, Value) {
    let mut entries: Vec<([u8; 16], [u8; 16])> = Vec::with_capacity(assets.files.len());
    let mut reverse = serde_json::Map::new();
    for (path, (hash, content_type)) in &assets.files {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(path.as_bytes())[..16]);
        let mut content = [0; 16];
        // A hash that is stored is 32 hexadecimal digits.
        if hex::decode_to_slice(hash, &mut content).is_err() {
            continue;
        }
        entries.push((key, content));
        reverse.insert(
            hex::encode(content),
            json!({"filePath": hash, "contentType": content_type}),
        );
    }
    entries.sort_unstable();
    let mut bytes = vec![0; 20];
    for (key, content) in entries {
        bytes.extend(key);
        bytes.extend(content);
        bytes.extend([0; 8]);
    }
    (bytes, Value::Object(reverse))
}

fn serving(worker: &DeployedWorker, assets: &DeployedAssets) -> Value {
    let given = |name: &str| assets.config.get(name).filter(|value| !value.is_null());
    let text = |name: &str| given(name).and_then(Value::as_str).unwrap_or_default();
    let mut config = json!({
        "compatibility_date": worker.compatibility_date,
        "compatibility_flags": worker.compatibility_flags,
        "headers": rules::headers(text("_headers")),
        "redirects": rules::redirects(text("_redirects")),
        "has_static_routing": given("run_worker_first").is_some_and(Value::is_array),
    });
    for name in ["html_handling", "not_found_handling"] {
        if let Some(value) = given(name) {
            config[name] = value.clone();
        }
    }
    config
}

/// `run_worker_first` is for all requests, or for those whose path fits one rule and no rule that begins with `!`.
fn routing(assets: &DeployedAssets, has_code: bool) -> Value {
    let first = assets.config.get("run_worker_first");
    let ahead = has_code && first == Some(&Value::Bool(true));
    let mut config = json!({
        "has_user_worker": has_code,
        "invoke_user_worker_ahead_of_assets": ahead,
    });
    if let Some(rules) = first.and_then(Value::as_array).filter(|_| has_code) {
        let texts = || rules.iter().filter_map(Value::as_str);
        let to_assets: Vec<&str> = texts().filter_map(|rule| rule.strip_prefix('!')).collect();
        let to_code: Vec<&str> = texts().filter(|rule| !rule.starts_with('!')).collect();
        config["static_routing"] = json!({"user_worker": to_code, "asset_worker": to_assets});
    }
    config
}
