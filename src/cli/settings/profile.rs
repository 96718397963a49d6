//! Profiles as they are read: `~/.alchemy/config.json`, which holds no secrets, and the credentials beside it. Which profile is
//! taken is decided by [`Settings`]; `profiles` writes them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{DEFAULT_PROFILE, Settings, Target};
use crate::{cli::error::CliError, util::fs};

/// `~/.alchemy/config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProfileFile {
    version: u32,
    profiles: BTreeMap<String, ProfileEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ProfileEntry {
    target: Option<String>,
    cloudflare: Option<CloudflareEntry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CloudflareEntry {
    account_id: Option<String>,
    account_name: Option<String>,
    base_url: Option<String>,
    metadata: Option<AccountMetadata>,
}

/// What stands in `config.json` of a profile.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Profile {
    /// Where resources go.
    pub target: Option<Target>,
    /// The id of the account.
    pub account: Option<String>,
    /// Its name, for people.
    pub account_name: Option<String>,
    /// Another server of the API.
    pub base_url: Option<String>,
}

/// Where profiles stand.
pub(super) fn config_path(user_folder: &Path) -> PathBuf {
    user_folder.join("config.json")
}

/// Where the token of a profile stands.
pub(super) fn credentials_path(user_folder: &Path, profile: &str) -> PathBuf {
    let folder = user_folder.join("credentials").join(profile);
    folder.join("cloudflare.json")
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct AccountMetadata {
    id: Option<String>,
}

/// `~/.alchemy/credentials/<profile>/cloudflare.json`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CredentialFile {
    api_token: Option<String>,
    account_id: Option<String>,
}

/// What the Cloudflare client signs with.
#[derive(Clone)]
pub struct CloudflareCredentials {
    /// The token.
    pub token: Zeroizing<String>,
    /// The account, where one is named.
    pub account: Option<String>,
    /// The zone of routes and records that name none.
    pub zone: Option<String>,
    /// Another address of the API, for tests and proxies.
    pub base_url: Option<String>,
}

impl Settings {
    /// The credentials of the Cloudflare account: `$CLOUDFLARE_API_TOKEN` over those of the profile.
    ///
    /// # Errors
    /// [`CliError`] when there are none, or the file is not readable.
    pub fn cloudflare(&self) -> Result<CloudflareCredentials, CliError> {
        let path = credentials_path(&self.user_folder, &self.profile);
        let stored = read_credentials(&path)?;
        let variable = |name: &str| self.environment.get(name).map(str::to_owned);
        let of_environment = variable("CLOUDFLARE_API_TOKEN");
        // A profile that the command line names counts more than the environment, any other less.
        let of_profile =
            stored.api_token.is_some() && (self.profile_flag || of_environment.is_none());
        let token = match of_profile {
            true => stored.api_token,
            false => of_environment,
        }
        .map(Zeroizing::new);
        let Some(token) = token else {
            return Err(CliError::new(
                crate::model::diagnostic::codes::AUTHENTICATION,
                format!("no Cloudflare credentials for profile `{}`", self.profile),
            )
            .with_help(format!(
                "`alch login{}` keeps a token, or set `CLOUDFLARE_API_TOKEN`",
                match self.profile.as_str() {
                    DEFAULT_PROFILE => String::new(),
                    other => format!(" --profile {other}"),
                }
            ))
            .with_help("or deploy to the embedded local cloud with `--target local`"));
        };
        let given_url =
            variable("CLOUDFLARE_BASE_URL").or_else(|| variable("CLOUDFLARE_API_BASE_URL"));
        let given_account = variable("CLOUDFLARE_ACCOUNT_ID");
        let own_account = stored.account_id.or_else(|| self.account.clone());
        // A token is sent to the server that it was given with.
        let own_url = self
            .base_url
            .clone()
            .filter(|_| of_profile || self.profile_flag);
        let (base_url, account) = match self.profile_flag {
            true => (own_url.or(given_url), own_account.or(given_account)),
            false => (given_url.or(own_url), given_account.or(own_account)),
        };
        Ok(CloudflareCredentials {
            token,
            account,
            base_url,
            zone: variable("CLOUDFLARE_ZONE_ID"),
        })
    }
}

fn read_credentials(path: &Path) -> Result<CredentialFile, CliError> {
    let Some(bytes) = fs::read_if_present(path)? else {
        return Ok(CredentialFile::default());
    };
    crate::state::record::from_json::<CredentialFile>(&bytes).map_err(|problem| {
        CliError::new(
            crate::model::diagnostic::codes::AUTHENTICATION,
            format!("`{}` is not a credentials file: {problem}", path.display()),
        )
        .with_help("`alch login` writes it anew")
    })
}

/// Whether a token is kept for a profile.
pub(super) fn has_token(user_folder: &Path, profile: &str) -> Result<bool, CliError> {
    let path = credentials_path(user_folder, profile);
    Ok(read_credentials(&path)?.api_token.is_some())
}

/// The profiles that `config.json` has.
pub(super) fn profile_names(user_folder: &Path) -> Result<Vec<String>, CliError> {
    Ok(read_config(user_folder)?.profiles.into_keys().collect())
}

/// What `config.json` says of a profile. One that was `asked_for` must be there.
///
/// # Errors
/// [`CliError`] when it is not, or the file does not make sense.
pub(in crate::cli) fn read_profile(
    user_folder: &Path,
    profile: &str,
    asked_for: bool,
) -> Result<Profile, CliError> {
    let entry = profile_entry(user_folder, profile, asked_for)?;
    let target = entry
        .target
        .as_deref()
        .map(|name| Target::parse(name, &format!("profile `{profile}`")))
        .transpose()?;
    let cloudflare = entry.cloudflare.unwrap_or_default();
    Ok(Profile {
        target,
        account: cloudflare
            .account_id
            .or(cloudflare.metadata.unwrap_or_default().id),
        account_name: cloudflare.account_name,
        base_url: cloudflare.base_url,
    })
}

fn read_config(user_folder: &Path) -> Result<ProfileFile, CliError> {
    let path = config_path(user_folder);
    let file = match fs::read_if_present(&path)? {
        Some(bytes) => {
            crate::state::record::from_json::<ProfileFile>(&bytes).map_err(|problem| {
                CliError::usage(format!(
                    "`{}` is not a profile file: {problem}",
                    path.display()
                ))
            })?
        }
        None => ProfileFile::default(),
    };
    if file.version > 1 {
        return Err(CliError::usage(format!(
            "`{}` has version {}, this alch reads version 1",
            path.display(),
            file.version
        ))
        .with_help("use a newer alch"));
    }
    Ok(file)
}

fn profile_entry(
    user_folder: &Path,
    profile: &str,
    asked_for: bool,
) -> Result<ProfileEntry, CliError> {
    let path = config_path(user_folder);
    let file = read_config(user_folder)?;
    if let Some(entry) = file.profiles.get(profile) {
        return Ok(entry.clone());
    }
    let has_credentials = user_folder.join("credentials").join(profile).is_dir();
    if !asked_for || has_credentials {
        return Ok(ProfileEntry::default());
    }
    let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
    let error = CliError::usage(format!("no profile `{profile}`"));
    Err(match known.as_slice() {
        [] => error.with_help(format!(
            "`alch login --profile {profile}` makes it; profiles stand in `{}`",
            path.display()
        )),
        known => error.with_help(format!("profiles are {}", known.join(", "))),
    })
}
