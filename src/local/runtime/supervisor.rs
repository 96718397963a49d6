//! Keeps the Workers of a folder running: starts `workerd` when the first one is deployed, again when what is deployed
//! changes or the process dies, and not at all when there is none.
//!
//! The listening socket belongs to this program and is handed to each process, so a connection during a restart waits and is
//! never refused. While there is nothing to run, and after a failure, this program answers on it itself.
//!
//! One Worker that cannot start must not take the others along: the one that `workerd` complains about is replaced by one
//! that says why, and the start is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::{
    process::Command,
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::{self, Config, FOLDERS, Setting, WORKER},
    crons::Scheduler,
    deployments::Deployments,
    event::{Event, Running, RuntimeError},
    gate::Gate,
    host::{self, Host, Link},
    inside::Inside,
    packages::{self, Packages, Places},
    process::{Launch, Printed, Process, StartError},
    queues::Deliverer,
    resume::resume,
    settled::{BrokenWorker, Desk, Settled},
    stacks::Stacks,
};
use crate::{
    local::{Cloud, CloudError, api::DeployedWorker, logs::Logs},
    util::{
        clock::{Clock, SystemClock},
        fs::{self, FsError},
    },
};

/// How often it is looked whether somebody wrote to the control database.
const POLL: Duration = Duration::from_millis(100);
/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A process that ran this long is sound: the next failure starts from the first wait.
const SOUND: Duration = Duration::from_secs(30);

/// How to run Workers.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The data folder of the local cloud.
    pub folder: PathBuf,
    /// The port on 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// Where the packages are.
    pub places: Places,
}

pub(super) type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// A runtime at work. Dropping it stops the process at once; [`Runtime::shutdown`] lets requests end.
#[derive(Debug)]
pub struct Runtime {
    /// Where Workers answer.
    pub address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runtime {
    /// The URL of a Worker.
    #[must_use]
    pub fn url(&self, worker: &str) -> String {
        url(worker, self.address)
    }

    /// Stops and waits until no process is left.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // A panic in a task has dropped the process, which kills it.
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn url(worker: &str, address: SocketAddr) -> String {
    format!("http://{worker}.localhost:{}", address.port())
}

/// Takes the port and looks after Workers from now on. `listen` hears what happens.
///
/// # Errors
/// [`CloudError`] when the port cannot be had or the folder is none.
pub fn start(
    options: RuntimeOptions,
    listen: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Runtime, CloudError> {
    start_by(options, Arc::new(SystemClock), listen)
}

/// The same with the clock that says when crons are due.
///
/// # Errors
/// As [`start`].
pub fn start_by(
    options: RuntimeOptions,
    clock: Arc<dyn Clock>,
    listen: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Runtime, CloudError> {
    let port = options.port;
    let refused = |source| CloudError::Listen { port, source };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let lock = lock(&options.folder)?;
    let deployments = Deployments::of(&options.folder)?;
    let stop = CancellationToken::new();
    let listen: Listener = Arc::new(listen);
    let (host_listener, link) = host::listen(&options.folder)?;
    let inside = Inside::new(address, link.token.clone());
    let inside = Arc::new(inside.map_err(|error| CloudError::Serve {
        source: std::io::Error::other(error),
    })?);
    let sent = Arc::new(Notify::new());
    let desk = Arc::new(Desk::default());
    let tasks = TaskTracker::new();
    let host = Arc::new(Host {
        cloud: Cloud::open(&options.folder)?,
        inside: Arc::clone(&inside),
        sent: Arc::clone(&sent),
        logs: Logs::of(&options.folder),
        stacks: Stacks::default(),
        listen: Arc::clone(&listen),
        desk: Arc::clone(&desk),
        token: link.token.clone(),
    });
    tasks.spawn(host::serve(
        host,
        host_listener,
        options.folder.clone(),
        stop.clone(),
    ));
    let scheduler = Scheduler {
        deployments: Deployments::of(&options.folder)?,
        inside: Arc::clone(&inside),
        listen: Arc::clone(&listen),
        clock,
        stop: stop.clone(),
    };
    tasks.spawn(scheduler.run());
    let deliverer = Deliverer {
        deployments: Deployments::of(&options.folder)?,
        inside: Arc::clone(&inside),
        sent,
        listen: Arc::clone(&listen),
        stop: stop.clone(),
    };
    tasks.spawn(deliverer.run());
    let supervisor = Supervisor {
        inside,
        options,
        address,
        listener,
        link,
        deployments,
        listen,
        desk,
        stop: stop.clone(),
        binary: None,
        broken: BTreeMap::new(),
        wait: FIRST_WAIT,
        told: BTreeSet::new(),
        counter: 0,
        ticket: 0,
        _lock: lock,
    };
    tasks.spawn(supervisor.run());
    Ok(Runtime {
        address,
        stop,
        tasks,
    })
}

/// Takes the folder for this process: two runtimes would not see each other's writes to one storage object.
fn lock(folder: &Path) -> Result<File, CloudError> {
    let runtime = folder.join("runtime");
    fs::create_dir_all(&runtime)?;
    let path = runtime.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|source| FsError::new("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(CloudError::Served {
            folder: folder.to_owned(),
        }),
        Err(error) => Err(FsError::new("lock", &path, error.into()).into()),
    }
}

/// The binary that was found, and what it knows.
#[derive(Debug, Clone)]
struct Binary {
    packages: Packages,
    newest_date: String,
}

/// Why a run of one configuration is over.
enum Next {
    /// What is deployed changed.
    Changed,
    /// The user wants an end.
    Stop,
    /// It failed, and is to be tried again after a wait.
    Failed(RuntimeError),
}

struct Supervisor {
    inside: Arc<Inside>,
    options: RuntimeOptions,
    address: SocketAddr,
    listener: TcpListener,
    link: Link,
    deployments: Deployments,
    listen: Listener,
    /// Where those wait who deployed.
    desk: Arc<Desk>,
    stop: CancellationToken,
    binary: Option<Binary>,
    /// Versions that cannot start, by the names of their services: the version that could not, and the reason.
    broken: BTreeMap<String, (String, String)>,
    wait: Duration,
    /// What the user was told already.
    told: BTreeSet<String>,
    /// The counter of writes before what is deployed was read.
    counter: i64,
    /// The newest question before it was read.
    ticket: u64,
    /// Held for as long as this runs.
    _lock: File,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            match self.once().await {
                Next::Stop => return,
                Next::Changed => self.wait = FIRST_WAIT,
                Next::Failed(error) => {
                    let page = format!("The Workers do not run: {error}\n");
                    // What npm could not obtain now it will not obtain in ten seconds: only a new deployment tries again.
                    let wait = match error {
                        RuntimeError::Package(_) => None,
                        _ => Some(self.wait),
                    };
                    // The first end of a process that did answer is over in a moment, in which requests rather wait.
                    let brief =
                        matches!(error, RuntimeError::Ended { .. }) && self.wait == FIRST_WAIT;
                    let reason = error.to_string();
                    (self.listen)(Event::Failed(error));
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                    if brief {
                        sleep(FIRST_WAIT).await;
                        continue;
                    }
                    let settled = Settled::Failed { reason };
                    self.desk.answer(self.ticket, settled.clone());
                    let pause = self.pause(wait, &settled);
                    self.answer(StatusCode::SERVICE_UNAVAILABLE, page, pause)
                        .await;
                    if self.stop.is_cancelled() {
                        return;
                    }
                }
            }
        }
    }

