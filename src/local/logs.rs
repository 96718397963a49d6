//! What Workers said: console output, exceptions and outcomes, one line of JSON for each event, in two files of bounded size.
//!
//! A tail Worker hands the events over; this program writes them, so that `alch logs` in another process finds the past
//! minutes whether or not anything runs now. The files belong to the user alone: what Workers print may be private.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{sync::broadcast, time::timeout};

use crate::util::{
    fs::{self, FsError, FsResult},
    text::plural,
};

/// The size at which a file is put aside. With the one before, twice as much is kept.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;
/// The longest line; what a Worker printed beyond that is left out.
const LINE_LIMIT: usize = 256 * 1024;
/// How many records are kept in memory.
const RECENT: usize = 64;

/// What happened in one event of a Worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it began, in milliseconds since 1970.
    pub time: i64,
    /// The Worker.
    pub worker: String,
    /// Its version.
    pub version: String,
    /// The event as Cloudflare's tails show it, stacks mapped to the source where there is a source map.
    pub item: Value,
}

impl Record {
    /// The message of its first exception, as `TypeError: text`, with the stack below it.
    #[must_use]
    pub fn exception(&self) -> Option<String> {
        self.exceptions().next()
    }

    fn exceptions(&self) -> impl Iterator<Item = String> {
        array(&self.item, "exceptions").iter().map(|exception| {
            let field = |name: &str| exception[name].as_str().unwrap_or_default();
            let mut text = format!("{}: {}", field("name"), field("message"));
            let stack = field("stack").trim_end();
            if !stack.is_empty() {
                text.push('\n');
                text.push_str(stack);
            }
            text
        })
    }

    /// The record for people, without a line break at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let time = jiff::Timestamp::from_millisecond(self.time)
            .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_default();
        let mut out = format!("{time}  {}  {}", self.worker, self.subject());
        for entry in array(&self.item, "logs") {
            let level = entry["level"].as_str().unwrap_or("log");
            add(&mut out, level, &printed(&entry["message"]));
        }
        for exception in self.exceptions() {
            add(&mut out, "error", &exception);
        }
        out
    }

    /// What the event was, and how it ended.
    fn subject(&self) -> String {
        let event = &self.item["event"];
        let outcome = self.item["outcome"].as_str().unwrap_or("unknown");
        let what = if let Some(method) = event.pointer("/request/method").and_then(Value::as_str) {
            let url = event.pointer("/request/url").and_then(Value::as_str);
            format!("{method} {}", url.unwrap_or_default())
        } else if let Some(cron) = event["cron"].as_str() {
            format!("schedule {cron}")
        } else if let Some(queue) = event["queue"].as_str() {
            let size = event["batchSize"].as_u64().unwrap_or_default();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            format!("queue {queue}, {}", plural(size, "message"))
        } else if let Some(message) = event["message"].as_str() {
            // The tail speaks of itself: it leaves events out, for instance.
            return message.to_owned();
        } else if event.get("scheduledTime").is_some() {
            "alarm".to_owned()
        } else if let Some(method) = event["rpcMethod"].as_str() {
            format!("call {method}")
        } else {
            "event".to_owned()
        };
        match event.pointer("/response/status") {
            Some(status) => format!("{what}  {status} {outcome}"),
            None => format!("{what}  {outcome}"),
        }
    }
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// The arguments of a call of `console`: text as it is, all else as JSON.
fn printed(message: &Value) -> String {
    let one = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match message {
        Value::Array(arguments) => {
            let shown: Vec<String> = arguments.iter().map(one).collect();
            shown.join(" ")
        }
        other => one(other),
    }
}

fn add(out: &mut String, level: &str, text: &str) {
    let mut label = level;
    for line in text.lines() {
        out.push_str(&format!("\n    {label:<6} {line}"));
        label = "";
    }
}

/// Where records go while the runtime is up.
#[derive(Debug)]
pub(in crate::local) struct Logs {
    folder: PathBuf,
    recent: Mutex<VecDeque<Arc<Record>>>,
    news: broadcast::Sender<Arc<Record>>,
}

