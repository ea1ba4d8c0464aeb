//! The queries of the dashboards, as Grafana would send them, answered by a real Prometheus.

use std::fmt::Write as _;
use std::path::Path;

use regex::{Captures, Regex};
use serde_json::Value;

use super::sample;
use crate::harness::prometheus::{Prometheus, Series};

/// What Grafana puts for `$__rate_interval` where scrapes are this close together, and for the time shown.
const OWN: [(&str, &str); 3] = [("__rate_interval", "10s"), ("__range", "1h"), ("__interval", "5s")];

/// A variable and what it is replaced by.
type Choice = (String, String);

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Each expression of each panel gives at least one number, with everything chosen and with one of each; prints a
/// sample of every panel and leaves them all beneath the target directory.
pub fn check(prometheus: &Prometheus, seconds: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let entries = std::fs::read_dir(folder).expect("the dashboards").flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    files.sort();
    assert_eq!(files.len(), 6, "{files:?}");
    let (mut shown, mut empty) = (String::new(), Vec::new());
    for file in files {
        let board: Value =
            serde_json::from_slice(&std::fs::read(&file).expect("a dashboard")).expect("a dashboard is JSON");
        let title = text(&board["title"]);
        let _ = writeln!(shown, "\n## {title}\n\n| panel | query | series | sample |\n|---|---|---|---|");
        let [all, one] = choices(prometheus, &board);
        // What is never asked, or missing, is about all handlers; a row for each handler is about one.
        let (every, _): (Vec<Choice>, Vec<_>) = all.iter().cloned().partition(|(name, _)| name == "handler");
        let most = [one.iter().filter(|(name, _)| name != "handler").cloned().collect(), every].concat();
        for (panel, target, repeated) in targets(&board) {
            for choices in [&all, if repeated { &one } else { &most }] {
                let expression = filled(text(&target["expr"]), choices);
                let found = match target["instant"] == true {
                    true => prometheus.now(&expression),
                    false => prometheus.lately(&expression, seconds),
                };
                let found = found.unwrap_or_else(|error| panic!("{title}: {error}: {expression}"));
                match sample(&found) {
                    Some((value, series)) if choices == &all => {
                        let _ = writeln!(shown, "{}", row(panel, target, value, series, found.len()));
                    }
                    Some(_) => {}
                    None => empty.push(format!("{title}: {panel}: {expression}")),
                }
            }
        }
        for annotation in
            list(&board["annotations"]["list"]).filter(|annotation| annotation["expr"].is_string())
        {
            let found =
                prometheus.lately(&filled(text(&annotation["expr"]), &all), seconds).expect("an annotation");
            assert!(sample(&found).is_some(), "{title}: {} marks nothing", annotation["name"]);
        }
    }
    println!("{shown}");
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("panels.md"), shown).expect("panels.md");
    assert!(empty.is_empty(), "these panels stay empty: {empty:#?}");
}

fn row(panel: &str, target: &Value, value: f64, series: &Series, count: usize) -> String {
    let legend = Regex::new(r"\{\{(\w+)\}\}").expect("a pattern");
    let name = |found: &Captures<'_>| series.labels.get(&found[1]).cloned().unwrap_or_default();
    let legend = legend.replace_all(text(&target["legendFormat"]), name);
    let legend = if legend.is_empty() { format!("{:?}", series.labels) } else { legend.trim().to_owned() };
    format!(
        "| {panel} | {} | {count} | {} = {value:.6} |",
        text(&target["refId"]),
        legend.replace('|', "\\|")
    )
}

/// Each panel's title and query, and whether it stands in a row that is there for each handler.
fn targets(board: &Value) -> Vec<(&str, &Value, bool)> {
    let mut repeated = false;
    let mut found = Vec::new();
    for panel in list(&board["panels"]) {
        if panel["type"] == "row" {
            repeated = panel["repeat"].is_string();
        }
        found.extend(list(&panel["targets"]).map(|target| (text(&panel["title"]), target, repeated)));
    }
    found
}

/// The variables with "All" chosen.
fn all(board: &Value) -> (Vec<&Value>, Vec<Choice>) {
    let variables: Vec<&Value> =
        list(&board["templating"]["list"]).filter(|variable| variable["type"] == "query").collect();
    let all =
        |variable: &&Value| (text(&variable["name"]).to_owned(), text(&variable["allValue"]).to_owned());
    let chosen = variables.iter().map(all).collect();
    (variables, chosen)
}

/// "All" everywhere, and one value for each variable, found as Grafana finds them.
fn choices(prometheus: &Prometheus, board: &Value) -> [Vec<Choice>; 2] {
    let query = Regex::new(r"^label_values\((.*), (\w+)\)$").expect("a pattern");
    let (variables, all) = all(board);
    let mut one: Vec<Choice> = Vec::new();
    for variable in variables {
        let name = text(&variable["name"]);
        let asked = text(&variable["query"]["query"]);
        let found = query.captures(asked).unwrap_or_else(|| panic!("{name}: {asked}"));
        let selector = filled(&found[1], &one);
        let values = prometheus.label_values(&found[2], &selector);
        let values = values.unwrap_or_else(|error| panic!("{name}: {selector}: {error}"));
        // The handler that everything of the demo ends at.
        let chosen = values.iter().find(|value| *value == "/.*").or(values.first());
        let chosen = chosen.unwrap_or_else(|| panic!("{name}: there is nothing to choose: {selector}"));
        one.push((name.to_owned(), escaped(chosen)));
    }
    [all, one]
}

/// As Grafana writes a value into a regular expression within quotes.
fn escaped(value: &str) -> String {
    let one = |letter: char| match letter {
        '\\' => r"\\\\".to_owned(),
        special if r"$^*{}[]'+?.()|".contains(special) => format!(r"\\{special}"),
        plain => plain.to_string(),
    };
    value.chars().map(one).collect()
}

fn filled(expression: &str, choices: &[Choice]) -> String {
    let variable = Regex::new(r"\$\{?(\w+)\}?").expect("a pattern");
    let value = |found: &Captures<'_>| {
        let own = OWN.iter().find(|(name, _)| *name == &found[1]).map(|(_, value)| (*value).to_owned());
        let chosen = choices.iter().find(|(name, _)| *name == found[1]).map(|(_, value)| value.clone());
        own.or(chosen).unwrap_or_else(|| panic!("${} stands in {expression}", &found[1]))
    };
    variable.replace_all(expression, value).into_owned()
}
