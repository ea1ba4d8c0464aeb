//! The page: one document with its style and its script inside, whole without JavaScript. The script asks for the
//! same page again and takes the parts marked `data-live` out of it, so nothing is drawn in two places.
//!
//! What comes from the app (urls, paths, errors) is escaped by `html!`; the policy lets only the two texts below run,
//! named by their hashes.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::chart::{Chart, Line};
use super::history::Point;
use super::status::{Queue, Status};
use super::tables::{self, badge};
use super::trial::Trial;
use super::words::{ago, clock, count, latency, long, plural, rate};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// A tile with a line through it, so that no browser asks for `/favicon.ico`.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' \
                    height='16' rx='4' fill='%232b5fd9'/%3E%3Cpath d='M3 8h3l2-4 2 8 1.5-4H13' fill='none' \
                    stroke='white' stroke-width='1.5'/%3E%3C/svg%3E";

/// The policy of the page.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The page as it is at `now`.
pub(super) fn render(status: &Status, points: &[Point], now: SystemTime, trial: Option<&Trial>) -> String {
    let title = format!("{} · {} · compat-proxy", status.state, status.app.service);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href=(PreEscaped(ICON));
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (header(status, now))
                main id="main" {
                    (notices(status, now))
                    (overview(status))
                    (charts(status, points))
                    (workers(status, now))
                    (routing(status, now, trial))
                    (configuration(status, now))
                }
                (footer())
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn header(status: &Status, now: SystemTime) -> Markup {
    let app = &status.app;
    html! {
        header {
            div.title id="title" data-live {
                h1 { (app.service) @if let Some(version) = &app.version { span.of { " " (version) } } }
                (badge(status.state))
                p.what {
                    (app.runtime)
                    @if let Some(python) = &app.python { " on Python " (python) }
                    ", behind compat-proxy " (status.version)
                }
            }
            div.when {
                p id="asof" data-live {
                    "as of " time id="clock" datetime=(humantime::format_rfc3339_seconds(now)) { (clock(now)) }
                }
                p id="link" role="status" {}
                noscript { p { "Reload for newer values: this page updates itself with JavaScript only." } }
            }
        }
    }
}

/// What an operator should see first.
fn notices(status: &Status, now: SystemTime) -> Markup {
    html! {
        div.notices id="notices" data-live {
            @if !status.obstacles.is_empty() {
                section.notice.warn aria-label="Not ready" {
                    h2 { "Not ready" }
                    p { (status.obstacles.join(", ")) ". " a href="/readyz" { "/readyz" } " answers 503." }
                }
            }
            @if let Some(error) = &status.config.last_error {
                section.notice.refused aria-label="The last reload failed" {
                    h2 {
                        "The last reload failed"
                        @if let Some(time) = status.config.failed_at { ", " (ago(time, now)) }
                    }
                    p { "The configuration loaded before stays in force." }
                    pre { (error) }
                }
            }
        }
    }
}

/// A number that matters, what it is out of, and what more there is to say of it.
struct Tile {
    name: &'static str,
    value: Markup,
    more: Markup,
    /// Part and whole.
    share: Option<(u64, u64)>,
}

fn overview(status: &Status) -> Markup {
    let Queue { in_flight, capacity, concurrency, .. } = status.queue;
    let out_of = |part: u64, whole: u64| html! { (count(part)) span.of { " / " (count(whole)) } };
    let up = Tile {
        name: "Up",
        value: html! { (long(Duration::from_secs(status.uptime_seconds))) },
        more: html! {
            (plural(status.traffic.requests, "request")) ", " (count(status.traffic.server_errors)) " answered 5xx"
        },
        share: None,
    };
    let busy = Tile {
        name: "In flight",
        value: out_of(in_flight, capacity),
        more: html! { "at most " (concurrency) " in each worker" },
        share: Some((in_flight, capacity)),
    };
    let tiles = [up, ready(status), busy, waiting(&status.queue)];
    html! {
        section id="overview" data-live aria-label="Overview" {
            dl.tiles { @for tile in &tiles { (tile.markup()) } }
        }
    }
}

/// Slots, of which one that is being replaced has two workers.
fn ready(status: &Status) -> Tile {
    let slots = status.workers.iter().map(|worker| worker.worker).max().map_or(0, |last| last as u64 + 1);
    let workers_in =
        |state: &str| status.workers.iter().filter(|worker| worker.state == state).count() as u64;
    let others = ["starting", "draining", "backoff", "failed"].map(|state| (state, workers_in(state)));
    let others = others.into_iter().filter(|(_, number)| *number > 0);
    let others: Vec<String> = others.map(|(state, number)| format!("{number} {state}")).collect();
    Tile {
        name: "Workers ready",
        value: html! { (workers_in("ready")) span.of { " / " (slots) } },
        more: html! {
            @if others.is_empty() { (status.app.runs) } @else { strong.warns { (others.join(", ")) } }
        },
        share: Some((workers_in("ready"), slots)),
    }
}

fn waiting(queue: &Queue) -> Tile {
    let (waiting, depth) = (queue.waiting as u64, queue.depth as u64);
    let patience = long(Duration::from_secs_f64(queue.timeout_seconds.clamp(0.0, 1e9)));
    Tile {
        name: "Waiting",
        value: html! { (count(waiting)) span.of { " / " (count(depth)) } },
        more: html! {
            "for up to " (patience) "; turned away: " (count(queue.rejected_full)) " full, "
            (count(queue.rejected_late)) " late"
        },
        share: Some((waiting, depth)),
    }
}

impl Tile {
    fn markup(&self) -> Markup {
        let percent = self
            .share
            .filter(|(_, whole)| *whole > 0)
            .map(|(part, whole)| (part.saturating_mul(100) / whole).min(100));
        html! {
            div.card {
                dt { (self.name) }
                dd.value { (self.value) }
                dd.more { (self.more) }
                dd.bar aria-hidden="true" {
                    @if let Some(percent) = percent {
                        svg width="100%" height="4" {
                            rect.full width="100%" height="4" rx="2" {}
                            rect.part width={ (percent) "%" } height="4" rx="2" {}
                        }
                    }
                }
            }
        }
    }
}

fn charts(status: &Status, points: &[Point]) -> Markup {
    let traffic = &status.traffic;
    let requests = Chart {
        id: "rate",
        title: "Requests",
        now: rate(traffic.requests_per_second),
        unit: "a second",
        lines: [
            Line { name: "all", class: "main", value: |point| Some(point.requests) },
            Line {
                name: "5xx",
                class: "other",
                value: |point| (point.server_errors > 0.0).then_some(point.server_errors),
            },
        ],
        words: rate,
        least: 1.0,
        points,
    };
    let times = Chart {
        id: "latency",
        title: "Latency",
        now: traffic.p95_seconds.map_or_else(|| "–".to_owned(), latency),
        unit: if traffic.p95_seconds.is_some() { "p95" } else { "no request in ten seconds" },
        lines: [
            Line { name: "p95", class: "main", value: |point| point.p95 },
            Line { name: "median", class: "second", value: |point| point.p50 },
        ],
        words: latency,
        least: 0.01,
        points,
    };
    html! {
        section.charts id="charts" data-live aria-label="The last five minutes" {
            (requests.markup())
            (times.markup())
        }
    }
}

fn workers(status: &Status, now: SystemTime) -> Markup {
    html! {
        section aria-labelledby="workers-title" {
            h2 id="workers-title" { "Workers" }
            div id="workers" data-live {
                @if status.workers.is_empty() {
                    p.card { "None: " (status.app.runs) "." }
                } @else {
                    (tables::workers(&status.workers, status.queue.concurrency, now))
                }
            }
        }
    }
}

fn routing(status: &Status, now: SystemTime, trial: Option<&Trial>) -> Markup {
    let traffic = &status.traffic;
    html! {
        section aria-labelledby="routing-title" {
            h2 id="routing-title" { "Routing" }
            form.card id="try" action="/" method="get" {
                label for="url" { "Try a URL" }
                div.ask {
                    input id="url" name="url" type="text" inputmode="url" autocomplete="off"
                        autocapitalize="off" spellcheck="false" maxlength="20000" placeholder="/path?query"
                        aria-describedby="url-help"
                        value=[trial.map(|trial| trial.url.as_str())];
                    button type="submit" { "Explain" }
                }
                p.help id="url-help" { "What a GET for it would get and why. Nothing is requested." }
                div id="verdict" aria-live="polite" {
                    @if let Some(trial) = trial { (trial.verdict) }
                }
            }
            div id="handlers" data-live {
                @if status.handlers.is_empty() {
                    p.card { "app.yaml has no handlers: the app gets every path." }
                } @else {
                    (tables::handlers(status, now))
                }
                p.beside {
                    "Answered by no handler since the start: " (count(traffic.unmatched)) " that none matched, "
                    (count(traffic.blocked_readings)) " that another program could read as a protected path, "
                    (count(traffic.internal)) " by the proxy itself (health, redirects, bad requests)."
                }
            }
        }
    }
}

fn configuration(status: &Status, now: SystemTime) -> Markup {
    let config = &status.config;
    html! {
        section aria-labelledby="config-title" {
            h2 id="config-title" { "Configuration" }
            dl.facts.card id="config" data-live {
                div { dt { "File" } dd { code { (config.path) } } }
                div { dt { "Loaded" } dd { @if let Some(time) = config.loaded_at { (ago(time, now)) } } }
                div { dt { "Reloads" } dd {
                    (count(config.reloads))
                    @if config.last_error.is_some() { ", " strong.warns { "the last one failed" } }
                } }
                div { dt { "compat-proxy" } dd { (status.version) } }
                div { dt { "Runtime" } dd { (status.app.runtime) } }
                @if !status.workers.is_empty() {
                    div { dt { "Python" } dd { (status.app.python.as_deref().unwrap_or("the app's own")) } }
                }
                div { dt { "App" } dd { (status.app.runs) } }
            }
        }
    }
}

fn footer() -> Markup {
    html! {
        footer {
            nav aria-label="The same for programs" {
                ul {
                    li { a href="/metrics" { "Metrics" } }
                    li { a href="/status" { "Status as JSON" } }
                    li { a href="/readyz" { "Readiness" } }
                    li { a href="/livez" { "Liveness" } }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