    /// Runs what is deployed now until that changes.
    async fn once(&mut self) -> Next {
        self.ticket = self.desk.newest();
        self.counter = match self.deployments.counter().await {
            Ok(counter) => counter,
            Err(error) => return Next::Failed(error.into()),
        };
        let workers = match self.deployments.workers().await {
            Ok(workers) => workers,
            Err(error) => return Next::Failed(error.into()),
        };
        if workers.is_empty() {
            self.broken.clear();
            self.desk.answer(self.ticket, self.settled());
            let page =
                "No Worker is deployed here yet; `alch run` deploys the script of a folder.\n";
            let changed = self.changed(None);
            self.answer(StatusCode::NOT_FOUND, page.to_owned(), changed)
                .await;
            return if self.stop.is_cancelled() {
                Next::Stop
            } else {
                Next::Changed
            };
        }
        let stop = self.stop.clone();
        let begun = tokio::select! {
            // What has begun is dropped, which kills it.
            () = stop.cancelled() => return Next::Stop,
            begun = self.begin(&workers) => begun,
        };
        match begun {
            Ok((process, config)) => self.attend(process, &config, &workers).await,
            Err(error) => Next::Failed(error),
        }
    }

    /// Waits for the time to try again: after `wait`, when there is one, and when anybody deploys. Meanwhile `settled` is
    /// what became of what is deployed.
    async fn pause(&self, wait: Option<Duration>, settled: &Settled) {
        let over = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let written = async {
            let mut ticket = self.ticket;
            loop {
                let asked = self.desk.newest();
                if matches!(self.deployments.counter().await, Ok(now) if now != self.counter) {
                    break;
                }
                self.desk.answer(asked, settled.clone());
                ticket = ticket.max(asked);
                self.next_look(ticket).await;
            }
        };
        tokio::select! {
            () = over => {}
            () = written => {}
        }
    }

