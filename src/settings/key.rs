//! The one table of options. The flag, the variable, the key of compat-proxy.yaml, the help and the default of an
//! option are all said here and nowhere else.

/// One option of `run`.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The flag without its dashes, which is also the key in compat-proxy.yaml.
    pub name: &'static str,
    /// The heading of the help it stands under.
    pub heading: &'static str,
    /// What the help calls its value; empty for a switch.
    pub value: &'static str,
    /// Whether it may be given more than once.
    pub arity: Arity,
    /// The default, as one would write it; empty for none.
    pub default: &'static str,
    /// What the help says of a default that is not one text.
    pub default_help: &'static str,
    /// The words it chooses from, for the help and for completions; empty when it is free text.
    pub words: &'static [&'static str],
    /// A variable other platforms set, weaker than our own and stronger than the file.
    pub platform: Option<&'static str>,
    /// When a changed value takes effect.
    pub reload: Reload,
    /// A line or two of help, units and range included.
    pub help: &'static str,
}

/// How often an option may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Once.
    One,
    /// Once for each value.
    Many,
    /// Once, and its value may be left out.
    Switch,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// With SIGHUP.
    Live,
    /// Only by starting again: it is bound to a socket, a thread or the log.
    Restart,
}

impl Key {
    /// The variable: `COMPAT_PROXY_QUEUE_DEPTH` for `queue-depth`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("COMPAT_PROXY_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The help, with default and variables.
    #[must_use]
    pub fn full_help(&self) -> String {
        let default = if self.default_help.is_empty() { self.default } else { self.default_help };
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let platform = self.platform.map(|name| format!(", then {name}")).unwrap_or_default();
        format!("{}{default} [env: {}{platform}]", self.help, self.env())
    }
}

const APPLICATION: &str = "Application";
const LISTENING: &str = "Listening";
const WORKERS: &str = "Workers";
const REQUESTS: &str = "Requests";
const STOPPING: &str = "Stopping";
const STATIC_FILES: &str = "Static files";
const LOGGING: &str = "Logging";

const fn key(heading: &'static str, name: &'static str, value: &'static str, default: &'static str) -> Key {
    Key {
        name,
        heading,
        value,
        arity: Arity::One,
        default,
        default_help: "",
        words: &[],
        platform: None,
        reload: Reload::Live,
        help: "",
    }
}

