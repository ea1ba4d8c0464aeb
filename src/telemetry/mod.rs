//! What is told about the proxy's work: one [`Record`] a request, metrics, and the log.
//!
//! - `metrics`: every series, with handles resolved at load.
//! - `access`: the access-log line of a record, in each format.
//! - `printed`: what workers print, in each format.
//! - `log`: lines and events on their way out; `outlet`: the threads that write them, for which no request waits.
//! - `verbosity`: which events there are, changed at run time.
//!
//! Nothing here decides anything or looks at a request.

pub mod access;
pub mod log;
pub mod metrics;
mod outlet;
mod printed;
mod stamp;
mod verbosity;

use std::time::Duration;

pub use log::{Format, Log};
pub use printed::Printed;
pub use verbosity::Verbosity;

/// What is left of a request when it is over. Borrowed: it lives for one call.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The path as sent, without the query.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// `Host`, empty when there was none.
    pub host: &'a str,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// `HTTP/1.1` and kin.
    pub proto: &'static str,
    /// The status sent; 499 when the client left first.
    pub status: u16,
    /// The handler's url text, `_unmatched`, `_blocked` or `_internal`.
    pub handler: &'a str,
    /// `script`, `static_dir` and so on.
    pub handler_type: &'static str,
    /// The login rule, when the handler has one.
    pub login: Option<&'static str>,
    /// From the request head to the end.
    pub duration: Duration,
    /// Time in the queue.
    pub queue: Option<Duration>,
    /// From choosing a worker to its response head.
    pub upstream: Option<Duration>,
    /// From the request head to the worker's response head.
    pub first_byte: Option<Duration>,
    /// Body bytes received.
    pub bytes_in: usize,
    /// Body bytes sent.
    pub bytes_out: usize,
    /// The client, after trusted proxies.
    pub client: Option<&'a str>,
    /// The peer of the connection; none on a unix socket.
    pub peer: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// `Referer`.
    pub referer: Option<&'a str>,
    /// The id given to this request.
    pub request_id: &'a str,
    /// The trace it belongs to.
    pub trace_id: &'a str,
    /// The span of this request.
    pub span_id: &'a str,
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// The slot of the worker that answered.
    pub worker: Option<usize>,
    /// The worker's address.
    pub upstream_addr: Option<&'a str>,
    /// How often another worker was tried.
    pub retries: u32,
    /// Who made the answer.
    pub origin: Origin,
    /// Why the proxy made the answer itself.
    pub reason: Option<Reason>,
}

/// The request that a worker's line was printed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Its id, in hex.
    pub request: [u8; 32],
    /// Its trace, in hex.
    pub trace: [u8; 32],
    /// Its span.
    pub span: u64,
    /// Whether the trace is sampled.
    pub sampled: bool,
}

impl Asked {
    /// Its id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        std::str::from_utf8(&self.request).unwrap_or_default()
    }

    /// Its trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        std::str::from_utf8(&self.trace).unwrap_or_default()
    }
}

/// Who made the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A worker.
    App,
    /// A file of the application.
    Static,
    /// The proxy.
    Proxy,
}

impl Origin {
    /// The word used in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Static => "static",
            Self::Proxy => "proxy",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why the proxy answered by itself: a closed set, used in the log and as a label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $variant,)+ }

        impl Reason {
            /// Every reason, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in the log and as a label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    /// No handler matched (404).
    NoHandler = "no_handler",
    /// A login rule, a reserved path, or another reading of the path that meets one (404).
    LoginBlocked = "login_blocked",
    /// `/_ah/start` and the like from outside (404).
    Reserved = "reserved",
    /// `secure:` redirect.
    SecureRedirect = "secure_redirect",
    /// Redirect to the path without dot segments.
    PathRedirect = "path_redirect",
    /// The request cannot be read in one way only (400).
    BadRequest = "bad_request",
    /// The method is refused (405, 501).
    MethodRefused = "method_refused",
    /// The target is too long (414).
    UriTooLong = "uri_too_long",
    /// The head is too large (431).
    HeadTooLarge = "head_too_large",
    /// The body is too large (413).
    BodyTooLarge = "body_too_large",
    /// The head or the body did not arrive in time (408).
    RequestTimeout = "request_timeout",
    /// There are as many connections as may be (503).
    ConnectionLimit = "connection_limit",
    /// The client did not take the answer in time (cut).
    ClientSlow = "client_slow",
    /// The static file is missing (404).
    FileMissing = "file_missing",
    /// The static file cannot be read (403).
    FileForbidden = "file_forbidden",
    /// The static file cannot be looked for now, for want of descriptors or memory (503).
    FileUnavailable = "file_unavailable",
    /// A url pattern took too long to match (500).
    MatchLimit = "match_limit",
    /// `/_ah/health`.
    Health = "health",
    /// `OPTIONS *`.
    ServerOptions = "server_options",
    /// The queue is full (503).
    QueueFull = "queue_full",
    /// The wait in the queue was too long (503).
    QueueTimeout = "queue_timeout",
    /// No worker became ready in time (503).
    NoReadyWorker = "no_ready_worker",
    /// No worker accepted the connection for as long as one may wait (503).
    ConnectError = "connect_error",
    /// The worker did not answer in time (504).
    UpstreamTimeout = "upstream_timeout",
    /// The worker closed the connection or answered nonsense (502).
    UpstreamReset = "upstream_reset",
    /// The proxy is stopping (503).
    Draining = "draining",
    /// The client left before the answer (499 in the log).
    ClientGone = "client_gone",
    /// A fault of the proxy itself (500).
    Internal = "internal",
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn reasons_stand_in_the_order_of_their_discriminants() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(index, *reason as usize, "{}", reason.as_str());
        }
    }
}
