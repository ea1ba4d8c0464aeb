//! Settings as text: what `check` prints and what a reload compares.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::Settings;
use super::endpoint::Endpoint;
use super::key::{self, Key, Reload};
use super::origin::{Origin, Setting};
use super::words::{AccessLog, Count, LogFormat, LogLevel, Threadsafe};

/// One setting as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The option.
    pub key: &'static Key,
    /// Its value, as one would write it; empty for none.
    pub value: String,
    /// Who gave it.
    pub origin: Origin,
}

impl Settings {
    /// Every setting with its value and origin, in the order of the help.
    #[must_use]
    pub fn shown(&self) -> [Shown; key::KEYS.len()] {
        [
            shown(&key::APP_YAML, &self.app_yaml),
            shown(&key::UPSTREAM_CMD, &self.upstream_cmd),
            shown(&key::UPSTREAM, &self.upstream),
            shown(&key::PYTHON, &self.python),
            shown(&key::LISTEN, &self.listen),
            shown(&key::H2C, &self.h2c),
            shown(&key::ADMIN, &self.admin),
            shown(&key::TRUSTED_PROXY, &self.trusted_proxy),
            shown(&key::THREADS, &self.threads),
            shown(&key::MAX_CONNECTIONS, &self.max_connections),
            shown(&key::WORKERS_KEY, &self.workers),
            shown(&key::CONCURRENCY, &self.concurrency),
            shown(&key::THREADSAFE, &self.threadsafe),
            shown(&key::START_TIMEOUT, &self.start_timeout),
            shown(&key::HEALTH_PATH, &self.health_path),
            shown(&key::MAX_REQUESTS, &self.max_requests),
            shown(&key::MAX_LIFETIME, &self.max_lifetime),
            shown(&key::MAX_RSS, &self.max_rss),
            shown(&key::QUEUE_DEPTH, &self.queue_depth),
            shown(&key::QUEUE_TIMEOUT, &self.queue_timeout),
            shown(&key::REQUEST_TIMEOUT, &self.request_timeout),
            shown(&key::CONNECT_TIMEOUT, &self.connect_timeout),
            shown(&key::MAX_REQUEST_BODY, &self.max_request_body),
            shown(&key::DRAIN_QUIET, &self.drain_quiet),
            shown(&key::GRACE_PERIOD, &self.grace_period),
            shown(&key::STOP_TIMEOUT, &self.stop_timeout),
            shown(&key::STATIC_CACHE, &self.static_cache),
            shown(&key::LOG_FORMAT, &self.log_format),
            shown(&key::ACCESS_LOG, &self.access_log),
            shown(&key::LOG_LEVEL, &self.log_level),
        ]
    }

    /// The names of the options whose values differ, whoever gave them.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<&'static str> {
        self.differing(new).map(|key| key.name).collect()
    }

    /// The names of the options whose new values only take effect by starting again.
    #[must_use]
    pub fn changes_needing_restart(&self, new: &Self) -> Vec<&'static str> {
        self.differing(new).filter(|key| key.reload == Reload::Restart).map(|key| key.name).collect()
    }

    fn differing(&self, new: &Self) -> impl Iterator<Item = &'static Key> {
        self.shown()
            .into_iter()
            .zip(new.shown())
            .filter(|(old, new)| old.value != new.value)
            .map(|(old, _)| old.key)
    }
}

fn shown<T: Show>(key: &'static Key, setting: &Setting<T>) -> Shown {
    let value = setting.value.show();
    // Nothing is called by the word that stands for it: `off`, `auto`.
    let value = if value.is_empty() { key.default.to_owned() } else { value };
    Shown { key, value, origin: setting.origin.clone() }
}

/// A size in the largest unit that keeps it whole.
pub(super) fn size(size: ByteSize) -> String {
    let bytes = size.as_u64();
    [("TiB", bytesize::TIB), ("GiB", bytesize::GIB), ("MiB", bytesize::MIB), ("KiB", bytesize::KIB)]
        .into_iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Text that reads back as the same value.
trait Show {
    fn show(&self) -> String;
}

impl Show for Duration {
    fn show(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Show for ByteSize {
    fn show(&self) -> String {
        size(*self)
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Show for bool {
    fn show(&self) -> String {
        super::words::name_of(*self).to_owned()
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        self.iter().map(Show::show).collect::<Vec<_>>().join(", ")
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map(Show::show).unwrap_or_default()
    }
}

macro_rules! shown_by_display {
    ($($name:ty),*) => {$(
        impl Show for $name {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_by_display!(
    String, Endpoint, IpNet, Count, u32, u64, usize, Threadsafe, LogFormat, AccessLog, LogLevel
);
