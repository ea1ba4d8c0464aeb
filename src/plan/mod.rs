//! From settings and app.yaml to what the workers must be: which command, how many, in which environment.
//!
//! 1. `--upstream`: programs that run already.
//! 2. `--upstream-cmd`.
//! 3. `entrypoint:` of app.yaml.
//! 4. For Python, the built-in launcher (`launcher`).
//! 5. Nothing, when only files are served.
//!
//! `survey` tells `check` what the launcher would do. Starts nothing itself; that is `worker`'s.

mod bundled;
mod environment;
mod launcher;
mod survey;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::appyaml::{App, Era, Login, Target};
use crate::secrets;
use crate::settings::{Endpoint, Settings};
use crate::site::Runs;
use crate::worker::{Check, Command, CommandError, Plan, Template, Upstream};

pub use launcher::{Interpreter, LauncherError};
pub use survey::{place_of_runtime, survey};

/// Asked of a worker whose life is in doubt, where no `--health-path` is given: App Engine's own, so no page of the app's.
const PULSE: &str = "/_ah/health";

/// Why there is no plan. All of these are the operator's to mend: exit code 78.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The command cannot be run.
    #[error("{option}: {source}")]
    Command {
        /// Who named the command.
        option: &'static str,
        /// What is wrong with it.
        source: CommandError,
    },
    /// There is no way to start this app.
    #[error(
        "nothing says how to start the app: runtime `{0}` has no built-in launcher; give `--upstream-cmd 'COMMAND {{port}}'`, \
         an `entrypoint:` in app.yaml, or `--upstream ADDR` if it runs already"
    )]
    NoCommand(String),
    /// The launcher cannot be used.
    #[error(transparent)]
    Launcher(#[from] LauncherError),
}

/// A plan and what is worth a line in the log about it.
#[derive(Debug)]
pub struct Planned {
    /// For the supervisor.
    pub plan: Plan,
    /// How the app is started, in a few words.
    pub how: String,
    /// The same for anyone who may see the status page.
    pub runs: Runs,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}

/// Makes the plan. `private` is a directory of ours for the launcher's files.
///
/// # Errors
/// [`PlanError`] says what to mend.
pub fn make(settings: &Settings, app: &App, app_dir: &Path, private: &Path) -> Result<Planned, PlanError> {
    let mut notes = Vec::new();
    let (command, how, runs) = command(settings, app, app_dir, private, &mut notes)?;
    let wraps = matches!(command, Command::Wrap(_));
    let resident = wraps && (app.manual_instances.is_some() || app.basic_scaling);
    let plan = Plan {
        command,
        workers: settings.workers.value.number,
        app_dir: app_dir.to_owned(),
        env: if wraps { environment::variables(app, settings) } else { Vec::new() },
        checks: checks(settings, app, wraps, resident),
        stop: resident.then(|| environment::own_request(app, "/_ah/stop")),
        pulse: environment::own_request(app, settings.health_path.value.as_deref().unwrap_or(PULSE)),
        silence: settings.request_timeout.value,
        start_timeout: settings.start_timeout.value,
        stop_timeout: settings.stop_timeout.value,
        drain_timeout: settings.grace_period.value,
        max_requests: settings.max_requests.value,
        max_lifetime: settings.max_lifetime.value,
        max_rss: settings.max_rss.value.map(|size| size.as_u64()),
    };
    Ok(Planned { plan, how, runs, notes })
}

/// Whether nothing is started for this app; where it is to run, the programs may be others than here.
///
/// # Errors
/// When there is no way to start it.
pub fn only_files(settings: &Settings, app: &App, app_dir: &Path) -> Result<bool, PlanError> {
    match way(settings, app, app_dir) {
        Way::Nothing => Ok(true),
        Way::Unknown => Err(PlanError::NoCommand(app.runtime.clone())),
        Way::Attach | Way::Told(_) | Way::Entrypoint(_) | Way::Launcher => Ok(false),
    }
}

