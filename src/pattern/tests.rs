//! Patterns against what Python 3.11 says of them (`tests/fixtures/patterns.jsonl`), and what must hold for all.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TABLE: &str = include_str!("../../tests/fixtures/patterns.jsonl");

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

fn matches(text: &str, subject: &str) -> bool {
    pattern(text).is_full_match(subject).unwrap()
}

#[test]
fn every_pattern_of_the_table_means_what_it_means_in_python() {
    for row in TABLE.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let written = row["pattern"].as_str().unwrap();
        let read = Pattern::parse(written);
        if row.get("refused").is_some() {
            let error = read.expect_err(written);
            if let Some(place) = row["at"].as_u64() {
                assert_eq!(error.offset as u64, place, "`{written}`: {error}");
            }
            continue;
        }
        let read = read.unwrap_or_else(|error| panic!("`{written}`: {error}"));
        let text = row["text"].as_str().unwrap();
        let groups = read.full_match(text).unwrap().map(|groups| {
            let groups = (0..=read.group_count()).map(|index| groups.get(index).map(str::to_owned));
            groups.collect::<Vec<_>>()
        });
        assert_eq!(serde_json::json!(groups), row["groups"], "`{written}` on {text:?}");
        assert_eq!(read.is_full_match(text), Ok(groups.is_some()), "`{written}` on {text:?}");
        assert_eq!(Value::from(read.starts(text).unwrap()), row["starts"], "`{written}` on {text:?}");
    }
}

#[test]
fn a_refusal_says_what_and_where_in_characters() {
    let told = |text| Pattern::parse(text).unwrap_err().to_string();
    assert_eq!(told("/é[a"), "unterminated character set at position 2");
    assert_eq!(told("/(a"), "missing ), unterminated subpattern at position 1");
    assert_eq!(told("/a**"), "multiple repeat at position 3");
    assert_eq!(told("/a(?i)"), "global flags not at the start of the expression at position 2");
    assert_eq!(
        told("(?P<n>a)(?P<n>b)"),
        "redefinition of group name `n` as group 2; was group 1 at position 12"
    );
}

#[test]
fn only_patterns_that_look_around_or_back_need_backtracking() {
    for text in ["/a|/b", "(?i)/x.*$", "/(a)(?:b)*?", r"\b/\w+", "(?x)/ a", "(a$|b)?", "(?m)^a$"] {
        assert!(!pattern(text).needs_backtracking(), "{text}");
    }
    for text in ["/(?!a).*", r"(a)\1", "(?>a)", "a++", "a$b?", r"\B", "(a)?(?(1)b)", "(?<=a)"] {
        assert!(pattern(text).needs_backtracking(), "{text}");
    }
}

#[test]
fn a_pattern_that_would_not_end_is_an_overrun_and_not_a_mismatch() {
    let bomb = pattern(r"/(a|aa)+\1?(?!x)b");
    assert_eq!(bomb.is_full_match(&format!("/{}", "a".repeat(200))), Err(Overrun));
    assert_eq!(bomb.is_full_match("/ab"), Ok(true));
}

#[test]
fn huge_repeats_are_refused_at_load() {
    for text in [
        "(?:a{1000}){1000}",
        "a{4000000000}",
        "(?:(?=a)){4000000000}a",
        r"(x?)(?:\1{9999}){9999}",
        "(?=(?:.{999}){999})",
    ] {
        let error = Pattern::parse(text).expect_err(text);
        assert!(error.message.contains("use smaller repeats"), "{error}");
    }
    assert!(Pattern::parse(&"(".repeat(5_000)).is_err());
    assert!(matches("/[^/]{1,500}", "/abc"));
}

#[test]
fn a_directory_has_the_rest_as_its_last_group() {
    let rest = |url: &str, path: &str| {
        let directory = Pattern::parse_directory(url).unwrap();
        let groups = directory.full_match(path).unwrap();
        groups.and_then(|groups| groups.get(directory.group_count()).map(str::to_owned))
    };
    assert_eq!(rest("/st", "/st/a/b").as_deref(), Some("a/b"));
    assert_eq!(rest("/st/", "/st/a").as_deref(), Some("a"));
    assert_eq!(rest("/st", "/st"), None);
    assert_eq!(rest("/st", "/st/a\nb"), None);
    assert_eq!(rest("(?s)/st", "/st/a\nb").as_deref(), Some("a\nb"));
    assert_eq!(rest("/a|/b", "/a/x").as_deref(), Some("x"));
    assert_eq!(rest("/s(a|b)", "/sb/x").as_deref(), Some("x"));
    assert_eq!(rest("(?x)/st # comment", "/st/x").as_deref(), Some("x"));
    assert_eq!(rest("/st$", "/st/x"), None);
}

#[test]
fn plain_text_is_known_as_such() {
    assert_eq!(pattern(r"/a\.b(?:c)").literal().as_deref(), Some("/a.bc"));
    for text in ["/a.", "(?i)/a", "/(a)", "/a$", "/a|/b"] {
        assert_eq!(pattern(text).literal(), None, "{text}");
    }
}

