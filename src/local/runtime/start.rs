//! A runtime from outside: what it is started with, where it answers, how it ends; and the tasks that it consists of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    crons::Scheduler,
    deployments::Deployments,
    event::Event,
    host::{self, Host},
    inside::Inside,
    packages::Places,
    presence::Presence,
    queues::Deliverer,
    reserve::{Reserved, reserve},
    settled::Desk,
    stacks::Stacks,
    supervisor::{FIRST_WAIT, Supervisor},
};
use crate::{
    local::{Cloud, CloudError, logs::Logs},
    util::clock::{Clock, SystemClock},
};

/// How to run Workers.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The data folder of the local cloud.
    pub folder: PathBuf,
    /// A folder around it that outlives the data, where nobody else is to run Workers either.
    pub project: Option<PathBuf>,
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
    removed: CancellationToken,
    tasks: TaskTracker,
}

impl Runtime {
    /// The URL of a Worker.
    #[must_use]
    pub fn url(&self, worker: &str) -> String {
        url(worker, self.address)
    }

    /// Waits until the data is no longer the data that this runs on: it was removed, or put in the place of another. What is
    /// written from then on goes where nobody looks.
    pub async fn removed(&self) {
        self.removed.cancelled().await;
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

pub(super) fn url(worker: &str, address: SocketAddr) -> String {
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
    let reserved = reserve(&options)?;
    start_on(reserved, options, listen)
}

/// The same with what was reserved before.
///
/// # Errors
/// As [`start`].
pub fn start_on(
    reserved: Reserved,
    options: RuntimeOptions,
    listen: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Runtime, CloudError> {
    begin(reserved, options, Arc::new(SystemClock), Arc::new(listen))
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
    let reserved = reserve(&options)?;
    begin(reserved, options, clock, Arc::new(listen))
}

fn begin(
    reserved: Reserved,
    options: RuntimeOptions,
    clock: Arc<dyn Clock>,
    listen: Listener,
) -> Result<Runtime, CloudError> {
    let Reserved {
        listener,
        address,
        locks,
    } = reserved;
    let deployments = Deployments::of(&options.folder)?;
    let stop = CancellationToken::new();
    let removed = CancellationToken::new();
    let presence = Presence::of(locks.watched()?, options.folder.clone())?;
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
        _locks: locks,
    };
    tasks.spawn(supervisor.run());
    tasks.spawn(presence.watch(removed.clone(), stop.clone()));
    Ok(Runtime {
        address,
        stop,
        removed,
        tasks,
    })
}