impl Logs {
    pub(in crate::local) fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            recent: Mutex::default(),
            news: broadcast::channel(RECENT).0,
        }
    }

    /// Keeps records; blocks while it writes.
    pub(in crate::local) fn keep(&self, records: Vec<Record>) -> FsResult<()> {
        let mut lines = Vec::new();
        let mut kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for mut record in records {
            lines.extend(line(&mut record));
            let record = Arc::new(record);
            if kept.len() == RECENT {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&record));
            // An error says that nobody waits.
            self.news.send(record).ok();
        }
        // One writer at a time, so that only one puts a file aside.
        append(&self.folder, &lines)
    }

    /// The newest record that `wanted` says, waiting a little for one that is on its way.
    pub(in crate::local) async fn find(
        &self,
        patience: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> Option<Arc<Record>> {
        let mut news = self.news.subscribe();
        let known = {
            let kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().rev().find(|record| wanted(record)).cloned()
        };
        if known.is_some() {
            return known;
        }
        let coming = async {
            loop {
                match news.recv().await {
                    Ok(record) if wanted(&record) => return Some(record),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        timeout(patience, coming).await.ok().flatten()
    }
}

/// The line of a record, which is cut when it is too long.
fn line(record: &mut Record) -> Vec<u8> {
    loop {
        let mut line = serde_json::to_vec(record).unwrap_or_default();
        if line.len() < LINE_LIMIT {
            line.push(b'\n');
            return line;
        }
        record.item["truncated"] = json!(true);
        match record.item["logs"].as_array_mut() {
            Some(logs) if !logs.is_empty() => logs.truncate(logs.len() / 2),
            // It is not the console output that is so long.
            _ => record.item = json!({ "truncated": true, "outcome": record.item["outcome"] }),
        }
    }
}

fn current(folder: &Path) -> PathBuf {
    folder.join("runtime").join("logs.ndjson")
}

fn before(folder: &Path) -> PathBuf {
    folder.join("runtime").join("logs.1.ndjson")
}

fn append(folder: &Path, lines: &[u8]) -> FsResult<()> {
    let path = current(folder);
    let failed = |source| FsError::new("write", &path, source);
    let open = || {
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
    };
    let mut file = open().map_err(failed)?;
    if file.metadata().map_err(failed)?.len() >= FILE_LIMIT {
        fs::rename(&path, &before(folder))?;
        file = open().map_err(failed)?;
    }
    file.write_all(lines).map_err(failed)
}

/// Reads records in the order in which they were written, from the oldest that is kept, and then what is added.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    /// The files that are yet to be read to their end.
    files: VecDeque<File>,
    /// A line that is not complete yet.
    rest: Vec<u8>,
}

impl Follower {
    /// A reader of the records of a data folder; blocks, as its other methods do.
    ///
    /// # Errors
    /// When a file is there and cannot be opened.
    pub fn open(folder: &Path) -> FsResult<Self> {
        let mut follower = Self {
            folder: folder.to_owned(),
            files: VecDeque::new(),
            rest: Vec::new(),
        };
        for path in [before(folder), current(folder)] {
            follower.files.extend(opened(&path)?);
        }
        Ok(follower)
    }

    /// What has been added since the last call.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn more(&mut self) -> FsResult<Vec<Record>> {
        let path = current(&self.folder);
        let failed = |source| FsError::new("read", &path, source);
        let mut records = Vec::new();
        loop {
            if let Some(file) = self.files.front_mut() {
                // Bounded: a file is put aside at its limit.
                file.read_to_end(&mut self.rest).map_err(failed)?;
                self.complete(&mut records);
            }
            if self.files.len() > 1 {
                self.files.pop_front();
                continue;
            }
            let Some(newest) = opened(&path)? else {
                return Ok(records);
            };
            let inode = |file: &File| file.metadata().map(|data| data.ino()).map_err(failed);
            match self.files.front() {
                Some(file) if inode(file)? == inode(&newest)? => return Ok(records),
                _ => self.files.push_back(newest),
            }
        }
    }

    /// Takes the complete lines out of what was read. A line that is no record was cut by a crash.
    fn complete(&mut self, records: &mut Vec<Record>) {
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        records.extend(
            lines
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok()),
        );
    }
}

fn opened(path: &Path) -> FsResult<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FsError::new("open", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use snapbox::str;

    use super::*;

    fn record(time: i64, text: &str) -> Record {
        Record {
            time,
            worker: "api".to_owned(),
            version: "v".to_owned(),
            item: json!({
                "outcome": "exception",
                "event": {"request": {"method": "GET", "url": "http://api.localhost/a"}},
                "logs": [{"level": "log", "message": [text, {"a": 1}]}, {"level": "warn", "message": ["two\nlines"]}],
                "exceptions": [{"name": "TypeError", "message": "planned", "stack": "    at a (src/a.ts:1:2)\n"}],
            }),
        }
    }

    #[test]
    fn a_record_is_read_by_people() {
        let text = record(1_795_283_470_995, "hello").text();
        snapbox::Assert::new().action_env("SNAPSHOTS").eq(
            text,
            str![[r#"
2026-11-21T17:51:10Z  api  GET http://api.localhost/a  exception
    log    hello {"a":1}
    warn   two
           lines
    error  TypeError: planned
               at a (src/a.ts:1:2)
"#]],
        );
    }

    #[test]
    fn a_reader_sees_all_that_is_kept_and_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(&folder.path().join("runtime")).unwrap();
        let logs = Logs::of(folder.path());
        logs.keep(vec![record(1, "a")]).unwrap();
        let mut follower = Follower::open(folder.path()).unwrap();
        let times = |records: Vec<Record>| -> Vec<i64> {
            records.iter().map(|record| record.time).collect()
        };
        assert_eq!(times(follower.more().unwrap()), [1]);
        assert!(follower.more().unwrap().is_empty());
        // Long enough for files to be put aside in between, twice.
        let long = "x".repeat(LINE_LIMIT / 2);
        let mut written = Vec::new();
        let mut seen = Vec::new();
        for time in 2..80 {
            logs.keep(vec![record(time, &long)]).unwrap();
            written.push(time);
            if time % 7 == 0 {
                seen.extend(times(follower.more().unwrap()));
            }
        }
        seen.extend(times(follower.more().unwrap()));
        assert_eq!(seen, written);
        let kept = times(Follower::open(folder.path()).unwrap().more().unwrap());
        assert!(kept.len() > 30 && written.ends_with(&kept), "{kept:?}");
    }

    #[test]
    fn a_line_has_an_end() {
        let mut long = record(1, &"x".repeat(LINE_LIMIT));
        let text = String::from_utf8(line(&mut long)).unwrap();
        assert!(text.len() <= LINE_LIMIT && text.contains("\"truncated\":true"));
        let mut endless = record(1, "");
        endless.item["exceptions"][0]["stack"] = json!("x".repeat(LINE_LIMIT));
        assert!(line(&mut endless).len() <= LINE_LIMIT);
    }
}
