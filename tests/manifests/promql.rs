//! As much of PromQL as dashboards and rules use: which series an expression selects, and by which labels it groups.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

static SELECTOR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(compat_proxy_\w+|process_\w+)(?:\{([^}]*)\})?"));
static MATCHER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)""#));
static GROUPING: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)"));
static WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Za-z_]\w*"));
static RECORDED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bcompat_proxy:[\w:]+"));
static BRACED: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{[^}]*\}|\[[^\]]*\]"));

/// Words of the language that dashboards and rules use.
const LANGUAGE: &[&str] = &[
    "absent",
    "and",
    "avg_over_time",
    "bool",
    "by",
    "changes",
    "clamp_min",
    "group_left",
    "histogram_quantile",
    "ignoring",
    "increase",
    "max",
    "max_over_time",
    "min",
    "offset",
    "on",
    "or",
    "rate",
    "scalar",
    "sum",
    "sum_over_time",
    "time",
    "topk",
    "unless",
    "vector",
    "without",
];

/// Series that Prometheus makes about each scrape.
const PROMETHEUS: [&str; 3] = ["up", "scrape_duration_seconds", "scrape_samples_scraped"];

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// One matcher of a selector.
pub(crate) struct Matcher {
    pub(crate) label: String,
    operator: String,
    value: String,
}

impl Matcher {
    /// Whether a label of this value passes; a variable of the dashboard lets everything pass.
    pub(crate) fn passes(&self, value: &str) -> bool {
        if self.value.starts_with('$') {
            return true;
        }
        let full = || pattern(&format!("^(?:{})$", self.value)).is_match(value);
        match self.operator.as_str() {
            "=" => self.value == value,
            "!=" => self.value != value,
            "=~" => full(),
            _ => !full(),
        }
    }
}

/// A metric and the matchers on it.
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
}

/// Every series selected in an expression.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let selector = |found: regex::Captures<'_>| {
        let matchers = found.get(2).map_or("", |inner| inner.as_str());
        Selector {
            metric: found[1].to_owned(),
            matchers: MATCHER.captures_iter(matchers).map(matcher).collect(),
        }
    };
    SELECTOR.captures_iter(expression).map(selector).collect()
}

fn matcher(found: regex::Captures<'_>) -> Matcher {
    Matcher { label: found[1].to_owned(), operator: found[2].to_owned(), value: found[3].to_owned() }
}

/// Every recorded series an expression names.
pub(crate) fn recorded(expression: &str) -> BTreeSet<String> {
    RECORDED.find_iter(expression).map(|found| found.as_str().to_owned()).collect()
}

/// Every label an expression groups or joins by.
pub(crate) fn grouped_by(expression: &str) -> BTreeSet<String> {
    let labels = GROUPING.captures_iter(expression);
    labels
        .flat_map(|found| found[1].split(',').map(|label| label.trim().to_owned()).collect::<Vec<_>>())
        .collect()
}

/// Words that are neither the language's nor a metric nor a label grouped by: spelling mistakes.
pub(crate) fn unknown_words(expression: &str) -> Vec<String> {
    let bare = BRACED.replace_all(expression, "");
    let bare = GROUPING.replace_all(&bare, "");
    let bare = RECORDED.replace_all(&bare, "");
    let unknown = |word: &&str| {
        !LANGUAGE.contains(word)
            && !PROMETHEUS.contains(word)
            && !word.starts_with("compat_proxy_")
            && !word.starts_with("process_")
    };
    WORD.find_iter(&bare).map(|found| found.as_str()).filter(unknown).map(str::to_owned).collect()
}

#[test]
fn selectors_labels_and_mistakes_are_found() {
    let text =
        r#"sum by (le, code) (rate(compat_proxy_a_total{x=~"1..",y!="$z"}[5m])) / process_b or vctor(0)"#;
    let found = selectors(text);
    let metrics: Vec<&str> = found.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["compat_proxy_a_total", "process_b"]);
    assert_eq!(
        found[0].matchers.iter().map(|matcher| matcher.label.as_str()).collect::<Vec<_>>(),
        ["x", "y"]
    );
    assert!(found[0].matchers[0].passes("123") && !found[0].matchers[0].passes("0123"));
    assert!(found[0].matchers[1].passes("anything"));
    assert_eq!(grouped_by(text).into_iter().collect::<Vec<_>>(), ["code", "le"]);
    assert_eq!(unknown_words(text), ["vctor"]);
}
