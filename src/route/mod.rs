//! Which handler answers a request, and how: the handlers of `app.yaml` as one table.
//!
//! 1. `path`: from the bytes of the request target to a clean path, a redirect (R-DOTS) or a refusal (R-UTF8).
//! 2. `readings`: the other ways that path could be read (R-READINGS).
//! 3. `table`: the handlers' patterns as one automaton; the handlers that match, in file order.
//! 4. `decide`: the rules, in their order, to a [`Decision`].
//! 5. `explain`: the same, told step by step; `reach`: handlers that can never match.
//!
//! Nothing here touches a disk or a socket: whether a file is there is asked through a function passed in.

use std::borrow::Cow;
use std::path::Path;

use crate::appyaml::{App, Era, Handler, Place, Problem, Severity};
use crate::pattern::{Pattern, PatternError, Question};

mod decide;
mod explain;
mod path;
mod reach;
mod readings;
mod table;

#[cfg(test)]
mod tests;

pub use explain::{Explanation, Step};
pub use reach::Covered;

use table::Table;

/// The handlers of one application, compiled.
#[derive(Debug)]
pub struct UrlMap {
    handlers: Vec<Handler>,
    table: Table,
    skip_files: Pattern,
    era: Era,
}

/// What is known of a request before it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The client used https, as far as we believe it.
    pub https: bool,
    /// The request target before `?`, as received.
    pub path: &'a [u8],
    /// What follows the `?`, as received.
    pub query: Option<&'a str>,
}

/// Whether a file is there; `F` is what the asker wants to keep of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<F> {
    /// A file that may be served.
    Found(F),
    /// No such file, and the rule that says so: `R-MISSING`, `R-DIR404`, `R-LINK`, `R-CONFIG`.
    Missing(&'static str),
    /// There, but unreadable.
    Forbidden,
    /// It cannot be found out now.
    Unknown,
}

/// What will happen to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'m, F> {
    /// Exactly `/_ah/health`: the proxy answers (R-HEALTH).
    Health,
    /// The app answers.
    App {
        /// The handler; none when no handler matched and the runtime is modern (R-MODERN).
        handler: Option<usize>,
        /// Its `script`, backreferences expanded.
        script: Option<Cow<'m, str>>,
    },
    /// A static file.
    File {
        /// The handler.
        handler: usize,
        /// The file, relative to the application root.
        path: String,
        /// What the asker kept of it.
        file: F,
    },
    /// Another URL.
    Redirect {
        /// 301, 302, 303 or 307.
        status: u16,
        /// Where to.
        to: Location,
        /// The handler, for `secure`.
        handler: Option<usize>,
        /// [`Why::Dots`] or [`Why::Secure`].
        why: Why,
    },
    /// Nothing is served.
    Refuse {
        /// 400, 403, 404 or 500.
        status: u16,
        /// The handler that matched, if one did.
        handler: Option<usize>,
        /// Told to the log and to `explain`, never to the client.
        why: Why,
    },
}

/// Where a redirect leads. Always sent as an absolute URL: `//evil/x` alone would be another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// None: the request's own.
    pub scheme: Option<&'static str>,
    /// Percent-encoded, starts with `/`.
    pub path: String,
    /// As received.
    pub query: Option<String>,
}

/// Why a request is redirected or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No handler matched.
    NoHandler,
    /// The handler has a login rule (R-LOGIN404).
    Login,
    /// A path App Engine keeps for itself (R-RESERVED).
    Reserved,
    /// Read otherwise, the path is protected, or it has more readings than an honest path (R-READINGS).
    Reading,
    /// Not a path, or one with a NUL.
    BadPath,
    /// The path had dot segments (R-DOTS).
    Dots,
    /// The handler wants the other scheme (R-SECURE).
    Secure,
    /// The handler's file is not there, and the rule that says so.
    Missing(&'static str),
    /// The file is there but unreadable.
    Forbidden,
    /// Whether the file is there cannot be found out now.
    Unknown,
    /// A pattern reached its step limit, so that nobody knows whether it matches.
    Overrun,
}

impl Location {
    /// The absolute URL; `scheme` and `host` are the request's own. Where the scheme changes, the host's port
    /// belongs to the other one and is left out: the default port of the new scheme is meant.
    #[must_use]
    pub fn url(&self, scheme: &str, host: &str) -> String {
        let host = match self.scheme {
            Some(new) if new != scheme => without_port(host),
            _ => host,
        };
        let scheme = self.scheme.unwrap_or(scheme);
        let (mark, query) = self.query.as_deref().map_or(("", ""), |query| ("?", query));
        format!("{scheme}://{host}{}{mark}{query}", self.path)
    }
}

/// `[::1]:80` without `:80`, `[::1]` as it is.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl UrlMap {
    /// Compiles the handlers of an application.
    pub fn compile(app: &App) -> Result<Self, Vec<Problem>> {
        let table = Table::compile(&app.handlers)?;
        app.skip_files.prepare(Question::Starts).map_err(|error| vec![skip_files(app, &error)])?;
        Ok(Self { handlers: app.handlers.clone(), table, skip_files: app.skip_files.clone(), era: app.era })
    }

    /// The handlers in effective order; a decision names them by their place here.
    #[must_use]
    pub fn handlers(&self) -> &[Handler] {
        &self.handlers
    }

    /// Decides one request. `look` is asked whether a handler's file (relative to the application root) is there.
    pub fn decide<'m, F>(
        &'m self,
        facts: &Facts<'_>,
        look: &mut dyn FnMut(usize, &str) -> Look<F>,
    ) -> Decision<'m, F> {
        decide::decide(self, facts, look, &mut ())
    }

    /// Decides one request and tells how it came to that.
    pub fn explain<'m, F>(
        &'m self,
        facts: &Facts<'_>,
        look: &mut dyn FnMut(usize, &str) -> Look<F>,
    ) -> Explanation<'m, F> {
        explain::explain(self, facts, look)
    }

    /// Handlers that can never match because one earlier handler covers them. Says nothing when it is not sure.
    #[must_use]
    pub fn unreachable(&self) -> Vec<Covered> {
        reach::unreachable(self)
    }
}

/// Where the pattern stood is not known any more; the file is.
fn skip_files(app: &App, error: &PatternError) -> Problem {
    let file = app.sources.first().map_or(Path::new("app.yaml"), |file| file.as_path());
    Problem {
        severity: Severity::Error,
        place: Place { file: file.to_string_lossy().into(), line: 1, column: 1 },
        message: format!("`skip_files`: {error}"),
        hint: None,
    }
}
