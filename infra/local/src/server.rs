//! One HTTP server on a loopback port that ends with its owner.

use std::{future::Future, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
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
        Self::start_on(0, serve).await
    }

    async fn start_on<S, F>(port: u16, serve: S) -> Result<Self>
    where
        S: FnOnce(TcpListener, Stopped) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| match port {
            0 => "no free port on 127.0.0.1".to_owned(),
            port => format!("cannot use port {port} on 127.0.0.1"),
        })?;
        let address = listener.local_addr()?;
        let (shutdown, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Stopped(stopped)));
        Ok(Self { url: format!("http://{address}"), shutdown: Some(shutdown), task })
    }

    /// Serves a router; `name` is for the message when that fails.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub(crate) async fn serve(name: &'static str, router: Router) -> Result<Self> {
        Self::serve_on(0, name, router).await
    }

    /// [`Server::serve`] on a port of one's choice; 0 takes any free one.
    ///
    /// # Errors
    /// When that port cannot be had.
    pub(crate) async fn serve_on(port: u16, name: &'static str, router: Router) -> Result<Self> {
        Self::start_on(port, |listener, stopped| async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stopped.wait()).await;
            if let Err(error) = served {
                crate::ui::to_stderr(&format!("the embedded {name} failed: {error}"));
            }
        })
        .await
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

/// Answers requests to this machine's own names alone: a web page could point its own name at 127.0.0.1, and
/// read along.
pub(crate) async fn only_local(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        next.run(request).await
    } else {
        let text = "This page answers only to 127.0.0.1 and localhost.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

/// Adds what every answer of a page carries; `policy` where it has no content policy of its own.
pub(crate) fn protect(response: &mut Response, policy: &'static str) {
    let fixed = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let own = response.headers_mut().entry(CONTENT_SECURITY_POLICY);
    own.or_insert(HeaderValue::from_static(policy));
}
