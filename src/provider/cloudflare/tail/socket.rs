//! The WebSocket of a tail: the handshake over the ordinary HTTP client, so that TLS and proxies are its business, and then
//! frames.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{SinkExt as _, StreamExt as _};
use http::{StatusCode, header};
use rand::Rng as _;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::provider::{
    FailureKind, ProviderError,
    cloudflare::transport::{chain, install_tls},
};

/// The protocol of tails.
const PROTOCOL: &str = "trace-v1";
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// The largest event, in bytes. Cloudflare cuts them long before.
const EVENT_LIMIT: usize = 16 << 20;

/// What came.
pub(super) enum Frame {
    /// An event of the Worker.
    Event(Value),
    /// A sign of life.
    Alive,
}

pub(super) struct Socket(WebSocketStream<reqwest::Upgraded>);

/// What makes the connections. A WebSocket begins as HTTP/1.1.
pub(super) fn dialler() -> Result<reqwest::Client, ProviderError> {
    install_tls();
    reqwest::Client::builder()
        .user_agent(concat!("alch/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .build()
        .map_err(|error| ProviderError::new(FailureKind::Refused, chain(&error)))
}

impl Socket {
    /// Connects to the address of a tail. The error says why not, without the address.
    pub(super) async fn connect(dialler: &reqwest::Client, url: &str) -> Result<Self, String> {
        let url = match url.split_once("://") {
            Some(("wss", rest)) => format!("https://{rest}"),
            Some(("ws", rest)) => format!("http://{rest}"),
            _ => return Err("its address is none of a WebSocket".to_owned()),
        };
        let handshake = timeout(CONNECT_TIMEOUT, handshake(dialler, &url));
        let upgraded = handshake
            .await
            .map_err(|_| "no connection within 20 seconds".to_owned())??;
        let config = WebSocketConfig::default()
            .max_message_size(Some(EVENT_LIMIT))
            .max_frame_size(Some(EVENT_LIMIT));
        Ok(Self(
            WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await,
        ))
    }

    /// The next event or sign of life; safe to drop and call again.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        loop {
            let message = match self.0.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the server has closed the connection".to_owned()),
            };
            let event = match &message {
                Message::Text(text) => serde_json::from_str(text),
                // Cloudflare sends its events as bytes.
                Message::Binary(bytes) => serde_json::from_slice(bytes),
                Message::Ping(_) | Message::Pong(_) => return Ok(Frame::Alive),
                Message::Close(reason) => {
                    let mut text = "the server has closed the connection".to_owned();
                    if let Some(reason) = reason.as_ref().filter(|reason| !reason.reason.is_empty())
                        && write!(text, ": {}", reason.reason).is_err()
                    {
                        tracing::trace!("a string takes everything");
                    }
                    return Err(text);
                }
                Message::Frame(_) => continue,
            };
            return match event {
                Ok(event) => Ok(Frame::Event(event)),
                Err(error) => {
                    tracing::warn!("an event of a tail is no JSON: {error}");
                    Ok(Frame::Alive)
                }
            };
        }
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self, patience: Duration) -> Result<(), String> {
        match timeout(patience, self.0.send(Message::Ping(Vec::new().into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the server takes nothing any more".to_owned()),
        }
    }

    /// Says goodbye; a server that does not listen is left without.
    pub(super) async fn close(mut self) {
        if !matches!(timeout(GOODBYE, self.0.close(None)).await, Ok(Ok(()))) {
            tracing::debug!("a tail was left without a goodbye");
        }
    }
}

async fn handshake(dialler: &reqwest::Client, url: &str) -> Result<reqwest::Upgraded, String> {
    let mut nonce = [0_u8; 16];
    rand::rng().fill_bytes(&mut nonce);
    let key = STANDARD.encode(nonce);
    let request = dialler
        .get(url)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL);
    let answer = request
        .send()
        .await
        .map_err(|error| chain(&error.without_url()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the server answers with HTTP {}", answer.status()));
    }
    let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|value| value.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err("what answers there is no WebSocket".to_owned());
    }
    answer
        .upgrade()
        .await
        .map_err(|error| chain(&error.without_url()))
}
