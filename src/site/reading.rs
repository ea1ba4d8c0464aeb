//! app.yaml as it stands on disk: read with its includes, validated, compiled, every finding kept, and remembered
//! by content so that a change is noticed. Serves nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source;
use crate::appyaml::{self, App, Login, Place, Problem, Secure, Severity};
use crate::route::{Covered, UrlMap};
use crate::settings::Settings;

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
    /// The findings, one after the other, with the lines of the files they are about.
    #[must_use]
    pub fn rendered(&self, least: Severity) -> String {
        let found = self.problems.iter().filter(|problem| problem.severity >= least);
        found.map(|problem| appyaml::render(problem, &self.texts, true)).collect::<Vec<_>>().join("\n")
    }

    /// The findings, one a line, for more people than see the log: without the lines of the files, and nothing of what
    /// is written beneath `env_variables`, which may be a secret.
    #[must_use]
    pub fn brief(&self, least: Severity) -> String {
        let found = self.problems.iter().filter(|problem| problem.severity >= least);
        let one = |problem: &Problem| {
            if !self.is_of_variables(problem) {
                return appyaml::render(problem, &self.texts, false);
            }
            let Place { file, line, column } = &problem.place;
            let severity = problem.severity.as_str();
            format!(
                "{file}:{line}:{column}: {severity}: this part of `env_variables` is wrong (the log says how)"
            )
        };
        found.map(one).collect::<Vec<_>>().join("\n")
    }

    /// Whether the last key at the left margin, up to the line of a finding, is `env_variables`: told from the text, as
    /// a file that is no YAML has nothing else.
    fn is_of_variables(&self, problem: &Problem) -> bool {
        let text = self.texts.iter().find(|(file, _)| *file == problem.place.file);
        let lines = text.map_or("", |(_, text)| text).lines().take(problem.place.line as usize);
        let key = lines
            .filter(|line| line.starts_with(|first: char| first.is_alphabetic() || "'\"".contains(first)));
        key.last().is_some_and(|key| key.trim_start_matches(['\'', '"']).starts_with("env_variables"))
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
pub(super) fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
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
