//! One connection of a client as pingora sees it: its bytes pass through, and while pingora waits for some of them, it is
//! known for what it waits and how long it may.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::entrance::{peer, see_off};
use super::farewell::Cause;
use super::patience::{Awaited, Patience};
use super::rest::Rest;
use super::sending::Sending;
use super::{HEAD_MOST, HEAD_TIME, Ticket};
use crate::headers::line::Line;

/// Bytes of room for a head that an idle connection keeps.
const PAST_KEPT: usize = 1024;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// No byte of the next request has come.
    Idle,
    /// Some have.
    Head,
    /// The head is known, its body is not all there.
    Body,
    /// All of the request is there.
    Answer,
    /// A websocket: it may be silent for as long as it likes.
    Tunnel,
    /// HTTP/2, which counts its own streams.
    Frames,
}

impl Stage {
    const ALL: [Self; 6] = [Self::Idle, Self::Head, Self::Body, Self::Answer, Self::Tunnel, Self::Frames];
}

/// The connection of a session of HTTP/1; none for HTTP/2, where many share one.
#[must_use]
pub fn of(session: &ServerSession) -> Option<&Visitor> {
    (**session.stream()?).as_any().downcast_ref()
}

/// Ends the connection of a session whose head cannot be read; the client is told why.
pub fn refuse(session: ServerSession) {
    if let Some(mut visitor) = take(session) {
        visitor.cause.get_or_insert(Cause::Unreadable);
    }
}

fn take(session: ServerSession) -> Option<Box<Visitor>> {
    let ServerSession::H1(session) = session else { return None };
    session.into_inner().into_any().downcast().ok()
}

/// The same request as if nobody had read it, when nothing more than its head was looked at.
#[must_use]
pub fn unread(session: ServerSession, keep_alive: Option<u64>) -> Option<ServerSession> {
    let mut visitor = take(session)?;
    let past = std::mem::take(&mut visitor.past);
    visitor.back.splice(..0, past);
    visitor.expect_head();
    let mut session = ServerSession::new_http1(visitor);
    session.set_keepalive(keep_alive);
    Some(session)
}

/// A connection.
pub struct Visitor {
    /// Taken when it is dropped.
    pub(super) stream: Option<Stream>,
    ticket: Option<Ticket>,
    stage: AtomicU8,
    /// The request has a worker, which waits with us.
    leased: AtomicBool,
    /// It is counted among those that keep their worker waiting.
    stalls: AtomicBool,
    /// Counts requests, so that what was known of the one before is forgotten.
    round: AtomicU32,
    /// When the first byte of the head came, if the rest did not come at once.
    began: Option<Instant>,
    /// What is to be read again: of the preface of HTTP/2, or of a request that was read once.
    pub(super) back: Vec<u8>,
    /// What was read since the first byte of the head, with what came of the body at once.
    past: Vec<u8>,
    sending: Sending,
    rest: Rest,
    reading: Waiting,
    writing: Waiting,
    /// Why it ends without a request.
    cause: Option<Cause>,
    answered: bool,
}

