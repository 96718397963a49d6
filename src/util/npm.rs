//! Packages of the npm registry that are pinned to the last bit: found where they are installed, or obtained once.
//!
//! Looked for in `node_modules` of the project and of the folders above it, then in the user's cache folder. When a package
//! is nowhere, [`Package::obtain`] gets it once into the cache through the user's own npm client, which knows the user's
//! registry, proxy and credentials. What arrives is checked against its hash before anything of it is unpacked.
//!
//! Invariant: a folder of the cache appears complete or not at all.

use std::{
    io::Read as _,
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha512};
use tokio::process::Command;

use crate::util::fs::{self, FsError};

/// How often npm tries again, and after how many milliseconds: where there is no network, the user is to hear of it in
/// seconds. The user's own setting in the environment comes before it.
const RETRIES: [(&str, &str); 3] = [
    ("npm_config_fetch_retries", "2"),
    ("npm_config_fetch_retry_mintimeout", "500"),
    ("npm_config_fetch_retry_maxtimeout", "2000"),
];
/// After how long the user hears that npm is still at it, again and again.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A package that is pinned to its last bit.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name in the registry.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-512 of the archive in base64, as package managers write it.
    pub integrity: &'static str,
    /// The size of the archive, for people.
    pub size: &'static str,
    /// What is needed of it: a file, or a folder with all below it.
    pub content: &'static str,
    /// What it is needed for, as in "running Workers needs ..".
    pub purpose: &'static str,
}

/// Where packages are looked for, and where those that are obtained are put.
#[derive(Debug, Clone)]
pub struct Shelf {
    /// The project, for its `node_modules` and its npm configuration.
    pub project: PathBuf,
    /// The folder of what was obtained before.
    pub cache: PathBuf,
}

impl Package {
    /// Its folder in the cache.
    fn cached(&self, cache: &Path) -> PathBuf {
        let plain = self.name.trim_start_matches('@').replace('/', "-");
        cache.join(format!("{plain}-{}", self.version))
    }

    /// What is needed of it, when it is installed for the project in the very version.
    fn installed(&self, project: &Path) -> Option<PathBuf> {
        project.ancestors().find_map(|folder| {
            let package = folder.join("node_modules").join(self.name);
            let manifest = fs::read(&package.join("package.json")).ok()?;
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
            let content = package.join(self.content);
            (manifest["version"] == self.version && content.exists()).then_some(content)
        })
    }

    /// What is needed of it, when it was obtained before.
    #[must_use]
    pub fn kept(&self, cache: &Path) -> Option<PathBuf> {
        let content = self.cached(cache).join(self.content);
        content.exists().then_some(content)
    }

    /// What is needed of it, when it is installed or was obtained before.
    #[must_use]
    pub fn found(&self, shelf: &Shelf) -> Option<PathBuf> {
        self.installed(&shelf.project)
            .or_else(|| self.kept(&shelf.cache))
    }

    /// Lets npm put what is needed of it into the cache. `progress` gets a line, as this takes time.
    ///
    /// # Errors
    /// [`PackageError`] when it cannot be obtained.
    pub async fn obtain(
        &self,
        shelf: &Shelf,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<PathBuf, PackageError> {
        let label = format!("{}@{}", self.name, self.version);
        progress(format!(
            "obtaining {label} ({}, once) with npm into {}",
            self.size,
            shelf.cache.display()
        ));
        fs::create_dir_all(&shelf.cache)?;
        let scratch = tempfile::Builder::new()
            .prefix(".obtaining-")
            .tempdir_in(&shelf.cache)
            .map_err(|source| FsError::new("make a folder in", &shelf.cache, source))?;
        patiently(
            download(self, &label, &shelf.project, scratch.path()),
            &label,
            progress,
        )
        .await?;
        let (package, cache) = (*self, shelf.cache.clone());
        tokio::task::spawn_blocking(move || install(&package, &label, scratch.path(), &cache))
            .await
            .map_err(|error| PackageError::Archive {
                package: self.name.to_owned(),
                reason: error.to_string(),
            })?
    }
}

/// Why a package cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A variable names something that is not there.
    #[error("`{variable}` names `{}`, which is not there", path.display())]
    Named {
        /// The variable.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// There is no binary for this machine.
    #[error("there is no {what} for {system} on {processor}")]
    Machine {
        /// What is not there.
        what: &'static str,
        /// The operating system.
        system: &'static str,
        /// The processor.
        processor: &'static str,
    },
    /// The user has no npm.
    #[error("{purpose} needs the package `{package}`, and there is no `npm` to obtain it with")]
    NoNpm {
        /// What it is needed for.
        purpose: &'static str,
        /// Name and version.
        package: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// npm could not obtain a package.
    #[error("npm could not obtain `{package}`:\n{message}")]
    Npm {
        /// Name and version.
        package: String,
        /// The end of what npm wrote.
        message: String,
    },
    /// What came is not what was published.
    #[error(
        "the archive of `{package}` is not the published one (SHA-512 is {found}, not {expected}); nothing of it was used"
    )]
    Integrity {
        /// Name and version.
        package: String,
        /// The hash of what came.
        found: String,
        /// The hash of what was published.
        expected: &'static str,
    },
    /// The archive cannot be unpacked.
    #[error("the archive of `{package}` cannot be unpacked: {reason}")]
    Archive {
        /// Name and version.
        package: String,
        /// Why.
        reason: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FsError),
}

/// The path that a variable names.
///
/// # Errors
/// [`PackageError::Named`] when it is not there.
pub fn named(variable: &'static str, path: &Path) -> Result<PathBuf, PackageError> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    Err(PackageError::Named {
        variable,
        path: path.to_owned(),
    })
}

