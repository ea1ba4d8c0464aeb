//! Every series compat-proxy exports, on a registry of its own.
//!
//! One value, built once and passed down, so tests build their own and no test sees another's counts.
//! Labels come from closed sets or from the configuration, never from a request. What is counted per
//! request is resolved at load ([`HandlerMetrics`]); nothing here is looked up by name while serving.
//!
//! A new family is a field, its line in [`Metrics::new`] and, with labels, its zeros in `zero`; then
//! `UPDATE_SNAPSHOTS=1 cargo test --test manifests metrics` writes it into `dashboards/metrics.md`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use super::Reason;

mod buckets;
mod cache;
mod family;
mod handler;
mod maker;
mod program;
mod totals;
mod worker;
mod zero;

use buckets::{REQUEST_SECONDS, SIZE_BYTES, START_SECONDS, WAIT_SECONDS};
use maker::Maker;

pub use cache::StaticCache;
pub use family::{Family, Kind};
pub use handler::{Answered, HandlerKind, HandlerMetrics, StaticResult, class_of};
pub use totals::Totals;
pub use worker::{WorkerUsage, WorkerUsages};

/// States of a worker, as in `/status`.
pub const WORKER_STATES: [&str; 5] = ["starting", "ready", "draining", "backoff", "failed"];
const LIFECYCLE_STATES: [&str; 4] = ["starting", "ready", "draining", "stopped"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metric families; every handle is cheap to clone and safe to share.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Vec<Family>>,
    requests: IntCounterVec,
    duration: HistogramVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
    last_request: GaugeVec,
    login_blocked: IntCounterVec,
    static_requests: IntCounterVec,
    generated: Vec<IntCounter>,
    lifecycle: IntGaugeVec,
    config_info: IntGaugeVec,
    worker_requests: IntCounterVec,
    /// Requests being handled now.
    pub in_flight: IntGauge,
    /// Connections of clients that are open.
    pub connections: IntGauge,
    /// Connections of clients that may be open.
    pub connections_limit: IntGauge,
    /// Connections of clients ever accepted.
    pub connections_total: IntCounter,
    /// Client headers removed that only App Engine may set.
    pub stripped_appengine: IntCounter,
    /// Client headers removed for an underscore in their name.
    pub stripped_underscore: IntCounter,
    /// Bytes of static files sent: as they lie, as gzip, as brotli.
    pub static_sent_bytes: [IntCounter; 3],
    /// The files held in memory.
    pub static_cache: StaticCache,
    /// The most memory the workers and the proxy may use together, bytes; 0 for no limit.
    pub memory_limit: IntGauge,
    /// Requests waiting for a worker.
    pub queue_depth: IntGauge,
    /// Requests that may wait at most.
    pub queue_limit: IntGauge,
    /// Time spent waiting for a worker, seconds.
    pub queue_wait: Histogram,
    /// Requests turned away by the queue, by `reason`.
    pub queue_rejected: IntCounterVec,
    /// Requests at the workers now.
    pub concurrency_in_use: IntGauge,
    /// Requests the ready workers may hold.
    pub concurrency_limit: IntGauge,
    /// Time to connect to a worker, seconds.
    pub upstream_connect: Histogram,
    /// From sending a request to the worker to its response head, seconds.
    pub upstream_first_byte: Histogram,
    /// Requests tried again, by `reason` and `result`; `over_budget` are those that were not.
    pub upstream_retries: IntCounterVec,
    /// Workers by `state`.
    pub workers: IntGaugeVec,
    /// Workers that should be ready.
    pub workers_desired: IntGauge,
    /// 1 while the slot is ready, by `worker` (slot number).
    pub worker_ready: IntGaugeVec,
    /// Requests at a worker, by `worker`.
    pub worker_in_flight: IntGaugeVec,
    /// Processes started, by `worker` and `reason`.
    pub worker_starts: IntCounterVec,
    /// Processes ended, by `worker`, `kind` and `status`.
    pub worker_exits: IntCounterVec,
    /// From spawn to ready, seconds.
    pub worker_start_duration: Histogram,
    /// What the workers' processes use.
    pub worker_usage: WorkerUsages,
    /// Probes of workers, by `worker` and `result`.
    pub worker_health_checks: IntCounterVec,
    /// Reloads of the configuration, by `result`.
    pub config_reloads: IntCounterVec,
    /// 1 when the newest reload (or the start) succeeded.
    pub config_last_reload_successful: IntGauge,
    /// When the configuration in force was loaded, Unix seconds.
    pub config_last_reload_success_timestamp: Gauge,
    /// Findings in the configuration in force, by `severity`.
    pub config_warnings: IntGaugeVec,
    /// Log lines thrown away because the log could not keep up, by `stream`.
    pub log_dropped: IntCounterVec,
    /// Panics caught while serving: each is a bug.
    pub panics: IntCounter,
}

