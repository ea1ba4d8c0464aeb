//! The rules, in the order in which they speak.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::path::{self, Reading};
use super::readings::{self, End};
use super::{Decision, Facts, Location, Look, UrlMap, Why};
use crate::appyaml::{Era, Handler, Login, Secure, Target};
use crate::pattern::Overrun;

/// Answered by the proxy itself (R-HEALTH).
const HEALTH: &str = "/_ah/health";
/// Never for a client (R-RESERVED).
const RESERVED: [&str; 5] = ["/_ah/start", "/_ah/stop", "/_ah/background", "/_ah/login", "/_ah/logout"];
const RESERVED_PREFIX: &str = "/_ah/upload/";

/// Is told what a decision came by; `()` does not listen.
pub(super) trait Watch {
    /// The handler matched, but its file is missing by this rule and the next match is asked (R-RMF).
    fn passed(&mut self, _handler: usize, _rule: &'static str) {}
    /// The path could be read so, and that is protected, by a handler or as reserved.
    fn protected(&mut self, _reading: &str, _handler: Option<usize>) {}
}

impl Watch for () {}

/// A path ready to be matched.
#[derive(Clone, Copy)]
struct Clean<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// The bytes were no UTF-8: `text` has U+FFFD in their place (R-UTF8).
    replaced: bool,
}

type Ask<'l, F> = &'l mut dyn FnMut(usize, &str) -> Look<F>;

/// Whether a missing file sends the request on to the next match.
pub(super) fn may_fall_on(handler: &Handler) -> bool {
    match &handler.target {
        Target::Script { .. } => false,
        Target::StaticDir { options, .. } | Target::StaticFiles { options, .. } => {
            options.require_matching_file
        }
    }
}

/// 1. A path that is none, or holds a NUL, is refused (R-UTF8).
/// 2. Dot segments redirect (R-DOTS), so no handler ever sees one.
/// 3. The health page is the proxy's (R-HEALTH); reserved paths are nobody's (R-RESERVED).
/// 4. A path that another reader would find protected is protected (R-READINGS).
/// 5. The handlers, see [`by_handlers`].
pub(super) fn decide<'m, F>(
    map: &'m UrlMap,
    facts: &Facts<'_>,
    look: Ask<'_, F>,
    watch: &mut dyn Watch,
) -> Decision<'m, F> {
    let bytes = match path::read(facts.path) {
        Reading::Clean(bytes) => bytes,
        Reading::Dots(path) => {
            let to = Location { scheme: None, path, query: facts.query.map(str::to_owned) };
            return Decision::Redirect { status: 302, to, handler: None, why: Why::Dots };
        }
        Reading::Bad => return refuse(400, None, Why::BadPath),
    };
    let text = String::from_utf8_lossy(&bytes);
    let clean = Clean { text: &text, bytes: &bytes, replaced: matches!(text, Cow::Owned(_)) };
    if *text == *HEALTH {
        return Decision::Health;
    }
    if is_reserved(&text) {
        return refuse(404, None, Why::Reserved);
    }
    if readings::possible(&bytes)
        && let Some(refusal) = by_readings(map, clean, facts, look, watch)
    {
        return refusal;
    }
    by_handlers(map, clean, facts, look, watch)
}

pub(super) fn is_reserved(path: &str) -> bool {
    path.starts_with("/_ah/") && (RESERVED.contains(&path) || path.starts_with(RESERVED_PREFIX))
}

fn refuse<'m, F>(status: u16, handler: Option<usize>, why: Why) -> Decision<'m, F> {
    Decision::Refuse { status, handler, why }
}

/// Refuses when some reading of the path is protected, or when there are too many to know.
fn by_readings<'m, F>(
    map: &'m UrlMap,
    clean: Clean<'_>,
    facts: &Facts<'_>,
    look: Ask<'_, F>,
    watch: &mut dyn Watch,
) -> Option<Decision<'m, F>> {
    let mut refusal = None;
    let end = readings::each(clean.text, clean.bytes, &mut |reading| {
        if is_reserved(reading) {
            watch.protected(reading, None);
            refusal = Some(refuse(404, None, Why::Reading));
            return ControlFlow::Break(());
        }
        if reading == HEALTH {
            return ControlFlow::Continue(());
        }
        let other = Clean { text: reading, bytes: reading.as_bytes(), replaced: false };
        match by_handlers(map, other, facts, look, &mut ()) {
            Decision::Refuse { handler, why: Why::Login, .. } => {
                watch.protected(reading, handler);
                refusal = Some(refuse(404, None, Why::Reading));
            }
            Decision::Refuse { handler, why: Why::Overrun, .. } => {
                refusal = Some(refuse(500, handler, Why::Overrun));
            }
            _ => return ControlFlow::Continue(()),
        }
        ControlFlow::Break(())
    });
    if end == End::TooMany {
        return Some(refuse(404, None, Why::Reading));
    }
    refusal
}

