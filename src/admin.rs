//! The admin listener: probes, metrics, status as JSON and as a page. Read-only; it reads state and owns none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde::Serialize;
use tokio::sync::watch;

use crate::balance::Pool;
use crate::drain::Stage;
use crate::site::{Current, source};
use crate::telemetry::metrics::{HandlerKind, Metrics};
use crate::worker::Handle;

const PAGE: &str = include_str!("admin/status.html");

/// What the admin listener reads.
pub struct Admin {
    /// The live site.
    pub current: Arc<Current>,
    /// The ready workers.
    pub pool: Pool,
    /// The workers.
    pub workers: Handle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// How far the way out is.
    pub stage: watch::Receiver<Stage>,
    /// When the process started.
    pub started: Instant,
}

impl Admin {
    /// Why it is not ready; empty when it is.
    fn obstacles(&self) -> Vec<&'static str> {
        let mut obstacles = Vec::new();
        if *self.stage.borrow() != Stage::Running {
            obstacles.push("draining");
        }
        if self.current.has_workers() && self.pool.ready() == 0 {
            obstacles.push("no worker is ready");
        }
        obstacles
    }

    fn state(&self) -> &'static str {
        match *self.stage.borrow() {
            Stage::Gone => "stopped",
            Stage::Running if !self.current.has_workers() || self.pool.ready() > 0 => "ready",
            Stage::Running => "starting",
            _ => "draining",
        }
    }

    fn status(&self) -> Status {
        let site = self.current.get();
        let workers = self.workers.status().into_iter().map(|worker| Worker {
            worker: worker.worker,
            pid: worker.pid,
            state: worker.state.word(),
            address: worker.address.map(|address| address.to_string()),
            in_flight: worker.in_flight,
            requests: worker.requests,
            restarts: worker.restarts,
            rss_bytes: worker.rss_bytes,
            started_at: worker.started_at.map(rfc3339),
        });
        let handlers =
            site.map.handlers().iter().zip(&site.desks).enumerate().map(|(index, (handler, desk))| Handler {
                index,
                url: handler.url.as_str().to_owned(),
                action: match desk.metrics.kind() {
                    HandlerKind::Blocked => "blocked_login",
                    HandlerKind::StaticDir | HandlerKind::StaticFiles => "static",
                    _ => "script",
                },
                login: handler.login.as_str(),
                source: source(&handler.place),
                requests: desk.requests.load(Ordering::Relaxed),
            });
        let limits = self.pool.limits();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state: self.state(),
            uptime_seconds: self.started.elapsed().as_secs(),
            workers: workers.collect(),
            queue: Queue {
                waiting: self.pool.queue_len(),
                depth: limits.queue_depth,
                timeout_seconds: limits.queue_timeout.as_secs_f64(),
                in_flight: self.pool.in_flight(),
                concurrency: limits.concurrency,
            },
            handlers: handlers.collect(),
            config: Config {
                path: site.app.sources.first().map(|path| path.display().to_string()).unwrap_or_default(),
                loaded_at: rfc3339(site.loaded_at),
                reloads: self.current.reloads(),
                last_error: self.current.last_error(),
            },
        }
    }

    fn answer(&self, path: &str) -> Answer {
        match path {
            "/livez" | "/healthz" => Answer::text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match self.obstacles() {
                obstacles if obstacles.is_empty() => Answer::text(StatusCode::OK, "ready\n".to_owned()),
                obstacles => Answer::text(StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n"),
            },
            "/startupz" if self.workers.ever_ready() || !self.current.has_workers() => {
                Answer::text(StatusCode::OK, "started\n".to_owned())
            }
            "/startupz" => {
                Answer::text(StatusCode::SERVICE_UNAVAILABLE, "no worker was ready yet\n".to_owned())
            }
            "/metrics" => {
                self.metrics.lifecycle(self.state());
                let usage = self.current.get().files.usage();
                self.metrics.static_cache.set(usage.entries, usage.bytes);
                match self.metrics.text() {
                    Ok(text) => Answer {
                        status: StatusCode::OK,
                        kind: "text/plain; version=0.0.4; charset=utf-8",
                        body: text,
                    },
                    Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                }
            }
            "/status" => match serde_json::to_string_pretty(&self.status()) {
                Ok(text) => Answer { status: StatusCode::OK, kind: "application/json", body: text + "\n" },
                Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/" => Answer { status: StatusCode::OK, kind: "text/html; charset=utf-8", body: PAGE.to_owned() },
            _ => Answer::text(
                StatusCode::NOT_FOUND,
                "not found; there are /livez /readyz /startupz /metrics /status and /\n".to_owned(),
            ),
        }
    }
}

struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Answer {
    const fn text(status: StatusCode, body: String) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        let answer = if head || request.method == Method::GET {
            self.answer(request.uri.path())
        } else {
            Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned())
        };
        let mut response = Response::new(if head { Vec::new() } else { answer.body.clone().into_bytes() });
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(answer.kind));
        headers.insert(header::CONTENT_LENGTH, answer.body.len().into());
        headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        }
        session.set_keepalive(Some(Duration::from_secs(75).as_secs()));
        response
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `/status`, as the contract words it.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    state: &'static str,
    uptime_seconds: u64,
    workers: Vec<Worker>,
    queue: Queue,
    handlers: Vec<Handler>,
    config: Config,
}

#[derive(Serialize)]
struct Worker {
    worker: usize,
    pid: Option<u32>,
    state: &'static str,
    address: Option<String>,
    in_flight: u32,
    requests: u64,
    restarts: u64,
    rss_bytes: Option<u64>,
    started_at: Option<String>,
}

#[derive(Serialize)]
struct Queue {
    waiting: usize,
    depth: usize,
    timeout_seconds: f64,
    in_flight: u64,
    concurrency: u32,
}

#[derive(Serialize)]
struct Handler {
    index: usize,
    url: String,
    action: &'static str,
    login: &'static str,
    source: String,
    requests: u64,
}

#[derive(Serialize)]
struct Config {
    path: String,
    loaded_at: String,
    reloads: u64,
    last_error: Option<String>,
}