pub(super) const APP_YAML: Key = Key {
    platform: Some("MODULE_YAML_PATH"),
    help: "The app.yaml to serve by, relative to APP_DIR",
    ..key(APPLICATION, "app-yaml", "FILE", "app.yaml")
};
pub(super) const UPSTREAM_CMD: Key = Key {
    default_help: "`entrypoint:` of app.yaml, else the built-in Python launcher",
    help: "Start the app with this command, once per worker, in APP_DIR. Split like a shell does, but no shell runs; \
           {port} {socket} {worker} {app_dir} are filled in. Not together with --upstream",
    ..key(APPLICATION, "upstream-cmd", "CMD", "")
};
pub(super) const UPSTREAM: Key = Key {
    arity: Arity::Many,
    help: "The app runs elsewhere, at this address: host:port or unix:/path (a port alone is this host). Several may be given",
    ..key(APPLICATION, "upstream", "ADDR", "")
};
pub(super) const PYTHON: Key = Key {
    default_help: "by `runtime:` of app.yaml",
    help: "The interpreter of the built-in launcher: a name in PATH or a path",
    ..key(APPLICATION, "python", "PROGRAM", "")
};
pub(super) const LISTEN: Key = Key {
    arity: Arity::Many,
    platform: Some("PORT"),
    reload: Reload::Restart,
    help: "Accept requests here: host:port, [::]:port, unix:/path, or a port alone for every IPv4 address; port 0 lets \
           the system pick one. Several may be given",
    ..key(LISTENING, "listen", "ADDR", "0.0.0.0:8080")
};
pub(super) const H2C: Key = Key {
    arity: Arity::Switch,
    words: &["on", "off"],
    reload: Reload::Restart,
    help: "Accept cleartext HTTP/2 beside HTTP/1",
    ..key(LISTENING, "h2c", "on|off", "off")
};
pub(super) const ADMIN: Key = Key {
    reload: Reload::Restart,
    help: "Serve /livez /readyz /startupz /metrics /status /explain and the status page / here: host:port or unix:/path",
    ..key(LISTENING, "admin", "ADDR", "127.0.0.1:9911")
};
pub(super) const TRUSTED_PROXY: Key = Key {
    arity: Arity::Many,
    default_help: "none",
    help: "Believe X-Forwarded-* of peers in this network: 10.0.0.0/8, fd00::/8 or one address. Several may be given",
    ..key(LISTENING, "trusted-proxy", "CIDR", "")
};
pub(super) const THREADS: Key = Key {
    reload: Reload::Restart,
    default_help: "auto = usable cores",
    help: "Threads of the proxy itself, `auto` or 1 to 256",
    ..key(LISTENING, "threads", "N|auto", "auto")
};
pub(super) const MAX_CONNECTIONS: Key = Key {
    reload: Reload::Restart,
    default_help: "auto = three quarters of the files the process may open",
    help: "Connections of clients at a time, `auto` or 1 to 10000000; one more is answered 503 and closed",
    ..key(LISTENING, "max-connections", "N|auto", "auto")
};
pub(super) const WORKERS_KEY: Key = Key {
    platform: Some("WEB_CONCURRENCY"),
    default_help: "`manual_scaling.instances` of app.yaml, else auto = usable cores",
    help: "Processes of the app, `auto` or 1 to 512",
    ..key(WORKERS, "workers", "N|auto", "auto")
};
pub(super) const CONCURRENCY: Key = Key {
    default_help: "`automatic_scaling.max_concurrent_requests` of app.yaml, else 25",
    help: "Requests in flight per worker, 1 to 65535",
    ..key(WORKERS, "concurrency", "N", "25")
};
pub(super) const THREADSAFE: Key = Key {
    words: &["ignore", "enforce"],
    help: "What `threadsafe: false` in app.yaml does: `ignore` it with a note, or `enforce` one request at a time per \
           worker",
    ..key(WORKERS, "threadsafe", "ignore|enforce", "ignore")
};
pub(super) const START_TIMEOUT: Key = Key {
    help: "A worker not ready after this time (100ms to 1h) is stopped and started again",
    ..key(WORKERS, "start-timeout", "DURATION", "60s")
};
pub(super) const HEALTH_PATH: Key = Key {
    default_help: "none, it is ready when it accepts connections",
    help: "A worker is ready when GET of this path answers 2xx or 3xx",
    ..key(WORKERS, "health-path", "PATH", "")
};
pub(super) const MAX_REQUESTS: Key = Key {
    help: "Replace a worker after this many requests (give or take 10 %); the new one is ready first. 1 or more, or \
           `off`",
    ..key(WORKERS, "max-requests", "N|off", "off")
};
pub(super) const MAX_LIFETIME: Key = Key {
    help: "Replace a worker of this age (give or take 10 %): 1s or more, or `off`",
    ..key(WORKERS, "max-lifetime", "DURATION|off", "off")
};
pub(super) const MAX_RSS: Key = Key {
    help: "Replace a worker whose resident memory reaches this (give or take 10 %): 1MiB or more, or `off`",
    ..key(WORKERS, "max-rss", "SIZE|off", "off")
};
pub(super) const QUEUE_DEPTH: Key = Key {
    default_help: "auto = 10 x workers x concurrency",
    help: "Requests that may wait for a worker, `auto` or 0 to 1000000; one more is answered 503",
    ..key(REQUESTS, "queue-depth", "N|auto", "auto")
};
pub(super) const QUEUE_TIMEOUT: Key = Key {
    default_help: "`automatic_scaling.max_pending_latency` of app.yaml, else 10s",
    help: "How long a request may wait for a worker (0s to 1h) before it is answered 503",
    ..key(REQUESTS, "queue-timeout", "DURATION", "10s")
};
pub(super) const REQUEST_TIMEOUT: Key = Key {
    help: "Time for the app's response headers, and then for each pause in the body (1ms to 24h); 504 if nothing was sent \
           yet",
    ..key(REQUESTS, "request-timeout", "DURATION", "60s")
};
pub(super) const CONNECT_TIMEOUT: Key = Key {
    help: "Time to connect to the app (1ms to 1m)",
    ..key(REQUESTS, "connect-timeout", "DURATION", "1s")
};
pub(super) const MAX_REQUEST_BODY: Key = Key {
    help: "Largest request body, 1B to 1TiB; a larger one is answered 413",
    ..key(REQUESTS, "max-request-body", "SIZE", "32MiB")
};
pub(super) const DRAIN_QUIET: Key = Key {
    help: "On SIGTERM, keep accepting this long after /readyz went 503 (0s to 1h)",
    ..key(STOPPING, "drain-quiet", "DURATION", "0s")
};
pub(super) const GRACE_PERIOD: Key = Key {
    help: "Requests in flight may take this long after accepting stopped (0s to 24h)",
    ..key(STOPPING, "grace-period", "DURATION", "30s")
};
pub(super) const STOP_TIMEOUT: Key = Key {
    help: "Time from SIGTERM to SIGKILL for a worker (0s to 1h)",
    ..key(STOPPING, "stop-timeout", "DURATION", "10s")
};
pub(super) const STATIC_CACHE: Key = Key {
    help: "Memory for static files, 0B (none) to 64GiB",
    ..key(STATIC_FILES, "static-cache", "SIZE", "64MiB")
};
pub(super) const LOG_FORMAT: Key = Key {
    words: &["auto", "text", "json", "gcp"],
    reload: Reload::Restart,
    default_help: "auto = text on a terminal, else json",
    help: "How log lines look",
    ..key(LOGGING, "log-format", "text|json|gcp", "auto")
};
pub(super) const ACCESS_LOG: Key = Key {
    words: &["on", "off", "errors"],
    help: "One line for every request, for none, or for those answered 500 and above",
    ..key(LOGGING, "access-log", "on|off|errors", "on")
};
pub(super) const LOG_LEVEL: Key = Key {
    words: &["error", "warn", "info", "debug", "trace"],
    help: "The least important events to log: error, warn, info, debug, trace; SIGUSR1 switches to debug and back",
    ..key(LOGGING, "log-level", "LEVEL", "info")
};

