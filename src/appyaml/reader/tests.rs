//! The YAML dialect: texts, places, refusals, limits.

use proptest::prelude::*;

use super::super::raw::{Node, text_of};
use super::*;
use crate::appyaml::render;

fn told(text: &str) -> Result<Document, Vec<String>> {
    let file: Arc<str> = "app.yaml".into();
    let mut findings = Findings::default();
    let content = read(text, &file, &mut findings);
    let problems: Vec<String> =
        findings.into_problems().iter().map(|problem| render(problem, &[], false)).collect();
    match content {
        Content::Document(document) if problems.is_empty() => Ok(document),
        _ => Err(problems),
    }
}

/// The text that Python makes of `k: <written>`.
#[track_caller]
fn text(written: &str) -> String {
    let document = told(&format!("k: {written}\n")).expect("this is good YAML");
    text_of(document.value.get("k").expect("the key is there")).into_owned()
}

/// The first thing said about a text.
#[track_caller]
fn complaint(yaml: &str) -> String {
    told(yaml).expect_err("this should be refused").into_iter().next().expect("something is said")
}

#[test]
fn words_and_numbers_get_the_text_python_gives_them() {
    for (written, expected) in [
        ("yes", "True"),
        ("No", "False"),
        ("ON", "True"),
        ("y", "True"),
        ("n", "False"),
        ("yEs", "yEs"),
        ("t", "t"),
        ("~", "None"),
        ("", "None"),
        ("NULL", "None"),
        ("nULL", "nULL"),
        ("010", "8"),
        ("08", "08"),
        ("0x1F", "31"),
        ("0b101", "5"),
        ("0o17", "0o17"),
        ("1_000", "1000"),
        ("+7", "7"),
        ("-0", "0"),
        ("1:30", "90"),
        ("190:20:30", "685230"),
        ("190:20:30.15", "685230.15"),
        ("0_", "0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0xffffffffffffffffffff", "1208925819614629174706175"),
        ("1.50", "1.5"),
        ("1.", "1.0"),
        (".5", "0.5"),
        ("-.5", "-.5"),
        ("1e3", "1000.0"),
        ("1e16", "1e+16"),
        ("1e-5", "1e-05"),
        ("-0.0", "-0.0"),
        ("100000000000000000.0", "1e+17"),
        ("890154559950474.25", "890154559950474.2"),
        (".inf", "inf"),
        ("-.INF", "-inf"),
        (".NaN", "nan"),
        ("1e999", "inf"),
        ("1.5.5", "1.5.5"),
        ("3.0", "3.0"),
        ("2012-01-01", "2012-01-01"),
        ("2001-1-1", "2001-1-1"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-15 02:59:43.100000"),
        ("2001-12-14 21:59:43", "2001-12-14 21:59:43"),
    ] {
        assert_eq!(text(written), expected, "{written}");
    }
}

#[test]
fn quotes_and_tags_keep_a_text_as_it_is() {
    for (written, expected) in [
        ("\"010\"", "010"),
        ("'yes'", "yes"),
        ("!!str 1.50", "1.50"),
        ("\"\"", ""),
        ("!!int \"5\"", "5"),
        ("!!float 5", "5.0"),
        ("\"a\\tb\"", "a\tb"),
        ("'it''s'", "it's"),
        ("!!bool \"off\"", "False"),
    ] {
        assert_eq!(text(written), expected, "{written}");
    }
}

#[test]
fn a_comment_needs_a_blank_before_it() {
    assert_eq!(text("/a #b"), "/a");
    assert_eq!(text("/a#b"), "/a#b");
}

#[test]
fn a_yaml_1_2_line_turns_off_the_old_words() {
    let document = told("%YAML 1.2\n---\na: yes\nb: 010\nc: 0o17\n").expect("good");
    let texts: Vec<_> =
        document.value.as_mapping().into_iter().flatten().map(|(_, value)| text_of(value)).collect();
    assert_eq!(texts, ["yes", "10", "15"]);
    assert!(complaint("%YAML 2.0\n---\na: b\n").contains("YAML `2.0` is not known"));
}

#[test]
fn a_block_text_without_a_last_line_break_gets_none() {
    assert_eq!(text("|\n  a\n  b"), "a\nb\n");
    let document = told("k: |\n  a\n  b").expect("good");
    assert_eq!(document.value["k"], Value::from("a\nb"));
}

#[test]
fn marks_crlf_and_a_byte_order_mark_do_no_harm() {
    let document = told("\u{feff}---\r\na: b\r\nc:\r\n- d\r\n...\r\n").expect("good");
    assert_eq!(document.value["c"][0], Value::from("d"));
}

#[test]
fn every_value_knows_its_place() {
    let document = told("a: b\nlist:\n- x\n- key: value\n").expect("good");
    let file: Arc<str> = "app.yaml".into();
    let item =
        Node::root(&document, &file).get("list").and_then(|list| list.items().nth(1)).expect("an item");
    let (key, value) = item.entries().next().expect("an entry");
    assert_eq!((key.place().line, key.place().column), (4, 3));
    assert_eq!((value.place().line, value.place().column), (4, 8));
}

#[test]
fn what_the_sdk_does_not_take_is_refused_with_its_place() {
    for (yaml, expected) in [
        (
            "a: *b\n",
            "app.yaml:1:4: error: `*b` starts with `*`, which makes it a reference in YAML (quote it: \"*b\")",
        ),
        ("a: &x b\n", "app.yaml:1:"),
        (
            "<<: {a: b}\n",
            "app.yaml:1:1: error: merge keys (`<<`) are not supported in app.yaml (write the keys out)",
        ),
        ("a: b\na: c\n", "app.yaml:2:1: error: duplicate attribute `a` (keep one of the two)"),
        ("a: b\n---\nc: d\n", "app.yaml:2:1: error: a second document starts here"),
        ("a: =\n", "app.yaml:1:4: error: `=` alone"),
        ("a:\tb\n", "app.yaml:1:3: error: a tab cannot stand here"),
        ("a: b\t\n", "app.yaml:1:5: error: a tab cannot stand here"),
        ("a: \"b\"\t\n", "app.yaml:1:7: error: a tab cannot stand here"),
        ("a: %2f\n", "app.yaml:1:4: error: a plain text cannot start with `%`"),
        ("a: b: c\n", "app.yaml:1:5: error: `:` makes a key of what stands before it"),
        ("a: !foo b\n", "app.yaml:1:"),
        ("? [a]\n: b\n", "app.yaml:1:3: error: a list or a map cannot be a key"),
        ("a: 0b\u{7f}\n", ""),
        ("a: 2012-13-01\n", "app.yaml:1:4: error: `2012-13-01` looks like a date"),
        ("a: 0x_\n", "app.yaml:1:4: error: a number without digits"),
    ] {
        if !expected.is_empty() {
            assert!(complaint(yaml).starts_with(expected), "{yaml}: {}", complaint(yaml));
        }
    }
}

#[test]
fn a_tab_may_stand_in_quotes_blocks_and_comments() {
    for yaml in ["a: \"b\tc\"\n", "a: |\n  b\tc\n", "a: b # c\td\n", "#\tx\na: 'b\t'\n"] {
        assert!(told(yaml).is_ok(), "{yaml}");
    }
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    let file: Arc<str> = "app.yaml".into();
    for (bytes, expected) in [
        (&b"a: b\nc: \xe9\n"[..], "app.yaml:2:4: error: not valid UTF-8 (save the file as UTF-8)"),
        (b"a: \x07\n", "app.yaml:1:4: error: the invisible character U+0007 cannot stand in YAML"),
        (b"a: \xe2\x80\xa8\n", "app.yaml:1:4: error: the invisible character U+2028"),
        (&[b'a'; (1 << 20) + 1], "app.yaml:1:1: error: larger than 1048576 bytes"),
    ] {
        let problem = decode(bytes.to_vec(), &file).expect_err("refused");
        assert!(render(&problem, &[], false).starts_with(expected), "{problem:?}");
    }
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    assert!(complaint(&"- ".repeat(40)).contains("nested deeper than 32 levels"));
    assert!(complaint(&"- a\n".repeat(100_001)).contains("more than 100000 values"));
    assert!(complaint(&"[".repeat(100_000)).starts_with("app.yaml:1:"));
}

/// Pieces that YAML gives a meaning to, in any order.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n- ",
        ": ",
        ":",
        "\"x\"",
        "'y'",
        " #c",
        "&a ",
        "*a",
        "|\n  t\n",
        ">\n  u\n",
        "[",
        "]",
        "{",
        "}",
        ",",
        "? ",
        "!!str ",
        "!!int ",
        "!foo ",
        "~",
        "010",
        "1.5",
        "\t",
        "%",
        "@",
        "---\n",
        "...\n",
        "<<: ",
        "=",
        "\r\n",
        "%YAML 1.2\n",
        "|2\n",
        "é",
        "\"",
        "'",
        "\u{feff}",
        "handlers:\n",
        "- url: /x\n",
        "  script: a\n",
        "runtime: python27\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_pieces_of_yaml_are_read_or_refused_and_never_panic(text in soup()) {
        if let Ok(document) = told(&text) {
            let file: Arc<str> = "app.yaml".into();
            walk(Node::root(&document, &file));
        }
    }

    #[test]
    fn a_quoted_text_is_never_changed(text in "[ -~]{0,20}") {
        let quoted = format!("'{}'", text.replace('\'', "''"));
        let document = told(&format!("k: {quoted}\n")).expect("good");
        prop_assert_eq!(&document.value["k"], &Value::from(text));
    }
}

/// Value and marks have the same shape.
fn walk(node: Node<'_>) {
    let parts = node
        .value
        .as_sequence()
        .map(Vec::len)
        .or_else(|| node.value.as_mapping().map(serde_yaml::Mapping::len));
    assert_eq!(node.items().count() + node.entries().count(), parts.unwrap_or(0));
    node.items().for_each(walk);
    node.entries().for_each(|(_, value)| walk(value));
}
