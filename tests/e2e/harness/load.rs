//! Load that counts honestly: clients, a thread each, that send requests one after another and verify every
//! answer to its last byte.
//!
//! A request is *lost* when it was written on a connection that had been accepted and got no complete answer.
//! Three things are not losses and are counted apart: a connection that was refused before anything was sent, a
//! kept connection that was found closed before the next request was written, and one that was closed in the very
//! moment in which the request was written: then the kernel answers a reset after the end of the stream, which
//! proves that nobody ever read the request.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Proxy, wait_for};

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the kernel may take to tell of a reset.
const RESET: Duration = Duration::from_millis(200);
/// Bytes of an answer that a failure shows.
const SHOWN: usize = 200;

/// One request and the one right answer to it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// GET or POST.
    pub method: &'static str,
    /// The target.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
    /// What the body of an answer with status 200 must be.
    pub expected: Expected,
}

/// A body.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Byte for byte.
    Exactly(Vec<u8>),
    /// A text with this in it.
    With(&'static str),
}

impl Ask {
    /// A GET of the fixture `workers`: `size` bytes that only this request can have asked for.
    pub fn get(mark: &str, size: usize) -> Self {
        Self::echo("GET", "echo", mark, size)
    }

    /// The same in chunks.
    pub fn chunked(mark: &str, size: usize) -> Self {
        Self::echo("GET", "chunks", mark, size)
    }

    /// A POST whose body must come back.
    pub fn post(mark: &str, size: usize) -> Self {
        Self::echo("POST", "echo", mark, size)
    }

    fn echo(method: &'static str, what: &str, mark: &str, size: usize) -> Self {
        let data: Vec<u8> = mark.bytes().cycle().take(size).collect();
        let body = if method == "POST" { data.clone() } else { Vec::new() };
        Self { method, path: format!("/{what}/{mark}/{size}"), body, expected: Expected::Exactly(data) }
    }

    /// Every third a POST, every fifth in chunks, of many sizes.
    pub fn mixed(client: usize, number: u64) -> Self {
        let mark = format!("c{client}n{number}");
        let size = [1, 100, 3000, 20_000][usize::try_from(number % 4).unwrap_or(0)];
        match number {
            number if number % 5 == 0 => Self::chunked(&mark, size),
            number if number % 3 == 0 => Self::post(&mark, size),
            _ => Self::get(&mark, size),
        }
    }

    /// GETs only.
    pub fn gets(client: usize, number: u64) -> Self {
        Self::get(&format!("c{client}n{number}"), [1, 500, 9000][usize::try_from(number % 3).unwrap_or(0)])
    }

    fn bytes(&self, close: bool) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.path);
        if self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        [head.as_bytes(), &self.body].concat()
    }

    fn is_right(&self, body: &[u8]) -> bool {
        match &self.expected {
            Expected::Exactly(expected) => expected == body,
            Expected::With(text) => String::from_utf8_lossy(body).contains(text),
        }
    }
}

/// How a client treats its connections.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// One for as long as it lasts, without a pause.
    Kept,
    /// A new one for each request.
    Fresh,
    /// One for as long as it lasts, mostly idle.
    Idling,
    /// A request in every such time, however long answers take: an open loop as long as they take less.
    Paced(Duration),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Complete answers by status.
    pub answered: BTreeMap<u16, u64>,
    /// Complete answers by worker (the fixture's `X-Worker`).
    pub workers: BTreeMap<String, u64>,
    /// Answers with `Connection: close` that the client had not asked for.
    pub told_to_close: u64,
    /// Connections refused before anything was sent.
    pub refused: u64,
    /// Kept connections found closed before the next request was written.
    pub idle_closed: u64,
    /// Kept connections closed before the request that was just written could be read.
    pub crossed: u64,
    /// Answers with status 200 whose body was not what was asked for.
    pub wrong: Vec<String>,
    /// Requests written and not answered completely.
    pub lost: Vec<String>,
    /// The longest time to an answer.
    pub slowest: Duration,
    /// The same by status.
    pub slowest_of: BTreeMap<u16, Duration>,
    /// The time to each answer.
    pub times: Vec<Duration>,
}

