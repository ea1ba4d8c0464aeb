//! A client that sends exactly the bytes it is given and reads answers with a time-out on everything. Knows
//! just enough of HTTP/1.1 to find where an answer ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// `HTTP/1.1`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// In the order received, names as received.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// Status codes of 1xx answers before it.
    pub interim: Vec<u16>,
    /// How the body ended.
    pub framing: Framing,
}

/// How the end of a body was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There can be none.
    #[default]
    None,
    /// Content-Length.
    Length,
    /// Chunks.
    Chunked,
    /// The connection ended.
    Close,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The value of a header of the request as the origin saw it (the origin's answer tells).
    #[track_caller]
    pub fn seen(&self, name: &str) -> Option<String> {
        let all = self.seen_all(name);
        assert!(all.len() <= 1, "{name} reached the app {} times: {self}", all.len());
        all.into_iter().next()
    }

    /// All values of a header of the request as the origin saw it.
    #[track_caller]
    pub fn seen_all(&self, name: &str) -> Vec<String> {
        let json = self.json();
        let headers = json["headers"].as_array().unwrap_or_else(|| panic!("not the origin's answer: {self}"));
        let same = headers
            .iter()
            .filter(|pair| pair[0].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        same.map(|pair| pair[1].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({:?})", self.version, self.status, self.framing)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        let text = self.text();
        write!(f, "\n{}", text.chars().take(2000).collect::<String>())
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `127.0.0.1:PORT` or `unix:/path`.
    #[track_caller]
    pub fn open(address: &str) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// The same, where nobody may be there.
    pub fn try_open(address: &str) -> io::Result<Self> {
        let stream = match address.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(READ_TIMEOUT))?;
                stream.set_write_timeout(Some(READ_TIMEOUT))?;
                Stream::Unix(stream)
            }
            None => {
                let address: SocketAddr = address.parse().map_err(io::Error::other)?;
                let stream = TcpStream::connect_timeout(&address, READ_TIMEOUT)?;
                stream.set_read_timeout(Some(READ_TIMEOUT))?;
                stream.set_write_timeout(Some(READ_TIMEOUT))?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Over a stream that is open already.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(READ_TIMEOUT)).expect("a time-out");
        Self { stream: Stream::Tcp(stream), buffer: Vec::new() }
    }

    /// Another limit for each read.
    pub fn read_timeout(&self, limit: Duration) {
        let done = match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit)),
        };
        done.expect("a time-out");
    }

    /// Sends these bytes. The other side may have closed already: what it answered tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes);
    }

    /// Sends these bytes, or says why not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Sends an ordinary request; `Host: localhost` and `Content-Length` are added when there are none.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !has("host") {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !has("content-length") && !has("transfer-encoding") && (!body.is_empty() || method == "POST") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Reads one answer to `method`; 1xx answers before it are noted (101 is an answer).
    pub fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            self.body(method, &mut response)?;
            return Ok(response);
        }
    }

    /// Reads the head of one answer, 1xx included.
    pub fn head(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.fill()? == 0 {
                let text = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {text:?}")));
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default().to_owned();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|code| code.parse().ok());
        let (true, Some(status)) = (version.starts_with("HTTP/"), status) else {
            return Err(io::Error::other(format!("not an answer: {head:?}")));
        };
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        };
        Ok(Response { version, status, headers: lines.map(pair).collect(), ..Response::default() })
    }

    fn body(&mut self, method: &str, response: &mut Response) -> io::Result<()> {
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return Ok(());
        }
        let chunked = response.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        if chunked {
            response.framing = Framing::Chunked;
            while let Some(piece) = self.chunk()? {
                response.body.extend_from_slice(&piece);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            response.framing = Framing::Length;
            response.body = self.exactly(length)?;
        } else {
            response.framing = Framing::Close;
            response.body = self.rest()?;
        }
        Ok(())
    }

    /// Reads one chunk; none at the last one.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
        let piece = self.exactly(size)?;
        let end = self.line()?;
        if !end.is_empty() {
            return Err(io::Error::other(format!("not the end of a chunk: {end:?}")));
        }
        Ok((size > 0).then_some(piece))
    }

    /// Reads a head and the first chunk behind it.
    pub fn chunk_after_head(&mut self) -> Option<Vec<u8>> {
        self.head().ok()?;
        self.chunk().ok()?
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads exactly this many bytes.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                let got = self.buffer.len();
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("closed after {got} of {count} bytes"),
                ));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads to the end of the connection. A reset is an end too.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Whether the other side closes within the read time-out without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.rest().is_ok_and(|rest| rest.is_empty())
    }

    /// All answers (to GETs) until the connection ends or nothing comes for a moment.
    pub fn all_responses(&mut self, quiet: Duration) -> Vec<Response> {
        self.read_timeout(quiet);
        std::iter::from_fn(|| self.response_to("GET").ok()).collect()
    }
}
