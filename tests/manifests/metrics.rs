//! `dashboards/metrics.md`, the reference of all metrics, is what the code registers: names, types, labels, help.
//!
//! A new metric needs nothing here but `UPDATE_SNAPSHOTS=1 cargo test --test manifests metrics`, unless it brings a
//! label nobody had before: that one is explained in [`LABELS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use compat_proxy::telemetry::metrics::{Family, HandlerKind, Metrics, WORKER_STATES};

use crate::scrape::{FIRST, Sample, parse};
use crate::{path, read};

const FILE: &str = "dashboards/metrics.md";
const HOW: &str = "UPDATE_SNAPSHOTS=1 cargo test --test manifests metrics";

/// What each label says. `{}` stands for the values it has from the first scrape on.
const LABELS: &[(&str, &str)] = &[
    ("app_yaml_sha", "a hash over app.yaml and what it includes; changes with any of them"),
    ("code", "the status; {} are there from the start as far as the handler may give them"),
    ("code_class", "{}"),
    ("encoding", "the content coding: {}"),
    (
        "handler",
        "the handler's `url` text in app.yaml, or `_unmatched` (no handler), `_blocked` (a reserved path, or another reading of the path that meets a login rule), `_internal` (answered before any handler was looked for)",
    ),
    ("handler_type", "{}"),
    ("handlers", "how many there are"),
    ("kind", "{}"),
    ("login", "`required` or `admin`"),
    ("method", "`GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `PATCH`, `OPTIONS`; anything else is `OTHER`"),
    ("mode", "{}"),
    ("pingora", "version of the proxy library"),
    ("reason", "{}"),
    ("result", "{}"),
    ("revision", "what it was built from: `COMPAT_PROXY_REVISION` while compiling, else `unknown`"),
    ("runtime", "of app.yaml"),
    ("service", "of app.yaml"),
    ("severity", "{}"),
    ("state", "{}"),
    ("status", "exit code, or name of the signal; {} are there from the start"),
    ("stream", "{}"),
    ("target", "what it was built for"),
];
/// Labels with a meaning of its own in each metric.
const VERSION: &str =
    "of the program in `compat_proxy_build_info`, of app.yaml in `compat_proxy_config_info`";
const WORKER: &str = "the slot's number from 0, not a process id; the upstream's number in attach mode";

/// Everything as it stands before the first request of an app with a handler of each kind and one worker.
fn fresh() -> (Metrics, Vec<Sample>) {
    let metrics = Metrics::new().expect("the families");
    for kind in [
        HandlerKind::Script,
        HandlerKind::StaticDir,
        HandlerKind::StaticFiles,
        HandlerKind::Blocked,
        HandlerKind::Unmatched,
        HandlerKind::Internal,
    ] {
        let _ = metrics.handler("url", kind);
    }
    let _ = metrics.static_results("url");
    let text = metrics.text().expect("text");
    (metrics, parse(&text))
}

fn values(samples: &[Sample], label: &str, metric: &str) -> BTreeSet<String> {
    let of = |sample: &&Sample| ["", "_bucket"].iter().any(|end| sample.metric == format!("{metric}{end}"));
    samples.iter().filter(of).filter_map(|sample| sample.labels.get(label).cloned()).collect()
}

fn listed(values: &BTreeSet<String>) -> String {
    values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
}

/// The values of a label in one metric, where they are a closed set.
fn told(samples: &[Sample], family: &Family, label: &str) -> Option<String> {
    let text = match label {
        "version" | "worker" => return None,
        _ => LABELS.iter().find(|(name, _)| *name == label)?.1,
    };
    let values = values(samples, label, &family.name);
    (text.contains("{}") && !values.is_empty()).then(|| listed(&values))
}

