//! From a loaded file and its head to what is sent: which coding, 304 or 412, the whole or a part.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method};

use super::coding::{Accepted, Coding};
use super::conditional::{self, Verdict};
use super::entry::{Content, Entry};
use super::head::{Face, Head};
use super::pack::Pack;
use super::range::{self, Wanted as Span};
use super::reader::Reader;

/// What to send.
#[derive(Debug)]
pub struct Answer {
    /// 200, 206, 304, 412, 416, or 500 when the file could not be read.
    pub status: u16,
    /// `Content-Length` included (but for 304); `Date` and `Connection` are empty and the writer's to set.
    pub headers: HeaderMap,
    /// What follows the head.
    pub body: Body,
    /// How the body is packed.
    pub coding: Coding,
}

/// The bytes of an [`Answer`].
#[derive(Debug)]
pub enum Body {
    /// Nothing: HEAD, 304, 412, 416.
    None,
    /// All of it, from memory.
    Bytes(Bytes),
    /// Piece by piece, as fast as the client takes it.
    Stream(Reader),
}

/// A packed copy that is promised and not there yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Whether gzip may be made.
    pub(super) make: bool,
    /// What the request takes.
    pub(super) accepted: Accepted,
}

/// The answer, or what is missing for it.
pub(super) fn of(entry: &Entry, head: &Head, method: &Method, request: &HeaderMap) -> Result<Answer, Wanted> {
    if !head.is_negotiated() || conditional::asks_for_identity(request) {
        return Ok(whole_or_part(entry, head, method, request));
    }
    let accepted = Accepted::of(request);
    if let Some(known) = known(head, accepted, request) {
        return Ok(known);
    }
    if lacks_best(head, accepted) {
        return Err(Wanted { make: head.make, accepted });
    }
    Ok(best(entry, head, accepted, method, request))
}

/// 304 for who has the file in a coding it takes. No packed copy need be there for that.
fn known(head: &Head, accepted: Accepted, request: &HeaderMap) -> Option<Answer> {
    if !request.contains_key(IF_NONE_MATCH) {
        return None;
    }
    let has = |face: &&Face| face.validators.tag.as_ref().is_some_and(|tag| conditional::names(request, tag));
    let takes = Coding::ALL.into_iter().rev().filter(|&coding| accepted.takes(coding));
    let face = takes.filter_map(|coding| head.face(coding)).find(has)?;
    Some(Answer::not_modified(face, SystemTime::now()))
}

/// Whether what the request wants most is on offer and not there yet.
fn lacks_best(head: &Head, accepted: Accepted) -> bool {
    let best = accepted.best(|coding| head.face(coding).is_some());
    best.and_then(|best| head.face(best)).is_some_and(|face| !face.is_ready())
}

/// The answer in the coding the request wants most of those that are there. Who refuses all of them gets the file
/// as it lies: a 406 would help nobody (RFC 9110, section 12.4.1).
pub(super) fn best(
    entry: &Entry,
    head: &Head,
    accepted: Accepted,
    method: &Method,
    request: &HeaderMap,
) -> Answer {
    let ready = |coding| head.face(coding).is_some_and(Face::is_ready);
    let coding = accepted.best(ready).unwrap_or(Coding::Identity);
    let (Some(face), Pack::Ready(content, length)) = (head.face(coding), entry.pack(coding)) else {
        return whole_or_part(entry, head, method, request);
    };
    let now = SystemTime::now();
    match conditional::evaluate(request, &face.validators) {
        Verdict::Proceed => {
            let body = if *method == Method::HEAD { Body::None } else { body(content, 0, *length) };
            Answer { status: 200, headers: face.whole(now), body, coding }
        }
        Verdict::NotModified => Answer::not_modified(face, now),
        Verdict::Failed => Answer::bare(412),
    }
}

/// The answer with the file as it lies.
fn whole_or_part(entry: &Entry, head: &Head, method: &Method, request: &HeaderMap) -> Answer {
    let Some(face) = head.face(Coding::Identity) else { return Answer::bare(500) };
    let now = SystemTime::now();
    let length = entry.length();
    let wanted = if conditional::is_plain(request) {
        Span::Whole
    } else {
        match conditional::evaluate(request, &face.validators) {
            Verdict::Proceed if *method == Method::GET && head.ranges => {
                let may = |request: &HeaderMap| conditional::if_range(request, &face.validators, now);
                range::wanted(request, length, may)
            }
            Verdict::Proceed => Span::Whole,
            Verdict::NotModified => return Answer::not_modified(face, now),
            Verdict::Failed => return Answer::bare(412),
        }
    };
    let coding = Coding::Identity;
    match wanted {
        Span::Whole => {
            let body = if *method == Method::HEAD { Body::None } else { body(&entry.content(), 0, length) };
            Answer { status: 200, headers: face.whole(now), body, coding }
        }
        Span::Part { first, last } => {
            let headers = face.part(now, first, last, length);
            Answer { status: 206, headers, body: body(&entry.content(), first, last + 1 - first), coding }
        }
        Span::Unsatisfiable => {
            let mut answer = Answer::bare(416);
            answer.headers.insert(CONTENT_RANGE, range::unsatisfied(length));
            answer
        }
    }
}

impl Answer {
    /// An answer of ours that is not the file: no body, not to be kept.
    pub(super) fn bare(status: u16) -> Self {
        let headers = HeaderMap::from_iter([
            (CONTENT_LENGTH, HeaderValue::from_static("0")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ]);
        Self { status, headers, body: Body::None, coding: Coding::Identity }
    }

    fn not_modified(face: &Face, now: SystemTime) -> Self {
        Self { status: 304, headers: face.not_modified(now), body: Body::None, coding: Coding::Identity }
    }
}

/// `length` bytes from `from` on; the caller has checked them against the length.
fn body(content: &Content, from: u64, length: u64) -> Body {
    match content {
        Content::Memory(bytes) => {
            let (from, length) = (usize::try_from(from), usize::try_from(length));
            let (from, length) = (from.unwrap_or(usize::MAX), length.unwrap_or(usize::MAX));
            let end = from.saturating_add(length).min(bytes.len());
            Body::Bytes(bytes.slice(from.min(end)..end))
        }
        Content::File(file) => Body::Stream(Reader::new(std::sync::Arc::clone(file), from, length)),
    }
}
