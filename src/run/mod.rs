//! Builds all of it, serves, and ends all of it, in the order things happen: known good first, ports next,
//! traffic last, and the other way round at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::apps::http_app::HttpServer;
use pingora::server::RunArgs;
use pingora::services::listening::Service;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::admin::{Admin, History};
use crate::appyaml::{self, Severity};
use crate::balance::Pool;
use crate::door::Door;
use crate::drain::{Drain, Latch, Patience, Signals};
use crate::listen::{BindError, Bound};
use crate::plan::{self, PlanError, Planned};
use crate::proxy::{Shared, Slots};
use crate::reload::{self, Reloader};
use crate::settings::{Options, Settings, SettingsErrors, Threadsafe};
use crate::site::{self, Current, LoadError, Reading, Site};
use crate::telemetry::Log;
use crate::telemetry::metrics::Metrics;
use crate::worker::{self, Command, Outcome, Supervisor};

mod server;
mod voice;

use server::{Listener, adopt, bind, gateway, server};

/// Why nothing is served. Each names its exit code.
#[derive(Debug, Error)]
pub enum StartError {
    /// 78.
    #[error("{0}")]
    Settings(#[from] SettingsErrors),
    /// 65.
    #[error("{0}")]
    App(#[from] LoadError),
    /// 78.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// 71.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// 71.
    #[error("the operating system refused: {what}: {source}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl StartError {
    /// The exit code of the contract.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Plan(_) => 78,
            Self::App(_) => 65,
            Self::Bind(_) | Self::System { .. } => 71,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// What is known to be good before a port is bound.
struct Prepared {
    app_dir: PathBuf,
    settings: Settings,
    reading: Reading,
    planned: Planned,
    /// For the launcher's files; removed at the end.
    private: TempDir,
}

/// What serves, and what everybody holds a share of.
struct Parts {
    current: Arc<Current>,
    pool: Pool,
    supervisor: Supervisor,
    workers: worker::Handle,
    reloader: Reloader,
}

/// Runs the app in `app_dir` until told to stop; returns the exit code.
///
/// # Errors
/// [`StartError`]: nothing was served, and nothing is left running.
pub fn serve(app_dir: &Path, flags: &Options, terminal: bool) -> Result<u8, StartError> {
    let started = Instant::now();
    let prepared = prepare(app_dir, flags, terminal)?;
    let settings = prepared.settings.clone();
    let descriptors = raise_descriptor_limit();
    let shards = settings.threads.value.number;
    let bound = bind(&settings.resolved_listen()?, shards, "--listen")?;
    let admin_bound = bind(&[settings.resolved_admin()?], 1, "--admin")?;

    let metrics = Arc::new(Metrics::new().map_err(|error| system("metrics")(io::Error::other(error)))?);
    let log = voice::start(&settings, &prepared.planned.plan, &metrics);
    let _written = Written(log.clone());
    count_panics(&metrics);
    tell(&settings, &prepared.reading, &prepared.planned);
    // Held to the end: the running workers use the files in it.
    let (parts, _private) = build(prepared, flags, terminal, &metrics, &log)?;

    let addresses = [&bound, &admin_bound].map(|list| addresses(list));
    let listeners = (0..shards).map(|shard| hand_over(&bound, shard)).collect::<Result<Vec<_>, _>>()?;
    let admin_listeners = hand_over(&admin_bound, 0)?;
    let drain = Drain::new(bound);
    let history = Arc::new(History::new(Arc::clone(&metrics)));
    let control = control(&drain, parts.supervisor, parts.reloader, Arc::clone(&history), &settings)?;
    let shared = Arc::new(Shared {
        current: Arc::clone(&parts.current),
        pool: parts.pool.clone(),
        drain: drain.clone(),
        metrics: Arc::clone(&metrics),
        log: log.clone(),
        slots: Slots::default(),
    });
    let most = settings.max_connections.unwrap_or(descriptors / 4 * 3);
    let door = Door::new(Arc::clone(&metrics), log.clone(), most);
    let mut server = server();
    for (shard, listeners) in listeners.into_iter().enumerate() {
        let service = gateway(&server, &shared, &door, shard, &settings);
        server.add_service(drain.hold(adopt(service, listeners)));
    }
    let admin = HttpServer::new_app(Admin {
        current: parts.current,
        pool: parts.pool,
        workers: parts.workers,
        metrics: Arc::clone(&metrics),
        stage: drain.stage(),
        history,
        started,
    });
    server.add_service(adopt(Service::new("admin".to_owned(), admin), admin_listeners));
    for address in &addresses[0] {
        info!(%address, threads = shards, "listening");
    }
    for address in &addresses[1] {
        info!(%address, "admin listening");
    }

    server.run(RunArgs { shutdown_signal: Box::new(drain.clone()) });
    // The control thread ends with the last stage; its result was logged there.
    let _ = control.join();
    metrics.lifecycle("stopped");
    let code = drain.exit_code();
    info!(code, "stopped");
    Ok(u8::try_from(code).unwrap_or(1))
}

fn prepare(app_dir: &Path, flags: &Options, terminal: bool) -> Result<Prepared, StartError> {
    let app_dir =
        plan::app_dir(app_dir).map_err(|source| LoadError::Root { path: app_dir.to_owned(), source })?;
    let settings = Settings::load(flags, &app_dir, terminal)?;
    let reading = site::read(&app_dir, &settings.app_yaml.value);
    let app = reading.app.as_ref().ok_or_else(|| LoadError::Invalid {
        rendered: reading.rendered(Severity::Error),
        brief: reading.brief(Severity::Error),
    })?;
    let settings = settings.with_hints(&reload::hints(app, &settings));
    let private =
        tempfile::Builder::new().prefix("compat-proxy-").tempdir().map_err(system("a private directory"))?;
    let planned = plan::make(&settings, app, &app_dir, private.path())?;
    Ok(Prepared { app_dir, settings, reading, planned, private })
}

fn build(
    prepared: Prepared,
    flags: &Options,
    terminal: bool,
    metrics: &Arc<Metrics>,
    log: &Log,
) -> Result<(Parts, TempDir), StartError> {
    let Prepared { app_dir, settings, reading, planned, private } = prepared;
    let plan = planned.plan;
    let pool = Pool::new(reload::limits(&settings, plan.slots()), Arc::clone(metrics));
    let sight = reading.sight.clone();
    let site = Site::build(reading, &app_dir, &settings, metrics, None)?;
    site.announce(metrics);
    let current = Arc::new(Current::new(site, plan.command != Command::None, planned.runs));
    let surroundings = voice::surroundings(log, private.path());
    let (supervisor, workers) =
        worker::supervisor(plan.clone(), pool.clone(), Arc::clone(metrics), surroundings)
            .map_err(system("a private directory for the workers' sockets"))?;
    let reloader = Reloader {
        app_dir,
        private: private.path().to_owned(),
        flags: flags.clone(),
        terminal,
        settings,
        plan,
        current: Arc::clone(&current),
        pool: pool.clone(),
        workers: workers.clone(),
        metrics: Arc::clone(metrics),
        log: log.clone(),
        sight,
    };
    Ok((Parts { current, pool, supervisor, workers, reloader }, private))
}

fn addresses(bound: &[Bound]) -> Vec<String> {
    bound.iter().map(|bound| bound.address().to_string()).collect()
}

fn hand_over(bound: &[Bound], shard: usize) -> Result<Vec<Listener>, StartError> {
    let one = |bound: &Bound| Ok((bound.address().clone(), bound.hand_over(shard)?));
    bound.iter().map(one).collect::<io::Result<_>>().map_err(system("a descriptor for each listener"))
}

/// One thread for what must live as long as the process: signals and the drain, the supervisor (the kernel ends
/// the workers when the thread that started them ends), and reloads.
fn control(
    drain: &Drain,
    supervisor: Supervisor,
    reloader: Reloader,
    history: Arc<History>,
    settings: &Settings,
) -> Result<std::thread::JoinHandle<()>, StartError> {
    let patience = Patience {
        quiet: settings.drain_quiet.value,
        grace: settings.grace_period.value,
        stop: settings.stop_timeout.value,
    };
    let drain = drain.clone();
    let log = reloader.log.clone();
    let latch = drain.finisher();
    let (ready, wait) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            let caught =
                Signals::catch().and_then(|signals| Ok((signals, Reloader::catch()?, voice::catch()?)));
            let (signals, hangup, verbose) = match caught {
                Ok(caught) => caught,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            let stage = drain.stage();
            let (gone, over) = oneshot::channel::<()>();
            let listening = tokio::spawn(async move { voice::listen(&log, verbose).await });
            tokio::join!(
                async {
                    drain.clone().conduct(signals, patience).await;
                    drop(gone);
                },
                supervise(supervisor, &drain, latch),
                async {
                    tokio::select! {
                        () = reloader.run(hangup, stage) => {}
                        _ = history.keep() => {}
                        _ = over => {}
                    }
                },
            );
            listening.abort();
        });
    });
    let thread = thread.map_err(system("a thread"))?;
    match wait.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(system("catching signals")(error)),
        Err(_) => Err(system("a control thread")(io::Error::other("it ended at once"))),
    }
}

