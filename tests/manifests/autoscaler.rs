//! The metric that the autoscaler asks for: what prometheus-adapter would make of the rule shipped with it, from series
//! that a real scrape has, worked out by promtool.

use std::process::Command;

use serde_json::json;
use serde_yaml::Value;

use crate::kustomize::objects;
use crate::packages::missing;
use crate::pod::items;
use crate::promql::{selectors, unknown_words};
use crate::read;
use crate::scrape::SCRAPE;

const FOLDER: &str = "config/kubernetes/components/autoscaler";

fn rule() -> Value {
    objects(&read(&format!("{FOLDER}/prometheus-adapter.yaml"))).remove(0)["rules"]["custom"][0].clone()
}

/// The query as the adapter asks it for the pods of one namespace.
fn query() -> String {
    let rule = rule();
    let query = rule["metricsQuery"].as_str().expect("a query");
    query.replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", "namespace=\"shop\",pod=~\"a|b|c\"")
}

#[test]
fn the_autoscalers_metric_is_one_the_adapter_makes_of_series_that_exist() {
    let scaler = objects(&read(&format!("{FOLDER}/hpa.yaml"))).remove(0);
    let rule = rule();
    let asked =
        items(&scaler["spec"]["metrics"]).find_map(|metric| metric["pods"]["metric"]["name"].as_str());
    assert_eq!(rule["name"]["as"].as_str(), asked);
    let query = query();
    assert_eq!(unknown_words(&query), Vec::<String>::new(), "{query}");
    let found = selectors(&query);
    assert_eq!(found.len(), 3, "{query}");
    let series = rule["seriesQuery"].as_str().and_then(|series| series.split('{').next());
    for metric in found.iter().map(|selector| selector.metric.as_str()).chain(series) {
        assert!(SCRAPE.iter().any(|sample| sample.metric == metric), "{metric} is never scraped");
    }
}

#[test]
fn it_says_how_much_of_each_pod_is_taken_and_counts_who_waits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, value: serde_json::Value| {
        std::fs::write(folder.path().join(name), value.to_string()).expect("a file is written");
    };
    let series = |metric: &str, pod: &str, value: u32| json!({ "series": format!("{metric}{{namespace=\"shop\",pod=\"{pod}\"}}"), "values": value.to_string() });
    let mut given = Vec::new();
    // Idle, full with as many waiting, and one whose workers have not started.
    for (pod, [used, waiting, limit]) in [("a", [0, 0, 50]), ("b", [50, 50, 50]), ("c", [0, 3, 0])] {
        given.push(series("compat_proxy_concurrency_in_use", pod, used));
        given.push(series("compat_proxy_queue_depth", pod, waiting));
        given.push(series("compat_proxy_concurrency_limit", pod, limit));
    }
    let expected = |pod: &str, value: f64| json!({ "labels": format!("{{pod=\"{pod}\"}}"), "value": value });
    write("rules.yaml", json!({ "groups": [] }));
    write(
        "test.yaml",
        json!({
            "rule_files": ["rules.yaml"],
            "tests": [{
                "input_series": given,
                "promql_expr_test": [{ "expr": query(), "exp_samples": [expected("a", 0.0), expected("b", 2.0)] }],
            }],
        }),
    );
    let mut command = Command::new("promtool");
    match command.args(["test", "rules", "test.yaml"]).current_dir(folder.path()).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => missing(&format!("NO PROMTOOL: the autoscaler's metric is not worked out: {error}")),
    }
}
