//! What the operator asked for: every option of `run`, its value and where it came from.
//!
//! 1. `key`: the one table of options (name, help, default, variable); flags, variables, file keys and help follow it.
//! 2. `flags`, `options`: the command line as typed.
//! 3. `file`: compat-proxy.yaml as written, every value with its place.
//! 4. `layers`: flag over variable over file over default, one option at a time.
//! 5. `units`, `endpoint`, `words`: from text to a value that is in range; `together`: what excludes what.
//!
//! [`Settings::resolve`] is a pure function of its [`Sources`]; [`Settings::load`] (`load`) reads the world for it. What
//! app.yaml suggests comes later, by [`Settings::with_hints`].

mod endpoint;
mod error;
mod file;
mod flags;
mod key;
mod layers;
mod load;
mod options;
mod origin;
mod show;
mod together;
mod units;
mod words;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use self::layers::Layers;

pub use self::endpoint::{Endpoint, Resolved};
pub use self::error::{Fault, SettingsError, SettingsErrors};
pub use self::flags::{Cli, Command, Export, Format, completions};
pub use self::key::{Arity, KEYS, Key, Reload};
pub use self::layers::Sources;
pub use self::options::Options;
pub use self::origin::{FilePlace, Origin, Setting};
pub use self::show::Shown;
pub use self::words::{AccessLog, Count, LogFormat, LogLevel, Threadsafe};

/// The name of the settings file looked for in the application directory.
pub const FILE_NAME: &str = "compat-proxy.yaml";

/// Every option of `run`, valid. The field names are the options' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The app.yaml, relative to the application directory unless absolute.
    pub app_yaml: Setting<PathBuf>,
    /// The command that starts one worker, as written; it splits like a shell would.
    pub upstream_cmd: Setting<Option<String>>,
    /// Addresses of an app that runs elsewhere; empty unless attached.
    pub upstream: Setting<Vec<Endpoint>>,
    /// The interpreter of the built-in launcher; none means by `runtime:`.
    pub python: Setting<Option<String>>,
    /// Main listeners; never empty.
    pub listen: Setting<Vec<Endpoint>>,
    /// Cleartext HTTP/2 beside HTTP/1.
    pub h2c: Setting<bool>,
    /// The admin listener.
    pub admin: Setting<Endpoint>,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxy: Setting<Vec<IpNet>>,
    /// Proxy threads.
    pub threads: Setting<Count>,
    /// Connections of clients at a time; none means by the limit of open files.
    pub max_connections: Setting<Option<usize>>,
    /// Worker processes.
    pub workers: Setting<Count>,
    /// Requests in flight per worker.
    pub concurrency: Setting<u32>,
    /// What `threadsafe: false` means.
    pub threadsafe: Setting<Threadsafe>,
    /// How long a worker may take to be ready.
    pub start_timeout: Setting<Duration>,
    /// The HTTP readiness probe; none means a TCP or socket connect.
    pub health_path: Setting<Option<String>>,
    /// Requests after which a worker is recycled.
    pub max_requests: Setting<Option<u64>>,
    /// Age at which a worker is recycled.
    pub max_lifetime: Setting<Option<Duration>>,
    /// Resident memory at which a worker is recycled.
    pub max_rss: Setting<Option<ByteSize>>,
    /// Requests that may wait; none means [`Settings::queue_depth_for`].
    pub queue_depth: Setting<Option<usize>>,
    /// How long a request may wait for a worker.
    pub queue_timeout: Setting<Duration>,
    /// Until the app's response headers, then per idle gap.
    pub request_timeout: Setting<Duration>,
    /// To connect to a worker.
    pub connect_timeout: Setting<Duration>,
    /// The largest request body.
    pub max_request_body: Setting<ByteSize>,
    /// Accepting goes on this long after readiness went false.
    pub drain_quiet: Setting<Duration>,
    /// What requests in flight may take after accepting stopped.
    pub grace_period: Setting<Duration>,
    /// SIGTERM to SIGKILL for workers.
    pub stop_timeout: Setting<Duration>,
    /// Memory for static files; 0 is none.
    pub static_cache: Setting<ByteSize>,
    /// How log lines look.
    pub log_format: Setting<LogFormat>,
    /// Which requests are logged.
    pub access_log: Setting<AccessLog>,
    /// Which events are logged.
    pub log_level: Setting<LogLevel>,
    /// That the file says another level, which a flag or a variable overrules: for a log line when it is read again.
    pub log_level_overruled: Option<String>,
    /// The settings file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// What is worth a line at start: choices without effect, variables that look like a slip.
    pub notes: Vec<String>,
    /// Usable cores, what `auto` means here.
    cores: usize,
}

/// What app.yaml suggests; stronger than the default, weaker than everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    /// `automatic_scaling.max_concurrent_requests`.
    pub concurrency: Option<u32>,
    /// `manual_scaling.instances`.
    pub workers: Option<u32>,
    /// `automatic_scaling.max_pending_latency`.
    pub queue_timeout: Option<Duration>,
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// Worker processes at most.
pub const WORKERS_MAX: usize = 512;
const THREADS_MAX: usize = 256;
const CONCURRENCY_MAX: u32 = 65_535;
const QUEUE_TIMEOUT_MAX: u64 = HOUR;

