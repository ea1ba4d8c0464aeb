//! Everything one request needs to decide and answer, frozen: the app, its compiled map, its files, what its
//! workers are told and its counters. A reload builds a whole new one and swaps a pointer ([`Current`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use ipnet::IpNet;
use prometheus::IntCounter;
use thiserror::Error;

use crate::appyaml::{
    self, App, Era, ErrorCode, Login, Place, Problem, Secure, Severity, StaticOptions, Target,
};
use crate::files::FileServer;
use crate::headers::send::Policy;
use crate::route::{Covered, UrlMap};
use crate::settings::Settings;
use crate::telemetry::metrics::{HandlerKind, HandlerMetrics, Metrics};

/// The frozen whole.
pub struct Site {
    /// Counts loads, from 1.
    pub generation: u64,
    /// What app.yaml says.
    pub app: App,
    /// The handlers, compiled.
    pub map: UrlMap,
    /// The files beneath the application directory.
    pub files: FileServer,
    /// What the app is told with each request.
    pub policy: Policy,
    /// One for each handler of the map, in its order.
    pub desks: Vec<Desk>,
    /// For requests that no handler matched.
    pub unmatched: HandlerMetrics,
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

/// Why there is no new site. The old one, if any, goes on.
#[derive(Debug, Error)]
pub enum LoadError {
    /// app.yaml has errors; every finding is here, rendered.
    #[error("{rendered}")]
    Invalid {
        /// One finding a line, with source lines and carets.
        rendered: String,
    },
    /// The application directory cannot be opened.
    #[error("cannot open the application directory `{path}`: {source}")]
    Root {
        /// As given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What was read and found, valid or not.
pub struct Reading {
    /// The app, unless there are errors.
    pub app: Option<App>,
    /// Every finding.
    pub problems: Vec<Problem>,
    /// The files read, for carets.
    pub texts: Vec<(Arc<str>, String)>,
    /// The handlers, compiled, unless there are errors.
    pub map: Option<UrlMap>,
    /// The files asked for, to see later whether they changed.
    pub sight: Sight,
}

/// What a reading saw: every file it asked for, by content; none for one that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    app_yaml: PathBuf,
    files: BTreeMap<PathBuf, Option<blake3::Hash>>,
}

impl Sight {
    fn read(&mut self, root: &Path, path: &Path) -> io::Result<Vec<u8>> {
        // The operator chooses app.yaml, wherever a link leads; what it includes stays beneath the root.
        let real = if path == self.app_yaml { Ok(root.join(path)) } else { inside(root, path) };
        let content = real.and_then(std::fs::read);
        self.files.insert(path.to_owned(), content.as_deref().ok().map(blake3::hash));
        content
    }

    /// The same files as they are now.
    #[must_use]
    pub fn again(&self, root: &Path) -> Self {
        let mut now = Self { app_yaml: self.app_yaml.clone(), files: BTreeMap::new() };
        for path in self.files.keys() {
            // A file that cannot be read is remembered as such.
            let _ = now.read(root, path);
        }
        now
    }

    /// A short hash over all of it.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (path, content) in &self.files {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(&[0]);
            hasher.update(content.as_ref().map_or(&[], |hash| hash.as_bytes().as_slice()));
        }
        hasher.finalize().to_hex().chars().take(16).collect()
    }
}

impl Reading {
    /// The findings, one after the other.
    #[must_use]
    pub fn rendered(&self, least: Severity) -> String {
        let found = self.problems.iter().filter(|problem| problem.severity >= least);
        found.map(|problem| appyaml::render(problem, &self.texts, true)).collect::<Vec<_>>().join("\n")
    }

    /// Whether there is a finding of this severity.
    #[must_use]
    pub fn has(&self, severity: Severity) -> bool {
        self.problems.iter().any(|problem| problem.severity == severity)
    }
}

/// Reads app.yaml with its includes beneath `root`, validates it and compiles its handlers.
#[must_use]
pub fn read(root: &Path, app_yaml: &Path) -> Reading {
    let mut sight = Sight { app_yaml: app_yaml.to_owned(), files: BTreeMap::new() };
    let loaded = appyaml::load(app_yaml, &mut |path| sight.read(root, path));
    let mut reading =
        Reading { app: loaded.app, problems: loaded.problems, texts: loaded.texts, map: None, sight };
    let Some(app) = reading.app.as_ref() else { return reading };
    for handler in &app.error_handlers {
        if let Err(error) = inside(root, Path::new(&handler.file)).and_then(std::fs::metadata) {
            reading.problems.push(Problem {
                severity: Severity::Error,
                place: handler.place.clone(),
                message: format!("cannot read the error page `{}`: {error}", handler.file),
                hint: Some("name a file relative to the application directory".to_owned()),
            });
        }
    }
    match UrlMap::compile(app) {
        Ok(map) => {
            reading.problems.extend(map.unreachable().iter().map(|covered| unreachable(&map, covered)));
            reading.map = Some(map);
        }
        Err(problems) => reading.problems.extend(problems),
    }
    if reading.has(Severity::Error) {
        reading.app = None;
        reading.map = None;
    }
    reading
}