    /// Waits until what is deployed is no longer what `config` was written for.
    async fn changed(&self, config: Option<&Config>) {
        let mut counter = self.counter;
        let mut ticket = self.ticket;
        loop {
            self.next_look(ticket).await;
            let asked = self.desk.newest();
            // A database that cannot be read for a moment changes nothing; the next look decides.
            let Ok(now) = self.deployments.counter().await else {
                sleep(POLL).await;
                continue;
            };
            if now == counter {
                ticket = asked;
                self.desk.answer(ticket, self.settled());
                continue;
            }
            let Ok(workers) = self.deployments.workers().await else {
                sleep(POLL).await;
                continue;
            };
            counter = now;
            let same = match (config, &self.binary) {
                (Some(config), Some(binary)) => {
                    self.config(&workers, binary).fingerprint() == config.fingerprint()
                }
                _ => workers.is_empty(),
            };
            if !same {
                return;
            }
            ticket = asked;
            self.desk.answer(ticket, self.settled());
        }
    }

    /// Waits for the next look at the control database: soon, and at once when somebody asks who deployed.
    async fn next_look(&self, ticket: u64) {
        tokio::select! {
            () = sleep(POLL) => {}
            () = self.desk.newer_than(ticket) => {}
        }
    }

    /// What became of what is deployed when it runs, or when there is nothing to run.
    fn settled(&self) -> Settled {
        let broken = self
            .broken
            .iter()
            .map(|(worker, (_, reason))| BrokenWorker {
                worker: worker.clone(),
                reason: reason.clone(),
            });
        Settled::Serving {
            broken: broken.collect(),
        }
    }

