//! The simulators of D1, KV and R2, and the door in front of the objects of each.

use super::{OWN_DATE, Writer, embed, quoted};
use crate::local::layout;

/// The Worker in front of each storage object.
const DOOR: &str = include_str!("../door.js");

/// A product that a simulator stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Product {
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

impl Writer<'_> {
    /// The service of a simulated thing, which is remembered.
    pub(super) fn simulated(&mut self, product: Product, id: &str) -> String {
        self.simulated
            .entry(product)
            .or_default()
            .insert(id.to_owned());
        quoted(&format!("{}:{id}", product.prefix()))
    }

    pub(super) fn simulator(&self, script: &str) -> String {
        embed(&self.setting.simulators.join(script))
    }

    pub(super) fn simulators(&mut self) {
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
}