impl Metrics {
    /// Registers every family on a fresh registry and sets what is known to zero.
    ///
    /// # Errors
    /// Only when two families share a name, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let make = Maker::new()?;
        let stripped = make.counters("headers_stripped_total", "client headers removed", &["kind"])?;
        let generated = make.counters(
            "responses_generated_total",
            "answers made by the proxy itself, not by app or file",
            &["reason"],
        )?;
        program::announce(&make)?;
        let sent = make.counters("static_sent_bytes_total", "bytes of static files sent", &["encoding"])?;
        let metrics = Self {
            requests: make.counters(
                "http_requests_total",
                "requests answered",
                &["handler", "handler_type", "method", "code"],
            )?,
            duration: make.histograms(
                "http_request_duration_seconds",
                "from the request head to the last byte of the response",
                &["handler", "code_class"],
                REQUEST_SECONDS,
            )?,
            request_size: make.histograms(
                "http_request_size_bytes",
                "request bodies",
                &["handler_type"],
                SIZE_BYTES,
            )?,
            response_size: make.histograms(
                "http_response_size_bytes",
                "response bodies",
                &["handler_type"],
                SIZE_BYTES,
            )?,
            last_request: make.float_gauges(
                "http_last_request_timestamp_seconds",
                "when the handler was last asked, Unix time; 0 for never",
                &["handler"],
            )?,
            login_blocked: make.counters(
                "login_blocked_total",
                "requests answered 404 because their handler has a login rule",
                &["handler", "login"],
            )?,
            static_requests: make.counters(
                "static_requests_total",
                "requests for static files",
                &["handler", "result"],
            )?,
            generated: Reason::ALL
                .iter()
                .map(|reason| generated.with_label_values(&[reason.as_str()]))
                .collect(),
            lifecycle: make.gauges("lifecycle_state", "1 for the state the proxy is in", &["state"])?,
            config_info: make.gauges(
                "config_info",
                "the app.yaml in force; always 1",
                &["app_yaml_sha", "runtime", "service", "version", "handlers"],
            )?,
            worker_requests: make.counters(
                "worker_requests_total",
                "responses of a worker",
                &["worker", "code_class"],
            )?,
            in_flight: make.gauge("http_requests_in_flight", "requests being handled")?,
            connections: make.gauge("http_connections", "connections of clients that are open")?,
            connections_limit: make
                .gauge("http_connections_limit", "connections of clients that may be open")?,
            connections_total: make.counter("http_connections_total", "connections of clients accepted")?,
            stripped_appengine: stripped.with_label_values(&["appengine"]),
            stripped_underscore: stripped.with_label_values(&["underscore"]),
            static_sent_bytes: ["identity", "gzip", "br"].map(|coding| sent.with_label_values(&[coding])),
            static_cache: StaticCache::new(&make)?,
            memory_limit: make.gauge(
                "memory_limit_bytes",
                "memory that the control group of the proxy and its workers may use; 0 for no limit",
            )?,
            queue_depth: make.gauge("queue_depth", "requests waiting for a worker")?,
            queue_limit: make.gauge("queue_limit", "requests that may wait")?,
            queue_wait: make.histogram(
                "queue_wait_seconds",
                "time spent waiting for a worker; 0 for most requests",
                WAIT_SECONDS,
            )?,
            queue_rejected: make.counters(
                "queue_rejected_total",
                "requests the queue turned away",
                &["reason"],
            )?,
            concurrency_in_use: make.gauge("concurrency_in_use", "requests at the workers")?,
            concurrency_limit: make.gauge("concurrency_limit", "requests the ready workers may hold")?,
            upstream_connect: make.histogram(
                "upstream_connect_duration_seconds",
                "time to open a connection to a worker",
                WAIT_SECONDS,
            )?,
            upstream_first_byte: make.histogram(
                "upstream_first_byte_seconds",
                "from choosing a worker to its response head",
                REQUEST_SECONDS,
            )?,
            upstream_retries: make.counters(
                "upstream_retries_total",
                "requests tried again, or not because the budget for that was used up",
                &["reason", "result"],
            )?,
            workers: make.gauges("workers", "workers by state", &["state"])?,
            workers_desired: make.gauge("workers_desired", "workers that should be ready")?,
            worker_ready: make.gauges("worker_ready", "1 while the worker is ready", &["worker"])?,
            worker_in_flight: make.gauges("worker_in_flight", "requests at the worker", &["worker"])?,
            worker_starts: make.counters(
                "worker_starts_total",
                "worker processes started",
                &["worker", "reason"],
            )?,
            worker_exits: make.counters(
                "worker_exits_total",
                "worker processes ended",
                &["worker", "kind", "status"],
            )?,
            worker_start_duration: make.histogram(
                "worker_start_duration_seconds",
                "from spawning a worker to its being ready",
                START_SECONDS,
            )?,
            worker_usage: WorkerUsages::new(&make)?,
            worker_health_checks: make.counters(
                "worker_health_checks_total",
                "probes of workers",
                &["worker", "result"],
            )?,
            config_reloads: make.counters(
                "config_reloads_total",
                "reloads of the configuration",
                &["result"],
            )?,
            config_last_reload_successful: make
                .gauge("config_last_reload_successful", "1 when the newest reload succeeded")?,
            config_last_reload_success_timestamp: make.float_gauge(
                "config_last_reload_success_timestamp_seconds",
                "when the configuration in force was loaded, Unix time",
            )?,
            config_warnings: make.gauges(
                "config_warnings",
                "findings in the configuration in force",
                &["severity"],
            )?,
            log_dropped: make.counters("log_dropped_total", "log lines thrown away", &["stream"])?,
            panics: make.counter("panics_total", "panics caught while serving; each is a bug")?,
            registry: Registry::new(),
            families: Arc::default(),
        };
        let (registry, families) = make.done();
        let metrics = Self { registry, families: Arc::new(families), ..metrics };
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Counts one answer made by the proxy itself.
    pub fn generated(&self, reason: Reason) {
        if let Some(counter) = self.generated.get(reason as usize) {
            counter.inc();
        }
    }

