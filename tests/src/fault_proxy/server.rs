//! HTTP server of the proxy: it receives a call, applies its fault and forwards it.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::{
    Shared,
    arrivals::Running,
    batch,
    call::Call,
    condition,
    conflicts::WINDOW,
    fault::{Effect, Injection},
    refusal,
};

type Answer = Response<Full<Bytes>>;

/// Starts to accept connections. Returns the endpoint and the task, which ends the connections when it
/// ends.
pub(super) async fn listen(shared: Arc<Shared>) -> Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on 127.0.0.1")?;
    let url = format!("http://{}", listener.local_addr()?);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(Arc::clone(&shared), stream));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok((url, task))
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    // Without it, the kernel delays small packets.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            // Its own task, because AWS also completes a call whose client has gone.
            tokio::spawn(async move { shared.answer(Call::new(&shared.test, head, body)).await }).await?
        }
    });
    // An error of the service closes the connection without an answer.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The service behind the proxy.
pub(super) struct Upstream {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Upstream {
    pub(super) fn new(url: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { url: url.to_owned(), client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    async fn send(&self, call: &Call, body: Bytes) -> Result<Answer> {
        let path = call.head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(call.head.method.clone())
            .uri(format!("{}{path}", self.url))
            .body(Full::new(body))?;
        *request.headers_mut() = call.head.headers.clone();
        for own in [HOST, CONNECTION, CONTENT_LENGTH] {
            request.headers_mut().remove(own);
        }
        let (head, body) = self.client.request(request).await?.into_parts();
        Ok(Response::from_parts(head, Full::new(body.collect().await?.to_bytes())))
    }

    async fn send_json(&self, call: &Call, body: &Value) -> Result<(StatusCode, Value)> {
        let answer = self.send(call, body.to_string().into()).await?;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?))
    }
}

impl Shared {
    /// Answers a call. An error closes the connection.
    async fn answer(self: &Arc<Self>, call: Call) -> Result<Answer> {
        let running = self.arrivals.enter();
        let Some(injection) = self.decide(&call) else {
            let answer = self.execute(&call, &running, None).await?;
            return Ok(self.earlier.note(&call, answer).await);
        };
        if let Some((status, body)) = refusal::of(injection.effect, &call, &injection.item) {
            injection.gate.note_applied();
            return Ok(json_response(status, &body));
        }
        match injection.effect {
            Effect::LoseRequest => {
                injection.gate.note_applied();
                bail!("the request was lost");
            }
            Effect::HoldRequest => {
                injection.gate.note_applied();
                wait(&injection, &running).await;
                let answer = self.execute(&call, &running, None).await;
                injection.gate.note_executed();
                answer
            }
            Effect::LoseAnswer => {
                self.execute(&call, &running, None).await?;
                injection.gate.note_executed();
                injection.gate.note_applied();
                bail!("the answer was lost");
            }
            Effect::DeliverLate => {
                injection.gate.note_applied();
                let shared = Arc::clone(self);
                tokio::spawn(async move {
                    wait(&injection, &running).await;
                    // The client has gone, so that nothing reads the answer.
                    let _ = shared.execute(&call, &running, None).await;
                    injection.gate.note_executed();
                });
                bail!("the request is late");
            }
            Effect::AnswerEarlier => {
                injection.gate.note_applied();
                match self.earlier.of(&call) {
                    Some(answer) => Ok(answer),
                    None => self.execute(&call, &running, None).await,
                }
            }
            Effect::LeaveUnprocessed | Effect::Tear => self.read_in_parts(&injection, &call, &running).await,
            _ => self.execute(&call, &running, Some(&injection)).await,
        }
    }

    /// Executes a call, unless conflict mode refuses it. A held call occupies its items while it waits.
    async fn execute(&self, call: &Call, running: &Running, held: Option<&Injection>) -> Result<Answer> {
        let occupied = match self.conflicts.enter(call) {
            Ok(occupied) => occupied,
            Err(overlap) => {
                self.record_conflict(call);
                let (status, body) = refusal::overlap(call, &overlap);
                return Ok(json_response(status, &body));
            }
        };
        let holds = |effect| held.filter(|injection| injection.effect == effect);
        if let Some(injection) = holds(Effect::HoldBefore) {
            injection.gate.note_applied();
            wait(injection, running).await;
        } else if occupied.is_some() {
            running.wait(WINDOW).await;
        }
        let answer = self.upstream.send(call, call.body.clone()).await;
        if let (true, Ok(answer)) = (call.is_weakened, &answer) {
            condition::exit_if_invalid(answer).await;
        }
        if let Some(injection) = held {
            injection.gate.note_executed();
        }
        if let Some(injection) = holds(Effect::HoldAfter) {
            injection.gate.note_applied();
            wait(injection, running).await;
        }
        answer
    }

    /// Executes a batch read in two parts, or only its first part.
    async fn read_in_parts(&self, injection: &Injection, call: &Call, running: &Running) -> Result<Answer> {
        let in_halves =
            injection.item.is_any() && (injection.effect == Effect::Tear || injection.delay.is_some());
        let parts =
            if in_halves { batch::split_in_halves(call) } else { batch::split_at_item(call, injection) };
        let mut answer = batch::empty();
        if let Some(first) = parts.first {
            self.read(call, first, &mut answer).await?;
        }
        injection.gate.note_applied();
        if let Some(second) = parts.second {
            if injection.effect == Effect::LeaveUnprocessed {
                answer["UnprocessedKeys"] = second;
            } else {
                wait(injection, running).await;
                self.read(call, second, &mut answer).await?;
            }
        }
        injection.gate.note_executed();
        Ok(json_response(StatusCode::OK, &answer))
    }

    /// Reads one part of a batch and adds it to the answer.
    async fn read(&self, call: &Call, part: Value, answer: &mut Value) -> Result<()> {
        let (status, read) = self.upstream.send_json(call, &batch::request(call, part)).await?;
        ensure!(status.is_success(), "the service refused a part of a batch read: {read}");
        batch::merge(answer, &read);
        Ok(())
    }
}

/// Waits for the release by the test, or for the random delay.
async fn wait(injection: &Injection, running: &Running) {
    match injection.delay {
        Some(delay) => running.wait(delay).await,
        None => injection.gate.opened().await,
    }
}

fn json_response(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
