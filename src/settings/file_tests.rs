//! compat-proxy.yaml: every mistake with its place.

use super::*;
use proptest::prelude::*;

fn mistakes(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    parse("c.yaml", text, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

fn values(text: &str, key: &Key) -> Vec<String> {
    let mut errors = Vec::new();
    let written = parse("c.yaml", text, &mut errors);
    assert_eq!(errors, vec![], "{text}");
    written
        .get(key)
        .map(|entry| entry.values.iter().map(|(text, _)| text.clone()).collect())
        .unwrap_or_default()
}

#[test]
fn a_value_is_the_text_as_written() {
    assert_eq!(values("workers: 010", &key::WORKERS_KEY), ["010"]);
    assert_eq!(values("workers: \"2\"", &key::WORKERS_KEY), ["2"]);
    assert_eq!(values("access-log: off", &key::ACCESS_LOG), ["off"]);
    assert_eq!(
        values("upstream-cmd: >\n  gunicorn\n  main:app\n", &key::UPSTREAM_CMD),
        ["gunicorn main:app"]
    );
    assert_eq!(values("{workers: 2}", &key::WORKERS_KEY), ["2"]);
    assert_eq!(values("\u{feff}workers: 2", &key::WORKERS_KEY), ["2"]);
}

#[test]
fn a_repeatable_key_takes_a_list_or_one_value() {
    assert_eq!(values("listen: [8080, \"[::]:80\"]", &key::LISTEN), ["8080", "[::]:80"]);
    assert_eq!(values("listen:\n- unix:/a b,c\n", &key::LISTEN), ["unix:/a b,c"]);
    assert_eq!(values("listen: 8080", &key::LISTEN), ["8080"]);
}

#[test]
fn an_empty_file_and_an_empty_value_say_nothing() {
    for text in
        ["", "# only this\n", "---\n", "workers:\n", "workers: ~\n", "workers: null # for now\n", "{}"]
    {
        assert_eq!(values(text, &key::WORKERS_KEY), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_key() {
    assert_eq!(
        mistakes("\ngrace_period: 1s"),
        ["c.yaml:2:1: unknown setting `grace_period`; did you mean `grace-period`?"]
    );
    assert_eq!(mistakes("worker: 1"), ["c.yaml:1:1: unknown setting `worker`; did you mean `workers`?"]);
    assert!(
        mistakes("zebra: [a, {b: c}]\nworkers: 2")[0]
            .starts_with("c.yaml:1:1: unknown setting `zebra`; `compat-proxy --help`")
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "zebra: 1\nworkers: [1, 2]\nh2c: {a: b}\nlisten: [a:1, {x: y}]\nlog-level: info\nlog-level: warn\n[a]: b\n";
    assert_eq!(
        mistakes(text),
        [
            "c.yaml:1:1: unknown setting `zebra`; `compat-proxy --help` lists every option, and the keys are the same words",
            "c.yaml:2:10: workers: takes one value, not a list",
            "c.yaml:3:6: h2c: takes a value, not a mapping",
            "c.yaml:4:15: listen: takes a list of plain values; quote one that begins with `[`",
            "c.yaml:6:1: `log-level` is set twice, first in line 5; remove one of them",
            "c.yaml:7:1: a setting's name is one word",
        ]
    );
}

#[test]
fn broken_yaml_is_told_once_with_its_place() {
    for text in ["listen: [::]:80\nworker: 1", "workers: 2\n  foo: 3", "a: 'b", "workers: *x", "{"] {
        let mistakes = mistakes(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with("c.yaml:") && mistakes[0].contains(": not valid YAML: "),
            "{mistakes:?}"
        );
    }
}

#[test]
fn a_file_that_is_not_one_mapping_is_told_so() {
    assert_eq!(mistakes("- workers: 2"), ["c.yaml:1:1: settings are written one a line, `name: value`"]);
    assert_eq!(mistakes("workers"), ["c.yaml:1:1: settings are written one a line, `name: value`"]);
    assert_eq!(
        mistakes("workers: 2\n---\nworkers: 3"),
        ["c.yaml:3:1: a second YAML document; keep all settings in the first one"]
    );
    assert!(mistakes("workers: &a 2\nconcurrency: *a")[0].contains("aliases are not understood"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_or_loop(text in "[a-z:\\-\\[\\]{}'\"\n #&*!|>?,0-9]{0,60}") {
        mistakes(&text);
    }
}
