//! A project in a temporary folder, and the built binary run in it.

#![allow(dead_code, reason = "each test file uses the part that it needs")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use snapbox::IntoData;

pub(crate) mod cloud;
pub(crate) mod exchange;
pub(crate) mod s3;
pub(crate) mod served;

/// The built binary: the one that `ALCH_TEST_BINARY` names, such as a release build, or the one of these tests.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ALCH_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_alch")), PathBuf::from)
}

/// A project folder with a home of its own. Both go when it is dropped.
pub(crate) struct Project {
    root: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// A text with `[ID]` for every id in quotes or between slashes: 32 hexadecimal digits.
pub(crate) fn without_ids(text: &str) -> String {
    let is_id = |part: &str| part.len() == 32 && part.chars().all(|c| c.is_ascii_hexdigit());
    let mut out = String::new();
    for part in text.split_inclusive(['"', '/', '\n']) {
        let plain = part.trim_end_matches(['"', '/', '\n']);
        match is_id(plain) {
            true => out.extend(["[ID]", &part[plain.len()..]]),
            false => out.push_str(part),
        }
    }
    out
}

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["project", "home"] {
            std::fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        Self {
            root,
            environment: Vec::new(),
        }
    }

    /// A project whose `alchemy.run.rhai` is `script`.
    pub(crate) fn with_script(script: &str) -> Self {
        let project = Self::new();
        project.file("alchemy.run.rhai", script);
        project
    }

    /// A copy of `examples/<name>`.
    pub(crate) fn example(name: &str) -> Self {
        let project = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        copy(&from, &project.folder());
        project
    }

    /// The folder of the script.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// What `$HOME` is.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// A path within the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file of the project, making its folders.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// Reads a file of the project.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a readable file")
    }

    /// Every file of state with its bytes: without the local cloud, and without locks, which each run takes.
    pub(crate) fn state_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.path(".alchemy");
        walkdir::WalkDir::new(&root)
            .into_iter()
            .map(|entry| entry.expect("a readable entry"))
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.into_path())
            .filter(|path| {
                ["local", "locks"]
                    .iter()
                    .all(|folder| !path.starts_with(root.join(folder)))
            })
            .map(|path| {
                let bytes = std::fs::read(&path).expect("a readable file");
                (path, bytes)
            })
            .collect()
    }

    /// Sets a variable for every later command.
    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, ready to be started in the project: a clean environment, no terminal.
    pub(crate) fn command<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("HOME", self.home())
            .env("USER", "tester")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("COLUMNS", "100")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn alch<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.output_of(&mut self.command(arguments))
    }

    /// Runs any command to its end.
    pub(crate) fn output_of(&self, command: &mut Command) -> Output {
        self.output(command.output().expect("the binary runs"))
    }

    /// What a command printed that was run to its end.
    pub(crate) fn output(&self, output: std::process::Output) -> Output {
        Output {
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
            code: output.status.code(),
            root: self.root.path().to_owned(),
        }
    }

    /// Starts the binary and goes on.
    pub(crate) fn start<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        self.command(arguments).spawn().expect("the binary starts")
    }

    /// Every file below the project whose bytes hold `needle`.
    pub(crate) fn files_with(&self, needle: &str) -> Vec<PathBuf> {
        let mut out = Vec::new();
        for entry in walkdir::WalkDir::new(self.root.path()) {
            let entry = entry.expect("a readable entry");
            if entry.file_type().is_file() {
                let bytes = std::fs::read(entry.path()).expect("a readable file");
                if bytes
                    .windows(needle.len())
                    .any(|window| window == needle.as_bytes())
                {
                    out.push(entry.into_path());
                }
            }
        }
        out
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from)
        .into_iter()
        .filter_entry(|entry| entry.file_name() != ".alchemy")
    {
        let entry = entry.expect("a readable entry");
        let target = to.join(entry.path().strip_prefix(from).expect("below it"));
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target).expect("a folder");
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
    root: PathBuf,
}

impl Output {
    /// Ends the test unless the command ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        self
    }

    /// The same with a text replaced that differs from run to run.
    pub(crate) fn replacing(mut self, from: &str, to: &str) -> Self {
        self.stdout = self.stdout.replace(from, to);
        self.stderr = self.stderr.replace(from, to);
        self
    }

    /// Ends the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    /// Compares stdout, stderr and the exit code with a snapshot. `SNAPSHOTS=overwrite cargo test` writes the snapshot anew.
    #[track_caller]
    pub(crate) fn check(&self, expected: impl IntoData) {
        let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV);
        assert.eq(self.told(), expected);
    }

    /// The last line of stderr; times and the number of calls, unless it is 0, are taken out.
    pub(crate) fn last_line(&self) -> String {
        let line = self.stderr.lines().last().unwrap_or_default();
        let line = normalise(line, &self.root);
        match line.rsplit_once(", ") {
            Some((before, calls)) if calls.contains(" API call") && calls != "0 API calls)" => {
                format!("{before}, [CALLS])")
            }
            _ => line,
        }
    }

    /// The lines of stderr, sorted: the order of what runs at the same time is not fixed.
    pub(crate) fn sorted_lines(&self) -> Vec<String> {
        let text = normalise(&self.stderr, &self.root);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The messages of `--json`.
    #[track_caller]
    pub(crate) fn messages(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| match serde_json::from_str(line) {
                Ok(message) => message,
                Err(error) => panic!("not JSON: {line}: {error}"),
            })
            .collect()
    }

    fn told(&self) -> String {
        let mut out = format!(
            "exit {}\n",
            self.code.map_or("signal".to_owned(), |c| c.to_string())
        );
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(out, "-- {name}\n{}", normalise(text, &self.root)).expect("a string");
            }
        }
        out
    }
}

/// Takes out what differs from run to run: paths, durations, moments, the version.
fn normalise(text: &str, root: &Path) -> String {
    let text = text
        .replace(&root.display().to_string(), "[ROOT]")
        .replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let fresh = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if fresh && first.is_ascii_digit() {
            if let Some(length) = moment(rest) {
                out.push_str("[MOMENT]");
                rest = &rest[length..];
                continue;
            }
            if let Some(length) = duration(rest) {
                out.push_str("[TIME]");
                rest = &rest[length..];
                continue;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// The length of `2024-01-15T10:30:00.123Z` at the beginning.
fn moment(text: &str) -> Option<usize> {
    let shape = |at: usize, c: u8| text.as_bytes().get(at) == Some(&c);
    (shape(4, b'-') && shape(7, b'-') && shape(10, b'T')).then(|| {
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z')))
            .unwrap_or(text.len())
    })
}

/// The length of `12 ms`, `4.1 s` or `3 min 5 s` at the beginning.
fn duration(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    for unit in [" ms", " s", " min"] {
        let Some(after) = text[digits..].strip_prefix(unit) else {
            continue;
        };
        if after.starts_with(|c: char| c.is_alphanumeric()) {
            continue;
        }
        let length = digits + unit.len();
        if unit == " min" {
            let more = after.strip_prefix(' ').and_then(duration);
            return Some(length + more.map_or(0, |more| more + 1));
        }
        return Some(length);
    }
    None
}

#[test]
fn what_differs_from_run_to_run_is_taken_out() {
    let root = Path::new("/tmp/x");
    assert_eq!(
        normalise(
            "in 4.1 s (12 ms), 3 min 5 s, 5 stages, /tmp/x/y at 2024-01-15T10:30:00.1Z",
            root
        ),
        "in [TIME] ([TIME]), [TIME], 5 stages, [ROOT]/y at [MOMENT]"
    );
}
