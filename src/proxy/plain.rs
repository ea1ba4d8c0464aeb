//! The short way of a plain request to a worker and back: HTTP/1.1, a body of known length or none, nothing that
//! changes the connection. One loop carries both directions, without a task or a channel between them, over our own
//! kept connections (`upstream`). Pingora still reads the client and writes to it.
//!
//! Every step in the loop may be dropped half-way without losing a byte. What went wrong is judged by `failure`, for
//! both ways alike.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{Method, Version};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{BODY_REST, Exchange, Gateway, failure};
use crate::door;
use crate::upstream::{Body, Framing, Head, Malformed, Reading, Stream, Writing, parse};

/// Room for an answer's head and a small body.
const FIRST_READ: usize = 8 * 1024;
/// Room for what follows: larger pieces cost fewer system calls, this much for each answer under way.
const NEXT_READ: usize = 128 * 1024;

impl Gateway {
    /// Carries a plain request to a worker and the answer back.
    pub(super) async fn plain(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<()> {
        loop {
            match self.attempt(session, exchange).await {
                Err(error) if error.retry() => {}
                result => return result,
            }
        }
    }

    async fn attempt(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<()> {
        let lease = self.lease(session, exchange).await?;
        let seat = Arc::clone(lease.seat());
        exchange.lease = Some(lease);
        // Only what does no harm twice is sent on a connection that may just be closing.
        let harmless = failure::harmless_twice(session.req_header());
        let kept = self.connections.take(&seat).filter(|stream| harmless || stream.is_open());
        let reused = kept.is_some();
        let mut head = self.head(session, exchange);
        let mut stream = match kept {
            Some(stream) => stream,
            None => match self.connections.open(&seat, exchange.site.connect_timeout, &head).await {
                Ok((stream, sent)) => {
                    head.advance(sent);
                    stream
                }
                Err(error) if failure::is_ours(&error) => {
                    return Err(failure::no_descriptor(exchange));
                }
                Err(error) => {
                    let error = Error::because(ErrorType::ConnectError, "connecting to a worker", error);
                    return Err(failure::unreachable(exchange, error.into_up()));
                }
            },
        };
        self.connected(exchange, reused);
        let mut carrier = Carrier::new(&mut stream, head, session);
        let carried = carrier.run(self, session, exchange).await;
        let in_order = carrier.leaves_order();
        match carried {
            Ok(()) if in_order => self.connections.give(&seat, stream),
            Ok(()) => {
                drop(stream);
                discard(session).await;
            }
            Err(error) => return Err(failure::interrupted(session, exchange, error, reused)),
        }
        Ok(())
    }

    /// The request head as it goes to the worker, with what there is of the body.
    fn head(&self, session: &ServerSession, exchange: &Exchange) -> Bytes {
        let request = session.req_header();
        let mut head = Vec::with_capacity(2048);
        head.extend_from_slice(request.method.as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(request.raw_path());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let facts = exchange.facts(request);
        let stripped = exchange.site.policy.write(&mut head, request.version, &request.headers, &facts);
        self.count_stripped(stripped);
        head.extend_from_slice(b"\r\n");
        // Of a body, as much as was read before a worker was asked for.
        if let Some(body) = session.get_retry_buffer() {
            head.extend_from_slice(&body);
        }
        head.extend_from_slice(&exchange.early);
        Bytes::from(head)
    }
}

/// One request on its way to a worker, and the answer on its way back.
struct Carrier<'a> {
    reading: Reading<'a>,
    writing: Writing<'a>,
    /// What of the request has come and must still be sent.
    unsent: Bytes,
    /// All of the request has come.
    request_done: bool,
    /// All of it was sent, so far as it came.
    sent_well: bool,
    /// What of the answer has come and was not passed on.
    buffer: BytesMut,
    /// After the answer's head.
    body: Option<Body>,
    keep: bool,
    /// The client is watched for its leaving.
    watching: bool,
    /// The last step forward.
    moved: Instant,
}

/// What happened next.
enum Event {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Client(Result<Option<Bytes>>),
    Late,
}

impl<'a> Carrier<'a> {
    fn new(stream: &'a mut Stream, head: Bytes, session: &mut ServerSession) -> Self {
        let (reading, writing) = stream.split();
        Self {
            reading,
            writing,
            unsent: head,
            request_done: session.is_body_done(),
            sent_well: true,
            buffer: BytesMut::with_capacity(FIRST_READ),
            body: None,
            keep: false,
            watching: true,
            moved: Instant::now(),
        }
    }

    fn is_done(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_done)
    }

    /// Whether the connection may carry another request: everything was said on both sides, and nothing more.
    fn leaves_order(&self) -> bool {
        self.keep && self.sent_well && self.request_done && self.unsent.is_empty() && self.buffer.is_empty()
    }

    async fn run(
        &mut self,
        gateway: &Gateway,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let limit = exchange.site.request_timeout;
        let mut late = pin!(sleep_until(self.moved + limit));
        while !self.is_done() {
            match self.next(session, late.as_mut()).await {
                Event::Read(Ok(0)) => self.ended()?,
                Event::Read(Ok(_)) => self.answer(gateway, session, exchange).await?,
                Event::Read(Err(error)) => {
                    return Err(Error::because(ErrorType::ReadError, "reading an answer", error).into_up());
                }
                Event::Wrote(Ok(count)) => self.unsent.advance(count),
                Event::Wrote(Err(_)) => {
                    // It hung up on the request; what it had to say may have come before.
                    self.watching = self.request_done;
                    (self.sent_well, self.request_done) = (false, true);
                    self.unsent.clear();
                }
                Event::Client(Ok(piece)) => self.client_sent(session, exchange, piece)?,
                Event::Client(Err(error)) if *error.etype() == ErrorType::ConnectError => {
                    // Pingora's word for a second request before the first is answered. That one is answered, then
                    // the connection ends.
                    self.watching = false;
                    session.set_keepalive(None);
                }
                Event::Client(Err(error)) => return Err(error.into_down()),
                Event::Late => {
                    // While the client is the one who is waited for, pingora's time-out for it counts.
                    if !self.request_done && self.unsent.is_empty() {
                        self.moved = Instant::now();
                    }
                    let due = self.moved + limit;
                    if due <= Instant::now() {
                        return Err(Error::explain(ErrorType::ReadTimedout, "the worker is silent").into_up());
                    }
                    late.as_mut().reset(due);
                    continue;
                }
            }
            self.moved = Instant::now();
        }
        Ok(())
    }

    async fn next(&mut self, session: &mut ServerSession, late: Pin<&mut Sleep>) -> Event {
        let Self { reading, writing, unsent, request_done, buffer, body, watching, .. } = self;
        let room = if body.is_some() { NEXT_READ } else { FIRST_READ };
        if buffer.capacity() - buffer.len() < room / 2 {
            buffer.reserve(room);
        }
        tokio::select! {
            biased;
            wrote = writing.write(unsent), if !unsent.is_empty() => Event::Wrote(wrote),
            read = reading.read(buffer) => Event::Read(read),
            piece = session.read_body_or_idle(*request_done),
                if *watching && unsent.is_empty() => Event::Client(piece),
            () = late => Event::Late,
        }
    }

    /// A piece of the request body came, or its end.
    fn client_sent(
        &mut self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        piece: Option<Bytes>,
    ) -> Result<()> {
        self.request_done = piece.is_none() || session.is_body_done();
        if let (true, Some(visitor)) = (self.request_done, door::of(session)) {
            visitor.body_over();
        }
        if let Some(piece) = piece {
            exchange.received(piece.len(), false)?;
            self.unsent = piece;
        }
        Ok(())
    }

    /// The worker closed the connection.
    fn ended(&mut self) -> Result<()> {
        self.keep = false;
        match &mut self.body {
            Some(body) => body.end().map_err(malformed),
            None => Err(Error::explain(ErrorType::ConnectionClosed, "no answer came").into_up()),
        }
    }

    /// Something of the answer came: passes on what there is.
    async fn answer(
        &mut self,
        gateway: &Gateway,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<()> {
        while self.body.is_none() {
            let bodiless = session.req_header().method == Method::HEAD;
            let Some(Head { mut header, framing, keep }) =
                parse(&mut self.buffer, bodiless).map_err(malformed)?
            else {
                return Ok(());
            };
            match header.status.as_u16() {
                // Nothing was asked that it could answer.
                100 => continue,
                101 => return Err(malformed(Malformed("it changes protocols unasked"))),
                _ => {}
            }
            if framing == Framing::Close {
                header.set_version(Version::HTTP_11);
                header.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
            gateway.began(session, exchange, &mut header)?;
            let last = !header.status.is_informational();
            session.write_response_header(header).await.map_err(|error| error.into_down())?;
            if last {
                (self.body, self.keep) = (Some(Body::new(framing)), keep);
            }
        }
        let Some(body) = &mut self.body else { return Ok(()) };
        exchange.moved();
        while let Some(piece) = body.next(&mut self.buffer).map_err(malformed)? {
            let end = body.is_done();
            let written = session.write_response_body(piece, end).await;
            written.map_err(|error| error.into_down())?;
        }
        Ok(())
    }
}

/// Reads what is left of the request, so that closing does not take the answer from the client's hands.
async fn discard(session: &mut ServerSession) {
    if !session.is_body_done() {
        session.set_keepalive(None);
        // Late or broken, it ends here.
        let _ = timeout(BODY_REST, session.drain_request_body()).await;
    }
}

fn malformed(error: Malformed) -> Box<Error> {
    Error::because(ErrorType::InvalidHTTPHeader, "reading an answer", error).into_up()
}