/// The real path of a file beneath `root`.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = root.join(path).canonicalize()?;
    if real.starts_with(root.canonicalize()?) {
        Ok(real)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the application directory"))
    }
}

/// What app.yaml and the settings only mean together.
#[must_use]
pub fn cautions(app: &App, settings: &Settings) -> Vec<Problem> {
    let always = app
        .handlers
        .iter()
        .find(|handler| handler.secure == Secure::Always && handler.login == Login::Optional);
    let Some(handler) = always.filter(|_| settings.trusted_proxy.value.is_empty()) else { return Vec::new() };
    vec![Problem {
        severity: Severity::Warning,
        place: handler.place.clone(),
        message: "`secure: always` redirects every request to https, and nobody is trusted to say that a request was https"
            .to_owned(),
        hint: Some("name the proxy that ends TLS with --trusted-proxy, or its clients are redirected for ever".to_owned()),
    }]
}

/// A handler that no request reaches: above all a `login:` handler below a catch-all is a page left open.
fn unreachable(map: &UrlMap, covered: &Covered) -> Problem {
    let (handler, by) = (&map.handlers()[covered.handler], &map.handlers()[covered.by]);
    let open = handler.login != Login::Optional && by.login == Login::Optional;
    Problem {
        severity: Severity::Warning,
        place: handler.place.clone(),
        message: format!(
            "`{}` never matches: `{}` at {} takes all its paths first{}",
            handler.url.as_str(),
            by.url.as_str(),
            source(&by.place),
            if open { ", so its login rule protects nothing" } else { "" }
        ),
        hint: Some(format!("move it above {}", source(&by.place))),
    }
}

impl Site {
    /// Builds the site of a reading.
    ///
    /// # Errors
    /// When the reading has errors, or the directory cannot be opened.
    pub fn build(
        reading: Reading,
        root: &Path,
        settings: &Settings,
        metrics: &Metrics,
        generation: u64,
    ) -> Result<Self, LoadError> {
        let rendered = reading.rendered(Severity::Error);
        let (Some(app), Some(map)) = (reading.app, reading.map) else {
            return Err(LoadError::Invalid { rendered });
        };
        let unopened = |source| LoadError::Root { path: root.to_owned(), source };
        let files =
            FileServer::open(root, &app.sources, settings.static_cache.value.as_u64()).map_err(unopened)?;
        let policy = Policy::new(app.era == Era::Classic, settings.request_timeout.value);
        let desks = map
            .handlers()
            .iter()
            .enumerate()
            .map(|(index, handler)| Desk::new(index, handler, metrics))
            .collect();
        let error_pages =
            app.error_handlers.iter().map(|page| error_page(root, page)).collect::<io::Result<_>>();
        metrics.config(
            &reading.sight.hash(),
            &app.runtime,
            &app.service,
            app.version.as_deref().unwrap_or(""),
            app.handlers.len(),
        );
        for (severity, label) in [(Severity::Warning, "warning"), (Severity::Note, "note")] {
            let count = reading.problems.iter().filter(|problem| problem.severity == severity).count();
            metrics.config_warnings.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(Self {
            generation,
            map,
            files,
            policy,
            desks,
            unmatched: metrics.handler("_unmatched", HandlerKind::Unmatched),
            internal: metrics.handler("_internal", HandlerKind::Internal),
            error_pages: error_pages.map_err(unopened)?,
            trusted: settings.trusted_proxy.value.clone(),
            request_timeout: settings.request_timeout.value,
            connect_timeout: settings.connect_timeout.value,
            max_request_body: settings.max_request_body.value.as_u64(),
            loaded_at: SystemTime::now(),
            app,
        })
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
    reloads: AtomicU64,
    last_error: ArcSwap<Option<String>>,
}

impl Current {
    /// Begins with a first site.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self {
            site: ArcSwap::from_pointee(site),
            reloads: AtomicU64::new(0),
            last_error: ArcSwap::from_pointee(None),
        }
    }

    /// Taken once, at the start of a request, and kept to its end.
    #[must_use]
    pub fn get(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// Puts a new site in force.
    pub fn replace(&self, site: Site) {
        self.site.store(Arc::new(site));
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.last_error.store(Arc::new(None));
    }

    /// Remembers why the newest reload changed nothing.
    pub fn refused(&self, error: String) {
        self.last_error.store(Arc::new(Some(error)));
    }

    /// Reloads that took effect.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Why the newest reload changed nothing, if it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.load().as_ref().clone()
    }
}
