//! The local cloud on a loopback socket, for other Cloudflare clients and for tests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Cloud, CloudError, RouterOptions, router};
use crate::util::ids::{Ids as _, SystemIds};

/// How to serve.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// The port on 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// The token clients must send; a random one when none is given.
    pub token: Option<String>,
    /// Added to every call, for tests and benchmarks.
    pub latency: Duration,
}

/// A running server. Dropping it stops it without waiting; [`Server::shutdown`] waits for requests in work.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The token clients must send.
    pub token: String,
    stop: CancellationToken,
    task: JoinHandle<Result<(), std::io::Error>>,
}

impl Server {
    /// The base URL for clients, as `CLOUDFLARE_BASE_URL` and its kin want it.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/client/v4", self.address)
    }

    /// Stops listening, lets requests in work end, and waits for that.
    ///
    /// # Errors
    /// [`CloudError::Serve`] when the server failed meanwhile.
    pub async fn shutdown(mut self) -> Result<(), CloudError> {
        self.stop.cancel();
        match (&mut self.task).await {
            Ok(Err(source)) => Err(CloudError::Serve { source }),
            Err(error) => Err(CloudError::Serve {
                source: std::io::Error::other(error),
            }),
            Ok(Ok(())) => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts serving `cloud` on loopback.
///
/// # Errors
/// [`CloudError::Listen`] when the port cannot be had.
pub async fn serve(cloud: Arc<Cloud>, options: ServeOptions) -> Result<Server, CloudError> {
    let port = options.port;
    let listen = |source| CloudError::Listen { port, source };
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let token = options.token.unwrap_or_else(random_token);
    let service = router(
        cloud,
        RouterOptions {
            token: Some(token.clone()),
            latency: options.latency,
        },
    );
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        axum::serve(listener, service)
            .with_graceful_shutdown(stopped.cancelled_owned())
            .await
    });
    Ok(Server {
        address,
        token,
        stop,
        task,
    })
}

fn random_token() -> String {
    let mut bytes = [0_u8; 20];
    SystemIds.fill(&mut bytes);
    hex::encode(bytes)
}
