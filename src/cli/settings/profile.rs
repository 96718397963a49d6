//! Profiles: `~/.alchemy/config.json`, which holds no secrets, and the credentials beside it. Which profile is taken is
//! decided by [`Settings`].

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Settings, Target};
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
    metadata: Option<AccountMetadata>,
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
        let path = self
            .user_folder
            .join("credentials")
            .join(&self.profile)
            .join("cloudflare.json");
        let stored = match fs::read_if_present(&path)? {
            Some(bytes) => {
                crate::state::record::from_json::<CredentialFile>(&bytes).map_err(|problem| {
                    CliError::new(
                        crate::model::diagnostic::codes::AUTHENTICATION,
                        format!("`{}` is not a credentials file: {problem}", path.display()),
                    )
                })?
            }
            None => CredentialFile::default(),
        };
        let token = self
            .environment
            .get("CLOUDFLARE_API_TOKEN")
            .map(|token| Zeroizing::new(token.to_owned()))
            .or(stored.api_token.map(Zeroizing::new));
        let Some(token) = token else {
            return Err(CliError::new(
                crate::model::diagnostic::codes::AUTHENTICATION,
                format!("no Cloudflare credentials for profile `{}`", self.profile),
            )
            .with_help(format!(
                "set `CLOUDFLARE_API_TOKEN`, or write {{\"apiToken\": \"..\"}} to `{}`",
                path.display()
            ))
            .with_help("or deploy to the embedded local cloud with `--target local`"));
        };
        let base_url = self
            .environment
            .get("CLOUDFLARE_BASE_URL")
            .or_else(|| self.environment.get("CLOUDFLARE_API_BASE_URL"))
            .map(str::to_owned);
        Ok(CloudflareCredentials {
            token,
            account: self
                .environment
                .get("CLOUDFLARE_ACCOUNT_ID")
                .map(str::to_owned)
                .or(stored.account_id)
                .or_else(|| self.account.clone()),
            zone: self
                .environment
                .get("CLOUDFLARE_ZONE_ID")
                .map(str::to_owned),
            base_url,
        })
    }
}

/// The target and the account of a profile.
pub(super) fn read_profile(
    user_folder: &Path,
    profile: &str,
    asked_for: bool,
) -> Result<(Option<Target>, Option<String>), CliError> {
    let entry = profile_entry(user_folder, profile, asked_for)?;
    let target = entry
        .target
        .as_deref()
        .map(|name| Target::parse(name, &format!("profile `{profile}`")))
        .transpose()?;
    let cloudflare = entry.cloudflare.unwrap_or_default();
    let account = cloudflare
        .account_id
        .or(cloudflare.metadata.unwrap_or_default().id);
    Ok((target, account))
}

fn profile_entry(
    user_folder: &Path,
    profile: &str,
    asked_for: bool,
) -> Result<ProfileEntry, CliError> {
    let path = user_folder.join("config.json");
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
        [] => error.with_help(format!("profiles stand in `{}`", path.display())),
        known => error.with_help(format!("profiles are {}", known.join(", "))),
    })
}
