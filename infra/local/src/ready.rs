//! Waits until every function responds.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, anyhow};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header::CONTENT_TYPE},
};
use futures_util::future::try_join_all;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpStream, sync::watch};

use crate::{
    invoke::{InvokeError, LambdaFunction, RuntimeApi},
    problem::Problem,
    project::Route,
};

/// cargo-lambda listens within a second; the limit allows for a busy machine.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// Time for the functions to start. They are already built.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Waits until a program accepts connections on the port.
///
/// # Errors
/// A [`Problem`] when the time limit is reached.
pub async fn until_listening(port: u16) -> Result<()> {
    let attempt = async {
        let mut pause = FIRST_PAUSE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    };
    tokio::time::timeout(LISTENS_WITHIN, attempt).await.map_err(|_| {
        Problem::new(format!("cargo-lambda does not listen on port {port}."), "Its own messages are above.")
            .into()
    })
}

/// Sends an empty JSON object to all routes in parallel. Waits until each function has responded
/// with a status below 500.
///
/// # Errors
/// A [`Problem`] that names the function when the time limit is reached.
pub async fn until_answering(base_url: &str, routes: &[&Route]) -> Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let each = routes.iter().map(|route| until_one_answers(&client, base_url, route));
    try_join_all(each).await.map(drop)
}

/// Invokes a function without a route until it has responded.
///
/// # Errors
/// A [`Problem`] that names the function when the time limit is reached.
pub async fn until_invoked(function: &RuntimeApi, event: &[u8]) -> Result<()> {
    until(function.name(), async || match function.invoke(event.to_vec()).await {
        Ok(_) => None,
        Err(InvokeError::Unreachable(reason) | InvokeError::Failed(reason)) => Some(reason),
    })
    .await
}

async fn until_one_answers(
    client: &Client<HttpConnector, Body>,
    base_url: &str,
    route: &Route,
) -> Result<()> {
    until(&route.function, async || match ask(client, base_url, route).await {
        Ok(status) if proves_life(status) => None,
        Ok(status) => Some(format!("its last response was {status}")),
        Err(error) => Some(format!("{error:#}")),
    })
    .await
}

/// Repeats `attempt`, which returns the current failure, until it succeeds.
async fn until(function: &str, attempt: impl AsyncFn() -> Option<String>) -> Result<()> {
    let (last, seen) = watch::channel("no response".to_owned());
    let attempts = async {
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt().await {
                None => return,
                Some(wrong) => last.send_replace(wrong),
            };
            tokio::time::sleep(pause).await;
            pause = longer(pause);
        }
    };
    match tokio::time::timeout(ANSWERS_WITHIN, attempts).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Problem::new(
            format!(
                "The function {} did not respond within {} seconds: {}.",
                function,
                ANSWERS_WITHIN.as_secs(),
                *seen.borrow()
            ),
            "Read its messages above, correct the cause, then start again.",
        )
        .into()),
    }
}

async fn ask(client: &Client<HttpConnector, Body>, base_url: &str, route: &Route) -> Result<StatusCode> {
    let method = Method::from_bytes(route.method.as_bytes())
        .map_err(|_| anyhow!("{} is no HTTP method", route.method))?;
    let request = Request::builder()
        .method(method)
        .uri(format!("{base_url}{}", filled(&route.path)))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from("{}"))?;
    let response = client.request(request).await.context("the request failed")?;
    Ok(response.status())
}

/// cargo-lambda returns a status below 500 only for missing routes and functions, and
/// [`crate::project`] has checked that none is missing.
fn proves_life(status: StatusCode) -> bool {
    !status.is_server_error()
}

/// Replaces each parameter of a path with a fixed word.
fn filled(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "warm-up" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::post};

    #[test]
    fn path_parameters_are_replaced() {
        assert_eq!(filled("/a/{b}/c/{d}"), "/a/warm-up/c/warm-up");
    }

    #[test]
    fn server_errors_do_not_count_as_a_response() {
        assert!(proves_life(StatusCode::BAD_REQUEST));
        assert!(!proves_life(StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[tokio::test]
    async fn requests_are_repeated_until_the_function_responds() {
        use std::sync::atomic::{AtomicU32, Ordering};
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let answer = || async {
            if CALLS.fetch_add(1, Ordering::SeqCst) < 2 {
                StatusCode::BAD_GATEWAY
            } else {
                StatusCode::BAD_REQUEST
            }
        };
        let router = Router::new().route("/a/warm-up", post(answer));
        let server = crate::server::Server::start(|listener, stopped| async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped.wait()).await.unwrap();
        })
        .await
        .unwrap();
        let route = Route { method: "POST".into(), path: "/a/{id}".into(), function: "f".into() };
        until_answering(server.url(), &[&route]).await.unwrap();
        assert_eq!(CALLS.load(Ordering::SeqCst), 3);
    }
}
