//! Dashboards and rules before a real Prometheus that scrapes a real proxy: every query of every panel, variable,
//! annotation and rule brings something, and `promtool` has seen every alert firing and silent.

mod boards;
mod grafana;
mod series;
mod traffic;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use regex::Regex;
use serde_json::Value;

use crate::harness::prometheus::{Prometheus, Series, is_there, promtool};
use crate::harness::{Proxy, wait_for};

/// Families that stay at zero although all went as it should, and why.
const ZERO: &[(&str, &str)] = &[
    ("compat_proxy_panics_total", "no bug was met"),
    ("compat_proxy_log_dropped_total", "the log was read"),
    ("compat_proxy_memory_limit_bytes", "the machine may set none"),
    ("compat_proxy_queue_depth", "a scrape may miss it"),
    ("process_cpu_seconds_total", "counts whole seconds"),
    ("compat_proxy_config_warnings", "the app may have none"),
];

fn configuration(proxy: &Proxy) -> String {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus");
    format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n- {0}/recording.yaml\n- {0}/alerts.yaml\n\
         scrape_configs:\n- job_name: shop\n  static_configs:\n  - targets: ['{1}']\n    \
         labels: {{cluster: test, namespace: demo, pod: shop-0}}\n",
        rules.display(),
        proxy.admin_address()
    )
}

#[test]
fn every_panel_and_every_rule_shows_something_of_real_traffic() {
    if !is_there() {
        return;
    }
    let began = Instant::now();
    let proxy = traffic::start();
    let prometheus = Prometheus::start(&configuration(&proxy));
    let seen = |expression: &str| {
        let there = || prometheus.now(expression).is_ok_and(|found| !found.is_empty());
        wait_for(&format!("prometheus has seen `{expression}`"), there, || proxy.output());
    };
    seen("compat_proxy_http_requests_total");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| traffic::go_on(&proxy, &stop));
        traffic::oddities(&proxy);
        traffic::crowd(&proxy);
        traffic::crash(&proxy);
        traffic::reloads(&proxy, seen);
        traffic::oddities(&proxy);
        seen("compat_proxy_worker_starts_total{reason=\"reload\"} > 0");
        seen("changes(compat_proxy_config_last_reload_success_timestamp_seconds[1m]) > 0");
        seen("increase(compat_proxy_worker_starts_total{reason=\"crash\"}[1m]) > 0");
        seen("compat_proxy:sli_slow:ratio_rate3d > 0 and compat_proxy:sli_errors:ratio_rate3d > 0");
        let seconds = u32::try_from(began.elapsed().as_secs() + 1).expect("a short test");
        check_families(&prometheus, &proxy);
        check_rules(&prometheus, seconds);
        boards::check(&prometheus, seconds);
    });
    println!("took {:?}", began.elapsed());
}

/// Ends the traffic when the scope is left, by a panic, too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Something sets each family: over the whole run it was not zero all the time.
fn check_families(prometheus: &Prometheus, proxy: &Proxy) {
    let text = proxy.admin("/metrics").text();
    let mut idle = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a type");
        let series = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let most = prometheus.now(&format!("max(max_over_time({series}[10m]))")).expect("a query");
        let most = most.first().and_then(|series| series.values.first()).copied();
        let excused = ZERO.iter().any(|(zero, _)| *zero == name);
        if most.is_none() || (most == Some(0.0) && !excused) {
            idle.insert(name);
        }
    }
    assert!(idle.is_empty(), "nothing sets {idle:#?}: {}", proxy.output());
}

/// Every rule is evaluated without an error; a recording brings series, and what an alert looks at is there.
fn check_rules(prometheus: &Prometheus, seconds: u32) {
    let groups = prometheus.api("rules", &[]).expect("rules");
    let rules = groups["groups"].as_array().into_iter().flatten();
    let rules: Vec<&Value> =
        rules.flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    assert!(rules.len() > 30, "{} rules", rules.len());
    let selector = Regex::new(r"\b(?:compat_proxy[\w:]*|process_\w+|up)(?:\{[^}]*\})?").expect("a pattern");
    for rule in rules {
        let (name, expression) = (&rule["name"], rule["query"].as_str().expect("an expression"));
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        if rule["type"] == "recording" {
            let found = prometheus.lately(name.as_str().expect("a name"), seconds).expect("a query");
            assert!(found.iter().any(|series| !series.values.is_empty()), "{name} records nothing");
        }
        let selected: Vec<&str> = selector.find_iter(expression).map(|found| found.as_str()).collect();
        assert!(!selected.is_empty() || expression.starts_with("vector("), "{name}: {expression}");
        for selected in selected {
            let found =
                prometheus.lately(selected, seconds).unwrap_or_else(|error| panic!("{selected}: {error}"));
            assert!(!found.is_empty(), "{name}: there is no {selected}");
        }
    }
}

/// A value to show: the newest that is not zero, else the newest.
fn sample(found: &[Series]) -> Option<(f64, &Series)> {
    let newest = |series: &Series| series.values.iter().rev().copied().find(|value| *value != 0.0);
    let moved = found.iter().find_map(|series| Some((newest(series)?, series)));
    moved.or_else(|| found.iter().find_map(|series| Some((*series.values.last()?, series))))
}

#[test]
fn promtool_accepts_the_rules_and_has_seen_every_alert_fire_and_stay_silent() {
    if !is_there() {
        return;
    }
    let files = ["config/prometheus/recording.yaml", "config/prometheus/alerts.yaml"];
    for words in [
        [&["check", "rules", "--lint=all", "--lint-fatal"][..], &files[..]].concat(),
        vec!["test", "rules", "tests/fixtures/prometheus/alerts.yaml"],
    ] {
        let done = promtool(&words);
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(done.status.success(), "{words:?}: {}", said.concat());
    }
}