impl Settings {
    /// Settings from their sources; asks nobody else.
    ///
    /// # Errors
    /// Everything that is wrong, all at once.
    pub fn resolve(sources: &Sources<'_>) -> Result<Self, SettingsErrors> {
        let mut layers = Layers::new(sources);
        let mut settings = Self::layered(&mut layers, sources);
        settings.file = sources.file.map(|(path, _)| PathBuf::from(path));
        let mut errors = layers.errors;
        together::check(&mut settings, &mut errors);
        // Flags and variables first, then the file from top to bottom.
        errors.sort_by_key(|error| error.place().map(|place| (place.line, place.column)));
        if errors.is_empty() { Ok(settings) } else { Err(SettingsErrors(errors)) }
    }

    /// Every option from its layers. Where a source is wrong the error is kept in `layers`.
    fn layered(layers: &mut Layers<'_>, sources: &Sources<'_>) -> Self {
        let cores = sources.cores;
        Self {
            app_yaml: layers.one(&key::APP_YAML, units::path),
            upstream_cmd: layers.optional(&key::UPSTREAM_CMD, units::command),
            upstream: layers.many(&key::UPSTREAM, endpoint::upstream),
            python: layers.optional(&key::PYTHON, units::program),
            listen: layers.many(&key::LISTEN, endpoint::listen),
            h2c: layers.one(&key::H2C, units::word),
            admin: layers.one(&key::ADMIN, endpoint::admin),
            trusted_proxy: layers.many(&key::TRUSTED_PROXY, units::network),
            threads: layers.one(&key::THREADS, units::count(cores, THREADS_MAX)),
            max_connections: layers
                .one(&key::MAX_CONNECTIONS, units::unless("auto", units::number(1..=10_000_000))),
            workers: layers.one(&key::WORKERS_KEY, units::count(cores, WORKERS_MAX)),
            concurrency: layers.one(&key::CONCURRENCY, units::number(1..=CONCURRENCY_MAX)),
            threadsafe: layers.one(&key::THREADSAFE, units::word),
            start_timeout: layers.one(&key::START_TIMEOUT, units::duration(100..=HOUR)),
            health_path: layers.optional(&key::HEALTH_PATH, units::request_path),
            max_requests: layers.one(&key::MAX_REQUESTS, units::or_off(units::number(1..=1_000_000_000_000))),
            max_lifetime: layers.one(&key::MAX_LIFETIME, units::or_off(units::duration(SECOND..=365 * DAY))),
            max_rss: layers
                .one(&key::MAX_RSS, units::or_off(units::size(bytesize::MIB..=64 * bytesize::TIB))),
            queue_depth: layers.one(&key::QUEUE_DEPTH, units::unless("auto", units::number(0..=1_000_000))),
            queue_timeout: layers.one(&key::QUEUE_TIMEOUT, units::duration(0..=QUEUE_TIMEOUT_MAX)),
            request_timeout: layers.one(&key::REQUEST_TIMEOUT, units::duration(1..=DAY)),
            connect_timeout: layers.one(&key::CONNECT_TIMEOUT, units::duration(1..=60 * SECOND)),
            max_request_body: layers.one(&key::MAX_REQUEST_BODY, units::size(1..=bytesize::TIB)),
            drain_quiet: layers.one(&key::DRAIN_QUIET, units::duration(0..=HOUR)),
            grace_period: layers.one(&key::GRACE_PERIOD, units::duration(0..=DAY)),
            stop_timeout: layers.one(&key::STOP_TIMEOUT, units::duration(0..=HOUR)),
            static_cache: layers.one(&key::STATIC_CACHE, units::size(0..=64 * bytesize::GIB)),
            log_format: layers.one(&key::LOG_FORMAT, units::log_format(sources.terminal)),
            access_log: layers.one(&key::ACCESS_LOG, units::word),
            log_level: layers.one(&key::LOG_LEVEL, units::word),
            log_level_overruled: layers.overruled(&key::LOG_LEVEL),
            file: None,
            notes: Vec::new(),
            cores,
        }
    }

    /// True when the app runs elsewhere and no worker is started.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        !self.upstream.is_empty()
    }

    /// Requests that may wait, for the workers and the concurrency that hold in the end.
    #[must_use]
    pub fn queue_depth_for(&self, workers: usize, concurrency: u32) -> usize {
        let concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        self.queue_depth.unwrap_or_else(|| workers.saturating_mul(concurrency).saturating_mul(10))
    }

    /// These settings with what app.yaml suggests, where nobody chose. Hints given before are forgotten.
    #[must_use]
    pub fn with_hints(&self, hints: &Hints) -> Self {
        let mut hinted = self.clone();
        let default = Self::defaults(self.cores);
        let workers = hints.workers.and_then(|number| usize::try_from(number).ok());
        hinted.workers.hint(
            workers.map(|number| Count { number: number.clamp(1, WORKERS_MAX), auto: false }),
            "manual_scaling.instances",
            default.workers.value,
        );
        hinted.concurrency.hint(
            hints.concurrency.map(|number| number.clamp(1, CONCURRENCY_MAX)),
            "automatic_scaling.max_concurrent_requests",
            default.concurrency.value,
        );
        hinted.queue_timeout.hint(
            hints.queue_timeout.map(|time| time.min(Duration::from_millis(QUEUE_TIMEOUT_MAX))),
            "automatic_scaling.max_pending_latency",
            default.queue_timeout.value,
        );
        hinted
    }

    /// The settings of someone who said nothing, on a machine with so many usable cores.
    #[must_use]
    pub fn defaults(cores: usize) -> Self {
        let flags = Options::default();
        let sources = Sources { flags: &flags, env: &|_| None, file: None, cores, terminal: false };
        Self::layered(&mut Layers::new(&sources), &sources)
    }
}
