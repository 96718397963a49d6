//! What a script, and the state that it left, may touch: files outside the project, processes, network hosts.
//!
//! Reading and writing within the project folder is free, unless the path leads out of it through a link. Everything else
//! has to be allowed by the user, never by the script. Asked twice: when a resource is declared, as far as its props are
//! known then, and before every operation with the props as they are (also when a delete works from state alone).

use std::{
    ffi::OsString,
    net::Ipv6Addr,
    path::{Component, Path, PathBuf},
};

use reqwest::Url;

/// Links that are followed before a path counts as a circle.
const LINKS: usize = 40;
/// The program that runs text commands.
const SHELL: &str = "sh";

/// One sort of permission.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allow {
    /// Nothing.
    #[default]
    None,
    /// Only these: hosts (`example.com`, `*.example.com`, `example.com:8080`), paths, or programs.
    Only(Vec<String>),
    /// Everything.
    All,
}

impl Allow {
    /// What the items allow; `*` among them is everything.
    #[must_use]
    pub fn from_items(items: Vec<String>) -> Self {
        if items.iter().any(|item| item == "*") {
            Self::All
        } else if items.is_empty() {
            Self::None
        } else {
            Self::Only(items)
        }
    }

    /// What either allows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) | (other, Self::None) => other,
            (Self::Only(mut items), Self::Only(more)) => {
                items.extend(more);
                Self::Only(items)
            }
        }
    }

    fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::None => false,
            Self::Only(items) => items.iter().any(|item| fits(item)),
            Self::All => true,
        }
    }
}

/// What the user allows.
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

    /// What either allows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            exec: self.exec.or(other.exec),
            net: self.net.or(other.net),
            read: self.read.or(other.read),
            write: self.write.or(other.write),
        }
    }
}

/// Something that needs permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touch {
    /// A program is started, with arguments that no shell looks at.
    Program(String),
    /// A text command: whatever stands in it.
    Shell,
    /// A program that the environment, by this variable, may turn into another.
    Redirected(String),
    /// A URL is requested.
    Net(String),
    /// A file is read.
    Read(String),
    /// A file is written or removed.
    Write(String),
}

/// The user did not allow something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// What is not allowed.
    pub message: String,
    /// How to allow it.
    pub help: String,
}

impl Denied {
    fn new(what: impl AsRef<str>, flag: impl AsRef<str>) -> Self {
        Self {
            message: format!("no permission to {}", what.as_ref()),
            help: format!("allow it with `{}` if you trust the script", flag.as_ref()),
        }
    }
}

/// The permissions of one project.
#[derive(Debug, Clone, Default)]
pub struct Access {
    project: PathBuf,
    permissions: Permissions,
    remark: Option<String>,
}

impl Access {
    /// The permissions of the project in a folder.
    #[must_use]
    pub fn new(project: &Path, permissions: Permissions) -> Self {
        Self {
            project: project.to_owned(),
            permissions,
            remark: None,
        }
    }

    /// The same with something that the user is told with every refusal.
    #[must_use]
    pub fn with_remark(mut self, remark: Option<String>) -> Self {
        self.remark = remark;
        self
    }

    /// Whether something is allowed.
    ///
    /// # Errors
    /// [`Denied`] with the flag that allows it.
    pub fn check(&self, touch: &Touch) -> Result<(), Denied> {
        match touch {
            Touch::Program(program) => self.program(program),
            Touch::Shell if self.permissions.exec.any(|name| name == SHELL) => Ok(()),
            Touch::Shell => Err(self.told(Denied {
                message: "no permission to run a shell command".to_owned(),
                help: "allow it with `--allow-exec` if you trust the script, or write it as an array of program and arguments, which \
                       needs that program alone"
                    .to_owned(),
            })),
            Touch::Redirected(_) if self.permissions.exec == Allow::All => Ok(()),
            Touch::Redirected(name) => Err(self.told(Denied::new(
                format!("start a program with `{name}` in its environment, which may make it another"),
                "--allow-exec",
            ))),
            Touch::Net(url) => self.net(url),
            Touch::Read(path) => self.read(path).map(drop),
            Touch::Write(path) => self.write(path).map(drop),
        }
    }

