//! Which events are written, changed while the program runs: by the setting, or raised to debug for a while by a signal.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::info;
use tracing_subscriber::EnvFilter;

/// What a raised log shows.
const RAISED: &str = "debug";

type Apply = dyn Fn(EnvFilter) -> bool + Send + Sync;

/// The level of the log; all clones are one.
#[derive(Clone)]
pub struct Verbosity(Arc<Inner>);

struct Inner {
    apply: Box<Apply>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the settings say.
    level: String,
    raised: bool,
}

impl State {
    fn shown(&self) -> &str {
        if self.raised { RAISED } else { &self.level }
    }
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).fmt(f)
    }
}

impl Verbosity {
    /// Of a log that shows `level`; `apply` gives it another filter, and says whether that worked.
    pub(super) fn new(level: &str, apply: impl Fn(EnvFilter) -> bool + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State { level: level.to_owned(), raised: false });
        Self(Arc::new(Inner { apply: Box::new(apply), state }))
    }

    /// The level the settings say now. While the log is raised, it takes effect when that is over.
    pub fn set(&self, level: &str) {
        self.change(|state| {
            if state.level == level {
                return None;
            }
            level.clone_into(&mut state.level);
            Some(if state.raised { "setting; raised by SIGUSR1 until the next one" } else { "setting" })
        });
    }

    /// To debug, or back to what the settings say.
    pub fn toggle(&self) {
        self.change(|state| {
            if !state.raised && matches!(state.level.as_str(), "debug" | "trace") {
                return Some("SIGUSR1, and it shows as much already");
            }
            state.raised = !state.raised;
            Some("SIGUSR1")
        });
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Option<&'static str>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.shown().to_owned();
        let Some(cause) = change(&mut state) else { return };
        // Told while the log shows it: whoever asked wants to see that it was heard.
        let _ = (self.0.apply)(filter(RAISED));
        info!(level = state.shown(), before, cause, "log level");
        let _ = (self.0.apply)(filter(state.shown()));
    }
}

/// Our own events at `level`; of what we are built on, only what an operator can use.
///
/// Pingora reports every client that leaves and every refused connection as an error; the access log and the metrics tell
/// the same with a reason.
pub(super) fn filter(level: &str) -> EnvFilter {
    let directives = match level {
        "trace" => "debug,compat_proxy=trace".to_owned(),
        _ => {
            let others = if level == RAISED { "info" } else { level };
            format!(
                "{others},compat_proxy={level},pingora_core=off,pingora_proxy=off,pingora_pool=off,pingora_cache=off"
            )
        }
    };
    EnvFilter::new(directives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (Verbosity, Arc<Mutex<String>>) {
        let seen = Arc::new(Mutex::new(String::new()));
        let last = Arc::clone(&seen);
        let verbosity = Verbosity::new("warn", move |filter| {
            *last.lock().unwrap() = filter.to_string();
            true
        });
        (verbosity, seen)
    }

    #[test]
    fn the_signal_raises_to_debug_and_back_to_what_the_settings_say_by_then() {
        let (verbosity, seen) = kept();
        let shows = |level: &str| seen.lock().unwrap().contains(&format!("compat_proxy={level}"));
        verbosity.toggle();
        assert!(shows("debug"), "{seen:?}");
        verbosity.set("error");
        assert!(shows("debug"), "{seen:?}");
        verbosity.toggle();
        assert!(shows("error"), "{seen:?}");
        verbosity.set("trace");
        assert!(shows("trace"), "{seen:?}");
        verbosity.toggle();
        assert!(shows("trace"), "there is nothing to raise: {seen:?}");
    }

    #[test]
    fn at_debug_only_our_own_events_are_more() {
        let text = filter("debug").to_string();
        assert!(text.contains("compat_proxy=debug") && text.contains("pingora_proxy=off"), "{text}");
        assert!(text.split(',').any(|directive| directive == "info"), "{text}");
    }
}