async fn supervise(supervisor: Supervisor, drain: &Drain, latch: Latch) {
    match supervisor.run(drain.stage()).await {
        Outcome::Stopped => {}
        Outcome::NeverReady { last } => {
            error!(
                last = %last,
                "no worker became ready five times in a row: look at what the workers print above, or raise --start-timeout"
            );
            drain.fail(69);
        }
    }
    drop(latch);
}

/// Everything an operator should see once, at start.
fn tell(settings: &Settings, reading: &Reading, planned: &Planned) {
    info!(version = env!("CARGO_PKG_VERSION"), app = %planned.how, workers = planned.plan.slots(), "starting");
    for note in &settings.notes {
        warn!("{note}");
    }
    for note in &planned.notes {
        warn!("{note}");
    }
    for problem in &reading.problems {
        let text = appyaml::render(problem, &reading.texts, false);
        if problem.severity == Severity::Note { info!("{text}") } else { warn!("{text}") }
    }
    for problem in reading.app.iter().flat_map(|app| site::cautions(app, settings)) {
        warn!(
            "{}{}",
            appyaml::render(&problem, &reading.texts, false),
            problem.hint.map(|hint| format!("; {hint}")).unwrap_or_default()
        );
    }
    let threadsafe = reading.app.as_ref().and_then(|app| app.threadsafe);
    if threadsafe == Some(false) && settings.threadsafe.value == Threadsafe::Ignore {
        info!(
            "threadsafe: false is ignored, as the python-compat runtime did; --threadsafe enforce sends one request at a time to each worker"
        );
    }
}

/// However it ends, by an error or a panic too: what was logged is written before the process is gone.
struct Written(Log);

impl Drop for Written {
    fn drop(&mut self) {
        self.0.flush(Duration::from_secs(1));
    }
}

/// A panic ends one request; it is a bug, and must be seen.
fn count_panics(metrics: &Arc<Metrics>) {
    let panics = metrics.panics.clone();
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        error!(panic = %info, "panic: this is a bug in compat-proxy, please report it");
    }));
}

/// Each request may need two descriptors; the soft limit is often 1,024 for historical reasons. The limit in force.
fn raise_descriptor_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, the limit in force holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
