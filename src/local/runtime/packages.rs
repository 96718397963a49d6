//! Finds the pair of packages that runs Workers: the `workerd` binary and the simulator scripts that Miniflare publishes.
//!
//! The paths that the environment names come first, then what [`npm`](crate::util::npm) finds or obtains.
//!
//! Invariant: both versions are pinned together, because the simulators speak an internal protocol of that very runtime.

use std::path::PathBuf;

use crate::util::npm::{Package, PackageError, Shelf, named};

/// The version of `workerd`.
pub const WORKERD_VERSION: &str = "1.20260730.1";
/// The version of the package with the simulators.
pub const SIMULATORS_VERSION: &str = "4.20260730.0";

/// The variable that names the `workerd` binary.
pub const WORKERD_VARIABLE: &str = "ALCH_WORKERD_PATH";
/// The variable that names the folder of the simulators.
pub const SIMULATORS_VARIABLE: &str = "ALCH_SIMULATORS_PATH";

const SIMULATORS: Package = Package {
    name: "miniflare",
    version: SIMULATORS_VERSION,
    integrity: "1Z9SB9r/o//80UA02Re3QhtcecSHAyAjf5EcKBfQVlQrCg7Miy79hl2PvtkwFLIaJ5rcrOPdDcRr577okwZPsg==",
    size: "5 MB",
    content: "dist/src/workers",
    purpose: "running Workers",
};

/// The packages of `workerd`, by operating system and processor.
const WORKERD: [(&str, &str, Package); 4] = [
    (
        "linux",
        "x86_64",
        workerd(
            "@cloudflare/workerd-linux-64",
            "ouyPOSMbiKPeSwUJUvxtMcxGAXs2J4aPE4T5ABIYX5ClcQx5j5bbHTmnqOQEY8sAuLTPjH7dY+iB6UI5ISlwwA==",
        ),
    ),
    (
        "linux",
        "aarch64",
        workerd(
            "@cloudflare/workerd-linux-arm64",
            "YQ+Mi78U3TPdgBPtwq+Sm6rJU+Ihl2y0pjYtuuKkdmUbYzL7oLR6Xqq9wljhasnuCFICssDJaqhMep5WizYoEQ==",
        ),
    ),
    (
        "macos",
        "x86_64",
        workerd(
            "@cloudflare/workerd-darwin-64",
            "+MBHmPaiTe2KajryW0T24rZvWFxb41hD3d8anNzQqHzft6vSEb18+sp0znSwxgij7ApPhSM1+vhkNg4f3YMguA==",
        ),
    ),
    (
        "macos",
        "aarch64",
        workerd(
            "@cloudflare/workerd-darwin-arm64",
            "SBHKntPkKvNPgaCrTe99xC1CAl8ygJDzlYfK0LbuJ1muKadIw35WnhO0wu894fKBtllsVQdNzDLee+cm0ppLSQ==",
        ),
    ),
];

const fn workerd(name: &'static str, integrity: &'static str) -> Package {
    Package {
        name,
        version: WORKERD_VERSION,
        integrity,
        size: "37 MB",
        content: "bin/workerd",
        purpose: "running Workers",
    }
}

/// Where the packages are looked for.
#[derive(Debug, Clone)]
pub struct Places {
    /// The binary that [`WORKERD_VARIABLE`] names.
    pub workerd: Option<PathBuf>,
    /// The folder that [`SIMULATORS_VARIABLE`] names.
    pub simulators: Option<PathBuf>,
    /// Where they are otherwise.
    pub shelf: Shelf,
}

/// The pair, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The binary.
    pub workerd: PathBuf,
    /// The folder of the simulators.
    pub simulators: PathBuf,
}

/// Finds the pair, and obtains what is missing. `progress` gets a line for what takes time.
///
/// # Errors
/// [`PackageError`] when a part is not there and cannot be obtained.
pub async fn obtain(
    places: &Places,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Packages, PackageError> {
    let workerd = match &places.workerd {
        Some(path) => named(WORKERD_VARIABLE, path)?,
        None => one(&for_this_machine()?, &places.shelf, progress).await?,
    };
    let simulators = match &places.simulators {
        Some(path) => named(SIMULATORS_VARIABLE, path)?,
        None => one(&SIMULATORS, &places.shelf, progress).await?,
    };
    Ok(Packages {
        workerd,
        simulators,
    })
}

fn for_this_machine() -> Result<Package, PackageError> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    WORKERD
        .iter()
        .find(|(os, arch, _)| (*os, *arch) == (system, processor))
        .map(|(_, _, package)| *package)
        .ok_or(PackageError::Machine {
            what: "workerd",
            system,
            processor,
        })
}

async fn one(
    package: &Package,
    shelf: &Shelf,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<PathBuf, PackageError> {
    match package.found(shelf) {
        Some(found) => Ok(found),
        None => package.obtain(shelf, progress).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn named_paths_come_first_and_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places {
            workerd: Some(folder.path().join("missing")),
            simulators: None,
            shelf: Shelf {
                project: folder.path().join("project"),
                cache: folder.path().join("cache"),
            },
        };
        let refused = obtain(&places, &|_| {}).await;
        assert!(matches!(refused, Err(PackageError::Named { .. })));
        places.workerd = Some(folder.path().to_owned());
        places.simulators = Some(folder.path().to_owned());
        let found = obtain(&places, &|_| {}).await.unwrap();
        assert_eq!(found.workerd, folder.path());
    }
}
