//! Everything one request needs to decide and answer, frozen: the app, its compiled map, its files, what its
//! workers are told and its counters. A reload builds a whole new one and swaps a pointer ([`Current`]).

mod reading;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use ipnet::IpNet;
use prometheus::IntCounter;
use thiserror::Error;

use crate::appyaml::{self, App, Era, ErrorCode, Login, Place, Severity, StaticOptions, Target};
use crate::files::FileServer;
use crate::headers::send::Policy;
use crate::route::UrlMap;
use crate::settings::Settings;
use crate::telemetry::metrics::{HandlerKind, HandlerMetrics, Metrics};

use reading::inside;
pub use reading::{Reading, Sight, cautions, read};

/// The frozen whole.
pub struct Site {
    /// Counts loads, from 1.
    pub generation: u64,
    /// What app.yaml says.
    pub app: App,
    /// The handlers, compiled.
    pub map: UrlMap,
    /// The files beneath the application directory.
    pub files: Arc<FileServer>,
    /// What the app is told with each request.
    pub policy: Policy,
    /// One for each handler of the map, in its order.
    pub desks: Vec<Desk>,
    /// For requests that no handler matched.
    pub unmatched: HandlerMetrics,
    /// For requests refused because some reading of their path is protected.
    pub blocked: HandlerMetrics,
    /// For requests answered before any handler.
    pub internal: HandlerMetrics,
    /// The body of the proxy's own errors, where app.yaml names one.
    pub error_pages: Vec<ErrorPage>,
    /// Peers whose forwarding headers are believed.
    pub trusted: Vec<IpNet>,
    /// Until the app's response head, then per idle gap.
    pub request_timeout: Duration,
    /// To connect to a worker.
    pub connect_timeout: Duration,
    /// The largest request body, bytes.
    pub max_request_body: u64,
    /// When it was built.
    pub loaded_at: SystemTime,
    /// A hash over the yaml files it was read from.
    sha: String,
    /// How many findings there were, by severity.
    findings: [(&'static str, usize); 2],
}

/// What the proxy keeps for one handler.
pub struct Desk {
    /// Its counters.
    pub metrics: HandlerMetrics,
    /// Its script, when it is the same for every request.
    pub script: Option<HeaderValue>,
    /// Its index as text.
    pub index: HeaderValue,
    /// Set for a handler with a login rule.
    pub login_blocked: Option<IntCounter>,
    /// By what became of the request; empty unless static.
    pub static_results: Vec<IntCounter>,
    /// Requests since this site was built.
    pub requests: AtomicU64,
}

/// One of `error_handlers`, in memory.
pub struct ErrorPage {
    /// Which failure it is for.
    pub code: ErrorCode,
    /// Its type.
    pub mime_type: HeaderValue,
    /// Its text.
    pub body: Bytes,
}

/// What runs the app's scripts, in words for anyone who may look: no command line, which may hold a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// How it is started.
    pub by: &'static str,
    /// The version of the Python that the built-in launcher chose.
    pub python: Option<String>,
}

/// Why there is no new site. The old one, if any, goes on.
#[derive(Debug, Error)]
pub enum LoadError {
    /// app.yaml has errors; every finding is here, rendered.
    #[error("{rendered}")]
    Invalid {
        /// One finding a line, with source lines and carets.
        rendered: String,
        /// One finding a line, without: a source line may hold a secret.
        brief: String,
    },
    /// The application directory cannot be opened.
    #[error(
        "cannot open the application directory `{path}`: {source}; name the directory that holds app.yaml"
    )]
    Root {
        /// As given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Site {
    /// Builds the site of a reading. `files` of the site before it go on where they would be the same.
    ///
    /// # Errors
    /// When the reading has errors, or the directory cannot be opened.
    pub fn build(
        reading: Reading,
        root: &Path,
        settings: &Settings,
        metrics: &Metrics,
        before: Option<&Self>,
    ) -> Result<Self, LoadError> {
        let (rendered, brief) = (reading.rendered(Severity::Error), reading.brief(Severity::Error));
        let (Some(app), Some(map)) = (reading.app, reading.map) else {
            return Err(LoadError::Invalid { rendered, brief });
        };
        let unopened = |source| LoadError::Root { path: root.to_owned(), source };
        let files = files(root, &app, settings.static_cache.value.as_u64(), metrics, before);
        let policy = Policy::new(app.era == Era::Classic, settings.request_timeout.value);
        let desks = map
            .handlers()
            .iter()
            .enumerate()
            .map(|(index, handler)| Desk::new(index, handler, metrics))
            .collect();
        let error_pages =
            app.error_handlers.iter().map(|page| error_page(root, page)).collect::<io::Result<_>>();
        let count = |severity| reading.problems.iter().filter(|problem| problem.severity == severity).count();
        let findings = [("warning", count(Severity::Warning)), ("note", count(Severity::Note))];
        Ok(Self {
            generation: before.map_or(0, |before| before.generation) + 1,
            map,
            files: files.map_err(unopened)?,
            policy,
            desks,
            unmatched: metrics.handler("_unmatched", HandlerKind::Unmatched),
            blocked: metrics.handler("_blocked", HandlerKind::Blocked),
            internal: metrics.handler("_internal", HandlerKind::Internal),
            error_pages: error_pages.map_err(unopened)?,
            trusted: settings.trusted_proxy.value.clone(),
            request_timeout: settings.request_timeout.value,
            connect_timeout: settings.connect_timeout.value,
            max_request_body: settings.max_request_body.value.as_u64(),
            loaded_at: SystemTime::now(),
            sha: reading.sight.hash(),
            findings,
            app,
        })
    }

    /// Tells the metrics that this site is in force; not before it is.
    pub fn announce(&self, metrics: &Metrics) {
        let App { runtime, service, version, handlers, .. } = &self.app;
        metrics.config(&self.sha, runtime, service, version.as_deref().unwrap_or(""), handlers.len());
        for (severity, count) in self.findings {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metrics.config_warnings.with_label_values(&[severity]).set(count);
        }
    }

    /// Takes the series of handlers away that this site, in force, does not have.
    pub fn forget_others(&self, metrics: &Metrics) {
        metrics.keep_handlers(&self.desks.iter().map(|desk| desk.metrics.label()).collect());
    }

    /// The page for one of the proxy's own errors, the default one where there is none for this code.
    #[must_use]
    pub fn error_page(&self, code: ErrorCode) -> Option<&ErrorPage> {
        let find = |code| self.error_pages.iter().find(|page| page.code == code);
        find(code).or_else(|| find(ErrorCode::Default))
    }
}

