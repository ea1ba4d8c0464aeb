//! From the old configuration to a new one, or not at all: the only writer of the current site.
//!
//! SIGHUP reads app.yaml and compat-proxy.yaml again and rolls the workers one after another; a changed app.yaml
//! (noticed by content, for a ConfigMap changes by swapping a symlink) changes the routing only. Everything is
//! built before anything is swapped; on an error nothing has changed but a log line, a counter and the status.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::appyaml::{App, Severity};
use crate::balance::{Limits, Pool};
use crate::drain::Stage;
use crate::plan;
use crate::secrets::Values;
use crate::settings::{AccessLog, Hints, Options, Settings};
use crate::site::{self, Current, LoadError, Reading, Sight, Site};
use crate::telemetry::Log;
use crate::telemetry::log::Access;
use crate::telemetry::metrics::Metrics;
use crate::worker::{Command, Handle, Plan};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Everything a reload needs.
pub struct Reloader {
    /// The application directory, absolute.
    pub app_dir: PathBuf,
    /// Where the launcher's files are written.
    pub private: PathBuf,
    /// The command line, which wins over the file when that is read again.
    pub flags: Options,
    /// Whether the log goes to a terminal, for its default format.
    pub terminal: bool,
    /// The settings in force.
    pub settings: Settings,
    /// What runs now.
    pub plan: Plan,
    /// Where the site hangs.
    pub current: Arc<Current>,
    /// Whose limits may change.
    pub pool: Pool,
    /// The workers.
    pub workers: Handle,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The log, whose level may change.
    pub log: Log,
    /// The files the newest reading asked for, good or not.
    pub sight: Sight,
}

/// What app.yaml suggests for settings nobody chose.
#[must_use]
pub fn hints(app: &App, settings: &Settings) -> Hints {
    let one_at_a_time =
        settings.threadsafe.value == crate::settings::Threadsafe::Enforce && app.threadsafe == Some(false);
    Hints {
        concurrency: if one_at_a_time {
            Some(1)
        } else {
            app.max_concurrent_requests.map(std::num::NonZeroU32::get)
        },
        workers: app.manual_instances.map(std::num::NonZeroU32::get),
        queue_timeout: app.max_pending_latency,
    }
}

/// Which requests are logged.
#[must_use]
pub fn access(settings: &Settings) -> Access {
    match settings.access_log.value {
        AccessLog::On => Access::On,
        AccessLog::Off => Access::Off,
        AccessLog::Errors => Access::Errors,
    }
}

/// The pool's limits for settings.
#[must_use]
pub fn limits(settings: &Settings, slots: usize) -> Limits {
    let concurrency = settings.concurrency.value;
    Limits {
        concurrency,
        queue_depth: settings.queue_depth_for(slots, concurrency),
        queue_timeout: settings.queue_timeout.value,
    }
}

/// Why a reload changed nothing.
struct Fault {
    /// For the log.
    log: String,
    /// For the status, which more people see: without the lines of app.yaml, one of which may hold a secret.
    shown: String,
}

impl Fault {
    fn from_display(error: impl ToString) -> Self {
        let log = error.to_string();
        Self { shown: log.clone(), log }
    }
}

