//! The two tables of the page: workers, and handlers with what each of them does.

use std::time::SystemTime;

use maud::{Markup, html};

use super::status::{Handler, Status, Worker};
use super::words::{age, ago, count, size};

/// A word for a state, with a sign and a colour: none of the three alone.
pub(super) fn badge(state: &str) -> Markup {
    let (class, sign) = match state {
        "ready" => ("ok", "●"),
        "starting" => ("moved", "◐"),
        "draining" => ("moved", "◒"),
        "backoff" => ("warn", "▲"),
        _ => ("refused", "✕"),
    };
    html! { span.badge.(class) { span aria-hidden="true" { (sign) } " " (state) } }
}

/// A dash that is read as what it means.
fn nothing(means: &str) -> Markup {
    html! { span.none { span aria-hidden="true" { "–" } span.unseen { (means) } } }
}

/// What is known, or a dash.
fn known<T>(value: Option<T>, shown: impl FnOnce(T) -> Markup, else_it_is: &str) -> Markup {
    value.map_or_else(|| nothing(else_it_is), shown)
}

/// A table that scrolls in a box of its own where the window is narrow.
fn scrolling(id: &str, label: &str, table: &Markup) -> Markup {
    html! { div.scrolls id=(id) role="region" aria-label=(label) tabindex="0" { (table) } }
}

pub(super) fn workers(workers: &[Worker], concurrency: u32, now: SystemTime) -> Markup {
    let table = html! {
        table {
            caption { span { "By slot; while a worker is being replaced its slot is there twice." } }
            thead { tr {
                th.number scope="col" { "Slot" }
                th scope="col" { "State" }
                th.number scope="col" { "PID" }
                th.number scope="col" { "In flight" }
                th.number scope="col" { "Requests" }
                th.number scope="col" { "Restarts" }
                th.number scope="col" { "Memory" }
                th.number scope="col" { "Age" }
                th scope="col" { "Address" }
            } }
            tbody {
                @for worker in workers { (row(worker, concurrency, now)) }
            }
        }
    };
    scrolling("workers-table", "Table of workers", &table)
}

fn row(worker: &Worker, concurrency: u32, now: SystemTime) -> Markup {
    html! {
        tr {
            th.number scope="row" { (worker.worker) }
            td { (badge(worker.state)) }
            td.number { (known(worker.pid, |pid| html! { (pid) }, "no process")) }
            td.number { (count(worker.in_flight)) span.of { " / " (concurrency) } }
            td.number { (count(worker.requests)) }
            td.number.warns[worker.restarts > 0] { (count(worker.restarts)) }
            td.number { (known(worker.rss_bytes, |bytes| html! { (size(bytes)) }, "not known")) }
            td.number { (known(worker.started_at, |time| age(time, now), "not running")) }
            td { (known(worker.address.as_ref(), |address| html! { code { (address) } }, "none")) }
        }
    }
}

pub(super) fn handlers(status: &Status, now: SystemTime) -> Markup {
    let table = html! {
        table {
            caption { span {
                "In the order they are tried: the first that matches decides. Requests since the configuration "
                "was loaded."
            } }
            thead { tr {
                th.number scope="col" { "#" }
                th scope="col" { "URL" }
                th scope="col" { "What it does" }
                th.number scope="col" { "Requests" }
                th.number scope="col" { "Last hit" }
                th scope="col" { "Written at" }
            } }
            tbody {
                @for handler in &status.handlers {
                    tr.blocked[handler.is_blocked()] {
                        td.number { (handler.index) }
                        th scope="row" { code { (handler.url) } }
                        td.does { (does(handler)) }
                        td.number { (count(handler.requests)) }
                        td.number { (known(handler.last_request_at, |time| ago(time, now), "never")) }
                        td { code { (handler.source) } }
                    }
                }
            }
        }
    };
    scrolling("handlers-table", "Table of handlers", &table)
}

/// What a handler does, in words.
fn does(handler: &Handler) -> Markup {
    let what = match handler.kind {
        "script" => html! { "app: " code { (handler.to) } },
        "static_dir" => html! { "files in " code { (handler.to) "/" } },
        _ => html! { "file " code { (handler.to) } },
    };
    let secure = match handler.secure {
        "always" => Some("https only"),
        "never" => Some("http only"),
        _ => None,
    };
    html! {
        @if handler.is_blocked() {
            span.badge.refused { span aria-hidden="true" { "⊘" } " blocked: 404" } " "
            code { "login: " (handler.login) }
        } @else {
            (what)
            @if handler.falls_on { span.why { ", if it is there" } }
            @if let Some(word) = secure {
                span.why { ", " (word) " (else " (handler.redirect_code) ")" }
            }
        }
    }
}
