//! The `esbuild` binary: pinned, and where it is looked for.

use std::path::{Path, PathBuf};

use crate::util::{
    fs,
    npm::{Package, PackageError, Shelf, named},
};

/// The version of `esbuild`.
pub const ESBUILD_VERSION: &str = "0.28.2";

/// The variable that names the `esbuild` binary.
pub const ESBUILD_VARIABLE: &str = "ALCH_ESBUILD_PATH";

/// The packages, by operating system and processor.
const ESBUILD: [(&str, &str, Package); 4] = [
    (
        "linux",
        "x86_64",
        esbuild(
            "@esbuild/linux-x64",
            "4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
        ),
    ),
    (
        "linux",
        "aarch64",
        esbuild(
            "@esbuild/linux-arm64",
            "pW4AC0P3it8c7do9MVM4p51FzHzdM/TZrerurgRcHJ2WTa1VQ1CIq18xncfpBJw4ojkiZZrKW2yIBWBP92j6Ug==",
        ),
    ),
    (
        "macos",
        "x86_64",
        esbuild(
            "@esbuild/darwin-x64",
            "uq6suIWYP37qzGddBKPw5QEQPi6HiLGsO7UmkpfyaYNQ3D+rN6w6WfwH+nuqcGXWvawGwxOEroO4YGnFh95azw==",
        ),
    ),
    (
        "macos",
        "aarch64",
        esbuild(
            "@esbuild/darwin-arm64",
            "n4KqkOQrraxHJcgjM1RvwbigfQKIKJVpM7xp+KsxiyUSrRdIXnt73VhrPAx0fV44hgfmIVKjxMN9J1t5jySVkw==",
        ),
    ),
];

const fn esbuild(name: &'static str, integrity: &'static str) -> Package {
    Package {
        name,
        version: ESBUILD_VERSION,
        integrity,
        size: "5 MB",
        content: "bin/esbuild",
        purpose: "bundling a Worker",
    }
}

/// Where the binary is looked for.
#[derive(Debug, Clone)]
pub struct Places {
    /// The binary that [`ESBUILD_VARIABLE`] names.
    pub esbuild: Option<PathBuf>,
    /// Where it is otherwise.
    pub shelf: Shelf,
}

/// A binary, and what tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) path: PathBuf,
    pub(super) identity: String,
}

/// Finds the binary without obtaining it: the one that the variable names; that of the project, when it is `trusted`; the one
/// that was obtained before.
pub(super) fn find(places: &Places, trusted: bool) -> Result<Option<Binary>, PackageError> {
    if let Some(path) = &places.esbuild {
        return Ok(Some(foreign(named(ESBUILD_VARIABLE, path)?)));
    }
    let package = for_this_machine()?;
    // A program that came with a project is not run unasked.
    if trusted && let Some(path) = installed(&package, &places.shelf.project) {
        return Ok(Some(foreign(path)));
    }
    Ok(package.kept(&places.shelf.cache).map(pinned))
}

/// Finds the binary, and obtains the pinned one when it is nowhere. `progress` gets a line then.
///
/// # Errors
/// [`PackageError`] when it is not there and cannot be obtained.
pub async fn obtain(
    places: &Places,
    trusted: bool,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<PathBuf, PackageError> {
    Ok(obtain_binary(places, trusted, progress).await?.path)
}

pub(super) async fn obtain_binary(
    places: &Places,
    trusted: bool,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Binary, PackageError> {
    match find(places, trusted)? {
        Some(found) => Ok(found),
        None => {
            let path = for_this_machine()?.obtain(&places.shelf, progress).await?;
            Ok(pinned(path))
        }
    }
}

/// The binary of any version that is installed for the project.
fn installed(package: &Package, project: &Path) -> Option<PathBuf> {
    project
        .ancestors()
        .map(|folder| {
            folder
                .join("node_modules")
                .join(package.name)
                .join(package.content)
        })
        .find(|path| path.is_file())
}

fn pinned(path: PathBuf) -> Binary {
    Binary {
        path,
        identity: format!("esbuild@{ESBUILD_VERSION}"),
    }
}

/// A binary whose version is not known: told apart by where it is, how long, and how old.
fn foreign(path: PathBuf) -> Binary {
    let stamp = fs::stamp(&path).unwrap_or_default();
    let identity = format!("{} {stamp}", path.display());
    Binary { path, identity }
}

fn for_this_machine() -> Result<Package, PackageError> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    ESBUILD
        .iter()
        .find(|(os, arch, _)| (*os, *arch) == (system, processor))
        .map(|(_, _, package)| *package)
        .ok_or(PackageError::Machine {
            what: "esbuild",
            system,
            processor,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_of_the_project_counts_when_it_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let package = for_this_machine().unwrap();
        let project = folder.path().join("repository/app");
        let places = Places {
            esbuild: None,
            shelf: Shelf {
                project,
                cache: folder.path().join("cache"),
            },
        };
        let binary = folder
            .path()
            .join("repository/node_modules")
            .join(package.name)
            .join(package.content);
        fs::create_dir_all(binary.parent().unwrap()).unwrap();
        fs::write_atomic(&binary, b"x").unwrap();
        assert_eq!(find(&places, false).unwrap(), None);
        assert_eq!(find(&places, true).unwrap().unwrap().path, binary);
        let named = Places {
            esbuild: Some(folder.path().join("none")),
            ..places
        };
        assert!(matches!(
            find(&named, true),
            Err(PackageError::Named { .. })
        ));
    }
}
