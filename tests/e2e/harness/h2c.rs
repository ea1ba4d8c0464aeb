//! A client of HTTP/2 over cleartext, with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::client::{Connection, Response};

/// Sends one request over a connection of its own. Errors of the protocol (a refused stream, a closed
/// connection) come back as text.
pub fn request(address: &str, request: Request<()>, body: &[u8]) -> Result<Response, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let exchange = exchange(address, request, Bytes::copy_from_slice(body));
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), exchange).await.map_err(text)? })
}

/// `GET target` with `:authority`.
pub fn get(address: &str, target: &str, headers: &[(&str, &str)]) -> Result<Response, String> {
    let mut builder = Request::get(format!("http://localhost{target}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    request(address, builder.body(()).map_err(text)?, b"")
}

async fn exchange(address: &str, request: Request<()>, body: Bytes) -> Result<Response, String> {
    let stream = tokio::net::TcpStream::connect(address).await.map_err(text)?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(text)?;
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.map_err(text)?;
    let (response, mut sender) = client.send_request(request, body.is_empty()).map_err(text)?;
    if !body.is_empty() {
        sender.send_data(body, true).map_err(text)?;
    }
    let (head, mut stream) = response.await.map_err(text)?.into_parts();
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut answer = Response {
        version: "HTTP/2".to_owned(),
        status: head.status.as_u16(),
        headers: head.headers.iter().map(|(name, text)| (name.as_str().to_owned(), value(text))).collect(),
        ..Response::default()
    };
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(text)?;
        let _ = stream.flow_control().release_capacity(piece.len());
        answer.body.extend_from_slice(&piece);
    }
    driver.abort();
    Ok(answer)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Sends one request as frames made by hand, so that header fields may hold anything, and waits until the
/// server answers its stream, gives it up or closes the connection.
pub fn hand_made(address: &str, headers: &[(&str, &str)]) {
    let mut block = Vec::new();
    for (name, value) in headers {
        // A literal field without indexing, with a new name, neither part Huffman coded (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer lengths take more than one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    let mut connection = Connection::open(address);
    connection.send(bytes);
    loop {
        let Ok(head) = connection.exactly(9) else { return };
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if connection.exactly(length).is_err() || [HEADERS, RST_STREAM, GOAWAY].contains(&head[3]) {
            return;
        }
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a server says of itself at the start: pairs of identifier and value (RFC 9113, section 6.5.1).
pub fn settings(address: &str) -> Vec<(u16, u32)> {
    let mut connection = Connection::open(address);
    connection.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat());
    let head = connection.exactly(9).expect("a frame");
    assert_eq!(head[3], SETTINGS, "the first frame");
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    let payload = connection.exactly(length).expect("its payload");
    let pair = |six: &[u8]| {
        (u16::from_be_bytes([six[0], six[1]]), u32::from_be_bytes([six[2], six[3], six[4], six[5]]))
    };
    payload.chunks_exact(6).map(pair).collect()
}
