//! What a script may touch: files outside its project, processes, network hosts.
//!
//! Reading and writing within the project folder is free, unless the path leads out of it through a link. Everything else has to be
//! allowed by the user, never by the script.

use std::path::{Component, Path, PathBuf};

use rhai::EvalAltResult;

use crate::model::diagnostic::codes;

use super::fault;

/// One sort of permission.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allow {
    /// Nothing.
    #[default]
    None,
    /// Only these: hosts (`example.com`, `example.com:8080`), paths, or programs.
    Only(Vec<String>),
    /// Everything.
    All,
}

/// What the user allows the script to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Programs that may be started (`--allow-exec`).
    pub exec: Allow,
    /// Hosts that may be spoken to (`--allow-net`).
    pub net: Allow,
    /// Paths outside the project that may be read (`--allow-read`).
    pub read: Allow,
    /// Paths outside the project that may be written (`--allow-write`).
    pub write: Allow,
}

impl Permissions {
    /// Everything, for scripts that the user wrote.
    #[must_use]
    pub fn all() -> Self {
        Self {
            exec: Allow::All,
            net: Allow::All,
            read: Allow::All,
            write: Allow::All,
        }
    }
}

fn refuse(what: &str, flag: &str) -> Box<EvalAltResult> {
    fault::fail_with_help(
        codes::PERMISSION,
        format!("the script may not {what}"),
        format!("allow it with `{flag}` if you trust the script"),
    )
}

/// Whether the script may start `program`.
pub(super) fn check_exec(
    permissions: &Permissions,
    program: &str,
) -> Result<(), Box<EvalAltResult>> {
    let allowed = match &permissions.exec {
        Allow::All => true,
        Allow::None => false,
        // A name with a folder in it is compared whole: `./git` is not `git`.
        Allow::Only(names) => names.iter().any(|name| name == program),
    };
    if allowed {
        return Ok(());
    }
    Err(refuse(&format!("start `{program}`"), "--allow-exec"))
}

/// Whether the script may speak to the host of `url`.
pub(super) fn check_net(permissions: &Permissions, url: &str) -> Result<(), Box<EvalAltResult>> {
    let parsed = reqwest::Url::parse(url).map_err(|error| {
        fault::fail_with_help(
            codes::RUNTIME,
            format!("`{url}` is not a URL: {error}"),
            "write it as `https://host/path`",
        )
    })?;
    let host = parsed.host_str().unwrap_or_default().to_owned();
    let with_port = match parsed.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    };
    let allowed = match &permissions.net {
        Allow::All => true,
        Allow::None => false,
        Allow::Only(hosts) => hosts.iter().any(|allowed| {
            *allowed == host
                || *allowed == with_port
                || allowed
                    .strip_prefix("*.")
                    .is_some_and(|domain| host.ends_with(&format!(".{domain}")))
        }),
    };
    if allowed {
        return Ok(());
    }
    Err(refuse(
        &format!("speak to `{host}`"),
        &format!("--allow-net={host}"),
    ))
}

/// How a path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Resolves a path of the script and tells whether it may be used. Relative paths are relative to `project`.
pub(super) fn check_path(
    permissions: &Permissions,
    project: &Path,
    path: &str,
    access: Access,
) -> Result<PathBuf, Box<EvalAltResult>> {
    let joined = project.join(path);
    let real = resolve(&joined);
    let root = resolve(project);
    if real.starts_with(&root) {
        return Ok(joined);
    }
    let (allow, verb, flag) = match access {
        Access::Read => (&permissions.read, "read", "--allow-read"),
        Access::Write => (&permissions.write, "write", "--allow-write"),
    };
    let allowed = match allow {
        Allow::All => true,
        Allow::None => false,
        Allow::Only(paths) => paths
            .iter()
            .any(|allowed| real.starts_with(resolve(&project.join(allowed)))),
    };
    if allowed {
        return Ok(joined);
    }
    Err(refuse(
        &format!("{verb} `{path}`, which is outside the project folder"),
        &format!("{flag}={}", real.display()),
    ))
}

/// The real path: links resolved as far as the path exists, `..` taken out of the rest.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut existing = absolute.as_path();
    let mut rest = Vec::new();
    let mut real = loop {
        if let Ok(real) = existing.canonicalize() {
            break real;
        }
        let Some(component) = existing.components().next_back() else {
            break PathBuf::new();
        };
        rest.push(component);
        match existing.parent() {
            Some(parent) => existing = parent,
            None => break PathBuf::new(),
        }
    };
    for component in rest.into_iter().rev() {
        match component {
            Component::ParentDir => {
                real.pop();
            }
            Component::CurDir => {}
            other => real.push(other),
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(error: &EvalAltResult) -> String {
        let fault = fault::find(error).unwrap();
        format!(
            "{}; {}",
            fault.diagnostic().message,
            fault.diagnostic().help.join("; ")
        )
    }

    #[test]
    fn paths_in_the_project_are_free_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        crate::util::fs::create_dir_all(&project.join("sub")).unwrap();
        crate::util::fs::write_atomic(&folder.path().join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), project.join("link")).unwrap();
        let none = Permissions::default();
        for path in ["a", "sub/a", "sub/../a", "./a", "missing/deep/a"] {
            assert!(
                check_path(&none, &project, path, Access::Read).is_ok(),
                "{path}"
            );
        }
        for path in ["../secret", "link", "missing/../../secret", "/etc/passwd"] {
            let error = check_path(&none, &project, path, Access::Read).unwrap_err();
            assert!(message(&error).contains("--allow-read="), "{path}");
        }
        let some = Permissions {
            read: Allow::Only(vec!["..".to_owned()]),
            ..Permissions::default()
        };
        assert!(check_path(&some, &project, "../secret", Access::Read).is_ok());
        assert!(check_path(&some, &project, "../secret", Access::Write).is_err());
    }

    #[test]
    fn hosts_are_compared_whole() {
        let only = Permissions {
            net: Allow::Only(vec![
                "example.com".to_owned(),
                "*.test".to_owned(),
                "a:81".to_owned(),
            ]),
            ..Permissions::default()
        };
        for url in ["https://example.com/x", "http://a.test", "http://a:81/"] {
            assert!(check_net(&only, url).is_ok(), "{url}");
        }
        for url in [
            "https://evil-example.com",
            "http://test",
            "http://a:82/",
            "http://127.0.0.1",
        ] {
            assert!(check_net(&only, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_program_is_allowed_by_its_name() {
        let only = Permissions {
            exec: Allow::Only(vec!["git".to_owned()]),
            ..Permissions::default()
        };
        assert!(check_exec(&only, "git").is_ok());
        let error = check_exec(&only, "./git").unwrap_err();
        assert_eq!(
            message(&error),
            "the script may not start `./git`; allow it with `--allow-exec` if you trust the script"
        );
    }
}
