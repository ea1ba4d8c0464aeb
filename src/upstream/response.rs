//! The head of a worker's answer: parsed once into pingora's type, with the one way to know where its body ends
//! (RFC 9112, section 6.3). What could be read in two ways is refused, so that no rest of one answer is ever taken
//! for the start of another client's.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use pingora::http::ResponseHeader;

use super::Malformed;

/// The longest head, bytes: an answer may set many cookies.
const HEAD_LIMIT: usize = 256 * 1024;
/// The most headers.
const HEADERS_LIMIT: usize = 256;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// By the chunks themselves.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A head.
#[derive(Debug)]
pub struct Head {
    /// Status and headers.
    pub header: Box<ResponseHeader>,
    /// Where its body ends; [`Framing::Empty`] for 1xx.
    pub framing: Framing,
    /// Whether the connection may carry another request afterwards.
    pub keep: bool,
}

/// Takes one head from the front of `buffer`, if it is there as a whole. `bodiless` is true for an answer to HEAD.
///
/// # Errors
/// When this cannot be an answer.
pub fn parse(buffer: &mut BytesMut, bodiless: bool) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_LIMIT];
    let mut response = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .parse_response_with_uninit_headers(&mut response, buffer, &mut fields);
    let length = match status {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() > HEAD_LIMIT => {
            return Err(Malformed("its head is too long"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("its head cannot be read")),
    };
    let http10 = response.version != Some(1);
    let code = response.code.unwrap_or_default();
    let reason = response.reason.filter(|reason| !usual(code, reason)).map(str::to_owned);
    // The headers become slices of the buffer, by their places in it.
    let start = buffer.as_ptr() as usize;
    let places: Vec<[usize; 4]> = response
        .headers
        .iter()
        .map(|field| {
            let (name, value) = (field.name.as_ptr() as usize - start, field.value.as_ptr() as usize - start);
            [name, name + field.name.len(), value, value + field.value.len()]
        })
        .collect();
    let bytes = buffer.split_to(length).freeze();
    let mut header = build(code, &places, &bytes)?;
    if http10 {
        header.set_version(Version::HTTP_10);
    }
    if reason.is_some() {
        header.set_reason_phrase(reason.as_deref()).map_err(|_| Malformed("its reason cannot be read"))?;
    }
    let framing = framing(&mut header, http10, bodiless)?;
    let keep = framing.1 && keeps(&header.headers, http10);
    Ok(Some(Head { header: Box::new(header), framing: framing.0, keep }))
}

/// Whether the reason is the one that stands for the code anyway.
fn usual(code: u16, reason: &str) -> bool {
    http::StatusCode::from_u16(code).is_ok_and(|status| status.canonical_reason() == Some(reason))
}

fn build(code: u16, places: &[[usize; 4]], bytes: &Bytes) -> Result<ResponseHeader, Malformed> {
    let mut header = ResponseHeader::build_no_case(code, Some(places.len() + 4))
        .map_err(|_| Malformed("its status is no status"))?;
    for [name, name_end, value, value_end] in places {
        let name = HeaderName::from_bytes(&bytes[*name..*name_end])
            .map_err(|_| Malformed("the name of a header cannot be read"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(*value..*value_end))
            .map_err(|_| Malformed("the value of a header cannot be read"))?;
        header.append_header(name, value).map_err(|_| Malformed("it has too many headers"))?;
    }
    Ok(header)
}

/// The framing, and whether it leaves the connection in order.
fn framing(header: &mut ResponseHeader, http10: bool, bodiless: bool) -> Result<(Framing, bool), Malformed> {
    let status = header.status.as_u16();
    let mut codings = header.headers.get_all(TRANSFER_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) if !http10 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Some(()),
        _ => return Err(Malformed("its transfer coding is not chunked")),
    };
    let length = length(&header.headers)?;
    let both = coding.is_some() && length.is_some();
    if both {
        // The coding wins (RFC 9112, section 6.3), and who says both is not trusted with another request.
        header.remove_header(&CONTENT_LENGTH);
    } else if let Some(length) = length
        && header.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
    {
        // The same length twice, said once to the client.
        header.insert_header(CONTENT_LENGTH, length).map_err(|_| Malformed("its length cannot be read"))?;
    }
    let framing = match (coding, length) {
        _ if bodiless || status < 200 || status == 204 || status == 304 => Framing::Empty,
        (Some(()), _) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::Close,
    };
    Ok((framing, !both && framing != Framing::Close))
}

/// One length, also when it is said more than once (RFC 9110, section 8.6).
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(text).ok().filter(|_| plain).and_then(|text| text.parse().ok());
            match (length, known) {
                (None, _) => return Err(Malformed("its length is no number")),
                (Some(length), Some(other)) if length != other => {
                    return Err(Malformed("it has two lengths"));
                }
                _ => known = length,
            }
        }
    }
    Ok(known)
}

fn keeps(headers: &HeaderMap, http10: bool) -> bool {
    let mut keeps = !http10;
    for value in headers.get_all(CONNECTION) {
        for word in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if word.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= word.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        parse(&mut BytesMut::from(text), false)
    }

    fn whole(text: &str) -> (u16, Framing, bool) {
        let head = head(text).unwrap().unwrap();
        (head.header.status.as_u16(), head.framing, head.keep)
    }

    #[test]
    fn the_end_of_a_body_is_known_in_one_way() {
        let ok = "HTTP/1.1 200 OK\r\n";
        assert_eq!(whole(&format!("{ok}Content-Length: 3\r\n\r\nabc")), (200, Framing::Length(3), true));
        assert_eq!(whole(&format!("{ok}Content-Length: 3, 3\r\n\r\n")), (200, Framing::Length(3), true));
        assert_eq!(whole(&format!("{ok}Transfer-Encoding: Chunked\r\n\r\n")), (200, Framing::Chunked, true));
        assert_eq!(whole(&format!("{ok}\r\n")), (200, Framing::Close, false));
        assert_eq!(
            whole("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
            (304, Framing::Empty, true)
        );
        assert_eq!(whole("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"), (200, Framing::Length(3), false));
        assert_eq!(
            whole("HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n"),
            (200, Framing::Length(3), true)
        );
        assert_eq!(
            whole(&format!("{ok}Content-Length: 3\r\nConnection: x, Close\r\n\r\n")),
            (200, Framing::Length(3), false)
        );
        let both = format!("{ok}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(whole(&both), (200, Framing::Chunked, false));
        assert!(!head(&both).unwrap().unwrap().header.headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for lines in [
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 4",
            "Content-Length: +3",
            "Content-Length: 0x3",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "X\0: 1",
        ] {
            assert!(head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n")).is_err(), "{lines}");
        }
        assert!(head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head("ICY 200 OK\r\n\r\n").is_err());
        assert!(head("HTTP/1.1 20 OK\r\n\r\n").is_err());
        assert!(head(&format!("HTTP/1.1 200 {}", "x".repeat(HEAD_LIMIT))).is_err());
    }

    #[test]
    fn half_a_head_waits_for_the_rest_and_what_follows_stays() {
        let text = "HTTP/1.1 200 Fine\r\nX: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nrest";
        for cut in 0..text.len() - 4 {
            assert!(head(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let mut buffer = BytesMut::from(text);
        let head = parse(&mut buffer, false).unwrap().unwrap();
        assert_eq!(&buffer[..], b"rest");
        assert_eq!(head.header.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(head.header.get_reason_phrase(), Some("Fine"));
    }
}
