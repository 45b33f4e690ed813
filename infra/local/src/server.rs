//! One HTTP server on an ephemeral loopback port that ends with its owner.

use std::{future::Future, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// How long a request that is being served may delay the end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// `serve` gets the listener and a future that resolves when it must stop.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub(crate) async fn start<S, F>(serve: S) -> Result<Self>
    where
        S: FnOnce(TcpListener, Stopped) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let (shutdown, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Stopped(stopped)));
        Ok(Self { url: format!("http://{address}"), shutdown: Some(shutdown), task })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lets running requests finish, within bounds. Dropping does the same without waiting.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown.take());
        if tokio::time::timeout(STOP_WITHIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Resolves when the [`Server`] is stopped or dropped.
pub(crate) struct Stopped(oneshot::Receiver<()>);

impl Stopped {
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender's drop is the signal.
        drop(self.0.await);
    }
}
