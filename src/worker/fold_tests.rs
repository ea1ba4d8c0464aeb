//! Which lines belong together. Nothing is ever lost, and nothing changes its place.

use proptest::prelude::*;

use super::*;

fn read(now: Instant) -> Read {
    Read { at: SystemTime::UNIX_EPOCH, now, asked: None }
}

fn folded(lines: &[&str]) -> Vec<(String, bool)> {
    let now = Instant::now();
    let (mut fold, mut entries) = (Fold::default(), Vec::new());
    let mut out = |entry: Entry| entries.push((String::from_utf8(entry.text).unwrap(), entry.traceback));
    for line in lines {
        fold.line(line.as_bytes().to_vec(), read(now), &mut out);
    }
    fold.release(&mut out);
    entries
}

/// `text` is one entry, and a traceback, whatever stands around it.
#[track_caller]
fn is_one(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let around: Vec<&str> = ["before"].into_iter().chain(lines.iter().copied()).chain(["after"]).collect();
    let expected = [("before", false), (text, true), ("after", false)];
    assert_eq!(folded(&around), expected.map(|(text, traceback)| (text.to_owned(), traceback)));
    assert_eq!(folded(&lines), [(text.to_owned(), true)]);
}

const PLAIN: &str = "Traceback (most recent call last):
  File \"main.py\", line 3, in <module>
    fail()
    ~~~~^^
  [Previous line repeated 995 more times]
ValueError: no";

#[test]
fn a_traceback_is_one_entry() {
    is_one(PLAIN);
    is_one(
        "Traceback (most recent call last):\n  File \"x.py\", line 1\n    a b\n      ^\nSyntaxError: invalid syntax",
    );
    is_one("Traceback (most recent call last):\n  File \"x.py\", line 1, in f\nKeyboardInterrupt");
}

#[test]
fn what_it_was_caused_by_belongs_to_it() {
    let during = "During handling of the above exception, another exception occurred:";
    let cause = "The above exception was the direct cause of the following exception:";
    is_one(&format!("{PLAIN}\n\n{during}\n\n{PLAIN}\n\n{cause}\n\n{PLAIN}"));
}

#[test]
fn a_loggers_message_belongs_to_the_traceback_it_announces() {
    is_one(&format!("ERROR:root:it failed\n{PLAIN}"));
    is_one(&format!("[2024-05-01 12:00:00 +0000] [7] [ERROR] Error handling request /x\n{PLAIN}"));
    is_one(&format!("Internal Server Error: /x\n{PLAIN}"));
    is_one(&format!("Exception in thread Thread-1 (run):\n{PLAIN}"));
    // Two that have nothing to do with each other.
    let lines: Vec<&str> = ["GET /x 200"].into_iter().chain(PLAIN.lines()).chain(PLAIN.lines()).collect();
    assert_eq!(folded(&lines), [("GET /x 200".into(), false), (PLAIN.into(), true), (PLAIN.into(), true)]);
}

#[test]
fn a_group_of_exceptions_is_one_entry() {
    let group = "  + Exception Group Traceback (most recent call last):
  |   File \"x.py\", line 1, in <module>
  |     raise ExceptionGroup(\"two\", [ValueError(1), TypeError(2)])
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File \"x.py\", line 2, in f
    | ValueError: 1
    |\u{20}
    | During handling of the above exception, another exception occurred:
    |\u{20}
    | TypeError: x
    +---------------- 2 ----------------
    | TypeError: 2
    +------------------------------------";
    assert_eq!(folded(&group.lines().collect::<Vec<_>>()), [(group.to_owned(), true)]);
    is_one(&format!("ERROR:root:it failed\n{group}"));
    let joined = "During handling of the above exception, another exception occurred:";
    is_one(&format!("{PLAIN}\n\n{joined}\n\n{group}"));
}

#[test]
fn indented_lines_belong_to_the_line_before_and_others_do_not() {
    let entries = folded(&["a", "  b", "\tc", "d", "", "e", "{\"f\": 1}", "  g", "", "h"]);
    let texts: Vec<&str> = entries.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["a\n  b\n\tc", "d", "", "e", "{\"f\": 1}", "  g", "", "h"]);
    assert!(entries.iter().all(|(_, traceback)| !traceback));
}

