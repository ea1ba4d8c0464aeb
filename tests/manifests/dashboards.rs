//! The dashboards: JSON of a shape Grafana 10 takes, and queries that a real scrape can answer.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::promql::{grouped_by, recorded, selectors, unknown_words};
use crate::scrape::SCRAPE;
use crate::{names, read};

/// Labels that the scraping Prometheus adds.
const ADDED: [&str; 5] = ["cluster", "namespace", "job", "pod", "instance"];
/// Labels that recording rules keep beside those.
const KEPT: [&str; 1] = ["handler"];

fn boards() -> Vec<(String, Value)> {
    let files = names("dashboards").into_iter().filter(|name| name.ends_with(".json"));
    let board = |name: String| {
        let board = serde_json::from_str(&read(&format!("dashboards/{name}")));
        (name.clone(), board.unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    files.map(board).collect()
}

fn list<'a>(value: &'a Value, what: &str) -> &'a Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{what} is no list"))
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("{what} is missing"))
}

/// Panels without the rows.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(&board["panels"], "panels").iter().filter(|panel| panel["type"] != "row")
}

/// Units of Grafana that the boards use.
const UNITS: &[&str] =
    &["reqps", "ops", "cps", "short", "percentunit", "s", "dtdurations", "bytes", "Bps", "none"];

/// Every expression with where it stands and its legend.
fn expressions(name: &str, board: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for panel in panels(board) {
        let place = format!("{name}: {}", text(&panel["title"], "a title"));
        for target in list(&panel["targets"], &place) {
            let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
            found.push((place.clone(), text(&target["expr"], &place).to_owned(), legend));
        }
    }
    for annotation in list(&board["annotations"]["list"], "annotations") {
        if let Some(expression) = annotation["expr"].as_str() {
            found.push((format!("{name}: an annotation"), expression.to_owned(), String::new()));
        }
    }
    found
}

#[test]
fn each_board_has_a_fixed_name_and_the_usual_variables() {
    let boards = boards();
    let names: Vec<&str> = boards.iter().filter_map(|(name, _)| name.split('.').next()).collect();
    let wanted = ["handlers", "internals", "overview", "slo", "static", "workers"];
    assert_eq!(names, wanted.map(|name| format!("compat-proxy-{name}")));
    let used = Regex::new(r#"\$\{?([a-z]\w*)"#).expect("a pattern");
    for (name, board) in &boards {
        assert_eq!(format!("{}.json", text(&board["uid"], name)), *name);
        assert!(board["schemaVersion"].as_u64() >= Some(38), "{name}");
        assert!(board["id"].is_null(), "{name}: an id belongs to one Grafana");
        assert!(list(&board["tags"], name).contains(&"compat-proxy".into()), "{name}");
        let variables = list(&board["templating"]["list"], name);
        assert_eq!(variables[0]["type"], "datasource", "{name}");
        for variable in &variables[1..] {
            let all = (&variable["multi"], &variable["includeAll"], variable["allValue"].as_str());
            assert_eq!(all, (&true.into(), &true.into(), Some(".*")), "{name}: {}", variable["name"]);
        }
        let known: BTreeSet<&str> =
            variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
        let whole = board.to_string();
        for found in used.captures_iter(&whole) {
            assert!(known.contains(&found[1]), "{name}: ${} is no variable", &found[1]);
        }
    }
}

#[test]
fn each_panel_says_what_it_shows_and_in_which_unit() {
    for (name, board) in boards() {
        let mut ids = BTreeSet::new();
        for panel in list(&board["panels"], &name) {
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {} shares its id", panel["title"]);
        }
        for panel in panels(&board) {
            let place = format!("{name}: {}", text(&panel["title"], &name));
            let unit = text(&panel["fieldConfig"]["defaults"]["unit"], &place);
            assert!(UNITS.contains(&unit), "{place}: {unit}");
            let description = text(&panel["description"], &place);
            assert!(description.ends_with('.') || description.ends_with(')'), "{place}: {description}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
            let kind = text(&panel["type"], &place);
            assert!(
                ["stat", "timeseries", "table", "heatmap", "state-timeline"].contains(&kind),
                "{place}: {kind}"
            );
        }
    }
}

#[test]
fn every_query_is_narrowed_by_what_is_chosen() {
    let objective = Regex::new(r"^max\(compat_proxy:slo_\w+:objective\)$").expect("a pattern");
    for (name, board) in boards() {
        let variables: Vec<&str> = list(&board["templating"]["list"], &name)[1..]
            .iter()
            .filter_map(|variable| variable["name"].as_str())
            .filter(|variable| ADDED.contains(variable))
            .collect();
        for (place, expression, _) in expressions(&name, &board) {
            for variable in &variables {
                let asked = format!("{variable}=~\"${variable}\"");
                assert!(
                    expression.contains(&asked) || objective.is_match(&expression),
                    "{place}: {expression}"
                );
            }
        }
    }
}

#[test]
fn links_lead_to_boards_that_are_there() {
    let link = Regex::new(r"/d/([\w-]+)\?").expect("a pattern");
    let boards = boards();
    let mut found = 0;
    for (name, board) in &boards {
        assert_eq!(board["links"][0]["tags"][0], "compat-proxy", "{name}: no way to the others");
        for target in link.captures_iter(&board.to_string()) {
            found += 1;
            let there = boards.iter().any(|(_, board)| board["uid"] == target[1]);
            assert!(there, "{name} leads to {}", &target[1]);
        }
    }
    assert!(found >= 10, "{found} links");
}

#[test]
fn panels_do_not_overlap() {
    for (name, board) in boards() {
        let mut taken = BTreeSet::new();
        for panel in list(&board["panels"], &name) {
            let side = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{name}: {key}"));
            let (x, y, width, height) = (side("x"), side("y"), side("w"), side("h"));
            assert!(x + width <= 24, "{name}: {}", panel["title"]);
            let cells = (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y)));
            assert!(cells.into_iter().all(|cell| taken.insert(cell)), "{name}: {} overlaps", panel["title"]);
        }
    }
}

