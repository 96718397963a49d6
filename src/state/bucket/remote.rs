//! Requests to the bucket: bounded retries with back-off, errors in our words, and conditional writes whose outcome is found
//! out when the answer was lost.
//!
//! A request with all its tries ends within its patience, which is half a lease at most, and soon after the user wants no more
//! of it. Before each try of a write, whoever holds the stage is asked whether it still does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion, path::Path,
};

use super::stop::Stop;
use crate::{
    state::{BucketFault, StateError},
    util::{clock::Clock, ids::Ids, text},
};

/// How often a request is tried at most.
const TRIES: u32 = 8;
/// The first pause; each one is twice the one before, and a random part of it is left out.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is done with an object, as messages say it.
const READ: &str = "read";
const WRITE: &str = "write";
const DELETE: &str = "delete";
const LIST: &str = "list";

/// How many objects are read at once.
const READS_AT_ONCE: usize = 8;

/// An object's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    /// A version that no object has.
    pub(super) fn nobodys() -> Self {
        Self("\"00000000000000000000000000000000\"".to_owned())
    }
}

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) bytes: Bytes,
    pub(super) tag: Tag,
    /// By the clock of the bucket.
    pub(super) modified: Timestamp,
}

/// What must be true for a write to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expect {
    /// There is no such object.
    Absent,
    /// It has this version.
    Version(Tag),
}

impl Expect {
    /// That the object is as it was seen.
    pub(super) fn as_seen(seen: Option<&Seen>) -> Self {
        match seen {
            None => Self::Absent,
            Some(seen) => Self::Version(seen.tag.clone()),
        }
    }
}

/// What became of a conditional write.
#[derive(Debug)]
pub(super) enum Put {
    /// It was done.
    Done(Tag),
    /// The bucket refused it; what is there instead.
    Refused(Option<Seen>),
}

/// How many requests were made, by what they do.
#[derive(Debug, Default)]
pub struct Requests {
    reads: AtomicU64,
    writes: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
}

impl Requests {
    /// Reads, writes, lists and deletes so far, tries that failed included. The deletion of several objects counts as one.
    #[must_use]
    pub fn counts(&self) -> [u64; 4] {
        [&self.reads, &self.writes, &self.lists, &self.deletes]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

/// What allows writes.
#[async_trait]
pub(super) trait Guard: Send + Sync {
    /// That a write may be sent now.
    ///
    /// # Errors
    /// Why it may not.
    async fn ensure(&self) -> Result<(), StateError>;
}

/// A bucket, as this module asks for it.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    /// `s3://bucket`, for messages.
    pub(super) label: Arc<str>,
    /// How long a request may take, all its tries included.
    pub(super) patience: Duration,
    pub(super) requests: Arc<Requests>,
    /// When nobody waits for it any more.
    pub(super) stop: Stop,
    /// Asked before each try of a write.
    pub(super) guard: Option<Arc<dyn Guard>>,
}

/// Why a try came to nothing.
enum Trouble {
    /// Another try may do.
    Passing(String),
    /// A precondition was not met.
    Refused,
    /// It will be the same the next time.
    Lasting(BucketFault, String),
}

/// Why a try has no answer, or there is no other try.
enum End {
    /// It took too long.
    Late,
    /// The user does not want to wait.
    Stopped,
}

impl Remote {
    /// The same bucket for the writes of whoever has a hold on a stage.
    pub(super) fn guarded(&self, guard: Arc<dyn Guard>) -> Self {
        Self {
            guard: Some(guard),
            ..self.clone()
        }
    }

    async fn ensure(&self) -> Result<(), StateError> {
        match &self.guard {
            Some(guard) => guard.ensure().await,
            None => Ok(()),
        }
    }

    /// The same before another try of a request that was begun at `begin`: the tries so far may have lasted for longer than what
    /// was left of the lease.
    async fn ensure_again(
        &self,
        operation: &'static str,
        key: &Path,
        begin: Duration,
    ) -> Result<(), StateError> {
        let passed = self.clock.monotonic().saturating_sub(begin);
        tokio::select! {
            biased;
            ensured = self.ensure() => ensured,
            () = self.clock.sleep(self.patience.saturating_sub(passed)) => {
                Err(self.given_up(operation, key, &End::Late, None))
            }
        }
    }

