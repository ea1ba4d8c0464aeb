//! The counters of one handler, resolved when its site is built: after the first request of a kind, counting is
//! a few atomic additions. The families they belong to are made in the parent module.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use prometheus::{Gauge, Histogram, IntCounter};

use super::{CLASSES, Metrics, unix_now};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "OTHER"];

impl Metrics {
    /// The handles of one handler, resolved now so that serving looks nothing up.
    #[must_use]
    pub fn handler(&self, label: &str, kind: HandlerKind) -> HandlerMetrics {
        let type_label = kind.as_str();
        let handles = HandlerMetrics {
            metrics: self.clone(),
            label: label.to_owned(),
            kind,
            counts: Default::default(),
            durations: Default::default(),
            request_size: self.request_size.with_label_values(&[type_label]),
            response_size: self.response_size.with_label_values(&[type_label]),
            last_request: self.last_request.with_label_values(&[label]),
        };
        for status in kind.foreseen() {
            handles.count(&Method::GET, *status);
            handles.duration(class_of(*status));
        }
        handles
    }
}

/// The `handler_type` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerKind {
    /// `script`.
    Script,
    /// `static_dir`.
    StaticDir,
    /// `static_files`.
    StaticFiles,
    /// A handler with a login rule.
    Blocked,
    /// No handler matched.
    Unmatched,
    /// Answered before any handler: health, redirects of dot segments, bad requests.
    Internal,
}

impl HandlerKind {
    /// The text of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::StaticDir => "static_dir",
            Self::StaticFiles => "static_files",
            Self::Blocked => "blocked",
            Self::Unmatched => "unmatched",
            Self::Internal => "internal",
        }
    }

    /// Statuses that stand at zero before the first answer.
    const fn foreseen(self) -> &'static [u16] {
        match self {
            Self::Script => &[200, 302, 404, 500, 502, 503, 504],
            Self::StaticDir | Self::StaticFiles => &[200, 304, 404],
            Self::Blocked | Self::Unmatched => &[404],
            Self::Internal => &[200, 302, 400, 405, 408, 413, 414, 431, 501],
        }
    }
}

/// What became of a request for a static file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaticResult {
    /// 200.
    Ok,
    /// 304.
    NotModified,
    /// 206.
    Partial,
    /// 404.
    Missing,
    /// 403.
    Forbidden,
    /// 412 or 416.
    PreconditionFailed,
}

impl StaticResult {
    pub(super) const ALL: [Self; 6] = [
        Self::Ok,
        Self::NotModified,
        Self::Partial,
        Self::Missing,
        Self::Forbidden,
        Self::PreconditionFailed,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotModified => "not_modified",
            Self::Partial => "partial",
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::PreconditionFailed => "precondition_failed",
        }
    }

    /// From the status of the answer.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            304 => Self::NotModified,
            206 => Self::Partial,
            403 => Self::Forbidden,
            404 => Self::Missing,
            412 | 416 => Self::PreconditionFailed,
            _ => Self::Ok,
        }
    }
}

type Codes = Box<[OnceLock<IntCounter>; 500]>;

/// The handles of one handler: after the first request of a kind, counting is a few atomic additions.
#[derive(Debug)]
pub struct HandlerMetrics {
    metrics: Metrics,
    label: String,
    kind: HandlerKind,
    counts: [OnceLock<Codes>; METHODS.len()],
    durations: [OnceLock<Histogram>; CLASSES.len()],
    request_size: Histogram,
    response_size: Histogram,
    last_request: Gauge,
}

/// What is counted of one answered request.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The status sent; 499 when the client left first.
    pub status: u16,
    /// From the request head to the end, seconds.
    pub seconds: f64,
    /// Bytes of the request body.
    pub bytes_in: usize,
    /// Bytes of the response body.
    pub bytes_out: usize,
}

impl HandlerMetrics {
    /// The `handler` label: the handler's url text, or `_unmatched`, `_blocked`, `_internal`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The `handler_type` label.
    #[must_use]
    pub const fn kind(&self) -> HandlerKind {
        self.kind
    }

    /// When it was last asked, since the start.
    #[must_use]
    pub fn last_request(&self) -> Option<SystemTime> {
        let seconds = self.last_request.get();
        let since = Duration::try_from_secs_f64(seconds).ok().filter(|since| !since.is_zero())?;
        UNIX_EPOCH.checked_add(since)
    }

    /// Requests answered, since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.durations.iter().filter_map(|histogram| Some(histogram.get()?.get_sample_count())).sum()
    }

    /// Counts one answered request.
    #[allow(clippy::cast_precision_loss, reason = "a body of 2^52 bytes is not counted to the byte")]
    pub fn answered(&self, answered: &Answered<'_>) {
        if let Some(counter) = self.count(answered.method, answered.status) {
            counter.inc();
        }
        self.duration(class_of(answered.status)).observe(answered.seconds);
        self.request_size.observe(answered.bytes_in as f64);
        self.response_size.observe(answered.bytes_out as f64);
        self.last_request.set(unix_now());
    }

    fn duration(&self, class: usize) -> &Histogram {
        let family = &self.metrics.duration;
        self.durations[class].get_or_init(|| family.with_label_values(&[self.label.as_str(), CLASSES[class]]))
    }

    fn count(&self, method: &Method, status: u16) -> Option<&IntCounter> {
        let name = method.as_str();
        let method = METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1);
        let codes = self.counts[method].get_or_init(|| Box::new([const { OnceLock::new() }; 500]));
        let counter = codes.get(usize::from(status).checked_sub(100)?)?;
        Some(counter.get_or_init(|| {
            self.metrics.requests.with_label_values(&[
                self.label.as_str(),
                self.kind.as_str(),
                METHODS[method],
                &status.to_string(),
            ])
        }))
    }
}

/// 0 for 1xx to 4 for 5xx.
#[must_use]
pub fn class_of(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}
