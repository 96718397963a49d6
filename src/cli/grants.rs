//! What the user allows a script: by flags, and by the project's `alch.toml` once its very content is trusted.
//!
//! `~/.alchemy/trusted.json` keeps the hash of every trusted file. A file that was changed is not trusted any more.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{args::RunFlags, environment::Environment, error::CliError},
    provider::{Allow, Permissions},
    util::fs,
};

/// The file in a project's folder.
const FILE: &str = "alch.toml";
/// The version of `trusted.json`.
const VERSION: u32 = 1;

/// `alch.toml` of a project.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProjectFile {
    permissions: Table,
}

/// `[permissions]` in it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    exec: Programs,
    net: Vec<String>,
    read: Vec<String>,
    write: Vec<String>,
}

/// `true`, `false` or a list of programs.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Programs(Vec<String>);

impl TryFrom<toml::Value> for Programs {
    type Error = &'static str;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "expected `true`, `false` or a list of programs";
        match value {
            toml::Value::Boolean(true) => Ok(Self(vec!["*".to_owned()])),
            toml::Value::Boolean(false) => Ok(Self(Vec::new())),
            toml::Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    toml::Value::String(name) => Ok(name),
                    _ => Err(EXPECTED),
                })
                .collect::<Result<_, _>>()
                .map(Self),
            _ => Err(EXPECTED),
        }
    }
}

/// A project's `alch.toml` as it is now.
pub(super) struct Grants {
    /// Where it is, links resolved.
    path: PathBuf,
    /// The hash of its content.
    hash: String,
    /// What it asks for.
    pub(super) permissions: Permissions,
}

/// `~/.alchemy/trusted.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trusted {
    version: u32,
    /// The hash of every trusted file.
    files: BTreeMap<PathBuf, String>,
}

/// What the script may do, and what to say with a refusal when `alch.toml` asks for more than is trusted.
pub(super) fn permissions(
    environment: &Environment,
    flags: &RunFlags,
    project: Option<&Path>,
    user_folder: &Path,
) -> Result<(Permissions, Option<String>), CliError> {
    for host in &flags.allow_net {
        check_host(host, "--allow-net")?;
    }
    let absolute = |paths: &[PathBuf]| {
        let items = paths.iter().map(|path| {
            let path = environment.folder.join(path);
            path.to_string_lossy().into_owned()
        });
        Allow::from_items(items.collect())
    };
    let given = Permissions {
        exec: Allow::from_items(flags.allow_exec.clone()),
        net: Allow::from_items(flags.allow_net.clone()),
        read: absolute(&flags.allow_read),
        write: absolute(&flags.allow_write),
    };
    let grants = match project {
        Some(project) => read(project)?,
        None => None,
    };
    let Some(grants) = grants.filter(|grants| grants.permissions != Permissions::default()) else {
        return Ok((given, None));
    };
    if flags.trust || trusted(user_folder)?.files.get(&grants.path) == Some(&grants.hash) {
        return Ok((given.or(grants.permissions), None));
    }
    let remark = format!(
        "`{}` grants permissions and is not trusted: read it, then `alch trust{}`",
        grants.path.display(),
        folder_argument(environment, &grants.path),
    );
    Ok((given, Some(remark)))
}

/// The argument that names the folder of a file, where it is needed.
fn folder_argument(environment: &Environment, file: &Path) -> String {
    match file.parent() {
        Some(folder) if environment.folder.canonicalize().ok().as_deref() != Some(folder) => {
            format!(" {}", folder.display())
        }
        _ => String::new(),
    }
}

/// Reads the `alch.toml` of a folder, where there is one.
pub(super) fn read(project: &Path) -> Result<Option<Grants>, CliError> {
    let path = project.join(FILE);
    let Some(bytes) = fs::read_if_present(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let file: ProjectFile = toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or_default();
        CliError::usage(format!("`{FILE}`: {}", error.message())).at(
            path.display().to_string(),
            text.clone(),
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(last.chars().count() + 1).unwrap_or(u32::MAX),
        )
    })?;
    let table = file.permissions;
    for host in &table.net {
        check_host(host, FILE)?;
    }
    let absolute = |paths: Vec<String>| {
        let items = paths.into_iter().map(|path| {
            let path = project.join(path);
            path.to_string_lossy().into_owned()
        });
        Allow::from_items(items.collect())
    };
    Ok(Some(Grants {
        path: path.canonicalize().unwrap_or(path),
        hash: blake3::hash(&bytes).to_hex().to_string(),
        permissions: Permissions {
            exec: Allow::from_items(table.exec.0),
            net: Allow::from_items(table.net),
            read: absolute(table.read),
            write: absolute(table.write),
        },
    }))
}

