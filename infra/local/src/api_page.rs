//! The API's document as a page from which calls can be tried, on a listener of its own.
//!
//! What is no part of the page is forwarded to the routes: the page and the API have one origin, so that a
//! browser lets it call them without any tenant naming that origin. The page is made of an npm package
//! (`infra/api-page`); without it, the page says how to get it. Nothing comes from elsewhere.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{
        HeaderName, StatusCode, Uri,
        header::{CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
    },
    middleware,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::server::{self, Server};

/// Swagger UI sets styles of its elements, and has its icons as data.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// Where the package is, from the repository's root.
const PACKAGE: &str = "infra/api-page/node_modules/swagger-ui-dist";
/// The document, from there too.
const DOCUMENT: &str = "docs/openapi.yaml";
/// What is served of the package.
const ASSETS: [(&str, &str); 2] =
    [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")];

/// The page's listener. It ends when dropped.
#[derive(Debug)]
pub struct ApiPage(Server);

struct Page {
    root: PathBuf,
    /// `http://127.0.0.1:PORT`, where the routes are.
    routes: String,
    client: Client<HttpConnector, Body>,
}

impl ApiPage {
    /// On that port of 127.0.0.1; 0 takes any free one. `root` is the repository's, `routes` where the API
    /// answers: `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(port: u16, root: PathBuf, routes: String) -> Result<Self> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let own = Router::new()
            .route("/", get(index))
            .route("/start.js", get(([(CONTENT_TYPE, "text/javascript")], include_str!("api_page/start.js"))))
            .route("/openapi.yaml", get(document))
            .route("/assets/{name}", get(asset))
            .layer(middleware::map_response(|mut response: Response| async move {
                server::protect(&mut response, POLICY);
                response
            }));
        let served = own
            .fallback(forward)
            .layer(middleware::from_fn(server::only_local))
            .with_state(Arc::new(Page { root, routes, client }));
        Server::serve_on(port, "API page", served).await.map(Self).context("cannot start the API page")
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// Ends it after the requests it is serving.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// Looked at each time: once it is installed, loading the page again is enough.
async fn index(State(page): State<Arc<Page>>) -> Html<&'static str> {
    let installed = ASSETS.iter().all(|(name, _)| page.root.join(PACKAGE).join(name).is_file());
    Html(if installed { include_str!("api_page/index.html") } else { include_str!("api_page/missing.html") })
}

async fn document(State(page): State<Arc<Page>>) -> Response {
    file(page.root.join(DOCUMENT), "application/yaml").await
}

async fn asset(State(page): State<Arc<Page>>, Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _)| *known == name) {
        Some((known, kind)) => file(page.root.join(PACKAGE).join(known), kind).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn file(path: PathBuf, kind: &'static str) -> Response {
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(content)) => ([(CONTENT_TYPE, kind)], content).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A call, as it came, to the routes, and their answer as it is.
async fn forward(State(page): State<Arc<Page>>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let Ok(to) = format!("{}{path}", page.routes).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = to;
    // Of this connection, not of the request (RFC 9110, section 7.6.1).
    for name in [HOST, CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        request.headers_mut().remove(name);
    }
    match page.client.request(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            let text = format!("{} does not answer: {error}. Is cargo dev ready?\n", page.routes);
            (StatusCode::BAD_GATEWAY, text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, Method, header::CONTENT_SECURITY_POLICY};

    use super::*;

    struct Got {
        status: StatusCode,
        headers: HeaderMap,
        body: String,
    }

    async fn send(page: &ApiPage, method: Method, host: &str, path: &str, body: &'static str) -> Got {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::builder().method(method).uri(format!("{}{path}", page.url()));
        let request = request.header(HOST, host).header("x-tenant-id", "t").body(Body::from(body)).unwrap();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        Got { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(page: &ApiPage, path: &str) -> Got {
        send(page, Method::GET, "127.0.0.1:9026", path, "").await
    }

    /// Says what it was asked.
    async fn routes() -> Server {
        let tell = |request: Request| async {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let tenant = head.headers["x-tenant-id"].to_str().unwrap().to_owned();
            let said = format!("{} {} {tenant} {}", head.method, head.uri, String::from_utf8_lossy(&body));
            (StatusCode::IM_A_TEAPOT, [("x-request-id", "r")], said)
        };
        Server::serve("routes", Router::new().fallback(tell)).await.unwrap()
    }

    #[tokio::test]
    async fn calls_go_to_the_routes_as_they_are() {
        let (routes, folder) = (routes().await, tempfile::tempdir().unwrap());
        let page = ApiPage::start(0, folder.path().to_owned(), routes.url().to_owned()).await.unwrap();
        let got = send(&page, Method::PUT, "localhost", "/api/a%2Fb?x=%20y", "{}").await;
        assert_eq!((got.status, got.body.as_str()), (StatusCode::IM_A_TEAPOT, "PUT /api/a%2Fb?x=%20y t {}"));
        assert_eq!(got.headers["x-request-id"], "r");
        assert!(!got.headers.contains_key(CONTENT_SECURITY_POLICY), "an answer is shown as it is");
        routes.stop().await;
        assert_eq!(get(&page, "/healthz").await.status, StatusCode::BAD_GATEWAY);
    }

    #[tokio::test]
    async fn the_page_says_what_it_lacks_and_has_it_once_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let page = ApiPage::start(0, folder.path().to_owned(), "http://127.0.0.1:1".into()).await.unwrap();
        let got = get(&page, "/").await;
        assert!(got.body.contains("npm ci --omit=dev --prefix infra/api-page"), "{}", got.body);
        assert_eq!(got.headers[CONTENT_SECURITY_POLICY], POLICY);
        assert_eq!(get(&page, "/assets/swagger-ui.css").await.status, StatusCode::NOT_FOUND);
        let package = folder.path().join(PACKAGE);
        std::fs::create_dir_all(&package).unwrap();
        for (name, _) in ASSETS {
            std::fs::write(package.join(name), name).unwrap();
        }
        std::fs::write(package.join("package.json"), "{}").unwrap();
        assert!(get(&page, "/").await.body.contains("/start.js"));
        assert_eq!(get(&page, "/assets/swagger-ui.css").await.body, "swagger-ui.css");
        for other in ["package.json", "..%2Fpackage.json", "%2e%2e%2fswagger-ui-dist%2fpackage.json"] {
            let got = get(&page, &format!("/assets/{other}")).await;
            assert_eq!(got.status, StatusCode::NOT_FOUND, "{other}: {}", got.body);
        }
    }

    // A web page could point its own name at 127.0.0.1, and then be of this origin.
    #[tokio::test]
    async fn other_names_for_this_machine_get_nothing() {
        let (routes, folder) = (routes().await, tempfile::tempdir().unwrap());
        let page = ApiPage::start(0, folder.path().to_owned(), routes.url().to_owned()).await.unwrap();
        for path in ["/", "/openapi.yaml", "/start.js", "/healthz"] {
            for host in ["evil.example", "127.0.0.1.evil.example", ""] {
                let got = send(&page, Method::GET, host, path, "").await;
                assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
            }
        }
    }
}
