//! The files of a folder of static assets: which go along, under which addresses, and what they are.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

use crate::{provider::Access, util::fs};

/// Most files.
const FILES_LIMIT: usize = 100_000;
/// The largest file in bytes.
const SIZE_LIMIT: usize = 25 * 1024 * 1024;
/// Files that say how the others are served.
const HEADERS: &str = "_headers";
const REDIRECTS: &str = "_redirects";
const IGNORE: &str = ".assetsignore";

/// A message and a next step.
pub(super) type Problem = (String, Option<String>);

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// Its address, with `/` in front.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// What Cloudflare knows it by.
    pub(super) hash: String,
    /// Its length in bytes.
    pub(super) size: usize,
    pub(super) content_type: &'static str,
}

/// All files of a folder, by address.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) files: Vec<File>,
    /// The text of `_headers`.
    pub(super) headers: Option<String>,
    /// The text of `_redirects`.
    pub(super) redirects: Option<String>,
}

impl Files {
    /// A hash of all that is served, and how.
    pub(super) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut field = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for rules in [&self.headers, &self.redirects] {
            field(rules.as_deref().unwrap_or_default());
        }
        for file in &self.files {
            field(&file.name);
            field(&file.hash);
            field(file.content_type);
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The name of a content: also of its kind, so that one content under two extensions is two files.
pub(super) fn hash(path: &Path, content: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(content);
    hasher.update(extension(path).as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Reads the files of `directory`, which is relative to `folder`.
pub(super) fn collect(folder: &Path, access: &Access, directory: &str) -> Result<Files, Problem> {
    // Without the `./` in the middle.
    let root: PathBuf = folder.join(directory).components().collect();
    let permitted = |path: &Path| {
        access
            .read(path)
            .map_err(|denied| (denied.message, Some(denied.help)))
    };
    permitted(&root)?;
    if !root.is_dir() {
        let what = if root.exists() {
            "is no folder"
        } else {
            "does not exist"
        };
        return Err((
            format!("the folder of assets `{}` {what}", root.display()),
            Some(format!(
                "correct the path; it is relative to `{}`",
                folder.display()
            )),
        ));
    }
    let rules = |name: &str| -> Result<Option<String>, Problem> {
        let path = root.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        fs::read_to_string(&permitted(&path)?)
            .map(Some)
            .map_err(|error| told(&error))
    };
    let ignored = Ignored::parse(&rules(IGNORE)?.unwrap_or_default())?;
    let mut files = Vec::new();
    let walk = WalkDir::new(&root)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter();
    for entry in walk {
        let entry = entry.map_err(|error| (format!("the assets cannot be read: {error}"), None))?;
        // A link can lead anywhere; what lies below one that is allowed is allowed with it.
        if entry.path_is_symlink() {
            permitted(entry.path())?;
        }
        let below = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        if !entry.file_type().is_file() || ignored.matches(below) {
            continue;
        }
        let name = address(below).ok_or_else(|| {
            (
                format!("the name of `{}` is not UTF-8", entry.path().display()),
                Some("rename the file".to_owned()),
            )
        })?;
        if [HEADERS, REDIRECTS, IGNORE].contains(&&name[1..]) {
            continue;
        }
        if files.len() == FILES_LIMIT {
            return Err((
                format!("`{}` has more than {FILES_LIMIT} files", root.display()),
                Some(format!("leave some out by a file `{IGNORE}` in it")),
            ));
        }
        let content = fs::read(entry.path()).map_err(|error| told(&error))?;
        if content.len() > SIZE_LIMIT {
            return Err((
                format!(
                    "the asset `{}` is larger than 25 MiB",
                    entry.path().display()
                ),
                Some(format!(
                    "leave it out by a file `{IGNORE}`, or keep it in a bucket"
                )),
            ));
        }
        files.push(File {
            name,
            hash: hash(entry.path(), &content),
            size: content.len(),
            content_type: content_type(entry.path()),
            path: entry.into_path(),
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Files {
        files,
        headers: rules(HEADERS)?,
        redirects: rules(REDIRECTS)?,
    })
}

fn told(error: &fs::FsError) -> Problem {
    (format!("{error}: {}", error.source), None)
}

fn address(below: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
    Some(format!("/{}", parts?.join("/")))
}

/// The patterns of `.assetsignore`, which are those of `.gitignore`.
struct Ignored(Vec<Pattern>);

struct Pattern {
    matcher: GlobMatcher,
    keep: bool,
    folders_only: bool,
}

impl Ignored {
    fn parse(text: &str) -> Result<Self, Problem> {
        let lines = text.lines().enumerate().filter_map(|(index, line)| {
            let line = line.trim_end();
            (!line.is_empty() && !line.starts_with('#')).then_some((index + 1, line))
        });
        let patterns = lines.map(|(number, line)| {
            let (keep, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, line.strip_prefix('\\').unwrap_or(line)),
            };
            let (folders_only, line) = match line.strip_suffix('/') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let glob = match line.strip_prefix('/') {
                Some(rest) => rest.to_owned(),
                None if line.contains('/') => line.to_owned(),
                None => format!("**/{line}"),
            };
            let matcher = GlobBuilder::new(&glob)
                .literal_separator(true)
                .build()
                .map_err(|error| {
                    (
                        format!("`{IGNORE}`, line {number}: {}", error.kind()),
                        Some("correct the pattern".to_owned()),
                    )
                })?
                .compile_matcher();
            Ok(Pattern {
                matcher,
                keep,
                folders_only,
            })
        });
        Ok(Self(
            patterns.collect::<Result<_, (String, Option<String>)>>()?,
        ))
    }

    /// Whether a file is left out: by itself or with a folder that it is in. The last pattern that fits decides.
    fn matches(&self, below: &Path) -> bool {
        let mut parts: Vec<&Path> = below
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        parts.reverse();
        parts.iter().any(|part| {
            let folder = *part != below;
            let decides = self.0.iter().rev().find(|pattern| {
                (folder || !pattern.folders_only) && pattern.matcher.is_match(part)
            });
            decides.is_some_and(|pattern| !pattern.keep)
        })
    }
}

fn extension(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.unwrap_or_default().to_ascii_lowercase()
}

/// The content type by the extension, where it says one.
pub(in super::super) fn known_content_type(path: &Path) -> Option<&'static str> {
    Some(content_type(path)).filter(|kind| *kind != "application/null")
}

/// The content type by the extension; `application/null` says that there is none.
fn content_type(path: &Path) -> &'static str {
    match extension(path).as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "text" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "vtt" => "text/vtt; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "rss" => "application/rss+xml",
        "atom" => "application/atom+xml",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "bmp" => "image/bmp",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "wav" => "audio/wav",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        _ => "application/null",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_leave_files_out_as_git_does() {
        let text = "# text\n*.map\nprivate/\n/only-here\n!keep.map\nsub/*.txt\n";
        let ignored = Ignored::parse(text).unwrap();
        let matches = |path: &str| ignored.matches(Path::new(path));
        for path in [
            "a.map",
            "deep/a.map",
            "private/keep.map",
            "x/private/a",
            "only-here",
            "only-here/a",
            "sub/a.txt",
        ] {
            assert!(matches(path), "{path}");
        }
        for path in [
            "keep.map",
            "x/keep.map",
            "private",
            "x/only-here",
            "sub/deep/a.txt",
            "x/sub/a.txt",
            "a.txt",
        ] {
            assert!(!matches(path), "{path}");
        }
        assert!(Ignored::parse("[").is_err());
    }

    #[test]
    fn what_is_served_decides_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join("public").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write_atomic(&path, content.as_bytes()).unwrap();
        };
        write("index.html", "<h1>hi</h1>");
        write("sub/a.txt", "a");
        write(".well-known/x", "x");
        write("_redirects", "/a /b");
        write("left.out", "");
        write(".assetsignore", "left.out");
        let access = Access::new(folder.path(), crate::provider::Permissions::default());
        let read = || collect(folder.path(), &access, "./public").unwrap();
        let found = read();
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["/.well-known/x", "/index.html", "/sub/a.txt"]);
        assert_eq!(found.redirects.as_deref(), Some("/a /b"));
        assert_eq!(found.headers, None);
        let first = found.hash();
        write("left.out", "x");
        assert_eq!(read().hash(), first);
        write("_redirects", "/a /c");
        assert_ne!(read().hash(), first);
        // A link out of the project is not followed unasked.
        std::os::unix::fs::symlink("/etc", folder.path().join("public/etc")).unwrap();
        let (message, _) = collect(folder.path(), &access, "public").unwrap_err();
        assert!(message.contains("no permission to read"), "{message}");
    }
}
