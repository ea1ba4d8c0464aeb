//! A decision told step by step, for a person: why each earlier handler was not it.

use super::decide::{self, Watch};
use super::path::{self, Reading};
use super::{Decision, Facts, Look, UrlMap, Why};
use crate::appyaml::{Login, Secure};

/// A decision and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<'m, F> {
    /// The path the handlers were matched with, decoded; none when there is none (400, R-DOTS).
    pub path: Option<String>,
    /// What was asked and answered, in order; the last step is the decision.
    pub steps: Vec<Step>,
    /// The decision itself.
    pub decision: Decision<'m, F>,
}

/// One step of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The handler it is about; none for the rules that come before or after all handlers.
    pub handler: Option<usize>,
    /// What came of it, in words.
    pub reason: String,
}

#[derive(Default)]
struct Notes {
    passed: Vec<(usize, &'static str)>,
    protected: Option<(String, Option<usize>)>,
}

impl Watch for Notes {
    fn passed(&mut self, handler: usize, rule: &'static str) {
        self.passed.push((handler, rule));
    }

    fn protected(&mut self, reading: &str, handler: Option<usize>) {
        self.protected = Some((reading.to_owned(), handler));
    }
}

pub(super) fn explain<'m, F>(
    map: &'m UrlMap,
    facts: &Facts<'_>,
    look: &mut dyn FnMut(usize, &str) -> Look<F>,
) -> Explanation<'m, F> {
    let mut notes = Notes::default();
    let decision = decide::decide(map, facts, look, &mut notes);
    let path = match path::read(facts.path) {
        Reading::Clean(path) => Some(String::from_utf8_lossy(&path).into_owned()),
        Reading::Dots(_) | Reading::Bad => None,
    };
    let last = last_step(map, &decision, &notes);
    let asked = match (&decision, last.handler) {
        (_, Some(handler)) => handler,
        (Decision::App { .. } | Decision::Refuse { why: Why::NoHandler | Why::Overrun, .. }, None) => {
            map.handlers.len()
        }
        _ => 0,
    };
    let mut steps: Vec<Step> = (0..asked)
        .map(|handler| {
            let rule = notes.passed.iter().find(|(passed, _)| *passed == handler).map(|(_, rule)| rule);
            let reason = match rule {
                Some(rule) => format!("file missing ({rule}), require_matching_file: next"),
                None => "url does not match".to_owned(),
            };
            Step { handler: Some(handler), reason }
        })
        .collect();
    steps.push(last);
    Explanation { path, steps, decision }
}

fn last_step<F>(map: &UrlMap, decision: &Decision<'_, F>, notes: &Notes) -> Step {
    let (handler, reason) = match decision {
        Decision::Health => (None, "the proxy answers (R-HEALTH)".to_owned()),
        Decision::App { handler: None, .. } => {
            (None, "no handler matches: the app answers (R-MODERN)".to_owned())
        }
        Decision::App { handler, script } => {
            (*handler, format!("script: {}", script.as_deref().unwrap_or("the app answers")))
        }
        Decision::File { handler, path, .. } => (Some(*handler), format!("file: {path}")),
        Decision::Redirect { status, to, handler, why: Why::Secure } => {
            let secure = handler.and_then(|handler| map.handlers.get(handler)).map(|handler| handler.secure);
            let word = if secure == Some(Secure::Never) { "never" } else { "always" };
            (*handler, format!("secure: {word}: {status} to {}", to.scheme.unwrap_or("the same scheme")))
        }
        Decision::Redirect { status, to, handler, .. } => {
            (*handler, format!("dot segments: {status} to {} (R-DOTS)", to.path))
        }
        Decision::Refuse { status, handler, why } => {
            (*handler, format!("{}: {status}", refusal(map, *handler, *why, notes)))
        }
    };
    Step { handler, reason }
}

fn refusal(map: &UrlMap, handler: Option<usize>, why: Why, notes: &Notes) -> String {
    let login = |handler: Option<usize>| {
        let login = handler.and_then(|handler| map.handlers.get(handler)).map(|handler| handler.login);
        format!("login: {}", login.unwrap_or(Login::Optional).as_str())
    };
    match why {
        Why::NoHandler => "no handler matches".to_owned(),
        Why::Login => login(handler),
        Why::Reserved => "reserved by App Engine (R-RESERVED)".to_owned(),
        Why::Reading => match &notes.protected {
            Some((reading, Some(handler))) => {
                let login = login(Some(*handler));
                format!("could be read as `{reading}`, which is handler {handler}, {login} (R-READINGS)")
            }
            Some((reading, None)) => format!("could be read as `{reading}`, which is reserved (R-READINGS)"),
            None => "can be read in too many ways (R-READINGS)".to_owned(),
        },
        Why::BadPath => "not a path, or one with a NUL (R-UTF8)".to_owned(),
        Why::Dots => "dot segments (R-DOTS)".to_owned(),
        Why::Secure => "secure".to_owned(),
        Why::Missing(rule) => format!("file missing ({rule})"),
        Why::Forbidden => "the file cannot be read".to_owned(),
        Why::Unknown => "the file cannot be looked for now".to_owned(),
        Why::Overrun => "a pattern needs too many steps on this path".to_owned(),
    }
}
