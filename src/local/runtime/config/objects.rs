//! Durable Objects in the configuration: the classes of a Worker, where their objects lie, and bindings to them.

use std::fmt::Write as _;

use super::{WORKER, Writer, quoted};
use crate::local::{
    api::{DeployedWorker, Namespace},
    layout,
};

/// Objects that are kept: in the folder of all Durable Objects, below it in one of each namespace's.
pub(super) const ON_DISK: &str = "localDisk = \"objects-storage\"";

/// The classes of a Worker, as its definition goes on with them; nothing where it has none.
pub(super) fn classes(namespaces: &[Namespace], storage: &str) -> String {
    if namespaces.is_empty() {
        return String::new();
    }
    let mut out = ", durableObjectNamespaces = [".to_owned();
    for namespace in namespaces {
        write!(
            out,
            "(className = {}, uniqueKey = {}, enableSql = {}), ",
            quoted(&namespace.class),
            quoted(&namespace.id),
            namespace.sqlite
        )
        .expect("a string takes all text");
    }
    write!(out, "], durableObjectStorage = ({storage})").expect("a string takes all text");
    out
}

impl Writer<'_> {
    /// A binding to the objects of a namespace, wherever its class is by now; none when it is gone, which is said.
    pub(super) fn objects(
        &mut self,
        worker: &DeployedWorker,
        name: &str,
        namespace: &str,
    ) -> Option<String> {
        let Some(found) = self.objects.get(namespace) else {
            self.config.notices.push(format!(
                "Worker `{}`: the binding `{name}` is left out: its Durable Objects are deleted",
                worker.name
            ));
            return None;
        };
        Some(format!(
            "durableObjectNamespace = (className = {}, serviceName = {})",
            quoted(&found.class),
            quoted(&format!("{WORKER}{}", found.script))
        ))
    }

    /// The place of all Durable Objects, where there are any.
    pub(super) fn object_storage(&mut self) {
        if self.objects.is_empty() {
            return;
        }
        let folder = self.setting.folder.join(layout::OBJECTS);
        self.services.push(format!(
            "(name = \"objects-storage\", disk = (path = {}, writable = true))",
            quoted(&folder.to_string_lossy())
        ));
    }
}
