//! A bucket in memory whose requests can be spoilt, counted and held up.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, memory::InMemory, path::Path,
};
use tokio::time::Instant;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not arrive.
    Lost,
    /// It is done, and the answer does not arrive.
    AnswerLost,
    /// The server is overloaded.
    Busy,
    /// It does not arrive, and no answer comes either.
    Silent,
    /// It does not arrive, which shows after so long.
    LostAfter(Duration),
    /// It is done at once, and the answer takes so long.
    AnswerAfter(Duration),
}

/// A change of the bucket, as it is asked for or done.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) at: Instant,
    pub(super) is_done: bool,
}

/// Decides on a request by its number, counted from 0, and its key.
type Spoil = Box<dyn Fn(u64, &str) -> Option<Fault> + Send + Sync>;
type Hook = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

#[derive(Default)]
pub(super) struct Flaky {
    pub(super) inner: Arc<InMemory>,
    count: AtomicU64,
    spoil: Mutex<Option<Spoil>>,
    hook: Mutex<Option<(String, Hook)>>,
    writes: Mutex<Vec<Write>>,
}

impl Flaky {
    /// Another way to the same bucket.
    pub(super) fn beside(&self) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(&self.inner),
            ..Self::default()
        })
    }

    /// Spoils requests from now on; they are counted anew.
    pub(super) fn spoil(&self, spoil: impl Fn(u64, &str) -> Option<Fault> + Send + Sync + 'static) {
        self.count.store(0, Ordering::SeqCst);
        *self.spoil.lock().unwrap() = Some(Box::new(spoil));
    }

    /// Answers well again.
    pub(super) fn mend(&self) {
        *self.spoil.lock().unwrap() = None;
    }

    /// Requests since [`Self::spoil`].
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// The changes since the last time that this was asked.
    pub(super) fn take_writes(&self) -> Vec<Write> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    fn note(&self, key: &str, is_done: bool) {
        self.writes.lock().unwrap().push(Write {
            key: key.to_owned(),
            at: Instant::now(),
            is_done,
        });
    }

    /// Does something else first, once, when a key that holds `part` is written.
    pub(super) fn before_write_of(&self, part: &str, hook: Hook) {
        *self.hook.lock().unwrap() = Some((part.to_owned(), hook));
    }

    /// Every object with its bytes, whatever happens to requests.
    pub(super) async fn objects(&self) -> Vec<(Path, Bytes)> {
        let listed: Vec<_> = self.inner.list(None).collect().await;
        let mut out = Vec::new();
        for meta in listed {
            let key = meta.unwrap().location;
            let bytes = self.inner.get(&key).await.unwrap().bytes().await.unwrap();
            out.push((key, bytes));
        }
        out.sort();
        out
    }

    /// The same, without the record of the application, which belongs to no stage and is written once by whoever comes first.
    pub(super) async fn objects_of_stages(&self) -> Vec<(Path, Bytes)> {
        let mut objects = self.objects().await;
        objects.retain(|(key, _)| key.filename() != Some("app.json"));
        objects
    }

    /// Lets a request through, does it, or does not.
    async fn through<T>(&self, key: &str, request: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let fault = {
            let spoil = self.spoil.lock().unwrap();
            spoil.as_ref().and_then(|spoil| spoil(number, key))
        };
        // What takes no time at all gives nobody else a turn.
        tokio::task::yield_now().await;
        let failed = |text: &str| Error::Generic {
            store: "flaky",
            source: text.to_owned().into(),
        };
        match fault {
            None => request.await,
            Some(Fault::Lost) => Err(failed("connection refused")),
            Some(Fault::Busy) => Err(failed(
                "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>",
            )),
            Some(Fault::AnswerLost) => {
                drop(request.await);
                Err(failed("operation timed out"))
            }
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::LostAfter(time)) => {
                tokio::time::sleep(time).await;
                Err(failed("operation timed out"))
            }
            Some(Fault::AnswerAfter(time)) => {
                let answer = request.await;
                tokio::time::sleep(time).await;
                answer
            }
        }
    }
}

impl fmt::Debug for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let hook = {
            let mut hook = self.hook.lock().unwrap();
            match &*hook {
                Some((part, _)) if location.as_ref().contains(part.as_str()) => hook.take(),
                _ => None,
            }
        };
        if let Some((_, hook)) = hook {
            hook().await;
        }
        self.note(location.as_ref(), false);
        let request = async {
            let result = self.inner.put_opts(location, payload, options).await;
            if result.is_ok() {
                self.note(location.as_ref(), true);
            }
            result
        };
        self.through(location.as_ref(), request).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = self.inner.get_opts(location, options);
        self.through(location.as_ref(), request).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        self.note("delete", false);
        let spoil = self.spoil.lock().unwrap();
        match spoil.as_ref().and_then(|spoil| spoil(number, "delete")) {
            None => self.inner.delete_stream(locations),
            Some(Fault::Silent) => stream::pending().boxed(),
            Some(_) => stream::once(
                async {
                    Err(Error::Generic {
                        store: "flaky",
                        source: "connection refused".into(),
                    })
                }
                .boxed(),
            )
            .boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let request = self.inner.list_with_delimiter(prefix);
        self.through("list", request).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
