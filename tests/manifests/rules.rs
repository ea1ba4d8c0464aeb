//! The rules of `config/prometheus`: named and described alike, each alert with a runbook entry and cases of its own.
//! Whether Prometheus takes them, and what they bring, is shown by `tests/e2e/observe.rs`.

use std::collections::BTreeSet;

use serde_yaml::Value;

use crate::promql::{grouped_by, selectors, unknown_words};
use crate::read;
use crate::scrape::SCRAPE;

const RECORDING: &str = "config/prometheus/recording.yaml";
const ALERTS: &str = "config/prometheus/alerts.yaml";
const RUNBOOK: &str = "config/prometheus/README.md";
const CASES: &str = "tests/fixtures/prometheus/alerts.yaml";

fn yaml(file: &str) -> Value {
    serde_yaml::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text"))
}

fn rules(file: &str) -> Vec<Value> {
    let whole = yaml(file);
    items(&whole["groups"]).flat_map(|group| items(&group["rules"])).cloned().collect()
}

/// The names of all recorded series.
pub(crate) fn recorded() -> BTreeSet<String> {
    rules(RECORDING).iter().map(|rule| text(&rule["record"]).to_owned()).collect()
}

/// The headings of the runbook, as anchors.
fn headings() -> BTreeSet<String> {
    let text = read(RUNBOOK);
    let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
    headings.map(|heading| heading.trim().to_lowercase()).collect()
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() {
    let headings = headings();
    let mut alerts = BTreeSet::new();
    for rule in rules(ALERTS) {
        let name = text(&rule["alert"]);
        let anchor = name.to_lowercase();
        assert!(name.starts_with("CompatProxy"), "{name}");
        assert!(["page", "ticket", "info"].contains(&text(&rule["labels"]["severity"])), "{name}");
        assert!(!text(&rule["annotations"]["summary"]).ends_with('.'), "{name}");
        assert!(text(&rule["annotations"]["description"]).ends_with('.'), "{name}");
        assert_eq!(text(&rule["annotations"]["runbook_url"]), format!("{RUNBOOK}#{anchor}"), "{name}");
        assert!(headings.contains(&anchor), "{RUNBOOK} says nothing about {name}");
        alerts.insert(anchor);
    }
    let stale: Vec<&String> = headings.iter().filter(|heading| heading.starts_with("compatproxy")).collect();
    assert_eq!(stale.len(), alerts.len(), "{RUNBOOK} and {ALERTS}: {stale:?} {alerts:?}");
}

#[test]
fn every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() {
    let cases = yaml(CASES);
    let checks: Vec<&Value> =
        items(&cases["tests"]).flat_map(|test| items(&test["alert_rule_test"])).collect();
    for rule in rules(ALERTS) {
        let name = text(&rule["alert"]);
        let own = || checks.iter().filter(|check| check["alertname"] == *name);
        let fires = |check: &&&Value| {
            let mut labels = items(&check["exp_alerts"]).map(|alert| &alert["exp_labels"]);
            labels.any(|found| ["severity", "window"].iter().all(|key| found[*key] == rule["labels"][*key]))
        };
        assert!(own().any(|check| fires(&check)), "{CASES} never sees {name} {:?}", rule["labels"]);
        let silent = own().any(|check| items(&check["exp_alerts"]).next().is_none());
        assert!(silent, "{CASES} never sees {name} silent");
    }
}

#[test]
fn rules_ask_for_series_and_labels_that_exist() {
    let recorded = recorded();
    let kept = ["cluster", "namespace", "job", "pod", "instance", "le"];
    for rule in rules(RECORDING).into_iter().chain(rules(ALERTS)) {
        let expression = text(&rule["expr"]).replace("le=~\"1([.]0)?\"", "le!=\"\"");
        assert_eq!(unknown_words(&expression), Vec::<String>::new(), "{expression}");
        let missing: Vec<String> =
            crate::promql::recorded(&expression).difference(&recorded).cloned().collect();
        assert_eq!(missing, Vec::<String>::new(), "{expression}");
        let mut labels: BTreeSet<&str> = kept.into();
        labels.insert("handler");
        for selector in selectors(&expression) {
            let matching = SCRAPE.iter().filter(|sample| {
                let passes = |matcher: &crate::promql::Matcher| {
                    sample.labels.get(&matcher.label).is_some_and(|value| matcher.passes(value))
                };
                sample.metric == selector.metric && selector.matchers.iter().all(passes)
            });
            let mut any = false;
            for sample in matching {
                any = true;
                labels.extend(sample.labels.keys().map(String::as_str));
            }
            assert!(any, "nothing matches `{}` of {expression}", selector.metric);
        }
        for label in grouped_by(&expression) {
            assert!(labels.contains(label.as_str()), "no series has the label `{label}`: {expression}");
        }
    }
}

/// Where the Prometheus operator finds the same rules.
const OBJECTS: &str = "config/kubernetes/components/prometheus-rule/rules.yaml";

#[test]
fn the_operators_objects_hold_the_same_rules() {
    let mut made = String::from(
        "# The rules of config/prometheus, written from them by `UPDATE_SNAPSHOTS=1 cargo test --test manifests rules`; do not\n\
         # edit.\n",
    );
    for (name, file) in [("compat-proxy-recording", RECORDING), ("compat-proxy-alerts", ALERTS)] {
        let rules: serde_json::Value = serde_yaml::from_str(&read(file)).expect("rules");
        let object = serde_json::json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": { "name": name, "labels": { "app.kubernetes.io/name": "compat-proxy" } },
            "spec": rules,
        });
        made.push_str("---\n");
        made.push_str(&serde_yaml::to_string(&object).expect("YAML"));
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(crate::path(OBJECTS), &made).expect("the objects are written");
    }
    assert!(read(OBJECTS) == made, "{OBJECTS} is not what {RECORDING} and {ALERTS} say");
}
