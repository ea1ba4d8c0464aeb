//! What a response of the app loses and gains on its way to the client (spec section e, "Responses"): hop-by-hop
//! and App Engine's internal headers go, and what production adds when the app says nothing is added.

use std::time::SystemTime;

use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPIRES, HeaderName, SET_COOKIE,
    TRANSFER_ENCODING,
};
use http::{HeaderValue, Version};
use pingora::http::ResponseHeader;

/// Long past: production's word for "do not keep this".
const NEVER: HeaderValue = HeaderValue::from_static("Fri, 01 Jan 1990 00:00:00 GMT");

/// Whether a response that pingora read can be read in one way only: it takes any list of codings that ends in chunked.
#[must_use]
pub fn is_plain(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Makes `response` what the client gets. `client` is the version the client speaks.
///
/// # Errors
/// Never in practice: every value set here is printable.
pub fn finish(response: &mut ResponseHeader, client: Version) -> pingora::Result<()> {
    let status = response.status.as_u16();
    if status == 101 {
        return Ok(());
    }
    strip(response);
    if client == Version::HTTP_10 {
        // Pingora would send chunks, which 1.0 cannot read; without a length the end of the connection ends it.
        response.remove_header(&TRANSFER_ENCODING);
    }
    if status < 200 || status == 204 {
        response.remove_header(&CONTENT_LENGTH);
        return Ok(());
    }
    if status == 304 {
        return Ok(());
    }
    if !response.headers.contains_key(CONTENT_TYPE) {
        response.insert_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))?;
    }
    caching(response)
}

fn strip(response: &mut ResponseHeader) {
    let mut names: Vec<HeaderName> = Vec::new();
    for (name, value) in &response.headers {
        if *name == CONNECTION {
            let nominated = value.to_str().unwrap_or_default().split(',').map(str::trim);
            let nominated = nominated.filter(|name| !name.eq_ignore_ascii_case("keep-alive"));
            names.extend(nominated.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()));
            // What frames the message is not the app's to nominate.
            names.retain(|name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING);
        }
        if stays_here(name.as_str()) {
            names.push(name.clone());
        }
    }
    for name in &names {
        response.remove_header(name);
    }
}

/// Of this connection alone, or App Engine's internal word.
fn stays_here(name: &str) -> bool {
    let hop =
        ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"];
    name == "server" || hop.contains(&name) || name.starts_with("x-appengine-")
}

/// Production's defaults: an answer that says nothing may not be kept, one that sets a cookie not shared.
fn caching(response: &mut ResponseHeader) -> pingora::Result<()> {
    if !response.headers.contains_key(CACHE_CONTROL) {
        response.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))?;
        if !response.headers.contains_key(EXPIRES) {
            response.insert_header(EXPIRES, NEVER)?;
        }
    }
    if response.headers.contains_key(SET_COOKIE) {
        return cookies(response);
    }
    Ok(())
}

fn cookies(response: &mut ResponseHeader) -> pingora::Result<()> {
    let now = SystemTime::now();
    let past = response
        .headers
        .get(EXPIRES)
        .and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok())
        .is_some_and(|expires| expires <= now);
    if !past {
        let now = HeaderValue::from_str(&httpdate::fmt_http_date(now)).unwrap_or(NEVER);
        response.insert_header(EXPIRES, now)?;
    }
    let mut directives: Vec<String> = Vec::new();
    for value in response.headers.get_all(CACHE_CONTROL) {
        let words = value.to_str().unwrap_or_default().split(',').map(str::trim);
        directives.extend(
            words.filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("public")).map(str::to_owned),
        );
    }
    let private = |word: &String| {
        ["private", "no-cache", "no-store"]
            .iter()
            .any(|known| word.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known)))
    };
    if !directives.iter().any(private) {
        directives.push("private".to_owned());
    }
    let joined = HeaderValue::from_str(&directives.join(", ")).unwrap_or(HeaderValue::from_static("private"));
    response.insert_header(CACHE_CONTROL, joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in headers {
            response.append_header(*name, *value).unwrap();
        }
        finish(&mut response, Version::HTTP_11).unwrap();
        response
    }

    fn value<'a>(response: &'a ResponseHeader, name: &str) -> &'a str {
        response.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn hop_by_hop_and_internal_headers_do_not_leave() {
        let response = finished(
            200,
            &[
                ("Connection", "x-hop, content-length"),
                ("X-Hop", "1"),
                ("Keep-Alive", "5"),
                ("Content-Length", "3"),
                ("X-AppEngine-BlobKey", "k"),
                ("Server", "gunicorn"),
            ],
        );
        for name in ["connection", "x-hop", "keep-alive", "x-appengine-blobkey", "server"] {
            assert!(!response.headers.contains_key(name), "{name}");
        }
        assert_eq!(value(&response, "content-length"), "3");
    }

    #[test]
    fn an_answer_that_says_nothing_may_not_be_kept() {
        let response = finished(200, &[]);
        assert_eq!(value(&response, "content-type"), "text/html");
        assert_eq!(value(&response, "cache-control"), "no-cache");
        assert_eq!(value(&response, "expires"), NEVER.to_str().unwrap());
        let response = finished(200, &[("Cache-Control", "public, max-age=60")]);
        assert_eq!(value(&response, "cache-control"), "public, max-age=60");
        assert!(!response.headers.contains_key("expires"));
    }

    #[test]
    fn an_answer_with_a_cookie_is_not_shared() {
        let response = finished(200, &[("Set-Cookie", "a=b"), ("Cache-Control", "public, max-age=60")]);
        assert_eq!(value(&response, "cache-control"), "max-age=60, private");
        assert!(response.headers.contains_key("expires"));
        let response = finished(200, &[("Set-Cookie", "a=b"), ("Cache-Control", "no-store")]);
        assert_eq!(value(&response, "cache-control"), "no-store");
    }

    #[test]
    fn an_empty_answer_has_no_length_and_a_304_no_new_caching() {
        assert!(!finished(204, &[("Content-Length", "5")]).headers.contains_key("content-length"));
        assert!(!finished(304, &[]).headers.contains_key("cache-control"));
    }
}