    /// A key as messages name it.
    pub(super) fn place(&self, key: &Path) -> String {
        format!("{}/{key}", self.label)
    }

    fn error(
        &self,
        operation: &'static str,
        key: &Path,
        fault: BucketFault,
        problem: String,
    ) -> StateError {
        StateError::Bucket {
            operation,
            place: self.place(key),
            fault,
            problem,
        }
    }

    /// The error that a request came to nothing: for want of an answer, or because the user wanted no more of it.
    fn given_up(
        &self,
        operation: &'static str,
        key: &Path,
        end: &End,
        problem: Option<String>,
    ) -> StateError {
        let (fault, problem) = match (end, problem) {
            (End::Late, Some(problem)) => (BucketFault::Unreachable, problem),
            (End::Late, None) => (BucketFault::Unreachable, self.silence()),
            (End::Stopped, Some(problem)) => (
                BucketFault::Stopped,
                format!("stopped before it was tried again ({problem})"),
            ),
            (End::Stopped, None) => (
                BucketFault::Stopped,
                "stopped before the bucket answered".to_owned(),
            ),
        };
        self.error(operation, key, fault, problem)
    }

    fn silence(&self) -> String {
        format!("no answer within {}", text::duration(self.patience))
    }

    /// One try of a request that was begun at `begin`.
    async fn attempt<T>(
        &self,
        begin: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<object_store::Result<T>, End> {
        let clock = self.clock.as_ref();
        if self.stop.is_over(clock) {
            return Err(End::Stopped);
        }
        let passed = clock.monotonic().saturating_sub(begin);
        tokio::select! {
            biased;
            answer = request => Ok(answer),
            () = self.stop.over(clock) => Err(End::Stopped),
            () = clock.sleep(self.patience.saturating_sub(passed)) => Err(End::Late),
        }
    }

    /// A pause before the next try, unless there has been enough trying.
    async fn pause(&self, tries: u32, begin: Duration) -> Result<(), End> {
        let mut random = [0_u8; 1];
        self.ids.fill(&mut random);
        let full = FIRST_PAUSE
            .saturating_mul(1 << tries.min(10))
            .min(LONGEST_PAUSE);
        let pause = full / 2 + full * u32::from(random[0]) / 512;
        let passed = self.clock.monotonic().saturating_sub(begin);
        if self.stop.is_asked() {
            return Err(End::Stopped);
        }
        if tries + 1 >= TRIES || passed + pause > self.patience {
            return Err(End::Late);
        }
        tokio::select! {
            biased;
            () = self.stop.asked() => Err(End::Stopped),
            () = self.clock.sleep(pause) => Ok(()),
        }
    }

    /// Asks until there is an answer that lasts, or the time since `begin` is up.
    async fn ask<T, F>(
        &self,
        operation: &'static str,
        key: &Path,
        count: &AtomicU64,
        begin: Duration,
        mut request: impl FnMut() -> F,
    ) -> Result<Option<T>, StateError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let changes = matches!(operation, WRITE | DELETE);
        let mut tries = 0;
        loop {
            if changes && tries > 0 {
                self.ensure_again(operation, key, begin).await?;
            }
            count.fetch_add(1, Ordering::Relaxed);
            let problem = match self.attempt(begin, request()).await {
                Err(end) => return Err(self.given_up(operation, key, &end, None)),
                Ok(Ok(value)) => return Ok(Some(value)),
                Ok(Err(error)) if is_missing_object(&error) => return Ok(None),
                Ok(Err(error)) => match trouble(&error) {
                    Trouble::Passing(problem) => problem,
                    Trouble::Refused => {
                        let problem = "an unexpected refusal".to_owned();
                        return Err(self.error(operation, key, BucketFault::Refused, problem));
                    }
                    Trouble::Lasting(fault, problem) => {
                        return Err(self.error(operation, key, fault, problem));
                    }
                },
            };
            tracing::debug!(%key, operation, problem, tries, "the bucket did not answer well");
            if let Err(end) = self.pause(tries, begin).await {
                return Err(self.given_up(operation, key, &end, Some(problem)));
            }
            tries += 1;
        }
    }