    /// Whether `program` may be started. A name with a folder in it is compared whole: `./git` is not `git`.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn program(&self, program: &str) -> Result<(), Denied> {
        if self.permissions.exec.any(|name| name == program) {
            return Ok(());
        }
        Err(self.told(Denied::new(
            format!("start `{program}`"),
            format!("--allow-exec={program}"),
        )))
    }

    /// Whether the host of `url` may be spoken to.
    ///
    /// # Errors
    /// [`Denied`], also when it is no URL.
    pub fn net(&self, url: &str) -> Result<(), Denied> {
        let parsed = Url::parse(url).map_err(|error| Denied {
            message: format!("`{url}` is not a URL: {error}"),
            help: "write it as `https://host/path`".to_owned(),
        })?;
        let host = parsed.host_str().unwrap_or_default();
        let port = parsed.port_or_known_default();
        if self
            .permissions
            .net
            .any(|allowed| fits(allowed, host, port))
        {
            return Ok(());
        }
        Err(self.told(Denied::new(
            format!("speak to `{host}`"),
            format!("--allow-net={host}"),
        )))
    }

    /// The real path of what may be read. A relative path is relative to the project.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<PathBuf, Denied> {
        self.path(
            path.as_ref(),
            &self.permissions.read,
            "read",
            "--allow-read",
        )
    }

    /// The real path of what may be written.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<PathBuf, Denied> {
        self.path(
            path.as_ref(),
            &self.permissions.write,
            "write",
            "--allow-write",
        )
    }

    fn path(&self, path: &Path, allow: &Allow, verb: &str, flag: &str) -> Result<PathBuf, Denied> {
        let Some(real) = resolve(&self.project.join(path)) else {
            return Err(self.told(Denied {
                message: format!("`{}` is a link that leads in a circle", path.display()),
                help: "correct the link".to_owned(),
            }));
        };
        let below = |folder: &Path| resolve(folder).is_some_and(|folder| real.starts_with(folder));
        if below(&self.project) || allow.any(|allowed| below(&self.project.join(allowed))) {
            return Ok(real);
        }
        Err(self.told(Denied::new(
            format!(
                "{verb} `{}`, which is outside the project folder",
                path.display()
            ),
            format!("{flag}={}", real.display()),
        )))
    }

    fn told(&self, denied: Denied) -> Denied {
        match &self.remark {
            Some(remark) => Denied {
                help: format!("{}; {remark}", denied.help),
                ..denied
            },
            None => denied,
        }
    }
}

/// Whether an allowed host is the one of a URL. Both in the spelling that URLs have: small letters, no leading zeros.
fn fits(allowed: &str, host: &str, port: Option<u16>) -> bool {
    let (name, only_port) = match allowed.rsplit_once(':') {
        Some((name, digits)) if name.ends_with(']') || !name.contains(':') => {
            match digits.parse() {
                Ok(number) => (name, Some(number)),
                Err(_) => return false,
            }
        }
        _ => (allowed, None),
    };
    if only_port.is_some() && only_port != port {
        return false;
    }
    if let Some(domain) = name.strip_prefix("*.") {
        return host.ends_with(&format!(".{}", domain.to_ascii_lowercase()));
    }
    let name = match name.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => name.to_owned(),
    };
    Url::parse(&format!("http://{name}/")).is_ok_and(|url| url.host_str() == Some(host))
}

