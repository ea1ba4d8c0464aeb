//! The app behind the proxy in attach mode: a small HTTP/1.1 server in this process, a thread for each connection,
//! which remembers every request exactly as it came and answers by path:
//!
//! | path | answer |
//! |---|---|
//! | `/status/404` | that status, no body |
//! | `/answer?status=200&header=Name:value&body=text` | exactly this (percent-decoded; `header` may be repeated); `length=no` leaves the length out and closes |
//! | `/slow/300` | the echo after so many milliseconds |
//! | `/stream/5/20` | 5 chunks `piece N\n`, so many milliseconds apart |
//! | `/big/1000` | so many bytes, with a length |
//! | `/chunks/1000` | so many bytes, in chunks |
//! | `/size` | how many body bytes came, as text |
//! | `/hold` | the size, after [`Origin::release`]; until then the body is not read |
//! | `/early/403` | that status before the body is read, then the connection is closed |
//! | `/close-before-response`, `/close-in-head`, `/close-in-body`, `/reset` | what the name says |
//! | `/garbage` | not HTTP |
//! | `/websocket` | 101, then every byte comes back |
//! | `/no-upgrade` | 200 although an upgrade was asked for |
//! | any other | 200 with the request as JSON: `method`, `target`, `headers` (pairs), `body` |
//!
//! Every answer mirrors `X-Compat-Handler` and `X-Compat-Script` as `Echo-Handler` and `Echo-Script`.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A connection that stays silent for longer is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target, byte for byte (as Latin-1).
    pub target: String,
    /// The version.
    pub version: String,
    /// Names and values as received, in order.
    pub headers: Vec<(String, String)>,
    /// The body; cut to its first MiB.
    pub body: Vec<u8>,
    /// Its full length.
    pub length: u64,
    /// Whether its end came.
    pub complete: bool,
    /// The number of its connection, from 0.
    pub connection: u64,
}

impl Seen {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    open: Mutex<Vec<Link>>,
    stopped: AtomicBool,
    echo_only: AtomicBool,
    fails: AtomicBool,
    connections: AtomicU64,
    written: AtomicU64,
    released: Mutex<bool>,
    release: Condvar,
}

/// The server. Stops when dropped.
pub struct Origin {
    address: String,
    state: Arc<State>,
}

enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    fn copy(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn close(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Origin {
    /// On a TCP port of its own.
    pub fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// On this TCP address.
    pub fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self::serve(address, move || {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(READ_TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(Link::Tcp(stream))
        })
    }

    /// Every path is answered with the echo.
    pub fn echoing() -> Self {
        let origin = Self::start();
        origin.state.echo_only.store(true, Ordering::SeqCst);
        origin
    }

    /// On a unix socket.
    pub fn on_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self::serve(format!("unix:{}", path.display()), move || {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(READ_TIMEOUT))?;
            Ok(Link::Unix(stream))
        })
    }

    fn serve(address: String, accept: impl Fn() -> io::Result<Link> + Send + 'static) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok(link) = accept() {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(copy) = link.copy() else { continue };
                lock(&shared.open).push(copy);
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let number = state.connections.fetch_add(1, Ordering::SeqCst);
                    let mut visit = Visit { link, buffer: Vec::new(), state, number };
                    while visit.one().unwrap_or(false) {}
                    visit.link.close(Shutdown::Both);
                });
            }
        });
        Self { address, state }
    }

    /// `127.0.0.1:PORT` or `unix:/path`, as `--upstream` takes it.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Every request so far, oldest first. Probes for readiness are connections without a request.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// Their targets.
    pub fn targets(&self) -> Vec<String> {
        lock(&self.state.seen).iter().map(|seen| seen.target.clone()).collect()
    }

    /// Forgets them.
    pub fn clear(&self) {
        lock(&self.state.seen).clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Body bytes written so far, to all clients.
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::SeqCst)
    }

    /// Every request is answered with 503 from now on, or as ever again.
    pub fn fail(&self, fails: bool) {
        self.state.fails.store(fails, Ordering::SeqCst);
    }

    /// Lets every `/hold` go on.
    pub fn release(&self) {
        *lock(&self.state.released) = true;
        self.state.release.notify_all();
    }

    /// Closes the listener and every connection.
    pub fn stop(&self) {
        if self.state.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        // Wakes the accepting thread, which then drops the listener.
        match self.address.strip_prefix("unix:") {
            Some(path) => drop(UnixStream::connect(PathBuf::from(path))),
            None => drop(TcpStream::connect(&self.address)),
        }
        for link in lock(&self.state.open).drain(..) {
            link.close(Shutdown::Both);
        }
        self.release();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// One connection.
struct Visit {
    link: Link,
    buffer: Vec<u8>,
    state: Arc<State>,
    number: u64,
}

impl Visit {
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let count = self.link.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(())
    }

    fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let found = self.buffer[..at].to_vec();
                self.buffer.drain(..at + mark.len());
                return Ok(found);
            }
            self.fill()?;
        }
    }

    /// Serves one request; whether another may come.
    fn one(&mut self) -> io::Result<bool> {
        let head = self.until(b"\r\n\r\n")?;
        let head = latin1(&head);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let mut seen = Seen {
            method: word(),
            target: word(),
            version: word(),
            connection: self.number,
            ..Seen::default()
        };
        seen.headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        let place = {
            let mut all = lock(&self.state.seen);
            all.push(seen.clone());
            all.len() - 1
        };
        let mut path = seen.target.split('?').next().unwrap_or_default().to_owned();
        if self.state.echo_only.load(Ordering::SeqCst) {
            path.clear();
        }
        if let Some(status) = path.strip_prefix("/early/") {
            self.write_head(&seen, status.parse().unwrap_or(500), &[("Connection", "close")], Some(5))?;
            self.link.write_all(b"early")?;
            return Ok(false);
        }
        if path == "/hold" {
            let released = lock(&self.state.released);
            let _released = self
                .state
                .release
                .wait_while(released, |released| !*released)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if seen.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.link.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let end = self.read_body(&mut seen);
        seen.complete = end.is_ok();
        if let Some(kept) = lock(&self.state.seen).get_mut(place) {
            kept.clone_from(&seen);
        }
        end?;
        if self.state.fails.load(Ordering::SeqCst) {
            self.text(&seen, 503, "ill")?;
            return Ok(true);
        }
        let more = self.answer(&path, &seen)?;
        let close = seen.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(more && !close)
    }

    fn read_body(&mut self, seen: &mut Seen) -> io::Result<()> {
        if seen.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = latin1(&self.until(b"\r\n")?);
                let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(io::Error::other)?;
                self.take(size, seen)?;
                self.until(b"\r\n")?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let length = seen.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        self.take(length, seen)
    }

    fn take(&mut self, mut count: u64, seen: &mut Seen) -> io::Result<()> {
        while count > 0 {
            if self.buffer.is_empty() {
                self.fill()?;
            }
            let now = self.buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            let piece: Vec<u8> = self.buffer.drain(..now).collect();
            seen.length += piece.len() as u64;
            count -= piece.len() as u64;
            if seen.body.len() < 1024 * 1024 {
                seen.body.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    fn answer(&mut self, path: &str, seen: &Seen) -> io::Result<bool> {
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        match words[0] {
            "status" => self.write_head(seen, u16::try_from(number(1)).unwrap_or(500), &[], Some(0))?,
            "answer" => return self.dictated(seen),
            "slow" => {
                std::thread::sleep(Duration::from_millis(number(1)));
                self.echo(seen)?;
            }
            "stream" => self.stream(seen, number(1), Duration::from_millis(number(2)))?,
            "big" => {
                self.write_head(seen, 200, &[("Content-Type", "application/octet-stream")], Some(number(1)))?;
                self.bulk(seen, number(1), false)?;
            }
            "chunks" => {
                self.write_head(seen, 200, &[("Transfer-Encoding", "chunked")], None)?;
                self.bulk(seen, number(1), true)?;
            }
            "size" | "hold" => self.text(seen, 200, &seen.length.to_string())?,
            "close-before-response" => return Ok(false),
            "reset" => {
                if let Link::Tcp(stream) = &self.link {
                    let socket = socket2::SockRef::from(stream);
                    socket.set_linger(Some(Duration::ZERO))?;
                }
                return Ok(false);
            }
            "close-in-head" => {
                self.link.write_all(b"HTTP/1.1 200 OK\r\nContent-")?;
                return Ok(false);
            }
            "close-in-body" => {
                self.write_head(seen, 200, &[], Some(100))?;
                self.link.write_all(b"only this")?;
                return Ok(false);
            }
            "garbage" => {
                self.link.write_all(b"what is HTTP?\r\n\r\n")?;
                return Ok(false);
            }
            "websocket" => return self.websocket(seen),
            _ => self.echo(seen)?,
        }
        Ok(true)
    }

    fn write_head(
        &mut self,
        seen: &Seen,
        status: u16,
        headers: &[(&str, &str)],
        length: Option<u64>,
    ) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        for (from, to) in [("x-compat-handler", "Echo-Handler"), ("x-compat-script", "Echo-Script")] {
            if let Some(value) = seen.header(from) {
                let _ = write!(head, "{to}: {value}\r\n");
            }
        }
        if let Some(length) = length
            && !matches!(status, 204 | 304)
        {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        head.push_str("\r\n");
        // Values are Latin-1, as they came.
        let bytes: Vec<u8> = head.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect();
        self.link.write_all(&bytes)
    }

    fn text(&mut self, seen: &Seen, status: u16, text: &str) -> io::Result<()> {
        self.write_head(seen, status, &[("Content-Type", "text/plain")], Some(text.len() as u64))?;
        if seen.method == "HEAD" { Ok(()) } else { self.link.write_all(text.as_bytes()) }
    }

    fn echo(&mut self, seen: &Seen) -> io::Result<()> {
        let text = serde_json::json!({
            "method": seen.method, "target": seen.target, "version": seen.version,
            "headers": seen.headers, "body": latin1(&seen.body), "connection": seen.connection,
        })
        .to_string();
        self.write_head(seen, 200, &[("Content-Type", "application/json")], Some(text.len() as u64))?;
        if seen.method == "HEAD" { Ok(()) } else { self.link.write_all(text.as_bytes()) }
    }

    fn dictated(&mut self, seen: &Seen) -> io::Result<bool> {
        let query = seen.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let decoded = |text: &str| -> String {
            percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        let find =
            |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let status = find("status").and_then(|status| status.parse().ok()).unwrap_or(200);
        let body = find("body").unwrap_or_default().as_bytes().to_vec();
        let headers: Vec<(&str, &str)> = pairs
            .iter()
            .filter(|(name, _)| name == "header")
            .filter_map(|(_, value)| value.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let with_length = find("length") != Some("no");
        self.write_head(seen, status, &headers, with_length.then_some(body.len() as u64))?;
        if seen.method != "HEAD" {
            self.link.write_all(&body)?;
        }
        Ok(with_length)
    }

    fn stream(&mut self, seen: &Seen, pieces: u64, pause: Duration) -> io::Result<()> {
        self.write_head(seen, 200, &[("Transfer-Encoding", "chunked")], None)?;
        for piece in 0..pieces {
            let text = format!("piece {piece}\n");
            self.link.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
            std::thread::sleep(pause);
        }
        self.link.write_all(b"0\r\n\r\n")
    }

    fn bulk(&mut self, seen: &Seen, count: u64, chunked: bool) -> io::Result<()> {
        if seen.method == "HEAD" {
            return Ok(());
        }
        let block: Vec<u8> = (0..64 * 1024_u32).map(|at| b'a' + (at % 26) as u8).collect();
        let mut left = count;
        while left > 0 {
            let now = left.min(block.len() as u64);
            let piece = &block[..usize::try_from(now).unwrap_or(0)];
            if chunked {
                self.link.write_all(format!("{now:x}\r\n").as_bytes())?;
            }
            self.link.write_all(piece)?;
            if chunked {
                self.link.write_all(b"\r\n")?;
            }
            self.state.written.fetch_add(now, Ordering::SeqCst);
            left -= now;
        }
        if chunked { self.link.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }

    fn websocket(&mut self, seen: &Seen) -> io::Result<bool> {
        if !seen.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            self.text(seen, 426, "an upgrade is needed")?;
            return Ok(true);
        }
        let headers =
            [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", "mirror")];
        self.write_head(seen, 101, &headers, None)?;
        let first = std::mem::take(&mut self.buffer);
        self.link.write_all(&first)?;
        let mut piece = [0; 4096];
        loop {
            let count = self.link.read(&mut piece)?;
            if count == 0 {
                return Ok(false);
            }
            self.link.write_all(&piece[..count])?;
        }
    }
}
