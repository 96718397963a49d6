//! Uploads of files to links that answers of the API give: piece by piece, to whatever host, without the account's token.

use std::{
    io::{self, Read as _},
    path::PathBuf,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use http::{Response, header};

use super::{
    client::{Call, Client, REQUEST_TIMEOUT, delay_before_retry, pause},
    error::{CallError, Effect},
    transport::TransportError,
};
use crate::{
    provider::{FailureKind, OperationContext, ProviderError},
    util::fs,
};

/// How the upload is called in messages; the link itself is a secret.
const UPLOAD: &str = "PUT to the upload link that the API gave";
/// Bytes of a file that are in memory at once.
const PIECE: usize = 1 << 20;
/// Slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 128 * 1024;
/// Most bytes of a refusal that are shown.
const SHOWN: usize = 200;

/// The content of a file, and what is sent after it. It is read while it is sent.
#[derive(Debug, Clone)]
pub struct FileContent {
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file that are sent; it is an error when it has fewer.
    pub size: u64,
    /// What follows.
    pub tail: Bytes,
}

/// Where reading a file stands.
enum Stage {
    Begin,
    Within(std::fs::File, u64),
    Tail,
}

impl FileContent {
    /// Bytes that are sent.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.size + self.tail.len() as u64
    }

    /// How long sending it may take.
    pub(super) fn patience(&self) -> Duration {
        REQUEST_TIMEOUT * 5 + Duration::from_secs(self.length() / SLOWEST)
    }

    /// The bytes, in pieces.
    #[must_use]
    pub fn pieces(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let content = self.clone();
        stream::try_unfold(Some(Stage::Begin), move |stage| {
            let content = content.clone();
            async move {
                let Some(stage) = stage else {
                    return Ok(None);
                };
                let reading = tokio::task::spawn_blocking(move || content.piece(stage));
                let (bytes, next) = reading.await.map_err(io::Error::other)??;
                Ok(Some((bytes, next)))
            }
        })
        .boxed()
    }

    /// All the bytes at once.
    ///
    /// # Errors
    /// That of reading the file.
    pub async fn whole(&self) -> io::Result<Bytes> {
        let mut all = BytesMut::with_capacity(usize::try_from(self.length()).unwrap_or(0));
        let mut pieces = self.pieces();
        while let Some(piece) = pieces.try_next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    fn piece(&self, stage: Stage) -> io::Result<(Bytes, Option<Stage>)> {
        let (mut file, left) = match stage {
            Stage::Begin => (fs::open(&self.path).map_err(io::Error::other)?, self.size),
            Stage::Within(file, left) => (file, left),
            Stage::Tail => return Ok((self.tail.clone(), None)),
        };
        if left == 0 {
            return Ok((self.tail.clone(), None));
        }
        let mut bytes =
            BytesMut::zeroed(usize::try_from(left).map_or(PIECE, |left| left.min(PIECE)));
        let read = file.read(&mut bytes)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(read);
        let left = left - read as u64;
        let next = if left == 0 {
            Stage::Tail
        } else {
            Stage::Within(file, left)
        };
        Ok((bytes.freeze(), Some(next)))
    }
}

impl Client {
    /// Puts `content` to `link`, again where that promises something. Answers what the storage calls it.
    ///
    /// # Errors
    /// [`ProviderError`] of the last try.
    pub async fn transfer(
        &self,
        context: &OperationContext,
        link: &str,
        content: &FileContent,
    ) -> Result<Option<String>, ProviderError> {
        // Only for its effect: it decides what is tried again.
        let call = Call::put("upload");
        let timeout = content.patience();
        let cancelled = || CallError::Cancelled {
            call: UPLOAD.to_owned(),
        };
        let (mut tried, mut forbidden) = (0, false);
        loop {
            tried += 1;
            context.meter.count();
            let response = tokio::select! {
                biased;
                () = context.cancel.cancelled() => return Err(cancelled().into()),
                response = tokio::time::timeout(timeout, self.transport.put(link, content)) => response,
            };
            let error = match response {
                Ok(Ok(response)) if response.status().is_success() => return Ok(etag(&response)),
                Ok(Ok(response))
                    if response.status().is_client_error() && response.status() != 429 =>
                {
                    return Err(refused(&response));
                }
                Ok(Ok(response)) => CallError::Unreadable {
                    call: UPLOAD.to_owned(),
                    effect: Effect::Idempotent,
                    status: response.status().as_u16(),
                    reason: "the storage did not take the file".to_owned(),
                    retry_after: None,
                    ray: None,
                },
                Ok(Err(error)) => CallError::Transport {
                    call: UPLOAD.to_owned(),
                    effect: Effect::Idempotent,
                    error,
                },
                Err(_) => CallError::Timeout {
                    call: UPLOAD.to_owned(),
                    effect: Effect::Idempotent,
                    after: timeout,
                },
            };
            let Some(delay) = delay_before_retry(&call, &error, tried, &mut forbidden) else {
                return Err(error.into());
            };
            pause(context, delay, "the storage")
                .await
                .ok_or_else(cancelled)?;
        }
    }
}

fn etag(response: &Response<Bytes>) -> Option<String> {
    let value = response.headers().get(header::ETAG)?.to_str().ok()?;
    Some(value.trim_start_matches("W/").trim_matches('"').to_owned())
}

fn refused(response: &Response<Bytes>) -> ProviderError {
    let body = String::from_utf8_lossy(response.body());
    let body: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let body: String = body.chars().take(SHOWN).collect();
    let mut error = ProviderError::new(
        FailureKind::Refused,
        format!(
            "the storage refused the upload with HTTP {}: {body}",
            response.status().as_u16()
        ),
    )
    .with_help("run again: an upload link is good for an hour");
    error.call = Some(UPLOAD.to_owned());
    error
}

/// A link as its origin and the rest.
///
/// # Errors
/// [`TransportError::Invalid`] for what is no address.
pub(super) fn split_link(link: &str) -> Result<(&str, &str), TransportError> {
    let invalid = || TransportError::Invalid {
        reason: "the API gave an upload link that is no address".to_owned(),
    };
    let host = link.find("://").ok_or_else(invalid)? + 3;
    let path = link[host..].find('/').ok_or_else(invalid)? + host;
    Ok(link.split_at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(content: &FileContent) -> io::Result<Vec<Bytes>> {
        content.pieces().try_collect().await
    }

    #[tokio::test]
    async fn a_file_goes_in_pieces_and_what_follows_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.sql");
        let text = vec![b'x'; PIECE * 2 + 7];
        fs::write_atomic(&path, &text).unwrap();
        let mut content = FileContent {
            path,
            size: text.len() as u64,
            tail: Bytes::from_static(b"tail"),
        };
        let pieces = sent(&content).await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert!(pieces.len() >= 4, "{}", pieces.len());
        let whole = pieces.concat();
        assert_eq!(whole.len() as u64, content.length());
        assert!(whole.ends_with(b"xtail"));
        // A file that shrank since it was looked at is not sent as if it were whole.
        content.size += 1;
        assert!(sent(&content).await.is_err());
        content.size = 0;
        assert_eq!(sent(&content).await.unwrap(), [Bytes::from_static(b"tail")]);
    }

    #[test]
    fn a_link_has_an_origin_and_a_path() {
        assert_eq!(
            split_link("https://host:1/a?b=c").unwrap(),
            ("https://host:1", "/a?b=c")
        );
        for bad in ["", "/a", "https://host"] {
            assert!(split_link(bad).is_err(), "{bad}");
        }
    }
}
