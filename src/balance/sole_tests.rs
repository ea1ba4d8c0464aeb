//! Whose a line is: only when it can be nobody else's.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prometheus::IntGauge;

use super::*;
use crate::balance::{Address, Seat};

fn asked(id: u64) -> Asked {
    let text = format!("{id:032x}").into_bytes().try_into().unwrap();
    Asked { request: text, trace: text, span: id, sampled: id % 2 == 1 }
}

/// An open seat, and the pipe that its worker would print to.
fn listened() -> (Arc<Seat>, PipeReader, PipeWriter) {
    let seat = Arc::new(Seat::new(0, 1, Address::Unix(PathBuf::from("/s")), None));
    let (reader, writer) = std::io::pipe().unwrap();
    let (quiet, _) = std::io::pipe().unwrap();
    let ends = [reader.try_clone().unwrap().into(), quiet.into()];
    seat.listen(Pipes { ends, read: Arc::default() });
    seat.open(IntGauge::new("gauge", "help").unwrap());
    (seat, reader, writer)
}

fn begin(seat: &Seat, id: u64, now: Instant) {
    let load = seat.open_load().unwrap();
    assert!(seat.claim(load));
    seat.begun(&asked(id), now);
}

fn sole(seat: &Seat) -> Option<u64> {
    seat.sole().filter(|found| found.printed.is_none()).map(|found| {
        assert_eq!(found.asked, asked(found.asked.span), "torn");
        found.asked.span
    })
}

#[test]
fn a_request_alone_from_its_beginning_is_known_until_anything_begins_or_ends() {
    let (seat, _reader, _writer) = listened();
    let later = || Instant::now() + QUIET;
    assert_eq!(sole(&seat), None, "nothing is there");
    begin(&seat, 1, later());
    assert_eq!(sole(&seat), Some(1));
    begin(&seat, 2, later());
    assert_eq!(sole(&seat), None, "two are there");
    seat.release(1);
    assert_eq!(sole(&seat), None, "one is left, and nobody knows which");
    seat.release(2);
    assert_eq!(sole(&seat), None);
    begin(&seat, 3, later());
    assert_eq!(sole(&seat), Some(3));
    let first = seat.sole().unwrap().number;
    seat.release(3);
    begin(&seat, 4, later());
    assert_eq!(sole(&seat), Some(4));
    assert_ne!(seat.sole().unwrap().number, first, "each has its own number");
}

#[test]
fn who_begins_while_something_unread_is_in_the_pipe_is_not_known() {
    let (seat, mut reader, mut writer) = listened();
    let now = Instant::now() + Duration::from_secs(3600);
    writer.write_all(b"late\n").unwrap();
    begin(&seat, 1, now);
    assert_eq!(sole(&seat), None);
    seat.release(1);
    reader.read_exact(&mut [0; 5]).unwrap();
    begin(&seat, 2, now);
    assert_eq!(sole(&seat), Some(2));
}

#[test]
fn what_was_printed_before_the_end_is_known_after_it() {
    let (seat, mut reader, mut writer) = listened();
    let now = Instant::now() + Duration::from_secs(3600);
    begin(&seat, 1, now);
    writer.write_all(b"mine\n").unwrap();
    seat.release(1);
    writer.write_all(b"late\n").unwrap();
    let ended = seat.sole().unwrap();
    assert_eq!((ended.asked, ended.printed), (asked(1), Some([5, 0])));
    // Who begins now is not known, and changes nothing of that.
    begin(&seat, 2, now);
    assert_eq!(seat.sole(), Some(ended));
    seat.release(2);
    assert_eq!(seat.sole(), Some(ended));
    reader.read_exact(&mut [0; 10]).unwrap();
    begin(&seat, 3, now);
    assert_eq!(sole(&seat), Some(3));
    // Another one comes before it ends.
    begin(&seat, 4, now);
    seat.release(3);
    seat.release(4);
    assert_eq!(seat.sole(), None);
}

#[test]
fn who_comes_right_after_another_is_not_known() {
    let (seat, _reader, _writer) = listened();
    begin(&seat, 1, Instant::now());
    seat.release(1);
    let ended = Instant::now();
    begin(&seat, 2, ended);
    assert_eq!(sole(&seat), None, "the first may have something more to say");
    seat.release(2);
    begin(&seat, 3, Instant::now() + QUIET);
    assert_eq!(sole(&seat), Some(3));
}

#[test]
fn a_worker_without_pipes_has_no_lines() {
    let seat = Seat::new(0, 1, Address::Unix(PathBuf::from("/s")), None);
    seat.open(IntGauge::new("gauge", "help").unwrap());
    begin(&seat, 1, Instant::now());
    assert_eq!(sole(&seat), None);
}

#[test]
fn threads_that_come_and_go_never_show_a_torn_id_or_one_that_has_gone() {
    const THREADS: usize = 3;
    let (seat, _reader, _writer) = listened();
    let (over, here) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; THREADS]);
    let mut seen = 0;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (seat, over, here) = (&seat, &over, &here[thread]);
            scope.spawn(move || {
                // So far ahead that each has been quiet for long enough.
                let now = Instant::now() + Duration::from_secs(3600);
                let mut id = thread as u64;
                while !over.load(Ordering::Relaxed) {
                    let Some(load) = seat.open_load() else { continue };
                    if !seat.claim(load) {
                        continue;
                    }
                    id += THREADS as u64;
                    here.store(id, Ordering::SeqCst);
                    seat.begun(&asked(id), now);
                    std::thread::yield_now();
                    here.store(0, Ordering::SeqCst);
                    seat.release(id);
                    std::thread::yield_now();
                }
            });
        }
        let began = Instant::now();
        let enough = |seen| seen > 0 && began.elapsed() > Duration::from_millis(500);
        while !enough(seen) && began.elapsed() < Duration::from_secs(30) {
            // Between two looks that agree, the request was there all the time.
            let first = seat.sole();
            let there = here.each_ref().map(|id| id.load(Ordering::SeqCst));
            let second = seat.sole();
            let (Some(Alone { number, asked: one, printed: None }), Some(again)) = (first, second) else {
                continue;
            };
            assert_eq!(one, asked(one.span), "torn");
            if number == again.number && again.printed.is_none() {
                let leaving = there[usize::try_from(one.span).unwrap() % THREADS] == 0;
                let others = there.iter().filter(|id| **id != 0 && **id != one.span).count();
                assert!(leaving || there.contains(&one.span), "{one:?} is not among {there:?}");
                assert_eq!(others, 0, "{one:?} is not alone: {there:?}");
                seen += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen > 0, "never was one alone");
}
