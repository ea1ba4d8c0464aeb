//! What is shown, gathered once: `/status` is this as JSON, the page is this as HTML. The names of the contract stay;
//! fields may be added.
//!
//! Nothing here is a secret: no value of a variable, no command line, no line of app.yaml as it stands there.

use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use serde::{Serialize, Serializer};

use super::Admin;
use super::history::Point;
use crate::appyaml::{self, Login, Secure, Target};
use crate::site::{Desk, Site, source, static_options};
use crate::telemetry::metrics::HandlerKind;

/// `/status`, as the contract words it.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) state: &'static str,
    pub(super) uptime_seconds: u64,
    /// Why it is not ready.
    pub(super) obstacles: Vec<&'static str>,
    pub(super) app: App,
    pub(super) workers: Vec<Worker>,
    pub(super) queue: Queue,
    pub(super) traffic: Traffic,
    pub(super) handlers: Vec<Handler>,
    pub(super) config: Config,
}

#[derive(Debug, Serialize)]
pub(super) struct App {
    pub(super) service: String,
    pub(super) version: Option<String>,
    pub(super) runtime: String,
    /// What runs its scripts.
    pub(super) runs: &'static str,
    /// Of the Python that the built-in launcher chose.
    pub(super) python: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Worker {
    pub(super) worker: usize,
    pub(super) pid: Option<u32>,
    pub(super) state: &'static str,
    pub(super) address: Option<String>,
    pub(super) in_flight: u32,
    pub(super) requests: u64,
    pub(super) restarts: u64,
    pub(super) rss_bytes: Option<u64>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) started_at: Option<SystemTime>,
}

#[derive(Debug, Serialize)]
pub(super) struct Queue {
    pub(super) waiting: usize,
    pub(super) depth: usize,
    pub(super) timeout_seconds: f64,
    pub(super) in_flight: u64,
    pub(super) concurrency: u32,
    /// Requests the ready workers may hold together.
    pub(super) capacity: u64,
    /// Turned away since the start, and why.
    pub(super) rejected_full: u64,
    pub(super) rejected_late: u64,
}

/// Since the start, and over the last ten seconds.
#[derive(Debug, Serialize)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    pub(super) server_errors: u64,
    pub(super) requests_per_second: f64,
    pub(super) server_errors_per_second: f64,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p95_seconds: Option<f64>,
    /// Answered by none of the handlers.
    pub(super) unmatched: u64,
    pub(super) blocked_readings: u64,
    pub(super) internal: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Handler {
    pub(super) index: usize,
    pub(super) url: String,
    pub(super) action: &'static str,
    pub(super) login: &'static str,
    pub(super) source: String,
    pub(super) requests: u64,
    /// `script`, `static_dir` or `static_files`, whether or not it is blocked.
    pub(super) kind: &'static str,
    /// The script, the directory or the file as app.yaml has it.
    pub(super) to: String,
    pub(super) secure: &'static str,
    pub(super) redirect_code: u16,
    /// A missing file sends the request on to the next handler.
    pub(super) falls_on: bool,
    #[serde(serialize_with = "rfc3339")]
    pub(super) last_request_at: Option<SystemTime>,
}

#[derive(Debug, Serialize)]
pub(super) struct Config {
    pub(super) path: String,
    #[serde(serialize_with = "rfc3339")]
    pub(super) loaded_at: Option<SystemTime>,
    pub(super) reloads: u64,
    pub(super) last_error: Option<String>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) failed_at: Option<SystemTime>,
}

#[allow(clippy::ref_option, reason = "serde asks for it so")]
fn rfc3339<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.collect_str(&humantime::format_rfc3339_seconds(*time)),
        None => to.serialize_none(),
    }
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        let site = admin.current.get();
        let runs = admin.current.runs();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            state: admin.state(),
            uptime_seconds: admin.started.elapsed().as_secs(),
            obstacles: admin.obstacles(),
            app: App {
                service: site.app.service.clone(),
                version: site.app.version.clone(),
                runtime: site.app.runtime.clone(),
                runs: runs.by,
                python: runs.python.clone(),
            },
            workers: workers(admin),
            queue: queue(admin),
            traffic: traffic(admin, &site),
            handlers: site
                .map
                .handlers()
                .iter()
                .zip(&site.desks)
                .enumerate()
                .map(|(index, (handler, desk))| Handler::of(index, handler, desk))
                .collect(),
            config: config(admin, &site),
        }
    }
}

fn workers(admin: &Admin) -> Vec<Worker> {
    let one = |worker: crate::worker::WorkerStatus| Worker {
        worker: worker.worker,
        pid: worker.pid,
        state: worker.state.word(),
        address: worker.address.map(|address| address.to_string()),
        in_flight: worker.in_flight,
        requests: worker.requests,
        restarts: worker.restarts,
        rss_bytes: worker.rss_bytes,
        started_at: worker.started_at,
    };
    admin.workers.status().into_iter().map(one).collect()
}

fn queue(admin: &Admin) -> Queue {
    let limits = admin.pool.limits();
    let rejected = |reason| admin.metrics.queue_rejected.with_label_values(&[reason]).get();
    Queue {
        waiting: admin.pool.queue_len(),
        depth: limits.queue_depth,
        timeout_seconds: limits.queue_timeout.as_secs_f64(),
        in_flight: admin.pool.in_flight(),
        concurrency: limits.concurrency,
        capacity: u64::from(limits.concurrency) * u64::try_from(admin.pool.ready()).unwrap_or(u64::MAX),
        rejected_full: rejected("full"),
        rejected_late: rejected("timeout"),
    }
}

fn traffic(admin: &Admin, site: &Site) -> Traffic {
    let totals = admin.metrics.totals();
    let newest: Option<Point> = admin.history.points(Instant::now()).pop();
    Traffic {
        requests: totals.requests,
        server_errors: totals.server_errors,
        requests_per_second: newest.map_or(0.0, |point| point.requests),
        server_errors_per_second: newest.map_or(0.0, |point| point.server_errors),
        p50_seconds: newest.and_then(|point| point.p50),
        p95_seconds: newest.and_then(|point| point.p95),
        unmatched: site.unmatched.requests(),
        blocked_readings: site.blocked.requests(),
        internal: site.internal.requests(),
    }
}

fn config(admin: &Admin, site: &Site) -> Config {
    let refused = admin.current.last_error();
    Config {
        path: site.app.sources.first().map(|path| path.display().to_string()).unwrap_or_default(),
        loaded_at: Some(site.loaded_at),
        reloads: admin.current.reloads(),
        failed_at: refused.as_ref().map(|refused| refused.at),
        last_error: refused.map(|refused| refused.error),
    }
}

impl Handler {
    fn of(index: usize, handler: &appyaml::Handler, desk: &Desk) -> Self {
        let (kind, to) = match &handler.target {
            Target::Script { script } => ("script", script.as_str().to_owned()),
            Target::StaticDir { dir, .. } => ("static_dir", dir.clone()),
            Target::StaticFiles { path, .. } => ("static_files", path.as_str().to_owned()),
        };
        Self {
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
            kind,
            to,
            secure: match handler.secure {
                Secure::Optional => "optional",
                Secure::Always => "always",
                Secure::Never => "never",
            },
            redirect_code: handler.redirect_code,
            falls_on: static_options(handler).is_some_and(|options| options.require_matching_file),
            last_request_at: desk.metrics.last_request(),
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.login != Login::Optional.as_str()
    }
}
