//! What a worker printed, in each format: JSON of its own goes on with our tag added, other text is wrapped, with the
//! level that it says itself. Appends to a buffer the caller owns; writes nothing anywhere.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::Asked;
use super::log::{Format, Stream};

/// One line of a worker, or several that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Printed<'a> {
    /// The slot of the worker.
    pub worker: usize,
    /// Its process.
    pub pid: u32,
    /// Where it was printed.
    pub stream: Stream,
    /// When it was read.
    pub at: SystemTime,
    /// Without the last line feed; any bytes.
    pub text: &'a [u8],
    /// It is a traceback of Python.
    pub traceback: bool,
    /// The request it was printed for, where that is certain.
    pub asked: Option<Asked>,
}

/// Appends the entry, with its line feed.
pub(super) fn entry(buffer: &mut Vec<u8>, format: &Format, printed: &Printed<'_>) {
    let text = String::from_utf8_lossy(printed.text);
    if let Format::Text { .. } = format {
        for line in text.split('\n') {
            let Printed { worker, pid, stream, .. } = printed;
            // Writing to memory cannot fail.
            let _ = writeln!(buffer, "[worker {worker} {pid} {}] {line}", stream.as_str());
        }
        return;
    }
    let own = if text.starts_with('{') { serde_json::from_str(&text).ok() } else { None };
    let mut object = match own {
        Some(Value::Object(object)) => object,
        _ => wrapped(format, printed, text),
    };
    let mut tag = json!({ "worker": printed.worker, "pid": printed.pid, "stream": printed.stream.as_str() });
    if let Some(asked) = &printed.asked {
        tag["request_id"] = Value::from(asked.request_id());
        tag["trace_id"] = Value::from(asked.trace_id());
        if let Format::Gcp { project } = format {
            trace(&mut object, asked, project.as_deref());
        }
    }
    object.insert("compat_proxy".to_owned(), tag);
    // A map of strings and numbers written to memory cannot fail.
    let _ = serde_json::to_writer(&mut *buffer, &Value::Object(object));
    buffer.push(b'\n');
}

/// The fields by which Cloud Logging groups entries. What the worker says itself stands.
fn trace(object: &mut Map<String, Value>, asked: &Asked, project: Option<&str>) {
    let name = match project {
        Some(project) => format!("projects/{project}/traces/{}", asked.trace_id()),
        None => asked.trace_id().to_owned(),
    };
    if object.contains_key("logging.googleapis.com/trace") {
        return;
    }
    object.insert("logging.googleapis.com/trace".to_owned(), name.into());
    object.insert("logging.googleapis.com/spanId".to_owned(), format!("{:016x}", asked.span).into());
    object.insert("logging.googleapis.com/trace_sampled".to_owned(), asked.sampled.into());
}