impl Reloader {
    /// Catches SIGHUP; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn catch() -> std::io::Result<Signal> {
        signal(SignalKind::hangup())
    }

    /// Reloads whenever asked, until the process stops.
    pub async fn run(mut self, mut hangup: Signal, stage: watch::Receiver<Stage>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut closing = stage.clone();
            tokio::select! {
                _ = closing.wait_for(|stage| *stage >= Stage::Closing) => return,
                Some(()) = hangup.recv() => {
                    let mut closing = stage.clone();
                    let rolled = tokio::select! {
                        result = self.reload_all() => result,
                        _ = closing.wait_for(|stage| *stage >= Stage::Closing) => return,
                    };
                    self.report(rolled, "SIGHUP");
                }
                _ = look.tick() => {
                    if self.sight.again(&self.app_dir) != self.sight {
                        let routed = self.reload_routes();
                        self.report(routed, "changed file");
                    }
                }
            }
        }
    }

    fn report(&self, result: Result<(), Fault>, cause: &str) {
        let succeeded = result.is_ok();
        // A site that was built and not put in force has left series behind, too.
        self.current.get().forget_others(&self.metrics);
        self.metrics.config_last_reload_successful.set(i64::from(succeeded));
        let label = if succeeded { "success" } else { "failure" };
        self.metrics.config_reloads.with_label_values(&[label]).inc();
        match result {
            Ok(()) => info!(cause, generation = self.current.get().generation, "configuration reloaded"),
            Err(Fault { log, shown }) => {
                error!(cause, error = %log, "configuration not reloaded: the old one stays in force");
                self.current.refused(shown);
            }
        }
    }

    /// app.yaml alone, for the routing.
    fn reload_routes(&mut self) -> Result<(), Fault> {
        let settings = self.settings.clone();
        let reading = self.read(&settings);
        let site = self.build(reading, &settings)?;
        let planned = plan::make(&self.settings, &site.app, &self.app_dir, &self.private)
            .map_err(|error| error.to_string());
        match planned {
            Ok(planned) if without_instance(&planned.plan) == without_instance(&self.plan) => {}
            Ok(_) => warn!(
                "app.yaml changed what workers must see (env_variables, entrypoint or scripts): send SIGHUP to replace them"
            ),
            Err(error) => warn!(error, "app.yaml changed how the app is started; the running workers stay"),
        }
        self.put(site);
        Ok(())
    }

    /// Both files, and the workers.
    async fn reload_all(&mut self) -> Result<(), Fault> {
        let fresh = Settings::load(&self.flags, &self.app_dir, self.terminal).map_err(Fault::from_display)?;
        let reading = self.read(&fresh);
        let Some(app) = &reading.app else {
            let (log, shown) = (reading.rendered(Severity::Error), reading.brief(Severity::Error));
            return Err(Fault { log, shown });
        };
        let settings = fresh.with_hints(&hints(app, &fresh));
        for option in self.settings.changes_needing_restart(&settings) {
            warn!(option, "this option takes effect when compat-proxy is started again");
        }
        let site = self.build(reading, &settings)?;
        let planned =
            plan::make(&settings, &site.app, &self.app_dir, &self.private).map_err(Fault::from_display)?;
        for note in &planned.notes {
            warn!("{note}");
        }
        // Until the last of them has gone, old workers may print what they were given.
        self.log.hide(hidden(&[&self.plan, &planned.plan]));
        // Workers first: new routes never meet a fleet that cannot serve them, and code that does not start
        // never replaces code that runs.
        self.workers.roll(planned.plan.clone()).await.map_err(Fault::from_display)?;
        self.pool.set_limits(limits(&settings, planned.plan.slots()));
        self.current.set_workers(planned.plan.command != Command::None, planned.runs);
        self.log.hide(hidden(&[&planned.plan]));
        self.log.set_access(access(&settings));
        self.log.verbosity().set(settings.log_level.value.as_str());
        if let Some(overruled) = &settings.log_level_overruled {
            info!("{overruled}");
        }
        self.plan = planned.plan;
        self.settings = settings;
        self.put(site);
        Ok(())
    }

    fn put(&self, site: Site) {
        site.announce(&self.metrics);
        self.current.replace(site);
    }

    fn read(&mut self, settings: &Settings) -> Reading {
        let reading = site::read(&self.app_dir, &settings.app_yaml.value);
        self.sight = reading.sight.clone();
        reading
    }

    fn build(&self, reading: Reading, settings: &Settings) -> Result<Site, Fault> {
        for problem in reading.problems.iter().filter(|problem| problem.severity == Severity::Warning) {
            warn!("{}", crate::appyaml::render(problem, &reading.texts, false));
        }
        let before = self.current.get();
        Site::build(reading, &self.app_dir, settings, &self.metrics, Some(&*before)).map_err(|error| {
            let log = error.to_string();
            let shown = if let LoadError::Invalid { brief, .. } = error { brief } else { log.clone() };
            Fault { log, shown }
        })
    }
}

/// What workers of these plans must not print.
fn hidden(plans: &[&Plan]) -> Option<Values> {
    let variables = plans.iter().flat_map(|plan| &plan.env);
    Values::of(variables.map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Plans compare equal when only the made-up instance id differs.
fn without_instance(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    plan.env.retain(|(key, value)| !value.is_empty() && !key.contains("INSTANCE"));
    plan
}
