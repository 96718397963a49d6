//! The bucket of an application, remembered in `.alchemy/stores/<app>.json`. No secret stands in it.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Location;
use crate::{
    cli::error::CliError,
    model::{AppName, diagnostic::codes},
    state::bucket::BucketConfig,
    util::fs,
};

/// The format that this program writes.
const FORMAT: u32 = 1;

/// Who said where state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DeclaredBy {
    Script,
    Command,
    Environment,
}

/// What is remembered of an application.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    format: u32,
    app: AppName,
    store: BucketConfig,
    pub(super) by: DeclaredBy,
}

impl Remembered {
    pub(super) fn new(app: &AppName, store: BucketConfig, by: DeclaredBy) -> Self {
        Self {
            format: FORMAT,
            app: app.clone(),
            store,
            by,
        }
    }

    pub(super) fn location(&self) -> Location {
        Location::Bucket(self.store.clone())
    }
}

fn folder(root: &Path) -> PathBuf {
    root.join("stores")
}

pub(super) fn path(root: &Path, app: &AppName) -> PathBuf {
    folder(root).join(format!("{app}.json"))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Remembered, CliError> {
    let unusable = |problem: String| {
        CliError::new(
            codes::CORRUPT,
            format!("`{}` does not say where state is: {problem}", path.display()),
        )
        .with_note("nothing was changed")
        .with_help("bring it back from version control or a copy, or run a script that declares `stateStore` after removing it")
    };
    let found: Remembered =
        serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
    if found.format > FORMAT {
        return Err(unusable(format!(
            "it was written in format {} by a newer alch",
            found.format
        )));
    }
    Ok(found)
}

/// What is remembered of an application.
pub(super) fn read(root: &Path, app: &AppName) -> Result<Option<Remembered>, CliError> {
    let path = path(root, app);
    match fs::read_if_present(&path) {
        // A file stands where the folder of state is to be: the store has words for that.
        Err(error) if error.source.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(error.into()),
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => parse(&path, &bytes).map(Some),
    }
}

/// What is remembered of all of them.
pub(super) fn all(root: &Path) -> Result<BTreeMap<AppName, Remembered>, CliError> {
    let folder = folder(root);
    let mut out = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(out);
    }
    for path in fs::list(&folder)? {
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let found = parse(&path, &fs::read(&path)?)?;
            out.insert(found.app.clone(), found);
        }
    }
    Ok(out)
}

pub(super) fn write(root: &Path, remembered: &Remembered) -> Result<(), CliError> {
    let path = path(root, &remembered.app);
    let mut bytes = serde_json::to_vec_pretty(remembered).map_err(|error| {
        CliError::new(
            codes::STATE_IO,
            format!("cannot write `{}`: {error}", path.display()),
        )
    })?;
    bytes.push(b'\n');
    fs::create_dir_all(&folder(root))?;
    Ok(fs::write_atomic(&path, &bytes)?)
}

pub(super) fn forget(root: &Path, app: &AppName) -> Result<(), CliError> {
    let path = path(root, app);
    if path.exists() {
        fs::remove_file(&path)?;
    }
    Ok(())
}
