//! Settings: flags over environment over files, resolved once and before anything is touched.
//!
//! What the script may still say (its `stage`, `target`, `password` options) is weighed in here too, by
//! [`Settings::stage`], [`Settings::target`] and [`Settings::key`], so that the order of precedence stands in one file.
//! Profile files are read in `profile`, environment files and variables in `variables`.

pub(in crate::cli) mod profile;
pub(in crate::cli) mod profiles;
mod variables;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

pub use self::profile::CloudflareCredentials;
pub(in crate::cli) use self::variables::lock_ttl;
use self::{
    profile::{Profile, read_profile},
    variables::{delete_options, number, with_env_files},
};
use crate::{
    cli::{args::RunFlags, environment::Environment, error::CliError, grants},
    engine::DeleteOptions,
    model::StageName,
    provider::Permissions,
    secret::KeyMaterial,
};

/// The stage when nothing names one.
const DEFAULT_STAGE: &str = "dev";

/// The profile when nothing names one.
pub(in crate::cli) const DEFAULT_PROFILE: &str = "default";

/// Where resources of the Cloudflare provider go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// The embedded local cloud.
    Local,
    /// A Cloudflare account.
    Cloudflare,
}

impl Target {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloudflare => "cloudflare",
        }
    }

    /// Reads its name.
    ///
    /// # Errors
    /// [`CliError`] that lists the targets.
    pub fn parse(name: &str, place: &str) -> Result<Self, CliError> {
        match name {
            "local" => Ok(Self::Local),
            "cloudflare" => Ok(Self::Cloudflare),
            other => Err(CliError::usage(format!("{place}: no target `{other}`"))
                .with_help("targets are `local` and `cloudflare`")),
        }
    }
}

/// Everything that an invocation goes by.
#[derive(Clone)]
pub struct Settings {
    /// Variables as scripts see them: those of the process over those of `--env-file`.
    pub environment: Environment,
    /// `--stage`.
    pub stage_flag: Option<StageName>,
    /// `--target`.
    pub target_flag: Option<Target>,
    /// The profile's target.
    profile_target: Option<Target>,
    /// Name of the profile.
    pub profile: String,
    /// Whether `--profile` named it.
    profile_flag: bool,
    account: Option<String>,
    /// The profile's server of the API, where it is not Cloudflare's own.
    base_url: Option<String>,
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// How long a lock of this run lasts without a heartbeat.
    pub lock_ttl: Duration,
    /// How deletes go about it.
    pub delete: DeleteOptions,
    /// What the script may do.
    pub permissions: Permissions,
    /// What to say with a refusal when the project's `alch.toml` grants something and is not trusted.
    pub untrusted: Option<String>,
    /// How long every call of the local cloud takes, for benchmarks.
    pub local_latency: Option<Duration>,
    /// Folder of profiles and keys.
    pub user_folder: PathBuf,
}

impl Settings {
    /// Resolves everything. `project` is the folder of the script, where there is one.
    ///
    /// # Errors
    /// [`CliError`] that names the flag, variable or file and the place in it.
    pub fn resolve(
        environment: &Environment,
        flags: &RunFlags,
        project: Option<&Path>,
    ) -> Result<Self, CliError> {
        let environment = with_env_files(environment, &flags.env_file)?;
        let user_folder = environment.user_folder();
        let profile = flags
            .profile
            .clone()
            .or_else(|| environment.get("ALCHEMY_PROFILE").map(str::to_owned))
            .unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
        let asked_for = flags.profile.is_some() || environment.get("ALCHEMY_PROFILE").is_some();
        let Profile {
            target: profile_target,
            account,
            base_url,
            ..
        } = read_profile(&user_folder, &profile, asked_for)?;
        let stage_flag = flags
            .stage
            .as_deref()
            .map(|name| StageName::new(name).map_err(CliError::from))
            .transpose()?;
        let (permissions, untrusted) =
            grants::permissions(&environment, flags, project, &user_folder)?;
        let lock_wait = match flags.lock_timeout {
            Some(millis) => millis,
            None => number(&environment, "ALCHEMY_LOCK_TIMEOUT")?.unwrap_or(0),
        };
        let delete = delete_options(&environment)?;
        let local_latency = number(&environment, "ALCH_LOCAL_LATENCY_MS")?
            .filter(|millis| *millis > 0)
            .map(Duration::from_millis);
        Ok(Self {
            stage_flag,
            target_flag: flags.target,
            profile_target,
            profile,
            profile_flag: flags.profile.is_some(),
            account,
            base_url,
            lock_wait: Duration::from_millis(lock_wait),
            lock_ttl: lock_ttl(&environment)?,
            delete,
            permissions,
            untrusted,
            local_latency,
            user_folder,
            environment,
        })
    }

    /// The stage: `--stage` over the script's option over `$ALCHEMY_STAGE` over `$STAGE` over `dev`.
    ///
    /// # Errors
    /// [`CliError`] when the variable's value is no stage name.
    pub fn stage(&self, script: Option<&StageName>) -> Result<StageName, CliError> {
        if let Some(stage) = self.stage_flag.as_ref().or(script) {
            return Ok(stage.clone());
        }
        for name in ["ALCHEMY_STAGE", "STAGE"] {
            if let Some(value) = self.environment.get(name) {
                return StageName::new(value)
                    .map_err(|error| CliError::from(error).with_note(format!("from `${name}`")));
            }
        }
        Ok(StageName::new(DEFAULT_STAGE)?)
    }

    /// The same with the script's profile; `--profile` stands above it.
    ///
    /// # Errors
    /// [`CliError`] when there is no such profile.
    pub fn with_profile(&self, script: &str) -> Result<Self, CliError> {
        let mut out = self.clone();
        if !self.profile_flag {
            script.clone_into(&mut out.profile);
            let profile = read_profile(&self.user_folder, script, true)?;
            out.profile_target = profile.target;
            out.account = profile.account;
            out.base_url = profile.base_url;
        }
        Ok(out)
    }

    /// The same for test scopes: no flag chooses their stage, and they stay local unless `--target` says otherwise.
    #[must_use]
    pub fn for_tests(&self) -> Self {
        Self {
            stage_flag: None,
            profile_target: None,
            ..self.clone()
        }
    }

    /// The target: `--target` over the script's option over the profile's over `local`.
    ///
    /// # Errors
    /// [`CliError`] when the script names none that there is.
    pub fn target(&self, script: Option<&str>) -> Result<Target, CliError> {
        if let Some(target) = self.target_flag {
            return Ok(target);
        }
        match script {
            Some(name) => Target::parse(name, "option `target` of `alchemy(..)`"),
            None => Ok(self.profile_target.unwrap_or(Target::Local)),
        }
    }

    /// What secrets are encrypted with: the script's password over `$ALCHEMY_PASSWORD` over the key file. An empty password
    /// is none.
    #[must_use]
    pub fn key(&self, script: Option<&str>) -> KeyMaterial {
        match script
            .filter(|password| !password.is_empty())
            .or_else(|| self.environment.get("ALCHEMY_PASSWORD"))
        {
            Some(password) => KeyMaterial::Password(Zeroizing::new(password.to_owned())),
            None => self.key_file(),
        }
    }

    /// The key file, for stages without a password.
    #[must_use]
    pub fn key_file(&self) -> KeyMaterial {
        KeyMaterial::File(self.user_folder.join("state.key"))
    }
}

#[cfg(test)]
mod tests;
