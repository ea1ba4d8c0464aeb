//! The admin listener: probes, metrics, and the status: as JSON, as a page, and for one URL. Read-only; it reads state
//! and owns none but the samples of its charts.
//!
//! 1. `status`: what is shown, gathered once, as `/status` words it; `history`: the samples behind the charts.
//! 2. `page`: the same for people, made of `tables`, `chart` and `words`.
//! 3. `trial`: a URL somebody asks about; `verdict`: the answer in sentences.
//!
//! What protects it: it listens on loopback unless told otherwise, it changes nothing whoever asks, and nothing it says
//! is a secret. Its `Host` is not checked, for it is asked by whatever name or address a cluster has for it; so a page
//! of another origin that has its own name resolve to this listener (DNS rebinding) could read what is here: routes,
//! counts and process numbers, but no value of a variable, no command line and no request of anybody. (The message of a
//! refused reload names what is wrong, without the line of the file it is about.) Other origins
//! that do not go so far can neither read an answer nor frame the page (`Content-Security-Policy`,
//! `Cross-Origin-Resource-Policy`).

mod chart;
mod history;
mod page;
mod status;
mod tables;
mod trial;
mod verdict;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tokio::sync::watch;

use crate::balance::Pool;
use crate::drain::Stage;
use crate::site::Current;
use crate::telemetry::metrics::Metrics;
use crate::worker::Handle;

pub use history::History;
use status::Status;

/// The policy of what is no page.
const NOTHING_RUNS: &str = "default-src 'none'; frame-ancestors 'none'";

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
    /// What was answered lately.
    pub history: Arc<History>,
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

    async fn answer(&self, path: &str, query: Option<&str>) -> Answer {
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
            "/metrics" => self.metrics_text(),
            "/status" => match serde_json::to_string_pretty(&Status::of(self)) {
                Ok(text) => Answer::json(StatusCode::OK, text + "\n"),
                Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/explain" => match trial::json(&self.current.get(), query).await {
                Ok(text) => Answer::json(StatusCode::OK, text),
                Err(text) => Answer::json(StatusCode::BAD_REQUEST, text),
            },
            "/" => {
                let trial = trial::shown(&self.current.get(), query).await;
                let status = Status::of(self);
                let points = self.history.points(Instant::now());
                let body = page::render(&status, &points, SystemTime::now(), trial.as_ref());
                Answer { status: StatusCode::OK, kind: "text/html; charset=utf-8", body }
            }
            _ => Answer::text(
                StatusCode::NOT_FOUND,
                "not found; there are /livez /readyz /startupz /metrics /status /explain?url= and /\n"
                    .to_owned(),
            ),
        }
    }

    fn metrics_text(&self) -> Answer {
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

    const fn json(status: StatusCode, body: String) -> Self {
        Self { status, kind: "application/json", body }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let head = request.method == Method::HEAD;
        let answer = if head || request.method == Method::GET {
            self.answer(request.uri.path(), request.uri.query()).await
        } else {
            Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned())
        };
        let length = answer.body.len();
        let mut response = Response::new(if head { Vec::new() } else { answer.body.into_bytes() });
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
        headers.insert(header::CONTENT_LENGTH, length.into());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        let is_page = answer.kind.starts_with("text/html");
        let policy = if is_page { page::POLICY.clone() } else { HeaderValue::from_static(NOTHING_RUNS) };
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        session.set_keepalive(Some(Duration::from_secs(75).as_secs()));
        response
    }
}
