//! One process of `workerd`: started on a socket that stays ours, watched, stopped.
//!
//! It never outlives this program, however that ends. `sh` starts a watcher that reads from a socket whose other end this
//! program holds, and then becomes `workerd`; the two are a process group of their own. When our end closes, which the
//! operating system does for a killed process too, the watcher kills the group and with it itself. That needs no unsafe
//! code between fork and exec, no tool beyond `sh`, and works on every Unix. A group's number is not given to others while
//! the watcher lives, so it can never hit a stranger.
//!
//! The same socket carries the control messages of `workerd` the other way. Standard input is the listening socket, and all
//! that `workerd` and the Workers print comes through standard error.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixStream,
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// How long requests in work may take once it is to stop.
const GRACE: Duration = Duration::from_secs(3);
/// How long a start may take.
const START: Duration = Duration::from_secs(60);

/// `$@` is the command. File 3 is the lifeline and carries the control messages.
const LAUNCH: &str = "exec 3<&1 1>&2
(read -r _; kill -KILL 0) <&3 >/dev/null 2>&1 3<&- &
exec \"$@\"";

/// What a process is started with.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) workerd: &'a Path,
    pub(super) config: &'a Path,
    pub(super) listener: &'a TcpListener,
    pub(super) variables: &'a [(String, String)],
}

/// A line of what the process printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Printed {
    /// `log`, `error` ..
    pub(super) level: String,
    pub(super) message: String,
}

/// Why a start failed.
#[derive(Debug)]
pub(super) enum StartError {
    /// The program could not be started at all.
    Spawn(std::io::Error),
    /// It ended before it listened, after printing this.
    Ended(Vec<Printed>),
    /// It did not listen in time.
    Late,
}

/// A process that answers requests.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: Output,
    /// Kept open for as long as the process may live.
    _lifeline: UnixStream,
}

#[derive(Debug)]
struct Output(tokio::io::Lines<BufReader<ChildStderr>>);

impl Output {
    /// The next thing printed; none at the end.
    async fn next(&mut self) -> Option<Printed> {
        // A read error ends the output as its end does: the process is looked after by other means.
        let line = self.0.next_line().await.ok().flatten()?;
        Some(printed(&line))
    }
}

fn printed(line: &str) -> Printed {
    let parsed: Option<Value> = serde_json::from_str(line).ok();
    let field = |name: &str| Some(parsed.as_ref()?.get(name)?.as_str()?.to_owned());
    Printed {
        level: field("level").unwrap_or_else(|| "error".to_owned()),
        message: field("message").unwrap_or_else(|| line.to_owned()),
    }
}

impl Process {
    /// Starts `workerd` and waits until it listens.
    pub(super) async fn start(launch: &Launch<'_>) -> Result<Self, StartError> {
        let (ours, theirs) = StdUnixStream::pair().map_err(StartError::Spawn)?;
        ours.set_nonblocking(true).map_err(StartError::Spawn)?;
        let lifeline = UnixStream::from_std(ours).map_err(StartError::Spawn)?;
        let listener = launch.listener.try_clone().map_err(StartError::Spawn)?;
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, "sh"])
            .arg(launch.workerd)
            .arg("serve")
            .arg(launch.config)
            .args([
                "--experimental",
                "--import-path=/",
                "--socket-fd=entry=0",
                "--control-fd=3",
            ])
            .envs(launch.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(StartError::Spawn)?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| StartError::Spawn(std::io::Error::other("no standard error")))?;
        let mut process = Self {
            child,
            output: Output(BufReader::new(stderr).lines()),
            _lifeline: lifeline,
        };
        match timeout(START, process.listening()).await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(printed)) => Err(StartError::Ended(printed)),
            Err(_) => Err(StartError::Late),
        }
    }

    /// Waits for the control message; what was printed when the process ends instead.
    async fn listening(&mut self) -> Result<(), Vec<Printed>> {
        let mut control = BufReader::new(&mut self._lifeline).lines();
        let mut all = Vec::new();
        loop {
            tokio::select! {
                biased;
                line = control.next_line() => match line {
                    Ok(Some(line)) if line.contains("\"listen\"") => return Ok(()),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                line = self.output.next() => match line {
                    Some(line) => all.push(line),
                    // Only the end of the process ends its output: the watcher's goes elsewhere.
                    None => break,
                },
            }
        }
        Err(all)
    }

    /// The next thing printed, or how the process ended.
    pub(super) async fn next(&mut self) -> Result<Printed, std::io::Result<ExitStatus>> {
        match self.output.next().await {
            Some(line) => Ok(line),
            None => Err(self.child.wait().await),
        }
    }

    /// Ends it: requests in work may finish within a short time. What it still prints goes to `print`.
    pub(super) async fn stop(mut self, print: &(dyn Fn(Printed) + Send + Sync)) {
        let group = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let Some(group) = group else {
            return;
        };
        if kill_process_group(group, Signal::TERM).is_ok() {
            let ended = async {
                while let Ok(line) = self.next().await {
                    print(line);
                }
            };
            if timeout(GRACE, ended).await.is_ok() {
                return;
            }
        }
        // It is not reaped yet, so the group is still its own. An error can only say that it has just ended.
        if kill_process_group(group, Signal::KILL).is_ok() {
            self.child.wait().await.ok();
        }
    }
}
