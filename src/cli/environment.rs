//! What the process was started in, read once: environment variables and the working folder.
//!
//! No other module of the command line reads them from the process, so that tests can hand in their own.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// The surroundings of one invocation.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables; those that are not UTF-8 are left out.
    pub variables: Arc<BTreeMap<String, String>>,
    /// The working folder.
    pub folder: PathBuf,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            variables: Arc::new(variables),
            // A working folder that was deleted is found out by the first path that is resolved against it.
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// A variable; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The folder `~/.alchemy` of profiles and keys; below the working folder where there is no home.
    #[must_use]
    pub fn user_folder(&self) -> PathBuf {
        match self.get("HOME") {
            Some(home) => PathBuf::from(home).join(".alchemy"),
            None => self.folder.join(".alchemy-home"),
        }
    }
}
