//! Following a Worker: its tail over a WebSocket, renewed before it expires and made anew when the connection breaks.
//!
//! A tail is made over the API and followed at an address that only its maker knows, which is why that address stands in no
//! message. Cloudflare sends what happens from then on; nothing is kept for later. Source: the tails of the v4 API and the
//! protocol `trace-v1`.

mod socket;

use std::{
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::socket::{Frame, Socket};
use super::client::{Call, Client, encode};
use crate::provider::{FailureKind, OperationContext, ProviderError};

/// How long a call that may have made something is waited for when the user stops.
const GRACE: Duration = Duration::from_secs(5);

/// How patient a follower is.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Time between two signs of life; a connection that gives none for so long is dead.
    pub heartbeat: Duration,
    /// How long before its end a tail is replaced.
    pub renewal: Duration,
    /// How long a tail is used at least, whatever its end says: clocks differ.
    pub shortest: Duration,
    /// How long the tail before is still heard when its successor stands: events come late.
    pub linger: Duration,
    /// Wait before the first try to connect again; it doubles.
    pub first_delay: Duration,
    /// Longest wait.
    pub longest_delay: Duration,
    /// Tries in a row that may fail.
    pub tries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            renewal: Duration::from_secs(60),
            shortest: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            tries: 10,
        }
    }
}

/// What a follower has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The tail stands: events from now on are seen.
    Connected,
    /// Something happened in the Worker, in the form of Cloudflare's tails.
    Event(Value),
    /// The connection broke for this reason and is made again; what happens meanwhile is not seen.
    Lost(String),
    /// A tail could not be removed for this reason; it ends by itself.
    Left(String),
}

/// Follows `script` until `stop`, and removes its tail then.
///
/// # Errors
/// [`ProviderError`] when no tail can be had: at once the first time or when the answer is final, and after
/// [`Pace::tries`] tries in a row later on.
pub async fn follow(
    client: &Client,
    context: &OperationContext,
    script: &str,
    pace: &Pace,
    stop: &CancellationToken,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<(), ProviderError> {
    let mut follower = Follower {
        maker: Maker {
            client,
            context,
            path: format!("workers/scripts/{}/tails", encode(script)),
            dialler: socket::dialler()?,
        },
        pace,
        stop,
        told,
        stale: Vec::new(),
        failures: 0,
        overlap: Vec::new(),
    };
    let ended = follower.run().await;
    follower.sweep().await;
    ended
}

/// Makes tails and removes them.
struct Maker<'a> {
    client: &'a Client,
    context: &'a OperationContext,
    /// The path of the Worker's tails.
    path: String,
    dialler: reqwest::Client,
}

/// A tail that is listened to.
struct Session {
    id: String,
    expires: Option<Timestamp>,
    socket: Socket,
}

/// Why there is no session.
struct NotOpened {
    error: ProviderError,
    /// The tail that was made before it went wrong.
    tail: Option<String>,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Session, NotOpened>> + Send + 'a>>;

impl Maker<'_> {
    async fn open(&self) -> Result<Session, NotOpened> {
        let bare = |error: ProviderError| NotOpened { error, tail: None };
        let call = Call::post(self.path.as_str()).json(&json!({ "filters": [] }));
        let made = self.client.call(self.context, &call).await;
        let made = made.map_err(|error| bare(error.into()))?.result;
        let text = |name: &str| made[name].as_str();
        let (Some(id), Some(url)) = (text("id"), text("url")) else {
            let message = "the answer to a new tail names no id or no address".to_owned();
            let error = ProviderError::new(FailureKind::Refused, message);
            return Err(bare(error));
        };
        let expires = text("expires_at").and_then(|moment| moment.parse().ok());
        match Socket::connect(&self.dialler, url).await {
            Ok(socket) => Ok(Session {
                id: id.to_owned(),
                expires,
                socket,
            }),
            Err(reason) => {
                let message = format!("the tail of the Worker cannot be followed: {reason}");
                Err(NotOpened {
                    error: ProviderError::new(FailureKind::Refused, message),
                    tail: Some(id.to_owned()),
                })
            }
        }
    }

    async fn remove(&self, id: &str) -> Result<(), ProviderError> {
        let call = Call::delete(format!("{}/{}", self.path, encode(id)));
        self.client.look(self.context, &call).await.map(|_| ())
    }
}

/// Why one session was left.
enum Ended {
    Stopped,
    Broken(String),
    /// Another one has taken its place.
    Renewed(Box<Session>),
}

