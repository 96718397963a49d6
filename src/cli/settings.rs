//! Settings: flags over environment over files, resolved once and before anything is touched.
//!
//! What the script may still say (its `stage`, `target`, `password` options) is weighed in here too, by
//! [`Settings::stage`], [`Settings::target`] and [`Settings::key`], so that the order of precedence stands in one file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    cli::{args::RunFlags, env_file, environment::Environment, error::CliError, grants},
    engine::{DeleteOptions, DeleteStrategy},
    model::StageName,
    provider::Permissions,
    secret::KeyMaterial,
    util::fs,
};

/// The stage when nothing names one.
const DEFAULT_STAGE: &str = "dev";

/// The profile when nothing names one.
const DEFAULT_PROFILE: &str = "default";

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
    /// Another address of the API, for tests and proxies.
    pub base_url: Option<String>,
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
    /// How long to wait for the lock.
    pub lock_wait: Duration,
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
        let (profile_target, account) = read_profile(&user_folder, &profile, asked_for)?;
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
            lock_wait: Duration::from_millis(lock_wait),
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
            (out.profile_target, out.account) = read_profile(&self.user_folder, script, true)?;
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
            None => KeyMaterial::File(self.user_folder.join("state.key")),
        }
    }

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
            base_url,
        })
    }
}

fn with_env_files(environment: &Environment, files: &[PathBuf]) -> Result<Environment, CliError> {
    if files.is_empty() {
        return Ok(environment.clone());
    }
    let mut variables = BTreeMap::new();
    for file in files {
        let path = environment.folder.join(file);
        let text = fs::read_to_string(&path).map_err(|error| {
            CliError::usage(format!("cannot read the env file `{}`", file.display()))
                .with_note(error.source.to_string())
                .with_help("`--env-file` names a file of `KEY=VALUE` lines")
        })?;
        let read = env_file::parse(&text).map_err(|error| {
            CliError::usage(format!(
                "`{}` is not an env file: {}",
                file.display(),
                error.problem
            ))
            .at(
                file.display().to_string(),
                redacted(&text),
                error.line,
                error.column,
            )
        })?;
        variables.extend(read);
    }
    for (name, value) in environment.variables.iter() {
        variables.insert(name.clone(), value.clone());
    }
    Ok(Environment {
        variables: Arc::new(variables),
        folder: environment.folder.clone(),
    })
}

