//! A routing decision in sentences: what would be answered, by which handler, where that is written, and why no
//! other handler was it.

use maud::{Markup, html};

use super::words::shortened;
use crate::appyaml::Secure;
use crate::explain::{Outcome, Told};
use crate::route::{Decision, Explanation, Step, UrlMap, Why};
use crate::site::{Site, source};

/// More of a URL than this is not shown.
const LONGEST: usize = 300;

/// There is nothing to explain.
pub(super) fn none(why: &str) -> Markup {
    html! { p.says { span.badge.refused { "no answer" } " " (why) } }
}

pub(super) fn markup(told: &Told<'_>, site: &Site) -> Markup {
    let (map, outcome) = (&site.map, told.outcome());
    let query = form_urlencoded::byte_serialize(told.url().as_bytes()).collect::<String>();
    let steps = told.decision().map_or(&[][..], |explanation| &explanation.steps);
    html! {
        p.says { (badge(&outcome)) " " (sentence(told, &outcome, map, &site.app.runtime)) }
        dl.facts {
            div { dt { "URL" } dd { code { (shown(told.url())) } } }
            @if told.path() != told.url() { div { dt { "Path matched" } dd { code { (shown(told.path())) } } } }
            @if let Some((index, handler)) = outcome.handler.and_then(|at| Some((at, map.handlers().get(at)?))) {
                div { dt { "Handler" } dd { (index) " " code { (handler.url.as_str()) } } }
                div { dt { "Written at" } dd { code { (source(&handler.place)) } } }
            }
            div { dt { "Status" } dd { @match outcome.status {
                Some(status) => { (status) }
                None => "the app decides",
            } } }
            @for (name, value) in
                [("Location", &outcome.location), ("Script", &outcome.script), ("File", &outcome.file)]
            {
                @if let Some(value) = value { div { dt { (name) } dd { code { (shown(value)) } } } }
            }
        }
        @if steps.len() > 1 { (passed_over(steps, map)) }
        p.more { a href={ "/explain?url=" (query) } { "This decision as JSON" } }
    }
}

fn shown(text: &str) -> String {
    // A control character would not be seen.
    let seen: String =
        text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    shortened(&seen, LONGEST)
}

fn badge(outcome: &Outcome) -> Markup {
    let (class, word) = match outcome.action {
        "blocked_login" => ("refused", "blocked: 404".to_owned()),
        "script" => ("ok", "the app".to_owned()),
        "static" => ("ok", "file: 200".to_owned()),
        "health" => ("ok", "health: 200".to_owned()),
        "redirect" => ("moved", format!("redirect: {}", outcome.status.unwrap_or(302))),
        _ => ("refused", format!("refused: {}", outcome.status.unwrap_or(404))),
    };
    html! { span.badge.(class) { (word) } }
}

/// `handler 3 /admin/.* (app.yaml:9)`.
fn named(index: usize, map: &UrlMap) -> Markup {
    html! {
        "handler " (index)
        @if let Some(handler) = map.handlers().get(index) {
            " " code { (handler.url.as_str()) } " (" (source(&handler.place)) ")"
        }
    }
}

fn sentence(told: &Told<'_>, outcome: &Outcome, map: &UrlMap, runtime: &str) -> Markup {
    let Explanation { decision, steps, .. } = match told.decision() {
        Ok(explanation) => explanation,
        Err(refusal) => {
            return html! {
                "Such a request is refused with " (refusal.status()) " before any handler is asked: " (refusal) "."
            };
        }
    };
    match decision {
        Decision::Health => {
            html! { "The proxy itself answers this path: 200 while a worker is ready, else 503." }
        }
        Decision::App { handler: None, .. } => html! {
            "No handler matches, so the app answers: a " code { (runtime) }
            " app gets every path that app.yaml does not name."
        },
        Decision::App { handler: Some(index), script } => html! {
            "The app answers: " (named(*index, map)) " matches first and hands it to "
            @match script {
                Some(script) => { "the script " code { (shown(script)) } },
                None => "it",
            }
            ". The status is the app's to choose."
        },
        Decision::File { handler, path, .. } => html! {
            "The file " code { (shown(path)) } " is sent: " (named(*handler, map))
            " matches first, and the file is there."
        },
        Decision::Redirect { status, handler, why: Why::Secure, .. } => {
            let secure = handler.and_then(|index| map.handlers().get(index)).map(|handler| handler.secure);
            let word = if secure == Some(Secure::Never) { "never" } else { "always" };
            html! {
                "A redirect with " (status) " to "
                code { (outcome.location.as_deref().map(shown).unwrap_or_default()) } ": "
                (handler.map_or_else(|| html! { "its handler" }, |index| named(index, map)))
                " has " code { "secure: " (word) } "."
            }
        }
        Decision::Redirect { status, .. } => html! {
            "A redirect with " (status) " to "
            code { (outcome.location.as_deref().map(shown).unwrap_or_default()) }
            ": the path has " code { "." } " or " code { ".." } " segments, and no handler ever sees one."
        },
        Decision::Refuse { handler, why, .. } => refusal(*handler, *why, steps.last(), map),
    }
}

fn refusal(handler: Option<usize>, why: Why, last: Option<&Step>, map: &UrlMap) -> Markup {
    let its = || handler.map_or_else(|| html! { "its handler" }, |index| named(index, map));
    let login = handler.and_then(|index| map.handlers().get(index)).map(|handler| handler.login.as_str());
    html! {
        @match why {
            Why::Login => {
                "Nobody gets this page: " (its()) " matches first and has "
                code { "login: " (login.unwrap_or_default()) }
                ". There is no Google sign-in here, so it is as if the page were not there."
            }
            Why::Reading => {
                "Nobody gets this page: another program could take its path for a protected one. It "
                (last.map_or("has more readings than an honest path", |step| step.reason.trim_end_matches(": 404")))
                "."
            }
            Why::Reserved => { "App Engine keeps this path for itself." }
            Why::NoHandler => { "No handler of app.yaml matches this path." }
            Why::BadPath => { "That is not a path, or one with a NUL byte in it." }
            Why::Missing("R-SKIP") => { "A file that " code { "skip_files" } " leaves out: " (its()) " matches first." }
            Why::Missing("R-CONFIG") => { "A configuration file, which is never served: " (its()) " matches first." }
            Why::Missing(rule) => {
                "There is no such file: " (its()) " matches first, and none is asked after it (" (rule) ")."
            }
            Why::Forbidden => { "The proxy may not read the file: " (its()) " matches first." }
            Why::Unknown => { "The file cannot be looked for at the moment: " (its()) " matches first." }
            Why::Overrun => { "A pattern needs too many steps to say whether it matches this path." }
            // They redirect.
            Why::Dots | Why::Secure => {}
        }
    }
}

/// The handlers before the one that decided, runs of them with one reason in one line.
fn passed_over(steps: &[Step], map: &UrlMap) -> Markup {
    let mut runs: Vec<(usize, usize, &str)> = Vec::new();
    let before = steps.split_last().map_or(&[][..], |(_, before)| before);
    for (index, step) in before.iter().filter_map(|step| Some((step.handler?, step))) {
        match runs.last_mut() {
            Some((_, to, reason)) if *reason == step.reason => *to = index,
            _ => runs.push((index, index, &step.reason)),
        }
    }
    html! {
        div.passed {
            h3 { "Passed over before that" }
            ul {
                @for (from, to, reason) in runs {
                    li {
                        @if from == to {
                            (named(from, map))
                        } @else {
                            "handlers " (from) " to " (to)
                        }
                        ": " (reason)
                    }
                }
            }
        }
    }
}
