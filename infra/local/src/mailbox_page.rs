//! Page that shows the [`Mailbox`], on its own listener.
//!
//! Names and templates in the messages are untrusted input, and the messages contain valid codes.
//! Therefore:
//! - Templates escape all values.
//! - The HTML part of a mail is a separate response with a stricter content security policy, in a
//!   sandbox without scripts.
//! - The page loads nothing from other servers.
//! - Requests with another `Host` than 127.0.0.1 or localhost are rejected. Otherwise a website could
//!   point its own name at 127.0.0.1 and read the messages.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{
        HeaderName, StatusCode,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    middleware,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use minijinja::{Environment, value::Serde};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    links,
    mailbox::{Content, Mailbox, Message},
    server::{self, Server},
};

/// Policy of the page: it may load only its own style, script and frame.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                           frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Policy of a mail's HTML part: inline styles and links to new windows, but no scripts, forms or requests.
const MAIL_POLICY: &str = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; \
                           style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
                           frame-ancestors 'self'";

/// Templates, compiled into the program. None of them comes from a request.
const TEMPLATES: [(&str, &str); 4] = [
    ("layout.html", include_str!("mailbox_page/layout.html")),
    ("list.html", include_str!("mailbox_page/list.html")),
    ("mail.html", include_str!("mailbox_page/mail.html")),
    ("span.html", include_str!("mailbox_page/span.html")),
];

/// Listener of the mailbox page. It ends when dropped.
#[derive(Debug)]
pub struct MailboxPage(Server);

struct MailboxPageState {
    mailbox: Mailbox,
    templates: Environment<'static>,
    /// File of undeliverable messages, if the stack keeps its data.
    kept_in: Option<PathBuf>,
}

impl MailboxPage {
    /// Starts the page on a port of 127.0.0.1; 0 means any free port. The page shows the path
    /// `dead_letters`.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: u16, mailbox: Mailbox, dead_letters: Option<PathBuf>) -> Result<Self> {
        let mut templates = Environment::new();
        for (name, text) in TEMPLATES {
            templates.add_template(name, text).with_context(|| format!("the template {name} is invalid"))?;
        }
        let router = Router::new()
            .route("/", get(list))
            .route("/messages/{id}", get(mail))
            .route("/messages/{id}/html", get(html_part))
            .route("/api/messages", get(messages))
            .route("/style.css", get(asset("text/css", include_str!("mailbox_page/style.css"))))
            .route("/live.js", get(asset("text/javascript", include_str!("mailbox_page/live.js"))))
            .layer(middleware::map_response(|mut response: Response| async move {
                server::protect(&mut response, PAGE_POLICY);
                response
            }))
            .layer(middleware::from_fn(server::only_local))
            .with_state(Arc::new(MailboxPageState { mailbox, templates, kept_in: dead_letters }));
        Server::serve_on(port, "mailbox page", router)
            .await
            .map(Self)
            .context("cannot start the mailbox page")
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

fn asset(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, kind)], text)
}

async fn messages(State(page): State<Arc<MailboxPageState>>) -> impl IntoResponse {
    let messages = page.mailbox.messages();
    Json(json!({ "messages": messages.iter().rev().map(|it| &**it).collect::<Vec<_>>() }))
}

async fn list(State(page): State<Arc<MailboxPageState>>) -> Response {
    #[derive(Default, Serialize)]
    struct List {
        letters: Vec<Value>,
        mails: Vec<Value>,
        texts: Vec<Value>,
        events: Vec<Value>,
        kept_in: Option<String>,
    }
    let mut list =
        List { kept_in: page.kept_in.as_ref().map(|path| path.display().to_string()), ..List::default() };
    for message in page.mailbox.messages().iter().rev() {
        let Message { id, time, content } = &**message;
        let (rows, mut row) = match content {
            Content::DeadLetter(letter) => (&mut list.letters, json!(letter)),
            Content::Mail(mail) => (&mut list.mails, json!({ "subject": mail.subject, "to": mail.to })),
            Content::TextMessage(text) => {
                (&mut list.texts, json!({ "to": text.phone_number, "text": spans(&text.text) }))
            }
            Content::Event(event) => {
                let mut row = json!(event);
                // Indented, so that people can read it.
                set(&mut row, "detail", format!("{:#}", event.detail).into());
                (&mut list.events, row)
            }
        };
        set(&mut row, "id", (*id).into());
        set(&mut row, "time", time.to_string().into());
        set(&mut row, "at", at(*time).into());
        rows.push(row);
    }
    page.render("list.html", list)
}