fn wrapped(format: &Format, printed: &Printed<'_>, text: Cow<'_, str>) -> Map<String, Value> {
    let at = humantime::format_rfc3339_millis(printed.at).to_string();
    let level = if printed.traceback { Some(Level::Error) } else { level(&text) };
    let text = text.into_owned();
    let pairs = match format {
        Format::Gcp { .. } => [
            ("severity", level.map_or("DEFAULT", Level::severity).to_owned()),
            ("time", at),
            ("message", text),
        ],
        _ => [("ts", at), ("level", level.unwrap_or(Level::Info).word().to_owned()), ("msg", text)],
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
}

/// The levels of Python's logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARNING" | "WARN" => Self::Warning,
            "ERROR" => Self::Error,
            "CRITICAL" | "FATAL" => Self::Critical,
            _ => return None,
        })
    }

    /// As our own events have it.
    const fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error | Self::Critical => "error",
        }
    }

    /// As Cloud Logging has it.
    const fn severity(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The level that a line begins with: `ERROR:root:x` (logging), `[time] [pid] [ERROR] x` (gunicorn), `[time] ERROR in app: x`
/// (Flask).
fn level(text: &str) -> Option<Level> {
    let mut rest = text;
    for _ in 0..3 {
        let Some((word, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) else {
            break;
        };
        if let Some(level) = Level::of(word.trim_end()) {
            return Some(level);
        }
        rest = after.trim_start();
    }
    let end = rest.find(|letter: char| !letter.is_ascii_uppercase())?;
    let (word, after) = rest.split_at(end);
    let told = after.starts_with(':') || (rest.len() < text.len() && after.starts_with(" in "));
    Level::of(word).filter(|_| told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Printed<'_> {
        Printed {
            worker: 1,
            pid: 7,
            stream: Stream::Stderr,
            at: SystemTime::UNIX_EPOCH,
            text: text.as_bytes(),
            traceback: text.starts_with("Traceback"),
            asked: None,
        }
    }

    fn asked() -> Asked {
        Asked { request: [b'a'; 32], trace: [b'b'; 32], span: 255, sampled: true }
    }

    fn written(format: &Format, printed: &Printed<'_>) -> String {
        let mut buffer = Vec::new();
        entry(&mut buffer, format, printed);
        String::from_utf8(buffer).unwrap()
    }

    fn object(format: &Format, printed: &Printed<'_>) -> Value {
        let line = written(format, printed);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).unwrap()
    }

    fn gcp() -> Format {
        Format::Gcp { project: Some("p".to_owned()) }
    }

    #[test]
    fn the_level_is_the_one_the_line_begins_with() {
        for (text, expected) in [
            ("ERROR:root:x", Some(Level::Error)),
            ("WARNING:app:x", Some(Level::Warning)),
            ("INFO:     127.0.0.1 - \"GET /\"", Some(Level::Info)),
            ("[2024-05-01 12:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:8)", Some(Level::Critical)),
            ("[2024-05-01 12:00:00,123] ERROR in app: Exception on / [GET]", Some(Level::Error)),
            ("[DEBUG] x", Some(Level::Debug)),
            ("[ERROR   ] x", Some(Level::Error)),
            ("ERROR", None),
            ("ERRORS: 3", None),
            ("Error: x", None),
            ("INFO desk opens at 5", None),
            ("an ERROR: x", None),
            ("[a] [b] [c] [ERROR] x", None),
            ("[ERROR", None),
            ("", None),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
    }

    #[test]
    fn a_traceback_is_one_entry_of_level_error_with_its_line_feeds() {
        let text = "Traceback (most recent call last):\n  File \"x\"\nValueError: x";
        let json = object(&Format::Json, &printed(text));
        assert_eq!((&json["level"], &json["msg"]), (&"error".into(), &text.into()));
        assert_eq!(json["ts"], "1970-01-01T00:00:00.000Z");
        let gcp = object(&gcp(), &printed(text));
        assert_eq!((&gcp["severity"], &gcp["message"]), (&"ERROR".into(), &text.into()));
        let lines = written(&Format::Text { colour: false }, &printed(text));
        let all: Vec<&str> = lines.lines().collect();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|line| line.starts_with("[worker 1 7 stderr] ")), "{lines}");
    }

    #[test]
    fn an_object_of_the_workers_keeps_its_own_words() {
        let text = r#"{"message":"x","severity":"NOTICE","logging.googleapis.com/trace":"t"}"#;
        let gcp = object(&gcp(), &Printed { asked: Some(asked()), ..printed(text) });
        assert_eq!((&gcp["severity"], &gcp["logging.googleapis.com/trace"]), (&"NOTICE".into(), &"t".into()));
        assert!(gcp.get("level").is_none() && gcp.get("logging.googleapis.com/spanId").is_none(), "{gcp}");
        assert_eq!(gcp["compat_proxy"]["worker"], 1);
        assert_eq!(object(&Format::Json, &printed("{\"not\": json"))["msg"], "{\"not\": json");
        assert_eq!(object(&Format::Json, &printed("[1]"))["msg"], "[1]");
    }

    #[test]
    fn the_request_stands_in_the_tag_and_where_cloud_logging_looks() {
        let of = Printed { asked: Some(asked()), ..printed("x") };
        for format in [Format::Json, gcp()] {
            let tag = &object(&format, &of)["compat_proxy"];
            assert_eq!(tag["request_id"], "a".repeat(32));
            assert_eq!(tag["trace_id"], "b".repeat(32));
        }
        let gcp = object(&gcp(), &of);
        assert_eq!(gcp["logging.googleapis.com/trace"], format!("projects/p/traces/{}", "b".repeat(32)));
        assert_eq!(gcp["logging.googleapis.com/spanId"], "00000000000000ff");
        assert_eq!(gcp["logging.googleapis.com/trace_sampled"], true);
        let tag = &object(&Format::Json, &printed("x"))["compat_proxy"];
        assert!(tag.get("request_id").is_none() && tag.get("trace_id").is_none(), "{tag}");
    }
}