impl Report {
    /// All complete answers.
    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Answers with this status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.answered.get(&status).copied().unwrap_or(0)
    }

    /// The time within which so many of a hundred answers came.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Fails unless every request was answered, rightly, with 200.
    #[track_caller]
    pub fn expect_all_good(&self, proxy: &Proxy) {
        self.expect_none_lost(proxy);
        assert_eq!(self.with_status(200), self.total(), "{self}\n{}", proxy.output());
    }

    /// Fails unless every request got a complete and right answer.
    #[track_caller]
    pub fn expect_none_lost(&self, proxy: &Proxy) {
        assert!(self.lost.is_empty() && self.wrong.is_empty(), "{self}\n{}", proxy.output());
        assert!(self.total() > 0, "there was no load: {self}");
    }

    /// As [`Report::expect_none_lost`], but for answers that had begun when their worker was killed: the rest of one is nowhere
    /// to be had, and the log tells of each.
    pub fn expect_only_cut(&self, proxy: &Proxy) {
        let cut = |line: &&Value| line["status"] == 200 && line["reason"] == "upstream_reset";
        let cut = proxy.access().iter().filter(cut).count();
        let none_lost = self.wrong.is_empty() && self.lost.len() <= cut;
        assert!(none_lost && self.total() > 0, "{cut} cut: {self}\n{}", proxy.output());
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.answered {
            *self.answered.entry(status).or_default() += count;
        }
        for (worker, count) in other.workers {
            *self.workers.entry(worker).or_default() += count;
        }
        self.told_to_close += other.told_to_close;
        self.refused += other.refused;
        self.idle_closed += other.idle_closed;
        self.crossed += other.crossed;
        self.wrong.extend(other.wrong);
        self.lost.extend(other.lost);
        self.slowest = self.slowest.max(other.slowest);
        for (status, slowest) in other.slowest_of {
            let known = self.slowest_of.entry(status).or_default();
            *known = slowest.max(*known);
        }
        self.times.extend(other.times);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "answered {:?} by workers {:?}; {} told to close; refused {}, closed while idle {}, crossed {}; \
             slowest {:?}; {} wrong, {} LOST",
            self.answered,
            self.workers,
            self.told_to_close,
            self.refused,
            self.idle_closed,
            self.crossed,
            self.slowest,
            self.wrong.len(),
            self.lost.len()
        )?;
        self.wrong.iter().chain(&self.lost).take(10).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
}

/// Clients at work. Stops when dropped.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Report>>,
}

impl Load {
    /// So many clients: of four, two keep a busy connection, one opens a new one for each request, one keeps an
    /// idle one.
    pub fn start(proxy: &Proxy, clients: usize, ask: fn(usize, u64) -> Ask) -> Self {
        Self::with_habits(proxy, clients, &[Habit::Kept, Habit::Fresh, Habit::Kept, Habit::Idling], ask)
    }

    /// So many clients, each of which keeps a busy connection.
    pub fn kept(proxy: &Proxy, clients: usize, ask: fn(usize, u64) -> Ask) -> Self {
        Self::with_habits(proxy, clients, &[Habit::Kept], ask)
    }

    /// So many clients that together send so many requests a second, whatever the answers are.
    pub fn paced(proxy: &Proxy, clients: usize, a_second: f64, ask: fn(usize, u64) -> Ask) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred clients")]
        let every = Duration::from_secs_f64(clients as f64 / a_second);
        Self::with_habits(proxy, clients, &[Habit::Paced(every)], ask)
    }

    fn with_habits(proxy: &Proxy, clients: usize, habits: &[Habit], ask: fn(usize, u64) -> Ask) -> Self {
        let shared = Arc::<Shared>::default();
        let address = proxy.socket_address();
        let start = |(number, habit): (usize, &Habit)| {
            let client = Client {
                number,
                habit: *habit,
                address,
                ask,
                shared: Arc::clone(&shared),
                link: None,
                report: Report::default(),
            };
            std::thread::spawn(move || client.run())
        };
        let clients = (0..clients).zip(habits.iter().cycle()).map(start).collect();
        Self { shared, clients }
    }

    /// Waits until so many more requests were answered.
    #[track_caller]
    pub fn wait_answered(&self, more: u64) {
        let goal = self.shared.answered.load(Ordering::SeqCst) + more;
        wait_for(
            &format!("{more} more requests are answered"),
            || self.shared.answered.load(Ordering::SeqCst) >= goal,
            || format!("{} of {goal}", self.shared.answered.load(Ordering::SeqCst)),
        );
    }

    /// Lets every client finish its request.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut whole = Report::default();
        for client in self.clients.drain(..) {
            whole.add(client.join().expect("a client"));
        }
        whole
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

struct Client {
    number: usize,
    habit: Habit,
    address: SocketAddr,
    ask: fn(usize, u64) -> Ask,
    shared: Arc<Shared>,
    link: Option<Link>,
    report: Report,
}

impl Client {
    fn run(mut self) -> Report {
        let mut next = Instant::now();
        for number in 0.. {
            if self.shared.stop.load(Ordering::SeqCst) {
                break;
            }
            if matches!(self.habit, Habit::Idling) {
                std::thread::sleep(Duration::from_millis(30));
            }
            if let Habit::Paced(every) = self.habit {
                // Not all at once.
                next += if number == 0 { every.mul_f64(fraction(self.number)) } else { every };
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            let Some(link) = self.open() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            self.send(link, &(self.ask)(self.number, number));
        }
        self.report
    }

    fn open(&mut self) -> Option<Link> {
        if let Some(link) = self.link.take() {
            if link.is_open() {
                return Some(link);
            }
            self.report.idle_closed += 1;
        }
        match Link::open(self.address) {
            Ok(link) => Some(link),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::TimedOut) => {
                self.report.refused += 1;
                None
            }
            Err(error) => {
                self.report.lost.push(format!("client {}: cannot connect: {error}", self.number));
                None
            }
        }
    }

