//! The log of a run that changes something: its events as NDJSON in `logs/<deployment id>.ndjson` of its stage.
//!
//! The file is made at the first change, so a run without changes writes nothing. Which file that is, the store's layout
//! says; texts arrive here without secrets.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    engine::Event,
    model::StagePath,
    util::fs::{self, FsError},
};

/// Where the log of a deployment belongs.
pub type LogPath = Arc<dyn Fn(&StagePath, &str) -> PathBuf + Send + Sync>;

/// Logs that a stage keeps; older ones go when a new one is made.
const KEPT: usize = 100;

/// What was said before the first change is kept up to this many bytes.
const HEAD: usize = 64 * 1024;

/// The log of the run that goes on, if one does.
#[derive(Default)]
pub(super) struct RunLog {
    path: Option<LogPath>,
    state: State,
}

#[derive(Default)]
enum State {
    /// No run that could change something.
    #[default]
    Off,
    /// Nothing has changed yet.
    Waiting { path: PathBuf, head: String },
    /// Something has.
    Open {
        path: PathBuf,
        file: BufWriter<File>,
    },
}

impl RunLog {
    /// From now on runs are logged there.
    pub(super) fn keep(&mut self, path: LogPath) {
        self.path = Some(path);
    }

    /// Whether lines are wanted.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    /// Looks at an event before its line is made: a run's start switches the log on, its first change opens the file.
    pub(super) fn before(&mut self, event: &Event) -> Result<(), FsError> {
        match event {
            Event::RunStarted {
                stage,
                phase,
                deployment,
                ..
            } if phase.writes() => {
                if let Some(path) = &self.path {
                    self.state = State::Waiting {
                        path: path(stage, deployment),
                        head: String::new(),
                    };
                }
            }
            Event::Started { .. } | Event::Failed(_) => {
                if let State::Waiting { path, head } = &mut self.state {
                    let (path, head) = (std::mem::take(path), std::mem::take(head));
                    self.state = State::Off;
                    let mut file = BufWriter::new(open(&path)?);
                    file.write_all(head.as_bytes())
                        .map_err(|source| FsError::new("write", &path, source))?;
                    self.state = State::Open { path, file };
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes one line, without its line break.
    pub(super) fn line(&mut self, text: &str) -> Result<(), FsError> {
        match &mut self.state {
            State::Off => {}
            State::Waiting { head, .. } => {
                if head.len() + text.len() < HEAD {
                    head.push_str(text);
                    head.push('\n');
                }
            }
            State::Open { file, .. } => {
                let written = file
                    .write_all(text.as_bytes())
                    .and_then(|()| file.write_all(b"\n"));
                self.check(written)?;
            }
        }
        Ok(())
    }

    /// What is in memory goes to the file: when nothing else is waiting, and at the end.
    pub(super) fn flush(&mut self) -> Result<(), FsError> {
        let State::Open { file, .. } = &mut self.state else {
            return Ok(());
        };
        let written = file.flush();
        self.check(written)
    }

    /// A log that cannot be written ends, and the run does not.
    fn check(&mut self, written: io::Result<()>) -> Result<(), FsError> {
        let Err(source) = written else {
            return Ok(());
        };
        match std::mem::take(&mut self.state) {
            State::Open { path, .. } => Err(FsError::new("write", &path, source)),
            State::Off | State::Waiting { .. } => Ok(()),
        }
    }
}

/// Makes the file, after those that are too many have gone. Names are ULIDs, so the oldest come first.
fn open(path: &Path) -> Result<File, FsError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        let logs = fs::list(folder)?;
        for old in logs.iter().take((logs.len() + 1).saturating_sub(KEPT)) {
            fs::remove_file(old)?;
        }
    }
    File::create(path).map_err(|source| FsError::new("write", path, source))
}