/// Waits for npm, and says now and then that this is what is waited for.
async fn patiently<T>(
    work: impl Future<Output = T>,
    label: &str,
    progress: &(dyn Fn(String) + Send + Sync),
) -> T {
    tokio::pin!(work);
    let mut seconds = 0;
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(SIGN_OF_LIFE) => {
                seconds += SIGN_OF_LIFE.as_secs();
                progress(format!("npm is still obtaining {label} ({seconds} s)"));
            }
        }
    }
}

/// Lets npm put the archive of a package into `folder`.
async fn download(
    package: &Package,
    label: &str,
    project: &Path,
    folder: &Path,
) -> Result<(), PackageError> {
    // In the project's folder, so that its .npmrc counts as in every other use of npm there.
    let output = Command::new("npm")
        .args([
            "pack",
            label,
            "--json",
            "--ignore-scripts",
            "--pack-destination",
        ])
        .arg(folder)
        .current_dir(project)
        .envs(RETRIES.iter().copied().filter(|(name, _)| {
            // npm takes them in any case.
            std::env::vars_os().all(|(given, _)| !given.eq_ignore_ascii_case(name))
        }))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| PackageError::NoNpm {
            purpose: package.purpose,
            package: label.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("npm error") && !line.contains("debug-0.log"))
        .take(4)
        .collect();
    Err(PackageError::Npm {
        package: label.to_owned(),
        message: if lines.is_empty() {
            output.status.to_string()
        } else {
            lines.join("\n")
        },
    })
}

/// Checks the one archive in `scratch` and moves what is needed of it to its place in the cache.
fn install(
    package: &Package,
    label: &str,
    scratch: &Path,
    cache: &Path,
) -> Result<PathBuf, PackageError> {
    let broken = |reason: String| PackageError::Archive {
        package: label.to_owned(),
        reason,
    };
    let archive = fs::list(scratch)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(|| broken("npm wrote none".to_owned()))?;
    let bytes = fs::read(&archive)?;
    let found = STANDARD.encode(Sha512::digest(&bytes));
    if found != package.integrity {
        return Err(PackageError::Integrity {
            package: label.to_owned(),
            found,
            expected: package.integrity,
        });
    }
    let unpacked = scratch.join("unpacked");
    unpack(&bytes, Path::new(package.content), &unpacked).map_err(broken)?;
    let target = package.cached(cache);
    let content = target.join(package.content);
    match fs::rename(&unpacked, &target) {
        // Another process was faster: what it made is the same to the bit.
        Err(_) if content.exists() => {}
        moved => moved?,
    }
    if content.exists() {
        return Ok(content);
    }
    Err(broken(format!("it has no `{}`", package.content)))
}

/// Unpacks the regular files at or below `wanted` into `folder`. All other entries, links above all, are passed over.
fn unpack(archive: &[u8], wanted: &Path, folder: &Path) -> Result<(), String> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(|error| error.to_string())?;
        // All is below one folder, `package` as a rule.
        let path: PathBuf = path.components().skip(1).collect();
        let plain = path
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !plain {
            return Err(format!("`{}` leads out of it", path.display()));
        }
        let source_map = path.extension().is_some_and(|extension| extension == "map");
        if !path.starts_with(wanted) || source_map {
            continue;
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        let target = folder.join(&path);
        let parent = target.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| {
                let mode = if executable { 0o755 } else { 0o644 };
                fs::write_atomic_with_mode(&target, &bytes, mode)
            })
            .map_err(|error| format!("{error}: {}", error.source))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Written by hand: the builder itself refuses paths that lead out.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    const PACKAGE: Package = Package {
        name: "miniflare",
        version: "1.2.3",
        integrity: "hash",
        size: "1 MB",
        content: "dist/src/workers",
        purpose: "testing",
    };

    #[test]
    fn only_what_is_needed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            ("package/bin/workerd", "binary"),
            ("package/bin/workerd.map", "map"),
            ("package/README.md", "text"),
        ]);
        unpack(&bytes, Path::new("bin"), folder.path()).unwrap();
        assert_eq!(
            fs::read(&folder.path().join("bin/workerd")).unwrap(),
            b"binary"
        );
        assert_eq!(fs::list(folder.path()).unwrap().len(), 1);
        assert_eq!(fs::list(&folder.path().join("bin")).unwrap().len(), 1);
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "package/../../out",
            "package//../out",
            "package/bin/../../out",
        ] {
            let error = unpack(
                &archive(&[(path, "x")]),
                Path::new(""),
                &folder.path().join("in"),
            )
            .unwrap_err();
            assert!(error.contains("leads out"), "{path}: {error}");
        }
        assert!(!folder.path().join("out").exists());
    }

    #[test]
    fn an_archive_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write_atomic(
            &folder.path().join("a.tgz"),
            &archive(&[("package/dist/src/workers/a.js", "evil")]),
        )
        .unwrap();
        let cache = folder.path().join("cache");
        fs::create_dir_all(&cache).unwrap();
        let refused = install(&PACKAGE, "miniflare", folder.path(), &cache);
        assert!(matches!(refused, Err(PackageError::Integrity { .. })));
        assert!(fs::list(&cache).unwrap().is_empty());
    }

    #[test]
    fn installed_packages_count_in_their_version_only() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf {
            project: folder.path().join("project"),
            cache: folder.path().join("cache"),
        };
        let package = folder.path().join("node_modules/miniflare");
        let content = package.join(PACKAGE.content);
        fs::create_dir_all(&content).unwrap();
        for (version, expected) in [("4.0.0", None), (PACKAGE.version, Some(content))] {
            let manifest = serde_json::json!({"version": version}).to_string();
            fs::write_atomic(&package.join("package.json"), manifest.as_bytes()).unwrap();
            assert_eq!(PACKAGE.found(&shelf), expected);
        }
    }
}