/// Refuses what would silently never fit: a URL where a host belongs.
fn check_host(host: &str, place: &str) -> Result<(), CliError> {
    if host.is_empty() || host.contains(['/', '@', '?', '#']) || host.contains(char::is_whitespace)
    {
        return Err(CliError::usage(format!("{place}: `{host}` is no host"))
            .with_help("write hosts as `example.com`, `*.example.com` or `localhost:8080`"));
    }
    Ok(())
}

/// Trusts a file as it is now.
pub(super) fn trust(user_folder: &Path, grants: &Grants) -> Result<(), CliError> {
    let mut trusted = trusted(user_folder)?;
    trusted
        .files
        .insert(grants.path.clone(), grants.hash.clone());
    store(user_folder, &trusted)
}

/// Trusts the file of a folder no more; `false` when it was not trusted.
pub(super) fn revoke(user_folder: &Path, project: &Path) -> Result<bool, CliError> {
    let mut trusted = trusted(user_folder)?;
    let folder = project
        .canonicalize()
        .unwrap_or_else(|_| project.to_owned());
    if trusted.files.remove(&folder.join(FILE)).is_none() {
        return Ok(false);
    }
    store(user_folder, &trusted)?;
    Ok(true)
}

fn location(user_folder: &Path) -> PathBuf {
    user_folder.join("trusted.json")
}

fn trusted(user_folder: &Path) -> Result<Trusted, CliError> {
    let path = location(user_folder);
    let Some(bytes) = fs::read_if_present(&path)? else {
        return Ok(Trusted::default());
    };
    let trusted: Trusted = crate::state::record::from_json(&bytes).map_err(|problem| {
        CliError::usage(format!("`{}` cannot be read: {problem}", path.display()))
            .with_help("remove it; every `alch.toml` then has to be trusted again")
    })?;
    if trusted.version > VERSION {
        return Err(CliError::usage(format!(
            "`{}` has version {}, this alch reads version {VERSION}",
            path.display(),
            trusted.version
        ))
        .with_help("use a newer alch"));
    }
    Ok(trusted)
}

fn store(user_folder: &Path, trusted: &Trusted) -> Result<(), CliError> {
    let file = Trusted {
        version: VERSION,
        files: trusted.files.clone(),
    };
    let json = serde_json::to_vec_pretty(&file)
        .map_err(|error| CliError::usage(format!("cannot be trusted: {error}")))?;
    fs::create_dir_all(user_folder)?;
    fs::write_private(&location(user_folder), &json)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flags_and_a_trusted_file_allow_adds_up() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().canonicalize().unwrap();
        let environment = Environment {
            folder: project.clone(),
            ..Environment::default()
        };
        let home = project.join("home");
        let file = |text: &str| fs::write_atomic(&project.join(FILE), text.as_bytes()).unwrap();
        let flags = RunFlags {
            allow_exec: vec!["ls".to_owned()],
            ..RunFlags::default()
        };
        let now = || permissions(&environment, &flags, Some(&project), &home);
        file("[permissions]\nexec = [\"git\"]\nread = [\"../shared\"]\n");
        let (given, remark) = now().unwrap();
        assert_eq!(given.exec, Allow::Only(vec!["ls".to_owned()]));
        assert_eq!(given.read, Allow::None);
        assert!(
            remark
                .unwrap()
                .ends_with("is not trusted: read it, then `alch trust`")
        );
        trust(&home, &read(&project).unwrap().unwrap()).unwrap();
        let (given, remark) = now().unwrap();
        assert_eq!(
            given.exec,
            Allow::Only(vec!["ls".to_owned(), "git".to_owned()])
        );
        let shared = project.join("../shared").display().to_string();
        assert_eq!(given.read, Allow::Only(vec![shared]));
        assert_eq!(remark, None);
        file("[permissions]\nexec = true\n");
        assert_eq!(now().unwrap().0.exec, Allow::Only(vec!["ls".to_owned()]));
        assert!(revoke(&home, &project).unwrap());
        assert!(!revoke(&home, &project).unwrap());
        for (text, message) in [
            (
                "[permissions]\nnett = []\n",
                "`alch.toml`: unknown field `nett`",
            ),
            (
                "[permissions]\nexec = 3\n",
                "`alch.toml`: expected `true`, `false` or a list",
            ),
            (
                "[permissions]\nnet = [\"https://a\"]\n",
                "alch.toml: `https://a` is no host",
            ),
        ] {
            file(text);
            let error = now().unwrap_err();
            let said = &error.diagnostics[0].message;
            assert!(said.starts_with(message), "{said}");
        }
    }
}
