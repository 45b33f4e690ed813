//! A page that shows the API's OpenAPI document and sends requests to the API.
//!
//! The listener serves the page and forwards all other requests to the HTTP API. The page and the
//! API therefore have the same origin, so that a browser allows the page's requests. The policies
//! of the tenants do not have to list this origin. The page needs an npm package (`infra/api-page`). Without that package
//! it shows how to install it. The page loads nothing from other servers.

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

/// Content security policy of the page. Swagger UI sets inline styles and uses icons in `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// Folder of the npm package, relative to the root of the repository.
const PACKAGE: &str = "infra/api-page/node_modules/swagger-ui-dist";
/// OpenAPI document, relative to the root of the repository.
const DOCUMENT: &str = "docs/openapi.yaml";
/// Files of the package that the page uses, with their content types.
const ASSETS: [(&str, &str); 2] =
    [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")];

/// Listener of the API page. It ends when dropped.
#[derive(Debug)]
pub struct ApiPage(Server);

struct ApiPageState {
    root: PathBuf,
    /// Address of the HTTP API: `http://127.0.0.1:PORT`.
    routes: String,
    client: Client<HttpConnector, Body>,
}

impl ApiPage {
    /// Starts the page on a port of 127.0.0.1; 0 means any free port. `root` is the root of the
    /// repository. `routes` is the address of the HTTP API: `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When the port is taken.
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
            .with_state(Arc::new(ApiPageState { root, routes, client }));
        Server::serve_on(port, "API page", served).await.map(Self).context("cannot start the API page")
    }

    /// Address of the page: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// Stops the page after the requests in progress.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// Returns the page, or the install command while the package is missing. Checks for the package on each
/// request, so that the user only has to reload the page after the installation.
async fn index(State(page): State<Arc<ApiPageState>>) -> Html<&'static str> {
    let installed = ASSETS.iter().all(|(name, _)| page.root.join(PACKAGE).join(name).is_file());
    Html(if installed { include_str!("api_page/index.html") } else { include_str!("api_page/missing.html") })
}

async fn document(State(page): State<Arc<ApiPageState>>) -> Response {
    file(page.root.join(DOCUMENT), "application/yaml").await
}

async fn asset(State(page): State<Arc<ApiPageState>>, Path(name): Path<String>) -> Response {
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

/// Forwards a request to the HTTP API and returns the response unchanged.
async fn forward(State(page): State<Arc<ApiPageState>>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let Ok(to) = format!("{}{path}", page.routes).parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = to;
    // `Host` contains the address of this page. `page.client` sets it to the address of the HTTP API. The
    // other headers belong to the connection, not to the request (RFC 9110, section 7.6.1).
    for name in [HOST, CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        request.headers_mut().remove(name);
    }
    match page.client.request(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            let text = format!(
                "the HTTP API at {} does not respond: {error}; wait until cargo dev is ready\n",
                page.routes
            );
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

    /// Starts a server that returns its request in the response body.
    async fn echo_server() -> Server {
        let echo = |request: Request| async {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let tenant = head.headers["x-tenant-id"].to_str().unwrap().to_owned();
            let text = format!("{} {} {tenant} {}", head.method, head.uri, String::from_utf8_lossy(&body));
            (StatusCode::IM_A_TEAPOT, [("x-request-id", "r")], text)
        };
        Server::serve("HTTP API", Router::new().fallback(echo)).await.unwrap()
    }

    #[tokio::test]
    async fn other_requests_are_forwarded_unchanged() {
        let (routes, folder) = (echo_server().await, tempfile::tempdir().unwrap());
        let page = ApiPage::start(0, folder.path().to_owned(), routes.url().to_owned()).await.unwrap();
        let got = send(&page, Method::PUT, "localhost", "/api/a%2Fb?x=%20y", "{}").await;
        assert_eq!((got.status, got.body.as_str()), (StatusCode::IM_A_TEAPOT, "PUT /api/a%2Fb?x=%20y t {}"));
        assert_eq!(got.headers["x-request-id"], "r");
        assert!(
            !got.headers.contains_key(CONTENT_SECURITY_POLICY),
            "the API's response got a header of the page"
        );
        routes.stop().await;
        assert_eq!(get(&page, "/healthz").await.status, StatusCode::BAD_GATEWAY);
    }

    #[tokio::test]
    async fn page_shows_the_install_command_until_the_package_is_installed() {
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

    // Without this check, another website could point its own name at 127.0.0.1 and share the origin.
    #[tokio::test]
    async fn requests_with_another_host_name_are_rejected() {
        let (routes, folder) = (echo_server().await, tempfile::tempdir().unwrap());
        let page = ApiPage::start(0, folder.path().to_owned(), routes.url().to_owned()).await.unwrap();
        for path in ["/", "/openapi.yaml", "/start.js", "/healthz"] {
            for host in ["evil.example", "127.0.0.1.evil.example", ""] {
                let got = send(&page, Method::GET, host, path, "").await;
                assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
            }
        }
    }
}