struct Follower<'a> {
    maker: Maker<'a>,
    pace: &'a Pace,
    stop: &'a CancellationToken,
    told: &'a mut (dyn FnMut(Told) + Send),
    /// Tails that are not used any more and may still be there.
    stale: Vec<String>,
    failures: u32,
    /// What the tail before told when this one was there already or was being made: told twice, it is shown once.
    overlap: Vec<Value>,
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<(), ProviderError> {
        let mut next: Option<Session> = None;
        let mut first = true;
        loop {
            let session = match next.take() {
                Some(session) => session,
                None => match self.open(first).await? {
                    Some(session) => session,
                    None => return Ok(()),
                },
            };
            first = false;
            self.sweep().await;
            let id = session.id.clone();
            let ended = self.listen(session).await;
            self.stale.push(id);
            match ended? {
                Ended::Stopped => return Ok(()),
                Ended::Renewed(session) => next = Some(*session),
                Ended::Broken(reason) => {
                    (self.told)(Told::Lost(reason.clone()));
                    self.failures += 1;
                    if self.failures > self.pace.tries {
                        let message =
                            format!("the tail of the Worker breaks again and again: {reason}");
                        return Err(ProviderError::new(FailureKind::Refused, message));
                    }
                    if !self.wait().await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A new session, after as many tries as it takes; none when the user stops. The first time there is one try only.
    async fn open(&mut self, first: bool) -> Result<Option<Session>, ProviderError> {
        loop {
            let result = {
                let mut opening: Opening<'_> = Box::pin(self.maker.open());
                tokio::select! {
                    result = &mut opening => Some(result),
                    () = self.stop.cancelled() => timeout(GRACE, opening).await.ok(),
                }
            };
            let stopped = self.stop.is_cancelled();
            match result {
                Some(Ok(session)) if stopped => {
                    self.stale.push(session.id);
                    return Ok(None);
                }
                Some(Ok(session)) => {
                    (self.told)(Told::Connected);
                    return Ok(Some(session));
                }
                Some(Err(failed)) => {
                    self.stale.extend(failed.tail);
                    if stopped {
                        return Ok(None);
                    }
                    self.failures += 1;
                    if first || is_final(&failed.error) || self.failures > self.pace.tries {
                        return Err(failed.error);
                    }
                }
                None => return Ok(None),
            }
            if !self.wait().await {
                return Ok(None);
            }
        }
    }

    /// Waits before the next try; false when the user stops.
    async fn wait(&self) -> bool {
        let doublings = self.failures.saturating_sub(1).min(16);
        let delay = self.pace.first_delay * 2_u32.pow(doublings);
        tokio::select! {
            () = sleep(delay.min(self.pace.longest_delay)) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// Tells what a session says until it ends.
    async fn listen(&mut self, mut session: Session) -> Result<Ended, ProviderError> {
        let mut beat = interval(self.pace.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut awaited = false;
        // When it is replaced, and once its successor stands, when it is left.
        let mut turn = self.renewal(&session);
        let mut opening: Option<Opening<'_>> = None;
        let mut successor: Option<Session> = None;
        let ended = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ended::Stopped,
                opened = async { match &mut opening {
                    Some(opening) => opening.await,
                    None => pending().await,
                } } => {
                    opening = None;
                    match opened {
                        Ok(next) => {
                            turn = Instant::now() + self.pace.linger;
                            successor = Some(next);
                        }
                        Err(failed) => {
                            self.stale.extend(failed.tail);
                            if is_final(&failed.error) {
                                return Err(failed.error);
                            }
                            turn = Instant::now() + self.pace.longest_delay;
                        }
                    }
                }
                frame = session.socket.next() => {
                    let frame = match frame {
                        Ok(frame) => frame,
                        Err(reason) => break Ended::Broken(reason),
                    };
                    awaited = false;
                    self.failures = 0;
                    let Frame::Event(event) = frame else { continue };
                    if opening.is_some() || successor.is_some() {
                        self.overlap.push(event.clone());
                    } else if let Some(at) = self.overlap.iter().position(|seen| *seen == event) {
                        self.overlap.swap_remove(at);
                        continue;
                    }
                    (self.told)(Told::Event(event));
                }
                _ = beat.tick() => {
                    if awaited {
                        break Ended::Broken("the server gives no sign of life".to_owned());
                    }
                    awaited = true;
                    if let Err(reason) = session.socket.ping(self.pace.heartbeat).await {
                        break Ended::Broken(reason);
                    }
                }
                () = sleep_until(turn), if opening.is_none() => match successor.take() {
                    Some(next) => break Ended::Renewed(Box::new(next)),
                    None => {
                        self.overlap.clear();
                        opening = Some(Box::pin(self.maker.open()));
                    }
                }
            }
        };
        if let Some(opening) = opening {
            // What is being made would be left behind.
            match timeout(GRACE, opening).await {
                Ok(Ok(next)) => successor = Some(next),
                Ok(Err(failed)) => self.stale.extend(failed.tail),
                Err(_) => tracing::debug!("a tail may be left behind"),
            }
        }
        session.socket.close().await;
        match (successor, ended) {
            (Some(next), Ended::Broken(_)) => Ok(Ended::Renewed(Box::new(next))),
            (Some(next), ended) => {
                self.stale.push(next.id);
                Ok(ended)
            }
            (None, ended) => Ok(ended),
        }
    }

    /// When the tail of a session is to be replaced.
    fn renewal(&self, session: &Session) -> Instant {
        let left = session.expires.map(|expires| {
            let left = expires.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        });
        // An end that cannot be read comes as a closed connection.
        let left = left.unwrap_or(Duration::from_secs(60 * 60));
        Instant::now()
            + left
                .saturating_sub(self.pace.renewal)
                .max(self.pace.shortest)
    }

    /// Removes the tails that are not used any more.
    async fn sweep(&mut self) {
        for id in std::mem::take(&mut self.stale) {
            if let Err(error) = self.maker.remove(&id).await {
                (self.told)(Told::Left(error.message));
            }
        }
    }
}

/// Whether trying again promises nothing: the Worker is gone, or the token is not good.
fn is_final(error: &ProviderError) -> bool {
    matches!(
        error.kind,
        FailureKind::NotFound | FailureKind::Authentication
    )
}