/// What one direction waits for.
#[derive(Default)]
struct Waiting {
    round: u32,
    patience: Patience,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    /// Arms the timer where it is not, and asks it.
    fn is_due(&mut self, cx: &mut Context<'_>, at: impl FnOnce() -> Instant) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at())));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Looks at the waiting, if it is time to: whether the client is still waited for. `round` is the request.
    fn goes_on(&mut self, cx: &mut Context<'_>, round: u32, awaited: Awaited, leased: bool) -> bool {
        if self.round != round {
            *self = Self { round, ..Self::default() };
        }
        let pause = Patience::pause(leased);
        while self.is_due(cx, || Instant::now() + pause) {
            self.timer = None;
            if !self.patience.look(awaited, pause) {
                return false;
            }
        }
        true
    }
}

impl Visitor {
    pub(super) fn new(stream: Stream, ticket: Ticket) -> Self {
        Self {
            stream: Some(stream),
            ticket: Some(ticket),
            stage: AtomicU8::new(Stage::Idle as u8),
            leased: AtomicBool::new(false),
            stalls: AtomicBool::new(false),
            round: AtomicU32::new(0),
            began: None,
            back: Vec::new(),
            past: Vec::new(),
            sending: Sending::default(),
            rest: Rest::default(),
            reading: Waiting::default(),
            writing: Waiting::default(),
            cause: None,
            answered: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        let stage = self.stage.load(Ordering::Relaxed);
        Stage::ALL.get(usize::from(stage)).copied().unwrap_or(Stage::Answer)
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The next request is awaited.
    pub fn expect_head(&self) {
        self.moves();
        self.round.fetch_add(1, Ordering::Relaxed);
        self.leased.store(false, Ordering::Relaxed);
        self.enter(Stage::Idle);
    }

    /// The head is known; `more`: its body is not all there.
    pub fn decided(&self, more: bool) {
        self.enter(if more { Stage::Body } else { Stage::Answer });
    }

    /// The request has a worker now.
    pub fn leased(&self) {
        self.leased.store(true, Ordering::Relaxed);
    }

    /// The body is all there.
    pub fn body_over(&self) {
        if self.stage() == Stage::Body {
            self.enter(Stage::Answer);
        }
    }

    /// It has become a websocket.
    pub fn upgraded(&self) {
        self.enter(Stage::Tunnel);
    }

    /// Whether the request line held a control character, which the parser mends before anybody sees it.
    #[must_use]
    pub fn has_odd_line(&self) -> bool {
        Line::of(&self.past).odd
    }

    fn is_leased(&self) -> bool {
        // A websocket holds its worker whatever moves; streams of HTTP/2 are not ours to tell apart.
        self.leased.load(Ordering::Relaxed) && !matches!(self.stage(), Stage::Tunnel | Stage::Frames)
    }

    /// Notes whether the client stalls a worker; whether it may go on doing so.
    fn may_stall(&self, stalls: bool) -> bool {
        let stalls = stalls && self.is_leased();
        let Some(Ticket(door)) = &self.ticket else { return true };
        match (self.stalls.swap(stalls, Ordering::Relaxed), stalls) {
            (false, true) => drop(door.stalled.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(door.stalled.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        !stalls || !door.is_besieged()
    }

    /// Something moved.
    fn moves(&self) {
        if self.stalls.load(Ordering::Relaxed) {
            self.may_stall(false);
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.back.is_empty() {
            let count = self.back.len().min(buffer.remaining());
            buffer.put_slice(&self.back[..count]);
            self.back.drain(..count);
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_read(cx, buffer),
            None => Poll::Ready(Ok(())),
        }
    }

    fn read_head(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let idle = self.stage() == Stage::Idle;
        if !idle && self.past.len() > HEAD_MOST {
            return self.give_up(Cause::TooLarge);
        }
        let before = buffer.filled().len();
        if self.take(cx, buffer).is_pending() {
            // Before its first byte a connection is idle.
            if idle {
                self.past.clear();
                self.past.shrink_to(PAST_KEPT);
                let round = self.round.load(Ordering::Relaxed);
                // The end of the connection, as if the client had closed it.
                return if self.rest.is_over(cx, round) { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            return if self.is_late(cx) { self.give_up(Cause::TooSlow) } else { Poll::Pending };
        }
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            if idle {
                self.past.clear();
                self.began = None;
                self.reading = Waiting::default();
                self.enter(Stage::Head);
            }
            self.past.extend_from_slice(new);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the head's time is over. Most heads come at once, and no clock is asked.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let began = *self.began.get_or_insert_with(Instant::now);
        self.reading.is_due(cx, || began + HEAD_TIME)
    }

    /// Ends the connection; when pingora lets go of it, the client is told why.
    fn give_up<T>(&mut self, cause: Cause) -> Poll<io::Result<T>> {
        self.cause = Some(cause);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn read_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.take(cx, buffer).is_pending() {
            let (round, leased) = (self.round.load(Ordering::Relaxed), self.is_leased());
            let goes_on = self.reading.goes_on(cx, round, Awaited::Body, leased);
            if goes_on && self.may_stall(self.reading.patience.is_stall()) {
                return Poll::Pending;
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.reading.patience.moved(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }

    /// Something was written, or could not be.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(count)) => {
                self.answered = true;
                if count > 0 {
                    self.moves();
                }
                self.writing.patience.moved(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (round, leased) = (self.round.load(Ordering::Relaxed), self.is_leased());
                let goes_on = self.writing.goes_on(cx, round, Awaited::Taking, leased);
                if goes_on && self.may_stall(self.writing.patience.is_stall()) {
                    return Poll::Pending;
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let visitor = self.get_mut();
        match visitor.stage() {
            Stage::Idle | Stage::Head => visitor.read_head(cx, buffer),
            Stage::Body => visitor.read_body(cx, buffer),
            Stage::Answer | Stage::Tunnel | Stage::Frames => visitor.take(cx, buffer),
        }
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let visitor = self.get_mut();
        let Some(stream) = &mut visitor.stream else { return Poll::Ready(Ok(0)) };
        let result = visitor.sending.write(stream, cx, bytes);
        visitor.written(cx, result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let visitor = self.get_mut();
        let Some(stream) = visitor.stream.as_mut().filter(|_| visitor.cause.is_none()) else {
            return Poll::Ready(Ok(()));
        };
        let result = visitor.sending.flush(stream, cx).map_ok(|()| 0);
        ready!(visitor.written(cx, result))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let visitor = self.get_mut();
        match visitor.stream.as_mut().filter(|_| visitor.cause.is_none()) {
            Some(stream) => {
                ready!(visitor.sending.flush(stream, cx))?;
                Pin::new(stream).poll_shutdown(cx)
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Visitor {
    /// The last answer of a connection without a request, and time for the client to read an answer that came before
    /// its request was read. Pingora lets go of a connection in many ways; this is where all of them lead.
    fn drop(&mut self) {
        self.moves();
        let early = self.answered && self.stage() == Stage::Body;
        let (Some(stream), Some(ticket)) = (self.stream.take(), self.ticket.take()) else { return };
        let answer = self.cause.map(|cause| {
            let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
            ticket.0.farewell(cause, &self.past, peer(&stream), took)
        });
        if let (true, Ok(runtime)) = (early || answer.is_some(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(see_off(stream, ticket, answer));
        }
    }
}
