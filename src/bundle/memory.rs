//! Bundles that were made before, kept for as long as nothing changes that could make another.
//!
//! A folder for each entrypoint with its options: `manifest.json` and the contents by their hash. The manifest names all that
//! was looked at: the sources, the folders around them (a new file can be what an import means), the descriptions of
//! packages and of the project. It is written last and checked in full, so that a torn or foreign folder is as good as none.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    bundler::{Bundle, Module, Request},
    package::Binary,
};
use crate::util::fs::{self, FsResult};

/// The version of the manifest, and of how bundles are made.
const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Files that say how sources are read and packages are found, in the folders of the sources and above.
const DESCRIPTIONS: &[&str] = &[
    "package.json",
    "tsconfig.json",
    "jsconfig.json",
    "tsconfig.base.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
];
/// The types of modules, which the manifest names by their place here.
const TYPES: &[&str] = &[
    "application/javascript+module",
    "application/javascript",
    "application/source-map",
    "application/wasm",
    "text/plain",
    "application/octet-stream",
];

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// What the bundle was asked for, in words, so that two requests with one key are told apart.
    request: String,
    watched: Vec<Watched>,
    inputs: Vec<PathBuf>,
    modules: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(rename = "type")]
    content_type: usize,
    hash: String,
}

/// Something whose change may make another bundle.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Watched {
    /// A file, and the hash of its content; none when it was not there.
    File(PathBuf, Option<String>),
    /// The names in a folder, hashed; none when it was not there.
    Names(PathBuf, Option<String>),
}

impl Watched {
    fn file(path: PathBuf) -> Self {
        let hash = hash_of_file(&path);
        Self::File(path, hash)
    }

    fn names(path: PathBuf) -> Self {
        let hash = hash_of_names(&path);
        Self::Names(path, hash)
    }

    fn is_unchanged(&self) -> bool {
        match self {
            Self::File(path, hash) => hash_of_file(path) == *hash,
            Self::Names(path, hash) => hash_of_names(path) == *hash,
        }
    }
}

fn hash_of_file(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(hash(&bytes))
}

fn hash_of_names(path: &Path) -> Option<String> {
    if !path.is_dir() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for entry in fs::list(path).ok()? {
        hasher.update(entry.file_name()?.as_encoded_bytes());
        hasher.update(&[0]);
    }
    Some(hasher.finalize().to_hex().to_string())
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The bundles in one folder.
#[derive(Debug)]
pub(super) struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Names the folder; does not make it.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The bundle that the same request made, when making it again would make the same.
    pub(super) fn recall(
        &self,
        project: &Path,
        request: &Request<'_>,
        binary: &Binary,
    ) -> Option<Bundle> {
        let words = words(project, request, binary);
        let folder = self.place(project, request);
        let manifest: Manifest =
            serde_json::from_slice(&fs::read(&folder.join(MANIFEST)).ok()?).ok()?;
        let fits = manifest.version == VERSION
            && manifest.request == words
            && manifest.watched.iter().all(Watched::is_unchanged);
        if !fits {
            return None;
        }
        let modules = manifest.modules.into_iter().map(|kept| {
            let content = fs::read(&folder.join(&kept.hash)).ok()?;
            (hash(&content) == kept.hash).then_some(Module {
                name: kept.name,
                content_type: TYPES.get(kept.content_type)?,
                content,
            })
        });
        Some(Bundle {
            modules: modules.collect::<Option<_>>()?,
            inputs: manifest.inputs,
        })
    }

    /// Keeps a bundle. One that cannot be kept is made again next time.
    pub(super) fn keep(
        &self,
        project: &Path,
        request: &Request<'_>,
        binary: &Binary,
        bundle: &Bundle,
    ) {
        let folder = self.place(project, request);
        let manifest = Manifest {
            version: VERSION,
            request: words(project, request, binary),
            watched: watched(project, bundle),
            inputs: bundle.inputs.clone(),
            modules: bundle
                .modules
                .iter()
                .filter_map(|module| {
                    Some(Kept {
                        name: module.name.clone(),
                        content_type: TYPES
                            .iter()
                            .position(|known| *known == module.content_type)?,
                        hash: hash(&module.content),
                    })
                })
                .collect(),
        };
        if let Err(error) = write(&folder, &manifest, bundle) {
            tracing::debug!(%error, "the bundle is not kept");
        }
    }

    /// One folder for an entrypoint of a project, whatever its options: the newest bundle takes the place of the one before.
    fn place(&self, project: &Path, request: &Request<'_>) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        for path in [project, request.entrypoint] {
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update(&[0]);
        }
        self.folder.join(&hasher.finalize().to_hex()[..32])
    }
}

fn words(project: &Path, request: &Request<'_>, binary: &Binary) -> String {
    format!(
        "{} {} {} {:?}",
        project.display(),
        request.entrypoint.display(),
        binary.identity,
        request.options
    )
}

fn write(folder: &Path, manifest: &Manifest, bundle: &Bundle) -> FsResult<()> {
    fs::create_dir_all(folder)?;
    for (kept, module) in manifest.modules.iter().zip(&bundle.modules) {
        fs::write_private(&folder.join(&kept.hash), &module.content)?;
    }
    let text = serde_json::to_vec(manifest).unwrap_or_default();
    fs::write_private(&folder.join(MANIFEST), &text)?;
    // What the bundle before was made of.
    for path in fs::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let used = name == MANIFEST || manifest.modules.iter().any(|kept| kept.hash == name);
        if !used {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// All that has to stay as it is: the sources; the names of the files beside them and the packages around them; and what
/// describes packages and the project, in every folder from a source up to the root.
fn watched(project: &Path, bundle: &Bundle) -> Vec<Watched> {
    let files = bundle.inputs.iter().cloned().map(Watched::file);
    let folders: BTreeSet<&Path> = bundle
        .inputs
        .iter()
        .filter_map(|path| path.parent())
        .collect();
    let around: BTreeSet<&Path> = folders
        .iter()
        .copied()
        .chain([project])
        .flat_map(Path::ancestors)
        .filter(|folder| folder.file_name().is_none_or(|name| name != "node_modules"))
        .collect();
    let mut out: Vec<Watched> = files
        .chain(
            folders
                .into_iter()
                .map(|path| Watched::names(path.to_owned())),
        )
        .collect();
    for folder in around {
        out.push(Watched::names(folder.join("node_modules")));
        out.extend(
            DESCRIPTIONS
                .iter()
                .map(|name| Watched::file(folder.join(name))),
        );
    }
    out.sort_unstable();
    out.dedup();
    out
}