fn reference() -> String {
    let (metrics, mut samples) = fresh();
    // What a worker has, by slot: the supervisor knows.
    let worker = |sample: &&Sample| sample.labels.contains_key("worker");
    samples.extend(FIRST.iter().filter(worker).map(Sample::clone));
    let mut text = format!(
        "# Metrics\n\nWritten from the code by `{HOW}`; do not edit.\n\nAll of them are at `/metrics` of the admin \
         port. Seconds and bytes everywhere. Every series is there, at 0, from the first scrape on where its labels \
         can be foreseen. No label ever comes from a request.\n\n| metric | type | labels | |\n|---|---|---|---|\n"
    );
    for family in metrics.families() {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(text, "| `{name}` | {} | {} | {help} |", kind.as_str(), labels.join(", "));
    }
    text += "\nAnd of the proxy's own process, under the names every client library gives them:\n\n";
    for name in samples.iter().map(|sample| &sample.metric).filter(|name| name.starts_with("process_")) {
        let _ = writeln!(text, "- `{name}`");
    }
    text += "\n## Labels\n\n| label | values |\n|---|---|\n";
    for (label, meaning) in meanings(metrics.families(), &samples) {
        let _ = writeln!(text, "| `{label}` | {meaning} |");
    }
    text
}

fn meanings(families: &[Family], samples: &[Sample]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for label in families.iter().flat_map(|family| &family.labels) {
        let known = LABELS.iter().find(|(name, _)| name == label).map(|(_, text)| *text);
        let text = match label.as_str() {
            "version" => VERSION,
            "worker" => WORKER,
            _ => known.unwrap_or_else(|| panic!("tests/manifests/metrics.rs does not explain `{label}`")),
        };
        let having = families.iter().filter(|family| family.labels.contains(label));
        let by_metric: Vec<(&str, String)> =
            having.filter_map(|family| Some((family.name.as_str(), told(samples, family, label)?))).collect();
        let lists: BTreeSet<&String> = by_metric.iter().map(|(_, list)| list).collect();
        let meaning = match lists.len() {
            0 => text.to_owned(),
            1 => text.replace("{}", &by_metric[0].1),
            // Not the same in all of them.
            _ => {
                let each = by_metric.iter().map(|(name, list)| format!("`{name}`: {list}"));
                text.replace("{}", &each.collect::<Vec<_>>().join("<br>"))
            }
        };
        assert!(!meaning.contains("{}"), "`{label}` has no value before the first request");
        found.insert(label.clone(), meaning);
    }
    found
}

#[test]
fn the_reference_is_what_the_code_registers() {
    let made = reference();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path(FILE), &made).expect("the reference is written");
    }
    let different = read(FILE)
        .lines()
        .zip(made.lines())
        .find(|(kept, made)| kept != made)
        .map(|both| format!("{both:#?}"));
    assert!(read(FILE) == made, "{FILE} is not what the code registers; run {HOW}\n{different:?}");
}

#[test]
fn every_family_is_named_and_described_as_the_others_are() {
    let (metrics, _) = fresh();
    for family in metrics.families() {
        let Family { name, kind, help, labels } = family;
        assert!(name.starts_with("compat_proxy_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind.as_str() == "counter", "{name} is a {}", kind.as_str());
        assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        assert!(help.starts_with(|first: char| first.is_lowercase() || first.is_numeric()), "{name}: {help}");
        assert!(labels.len() <= 5, "{name}: {labels:?}");
    }
    for (label, _) in LABELS {
        let used = metrics.families().iter().any(|family| family.labels.iter().any(|known| known == label));
        assert!(used, "no metric has the label `{label}`");
    }
}

#[test]
fn every_family_is_in_a_real_scrape_from_the_first_one_on() {
    let (metrics, _) = fresh();
    let text = &FIRST;
    for family in metrics.families() {
        let seen = text
            .iter()
            .any(|sample| ["", "_bucket"].iter().any(|end| sample.metric == format!("{}{end}", family.name)));
        assert!(seen, "{} is not there before the first request", family.name);
    }
    let states = values(text, "state", "compat_proxy_workers");
    assert_eq!(states, WORKER_STATES.map(str::to_owned).into());
}