/// The first handler that matches decides:
///
/// 1. a login rule refuses, before anything that could tell it is there (R-LOGIN404);
/// 2. `secure` redirects (R-SECURE);
/// 3. the target answers, unless its file must exist and does not: then, and only then, the next match is asked (R-RMF).
///
/// No match at all is the app's on modern runtimes (R-MODERN), else 404.
fn by_handlers<'m, F>(
    map: &'m UrlMap,
    clean: Clean<'_>,
    facts: &Facts<'_>,
    look: Ask<'_, F>,
    watch: &mut dyn Watch,
) -> Decision<'m, F> {
    let mut matches = map.table.matches(clean.text);
    loop {
        let index = match matches.next() {
            Ok(Some(index)) => index,
            Ok(None) => break,
            Err(Overrun) => return refuse(500, None, Why::Overrun),
        };
        let handler = &map.handlers[index];
        if handler.login != Login::Optional {
            return refuse(404, Some(index), Why::Login);
        }
        if let Some(redirect) = by_secure(handler, index, clean, facts) {
            return redirect;
        }
        let missing = match by_target(map, index, clean, look) {
            Ok(Ok(decision)) => return decision,
            Ok(Err(rule)) => rule,
            Err(Overrun) => return refuse(500, Some(index), Why::Overrun),
        };
        if !may_fall_on(handler) {
            return refuse(404, Some(index), Why::Missing(missing));
        }
        watch.passed(index, missing);
    }
    match map.era {
        Era::Modern => Decision::App { handler: None, script: None },
        Era::Classic => refuse(404, None, Why::NoHandler),
    }
}

/// The query survives the way up to https, not the way down.
fn by_secure<'m, F>(
    handler: &Handler,
    index: usize,
    clean: Clean<'_>,
    facts: &Facts<'_>,
) -> Option<Decision<'m, F>> {
    let (scheme, query) = match (handler.secure, facts.https) {
        (Secure::Always, false) => ("https", facts.query.map(str::to_owned)),
        (Secure::Never, true) => ("http", None),
        _ => return None,
    };
    let to = Location { scheme: Some(scheme), path: path::encode(clean.bytes), query };
    Some(Decision::Redirect { status: handler.redirect_code, to, handler: Some(index), why: Why::Secure })
}

/// What the handler's target makes of the path, or the rule by which its file is missing.
fn by_target<'m, F>(
    map: &'m UrlMap,
    index: usize,
    clean: Clean<'_>,
    look: Ask<'_, F>,
) -> Result<Result<Decision<'m, F>, &'static str>, Overrun> {
    let row = map.table.row(index);
    let path = match &map.handlers[index].target {
        Target::Script { script } => {
            let expanded = match script.literal() {
                Some(text) => Cow::Borrowed(text),
                None => match row.pattern.full_match(clean.text)? {
                    Some(groups) => script.expand(&groups).unwrap_or(Cow::Borrowed(script.as_str())),
                    None => Cow::Borrowed(script.as_str()),
                },
            };
            let script = (!expanded.is_empty()).then_some(expanded);
            return Ok(Ok(Decision::App { handler: Some(index), script }));
        }
        Target::StaticDir { reachable, .. } => {
            let rest = match &row.prefix {
                Some(prefix) => clean.text.strip_prefix(prefix.as_str()),
                None => row
                    .pattern
                    .full_match(clean.text)?
                    .and_then(|groups| groups.get(row.pattern.group_count())),
            };
            match rest.filter(|rest| *reachable && is_clean(rest)) {
                Some(rest) if row.dir.is_empty() => rest.to_owned(),
                Some(rest) => format!("{}/{rest}", row.dir),
                None => return Ok(Err("R-CLEANPATH")),
            }
        }
        Target::StaticFiles { path, .. } => {
            let expanded = match path.literal() {
                Some(text) => Some(Cow::Borrowed(text)),
                // A template that names a missing group makes no path (noted at load).
                None => row.pattern.full_match(clean.text)?.and_then(|groups| path.expand(&groups).ok()),
            };
            let expanded = expanded.unwrap_or_default();
            let relative = expanded.strip_prefix("./").unwrap_or(&expanded);
            if !is_clean(relative) {
                return Ok(Err("R-CLEANPATH"));
            }
            relative.to_owned()
        }
    };
    if let Some(upload) = &row.upload
        && !upload.is_full_match(&path)?
    {
        return Ok(Err("R-UPLOAD"));
    }
    if map.skip_files.starts(&path)? {
        return Ok(Err("R-SKIP"));
    }
    // No file is named with the character that stands for bytes we could not read.
    if clean.replaced && path.contains(char::REPLACEMENT_CHARACTER) {
        return Ok(Err("R-UTF8"));
    }
    Ok(match look(index, &path) {
        Look::Found(file) => Ok(Decision::File { handler: index, path, file }),
        Look::Missing(rule) => Err(rule),
        Look::Forbidden => Ok(refuse(403, Some(index), Why::Forbidden)),
        Look::Unknown => Ok(refuse(503, Some(index), Why::Unknown)),
    })
}

/// R-CLEANPATH: relative, and nothing in it that a file system could read otherwise.
fn is_clean(path: &str) -> bool {
    !path.contains(['\\', '\n']) && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}