impl Desk {
    fn new(index: usize, handler: &appyaml::Handler, metrics: &Metrics) -> Self {
        let label = handler.url.as_str();
        let (kind, is_static) = match handler.target {
            _ if handler.login != Login::Optional => (HandlerKind::Blocked, false),
            Target::Script { .. } => (HandlerKind::Script, false),
            Target::StaticDir { .. } => (HandlerKind::StaticDir, true),
            Target::StaticFiles { .. } => (HandlerKind::StaticFiles, true),
        };
        let script = match &handler.target {
            Target::Script { script } => script.literal().and_then(|text| HeaderValue::from_str(text).ok()),
            _ => None,
        };
        let blocked = handler.login != Login::Optional;
        Self {
            metrics: metrics.handler(label, kind),
            script,
            index: HeaderValue::from(index),
            login_blocked: blocked.then(|| metrics.login_blocked(label, handler.login.as_str())),
            static_results: if is_static { metrics.static_results(label) } else { Vec::new() },
            requests: AtomicU64::new(0),
        }
    }
}

/// The server of the site before, with all it holds in memory, unless something that it goes by has changed.
fn files(
    root: &Path,
    app: &App,
    cache: u64,
    metrics: &Metrics,
    before: Option<&Site>,
) -> io::Result<Arc<FileServer>> {
    if let Some(before) = before
        && before.files.is_over(root, &app.sources, &app.skip_files, cache)
    {
        if !before
            .app
            .handlers
            .iter()
            .filter_map(static_options)
            .eq(app.handlers.iter().filter_map(static_options))
        {
            before.files.forget_heads();
        }
        return Ok(Arc::clone(&before.files));
    }
    let files = FileServer::open(root, &app.sources, cache)?.skipping(app.skip_files.clone());
    Ok(Arc::new(files.counted_by(metrics.static_cache.looks())))
}

fn error_page(root: &Path, handler: &appyaml::ErrorHandler) -> io::Result<ErrorPage> {
    Ok(ErrorPage {
        code: handler.code,
        mime_type: HeaderValue::from_str(&handler.mime_type).unwrap_or(HeaderValue::from_static("text/html")),
        body: std::fs::read(inside(root, Path::new(&handler.file))?)?.into(),
    })
}

/// The options of a static handler.
#[must_use]
pub const fn static_options(handler: &appyaml::Handler) -> Option<&StaticOptions> {
    match &handler.target {
        Target::Script { .. } => None,
        Target::StaticDir { options, .. } | Target::StaticFiles { options, .. } => Some(options),
    }
}

/// `file:line` of a handler.
#[must_use]
pub fn source(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

/// Where the one live site hangs.
pub struct Current {
    site: ArcSwap<Site>,
    /// Whether anything runs behind the proxy; false when only files are served.
    has_workers: AtomicBool,
    reloads: AtomicU64,
    last_error: ArcSwap<Option<Refused>>,
    runs: ArcSwap<Runs>,
}

/// A reload that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: String,
    /// When.
    pub at: SystemTime,
}

impl Current {
    /// Begins with a first site.
    #[must_use]
    pub fn new(site: Site, has_workers: bool, runs: Runs) -> Self {
        Self {
            site: ArcSwap::from_pointee(site),
            has_workers: AtomicBool::new(has_workers),
            reloads: AtomicU64::new(0),
            last_error: ArcSwap::from_pointee(None),
            runs: ArcSwap::from_pointee(runs),
        }
    }

    /// Taken once, at the start of a request, and kept to its end.
    #[must_use]
    pub fn get(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// Whether anything runs behind the proxy; false when only files are served.
    #[must_use]
    pub fn has_workers(&self) -> bool {
        self.has_workers.load(Ordering::Relaxed)
    }

    /// What runs the app's scripts.
    #[must_use]
    pub fn runs(&self) -> Arc<Runs> {
        self.runs.load_full()
    }

    /// After a reload of the workers, which may have brought some, or taken the last one away.
    pub fn set_workers(&self, has_workers: bool, runs: Runs) {
        self.has_workers.store(has_workers, Ordering::Relaxed);
        self.runs.store(Arc::new(runs));
    }

    /// Puts a new site in force.
    pub fn replace(&self, site: Site) {
        self.site.store(Arc::new(site));
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.last_error.store(Arc::new(None));
    }

    /// Remembers why the newest reload changed nothing.
    pub fn refused(&self, error: String) {
        self.last_error.store(Arc::new(Some(Refused { error, at: SystemTime::now() })));
    }

    /// Reloads that took effect.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Why the newest reload changed nothing, if it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<Refused> {
        self.last_error.load().as_ref().clone()
    }
}
