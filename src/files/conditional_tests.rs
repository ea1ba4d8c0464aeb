//! Every row of the order of RFC 9110, section 13.2.2, over one file.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use proptest::prelude::*;

use super::Verdict::{Failed, NotModified, Proceed};
use super::*;

const BEFORE: &str = "Sat, 01 Jan 2022 00:00:00 GMT";
const THEN: &str = "Sun, 02 Jan 2022 00:00:00 GMT";
const AFTER: &str = "Mon, 03 Jan 2022 00:00:00 GMT";

fn ours(tag: &'static str) -> Validators {
    let modified = httpdate::parse_http_date(THEN).ok();
    Validators { tag: Some(HeaderValue::from_static(tag)), modified }
}

fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut request = HeaderMap::new();
    for (name, value) in fields {
        request.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    request
}

#[track_caller]
fn check(fields: &[(HeaderName, &str)], verdict: Verdict) {
    assert_eq!(evaluate(&request(fields), &ours("\"a,b\"")), verdict, "{fields:?}");
}

#[test]
fn without_conditions_the_file_is_sent() {
    check(&[], Proceed);
}

#[test]
fn if_match_wants_the_very_tag() {
    check(&[(IF_MATCH, "\"a,b\"")], Proceed);
    check(&[(IF_MATCH, "*")], Proceed);
    check(&[(IF_MATCH, "\"x\", \"a,b\"")], Proceed);
    check(&[(IF_MATCH, "\"x\""), (IF_MATCH, "\"a,b\"")], Proceed);
    check(&[(IF_MATCH, "\"x\"")], Failed);
    check(&[(IF_MATCH, "W/\"a,b\"")], Failed);
    check(&[(IF_MATCH, "")], Failed);
    check(&[(IF_MATCH, "\"a\"")], Failed);
}

#[test]
fn if_unmodified_since_counts_only_without_if_match() {
    check(&[(IF_UNMODIFIED_SINCE, BEFORE)], Failed);
    check(&[(IF_UNMODIFIED_SINCE, THEN)], Proceed);
    check(&[(IF_UNMODIFIED_SINCE, AFTER)], Proceed);
    check(&[(IF_UNMODIFIED_SINCE, "yesterday")], Proceed);
    check(&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_MATCH, "*")], Proceed);
}

#[test]
fn if_none_match_compares_weakly() {
    check(&[(IF_NONE_MATCH, "\"a,b\"")], NotModified);
    check(&[(IF_NONE_MATCH, "W/\"a,b\"")], NotModified);
    check(&[(IF_NONE_MATCH, " * ")], NotModified);
    check(&[(IF_NONE_MATCH, "\"x\",W/\"y\" , W/\"a,b\"")], NotModified);
    check(&[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a,b\"")], NotModified);
    check(&[(IF_NONE_MATCH, "\"x\"")], Proceed);
    check(&[(IF_NONE_MATCH, "\"a,b")], Proceed);
    check(&[(IF_NONE_MATCH, ",,")], Proceed);
}

#[test]
fn if_modified_since_counts_only_without_if_none_match() {
    check(&[(IF_MODIFIED_SINCE, BEFORE)], Proceed);
    check(&[(IF_MODIFIED_SINCE, THEN)], NotModified);
    check(&[(IF_MODIFIED_SINCE, AFTER)], NotModified);
    check(&[(IF_MODIFIED_SINCE, "1641081600")], Proceed);
    check(&[(IF_MODIFIED_SINCE, THEN), (IF_MODIFIED_SINCE, THEN)], Proceed);
    check(&[(IF_MODIFIED_SINCE, AFTER), (IF_NONE_MATCH, "\"x\"")], Proceed);
}

#[test]
fn a_failed_if_match_comes_before_a_304() {
    check(&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a,b\"")], Failed);
    check(&[(IF_MATCH, "\"a,b\""), (IF_NONE_MATCH, "\"a,b\"")], NotModified);
    check(&[(IF_UNMODIFIED_SINCE, BEFORE), (IF_MODIFIED_SINCE, AFTER)], Failed);
}

#[test]
fn the_three_forms_of_a_date_are_read() {
    check(&[(IF_MODIFIED_SINCE, "Sunday, 02-Jan-22 00:00:00 GMT")], NotModified);
    check(&[(IF_MODIFIED_SINCE, "Sun Jan  2 00:00:00 2022")], NotModified);
}

#[test]
fn a_weak_tag_of_the_app_never_matches_strongly() {
    let validators = ours("W/\"v1\"");
    assert_eq!(evaluate(&request(&[(IF_MATCH, "W/\"v1\"")]), &validators), Failed);
    assert_eq!(evaluate(&request(&[(IF_NONE_MATCH, "\"v1\"")]), &validators), NotModified);
}

#[test]
fn without_validators_only_the_star_matches() {
    let none = Validators::default();
    assert_eq!(evaluate(&request(&[(IF_NONE_MATCH, "\"a\"")]), &none), Proceed);
    assert_eq!(evaluate(&request(&[(IF_NONE_MATCH, "*")]), &none), NotModified);
    assert_eq!(evaluate(&request(&[(IF_MATCH, "\"a\"")]), &none), Failed);
    assert_eq!(evaluate(&request(&[(IF_MODIFIED_SINCE, AFTER)]), &none), Proceed);
}

#[test]
fn if_range_holds_for_the_very_tag_or_the_very_date() {
    let now = httpdate::parse_http_date(AFTER).unwrap();
    let holds = |value: &str| if_range(&request(&[(IF_RANGE, value)]), &ours("\"t\""), now);
    assert!(if_range(&request(&[]), &ours("\"t\""), now));
    assert!(holds("\"t\""));
    assert!(holds(THEN));
    for other in ["\"x\"", "W/\"t\"", BEFORE, AFTER, "", "t", "*"] {
        assert!(!holds(other), "{other}");
    }
    // Changed in this very second: it may change again in it.
    let at_once = httpdate::parse_http_date(THEN).unwrap() + Duration::from_millis(500);
    assert!(!if_range(&request(&[(IF_RANGE, THEN)]), &ours("\"t\""), at_once));
    assert!(!if_range(&request(&[(IF_RANGE, "\"t\""), (IF_RANGE, "\"t\"")]), &ours("\"t\""), UNIX_EPOCH));
}

proptest! {
    #[test]
    fn no_field_value_breaks_the_reading_of_tags(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let mut request = HeaderMap::new();
        request.insert(IF_NONE_MATCH, value.clone());
        request.insert(IF_RANGE, value);
        let _ = evaluate(&request, &ours("\"t\""));
        let _ = if_range(&request, &ours("\"t\""), UNIX_EPOCH);
    }

    #[test]
    fn our_tag_is_found_in_any_list(
        before in prop::collection::vec("(W/)?\"[a-z,]{0,5}\"", 0..5),
        after in prop::collection::vec("(W/)?\"[a-z,]{0,5}\"", 0..5),
        comma in "[ \t]{0,2},[ \t]{0,2}",
    ) {
        let mut all = before;
        all.push("\"our-own\"".to_owned());
        all.extend(after);
        let line = all.join(&comma);
        let verdict = evaluate(&request(&[(IF_NONE_MATCH, &line)]), &ours("\"our-own\""));
        prop_assert_eq!(verdict, NotModified, "{}", line);
    }
}
