//! HTTP server on a loopback port. It ends when its owner drops it.

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

/// Time limit for requests in progress when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server. `serve` receives the listener and a future that completes when it must stop.
    ///
    /// # Errors
    /// When no loopback port is free.
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

    /// Serves a router. `name` appears in error messages.
    ///
    /// # Errors
    /// When no loopback port is free.
    pub(crate) async fn serve(name: &'static str, router: Router) -> Result<Self> {
        Self::serve_on(0, name, router).await
    }

    /// Like [`Server::serve`], on the given port; 0 means any free port.
    ///
    /// # Errors
    /// When the port is taken.
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

    /// Stops after the requests in progress, within [`STOP_WITHIN`]. Dropping does not wait for them.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown.take());
        if tokio::time::timeout(STOP_WITHIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Completes when the [`Server`] is stopped or dropped.
pub(crate) struct Stopped(oneshot::Receiver<()>);

impl Stopped {
    pub(crate) async fn wait(self) {
        // The sender sends nothing. Dropping it is the signal.
        drop(self.0.await);
    }
}

/// Rejects requests with a `Host` other than this machine. Otherwise a website could point its own
/// name at 127.0.0.1 and read the responses.
pub(crate) async fn only_local(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        next.run(request).await
    } else {
        let text = "This page is available only at 127.0.0.1 and localhost.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

/// Sets the headers of every page response. `policy` applies if the response has no policy yet.
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
