//! The local cloud on a loopback socket, for other Cloudflare clients and for tests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Cloud, CloudError, Port, RouterOptions, guard, router};
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
    let listen = |source| CloudError::Listen {
        port,
        whose: Port::Api,
        source,
    };
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
    )
    .layer(middleware::from_fn(guard::only_this_machine));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn client() -> reqwest::Client {
        // Another test may have installed the provider; which one came first does not matter.
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::new()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn other_clients_reach_it_on_loopback_with_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let cloud = Cloud::open(folder.path()).unwrap();
        let server = serve(cloud, ServeOptions::default()).await.unwrap();
        assert!(server.address.ip().is_loopback());
        let client = client();
        let path = format!("{}/accounts/local/d1/database", server.base_url());
        let refused = client.get(&path).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 400);
        let rebound = client.get(&path).bearer_auth(&server.token);
        let rebound = rebound.header("host", "evil.example").send().await.unwrap();
        assert_eq!(rebound.status().as_u16(), 403);
        let page = client.get(&path).bearer_auth(&server.token);
        let page = page
            .header("origin", "https://evil.example")
            .send()
            .await
            .unwrap();
        assert_eq!(page.status().as_u16(), 403);
        let created: Value = client
            .post(&path)
            .bearer_auth(&server.token)
            .json(&json!({"name": "main"}))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(created["result"]["name"], "main");
        let form = reqwest::multipart::Form::new()
            .part(
                "metadata",
                reqwest::multipart::Part::text(r#"{"main_module":"src/index.js"}"#),
            )
            .part(
                "src/index.js",
                reqwest::multipart::Part::text("export default {}")
                    .file_name("src/index.js")
                    .mime_str("application/javascript+module")
                    .unwrap(),
            );
        let script = format!("{}/accounts/local/workers/scripts/api", server.base_url());
        let uploaded = client
            .put(&script)
            .bearer_auth(&server.token)
            .multipart(form)
            .send()
            .await
            .unwrap();
        assert_eq!(uploaded.status().as_u16(), 200);
        let port = server.address.port();
        let taken = ServeOptions {
            port,
            ..ServeOptions::default()
        };
        let other = Cloud::open(folder.path()).unwrap();
        assert!(matches!(
            serve(other, taken).await,
            Err(CloudError::Listen { .. })
        ));
        drop(client);
        server.shutdown().await.unwrap();
        assert!(
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
        );
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            Cloud::open(file.path()),
            Err(CloudError::NotAFolder { .. })
        ));
    }
}