/// The real path, of things that are not there yet as well: links followed, `..` taken out. `None` for links in a circle.
fn resolve(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut rest: Vec<OsString> = parts(&absolute);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part.to_str() {
            Some("/") => real = PathBuf::from("/"),
            Some(".") => {}
            Some("..") => {
                real.pop();
            }
            _ => {
                let next = real.join(&part);
                let Ok(target) = next.read_link() else {
                    real = next;
                    continue;
                };
                links += 1;
                if links > LINKS {
                    return None;
                }
                rest.extend(parts(&target));
            }
        }
    }
    Some(real)
}

/// The components of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| part.as_os_str().to_owned();
    path.components().rev().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(project: &Path, permissions: Permissions) -> Access {
        Access::new(project, permissions)
    }

    fn only(items: &[&str]) -> Allow {
        Allow::Only(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn paths_in_the_project_are_free_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(folder.path().join(to), project.join(name)).unwrap();
        };
        crate::util::fs::create_dir_all(&project.join("sub")).unwrap();
        crate::util::fs::create_dir_all(&folder.path().join("project-evil")).unwrap();
        crate::util::fs::write_atomic(&folder.path().join("secret"), b"x").unwrap();
        link("secret", "link");
        link("not-there-yet", "dangling");
        link("project/sub", "inner");
        link("project/round", "round");
        let none = access(&project, Permissions::default());
        for path in ["a", "sub/a", "sub/../a", "./a", "missing/deep/a", "inner/a"] {
            assert!(none.read(path).is_ok(), "{path}");
        }
        for path in [
            "../secret",
            "link",
            "missing/../../secret",
            "/etc/passwd",
            "dangling",
            "dangling/x",
            "../project-evil/a",
        ] {
            let error = none.read(path).unwrap_err();
            assert!(error.help.contains("--allow-read="), "{path}");
        }
        assert!(none.read("round").unwrap_err().message.contains("circle"));
        let some = access(
            &project,
            Permissions {
                read: only(&[".."]),
                ..Permissions::default()
            },
        );
        assert!(some.read("../secret").is_ok());
        assert!(some.write("../secret").is_err());
    }

    #[test]
    fn hosts_are_compared_whole_and_in_one_spelling() {
        let hosts = ["Example.com", "*.test", "a:81", "::1", "127.0.0.1:80"];
        let permissions = Permissions {
            net: only(&hosts),
            ..Permissions::default()
        };
        let some = access(Path::new("/"), permissions);
        for url in [
            "https://example.com/x",
            "https://EXAMPLE.COM:8443",
            "http://user:password@example.com/",
            "http://a.test",
            "http://a:81/",
            "http://[::1]:9/",
            "http://[0:0::1]/",
            "http://127.1/",
        ] {
            assert_eq!(some.net(url), Ok(()), "{url}");
        }
        for url in [
            "https://evil-example.com",
            "https://example.com.evil.net",
            "https://example.com@evil.net/",
            "https://evil.net/example.com",
            "https://evil.net#example.com",
            "http://test",
            "http://eviltest",
            "http://a:82/",
            "http://a/",
            "http://127.0.0.1:81",
            "http://[::2]/",
            "file:///etc/passwd",
            "no url",
        ] {
            assert!(some.net(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_program_is_allowed_by_its_name_and_a_shell_by_its_own() {
        let with = |items: &[&str]| {
            let permissions = Permissions {
                exec: only(items),
                ..Permissions::default()
            };
            access(Path::new("/"), permissions)
        };
        let git = with(&["git", "echo"]);
        assert_eq!(git.check(&Touch::Program("git".to_owned())), Ok(()));
        assert_eq!(
            git.program("./git").unwrap_err(),
            Denied {
                message: "no permission to start `./git`".to_owned(),
                help: "allow it with `--allow-exec=./git` if you trust the script".to_owned(),
            }
        );
        assert!(git.check(&Touch::Shell).is_err());
        assert_eq!(with(&["sh"]).check(&Touch::Shell), Ok(()));
        assert!(git.check(&Touch::Redirected("PATH".to_owned())).is_err());
    }
}