    fn send(&mut self, mut link: Link, ask: &Ask) {
        let close = matches!(self.habit, Habit::Fresh);
        let began = Instant::now();
        match link.exchange(&ask.bytes(close)) {
            Ok(answer) => {
                self.shared.answered.fetch_add(1, Ordering::SeqCst);
                self.report.slowest = self.report.slowest.max(began.elapsed());
                let slowest = self.report.slowest_of.entry(answer.status).or_default();
                *slowest = began.elapsed().max(*slowest);
                self.report.times.push(began.elapsed());
                *self.report.answered.entry(answer.status).or_default() += 1;
                if answer.status == 200 {
                    *self.report.workers.entry(answer.worker.clone()).or_default() += 1;
                    if !ask.is_right(&answer.body) {
                        self.report.wrong.push(format!("{} {}: {answer}", ask.method, ask.path));
                    }
                }
                self.report.told_to_close += u64::from(answer.close && !close);
                if !answer.close && !close {
                    link.used = true;
                    self.link = Some(link);
                }
            }
            Err(_) if link.used && link.got.is_empty() && link.was_never_read() => self.report.crossed += 1,
            Err(error) => self.report.lost.push(format!(
                "client {} ({:?}), {} {} on a {} connection after {:?}: {error}, got {:?}",
                self.number,
                self.habit,
                ask.method,
                ask.path,
                if link.used { "kept" } else { "new" },
                began.elapsed(),
                String::from_utf8_lossy(&link.got[..link.got.len().min(SHOWN)])
            )),
        }
    }
}

/// Different for each client, from 0 to 1.
fn fraction(number: usize) -> f64 {
    f64::from(u32::try_from(number * 37 % 64).unwrap_or(0)) / 64.0
}

struct Answer {
    status: u16,
    worker: String,
    close: bool,
    body: Vec<u8>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]).into_owned();
        write!(f, "{} with {} bytes, {start:?}", self.status, self.body.len())
    }
}

struct Link {
    stream: TcpStream,
    /// What came since the last request was written.
    got: Vec<u8>,
    used: bool,
}

impl Link {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, got: Vec::new(), used: false })
    }

    /// Whether the other side has not closed it yet.
    fn is_open(&self) -> bool {
        let look = || -> io::Result<usize> {
            self.stream.set_nonblocking(true)?;
            let seen = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            seen
        };
        matches!(look(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// After the end of the stream without an answer: whether the other side had closed before our request came.
    /// Then the request was answered by a reset, which the kernel reports as a broken pipe because the end of
    /// the stream was there first.
    fn was_never_read(&self) -> bool {
        let end = Instant::now() + RESET;
        while Instant::now() < end {
            if let Ok(Some(error)) = self.stream.take_error() {
                return error.kind() == ErrorKind::BrokenPipe;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.got.clear();
        // An answer may come before all is written.
        let written = self.stream.write_all(request);
        let head = match (self.until(b"\r\n\r\n", 0), written) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        let text = String::from_utf8_lossy(&self.got[..head]).into_owned();
        let status = text.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("not an answer"))?;
        let header = |wanted: &str| {
            let mut pairs = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
            pairs
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim().to_owned())
        };
        let body = match (header("transfer-encoding"), header("content-length")) {
            (Some(_), _) => self.chunks(head + 4)?,
            (None, Some(length)) => {
                let length: usize = length.parse().map_err(io::Error::other)?;
                self.need(head + 4 + length)?;
                self.got[head + 4..head + 4 + length].to_vec()
            }
            (None, None) => return Err(io::Error::other("an answer without a length")),
        };
        Ok(Answer {
            status,
            worker: header("x-worker").unwrap_or_default(),
            close: header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
            body,
        })
    }

    fn chunks(&mut self, mut at: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.until(b"\r\n", at)?;
            let size = usize::from_str_radix(&String::from_utf8_lossy(&self.got[at..end]), 16)
                .map_err(io::Error::other)?;
            self.need(end + 2 + size + 2)?;
            body.extend_from_slice(&self.got[end + 2..end + 2 + size]);
            at = end + 2 + size + 2;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn until(&mut self, mark: &[u8], from: usize) -> io::Result<usize> {
        loop {
            let rest = self.got.get(from..).unwrap_or_default();
            if let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
                return Ok(from + at);
            }
            self.fill()?;
        }
    }

    fn need(&mut self, count: usize) -> io::Result<()> {
        while self.got.len() < count {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 32 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "closed")),
            count => {
                self.got.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}