    /// Reads an object.
    pub(super) async fn get(&self, key: &Path) -> Result<Option<Seen>, StateError> {
        self.get_since(key, self.clock.monotonic()).await
    }

    async fn get_since(&self, key: &Path, begin: Duration) -> Result<Option<Seen>, StateError> {
        let read = || async move {
            let result = self.store.get(key).await?;
            let meta = result.meta.clone();
            Ok((result.bytes().await?, meta))
        };
        let count = &self.requests.reads;
        let Some((bytes, meta)) = self.ask(READ, key, count, begin, read).await? else {
            return Ok(None);
        };
        let tag = self.tag(key, meta.e_tag)?;
        let modified = Timestamp::from_millisecond(meta.last_modified.timestamp_millis());
        Ok(Some(Seen {
            bytes,
            tag,
            modified: modified.unwrap_or(Timestamp::UNIX_EPOCH),
        }))
    }

    /// Reads several objects.
    pub(super) async fn get_all(
        &self,
        keys: Vec<Path>,
    ) -> Result<Vec<(Path, Option<Seen>)>, StateError> {
        stream::iter(keys)
            .map(|key| async move {
                let seen = self.get(&key).await?;
                Ok((key, seen))
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    fn tag(&self, key: &Path, tag: Option<String>) -> Result<Tag, StateError> {
        tag.map(Tag).ok_or_else(|| {
            let problem = "it states no version (ETag) of its objects".to_owned();
            self.error("use", key, BucketFault::NoConditionalWrites, problem)
        })
    }

    /// Writes an object if the expectation is met. `bytes` must differ from those of every other write ever made, so that a
    /// write whose answer was lost is known again.
    pub(super) async fn put(
        &self,
        key: &Path,
        bytes: &Bytes,
        expect: &Expect,
    ) -> Result<Put, StateError> {
        self.ensure().await?;
        let begin = self.clock.monotonic();
        let mut tries = 0;
        loop {
            let mode = match expect {
                Expect::Absent => PutMode::Create,
                Expect::Version(tag) => PutMode::Update(UpdateVersion {
                    e_tag: Some(tag.0.clone()),
                    version: None,
                }),
            };
            self.requests.writes.fetch_add(1, Ordering::Relaxed);
            let options = PutOptions::from(mode);
            let request = self.store.put_opts(key, bytes.clone().into(), options);
            let problem = match self.attempt(begin, request).await {
                Err(end) => return Err(self.given_up(WRITE, key, &end, None)),
                Ok(Ok(result)) => return Ok(Put::Done(self.tag(key, result.e_tag)?)),
                Ok(Err(error)) => match trouble(&error) {
                    Trouble::Passing(problem) => problem,
                    Trouble::Lasting(fault, problem) => {
                        return Err(self.error(WRITE, key, fault, problem));
                    }
                    // A refusal, or what the second try of a write meets whose first answer was lost.
                    Trouble::Refused => {
                        let seen = self.get_since(key, begin).await?;
                        match &seen {
                            Some(seen) if seen.bytes == *bytes => {
                                return Ok(Put::Done(seen.tag.clone()));
                            }
                            // S3 answers with a conflict when two such writes meet; neither need have been done.
                            _ if *expect == Expect::as_seen(seen.as_ref()) => {
                                "it says that the object is there, and then that it is not"
                                    .to_owned()
                            }
                            _ => return Ok(Put::Refused(seen)),
                        }
                    }
                },
            };
            tracing::debug!(%key, problem, tries, "a write was not answered well");
            if let Err(end) = self.pause(tries, begin).await {
                return Err(self.given_up(WRITE, key, &end, Some(problem)));
            }
            self.ensure_again(WRITE, key, begin).await?;
            tries += 1;
        }
    }

    /// Writes an object whatever there is.
    pub(super) async fn overwrite(&self, key: &Path, bytes: &Bytes) -> Result<(), StateError> {
        let write = || self.store.put(key, bytes.clone().into());
        self.ensure().await?;
        let (count, begin) = (&self.requests.writes, self.clock.monotonic());
        match self.ask(WRITE, key, count, begin, write).await? {
            Some(_) => Ok(()),
            None => Err(self.error(
                WRITE,
                key,
                BucketFault::Refused,
                "it was not found".to_owned(),
            )),
        }
    }

    /// Deletes objects that nobody reads any more. Those that are gone already are no error.
    pub(super) async fn delete(&self, keys: Vec<Path>) -> Result<(), StateError> {
        let Some(first) = keys.first().cloned() else {
            return Ok(());
        };
        let keys = &keys;
        let delete = || async move {
            let named = stream::iter(keys.clone()).map(Ok).boxed();
            let mut deleted = self.store.delete_stream(named);
            while let Some(result) = deleted.next().await {
                match result {
                    Err(error) if !matches!(error, Error::NotFound { .. }) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        self.ensure().await?;
        let (count, begin) = (&self.requests.deletes, self.clock.monotonic());
        self.ask(DELETE, &first, count, begin, delete).await?;
        Ok(())
    }

    /// The objects in a folder, with their sizes in bytes, in order of their keys.
    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<(Path, u64)>, StateError> {
        let (_, objects) = self.folders(folder).await?;
        Ok(objects)
    }

    /// The folders and the objects in a folder.
    pub(super) async fn folders(
        &self,
        folder: &Path,
    ) -> Result<(Vec<Path>, Vec<(Path, u64)>), StateError> {
        let list = || self.store.list_with_delimiter(Some(folder));
        let (count, begin) = (&self.requests.lists, self.clock.monotonic());
        let found = self.ask(LIST, folder, count, begin, list).await?;
        let Some(found) = found else {
            return Ok(Default::default());
        };
        let mut objects: Vec<(Path, u64)> = found
            .objects
            .into_iter()
            .map(|meta| (meta.location, meta.size))
            .collect();
        objects.sort();
        let mut folders = found.common_prefixes;
        folders.sort();
        Ok((folders, objects))
    }
}

/// Whether the object is not there; a bucket that is not there is told by the same error.
fn is_missing_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && !text_of(error).contains("NoSuchBucket")
}

/// Sorts errors. The crate keeps the status to itself, so it is read from the text.
fn trouble(error: &Error) -> Trouble {
    let text = text_of(error);
    let said = said(&text);
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            Trouble::Refused
        }
        Error::NotFound { .. } if text.contains("NoSuchBucket") => {
            Trouble::Lasting(BucketFault::NoBucket, said)
        }
        Error::NotFound { .. } => Trouble::Lasting(BucketFault::Refused, said),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Trouble::Lasting(BucketFault::Credentials, said)
        }
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            Trouble::Lasting(BucketFault::NoConditionalWrites, said)
        }
        _ => match status_in(&text) {
            Some(501) => Trouble::Lasting(BucketFault::NoConditionalWrites, said),
            Some(408 | 429 | 500..) => Trouble::Passing(said),
            Some(400) if text.contains("RequestTimeout") => Trouble::Passing(said),
            Some(400) if text.contains("Signature") || text.contains("Authorization") => {
                Trouble::Lasting(BucketFault::Credentials, said)
            }
            Some(_) => Trouble::Lasting(BucketFault::Refused, said),
            None if text.contains("redirect without LOCATION") => {
                let problem = "it lives in another region: name it with `region`".to_owned();
                Trouble::Lasting(BucketFault::Refused, problem)
            }
            None => Trouble::Passing(said),
        },
    }
}

/// An error with its sources.
fn text_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// What a bucket said, in one line: its code and message where it answered with them.
fn said(text: &str) -> String {
    let between = |open: &str, close: &str| {
        let (_, rest) = text.split_once(open)?;
        Some(rest.split_once(close)?.0.trim().to_owned())
    };
    match (
        between("<Code>", "</Code>"),
        between("<Message>", "</Message>"),
    ) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{message} [{code}]"),
        (Some(code), _) => code,
        (None, _) => match status_in(text) {
            Some(status) => format!("it answered with status {status}"),
            None => {
                let last = text.rsplit(" - ").next().unwrap_or(text);
                last.lines().next().unwrap_or_default().trim().to_owned()
            }
        },
    }
}