    /// Moves the state set to `state`, one of `starting`, `ready`, `draining`, `stopped`.
    pub fn lifecycle(&self, state: &str) {
        for known in LIFECYCLE_STATES {
            self.lifecycle.with_label_values(&[known]).set(i64::from(known == state));
        }
    }

    /// Replaces the series that says which app.yaml is in force.
    pub fn config(&self, sha: &str, runtime: &str, service: &str, version: &str, handlers: usize) {
        self.config_info.reset();
        self.config_info.with_label_values(&[sha, runtime, service, version, &handlers.to_string()]).set(1);
        self.config_last_reload_success_timestamp.set(unix_now());
        self.config_last_reload_successful.set(1);
    }

    /// The counter of requests a login rule answered 404.
    #[must_use]
    pub fn login_blocked(&self, handler: &str, login: &str) -> IntCounter {
        self.login_blocked.with_label_values(&[handler, login])
    }

    /// The counters of a static handler, one for each [`StaticResult`].
    #[must_use]
    pub fn static_results(&self, handler: &str) -> Vec<IntCounter> {
        StaticResult::ALL
            .iter()
            .map(|result| self.static_requests.with_label_values(&[handler, result.as_str()]))
            .collect()
    }

    /// Every family of ours, by name, whether or not anything was counted.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The counters of one worker slot, one for each class of status codes from 1xx to 5xx.
    #[must_use]
    pub fn worker_classes(&self, slot: usize) -> [IntCounter; 5] {
        CLASSES.map(|class| self.worker_requests.with_label_values(&[&slot.to_string(), class]))
    }

    /// Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// When a family cannot be written as text, which no family here does.
    pub fn text(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(program::process_families());
        TextEncoder::new().encode_to_string(&families)
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
