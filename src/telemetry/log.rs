//! Where lines go: access lines and what workers print to standard output, events to standard error.
//!
//! A line is handed to a `super::outlet`; no request or worker waits for the reader of our output.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::secrets::Values;

use super::metrics::Metrics;
use super::outlet::{Kind, Outlet, Target};
use super::verbosity::{self, Verbosity};
use super::{Printed, Record, access, printed};

/// `--log-format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text {
        /// On a terminal.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
    /// What Cloud Logging reads as structured entries.
    Gcp {
        /// `GOOGLE_CLOUD_PROJECT`, for the full name of a trace.
        project: Option<String>,
    },
}

/// `--access-log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every request.
    On,
    /// None.
    Off,
    /// Those answered 500 or above.
    Errors,
}

/// Bytes of room for an access line that each thread keeps.
const LINE_KEPT: usize = 4096;

/// The log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    format: Arc<Format>,
    /// An [`Access`].
    access: Arc<AtomicU8>,
    out: Outlet,
    err: Outlet,
    verbosity: Verbosity,
    /// Values that nobody may read, whoever prints them.
    hidden: Arc<ArcSwapOption<Values>>,
}

/// Which of a worker's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Log {
    /// Starts the writers and makes `tracing` events go through them, at `level` and above.
    pub fn start(format: Format, access: Access, level: &str, metrics: &Metrics) -> Self {
        let format = Arc::new(format);
        let out = Outlet::start(Target::Stdout, metrics);
        let err = Outlet::start(Target::Stderr, metrics);
        let hidden: Arc<ArcSwapOption<Values>> = Arc::default();
        let access = Arc::new(AtomicU8::new(access as u8));
        let builder = tracing_subscriber::fmt()
            .event_format(Lines { format: Arc::clone(&format) })
            .with_writer(Events { outlet: err.clone(), hidden: Arc::clone(&hidden) })
            .with_env_filter(verbosity::filter(level))
            .with_filter_reloading();
        let handle = builder.reload_handle();
        // Fails only when a subscriber is set already, as in tests that start twice.
        let _ = builder.try_init().ok();
        let verbosity = Verbosity::new(level, move |filter| handle.reload(filter).is_ok());
        Self { format, access, out, err, verbosity, hidden }
    }

    /// Which events are written.
    #[must_use]
    pub fn verbosity(&self) -> &Verbosity {
        &self.verbosity
    }

    /// Events and what workers print are written without these values from now on, and without no others.
    pub fn hide(&self, values: Option<Values>) {
        self.hidden.store(values.map(Arc::new));
    }

    /// Another choice of requests, from now on.
    pub fn set_access(&self, access: Access) {
        self.access.store(access as u8, Ordering::Relaxed);
    }

    /// Whether the access log wants a request that was answered so.
    #[must_use]
    pub fn wants(&self, status: u16) -> bool {
        match self.access.load(Ordering::Relaxed) {
            access if access == Access::Off as u8 => false,
            access if access == Access::Errors as u8 => status >= 500,
            _ => true,
        }
    }

    /// Writes the line of one answered request.
    pub fn request(&self, record: &Record<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with_borrow_mut(|buffer| {
            buffer.clear();
            buffer.shrink_to(LINE_KEPT);
            access::line(buffer, &self.format, SystemTime::now(), record);
            self.out.send(Kind::Access, buffer);
        });
    }

    /// Writes what a worker printed, tagged with the worker.
    pub fn worker(&self, printed: &Printed<'_>) {
        let mut buffer = Vec::with_capacity(printed.text.len() + 256);
        let hidden = self.hidden.load();
        let text = hidden.as_ref().map_or(Cow::Borrowed(printed.text), |values| values.hide(printed.text));
        printed::entry(&mut buffer, &self.format, &Printed { text: &text, ..*printed });
        let writer = if printed.stream == Stream::Stdout { &self.out } else { &self.err };
        writer.send(Kind::Worker, &buffer);
    }

    /// Waits until what was handed over is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        for writer in [&self.out, &self.err] {
            writer.flush(limit);
        }
    }
}

/// Hands each formatted event to the writer.
#[derive(Debug, Clone)]
struct Events {
    outlet: Outlet,
    hidden: Arc<ArcSwapOption<Values>>,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Events {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let hidden = self.hidden.load();
        let shown = hidden.as_ref().map_or(Cow::Borrowed(line), |values| values.hide(line));
        self.outlet.send(Kind::Event, &shown);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Formats events with the field names of the access log.
struct Lines {
    format: Arc<Format>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let level = *event.metadata().level();
        match *self.format {
            Format::Text { colour } => {
                let (on, off) = if colour { (shade(level), access::RESET) } else { ("", "") };
                write!(writer, "{now} {on}{level:>5}{off} {}", fields.message)?;
                for (key, value) in &fields.others {
                    match value {
                        Value::String(text) if !text.contains([' ', '"']) => write!(writer, " {key}={text}")?,
                        other => write!(writer, " {key}={other}")?,
                    }
                }
                writeln!(writer)
            }
            Format::Json | Format::Gcp { .. } => {
                let gcp = matches!(*self.format, Format::Gcp { .. });
                let keys = if gcp { ["severity", "time", "message"] } else { ["level", "ts", "msg"] };
                let level = if gcp { severity(level).to_owned() } else { level.as_str().to_lowercase() };
                let mut object = Map::new();
                for (key, value) in keys.into_iter().zip([level, now.to_string(), fields.message]) {
                    object.insert(key.to_owned(), Value::String(value));
                }
                object.extend(fields.others);
                writeln!(writer, "{}", Value::Object(object))
            }
        }
    }
}

const fn shade(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

const fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        // Fields starting with `log.` are where the `log` crate's records came from.
        if !field.name().starts_with("log.") {
            self.others.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, Value::String(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.put(field, Value::String(value.to_owned()));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
