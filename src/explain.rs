//! What would happen to a URL, told without serving it: the very functions that serve requests decide here too.

use std::fmt::Write as _;
use std::path::Path;

use http::{HeaderMap, HeaderValue, Method, Version, header};
use serde_json::{Value, json};

use crate::appyaml::{Handler, Login, Secure, Target};
use crate::files::{Absent, FileServer};
use crate::headers::strict::{self, Asked, Refusal};
use crate::route::{Decision, Explanation, Facts, Look, UrlMap, Why};
use crate::site::{Reading, source};

/// The host of a URL that names none.
const HOST: &str = "localhost";

/// One URL's fate.
pub struct Told<'m> {
    url: String,
    path: String,
    decision: Result<Explanation<'m, String>, Refusal>,
    scheme: &'static str,
    host: String,
}

/// Explains each URL, as text or one JSON object a line.
///
/// # Errors
/// A method that is none, or a directory that cannot be opened.
pub fn urls(
    reading: &Reading,
    root: &Path,
    urls: &[String],
    method: &str,
    https: bool,
    json: bool,
) -> Result<String, String> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is not a method"))?;
    let (Some(app), Some(map)) = (&reading.app, &reading.map) else { return Ok(String::new()) };
    let files =
        FileServer::open(root, &app.sources, 0).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut text = String::new();
    for url in urls {
        let told = tell(map, &files, url, &method, https);
        // Writing to a string cannot fail.
        let _ =
            if json { writeln!(text, "{}", told.json(map)) } else { writeln!(text, "{}", told.text(map)) };
    }
    Ok(text)
}

/// Explains one URL, a bare path or a whole one, as if it were asked with GET; over http unless it says https.
#[must_use]
pub fn one<'m>(map: &'m UrlMap, files: &FileServer, url: &str) -> Told<'m> {
    tell(map, files, url, &Method::GET, false)
}

fn tell<'m>(map: &'m UrlMap, files: &FileServer, url: &str, method: &Method, https: bool) -> Told<'m> {
    let (scheme, host, target) = parts(url, https);
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(&host) {
        headers.insert(header::HOST, host);
    }
    let uri = http::Uri::from_static("/");
    let head = strict::check(method, Version::HTTP_11, target.as_bytes(), &uri, &headers, u64::MAX);
    let mut path = target.split('?').next().unwrap_or_default().to_owned();
    let decision = head.map(|head| match head.asked {
        Asked::Server => Explanation { path: None, steps: Vec::new(), decision: Decision::Health },
        Asked::Resource(target) => {
            let facts = Facts { https: scheme == "https", path: target.path.as_bytes(), query: target.query };
            let mut look = |_: usize, rel: &str| match files.look(rel) {
                Ok(_) => Look::Found(rel.to_owned()),
                Err(Absent::Forbidden) => Look::Forbidden,
                Err(Absent::Unknown) => Look::Unknown,
                Err(Absent::Missing(rule)) => Look::Missing(rule),
            };
            map.explain(&facts, &mut look)
        }
    });
    path = match &decision {
        Ok(Explanation { path: Some(decoded), .. }) => decoded.clone(),
        _ => percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned(),
    };
    Told { url: url.to_owned(), path, decision, scheme, host }
}

/// Scheme, host and origin-form target of a URL, which may be a bare path.
fn parts(url: &str, https: bool) -> (&'static str, String, String) {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if !url.starts_with('/') => {
            (if scheme.eq_ignore_ascii_case("https") { "https" } else { "http" }, rest)
        }
        _ => return (if https { "https" } else { "http" }, HOST.to_owned(), url.to_owned()),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    (if https { "https" } else { scheme }, host.to_owned(), target)
}

/// What a decision means, in the contract's words.
pub struct Outcome {
    /// `script`, `static`, `blocked_login`, `redirect`, `not_found`, `bad_request` or `health`.
    pub action: &'static str,
    /// None where the app decides.
    pub status: Option<u16>,
    /// The handler, by its place in the map.
    pub handler: Option<usize>,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// What the app is to run.
    pub script: Option<String>,
    /// Relative to the application directory.
    pub file: Option<String>,
}