#[test]
fn templates_expand_as_in_python() {
    #[track_caller]
    fn check(template: &str, url: &str, expected: &str) {
        let url = pattern(url);
        let groups = url.full_match("a").unwrap().unwrap();
        let template = Template::parse(template);
        match template.expand(&groups) {
            Ok(text) => assert_eq!((text.as_ref(), template.fits(&url)), (expected, Ok(()))),
            Err(error) => {
                assert_eq!(error.to_string(), expected);
                assert_eq!(template.fits(&url), Err(error));
            }
        }
    }
    check("x/\\1", "(a)", "x/a");
    check("\\2x", "(a)(b)?", "x");
    check("\\g<1>0\\g<0>", "(a)", "a0a");
    check("\\g<n>", "(?P<n>a)", "a");
    check("\\101\\07\\08", "(a)", "A\u{7}\u{0}8");
    check("\\.\\\\\\n\\/", "a", "\\.\\\n\\/");
    check("\\2", "(a)", "the url has no group 2");
    check("\\10", "(a)", "the url has no group 10");
    check("\\g<x>", "(a)", "the url has no group named `x`");
    check("\\400", "(a)", "octal escape value \\400 outside of range 0-0o377 at position 0");
    check("\\q", "(a)", "bad escape \\q at position 0");
    check("a\\", "(a)", "bad escape (end of pattern) at position 1");
    check("\\g", "(a)", "missing < at position 2");
    check("\\g<a b>", "(a)", "bad character in group name `a b` at position 3");
}

#[test]
fn a_template_without_groups_is_known_as_such() {
    let literal = |text: &str| Template::parse(text).literal().map(str::to_owned);
    assert_eq!(literal("main.app").as_deref(), Some("main.app"));
    assert_eq!(literal("a\\\\b").as_deref(), Some("a\\b"));
    assert_eq!(literal("").as_deref(), Some(""));
    assert_eq!(literal("a\\1"), None);
    assert_eq!(literal("\\q"), None);
}

#[test]
fn a_covering_pattern_is_found_and_none_is_made_up() {
    let covered =
        |later: &str, earlier: &str| Cover::new(&pattern(earlier)).covers(&Cover::new(&pattern(later)), b'/');
    assert!(covered("/a", "/.*"));
    assert!(covered("/a/.*", "/.*"));
    assert!(covered(".*", "/.*"));
    assert!(covered("/x", "/x"));
    assert!(covered("/a/b", "/a/[a-z]"));
    assert!(covered("/(?!x).*", "/.*"));
    assert!(covered("/(?!x)y", "/(?!x)y"));
    assert!(covered("/a+", "/(a|aa)+"));
    assert!(!covered("/.*", "/a"));
    assert!(!covered("/[^x]*", "/.*"), "a newline is not for the dot");
    assert!(!covered("/y", "/(?!x).*"), "not sure is not covered");
    assert!(!covered("/a.*", "/a/.*"));
}

/// Texts made of what patterns are made of.
fn patternish() -> impl Strategy<Value = String> {
    let parts = [
        "a", "b", "/", "é", ".", "*", "+", "?", "{2}", "{,1}", "{", "}", "(", ")", "(?:", "(?=", "(?!",
        "(?<=", "(?P<n>", "(?P=n)", "(?i)", "(?i:", "(?>", "(?(1)", "[", "]", "[^", "-", "|", "^", "$",
        "\\1", "\\d", "\\w", "\\b", "\\B", "\\Z", "\\x41", "\\", "\n", "#",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn nothing_read_or_matched_panics(text in patternish(), subject in "[ab/é\n]{0,8}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            let full = pattern.full_match(&subject).map(|groups| groups.is_some());
            prop_assert_eq!(full, pattern.is_full_match(&subject));
            let _ = pattern.starts(&subject);
            let _ = Pattern::parse_directory(&text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Pattern::parse(&text);
        let _ = Template::parse(&text).fits(&pattern("(a)"));
    }

    #[test]
    fn a_full_match_is_also_a_start(text in patternish(), subject in "[ab/\n]{0,6}") {
        if let Ok(pattern) = Pattern::parse(&text)
            && pattern.is_full_match(&subject) == Ok(true)
        {
            prop_assert_ne!(pattern.starts(&subject), Ok(false));
        }
    }

    #[test]
    fn the_union_agrees_with_a_loop(
        texts in proptest::collection::vec(patternish(), 0..8), subject in "/[ab/\n]{0,6}"
    ) {
        let patterns: Vec<_> = texts.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
        let union = Union::new(patterns.iter()).unwrap();
        let loops: Vec<usize> = (0..patterns.len())
            .filter(|&at| !patterns[at].needs_backtracking() && patterns[at].is_full_match(&subject) == Ok(true))
            .collect();
        prop_assert_eq!(union.first(&subject), Ok(loops.first().copied()));
        prop_assert_eq!(union.all(&subject), Ok(loops));
    }

    #[test]
    fn what_is_covered_never_matches_alone(
        earlier in patternish(), later in patternish(), subject in "/[ab/\n]{0,6}"
    ) {
        if let (Ok(earlier), Ok(later)) = (Pattern::parse(&earlier), Pattern::parse(&later))
            && Cover::new(&earlier).covers(&Cover::new(&later), b'/')
            && later.is_full_match(&subject) == Ok(true)
        {
            prop_assert_ne!(earlier.is_full_match(&subject), Ok(false));
        }
    }
}
