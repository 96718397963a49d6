//! Profiles as they are written and listed: `~/.alchemy/config.json`, and `~/.alchemy/credentials/<profile>/cloudflare.json` with
//! mode 0600. What other programs keep in `config.json` stays.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::{Map as JsonMap, Value as Json, json};
use zeroize::Zeroizing;

use super::{
    Target,
    profile::{Profile, config_path, credentials_path, has_token, profile_names, read_profile},
};
use crate::{cli::error::CliError, util::fs};

/// What is to be written of a profile; what is `None` stays as it is.
#[derive(Debug, Default)]
pub(in crate::cli) struct ProfileChange {
    /// Where resources go.
    pub target: Option<Target>,
    /// The id of the account.
    pub account: Option<String>,
    /// The name of the account, for people.
    pub account_name: Option<String>,
    /// Another server of the API; an empty one stands for Cloudflare's own.
    pub base_url: Option<String>,
}

/// A profile in a list: never a secret.
#[derive(Debug)]
pub(in crate::cli) struct ListedProfile {
    /// Its name.
    pub name: String,
    /// What stands in `config.json`.
    pub profile: Profile,
    /// Whether a token is kept for it.
    pub token: bool,
}

/// The name of a profile becomes a folder.
///
/// # Errors
/// [`CliError`] for a name that would lead elsewhere.
pub(in crate::cli) fn check_name(name: &str) -> Result<(), CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(
        CliError::usage(format!("`{name}` is no name for a profile"))
            .with_help("use letters, digits, `-`, `_` and `.`, such as `--profile work`"),
    )
}

/// Writes what stands in `config.json` of a profile.
///
/// # Errors
/// [`CliError`] when the file cannot be read or written.
pub(in crate::cli) fn save(
    user_folder: &Path,
    name: &str,
    change: &ProfileChange,
) -> Result<PathBuf, CliError> {
    check_name(name)?;
    // Read strictly first: a file that means something else is not written over.
    read_profile(user_folder, name, false)?;
    let path = config_path(user_folder);
    let mut config = match fs::read_if_present(&path)? {
        Some(bytes) => serde_json::from_slice::<Json>(&bytes).map_err(|error| {
            CliError::usage(format!("`{}` is not a profile file", path.display()))
                .with_note(error.to_string())
        })?,
        None => json!({ "version": 1, "profiles": {} }),
    };
    let profile = object(object(object_of(&mut config), "profiles"), name);
    if let Some(target) = change.target {
        profile.insert("target".to_owned(), json!(target.as_str()));
    }
    let cloudflare = object(profile, "cloudflare");
    for (key, value) in [
        ("accountId", &change.account),
        ("accountName", &change.account_name),
        ("baseUrl", &change.base_url),
    ] {
        match value.as_deref() {
            None => {}
            Some("") => {
                cloudflare.remove(key);
            }
            Some(text) => {
                cloudflare.insert(key.to_owned(), json!(text));
            }
        }
    }
    let text = format!("{config:#}\n");
    fs::create_dir_all(user_folder)?;
    fs::write_atomic(&path, text.as_bytes())?;
    Ok(path)
}

/// Keeps a token.
///
/// # Errors
/// [`CliError`] when it cannot be written.
pub(in crate::cli) fn save_token(
    user_folder: &Path,
    name: &str,
    token: &str,
    account: &str,
) -> Result<PathBuf, CliError> {
    check_name(name)?;
    let path = credentials_path(user_folder, name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = json!({ "apiToken": token, "accountId": account }).to_string();
    let text = Zeroizing::new(text + "\n");
    fs::write_private(&path, text.as_bytes())?;
    Ok(path)
}

/// Removes what is kept of a profile's credentials. Answers whether there was any.
///
/// # Errors
/// [`CliError`] when it cannot be removed.
pub(in crate::cli) fn remove_credentials(user_folder: &Path, name: &str) -> Result<bool, CliError> {
    check_name(name)?;
    let path = credentials_path(user_folder, name);
    let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else {
        return Ok(false);
    };
    fs::remove_dir_all(folder)?;
    Ok(true)
}

/// Every profile of `config.json`, and every one with credentials.
///
/// # Errors
/// [`CliError`] when they cannot be read.
pub(in crate::cli) fn list(user_folder: &Path) -> Result<Vec<ListedProfile>, CliError> {
    let mut names: BTreeSet<String> = profile_names(user_folder)?.into_iter().collect();
    let credentials = user_folder.join("credentials");
    if credentials.is_dir() {
        for path in fs::list(&credentials)? {
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && check_name(name).is_ok()
            {
                names.insert(name.to_owned());
            }
        }
    }
    names
        .into_iter()
        .map(|name| {
            Ok(ListedProfile {
                profile: read_profile(user_folder, &name, false)?,
                token: has_token(user_folder, &name)?,
                name,
            })
        })
        .collect()
}

fn object_of(json: &mut Json) -> &mut JsonMap<String, Json> {
    if !json.is_object() {
        *json = json!({});
    }
    match json {
        Json::Object(map) => map,
        _ => unreachable!("it was made an object right above"),
    }
}

fn object<'a>(map: &'a mut JsonMap<String, Json>, key: &str) -> &'a mut JsonMap<String, Json> {
    object_of(map.entry(key).or_insert_with(|| json!({})))
}