#[test]
fn an_empty_line_after_a_traceback_is_no_part_of_it() {
    let lines: Vec<&str> = PLAIN.lines().chain(["", "next", "", ""]).collect();
    let texts: Vec<String> = folded(&lines).into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, [PLAIN, "", "next", "", ""]);
    let lines: Vec<&str> = PLAIN.lines().chain([""]).collect();
    assert_eq!(folded(&lines), [(PLAIN.to_owned(), true), (String::new(), false)]);
}

#[test]
fn a_request_is_that_of_all_lines_or_of_none() {
    let asked = |number| {
        Some((number, Asked { request: [b'0'; 32], trace: [b'0'; 32], span: number, sampled: false }))
    };
    for (second, whose) in [(asked(1), Some(1)), (asked(2), None), (None, None)] {
        let (mut fold, mut entries) = (Fold::default(), Vec::new());
        let mut out = |entry: Entry| entries.push(entry.asked.map(|(number, _)| number));
        let now = Instant::now();
        fold.line(b"a".to_vec(), Read { asked: asked(1), ..read(now) }, &mut out);
        fold.line(b" b".to_vec(), Read { asked: second, ..read(now) }, &mut out);
        fold.release(&mut out);
        assert_eq!(entries, [whose]);
    }
}

#[test]
fn nothing_is_held_for_long_and_no_entry_is_larger_than_allowed() {
    let start = Instant::now();
    let (mut fold, mut entries) = (Fold::default(), Vec::new());
    let mut out = |entry: Entry| entries.push(entry);
    assert_eq!(fold.due(), None);
    fold.line(b"a".to_vec(), read(start), &mut out);
    assert_eq!(fold.due(), Some(start + QUIET));
    fold.line(b" b".to_vec(), read(start + MOST - QUIET / 2), &mut out);
    assert_eq!(fold.due(), Some(start + MOST), "however it drips");
    fold.release(&mut out);
    assert_eq!(fold.due(), None);
    fold.line(HEADER.to_vec(), read(start), &mut out);
    assert_eq!(fold.due(), Some(start + QUIET_TRACEBACK));
    for _ in 0..100 {
        fold.line(vec![b' '; 1000], read(start), &mut out);
    }
    fold.release(&mut out);
    assert!(entries.iter().all(|entry| entry.text.len() <= LONGEST));
    assert_eq!(entries.len(), 3);
    assert!(entries[2].traceback, "the rest of a traceback is one, too");
}

fn any_line() -> impl Strategy<Value = String> {
    let during = CONNECTORS[0];
    prop_oneof![
        Just(String::from_utf8_lossy(HEADER).into_owned()),
        Just(String::from_utf8_lossy(during).into_owned()),
        Just("  + Exception Group Traceback (most recent call last):".to_owned()),
        Just("  File \"x.py\", line 1".to_owned()),
        Just("ERROR:root:x".to_owned()),
        Just("{\"a\": 1}".to_owned()),
        Just(String::new()),
        "[ a]{0,5}",
    ]
}

proptest! {
    #[test]
    fn the_entries_one_after_another_are_the_lines(lines in prop::collection::vec(any_line(), 0..40)) {
        let borrowed: Vec<&str> = lines.iter().map(String::as_str).collect();
        let texts: Vec<String> = folded(&borrowed).into_iter().map(|(text, _)| text).collect();
        prop_assert_eq!(texts.join("\n"), lines.join("\n"));
        prop_assert_eq!(texts.is_empty(), lines.is_empty());
    }
}