impl Told<'_> {
    /// The URL as given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path that the handlers were matched with, decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it came to that, or why nothing was decided.
    ///
    /// # Errors
    /// The request would be refused before any handler.
    pub const fn decision(&self) -> Result<&Explanation<'_, String>, &Refusal> {
        self.decision.as_ref()
    }

    /// What it comes to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let plain = |action, status| Outcome {
            action,
            status,
            handler: None,
            location: None,
            script: None,
            file: None,
        };
        let explanation = match &self.decision {
            Err(refusal) => return plain("bad_request", Some(refusal.status())),
            Ok(explanation) => explanation,
        };
        match &explanation.decision {
            Decision::Health => plain("health", Some(200)),
            Decision::App { handler, script } => Outcome {
                handler: *handler,
                script: script.as_ref().map(ToString::to_string),
                ..plain("script", None)
            },
            Decision::File { handler, path, .. } => {
                Outcome { handler: Some(*handler), file: Some(path.clone()), ..plain("static", Some(200)) }
            }
            Decision::Redirect { status, to, handler, .. } => Outcome {
                handler: *handler,
                location: Some(to.url(self.scheme, &self.host)),
                ..plain("redirect", Some(*status))
            },
            Decision::Refuse { status, handler, why } => {
                let action = match why {
                    Why::Login | Why::Reading => "blocked_login",
                    Why::BadPath => "bad_request",
                    _ => "not_found",
                };
                Outcome { handler: *handler, ..plain(action, Some(*status)) }
            }
        }
    }

    /// One object, as the contract words it.
    #[must_use]
    pub fn json(&self, map: &UrlMap) -> Value {
        let outcome = self.outcome();
        let handler = outcome.handler.and_then(|index| map.handlers().get(index));
        json!({
            "url": self.url,
            "path": self.path,
            "handler": outcome.handler,
            "handler_url": handler.map(|handler| handler.url.as_str()),
            "action": outcome.action,
            "status": outcome.status,
            "location": outcome.location,
            "script": outcome.script,
            "file": outcome.file,
            "login": handler.map(|handler| handler.login.as_str()),
            "source": handler.map(|handler| source(&handler.place)),
        })
    }

    fn text(&self, map: &UrlMap) -> String {
        let outcome = self.outcome();
        let mut text = format!("{}\n  path     {}\n", self.url, self.path.escape_debug());
        if let Ok(explanation) = &self.decision {
            for step in &explanation.steps {
                let who = match step.handler.and_then(|index| Some((index, map.handlers().get(index)?))) {
                    Some((index, handler)) => {
                        format!("handler {index} `{}` ({})", handler.url.as_str(), source(&handler.place))
                    }
                    None => "rule".to_owned(),
                };
                let _ = writeln!(text, "  step     {who}: {}", step.reason);
            }
        }
        let status = outcome.status.map_or_else(|| "the app decides".to_owned(), |status| status.to_string());
        let _ = write!(text, "  action   {}, {status}", outcome.action);
        if let Err(refusal) = &self.decision {
            let _ = write!(text, ": {refusal}");
        }
        for (name, value) in
            [("location", &outcome.location), ("script", &outcome.script), ("file", &outcome.file)]
        {
            if let Some(value) = value {
                let _ = write!(text, "\n  {name:<8} {value}");
            }
        }
        text.push('\n');
        text
    }
}

/// The handlers in the order they are tried.
#[must_use]
pub fn routes(reading: &Reading, json: bool) -> String {
    let Some(map) = &reading.map else { return String::new() };
    if json {
        let rows: Vec<Value> = map.handlers().iter().enumerate().map(|(index, handler)| {
            let (action, to) = action(handler);
            json!({
                "handler": index, "url": handler.url.as_str(), "action": action, "to": to,
                "login": handler.login.as_str(), "secure": secure(handler), "source": source(&handler.place),
            })
        }).collect();
        return format!("{:#}\n", Value::Array(rows));
    }
    let mut rows = vec![["#", "url", "action", "to", "secure", "source"].map(str::to_owned)];
    for (index, handler) in map.handlers().iter().enumerate() {
        let (what, to) = action(handler);
        let what = if handler.login == Login::Optional {
            what.to_owned()
        } else {
            format!("404 (login: {})", handler.login.as_str())
        };
        let url = handler.url.as_str().to_owned();
        rows.push([index.to_string(), url, what, to, secure(handler).to_owned(), source(&handler.place)]);
    }
    table(&rows)
}

fn action(handler: &Handler) -> (&'static str, String) {
    let (kind, to) = match &handler.target {
        Target::Script { script } => ("script", script.as_str().to_owned()),
        Target::StaticDir { dir, .. } => ("static", format!("{dir}/")),
        Target::StaticFiles { path, .. } => ("static", path.as_str().to_owned()),
    };
    (if handler.login == Login::Optional { kind } else { "blocked_login" }, to)
}

const fn secure(handler: &Handler) -> &'static str {
    match handler.secure {
        Secure::Optional => "optional",
        Secure::Always => "always",
        Secure::Never => "never",
    }
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
