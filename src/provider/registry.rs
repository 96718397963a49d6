//! The kinds that a run knows, by name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking::RwLock;

use super::Provider;

/// A standard lock whose poisoning is not an error: the map inside is never left half changed.
mod parking {
    use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard};

    #[derive(Default)]
    pub(super) struct RwLock<T>(std::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }
        pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// Kinds by name. Script-defined kinds are added while the script runs.
#[derive(Default)]
pub struct Registry {
    kinds: RwLock<BTreeMap<Arc<str>, Arc<dyn Provider>>>,
    /// Milliseconds.
    lag: AtomicU64,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how long what was made may stay unseen by those who look for it at this target.
    pub fn set_lag(&self, lag: Duration) {
        let milliseconds = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.lag.store(milliseconds, Ordering::Relaxed);
    }

    /// How long what was made may stay unseen: until then an object of a crashed run that is not found may be there all the
    /// same. Zero where nobody said otherwise.
    #[must_use]
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag.load(Ordering::Relaxed))
    }

    /// Adds a kind. Answers `false`, and changes nothing, when the name is taken.
    pub fn add(&self, provider: Arc<dyn Provider>) -> bool {
        let kind = Arc::clone(&provider.schema().kind);
        let mut kinds = self.kinds.write();
        if kinds.contains_key(&kind) {
            return false;
        }
        kinds.insert(kind, provider);
        true
    }

    /// Adds a kind, or puts another provider in the place of the one it had.
    pub fn replace(&self, provider: Arc<dyn Provider>) {
        let kind = Arc::clone(&provider.schema().kind);
        self.kinds.write().insert(kind, provider);
    }

    /// The provider of a kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<Arc<dyn Provider>> {
        self.kinds.read().get(kind).cloned()
    }

    /// All kinds, sorted by name.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<str>> {
        self.kinds.read().keys().cloned().collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}