/// The way an app is started: the list at the top, in its order.
enum Way<'a> {
    Attach,
    Told(&'a str),
    Entrypoint(&'a str),
    Nothing,
    Launcher,
    Unknown,
}

fn way<'a>(settings: &'a Settings, app: &'a App, app_dir: &Path) -> Way<'a> {
    if settings.is_attached() {
        return Way::Attach;
    }
    if let Some(text) = &settings.upstream_cmd.value {
        return Way::Told(text);
    }
    let scripts = wants_app(app);
    if let Some(text) = &app.entrypoint
        && (scripts || app.era == Era::Modern)
    {
        return Way::Entrypoint(text);
    }
    let has_main = app_dir.join("main.py").is_file();
    if !scripts && !(app.era == Era::Modern && (has_main || app.handlers.is_empty())) {
        return Way::Nothing;
    }
    if app.runtime.starts_with("python") || app.vm { Way::Launcher } else { Way::Unknown }
}

fn command(
    settings: &Settings,
    app: &App,
    app_dir: &Path,
    private: &Path,
    notes: &mut Vec<String>,
) -> Result<(Command, String, Runs), PlanError> {
    let runs = |by| Runs { by, python: None };
    match way(settings, app, app_dir) {
        Way::Attach => {
            let upstreams = settings.upstream.value.iter().map(|endpoint| match endpoint {
                Endpoint::Tcp { .. } => Upstream::Host(endpoint.to_string()),
                Endpoint::Unix(path) => Upstream::Unix(path.clone()),
            });
            let how = "attached to running upstreams";
            Ok((Command::Attach(upstreams.collect()), how.to_owned(), runs(how)))
        }
        Way::Told(text) => {
            wrap("--upstream-cmd", "started by --upstream-cmd", Template::parse(text), app_dir, text)
        }
        Way::Entrypoint(text) => {
            let by = "started by entrypoint in app.yaml";
            wrap("entrypoint in app.yaml", by, Template::entrypoint(text), app_dir, text)
        }
        Way::Nothing => {
            let how = "no worker: only static files are served";
            Ok((Command::None, how.to_owned(), runs(how)))
        }
        Way::Unknown => Err(PlanError::NoCommand(app.runtime.clone())),
        Way::Launcher => {
            let launch = launcher::prepare(settings, app, app_dir, private)?;
            notes.extend(launch.notes);
            let words = Template::from_words(&launch.words)
                .map_err(|source| PlanError::Command { option: "--python", source })?;
            let how = format!("{} with {}", launcher::NAME, launch.interpreter);
            let runs = Runs {
                by: "started by the built-in Python launcher",
                python: Some(launch.interpreter.version),
            };
            Ok((Command::Wrap(words), how, runs))
        }
    }
}

fn wrap(
    option: &'static str,
    by: &'static str,
    template: Result<Template, CommandError>,
    app_dir: &Path,
    text: &str,
) -> Result<(Command, String, Runs), PlanError> {
    let fail = |source| PlanError::Command { option, source };
    let template = template.map_err(fail)?;
    template.find_program(app_dir, std::env::var_os("PATH").as_deref()).map_err(fail)?;
    Ok((Command::Wrap(template), secrets::command(text), Runs { by, python: None }))
}

/// Whether a handler that anyone can reach names a script.
fn wants_app(app: &App) -> bool {
    app.handlers
        .iter()
        .any(|handler| handler.login == Login::Optional && matches!(handler.target, Target::Script { .. }))
}

/// What a worker must answer before it gets requests. App Engine's own requests go to processes of ours, whoever
/// wrote their command: `/_ah/start` (and `/_ah/stop`) where App Engine sent them, to manually and basically scaled
/// apps; under automatic scaling a catch-all handler may answer anything there.
fn checks(settings: &Settings, app: &App, wraps: bool, resident: bool) -> Vec<Check> {
    let ours = |path: &str| environment::own_request(app, path);
    let mut checks = match &settings.health_path.value {
        Some(path) => vec![Check::Health(ours(path))],
        None => vec![Check::Connect],
    };
    if resident {
        checks.push(Check::Start(ours("/_ah/start")));
    }
    if wraps && app.warmup {
        checks.push(Check::Warmup(ours("/_ah/warmup")));
    }
    checks
}

/// The application directory as an absolute path, so that it means the same in every worker.
///
/// # Errors
/// When it does not exist or is not a directory.
pub fn app_dir(given: &Path) -> std::io::Result<PathBuf> {
    let path = given.canonicalize()?;
    if path.is_dir() { Ok(path) } else { Err(std::io::ErrorKind::NotADirectory.into()) }
}
