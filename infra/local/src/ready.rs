//! Waits until every function answers.

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
    invoke::{Function, InvokeError},
    problem::Problem,
    project::Route,
};

/// cargo-lambda listens within a second; a busy machine gets more.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
/// The functions are built already: this is only their start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Waits until something accepts connections on the port.
///
/// # Errors
/// A [`Problem`] when nothing does within a bounded time.
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

/// Sends an empty JSON object to each route, all at once, until each has been answered by its
/// function with a status below 500.
///
/// # Errors
/// A [`Problem`] that names the function when one does not within a bounded time.
pub async fn until_answering(base_url: &str, routes: &[&Route]) -> Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let each = routes.iter().map(|route| until_one_answers(&client, base_url, route));
    try_join_all(each).await.map(drop)
}

/// Invokes a function that has no route with an event that holds nothing, until it has answered.
///
/// # Errors
/// A [`Problem`] when it does not within a bounded time.
pub async fn until_invoked(name: &str, function: &impl Function, event: &[u8]) -> Result<()> {
    until(name, async || match function.invoke(event.to_vec()).await {
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
        Ok(status) => Some(format!("the last answer was {status}")),
        Err(error) => Some(format!("{error:#}")),
    })
    .await
}

/// Repeats `attempt`, which says what is still wrong, until nothing is.
async fn until(function: &str, attempt: impl AsyncFn() -> Option<String>) -> Result<()> {
    let (last, seen) = watch::channel("nothing answered".to_owned());
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
                "The function {} did not answer within {} seconds: {}.",
                function,
                ANSWERS_WITHIN.as_secs(),
                *seen.borrow()
            ),
            "Its own messages are above.",
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

/// cargo-lambda itself answers below 500 only for routes and functions that do not exist, and
/// [`crate::project`] has seen to it that these do.
fn proves_life(status: StatusCode) -> bool {
    !status.is_server_error()
}

/// The path with something in place of each parameter.
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
    fn parameters_are_filled() {
        assert_eq!(filled("/a/{b}/c/{d}"), "/a/warm-up/c/warm-up");
    }

    #[test]
    fn only_the_functions_own_answers_count() {
        assert!(proves_life(StatusCode::BAD_REQUEST));
        assert!(!proves_life(StatusCode::INTERNAL_SERVER_ERROR));
    }

    #[tokio::test]
    async fn it_goes_on_until_the_function_answers() {
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
