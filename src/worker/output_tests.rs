//! Bytes into lines and entries, none lost, and nobody held up.

use std::sync::Mutex;

use prometheus::Opts;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

fn counter() -> IntCounterVec {
    IntCounterVec::new(Opts::new("dropped", "lines"), &["stream"]).expect("valid metric")
}

fn source(stream: Stream) -> Source {
    Source { slot: 0, pid: 1, stream, seat: Arc::default(), read: Arc::default() }
}

type Seen = Arc<Mutex<Vec<(String, bool)>>>;

fn keeping() -> (Output, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let sink = move |line: Line<'_>| {
        kept.lock().unwrap().push((String::from_utf8_lossy(line.text).into_owned(), line.traceback));
    };
    (Output::new(Arc::new(sink), counter()), seen)
}

async fn pumped(input: &[u8]) -> Vec<String> {
    let (output, seen) = keeping();
    output.clone().pump(source(Stream::Stdout), input).await;
    output.flush().await;
    let seen = seen.lock().unwrap();
    seen.iter().map(|(text, _)| text.clone()).collect()
}

#[tokio::test]
async fn lines_come_out_one_by_one_and_the_last_needs_no_line_feed() {
    assert_eq!(pumped(b"a\r\n\n\xff\nend").await, ["a", "", "\u{fffd}", "end"]);
}

#[tokio::test]
async fn a_line_without_end_is_cut_and_nothing_of_it_is_lost() {
    let input = vec![b'x'; LONGEST * 2 + 10];
    let lengths: Vec<_> = pumped(&input).await.iter().map(String::len).collect();
    assert_eq!(lengths, [LONGEST, LONGEST, 10]);
    // What is indented after it is no continuation of a piece.
    let input = [vec![b'x'; LONGEST], b"\n  y\n z\n".to_vec()].concat();
    let texts = pumped(&input).await;
    assert_eq!(texts[1..], ["  y\n z"]);
    assert_eq!(texts[0].len(), LONGEST);
}

#[tokio::test]
async fn a_sink_that_hangs_never_holds_up_the_worker() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let dropped = counter();
    let output = Output::new(
        Arc::new(move |_: Line<'_>| {
            let _ = held.lock().unwrap().recv();
        }),
        dropped.clone(),
    );
    let input = b"line\n".repeat(LINES * 2);
    output.clone().pump(source(Stream::Stderr), &input[..]).await;
    assert!(dropped.with_label_values(&["stderr"]).get() >= u64::try_from(LINES).unwrap() - 1);
    drop(release);
}

#[tokio::test]
async fn what_is_held_comes_out_after_a_moment_of_silence() {
    let (output, seen) = keeping();
    let (mut worker, pipe) = tokio::io::duplex(1024);
    let pump = tokio::spawn(output.clone().pump(source(Stream::Stderr), pipe));
    let began = Instant::now();
    worker
        .write_all(b"Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: x\n")
        .await
        .unwrap();
    while seen.lock().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is held for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = "Traceback (most recent call last):\n  File \"x.py\", line 1\nValueError: x";
    assert_eq!(*seen.lock().unwrap(), [(text.to_owned(), true)]);
    drop(worker);
    pump.await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

fn any_bytes() -> impl Strategy<Value = String> {
    let words =
        ["Traceback (most recent call last):\n", "\n", "  indented\n", "ValueError: x\n", "\r\n", "a", " "];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..30).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn entries_are_the_lines_however_the_bytes_come(text in any_bytes(), cuts in prop::collection::vec(1_usize..20, 0..40)) {
        let read = Read { at: SystemTime::now(), now: Instant::now(), asked: None };
        let (mut lines, mut entries) = (Lines::default(), Vec::new());
        let mut out = |entry: Entry| entries.push(String::from_utf8(entry.text).unwrap());
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            lines.cut(piece, read, 0, &mut out);
            rest = more;
        }
        lines.cut(rest, read, 0, &mut out);
        lines.end(&mut out);
        let expected: Vec<&str> = text.lines().collect();
        prop_assert_eq!(entries.join("\n"), expected.join("\n"));
    }
}