async fn mail(State(page): State<Arc<MailboxPageState>>, Path(id): Path<u64>) -> Response {
    let message = page.mailbox.message(id);
    let Some((message, mail)) = message.as_ref().and_then(|message| Some((message, message.mail()?))) else {
        return gone();
    };
    page.render(
        "mail.html",
        json!({
            "id": id,
            "mail": mail,
            "time": message.time.to_string(),
            "at": at(message.time),
            "text": mail.text.as_deref().map(spans),
        }),
    )
}

/// HTML part of a mail as a document. Its links open in a new window.
async fn html_part(State(page): State<Arc<MailboxPageState>>, Path(id): Path<u64>) -> Response {
    let message = page.mailbox.message(id);
    let Some(html) = message.as_ref().and_then(|message| message.mail()?.html.as_deref()) else {
        return gone();
    };
    let document = format!("<!doctype html><base target=\"_blank\">{html}");
    ([(CONTENT_SECURITY_POLICY, MAIL_POLICY)], Html(document)).into_response()
}

fn gone() -> Response {
    (StatusCode::NOT_FOUND, "This message does not exist, or newer messages have replaced it.\n")
        .into_response()
}

impl MailboxPageState {
    fn render(&self, template: &str, values: impl Serialize) -> Response {
        let rendered = self.templates.get_template(template).and_then(|it| it.render(Serde(values)));
        match rendered {
            Ok(html) => Html(html).into_response(),
            Err(error) => {
                crate::ui::to_stderr(&format!("the mailbox page failed: {error:#}"));
                let text = "The page failed. Read the error in the output of cargo dev.\n";
                (StatusCode::INTERNAL_SERVER_ERROR, Body::from(text)).into_response()
            }
        }
    }
}

fn set(row: &mut Value, name: &str, value: Value) {
    if let Some(row) = row.as_object_mut() {
        row.insert(name.to_owned(), value);
    }
}

fn spans(text: &str) -> Vec<Value> {
    let spans = links::spans(text).into_iter();
    spans.map(|span| json!({ "text": span.text, "isLink": span.is_link })).collect()
}

fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{DeadLetter, Event, Mail, TextMessage};
    use axum::{
        extract::Request,
        http::{
            HeaderMap, HeaderValue,
            header::{HOST, X_CONTENT_TYPE_OPTIONS},
        },
    };
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

    struct Got {
        status: StatusCode,
        headers: HeaderMap,
        body: String,
    }

    async fn get_as(host: &str, page: &MailboxPage, path: &str) -> Got {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::get(format!("{}{path}", page.url()))
            .header(HOST, HeaderValue::from_str(host).unwrap())
            .body(Body::empty())
            .unwrap();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        Got { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(page: &MailboxPage, path: &str) -> Got {
        get_as("localhost:9025", page, path).await
    }

    fn hostile_mail() -> Content {
        let text = format!("Hello {HOSTILE}\nOpen https://a.example/?u=1&code=K7QW\"><script>.");
        Content::Mail(Mail {
            from: HOSTILE.into(),
            to: vec![HOSTILE.into()],
            cc: vec![HOSTILE.into()],
            bcc: Vec::new(),
            reply_to: vec![HOSTILE.into()],
            subject: HOSTILE.into(),
            headers: vec![(HOSTILE.into(), HOSTILE.into())],
            links: links::of_mail(Some(&text), None),
            text: Some(text),
            html: Some(format!("<p style=\"color:red\">{HOSTILE}</p>")),
        })
    }

    async fn page_with(contents: Vec<Content>) -> MailboxPage {
        let mailbox = Mailbox::default();
        for content in contents {
            mailbox.add(content);
        }
        MailboxPage::start(0, mailbox, None).await.unwrap()
    }

    #[tokio::test]
    async fn untrusted_text_does_not_become_markup() {
        let text = format!("{HOSTILE} https://b.example/x");
        let page = page_with(vec![
            hostile_mail(),
            Content::TextMessage(TextMessage { phone_number: HOSTILE.into(), text, links: Vec::new() }),
            Content::Event(Event {
                bus: HOSTILE.into(),
                source: HOSTILE.into(),
                detail_type: HOSTILE.into(),
                detail: json!({ HOSTILE: HOSTILE }),
            }),
            Content::DeadLetter(DeadLetter {
                condition: "RetryAttemptsExhausted",
                sequence_number: HOSTILE.into(),
                pk: HOSTILE.into(),
                sk: HOSTILE.into(),
                attempts: 1,
                reason: HOSTILE.into(),
            }),
        ])
        .await;
        for path in ["/", "/messages/1"] {
            let got = get(&page, path).await;
            assert_eq!(got.status, StatusCode::OK, "{}", got.body);
            let body = got.body.replace("<script src=\"/live.js\" defer></script>", "");
            assert!(!body.contains("<script") && !body.contains("<img"), "{path}: {body}");
            assert!(!body.contains("\"'>"), "{path}: {body}");
            assert!(body.contains("&lt;script&gt;"), "{path}");
        }
        let list = get(&page, "/").await.body;
        assert!(list.contains("href=\"https:&#x2f;&#x2f;b.example&#x2f;x\""), "{list}");
        for heading in ["Mails", "Text messages", "Events", "Not delivered"] {
            assert!(list.contains(&format!("{heading}</h2>")), "{heading}");
        }
    }

    #[tokio::test]
    async fn link_in_a_text_is_clickable() {
        let text = "Open https://a.example/set?user=u%231&code=K7QW.\n";
        let Content::Mail(mail) = hostile_mail() else { panic!() };
        let page = page_with(vec![Content::Mail(Mail { text: Some(text.into()), html: None, ..mail })]).await;
        let body = get(&page, "/messages/1").await.body;
        let href = "<a href=\"https:&#x2f;&#x2f;a.example&#x2f;set?user=u%231&amp;code=K7QW\"";
        assert!(body.contains(href), "{body}");
        assert!(!body.contains("<iframe"));
    }

    #[tokio::test]
    async fn html_part_has_a_stricter_policy() {
        let page = page_with(vec![hostile_mail()]).await;
        let body = get(&page, "/messages/1").await;
        let frame = "<iframe src=\"/messages/1/html\"";
        assert!(body.body.contains(frame) && !body.body.contains("allow-scripts"), "{}", body.body);
        assert_eq!(body.headers[CONTENT_SECURITY_POLICY], PAGE_POLICY);
        let part = get(&page, "/messages/1/html").await;
        assert_eq!(part.headers[CONTENT_SECURITY_POLICY], MAIL_POLICY);
        assert!(
            MAIL_POLICY
                .starts_with("sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'")
        );
        assert!(part.body.contains("color:red"));
        assert_eq!(part.headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[tokio::test]
    async fn requests_with_another_host_name_are_rejected() {
        let page = page_with(vec![hostile_mail()]).await;
        for path in ["/", "/messages/1", "/messages/1/html", "/api/messages", "/nothing"] {
            for host in ["evil.example", "evil.example:9025", "127.0.0.1.evil.example", "localhost.:80", ""] {
                let got = get_as(host, &page, path).await;
                assert_eq!(got.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
                assert!(!got.body.contains("script"), "{host} {path}");
            }
        }
        for host in ["127.0.0.1:1234", "localhost", "127.0.0.1"] {
            assert_eq!(get_as(host, &page, "/").await.status, StatusCode::OK, "{host}");
        }
    }

    #[tokio::test]
    async fn json_list_is_newest_first() {
        let text = |text: &str| {
            Content::TextMessage(TextMessage {
                phone_number: "+45".into(),
                text: text.into(),
                links: Vec::new(),
            })
        };
        let page = page_with(vec![text("one"), hostile_mail(), text("three")]).await;
        let got = get(&page, "/api/messages").await;
        let value: Value = serde_json::from_str(&got.body).unwrap();
        let ids: Vec<_> = value["messages"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!(ids, [3, 2, 1]);
        assert_eq!(value["messages"][1]["subject"], HOSTILE);
        assert_eq!(value["messages"][1]["links"][0], "https://a.example/?u=1&code=K7QW\"><script");
    }

    #[tokio::test]
    async fn empty_mailbox_and_unknown_messages_are_reported() {
        let page = page_with(Vec::new()).await;
        assert!(get(&page, "/").await.body.contains("No messages yet"));
        for path in ["/messages/1", "/messages/1/html", "/messages/x"] {
            assert!(get(&page, path).await.status.is_client_error(), "{path}");
        }
    }
}
