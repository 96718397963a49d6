//! Temporary.
#![allow(missing_docs, dead_code, clippy::all)]
pub mod local {
    pub const ACCOUNT_ID: &str = "x";
    pub struct Cloud;
    impl Cloud {
        pub fn open(_: &std::path::Path) -> Result<std::sync::Arc<Self>, String> {
            unimplemented!()
        }
    }
    pub struct RouterOptions {
        pub token: Option<String>,
        pub latency: std::time::Duration,
    }
    pub fn router(_: std::sync::Arc<Cloud>, _: RouterOptions) -> axum::Router {
        unimplemented!()
    }
}
pub mod cloudflare {
    use crate::provider::Registry;
    use std::sync::Arc;
    pub const PUBLIC_BASE_URL: &str = "";
    pub struct Client;
    impl Client {
        pub fn over_router(
            _: impl Into<String>,
            _: Box<dyn Fn() -> Result<axum::Router, String> + Send + Sync>,
        ) -> Self {
            Self
        }
        pub fn over_http(
            _: &str,
            _: impl Into<String>,
            _: Option<zeroize::Zeroizing<String>>,
        ) -> Self {
            Self
        }
    }
    pub fn register(_: &Registry, _: &Arc<Client>) {}
}
pub mod std_kinds {
    pub fn register(_: &crate::provider::Registry) {}
}
pub mod script {
    use crate::{engine::*, model::*, provider::*, secret::*};
    use ::std::{collections::BTreeMap, path::*, sync::Arc};
    #[derive(Clone)]
    pub struct HostOptions {
        pub project: PathBuf,
        pub permissions: Permissions,
        pub environment: Arc<BTreeMap<String, String>>,
        pub limits: Limits,
        pub redactor: Redactor,
        pub registry: Arc<Registry>,
        pub events: Arc<dyn EventSink>,
        pub cancel: Cancel,
        pub meter: Meter,
        pub arguments: Vec<String>,
    }
    #[derive(Clone, Default)]
    pub struct Limits(u8);
    #[derive(Clone)]
    pub enum Allow {
        None,
        Only(Vec<String>),
        All,
    }
    #[derive(Clone)]
    pub struct Permissions {
        pub exec: Allow,
        pub net: Allow,
        pub read: Allow,
        pub write: Allow,
    }
    pub struct Program;
    pub struct ScriptResult {
        pub error: Option<Diagnostic>,
        pub summary: Option<Summary>,
    }
    #[derive(Default)]
    pub struct AppOptions {
        pub stage: Option<StageName>,
        pub phase: Option<Phase>,
        pub password: Option<zeroize::Zeroizing<String>>,
        pub target: Option<String>,
        pub adopt: Option<bool>,
        pub force: Option<bool>,
        pub profile: Option<String>,
        pub quiet: Option<bool>,
        pub concurrency: Option<usize>,
        pub delete_adopted: Option<bool>,
    }
    pub trait Launcher: Send + Sync {
        fn launch(&self, app: AppName, options: AppOptions) -> Result<Arc<Run>, Diagnostic>;
        fn launch_test(&self, app: AppName) -> Result<Arc<Run>, Diagnostic>;
    }
    pub fn load(_: &Path, _: &HostOptions) -> Result<Program, Vec<Diagnostic>> {
        unimplemented!()
    }
    pub fn run(
        _: &Program,
        _: HostOptions,
        _: Arc<dyn Launcher>,
        _: tokio::runtime::Handle,
    ) -> ScriptResult {
        unimplemented!()
    }
}
pub struct FileStore;
impl FileStore {
    pub fn new(
        _: std::path::PathBuf,
        _: std::sync::Arc<crate::util::clock::SystemClock>,
        _: std::sync::Arc<crate::util::ids::SystemIds>,
    ) -> std::sync::Arc<dyn crate::state::Store> {
        unimplemented!()
    }
}
