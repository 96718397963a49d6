//! A real S3-compatible server, shared by the tests of one process: `tests/s3/server.py`, which `scripts/s3-server` installs
//! what it needs for. Where that is not installed, the tests say so on the terminal and check nothing.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// The server, and what opens its one bucket.
pub(crate) struct S3Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
    /// Ends when its standard input does: with this process, however that ends.
    _child: Child,
}

pub(crate) const BUCKET: &str = "team";
pub(crate) const ACCESS_KEY_ID: &str = "test";
pub(crate) const SECRET_ACCESS_KEY: &str = "test-secret";

/// The server, started with the first call.
pub(crate) fn server() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(|| start(None)).as_ref()
}

/// One more server, which knows nothing of a header of requests.
#[allow(
    dead_code,
    reason = "the tests of the store itself have a bucket in memory for that"
)]
pub(crate) fn server_without(header: &str) -> Option<S3Server> {
    start(Some(header))
}

fn start(without: Option<&str>) -> Option<S3Server> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3");
    let named = std::env::var_os("ALCH_S3_SERVER_PATH").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let folder = named.or_else(|| Some(cache.or(home)?.join("alch/s3-server")))?;
    let wanted = std::fs::read(sources.join("requirements.txt")).unwrap();
    if std::fs::read(folder.join("installed-requirements.txt")).ok() != Some(wanted) {
        // Past the capture of the harness, which would show this only when the test fails.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "\n!! SKIPPED: nothing is checked against an S3-compatible server, as it is not installed: run scripts/s3-server, which needs pip\n"
        )
        .unwrap();
        return None;
    }
    let mut child = Command::new(folder.join("bin/python"))
        .arg(sources.join("server.py"))
        .args(without)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut endpoint = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut endpoint).unwrap();
    assert!(
        endpoint.starts_with("http://"),
        "the S3 server did not start"
    );
    Some(S3Server {
        endpoint: endpoint.trim().to_owned(),
        _child: child,
    })
}
