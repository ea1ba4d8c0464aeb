//! Ranges as written against ranges as sent.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::Wanted::{Part, Unsatisfiable, Whole};
use super::*;

fn of(line: &str, length: u64) -> Wanted {
    let mut request = HeaderMap::new();
    request.insert(RANGE, HeaderValue::from_str(line).unwrap());
    wanted(&request, length, |_| true)
}

#[test]
fn one_range_is_a_part() {
    assert_eq!(of("bytes=0-0", 10), Part { first: 0, last: 0 });
    assert_eq!(of("bytes=2-5", 10), Part { first: 2, last: 5 });
    assert_eq!(of("bytes=2-", 10), Part { first: 2, last: 9 });
    assert_eq!(of("bytes=-3", 10), Part { first: 7, last: 9 });
    assert_eq!(of("bytes=-30", 10), Part { first: 0, last: 9 });
    assert_eq!(of("bytes=9-99999999999999999999", 10), Part { first: 9, last: 9 });
    assert_eq!(of("BYTES= 1-2 ,", 10), Part { first: 1, last: 2 });
}

#[test]
fn what_lies_beyond_the_end_is_416() {
    assert_eq!(of("bytes=10-", 10), Unsatisfiable);
    assert_eq!(of("bytes=10-20", 10), Unsatisfiable);
    assert_eq!(of("bytes=99999999999999999999-", 10), Unsatisfiable);
    assert_eq!(of("bytes=-0", 10), Unsatisfiable);
    assert_eq!(of("bytes=0-", 0), Unsatisfiable);
}

#[test]
fn everything_else_gets_the_whole() {
    let lines = [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=,",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1",
        "lines=0-1",
        "bytes=0-1,3-4",
        "bytes =0-1",
        "bytes=0-1-2",
        "bytes=--1",
        "bytes=0x1-2",
        "bytes=1 - 2",
    ];
    for line in lines {
        assert_eq!(of(line, 10), Whole, "{line}");
    }
    assert_eq!(of("bytes=-5", 0), Whole);
}

#[test]
fn if_range_is_asked_only_where_there_is_a_range() {
    assert_eq!(wanted(&HeaderMap::new(), 10, |_| unreachable!("no range")), Whole);
    let mut request = HeaderMap::new();
    request.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
    assert_eq!(wanted(&request, 10, |_| false), Whole);
    request.append(RANGE, HeaderValue::from_static("bytes=0-1"));
    assert_eq!(wanted(&request, 10, |_| unreachable!("two lines")), Whole);
}

proptest! {
    #[test]
    fn a_part_is_never_empty_and_never_leaves_the_file(
        line in "(bytes=)?[0-9]{0,20}-?[0-9]{0,20}(,[0-9]{0,3}-[0-9]{0,3})?",
        length in 0_u64..200,
    ) {
        if let Part { first, last } = of(&line, length) {
            prop_assert!(first <= last && last < length);
        }
    }
}