/// Every option, in the order of the help.
pub const KEYS: [&Key; 30] = [
    &APP_YAML,
    &UPSTREAM_CMD,
    &UPSTREAM,
    &PYTHON,
    &LISTEN,
    &H2C,
    &ADMIN,
    &TRUSTED_PROXY,
    &THREADS,
    &MAX_CONNECTIONS,
    &WORKERS_KEY,
    &CONCURRENCY,
    &THREADSAFE,
    &START_TIMEOUT,
    &HEALTH_PATH,
    &MAX_REQUESTS,
    &MAX_LIFETIME,
    &MAX_RSS,
    &QUEUE_DEPTH,
    &QUEUE_TIMEOUT,
    &REQUEST_TIMEOUT,
    &CONNECT_TIMEOUT,
    &MAX_REQUEST_BODY,
    &DRAIN_QUIET,
    &GRACE_PERIOD,
    &STOP_TIMEOUT,
    &STATIC_CACHE,
    &LOG_FORMAT,
    &ACCESS_LOG,
    &LOG_LEVEL,
];

/// The name among `names` that `word` was probably meant to be.
pub(super) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = word.chars().count().div_ceil(3).min(3);
    names
        .into_iter()
        .map(|name| (distance(word, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits from one word to another: insertions, deletions, replacements.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
