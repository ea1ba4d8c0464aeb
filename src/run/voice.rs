//! The log as the settings want it: started, changed by a reload or by SIGUSR1, and fed with what workers print.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload;
use crate::secrets::Values;
use crate::settings::{LogFormat, Settings};
use crate::telemetry::log::Stream;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{Format, Log, Printed};
use crate::worker::{self, Plan, Surroundings};

pub(super) fn start(settings: &Settings, plan: &Plan, metrics: &Metrics) -> Log {
    let format = match settings.log_format.value {
        LogFormat::Text => Format::Text { colour: is_coloured() },
        LogFormat::Json => Format::Json,
        LogFormat::Gcp => Format::Gcp { project: std::env::var("GOOGLE_CLOUD_PROJECT").ok() },
    };
    let log = Log::start(format, reload::access(settings), settings.log_level.value.as_str(), metrics);
    log.hide(Values::of(plan.env.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
    log
}

/// Everything goes to a terminal, and whoever sits there did not ask for plain text (<https://no-color.org>).
fn is_coloured() -> bool {
    let says = |name: &str, wanted: fn(&str) -> bool| {
        std::env::var_os(name).is_some_and(|value| wanted(&value.to_string_lossy()))
    };
    let plain = says("NO_COLOR", |value| !value.is_empty()) || says("TERM", |value| value == "dumb");
    !plain && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// What the supervisor takes from us: where lines go, and what the guard removes when we are killed.
pub(super) fn surroundings(log: &Log, private: &Path) -> Surroundings {
    let log = log.clone();
    let mut surroundings = Surroundings::new(Arc::new(move |line: worker::Line<'_>| {
        let stream = match line.stream {
            worker::Stream::Stdout => Stream::Stdout,
            worker::Stream::Stderr => Stream::Stderr,
        };
        let worker::Line { slot, pid, at, text, traceback, asked, .. } = line;
        log.worker(&Printed { worker: slot, pid, stream, at, text, traceback, asked });
    }));
    surroundings.private.push(private.to_owned());
    surroundings
}

/// Catches SIGUSR1; must be called within a tokio runtime.
pub(super) fn catch() -> io::Result<Signal> {
    signal(SignalKind::user_defined1())
}

/// SIGUSR1: to debug, and back.
pub(super) async fn listen(log: &Log, mut asked: Signal) {
    while asked.recv().await.is_some() {
        log.verbosity().toggle();
    }
}
