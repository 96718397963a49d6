//! The start of a process for what is deployed, without the Workers that keep it from starting.

use std::{path::Path, sync::Arc};

use tokio::process::Command;

use super::{
    config::{self, Config, FOLDERS, Setting, WORKER},
    event::{Event, Running, RuntimeError},
    packages::{self, Packages},
    process::{Launch, Printed, Process, StartError},
    start::{Listener, url},
    supervisor::Supervisor,
};
use crate::{local::api::DeployedWorker, util::fs};

/// The binary that was found, and what it knows.
#[derive(Debug, Clone)]
pub(super) struct Binary {
    pub(super) packages: Packages,
    pub(super) newest_date: String,
}

impl Supervisor {
    /// Starts a process for `workers`, without those that keep it from starting.
    pub(super) async fn begin(
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
            let Some((name, reason)) = complaint(&line.message) else {
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
                .insert(name.to_owned(), (worker.version.clone(), reason.clone()));
            (self.listen)(Event::Broken {
                worker: name.to_owned(),
                reason,
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

    pub(super) fn config(&self, workers: &[DeployedWorker], binary: &Binary) -> Config {
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
}

pub(super) fn print(listen: &Listener, printed: Printed) {
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

/// The Worker that a line of `workerd` complains about, and how.
fn complaint(message: &str) -> Option<(&str, String)> {
    if let Some(rest) = message.strip_prefix("service ") {
        let (name, reason) = rest.strip_prefix(WORKER)?.split_once(": ")?;
        return Some((name, reason.to_owned()));
    }
    let (owner, binding) = message
        .strip_prefix("Worker \"")?
        .split_once("\"'s binding ")?;
    if let Some(name) = owner.strip_prefix(WORKER) {
        return Some((name, format!("its binding {binding}")));
    }
    // What is bound to the engine of a workflow is the class of its Worker.
    let (_, target) = binding.split_once("refers to service \"")?;
    let (name, rest) = target.strip_prefix(WORKER)?.split_once('"')?;
    let class = rest
        .split_once("named entrypoint \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    let reason = match class {
        Some((class, _)) => format!("it does not export the workflow class `{class}`"),
        None => format!("a workflow cannot use it{rest}"),
    };
    Some((name, reason))
}
