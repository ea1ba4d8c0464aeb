//! Asks a worker until it answers.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::balance::Address;

/// Between two tries.
const STEP: Duration = Duration::from_millis(50);
/// For one connection.
const CONNECT: Duration = Duration::from_secs(1);
/// For one answer of a health check. A hook is not repeated, so it has all the time there is.
const ANSWER: Duration = Duration::from_secs(5);
/// More than any status line.
const HEAD: usize = 64;

/// One thing a worker must do before it is given requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Accept a connection.
    Connect,
    /// Answer 200 to 399, sooner or later. Also asked again later of upstreams that are attached.
    Health(Request),
    /// App Engine's `/_ah/start`: asked once; 200 to 299 and 404 mean ready, all else that it cannot start.
    Start(Request),
    /// App Engine's `/_ah/warmup`: asked once; any answer is fine.
    Warmup(Request),
}

/// A GET request of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The request target, beginning with `/`.
    pub path: String,
    /// Further header fields, such as the ones only the proxy may send.
    pub headers: Vec<(String, String)>,
}

impl Check {
    fn request(&self) -> Option<&Request> {
        match self {
            Self::Connect => None,
            Self::Health(request) | Self::Start(request) | Self::Warmup(request) => Some(request),
        }
    }

    fn accepts(&self, status: u16) -> bool {
        match self {
            Self::Connect | Self::Warmup(_) => true,
            Self::Health(_) => (200..400).contains(&status),
            Self::Start(_) => status == 404 || (200..300).contains(&status),
        }
    }

    /// Whether a worker that does not give the right answer may be asked again.
    fn repeats(&self) -> bool {
        matches!(self, Self::Connect | Self::Health(_))
    }
}

/// A program that somebody else runs, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `host:port`; the name is looked up whenever it is asked.
    Host(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Upstream {
    /// Where it may be right now.
    async fn addresses(&self) -> io::Result<Vec<Address>> {
        match self {
            Self::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
            Self::Host(name) => Ok(lookup_host(name.as_str()).await?.map(Address::Tcp).collect()),
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What stands between a worker and its first request.
#[derive(Debug)]
pub(super) struct Failure {
    /// `timeout` or `refused`: the `result` label.
    pub(super) result: &'static str,
    /// For the log.
    pub(super) what: String,
}

/// Resolves when the worker has passed every check, or when it did not within `limit`.
pub(super) async fn until_ready(address: &Address, checks: &[Check], limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let connect = [Check::Connect];
    for check in if checks.is_empty() { &connect } else { checks } {
        loop {
            let until = if check.repeats() { deadline.min(Instant::now() + ANSWER) } else { deadline };
            let what = match within(until, ask(address, check.request())).await {
                Ok(status) if check.accepts(status) => break,
                Ok(status) => {
                    let what = format!("{} answered {status}", path(check));
                    if !check.repeats() {
                        return Err(Failure { result: "refused", what });
                    }
                    what
                }
                // Something went wrong after the question was asked: a hook is not asked twice.
                Err(error) if !check.repeats() && !is_early(&error) => {
                    return Err(Failure { result: "refused", what: format!("{}: {error}", path(check)) });
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() + STEP >= deadline {
                let what = format!("not ready within {limit:?}: {what}");
                return Err(Failure { result: "timeout", what });
            }
            sleep(STEP).await;
        }
    }
    Ok(())
}

/// Asks something of which any answer is fine.
pub(super) async fn tell(address: &Address, request: &Request, limit: Duration) -> io::Result<()> {
    within(Instant::now() + limit, ask(address, Some(request))).await.map(drop)
}

/// One look at an attached upstream: the first of its addresses that passes.
pub(super) async fn look(upstream: &Upstream, checks: &[Check]) -> io::Result<Address> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{upstream}` has no address"));
    for address in within(Instant::now() + ANSWER, upstream.addresses()).await? {
        match pass(&address, health(checks)).await {
            Ok(()) => return Ok(address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether an attached upstream still is where it was, and passes.
pub(super) async fn look_again(upstream: &Upstream, at: &Address, checks: &[Check]) -> io::Result<()> {
    // A name that cannot be looked up just now is no reason to leave an upstream that answers.
    let known = within(Instant::now() + ANSWER, upstream.addresses()).await.unwrap_or_default();
    if !known.is_empty() && !known.contains(at) {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("`{upstream}` has moved")));
    }
    pass(at, health(checks)).await
}

fn health(checks: &[Check]) -> &Check {
    checks.iter().find(|check| matches!(check, Check::Health(_))).unwrap_or(&Check::Connect)
}

async fn pass(address: &Address, health: &Check) -> io::Result<()> {
    match within(Instant::now() + ANSWER, ask(address, health.request())).await? {
        status if health.accepts(status) => Ok(()),
        status => Err(io::Error::other(format!("{} answered {status}", path(health)))),
    }
}

async fn within<T>(until: Instant, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(until, what).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn path(check: &Check) -> &str {
    check.request().map_or("the connection", |request| &request.path)
}

/// Nobody has read our question yet.
fn is_early(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionRefused | K::NotFound | K::WouldBlock | K::AddrInUse)
}

/// Connects, and asks if there is something to ask: the status of the answer, 0 without a question.
async fn ask(address: &Address, request: Option<&Request>) -> io::Result<u16> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    match address {
        Address::Tcp(to) => exchange(timeout(CONNECT, tcp(*to)).await.map_err(timed_out)??, request).await,
        Address::Unix(path) => {
            exchange(timeout(CONNECT, UnixStream::connect(path)).await.map_err(timed_out)??, request).await
        }
    }
}

async fn tcp(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    // A port of the range the kernel picks from may be picked for our own end: then we are talking to ourselves.
    if stream.local_addr()? == to {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Option<&Request>,
) -> io::Result<u16> {
    let Some(Request { path, headers }) = request else { return Ok(0) };
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: compat-proxy\r\nConnection: close\r\n"
    );
    // Every request has one of its own: the launcher's callbacks and logs go by it.
    head.push_str(&format!("X-Cloud-Trace-Context: {:032x}/{}\r\n", fastrand::u128(..), fastrand::u64(..)));
    head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if let Some(status) = status(&answer) {
            return Ok(status);
        }
        if answer.len() > HEAD || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"));
        }
    }
}

/// The number in `HTTP/1.1 200 …`.
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok()
}
