//! Where lines go: access lines and what workers print to standard output, events to standard error.
//!
//! A line is handed to a `super::outlet`; no request or worker waits for the reader of our output.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::metrics::Metrics;
use super::outlet::{Kind, Outlet, Target};
use super::{Record, access};

/// `--log-format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
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

/// The log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    format: Arc<Format>,
    access: Access,
    out: Outlet,
    err: Outlet,
}

/// Which of a worker's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Log {
    /// Starts the writers and makes `tracing` events go through them, at `level` and above.
    pub fn start(format: Format, access: Access, level: &str, metrics: &Metrics) -> Self {
        let log = Self {
            format: Arc::new(format),
            access,
            out: Outlet::start(Target::Stdout, metrics),
            err: Outlet::start(Target::Stderr, metrics),
        };
        // Pingora reports every client that leaves and every refused connection as an error; the access
        // log and the metrics tell the same with a reason.
        let quiet = matches!(level, "error" | "warn" | "info");
        let pingora =
            if quiet { ",pingora_core=off,pingora_proxy=off,pingora_pool=off,pingora_cache=off" } else { "" };
        let filter = EnvFilter::new(format!("{level}{pingora}"));
        let events = Events(log.err.clone());
        // Fails only when a subscriber is set already, as in tests that start twice.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .event_format(Lines { format: Arc::clone(&log.format) })
            .with_writer(events)
            .try_init()
            .ok();
        log
    }

    /// Whether the access log wants a request that was answered so.
    #[must_use]
    pub fn wants(&self, status: u16) -> bool {
        match self.access {
            Access::On => true,
            Access::Off => false,
            Access::Errors => status >= 500,
        }
    }

    /// Writes the line of one answered request.
    pub fn request(&self, record: &Record<'_>) {
        let mut buffer = Vec::with_capacity(768);
        access::line(&mut buffer, &self.format, SystemTime::now(), record);
        self.out.send(Kind::Access, buffer);
    }

    /// Writes a line that a worker printed, tagged with the worker.
    pub fn worker(&self, slot: usize, pid: u32, stream: Stream, text: &[u8]) {
        let mut buffer = Vec::with_capacity(text.len() + 128);
        worker_line(&mut buffer, &self.format, slot, pid, stream, text);
        let writer = if stream == Stream::Stdout { &self.out } else { &self.err };
        writer.send(Kind::Worker, buffer);
    }

    /// Waits until what was handed over is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        for writer in [&self.out, &self.err] {
            writer.flush(limit);
        }
    }
}

/// One line of a worker. JSON of a worker is passed on with our tag added, other text is wrapped.
fn worker_line(buffer: &mut Vec<u8>, format: &Format, slot: usize, pid: u32, stream: Stream, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    if *format == Format::Text {
        // Writing to memory cannot fail.
        let _ = writeln!(buffer, "[worker {slot} {pid} {name}] {text}");
        return;
    }
    let mut object = match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => object,
        _ => plain(format, &text),
    };
    let tag = serde_json::json!({ "worker": slot, "pid": pid, "stream": name });
    object.insert("compat_proxy".to_owned(), tag);
    finish_json(buffer, object);
}

fn plain(format: &Format, text: &str) -> Map<String, Value> {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let pairs = match format {
        Format::Gcp { .. } => [("severity", "DEFAULT".into()), ("time", now), ("message", text.to_owned())],
        _ => [("ts", now), ("level", "info".to_owned()), ("msg", text.to_owned())],
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
}

fn finish_json(buffer: &mut Vec<u8>, object: Map<String, Value>) {
    // A map of strings and numbers written to memory cannot fail.
    let _ = serde_json::to_writer(&mut *buffer, &Value::Object(object));
    buffer.push(b'\n');
}

/// Hands each formatted event to the writer.
#[derive(Debug, Clone)]
struct Events(Outlet);

impl<'a> MakeWriter<'a> for Events {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Events {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.send(Kind::Event, line.to_vec());
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
            Format::Text => {
                write!(writer, "{now} {level:>5} {}", fields.message)?;
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
