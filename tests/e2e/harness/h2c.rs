//! A client of HTTP/2 over cleartext, with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::client::Response;

/// Sends one request over a connection of its own. Errors of the protocol (a refused stream, a closed
/// connection) come back as text.
pub fn request(address: &str, request: Request<()>, body: &[u8]) -> Result<Response, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let exchange = exchange(address, request, Bytes::copy_from_slice(body));
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), exchange).await.map_err(text)?
    })
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