    async fn attend(
        &mut self,
        mut process: Process,
        config: &Config,
        workers: &[DeployedWorker],
    ) -> Next {
        let began = Instant::now();
        let print = |printed: Printed| print(&self.listen, printed);
        let next = {
            let changed = self.changed(Some(config));
            tokio::pin!(changed);
            let resumed = resume(&self.inside, &self.options.folder, workers);
            tokio::pin!(resumed);
            let mut sleeping = true;
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => break Next::Stop,
                    () = &mut changed => break Next::Changed,
                    () = &mut resumed, if sleeping => sleeping = false,
                    line = process.next() => match line {
                        Ok(line) => print(line),
                        Err(ended) => {
                            let how = match ended {
                                Ok(status) => status.to_string(),
                                Err(error) => error.to_string(),
                            };
                            break Next::Failed(RuntimeError::Ended { how });
                        }
                    },
                }
            }
        };
        if !matches!(next, Next::Failed(_)) {
            let _gate = Gate::close(&self.listener);
            process.stop(&print).await;
        } else if began.elapsed() >= SOUND {
            self.wait = FIRST_WAIT;
        }
        next
    }

    /// Starts a process for `workers`, without those that keep it from starting.
    async fn begin(
        &mut self,
        workers: &[DeployedWorker],
    ) -> Result<(Process, Config), RuntimeError> {
        let binary = self.binary().await?;
        self.broken.retain(|name, (version, _)| {
            workers
                .iter()
                .flat_map(DeployedWorker::versions)
                .any(|(key, worker)| key == *name && worker.version == *version)
        });
        let folder = self.options.folder.join("runtime");
        fs::create_dir_all(&folder)?;
        for data in FOLDERS {
            fs::create_dir_all(&self.options.folder.join(data))?;
        }
        let path = folder.join("config.capnp");
        loop {
            let config = self.config(workers, &binary);
            fs::write_private(&path, config.text.as_bytes())?;
            let launch = Launch {
                workerd: &binary.packages.workerd,
                config: &path,
                listener: &self.listener,
                variables: &config.variables,
            };
            let failure = match Process::start(&launch).await {
                Ok(process) => {
                    self.announce(workers, &config);
                    self.desk.answer(self.ticket, self.settled());
                    return Ok((process, config));
                }
                Err(failure) => failure,
            };
            let reason = match failure {
                StartError::Spawn(error) => error.to_string(),
                StartError::Late => "it does not answer".to_owned(),
                StartError::Ended(printed) => match self.blame(workers, &printed) {
                    true => continue,
                    false => told(&printed),
                },
            };
            return Err(RuntimeError::Start {
                path: binary.packages.workerd,
                reason,
            });
        }
    }

    /// Finds the Workers that `workerd` complained about. Whether there is a new one among them.
    fn blame(&mut self, workers: &[DeployedWorker], printed: &[Printed]) -> bool {
        let mut any = false;
        for line in printed {
            let complaint = line
                .message
                .strip_prefix("service ")
                .and_then(|rest| rest.strip_prefix(WORKER))
                .and_then(|rest| rest.split_once(": "));
            let Some((name, reason)) = complaint else {
                continue;
            };
            let mut versions = workers.iter().flat_map(DeployedWorker::versions);
            let Some((_, worker)) = versions.find(|(key, _)| key == name) else {
                continue;
            };
            if self.broken.contains_key(name) {
                continue;
            }
            any = true;
            self.broken
                .insert(name.to_owned(), (worker.version.clone(), reason.to_owned()));
            (self.listen)(Event::Broken {
                worker: name.to_owned(),
                reason: reason.to_owned(),
            });
        }
        any
    }

    fn announce(&mut self, workers: &[DeployedWorker], config: &Config) {
        for notice in &config.notices {
            if self.told.insert(notice.clone()) {
                (self.listen)(Event::Notice(notice.clone()));
            }
        }
        let running = workers
            .iter()
            .filter(|worker| !self.broken.contains_key(&worker.name))
            .map(|worker| Running {
                name: worker.name.clone(),
                url: url(&worker.name, self.address),
            })
            .collect::<Vec<_>>();
        if !running.is_empty() {
            (self.listen)(Event::Running(running));
        }
    }

    fn config(&self, workers: &[DeployedWorker], binary: &Binary) -> Config {
        // A new version gets a new chance.
        let broken = workers
            .iter()
            .flat_map(DeployedWorker::versions)
            .filter_map(|(key, worker)| {
                let (version, reason) = self.broken.get(&key)?;
                (*version == worker.version).then(|| (key, reason.clone()))
            })
            .collect();
        config::write(
            workers,
            &Setting {
                folder: &self.options.folder,
                simulators: &binary.packages.simulators,
                newest_date: &binary.newest_date,
                broken: &broken,
                link: &self.link,
            },
        )
    }

    /// The binary, found and obtained at the first use.
    async fn binary(&mut self) -> Result<Binary, RuntimeError> {
        if let Some(binary) = &self.binary {
            return Ok(binary.clone());
        }
        let listen = Arc::clone(&self.listen);
        let progress = move |line| listen(Event::Notice(line));
        let obtain = packages::obtain(&self.options.places, &progress);
        let packages = obtain.await?;
        let newest_date = newest_date(&packages.workerd).await?;
        let binary = Binary {
            packages,
            newest_date,
        };
        self.binary = Some(binary.clone());
        Ok(binary)
    }

    /// Answers every request with a page until `done`.
    async fn answer(&self, status: StatusCode, page: String, done: impl Future<Output = ()>) {
        let served = self
            .listener
            .try_clone()
            .and_then(tokio::net::TcpListener::from_std);
        // Without it, requests wait, which is no harm.
        let Ok(listener) = served else {
            tokio::select! {
                () = done => {}
                () = self.stop.cancelled() => {}
            }
            return;
        };
        // Closed after the answer: on a connection that stays, this program would answer for ever.
        let headers = [(header::CONNECTION, "close")];
        let router = Router::new().fallback(move || async move { (status, headers, page) });
        tokio::select! {
            () = done => {}
            () = self.stop.cancelled() => {}
            // Ends only with `done`: errors of single connections do not end it.
            _ = axum::serve(listener, router).into_future() => {}
        }
    }
}

fn print(listen: &Listener, printed: Printed) {
    if is_waiting(&printed.message) {
        return;
    }
    listen(Event::Printed {
        level: printed.level,
        message: printed.message,
    });
}

/// Whether a simulator or `workerd` itself complains that a file is locked: the request is sent again until it is not.
fn is_waiting(message: &str) -> bool {
    ["Error: NOSENTRY database is locked", "e = workerd/"]
        .iter()
        .any(|start| message.starts_with(start))
        && message.contains("database is locked: SQLITE_BUSY")
}

fn told(printed: &[Printed]) -> String {
    let lines: Vec<&str> = printed.iter().map(|line| line.message.as_str()).collect();
    if lines.is_empty() {
        return "it ended without a word".to_owned();
    }
    lines.join("\n")
}

/// The newest compatibility date that a binary knows: `workerd 2026-07-30`.
async fn newest_date(workerd: &Path) -> Result<String, RuntimeError> {
    let failed = |reason: String| RuntimeError::Start {
        path: workerd.to_owned(),
        reason,
    };
    let output = Command::new(workerd)
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace()
        .find(|word| word.parse::<jiff::civil::Date>().is_ok())
        .map(str::to_owned)
        .ok_or_else(|| failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