#[test]
fn every_query_selects_something_in_a_real_scrape() {
    let legend_label = Regex::new(r"\{\{(\w+)\}\}").expect("a pattern");
    for (name, board) in boards() {
        for (place, expression, legend) in expressions(&name, &board) {
            assert_eq!(unknown_words(&expression), Vec::<String>::new(), "{place}: {expression}");
            let mut labels: BTreeSet<&str> = ADDED.into();
            let selected = selectors(&expression);
            let recorded = recorded(&expression);
            assert!(recorded.is_subset(&crate::rules::recorded()), "{place}: {expression}");
            assert!(!selected.is_empty() || !recorded.is_empty(), "{place}: {expression}");
            if !recorded.is_empty() {
                labels.extend(KEPT);
            }
            for selector in &selected {
                let matching = SCRAPE.iter().filter(|sample| {
                    let passes = |label: &str, matcher: &crate::promql::Matcher| {
                        ADDED.contains(&label)
                            || sample.labels.get(label).is_some_and(|value| matcher.passes(value))
                    };
                    sample.metric == selector.metric
                        && selector.matchers.iter().all(|matcher| passes(&matcher.label, matcher))
                });
                let mut any = false;
                for sample in matching {
                    any = true;
                    labels.extend(sample.labels.keys().map(String::as_str));
                }
                assert!(any, "{place}: nothing matches `{}` of {expression}", selector.metric);
            }
            let shown = legend_label.captures_iter(&legend).map(|found| found[1].to_owned());
            for label in grouped_by(&expression).into_iter().chain(shown) {
                assert!(labels.contains(label.as_str()), "{place}: no series has the label `{label}`");
            }
        }
    }
}

#[test]
fn every_family_has_a_panel() {
    let metrics = compat_proxy::telemetry::metrics::Metrics::new().expect("the families");
    let mut asked = BTreeSet::new();
    for (name, board) in boards() {
        for (_, expression, _) in expressions(&name, &board) {
            asked.extend(selectors(&expression).into_iter().map(|selector| selector.metric));
        }
    }
    let shown = |name: &str| {
        ["", "_bucket", "_count", "_sum"].iter().any(|end| asked.contains(&format!("{name}{end}")))
    };
    let families = metrics.families().iter().map(|family| family.name.as_str());
    let missing: Vec<&str> = families.filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "nobody sees {missing:?}");
}

#[test]
fn variables_ask_for_series_and_labels_that_exist() {
    let query = Regex::new(r"^label_values\((\w+)(\{.*\})?, (\w+)\)$").expect("a pattern");
    for (name, board) in boards() {
        for variable in &list(&board["templating"]["list"], &name)[1..] {
            let asked = text(&variable["query"]["query"], &name);
            let found = query.captures(asked).unwrap_or_else(|| panic!("{name}: {asked}"));
            let mut samples = SCRAPE.iter().filter(|sample| sample.metric == found[1]);
            assert!(
                samples.any(|sample| ADDED.contains(&&found[3]) || sample.labels.contains_key(&found[3])),
                "{name}: {asked}"
            );
        }
    }
}