/// The text of an environment file for a code frame: what stands after `=` is likely secret.
fn redacted(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once('=') {
            Some((name, _)) => format!("{name}=..\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

/// The target and the account of a profile.
fn read_profile(
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

fn number(environment: &Environment, name: &str) -> Result<Option<u64>, CliError> {
    environment
        .get(name)
        .map(|text| {
            text.trim().parse().map_err(|_| {
                CliError::usage(format!("`${name}` is `{text}`, expected a whole number"))
            })
        })
        .transpose()
}

fn flag(environment: &Environment, name: &str) -> Result<Option<bool>, CliError> {
    environment
        .get(name)
        .map(|text| match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(CliError::usage(format!(
                "`${name}` is `{text}`, expected `true` or `false`"
            ))),
        })
        .transpose()
}

/// The `ALCHEMY_DESTROY_*` variables.
fn delete_options(environment: &Environment) -> Result<DeleteOptions, CliError> {
    let mut out = DeleteOptions::default();
    let batch = number(environment, "ALCHEMY_DESTROY_BATCH_SIZE")?;
    if batch == Some(0) {
        return Err(CliError::usage(
            "`$ALCHEMY_DESTROY_BATCH_SIZE` is 0, expected at least 1",
        ));
    }
    let batch = batch.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if let Some(name) = environment.get("ALCHEMY_DESTROY_STRATEGY") {
        out.strategy = match name {
            "sequential" => DeleteStrategy::Sequential,
            "parallel" => DeleteStrategy::Parallel,
            "batched" => DeleteStrategy::Batched(batch.unwrap_or(10)),
            other => {
                return Err(
                    CliError::usage(format!("`$ALCHEMY_DESTROY_STRATEGY` is `{other}`"))
                        .with_help("strategies are `sequential`, `parallel` and `batched`"),
                );
            }
        };
    } else if let Some(size) = batch {
        out.strategy = DeleteStrategy::Batched(size);
    }
    if let Some(retries) = number(environment, "ALCHEMY_DESTROY_MAX_RETRIES")? {
        out.max_retries = u32::try_from(retries).unwrap_or(u32::MAX);
    }
    if let Some(delay) = number(environment, "ALCHEMY_DESTROY_RETRY_DELAY")? {
        out.retry_delay = Duration::from_millis(delay);
    }
    if let Some(timeout) = number(environment, "ALCHEMY_DESTROY_TIMEOUT")? {
        out.timeout = Some(Duration::from_millis(timeout));
    }
    if let Some(dry_run) = flag(environment, "ALCHEMY_DESTROY_DRY_RUN")? {
        out.dry_run = dry_run;
    }
    if let Some(go_on) = flag(environment, "ALCHEMY_DESTROY_CONTINUE_ON_ERROR")? {
        out.continue_on_error = go_on;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path, variables: &[(&str, &str)]) -> Environment {
        let mut map: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        map.insert("HOME".to_owned(), folder.display().to_string());
        Environment {
            variables: Arc::new(map),
            folder: folder.to_owned(),
        }
    }

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write_atomic(&path, text.as_bytes()).unwrap();
    }

    fn refused(result: Result<Settings, CliError>) -> String {
        match result {
            Ok(_) => panic!("accepted"),
            Err(error) => error.diagnostics[0].message.clone(),
        }
    }

    #[test]
    fn the_stage_comes_from_the_nearest_source() {
        let folder = tempfile::tempdir().unwrap();
        let script = StageName::new("script").unwrap();
        let both = [("ALCHEMY_STAGE", "a"), ("STAGE", "b")];
        let stage = |flag: Option<&str>, script: Option<&StageName>, variables: &[(&str, &str)]| {
            let flags = RunFlags {
                stage: flag.map(str::to_owned),
                ..RunFlags::default()
            };
            Settings::resolve(&environment(folder.path(), variables), &flags, None)
                .unwrap()
                .stage(script)
                .unwrap()
                .to_string()
        };
        assert_eq!(stage(Some("flag"), Some(&script), &both), "flag");
        assert_eq!(stage(None, Some(&script), &both), "script");
        assert_eq!(stage(None, None, &both), "a");
        assert_eq!(stage(None, None, &both[1..]), "b");
        assert_eq!(stage(None, None, &[("STAGE", "")]), "dev");
    }

    #[test]
    fn the_target_comes_from_the_nearest_source() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            ".alchemy/config.json",
            r#"{"version":1,"profiles":{"work":{"target":"cloudflare","cloudflare":{"metadata":{"id":"acc"}}}}}"#,
        );
        write(
            folder.path(),
            ".alchemy/credentials/work/cloudflare.json",
            r#"{"type":"api-token","apiToken":"t"}"#,
        );
        let mut flags = RunFlags::default();
        let resolve = |flags: &RunFlags, variables: &[(&str, &str)]| {
            Settings::resolve(&environment(folder.path(), variables), flags, None)
        };
        assert_eq!(
            resolve(&flags, &[]).unwrap().target(None).unwrap(),
            Target::Local
        );
        let work = resolve(&flags, &[("ALCHEMY_PROFILE", "work")]).unwrap();
        assert_eq!(work.target(None).unwrap(), Target::Cloudflare);
        assert_eq!(work.target(Some("local")).unwrap(), Target::Local);
        assert!(work.target(Some("mars")).is_err());
        let credentials = work.cloudflare().unwrap();
        assert_eq!(credentials.token.as_str(), "t");
        assert_eq!(credentials.account.as_deref(), Some("acc"));
        flags.target = Some(Target::Cloudflare);
        let flagged = resolve(&flags, &[]).unwrap();
        assert_eq!(flagged.target(Some("local")).unwrap(), Target::Cloudflare);
        assert!(flagged.cloudflare().is_err());
        flags.profile = Some("nobody".to_owned());
        assert_eq!(refused(resolve(&flags, &[])), "no profile `nobody`");
    }

    #[test]
    fn the_process_wins_over_env_files_and_later_files_win() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.env", "A=1\nB=1\nC=1\n");
        write(folder.path(), "b.env", "B=2\n");
        let flags = RunFlags {
            env_file: vec!["a.env".into(), "b.env".into()],
            ..RunFlags::default()
        };
        let settings =
            Settings::resolve(&environment(folder.path(), &[("C", "3")]), &flags, None).unwrap();
        let value = |name| {
            settings
                .environment
                .get(name)
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!([value("A"), value("B"), value("C")], ["1", "2", "3"]);
        let missing = RunFlags {
            env_file: vec!["none.env".into()],
            ..RunFlags::default()
        };
        let error = Settings::resolve(&environment(folder.path(), &[]), &missing, None);
        assert_eq!(refused(error), "cannot read the env file `none.env`");
    }

    #[test]
    fn variables_set_how_deletes_go_about_it() {
        let folder = tempfile::tempdir().unwrap();
        let resolve = |variables: &[(&str, &str)]| {
            Settings::resolve(
                &environment(folder.path(), variables),
                &RunFlags::default(),
                None,
            )
        };
        let settings = resolve(&[
            ("ALCHEMY_DESTROY_STRATEGY", "batched"),
            ("ALCHEMY_DESTROY_BATCH_SIZE", "3"),
            ("ALCHEMY_DESTROY_MAX_RETRIES", "2"),
            ("ALCHEMY_DESTROY_RETRY_DELAY", "250"),
            ("ALCHEMY_DESTROY_TIMEOUT", "900"),
            ("ALCHEMY_DESTROY_DRY_RUN", "true"),
            ("ALCHEMY_DESTROY_CONTINUE_ON_ERROR", "0"),
            ("ALCHEMY_LOCK_TIMEOUT", "1500"),
        ])
        .unwrap();
        assert_eq!(
            settings.delete,
            DeleteOptions {
                strategy: DeleteStrategy::Batched(3),
                max_retries: 2,
                retry_delay: Duration::from_millis(250),
                timeout: Some(Duration::from_millis(900)),
                dry_run: true,
                continue_on_error: false,
            }
        );
        assert_eq!(settings.lock_wait, Duration::from_millis(1_500));
        assert_eq!(
            refused(resolve(&[("ALCHEMY_LOCK_TIMEOUT", "soon")])),
            "`$ALCHEMY_LOCK_TIMEOUT` is `soon`, expected a whole number"
        );
    }

    #[test]
    fn an_empty_password_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |variables: &[(&str, &str)]| {
            Settings::resolve(
                &environment(folder.path(), variables),
                &RunFlags::default(),
                None,
            )
            .unwrap()
        };
        assert!(matches!(settings(&[]).key(Some("")), KeyMaterial::File(_)));
        assert!(matches!(
            settings(&[("ALCHEMY_PASSWORD", "p")]).key(None),
            KeyMaterial::Password(_)
        ));
        assert!(matches!(
            settings(&[]).key(Some("p")),
            KeyMaterial::Password(_)
        ));
    }
}
